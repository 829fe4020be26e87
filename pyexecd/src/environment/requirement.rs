//! What is taken for a requirement at all.

use pyexec_proto::Error;
use pyexec_proto::url_password::masked;

/// uv explains what is wrong with a requirement; what it would take for something else is refused here.
pub(crate) fn check_requirement(requirement: &str) -> Result<(), Error> {
    let first = requirement.trim_start().chars().next();
    let problem = match first {
        None => "it is empty",
        Some(_) if requirement.contains(['\n', '\r', '\0']) => "it has more than one line",
        Some('-') => "it is an option, not a requirement",
        Some('#') => "it is a comment, not a requirement",
        Some(first) if !(first.is_alphanumeric() || matches!(first, '.' | '/' | '~')) => {
            "it does not begin with the name of a package"
        }
        Some(_) => return Ok(()),
    };
    Err(Error::InvalidArgument {
        what: "requirement".to_owned(),
        given: masked(requirement).chars().take(200).collect(),
        problem: problem.to_owned(),
        hint: "write it as pip takes it: `numpy`, `numpy>=2`, `numpy[extra]==2.1`".to_owned(),
    })
}
