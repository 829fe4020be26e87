//! Which Python a job asks uv for, in uv's order: what is asked for by name, `UV_PYTHON`, a version file, a script's
//! `requires-python`; and then our own setting, which uv does not know.

use pyexec_proto::job::Variables;

use super::discovery::set;
use super::settings::VersionFile;
use pyexec_python::python_requirement::excludes;

/// What uv is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PythonRequest {
    /// A version, a range, a path: whatever uv understands.
    Named(String),
    /// What a version file says, which uv finds by itself.
    OfFile(String),
    Any,
}

impl PythonRequest {
    /// What to name it by, and to remember an answer under.
    pub(super) fn text(&self) -> &str {
        match self {
            PythonRequest::Named(text) | PythonRequest::OfFile(text) => text,
            PythonRequest::Any => "",
        }
    }
}

/// What is to be weighed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wishes<'a> {
    /// `--python`, `python_version`.
    pub(super) named: Option<&'a str>,
    pub(super) variables: &'a Variables,
    pub(super) version_file: Option<&'a VersionFile>,
    /// Of a script's header.
    pub(super) requires_python: Option<&'a str>,
    /// The setting `default_python`.
    pub(super) default: Option<&'a str>,
}

impl Wishes<'_> {
    pub(super) fn choose(self) -> PythonRequest {
        let variable = set(self.variables, "UV_PYTHON").and_then(|value| value.to_str());
        if let Some(named) = self.named.or(variable) {
            return PythonRequest::Named(named.to_owned());
        }
        let fits =
            |file: &&VersionFile| self.requires_python.is_none_or(|required| intersects(&file.request, required));
        if let Some(file) = self.version_file.filter(fits) {
            let request = file.request.clone();
            return if file.is_elsewhere { PythonRequest::Named(request) } else { PythonRequest::OfFile(request) };
        }
        match self.requires_python.or(self.default) {
            Some(wanted) => PythonRequest::Named(wanted.to_owned()),
            None => PythonRequest::Any,
        }
    }
}

/// Whether any version that `request` means is one that `specifiers` admit. One that is neither a version nor a range is
/// taken to be.
fn intersects(request: &str, specifiers: &str) -> bool {
    /// No Python has had more minor versions, or more releases of one.
    const MOST: u32 = 60;
    let is_range = request.starts_with(['<', '>', '=', '!', '~']);
    let numbers = match plain_version(request) {
        Some(numbers) => numbers,
        None if is_range => vec![3],
        None => return true,
    };
    let choices = |place: usize| numbers.get(place).map_or(0..MOST, |number| *number..number.saturating_add(1));
    let admits = |version: &str| !(excludes(specifiers, version) || is_range && excludes(request, version));
    let Some(major) = numbers.first() else { return true };
    choices(1).any(|minor| choices(2).any(|patch| admits(&format!("{major}.{minor}.{patch}"))))
}

/// `3`, `3.12`, `3.12.1`, also with the name of the usual implementation.
fn plain_version(request: &str) -> Option<Vec<u32>> {
    let lower = request.trim().to_ascii_lowercase();
    let names = ["cpython@", "cpython", "python"];
    let version = names.iter().find_map(|name| lower.strip_prefix(name)).unwrap_or(&lower);
    let numbers = version.split('.').map(|number| number.parse().ok()).collect::<Option<Vec<u32>>>()?;
    (numbers.len() <= 3).then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nearer_to_the_job_decides() {
        let file = |request: &str, is_elsewhere| VersionFile { request: request.to_owned(), is_elsewhere };
        let (here, elsewhere) = (file("3.10", false), file("3.10", true));
        let none = Variables::default();
        let set: Variables = [("UV_PYTHON".into(), "3.11".into())].into_iter().collect();
        let empty: Variables = [("UV_PYTHON".into(), "".into())].into_iter().collect();
        let all = Wishes {
            named: Some("3.9"),
            variables: &set,
            version_file: Some(&here),
            requires_python: Some(">=3.8"),
            default: Some("3.13"),
        };
        let named = |text: &str| PythonRequest::Named(text.to_owned());
        let of_file = || PythonRequest::OfFile("3.10".to_owned());
        assert_eq!(all.choose(), named("3.9"));
        let all = Wishes { named: None, ..all };
        assert_eq!(all.choose(), named("3.11"));
        assert_eq!(Wishes { variables: &empty, ..all }.choose(), of_file());
        let all = Wishes { variables: &none, ..all };
        assert_eq!(all.choose(), of_file());
        assert_eq!(Wishes { version_file: Some(&elsewhere), ..all }.choose(), named("3.10"));
        // A file that the header excludes does not hold.
        assert_eq!(Wishes { requires_python: Some(">=3.12"), ..all }.choose(), named(">=3.12"));
        assert_eq!(Wishes { version_file: None, ..all }.choose(), named(">=3.8"));
        let all = Wishes { version_file: None, requires_python: None, ..all };
        assert_eq!(all.choose(), named("3.13"));
        assert_eq!(Wishes { default: None, ..all }.choose(), PythonRequest::Any);
        assert_eq!(Wishes { version_file: Some(&here), ..all }.choose(), of_file());
    }

    #[test]
    fn a_request_and_a_requirement_may_have_versions_in_common() {
        for (request, specifiers, common) in [
            ("3.12", ">=3.12", true),
            ("3.11", ">=3.12", false),
            ("3.12", ">=3.12.5", true),
            ("3.12.1", ">=3.12.5", false),
            ("3", ">=3.12", true),
            ("2", ">=3.12", false),
            ("cpython@3.11", ">=3.12", false),
            ("python3.11", ">=3.12", false),
            (">=3.10,<3.12", ">=3.12", false),
            (">=3.10,<3.13", ">=3.12", true),
            // uv says what comes of these.
            ("pypy", ">=3.12", true),
            ("/usr/bin/python3", ">=3.12", true),
            ("3.12", "nonsense", true),
        ] {
            assert_eq!(intersects(request, specifiers), common, "{request} and {specifiers}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_request_is_taken(request: String, specifiers: String) {
            let _ = intersects(&request, &specifiers);
        }
    }
}
