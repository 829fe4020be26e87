//! Whether a text says which versions of Python are meant: PEP 440, as far as the form goes.

/// # Errors
/// The clause that is none.
pub fn check(text: &str) -> Result<(), String> {
    match text.split(',').map(str::trim).find(|clause| !is_clause(clause)) {
        None => Ok(()),
        Some(clause) => Err(clause.to_owned()),
    }
}

fn is_clause(clause: &str) -> bool {
    // The longest first.
    const OPERATORS: [&str; 8] = ["===", "~=", "==", "!=", "<=", ">=", "<", ">"];
    let Some(operator) = OPERATORS.into_iter().find(|operator| clause.starts_with(operator)) else { return false };
    let version = clause[operator.len()..].trim_start().to_ascii_lowercase();
    let exact = matches!(operator, "===" | "==" | "!=");
    if matches!(operator, "==" | "!=")
        && let Some(release) = version.strip_suffix(".*")
    {
        return release_of(release).is_some_and(|(_, rest)| rest.is_empty());
    }
    let Some((segments, rest)) = release_of(&version) else { return false };
    let (rest, local) = match rest.split_once('+') {
        Some((rest, local)) => (rest, Some(local)),
        None => (rest, None),
    };
    is_suffix(rest)
        && local.is_none_or(|local| exact && is_local(local))
        // `~= 3` would have no part that may vary.
        && (operator != "~=" || segments > 1)
}

/// `1!3.12`, in front of whatever comes: how many numbers it has, and the rest.
fn release_of(version: &str) -> Option<(usize, &str)> {
    let version = version.strip_prefix('v').unwrap_or(version);
    let mut rest = after_number(version)?;
    if let Some(release) = rest.strip_prefix('!') {
        rest = after_number(release)?;
    }
    let mut segments = 1;
    while let Some(more) = rest.strip_prefix('.').and_then(after_number) {
        rest = more;
        segments += 1;
    }
    Some((segments, rest))
}

fn after_number(text: &str) -> Option<&str> {
    let rest = text.trim_start_matches(|digit: char| digit.is_ascii_digit());
    (rest.len() < text.len()).then_some(rest)
}

/// `rc1.post2.dev3`: each at most once, and in this order.
fn is_suffix(suffix: &str) -> bool {
    const PRE: [&str; 8] = ["alpha", "beta", "preview", "pre", "rc", "a", "b", "c"];
    const POST: [&str; 3] = ["post", "rev", "r"];
    let mut rest = suffix;
    rest = after_part(rest, &PRE).unwrap_or(rest);
    // `-1` is a short way to write `.post1`.
    let short_post = rest.strip_prefix('-').and_then(after_number);
    rest = short_post.or_else(|| after_part(rest, &POST)).unwrap_or(rest);
    rest = after_part(rest, &["dev"]).unwrap_or(rest);
    rest.is_empty()
}

/// A word and a number, with or without something between them.
fn after_part<'text>(text: &'text str, words: &[&str]) -> Option<&'text str> {
    let bare = text.strip_prefix(['.', '-', '_']).unwrap_or(text);
    let rest = words.iter().find_map(|word| bare.strip_prefix(word))?;
    let number = rest.strip_prefix(['.', '-', '_']).and_then(after_number);
    Some(number.or_else(|| after_number(rest)).unwrap_or(rest))
}

fn is_local(local: &str) -> bool {
    local.split(['.', '-', '_']).all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifiers_are_told_from_what_is_none() {
        for text in [
            ">=3.11",
            ">= 3.11, <4",
            "~=3.9",
            "==3.12.*",
            "!=3.9.*,>3",
            "===3.12.1",
            ">=3.13.0rc1",
            ">=3.13.0-RC.1",
            "<3.13.0a1.post2.dev3",
            "==1!3.8-1",
            "==3.8+local.1",
            ">=v3",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        for (text, clause) in [
            ("", ""),
            ("3.12", "3.12"),
            ("python3", "python3"),
            (">=3.8,", ""),
            (">=3.8 <4", ">=3.8 <4"),
            (">=3.8,<", "<"),
            ("=>3.8", "=>3.8"),
            ("=3.8", "=3.8"),
            (">=3.*", ">=3.*"),
            ("==3.*.1", "==3.*.1"),
            ("==3.8rc1.*", "==3.8rc1.*"),
            ("~=3", "~=3"),
            (">=3.8+local", ">=3.8+local"),
            ("==3.8+", "==3.8+"),
            (">=3..8", ">=3..8"),
            (">=3.8.", ">=3.8."),
            (">=3.8x", ">=3.8x"),
            (">=3.8\"\nevil = 1", ">=3.8\"\nevil = 1"),
            ("==3.8dev1rc1", "==3.8dev1rc1"),
            (">=٣", ">=٣"),
        ] {
            assert_eq!(check(text), Err(clause.to_owned()), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_taken(text in "([<>=!~]{0,3} ?v?[0-9é.!*+a-z_-]{0,8},?){0,3}") {
            let _ = check(&text);
        }
    }
}
