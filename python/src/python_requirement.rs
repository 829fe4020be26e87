//! Whether a script's `requires-python` excludes an interpreter.
//!
//! uv chooses interpreters; this only says what uv says when somebody else has chosen one. As uv does, it looks at the
//! release of an interpreter and not at whether it is a release candidate.

use std::cmp::Ordering;

/// Whether `specifiers` (PEP 440, such as `>=3.9,<4`) exclude the Python of this version. What cannot be read excludes
/// nothing: uv refuses it.
pub fn excludes(specifiers: &str, version: &str) -> bool {
    let Some(python) = Release::read(version) else { return false };
    specifiers.split(',').any(|clause| admits(clause.trim(), &python.segments) == Some(false))
}

fn admits(clause: &str, python: &[u64]) -> Option<bool> {
    // The longest first.
    const OPERATORS: [&str; 8] = ["===", "~=", "==", "!=", "<=", ">=", "<", ">"];
    let operator = OPERATORS.into_iter().find(|operator| clause.starts_with(operator))?;
    let wanted = clause[operator.len()..].trim();
    if operator == "===" {
        return Some(Release::read(wanted)?.segments == python);
    }
    if let Some(prefix) = wanted.strip_suffix(".*") {
        let is_within = starts_with(python, &Release::read(prefix)?.segments);
        return match operator {
            "==" => Some(is_within),
            "!=" => Some(!is_within),
            _ => None,
        };
    }
    let wanted = Release::read(wanted)?;
    let order = wanted.order_of(python);
    Some(match operator {
        "==" => order == Ordering::Equal,
        "!=" => order != Ordering::Equal,
        "<=" => order != Ordering::Greater,
        ">=" => order != Ordering::Less,
        "<" => order == Ordering::Less,
        ">" => order == Ordering::Greater,
        "~=" => order != Ordering::Less && starts_with(python, wanted.segments.split_last()?.1),
        _ => return None,
    })
}

fn starts_with(python: &[u64], prefix: &[u64]) -> bool {
    prefix.iter().enumerate().all(|(place, number)| python.get(place).unwrap_or(&0) == number)
}

/// The numbers of a version, and where it lies beside the release that has them: before (`3.13rc1`), at, or after it.
struct Release {
    segments: Vec<u64>,
    beside: Ordering,
}

impl Release {
    fn read(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
        let (numbers, suffix) = text.split_at(end);
        let segments = numbers.trim_end_matches('.').split('.').map(|number| number.parse().ok());
        let suffix = suffix.trim_start_matches(['-', '_']).to_ascii_lowercase();
        let beside = match suffix.chars().next() {
            None | Some('+') => Ordering::Equal,
            Some('a' | 'b' | 'c' | 'd') => Ordering::Less,
            Some('p') if suffix.starts_with("pre") => Ordering::Less,
            Some('r') if suffix.starts_with("rc") => Ordering::Less,
            Some('p' | 'r' | '0'..='9') => Ordering::Greater,
            Some(_) => return None,
        };
        Some(Self { segments: segments.collect::<Option<_>>()?, beside })
    }

    /// Of a Python beside this version.
    fn order_of(&self, python: &[u64]) -> Ordering {
        let number = |of: &[u64], place| of.get(place).copied().unwrap_or(0);
        let length = self.segments.len().max(python.len());
        let orders = (0..length).map(|place| number(python, place).cmp(&number(&self.segments, place)));
        orders.fold(Ordering::Equal, Ordering::then).then(self.beside.reverse())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_python_is_excluded_by_any_clause_it_does_not_meet() {
        for (specifiers, version, excluded) in [
            (">=3.12", "3.11.7", true),
            (">=3.12", "3.12.0", false),
            (">= 3.12 , <4", "3.13.1", false),
            (">=3.9,<3.11", "3.11.7", true),
            ("<=3.11", "3.11.7", true),
            ("<=3.11.7", "3.11.7", false),
            (">3.11", "3.11.7", false),
            (">3.11.7", "3.11.7", true),
            ("<3.12", "3.11.7", false),
            ("==3.11", "3.11.7", true),
            ("==3.11.7", "3.11.7", false),
            ("==3.12", "3.12.0", false),
            ("==3.11.*", "3.11.7", false),
            ("==3.1.*", "3.11.7", true),
            ("!=3.11.*", "3.11.7", true),
            ("!=3.11.7", "3.11.7", true),
            ("!=3.11", "3.11.7", false),
            ("~=3.10", "3.11.7", false),
            ("~=3.10.2", "3.11.7", true),
            ("~=3.11.2", "3.11.7", false),
            ("~=3.12", "3.11.7", true),
            ("===3.11.7", "3.11.7", false),
            ("===3.11", "3.11.7", true),
            (">=3.13.0rc1", "3.13.0", false),
            ("<3.13.0rc1", "3.13.0", true),
            ("<=3.13.0.post1", "3.13.0", false),
            // uv takes a candidate for the release.
            (">=3.14", "3.14.0rc2", false),
            (">=3.12", "3.12.1+", false),
            // uv says what is wrong with these.
            ("", "3.11.7", false),
            ("nonsense", "3.11.7", false),
            (">=3.x", "3.11.7", false),
            (">=3.12", "", false),
        ] {
            assert_eq!(excludes(specifiers, version), excluded, "{specifiers} and {version}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_taken(specifiers in "([<>=!~]{0,3} ?v?[0-9é.!*+a-z_-]{0,8},?){0,3}", version: String) {
            let _ = excludes(&specifiers, &version);
        }
    }
}
