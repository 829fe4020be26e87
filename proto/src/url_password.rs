//! Passwords and tokens in URLs: finds them in any text, and masks them as uv does (`https://user:****@host`).
//!
//! Requirements, indexes and messages of uv contain URLs. This is the only module that knows which part of a URL is
//! secret. Every such text is masked here before it is shown or stored.

use std::borrow::Cow;
use std::ops::Range;

/// The replacement for a password.
pub const MASK: &str = "****";

/// A password in a text, as byte ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlPassword {
    /// From the scheme to the end of the URL.
    pub url: Range<usize>,
    pub password: Range<usize>,
}

/// All passwords in a text, in order.
///
/// A user without a password is a token (`https://TOKEN@host`), except with ssh, which uses keys. A reference to an
/// environment variable (`${TOKEN}`, which uv expands) is not a secret.
pub fn find(text: &str) -> Vec<UrlPassword> {
    let mut found = Vec::new();
    let mut place = 0;
    while let Some(separator) = text[place..].find(":/").map(|at| place + at) {
        let is_of_scheme = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '+' | '-' | '.');
        let scheme = text[..separator].trim_end_matches(is_of_scheme).len();
        let name = text[scheme..separator].to_ascii_lowercase();
        let is_whole = text[separator..].starts_with("://");
        let after = separator + if is_whole { "://".len() } else { ":/".len() };
        // A URL that was taken for a path has lost one of its slashes, in messages of uv too.
        if !is_whole && !["http", "https"].iter().any(|of| name.ends_with(of)) {
            place = after;
            continue;
        }
        let url_end = text[after..].find(is_outside_urls).map_or(text.len(), |at| after + at);
        // Two URLs without a separator, such as `git+file://a,http://b`, are both checked.
        place = after;
        let Some(user) = user_information(&text[after..url_end]) else { continue };
        let (from, is_password) = match user.find(':') {
            Some(colon) => (after + colon + 1, true),
            None => (after, false),
        };
        let password = from..after + user.len();
        let is_ssh = name.ends_with("ssh");
        let secret = &text[password.clone()];
        if !secret.is_empty() && (is_password || !is_ssh) && !is_variable(secret) {
            place = password.end;
            found.push(UrlPassword { url: scheme..url_end, password });
        }
    }
    found
}

/// Replaces each password in `text` by the result of `write`, which is given the URL with the password masked, and the
/// password.
pub fn replaced(text: &str, mut write: impl FnMut(&str, &str) -> String) -> Cow<'_, str> {
    let found = find(text);
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut written = String::with_capacity(text.len());
    let mut place = 0;
    for UrlPassword { url, password } in found {
        let masked = [&text[url.start..password.start], MASK, &text[password.end..url.end]].concat();
        written.push_str(&text[place..password.start]);
        written.push_str(&write(&masked, &text[password.clone()]));
        place = password.end;
    }
    written.push_str(&text[place..]);
    Cow::Owned(written)
}

/// `text` with its passwords masked.
pub fn masked(text: &str) -> Cow<'_, str> {
    replaced(text, |_, _| MASK.to_owned())
}

fn is_outside_urls(letter: char) -> bool {
    letter.is_whitespace() || letter.is_control() || matches!(letter, '"' | '<' | '>' | '`')
}

/// The part before the last `@` of the authority.
fn user_information(after_scheme: &str) -> Option<&str> {
    let end = after_scheme.find(['/', '?', '#', '\\']).unwrap_or(after_scheme.len());
    let authority = &after_scheme[..end];
    if let Some(at) = authority.rfind('@') {
        return Some(&authority[..at]);
    }
    // A password with a `/` that should have been `%2F` makes the URL invalid, but is still a secret.
    let (_, port) = authority.split_once(':').filter(|_| !authority.starts_with('['))?;
    if port.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    after_scheme.rfind('@').map(|at| &after_scheme[..at])
}

fn is_variable(secret: &str) -> bool {
    let name = secret.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    name.is_some_and(|name| {
        !name.is_empty() && name.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_and_tokens_are_masked_wherever_a_url_stands() {
        for (text, expected) in [
            ("a @ https://user:secret@host/a.whl", "a @ https://user:****@host/a.whl"),
            ("a@https://user:secret@host:8080", "a@https://user:****@host:8080"),
            ("a @ git+https://secret@github.com/o/r@v1", "a @ git+https://****@github.com/o/r@v1"),
            ("https://:secret@host", "https://:****@host"),
            ("https://user:s%40c:r@t@host/x@y", "https://user:****@host/x@y"),
            ("https://user:se/cr?et@host/", "https://user:****@host/"),
            ("https://user:secret@[::1]:80/", "https://user:****@[::1]:80/"),
            (
                "--index-url=HTTPS://u:secret@h/ --extra-index-url \"http://t:secret@i\"",
                "--index-url=HTTPS://u:****@h/ --extra-index-url \"http://t:****@i\"",
            ),
            ("git+ssh://user:secret@host/r", "git+ssh://user:****@host/r"),
            (
                "postgres://user:secret@host/db, redis://:secret@host",
                "postgres://user:****@host/db, redis://:****@host",
            ),
            ("https://user:${NOT closed@host", "https://user:${NOT closed@host"),
            ("https://user:${lower}@host", "https://user:****@host"),
            ("https://user:ü€@host\nhttps://secret@host", "https://user:****@host\nhttps://****@host"),
            ("://secret@host", "://****@host"),
            ("Expected path (`/d https:/user:secret@host`)", "Expected path (`/d https:/user:****@host`)"),
        ] {
            assert_eq!(masked(text), expected);
            assert_eq!(masked(expected), expected);
        }
    }

    #[test]
    fn what_is_no_secret_is_left_as_it_is() {
        for text in [
            "",
            "a>=1",
            "a @ https://host/a@1.whl",
            "https://host:80/@x",
            "https://host/user:name@x",
            "http://[::1]/a@b",
            "https://user:@host",
            "ssh://git@github.com/o/r",
            "git+ssh://git@github.com/o/r",
            "git@github.com:o/r",
            "git@github.com:/o/r@v1",
            "C:/user:secret@host",
            "https://user:${TOKEN}@host",
            "https://${TOKEN}@host",
            "user:secret@host",
            "https://@host",
            "://",
        ] {
            assert_eq!(masked(text), text);
        }
    }

    #[test]
    fn what_replaces_a_password_is_told_the_url_without_it() {
        let mut seen = Vec::new();
        let text = "a @ https://u:one@h/x ; python_version > '3', https://two@h";
        let written = replaced(text, |url, password| {
            seen.push((url.to_owned(), password.to_owned()));
            "${P}".to_owned()
        });
        assert_eq!(written, "a @ https://u:${P}@h/x ; python_version > '3', https://${P}@h");
        assert_eq!(
            seen,
            [("https://u:****@h/x", "one"), ("https://****@h", "two")]
                .map(|(url, password)| (url.to_owned(), password.to_owned()))
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_taken_and_masking_twice_changes_nothing(text in "([a-z]{0,3}(://)?[a-z:@/?$\\{\\}\\[é \"]{0,6}){0,4}") {
            let once = masked(&text).into_owned();
            proptest::prop_assert_eq!(masked(&once), once.as_str());
        }
    }
}
