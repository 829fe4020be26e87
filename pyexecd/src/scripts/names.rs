//! What scripts are called: a file name in a directory of ours, and nothing that leads out of it.

use std::ffi::OsStr;
use std::fmt;

use pyexec_proto::Error;
use pyexec_proto::script::MAX_NAME_BYTES;

const SUFFIX: &str = ".py";

/// Ends with `.py`. Two spellings of a name, with it and without it, are the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ScriptName(String);

impl ScriptName {
    /// # Errors
    /// On what is no file name, with a hint.
    pub(super) fn read(given: &str) -> Result<Self, Error> {
        let name = if given.ends_with(SUFFIX) { given.to_owned() } else { format!("{given}{SUFFIX}") };
        match problem(&name) {
            None => Ok(Self(name)),
            Some(problem) => Err(Error::InvalidArgument {
                what: "script name".to_owned(),
                given: given.chars().take(80).collect(),
                problem,
                hint: "a name is a file name without its directory, such as `clean_up` or `clean_up.py`".to_owned(),
            }),
        }
    }

    /// `None` for a file that is no script that could be asked for.
    pub(super) fn of_file(name: &OsStr) -> Option<Self> {
        let name = name.to_str().filter(|name| name.ends_with(SUFFIX))?;
        problem(name).is_none().then(|| Self(name.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Without its `.py`.
    pub(super) fn stem(&self) -> &str {
        &self.0[..self.0.len() - SUFFIX.len()]
    }
}

impl fmt::Display for ScriptName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<ScriptName> for String {
    fn from(name: ScriptName) -> String {
        name.0
    }
}

/// What is wrong with a name that ends with `.py`.
fn problem(name: &str) -> Option<String> {
    let stem = name.strip_suffix(SUFFIX).unwrap_or(name);
    if name.starts_with('.') && !stem.is_empty() {
        return Some("it begins with a dot".to_owned());
    }
    if stem.trim().is_empty() {
        return Some("it is empty".to_owned());
    }
    if name.contains(['/', '\\']) {
        return Some("it has a separator".to_owned());
    }
    if name.contains('\0') {
        return Some("it has a NUL".to_owned());
    }
    if name.contains(char::is_control) {
        return Some("it has a control character".to_owned());
    }
    (name.len() > MAX_NAME_BYTES).then(|| format!("it has {} bytes; {MAX_NAME_BYTES} is the most", name.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_name_is_a_file_name_with_or_without_its_suffix() {
        for (given, name) in [
            ("train", "train.py"),
            ("train.py", "train.py"),
            ("train.py.py", "train.py.py"),
            ("train.PY", "train.PY.py"),
            ("v1.2", "v1.2.py"),
            ("naïve name", "naïve name.py"),
            ("-x", "-x.py"),
            (&"x".repeat(197), &("x".repeat(197) + ".py")),
        ] {
            assert_eq!(ScriptName::read(given).map(String::from).as_deref(), Ok(name), "{given:?}");
            assert_eq!(ScriptName::of_file(OsStr::new(name)).map(String::from).as_deref(), Some(name));
        }
    }

    #[test]
    fn what_leads_elsewhere_is_no_name() {
        for (given, why) in [
            ("", "empty"),
            (" ", "empty"),
            (".py", "empty"),
            (".", "dot"),
            ("..", "dot"),
            (".hidden", "dot"),
            (".hidden.py", "dot"),
            ("/etc/passwd", "separator"),
            ("../x", "dot"),
            ("a/../../x", "separator"),
            ("a/b", "separator"),
            ("a\\b", "separator"),
            ("a/", "separator"),
            ("a\0b", "NUL"),
            ("a\nb", "control"),
            ("a\x1b[2J", "control"),
            ("a\u{9b}b", "control"),
            (&"x".repeat(198), "201 bytes"),
            (&"ä".repeat(100), "203 bytes"),
        ] {
            match ScriptName::read(given) {
                Err(Error::InvalidArgument { problem, hint, .. }) => {
                    assert!(problem.contains(why), "{given:?}: {problem}");
                    assert!(!hint.is_empty());
                }
                other => panic!("{given:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_file_that_could_not_be_asked_for_is_no_script() {
        for name in [&b".x.py.tmp"[..], b"x.json", b"x", b".py", b".x.py", b"a\nb.py", b"\xff.py"] {
            assert_eq!(ScriptName::of_file(OsStr::from_bytes(name)), None, "{name:?}");
        }
    }
}
