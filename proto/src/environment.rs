//! The Python environment of a job: what the job requests, and what it ran in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::JobId;
use crate::os_text::OsText;
use crate::time::Timestamp;

/// The interpreter and the packages a job requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EnvironmentSpec {
    pub interpreter: Interpreter,
    /// PEP 508 requirements, as the user wrote them.
    pub requirements: Vec<String>,
    /// A requirements file in pip's format; relative to the job's directory.
    pub requirements_file: Option<OsText>,
    /// The name of an environment created earlier. It excludes all other requests.
    pub named: Option<String>,
    /// Also install the distributions that provide the script's imports, as far as they are known.
    pub auto_install: bool,
    /// Resolve again, ignoring earlier resolutions.
    pub refresh: bool,
    /// The content of the requirements file, if the client has read it because the daemon cannot. It is stored without
    /// passwords.
    #[serde(default)]
    pub requirements_content: Option<String>,
    /// Absent from specifications written by earlier versions.
    #[serde(default)]
    pub project: ProjectChoice,
}

impl EnvironmentSpec {
    /// Only this interpreter, without packages.
    pub fn bare(interpreter: Interpreter) -> Self {
        Self {
            interpreter,
            requirements: Vec::new(),
            requirements_file: None,
            named: None,
            auto_install: false,
            refresh: false,
            requirements_content: None,
            project: ProjectChoice::AsUvRun,
        }
    }

    /// The first two options that exclude each other.
    pub fn contradiction(&self) -> Option<Contradiction> {
        let asked = [
            (EnvironmentOption::Requirements, !self.requirements.is_empty()),
            (EnvironmentOption::RequirementsFile, self.requirements_file.is_some()),
            (EnvironmentOption::AutoInstall, self.auto_install),
        ];
        let first = |options: &[(EnvironmentOption, bool)]| {
            options.iter().find(|(_, is_asked)| *is_asked).map(|(option, _)| *option)
        };
        match &self.interpreter {
            Interpreter::System => {
                let named = (EnvironmentOption::Named, self.named.is_some());
                first(&asked).or_else(|| first(&[named])).map(Contradiction::WithoutUv)
            }
            Interpreter::Uv { version } if self.named.is_some() => {
                let more = [(EnvironmentOption::Python, version.is_some()), (EnvironmentOption::Refresh, self.refresh)];
                first(&asked).or_else(|| first(&more)).map(Contradiction::BesideNamed)
            }
            Interpreter::Uv { .. } => None,
        }
    }
}

/// An option of the environment. Each front end has its own names for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvironmentOption {
    Python,
    Requirements,
    RequirementsFile,
    Named,
    AutoInstall,
    Refresh,
}

/// Two options that exclude each other. This is the only place that decides which do; each front end names them in its
/// own terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contradiction {
    /// The option needs uv, which installs packages and chooses versions.
    WithoutUv(EnvironmentOption),
    /// The option cannot be combined with a named environment, which is used as it was created.
    BesideNamed(EnvironmentOption),
}

/// Which project a job may use, and which existing environment it may run in. A job whose script has a PEP 723 header,
/// that names an environment, or that runs without uv uses neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProjectChoice {
    /// As `uv run` does: the project of the script's directory or, for code, of the working directory. Without a
    /// project, the active environment, or `.venv` in the working directory or the nearest of its parents.
    #[default]
    AsUvRun,
    /// As `uv run --no-project` does: no project, but an existing environment as above.
    AsUvRunNoProject,
    /// As [`ProjectChoice::AsUvRun`], but with the project of the working directory, wherever the script is.
    OfDirectory,
    /// As [`ProjectChoice::AsUvRun`] if the script is inside a project, otherwise as [`ProjectChoice::AsFound`].
    OfScript,
    /// Nothing is created or written: the existing environment of the working directory's project, or an existing
    /// environment as without a project.
    AsFound,
    /// Neither a project nor an existing environment.
    None,
}

/// How the environment of a job relates to a project or to an existing environment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProjectUse {
    /// Not at all: none was found, or none was looked for.
    #[default]
    Nothing,
    /// The environment of the project in this directory, synchronized with the project's lock file.
    Synced { project: OsText },
    /// This existing environment, or one layered over it. The existing environment was not changed.
    AsFound { environment: OsText },
    /// The project or environment at this path was not used.
    LeftOut { path: OsText },
}

/// The environment a job ran in, as it was found to be, not as it was requested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedEnvironment {
    /// The id of an environment that pyexec built; `None` for the system's Python and for a project's environment.
    pub id: Option<String>,
    /// Such as `3.12.1`; empty if unknown.
    pub python_version: String,
    /// `name==version`, sorted. Empty for environments that pyexec did not build.
    pub packages: Vec<String>,
    /// Imports for which `auto_install` knows no distribution.
    pub unknown_imports: Vec<String>,
    /// Absent from records written by earlier versions.
    #[serde(default)]
    pub project: ProjectUse,
}

impl ResolvedEnvironment {
    /// An environment of which only the Python version is known.
    pub fn of_python(python_version: String) -> Self {
        Self {
            id: None,
            python_version,
            packages: Vec::new(),
            unknown_imports: Vec::new(),
            project: ProjectUse::Nothing,
        }
    }
}

/// A stored environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentInfo {
    /// An environment with a name is never evicted.
    pub name: Option<String>,
    /// The address of the content. `None` for a named environment that will be rebuilt when it is next used.
    pub id: Option<String>,
    pub python_version: String,
    pub packages: Vec<String>,
    pub bytes: u64,
    pub last_used: Option<Timestamp>,
    /// The unfinished jobs that use it.
    pub used_by: Vec<JobId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Interpreter {
    /// The first `python3` on the caller's `PATH`; uv is not used.
    System,
    /// The interpreter uv chooses, with exactly this minor version if one is given.
    Uv { version: Option<PythonVersion> },
}

impl Interpreter {
    /// The interpreter for these options.
    ///
    /// # Errors
    ///
    /// A version without uv: only uv can choose one.
    pub fn choose(use_uv: bool, version: Option<PythonVersion>) -> Result<Self, Contradiction> {
        match (use_uv, version) {
            (true, version) => Ok(Interpreter::Uv { version }),
            (false, None) => Ok(Interpreter::System),
            (false, Some(_)) => Err(Contradiction::WithoutUv(EnvironmentOption::Python)),
        }
    }

    /// The name of the interpreter choice in `execution_strategy` of results.
    pub fn strategy(&self) -> &'static str {
        match self {
            Interpreter::System => "system-python",
            Interpreter::Uv { .. } => "uv-run",
        }
    }
}

/// A minor version of Python, such as `3.12`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PythonVersion {
    pub major: u8,
    pub minor: u8,
}

/// The oldest Python that pyexec can run: line buffering needs `TextIOWrapper.reconfigure`, new in 3.7, and uv supports
/// 3.8 and later.
const OLDEST: PythonVersion = PythonVersion { major: 3, minor: 8 };

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPythonVersion {
    #[error("python version `{0}` is not of the form 3.N")]
    Form(String),
    #[error("python {0} is too old: pyexec runs Python {OLDEST} and later")]
    TooOld(PythonVersion),
}

impl FromStr for PythonVersion {
    type Err = InvalidPythonVersion;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let form = || InvalidPythonVersion::Form(given.chars().take(40).collect());
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            if plain { digits.parse::<u8>().map_err(|_| form()) } else { Err(form()) }
        };
        let (major, minor) = given.split_once('.').ok_or_else(form)?;
        let version = PythonVersion { major: number(major)?, minor: number(minor)? };
        if version < OLDEST {
            return Err(InvalidPythonVersion::TooOld(version));
        }
        if version.major != OLDEST.major {
            return Err(form());
        }
        Ok(version)
    }
}

impl fmt::Display for PythonVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_together_is_found_whatever_it_is() {
        use EnvironmentOption::{AutoInstall, Named, Python, Refresh, Requirements, RequirementsFile};
        let uv = |version: Option<&str>| Interpreter::Uv { version: version.map(|text| text.parse().expect("is one")) };
        let with = |interpreter: Interpreter, options: &[EnvironmentOption]| {
            let mut spec = EnvironmentSpec::bare(interpreter);
            for option in options {
                match option {
                    Requirements => spec.requirements = vec!["numpy".to_owned()],
                    RequirementsFile => spec.requirements_file = Some("r.txt".into()),
                    Named => spec.named = Some("n".to_owned()),
                    AutoInstall => spec.auto_install = true,
                    Refresh => spec.refresh = true,
                    Python => spec.interpreter = uv(Some("3.12")),
                }
            }
            spec.contradiction()
        };
        for option in [Requirements, RequirementsFile, Named, AutoInstall] {
            assert_eq!(with(Interpreter::System, &[option]), Some(Contradiction::WithoutUv(option)));
            assert_eq!(with(uv(None), &[option]), None, "{option:?}");
        }
        for option in [Requirements, RequirementsFile, AutoInstall, Python, Refresh] {
            assert_eq!(with(uv(None), &[Named, option]), Some(Contradiction::BesideNamed(option)));
        }
        assert_eq!(with(Interpreter::System, &[]), None);
        assert_eq!(with(uv(None), &[Requirements, RequirementsFile, AutoInstall, Python, Refresh]), None);
        let version = "3.12".parse().ok();
        assert_eq!(Interpreter::choose(false, version), Err(Contradiction::WithoutUv(Python)));
        assert_eq!(Interpreter::choose(false, None), Ok(Interpreter::System));
        assert_eq!(Interpreter::choose(true, version), Ok(Interpreter::Uv { version }));
    }

    #[test]
    fn a_minor_version_is_read_and_shown_as_written() {
        assert_eq!("3.12".parse::<PythonVersion>().map(|version| version.to_string()), Ok("3.12".to_owned()));
    }

    #[test]
    fn anything_but_a_minor_version_is_refused() {
        for given in ["", "3", "3.", ".12", "3.12.1", "3.12.x; rm -rf", " 3.12", "3.+9", "three", "3.999", "4.1"] {
            assert!(given.parse::<PythonVersion>().is_err(), "{given:?} was taken for a version");
        }
    }

    #[test]
    fn versions_before_3_8_are_refused_as_too_old() {
        for given in ["2.9", "3.7", "2.7"] {
            let refused = given.parse::<PythonVersion>();
            assert!(matches!(refused, Err(InvalidPythonVersion::TooOld(_))), "{given}: {refused:?}");
        }
    }
}
