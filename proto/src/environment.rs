//! What a job asks of its Python environment.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::JobId;
use crate::os_text::OsText;
use crate::time::Timestamp;

/// The interpreter and the packages a job wants to run with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EnvironmentSpec {
    pub interpreter: Interpreter,
    /// PEP 508 requirements, as given.
    pub requirements: Vec<String>,
    /// A file of requirements, as pip reads them; relative to the job's directory.
    pub requirements_file: Option<OsText>,
    /// An environment that was created under this name; with it, nothing else is asked for.
    pub named: Option<String>,
    /// Also install what the script imports, where it is known which distribution that is.
    pub auto_install: bool,
    /// Resolve again, whatever was resolved before.
    pub refresh: bool,
    /// The content of the requirements file, where the client has read it because the daemon cannot. What is kept has no
    /// passwords in it.
    #[serde(default)]
    pub requirements_content: Option<String>,
    /// Not in what earlier versions have kept.
    #[serde(default)]
    pub project: ProjectChoice,
}

impl EnvironmentSpec {
    /// This interpreter, and nothing else.
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

    /// The first two things in it that cannot be had together.
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

/// What an environment can be asked for. Each face has its own names for these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvironmentOption {
    Python,
    Requirements,
    RequirementsFile,
    Named,
    AutoInstall,
    Refresh,
}

/// Two things that cannot be had together. What they are is decided here alone; each face says it in its own terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contradiction {
    /// Packages are installed, and versions chosen, by uv.
    WithoutUv(EnvironmentOption),
    /// An environment that has a name is used as it was made.
    BesideNamed(EnvironmentOption),
}

/// Which project a job may belong to, and which environment that is there already it may run in. A job whose script has a
/// PEP 723 header, that names an environment, or that does without uv has neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProjectChoice {
    /// As `uv run` does: the project of the script's directory or, for code, of the working directory. Without a project,
    /// the environment that is active, or lies in the working directory or above it as `.venv`.
    #[default]
    AsUvRun,
    /// As `uv run --no-project` does: no project, but such an environment.
    AsUvRunNoProject,
    /// As [`ProjectChoice::AsUvRun`], with the project of the working directory, wherever the script lies.
    OfDirectory,
    /// As [`ProjectChoice::AsUvRun`] for a script inside a project, and as [`ProjectChoice::AsFound`] otherwise.
    OfScript,
    /// Nothing is made, and nothing written: the environment of the working directory's project where it is there, or one
    /// as without a project.
    AsFound,
    /// Neither a project nor an environment that is there already.
    None,
}

/// What the environment of a job has to do with a project, or with an environment that was there already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProjectUse {
    /// Nothing: there was neither, or none was looked for.
    #[default]
    Nothing,
    /// It is that of the project in this directory, and was brought to what the project's lock says.
    Synced { project: OsText },
    /// It is this environment, or lies over it, and that was left as it was.
    AsFound { environment: OsText },
    /// What is at this path, a project or an environment, was not used.
    LeftOut { path: OsText },
}

/// The environment a job ran in: what was really there, not an echo of what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedEnvironment {
    /// Of an environment of ours; `None` for the system's Python and for a project's own environment.
    pub id: Option<String>,
    /// Such as `3.12.1`; empty when nobody could say.
    pub python_version: String,
    /// `name==version`, sorted. Empty where the environment is not ours.
    pub packages: Vec<String>,
    /// Imports that `auto_install` knows no distribution for.
    pub unknown_imports: Vec<String>,
    /// Not in what earlier versions have kept.
    #[serde(default)]
    pub project: ProjectUse,
}

impl ResolvedEnvironment {
    /// With a Python of this version, and nothing else that is known.
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

/// An environment that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentInfo {
    /// Names keep an environment from being evicted.
    pub name: Option<String>,
    /// The address of its content. `None` for a named environment that is to be built again when it is next used.
    pub id: Option<String>,
    pub python_version: String,
    pub packages: Vec<String>,
    pub bytes: u64,
    pub last_used: Option<Timestamp>,
    /// Jobs that have not finished and use it.
    pub used_by: Vec<JobId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Interpreter {
    /// The first `python3` on the caller's `PATH`; uv is not asked.
    System,
    /// The interpreter uv chooses, of exactly this minor version when one is named.
    Uv { version: Option<PythonVersion> },
}

impl Interpreter {
    /// The one that is asked for.
    ///
    /// # Errors
    /// Without uv nobody chooses a version.
    pub fn choose(use_uv: bool, version: Option<PythonVersion>) -> Result<Self, Contradiction> {
        match (use_uv, version) {
            (true, version) => Ok(Interpreter::Uv { version }),
            (false, None) => Ok(Interpreter::System),
            (false, Some(_)) => Err(Contradiction::WithoutUv(EnvironmentOption::Python)),
        }
    }

    /// The name results carry in `execution_strategy`.
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

/// What pyexec can run: the line buffering it arranges needs `TextIOWrapper.reconfigure`, new in 3.7, and uv itself
/// supports 3.8 and later.
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
