//! Numbers as bars write them: counts, percentages, sizes, rates and lengths of time.

/// A number with a unit of its own, and what is left of the text behind it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Number<'a> {
    pub(super) value: f64,
    pub(super) decimals: bool,
    pub(super) rest: &'a str,
}

/// Digits, at most one point within.
pub(super) fn number(text: &str) -> Option<Number<'_>> {
    const LONGEST: usize = 20;
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return None;
    }
    let mut end = digits;
    if text[end..].starts_with('.') {
        let more = text[end + 1..].bytes().take_while(u8::is_ascii_digit).count();
        if more > 0 {
            end += 1 + more;
        }
    }
    if end > LONGEST {
        return None;
    }
    let value = text[..end].parse().ok()?;
    Some(Number { value, decimals: end > digits, rest: &text[end..] })
}

/// `k`, `M`, … of tqdm, which stand for powers of a thousand.
pub(super) fn si_prefix(text: &str) -> Option<(f64, &str)> {
    let letter = text.chars().next()?;
    let power = "kMGTPE".find(letter).map(|power| power as i32 + 1)?;
    Some((1000_f64.powi(power), &text[1..]))
}

/// `B`, `kB`, `MB`, `KiB`, …, with a space before it or without: how many bytes it stands for.
fn size_unit(text: &str) -> Option<(f64, &str)> {
    let text = text.strip_prefix(' ').unwrap_or(text);
    let words: [(&str, f64); 13] = [
        ("KiB", 1024.0),
        ("MiB", 1_048_576.0),
        ("GiB", 1_073_741_824.0),
        ("TiB", 1_099_511_627_776.0),
        ("kB", 1e3),
        ("KB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
        ("TB", 1e12),
        ("bytes", 1.0),
        ("byte", 1.0),
        ("B", 1.0),
        ("b", 1.0),
    ];
    let (word, scale) = words.into_iter().find(|(word, _)| text.starts_with(word))?;
    let rest = &text[word.len()..];
    rest.chars().next().is_none_or(|letter| !letter.is_alphanumeric()).then_some((scale, rest))
}

/// So much of so much, and where in the text it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Share {
    pub(super) at: usize,
    pub(super) end: usize,
    pub(super) current: f64,
    pub(super) total: Option<f64>,
    pub(super) kind: ShareKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShareKind {
    Count,
    Size,
    Percent,
}

impl Share {
    pub(super) fn fraction(&self) -> Option<f64> {
        Some(self.current / self.total?)
    }
}

/// Every `a/b`, `a of b`, `a/?` and `p%` that stands by itself and can be a part of a whole.
pub(super) fn shares(text: &str) -> Vec<Share> {
    const MOST: usize = 8;
    let mut found = Vec::new();
    let mut before = ' ';
    let mut skip_to = 0;
    for (at, letter) in text.char_indices() {
        if at >= skip_to && letter.is_ascii_digit() && !is_joined(before) {
            if let Some(share) = share(text, at) {
                skip_to = share.end;
                found.push(share);
                if found.len() == MOST {
                    break;
                }
            } else {
                // Not from the middle of a number that is something else.
                skip_to = at + text[at..].bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
            }
        }
        before = letter;
    }
    found
}

/// What makes a number a part of something else: a version, a date, a path, a name.
fn is_joined(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '.' | '/' | '-' | '_' | ':' | '\\' | '$' | '€' | '£' | ',' | '+')
}

fn share(text: &str, at: usize) -> Option<Share> {
    let first = number(&text[at..])?;
    let ends_well = |rest: &str| {
        let mut letters = rest.chars();
        match letters.next() {
            None => true,
            // The end of a sentence is fine, the point of a number is not.
            Some('.' | ',' | ':') => letters.next().is_none_or(|letter| !letter.is_ascii_digit()),
            Some(letter) => !(letter.is_alphanumeric() || matches!(letter, '/' | '-' | '_' | '%' | '\\')),
        }
    };
    let end = |rest: &str| text.len() - rest.len();
    let percent = first.rest.strip_prefix(" %").or_else(|| first.rest.strip_prefix('%'));
    if let Some(rest) = percent {
        let fits = first.value <= 100.0 && ends_well(rest.strip_prefix('|').unwrap_or(rest));
        let kind = ShareKind::Percent;
        return fits.then(|| Share { at, end: end(rest), current: first.value, total: Some(100.0), kind });
    }
    let (scale, rest) = match size_unit(first.rest) {
        Some((scale, rest)) => (Some(scale), rest),
        None => (None, first.rest),
    };
    let rest = rest.strip_prefix(" of ").or_else(|| rest.trim_start_matches(' ').strip_prefix('/'))?;
    let rest = rest.trim_start_matches(' ');
    if let Some(rest) = rest.strip_prefix('?') {
        let kind = ShareKind::Count;
        return ends_well(rest).then(|| Share { at, end: end(rest), current: first.value, total: None, kind });
    }
    let second = number(rest)?;
    let (total_scale, rest) = match size_unit(second.rest) {
        Some((scale, rest)) => (Some(scale), rest),
        None => (None, second.rest),
    };
    let (kind, scale, total_scale) = match (scale, total_scale) {
        // A rate, or nonsense: `5 MB/10`.
        (Some(_), None) => return None,
        (Some(scale), Some(total)) => (ShareKind::Size, scale, total),
        (None, Some(total)) => (ShareKind::Size, total, total),
        // Things are counted in whole numbers.
        (None, None) if first.decimals || second.decimals => return None,
        (None, None) => (ShareKind::Count, 1.0, 1.0),
    };
    let (current, total) = (first.value * scale, second.value * total_scale);
    // What is shown with one digit may be a little more than what it is a part of.
    let fits = total > 0.0 && current <= total * 1.001 && ends_well(rest);
    fits.then(|| Share { at, end: end(rest), current: current.min(total), total: Some(total), kind })
}

/// `m:ss` or `h:mm:ss`, in seconds.
pub(super) fn interval(text: &str) -> Option<(f64, &str)> {
    let mut seconds = 0.0;
    let mut rest = text;
    let mut parts = 0;
    loop {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let well_formed = if parts == 0 { (1..=6).contains(&digits) } else { digits == 2 };
        if !well_formed {
            return None;
        }
        seconds = seconds * 60.0 + rest[..digits].parse::<f64>().ok()?;
        rest = &rest[digits..];
        parts += 1;
        match rest.strip_prefix(':') {
            Some(more) if parts < 3 => rest = more,
            Some(_) => return None,
            None => return (parts > 1).then_some((seconds, rest)),
        }
    }
}

/// Every length of time that stands by itself.
pub(super) fn intervals(text: &str) -> Vec<f64> {
    text.split([' ', '<', '[', ']', '(', ')', ','])
        .filter_map(|word| interval(word).filter(|(_, rest)| rest.is_empty()))
        .map(|(seconds, _)| seconds)
        .collect()
}

/// So much per second, and of what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rate {
    pub(super) per_second: f64,
    pub(super) kind: ShareKind,
}

impl Rate {
    /// Unless it is of something else than what is shared: `45% 1.2 MB/s` is not 1,200,000 hundredths in a second.
    pub(super) fn of(self, kind: ShareKind) -> Option<f64> {
        (self.kind == kind).then_some(self.per_second)
    }
}

/// `12.3 it/s`, `3.2 MB/s`, `1.5s/it`.
pub(super) fn rate(text: &str) -> Option<Rate> {
    let mut at = 0;
    while let Some(found) = text[at..].find(|letter: char| letter.is_ascii_digit()) {
        let start = at + found;
        let Some(number) = number(&text[start..]) else {
            at = start + text[start..].bytes().take_while(u8::is_ascii_digit).count();
            continue;
        };
        let rate =
            |per_second: f64, kind: ShareKind| Some(Rate { per_second, kind }).filter(|_| per_second.is_finite());
        let before = text[..start].chars().next_back().unwrap_or(' ');
        if !is_joined(before) {
            if let Some((scale, rest)) = size_unit(number.rest).filter(|(_, rest)| rest.starts_with("/s"))
                && is_end(&rest[2..])
            {
                return rate(number.value * scale, ShareKind::Size);
            }
            let unit = number.rest.strip_prefix(' ').unwrap_or(number.rest);
            let word = unit.bytes().take_while(u8::is_ascii_alphabetic).count();
            if word > 0 && unit[word..].starts_with("/s") && is_end(&unit[word + 2..]) {
                return rate(number.value, ShareKind::Count);
            }
            if unit.starts_with("s/it") && number.value > 0.0 {
                return rate(1.0 / number.value, ShareKind::Count);
            }
        }
        at = text.len() - number.rest.len();
    }
    None
}

fn is_end(rest: &str) -> bool {
    rest.chars().next().is_none_or(|letter| !letter.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_part_of_a_whole_and_stands_by_itself() {
        let found = |text: &str| shares(text).into_iter().map(|share| (share.current, share.total)).collect::<Vec<_>>();
        for (text, current, total) in [
            ("45/100", 45.0, Some(100.0)),
            ("45 / 100,", 45.0, Some(100.0)),
            ("(3 of 7)", 3.0, Some(7.0)),
            ("17/?", 17.0, None),
            ("45%", 45.0, Some(100.0)),
            (" 45.5 % done", 45.5, Some(100.0)),
            ("3.0/5.0 MB", 3e6, Some(5e6)),
            ("112.00 KiB/14.99 MiB", 114_688.0, Some(14.99 * 1_048_576.0)),
        ] {
            assert_eq!(found(text), [(current, total)], "{text}");
        }
        for text in [
            "3/10/2024",
            "2024-03/10",
            "1.2/3",
            "v1/2",
            "a/3/4",
            "10.0.0.0/24",
            "5 MB/10",
            "7/3",
            "150%",
            "3/4th",
            "-3/4",
            "$3/4",
            "12:30/45",
            "3/0",
            "1/2.5",
            "99999999999999999999999999/3",
            "1/2%",
            "5%-10%x",
        ] {
            assert_eq!(found(text).iter().filter(|share| share.0 != 5.0).count(), 0, "{text}: {:?}", found(text));
        }
    }

    #[test]
    fn lengths_of_time_and_rates_are_read() {
        assert_eq!(interval("00:05"), Some((5.0, "")));
        assert_eq!(interval("1:02:03]"), Some((3723.0, "]")));
        for text in ["5", "1:2", "1:02:03:04", "?", "1:023"] {
            assert_eq!(interval(text), None, "{text}");
        }
        let of = |per_second, kind| Some(Rate { per_second, kind });
        assert_eq!(rate("━━ 65% 24.8 it/s"), of(24.8, ShareKind::Count));
        assert_eq!(rate("3.0/5.0 MB 3.2 MB/s eta"), of(3.2e6, ShareKind::Size));
        assert_eq!(rate("2.0s/it"), of(0.5, ShareKind::Count));
        assert_eq!(rate("0s/it 5/steps"), None);
    }
}
