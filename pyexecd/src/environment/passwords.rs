//! Passwords in the URLs of requirements: taken out of what is kept, and handed to uv as environment variables.
//!
//! uv replaces `${NAME}` in a URL by the value of the variable, in requirements as in files of them, and writes it into
//! what it resolves as it was given. So the text that goes to uv, into command lines, into the list of resolutions and
//! into named environments has a name in place of each password. The value travels among the job's variables.

use std::ffi::OsStr;

use pyexec_proto::job::Variables;
use pyexec_proto::url_password::{MASK, masked, replaced};

use super::request::hex;

/// Begins the names of the variables. The rest is of the URL, so that a password that was meant for one server is never
/// sent to another: a job inherits these variables from one that started it.
const PREFIX: &str = "PYEXEC_URL_PASSWORD_";

/// A variable that uv is to be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Password {
    name: String,
    value: String,
}

/// Masks the passwords in requirements, and returns them.
pub(crate) fn take(requirements: &mut [String]) -> Vec<Password> {
    let mut taken = Vec::new();
    for requirement in requirements {
        taken.extend(named(requirement).1);
        *requirement = masked(requirement).into_owned();
    }
    taken
}

/// Where uv looks for them.
pub(crate) fn set(passwords: &[Password], variables: &mut Variables) {
    for Password { name, value } in passwords {
        variables.set(OsStr::new(name), OsStr::new(value));
    }
}

/// The text with a variable's name in place of each password, masked or not; and those that are not masked.
pub(super) fn named(text: &str) -> (String, Vec<Password>) {
    let mut found = Vec::new();
    let text = replaced(text, |url, password| {
        let name = name_for(url);
        let reference = format!("${{{name}}}");
        if password != MASK {
            found.push(Password { name, value: password.to_owned() });
        }
        reference
    });
    (text.into_owned(), found)
}

/// The same for each of several.
pub(super) fn named_in_all(texts: &[String]) -> (Vec<String>, Vec<Password>) {
    let (texts, found): (Vec<_>, Vec<_>) = texts.iter().map(|text| named(text)).unzip();
    (texts, found.concat())
}

/// The first line of `text` that refers to a password which is not among the variables.
pub(super) fn missing_in(text: &str, variables: &Variables) -> Option<String> {
    let lacks = |line: &&str| references(line).any(|name| variables.get(name).is_none());
    text.lines().find(lacks).map(|line| hidden(line.trim_end_matches('\\').trim()))
}

/// A message of uv's as it may be shown: without passwords, and without the names of ours.
pub(super) fn hidden(message: &str) -> String {
    let mut message = masked(message).into_owned();
    let names: Vec<String> = references(&message).map(str::to_owned).collect();
    for name in names {
        message = message.replace(&format!("${{{name}}}"), MASK);
    }
    message
}

fn references(text: &str) -> impl Iterator<Item = &str> {
    text.split("${").skip(1).filter_map(|rest| {
        let (name, _) = rest.split_once('}')?;
        name.starts_with(PREFIX).then_some(name)
    })
}

fn name_for(masked_url: &str) -> String {
    format!("{PREFIX}{}", hex(masked_url.as_bytes())[..16].to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_goes_into_a_variable_and_the_rest_is_the_same_with_and_without_it() {
        let given = "a @ https://user:secret@host/a.whl ; python_version > '3'".to_owned();
        let mut kept = [given.clone(), "b==1".to_owned()];
        let taken = take(&mut kept);
        assert_eq!(kept, ["a @ https://user:****@host/a.whl ; python_version > '3'", "b==1"]);
        let [Password { name, value }] = &taken[..] else { panic!("{taken:?}") };
        assert_eq!(value, "secret");
        assert_eq!(named(&kept[0]), (given.replace("secret", &format!("${{{name}}}")), vec![]));
        assert_eq!(named(&given), (named(&kept[0]).0, taken.clone()));
        // uv's own form of a name.
        assert!(name.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_')), "{name}");
        let mut variables = Variables::default();
        set(&taken, &mut variables);
        assert_eq!(variables.get(name), Some(OsStr::new("secret")));
    }

    #[test]
    fn a_password_of_one_url_is_not_that_of_another() {
        let name = |url: &str| named(url).1.into_iter().map(|password| password.name).collect::<Vec<_>>();
        assert_eq!(name("https://u:one@host/a"), name("https://u:two@host/a"));
        for other in ["https://u:one@other/a", "http://u:one@host/a", "https://v:one@host/a"] {
            assert_ne!(name("https://u:one@host/a"), name(other), "{other}");
        }
    }

    #[test]
    fn a_lock_says_which_password_it_lacks() {
        let (lock, taken) = named("b==1\na @ https://user:secret@host/a.whl \\\n    --hash=sha256:0\n");
        let mut variables = Variables::default();
        assert_eq!(missing_in(&lock, &variables).as_deref(), Some("a @ https://user:****@host/a.whl"));
        set(&taken, &mut variables);
        assert_eq!(missing_in(&lock, &variables), None);
        assert_eq!(missing_in("a @ https://u:${TOKEN}@host", &Variables::default()), None);
    }

    #[test]
    fn neither_passwords_nor_our_names_for_them_are_shown() {
        let (text, _) = named("a @ https://u:secret@host https://token@host");
        assert_eq!(hidden(&text), "a @ https://u:****@host https://****@host");
        assert_eq!(hidden("failed: http://u:secret@host/ ${HOME}"), "failed: http://u:****@host/ ${HOME}");
    }
}
