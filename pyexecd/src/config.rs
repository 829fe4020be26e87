//! The daemon's settings: `config.toml`, and `PYEXEC_<NAME>` over it. The only place that reads either.
//! What each setting means is said in `settings`.

pub(crate) mod settings;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pyexec_client::environment_file::EnvironmentFile;
use pyexec_proto::environment::PythonVersion;
use pyexec_proto::job::Buffering;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::StrDeserializer;

use crate::retention::Bounds;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How many jobs run at once; more wait their turn.
    pub max_running: usize,
    /// Whether a line that was printed can be read at once.
    pub output_buffering: Buffering,
    /// How much is kept of each stream of a job that says nothing of it itself.
    pub output_bytes: u64,
    /// Whether matplotlib's figures that are open when a job ends are saved as artifacts.
    pub capture_figures: bool,
    /// The uv to use, instead of looking for one.
    pub uv: Option<PathBuf>,
    /// What goes into the log: a `tracing` filter such as `info` or `pyexecd=debug`.
    pub log: String,
    /// The Python for jobs that name none; without it, what uv finds first.
    pub default_python: Option<PythonVersion>,
    /// Which of the caller's variables a job gets.
    pub inherit_env: InheritEnv,
    /// How long what an unpinned requirement resolved to is good for.
    pub environment_max_age: Duration,
    /// The most one environment may take to build.
    pub environment_timeout: Duration,
    /// Above it, environments that nobody uses are removed, the least recently used first.
    pub environment_cache_bytes: u64,
    /// Whether each job is put into a control group of its own.
    pub scopes: ScopeSetting,
    /// Not a setting: where the user's bus is, as D-Bus writes addresses, if there is one.
    pub user_bus: Option<String>,
    /// How much of the jobs that have finished is kept.
    pub history: Bounds,
    /// How long code that was run without a file is kept.
    pub autosaved_scripts_max_age: Duration,
    /// How much of it is kept: so many scripts.
    pub autosaved_scripts_max_count: usize,
}

/// Whether each job is put into a control group of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScopeSetting {
    /// Where the user's service manager makes one.
    Auto,
    Never,
}

/// Which of the caller's variables a job gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InheritEnv {
    All,
    /// Those of these names; a `*` at the end stands for anything.
    Only(Vec<String>),
}

impl InheritEnv {
    pub fn admits(&self, name: &OsStr) -> bool {
        let name = name.as_bytes();
        match self {
            InheritEnv::All => true,
            InheritEnv::Only(names) => names.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix.as_bytes()),
                None => name == pattern.as_bytes(),
            }),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_running: 64,
            output_buffering: Buffering::Line,
            output_bytes: 256 << 20,
            capture_figures: true,
            uv: None,
            log: "info".to_owned(),
            default_python: None,
            inherit_env: InheritEnv::All,
            environment_max_age: Duration::from_secs(24 * 3600),
            environment_timeout: Duration::from_secs(600),
            environment_cache_bytes: 10 << 30,
            scopes: ScopeSetting::Auto,
            user_bus: None,
            history: Bounds {
                max_age: Duration::from_secs(90 * 24 * 3600),
                max_jobs: 200_000,
                max_bytes: 20 << 30,
                min_age: Duration::from_secs(3600),
            },
            autosaved_scripts_max_age: Duration::from_secs(30 * 24 * 3600),
            autosaved_scripts_max_count: 1_000,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("could not read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} can not be used: {source}", path.display())]
    File { path: PathBuf, source: Box<toml::de::Error> },
    #[error("{setting} can not be `{value}`: {problem}")]
    Value { setting: String, value: String, problem: String },
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    max_running: Option<i64>,
    output_buffering: Option<Buffering>,
    output_bytes: Option<i64>,
    capture_figures: Option<bool>,
    uv: Option<PathBuf>,
    log: Option<String>,
    default_python: Option<String>,
    inherit_env: Option<Inherit>,
    environment_max_age: Option<String>,
    environment_timeout: Option<String>,
    environment_cache_bytes: Option<i64>,
    scopes: Option<ScopeSetting>,
    retention_max_age: Option<String>,
    retention_max_jobs: Option<i64>,
    retention_max_bytes: Option<i64>,
    retention_min_age: Option<String>,
    autosaved_scripts_max_age: Option<String>,
    autosaved_scripts_max_count: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Inherit {
    Word(String),
    Names(Vec<String>),
}

impl Config {
    /// # Errors
    /// On a file that can not be read or understood, and on a value that makes no sense; both say which.
    ///
    /// The environment of this process decides; then the environment file, for variables of ours; then the settings file.
    pub fn load(file: &Path, environment: &EnvironmentFile) -> Result<Self, ConfigError> {
        Self::read(file, |name| {
            let given = std::env::var(name).ok().filter(|value| !value.is_empty());
            let from_file = || environment.value(name).filter(|value| name.starts_with("PYEXEC_") && !value.is_empty());
            given.or_else(|| from_file().map(str::to_owned))
        })
    }

    fn read(path: &Path, variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let file: File = match std::fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text)
                .map_err(|source| ConfigError::File { path: path.to_owned(), source: Box::new(source) })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => File::default(),
            Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
        };
        let defaults = Self::default();
        let refused = |setting: &str, value: &str, problem: &str| ConfigError::Value {
            setting: setting.to_owned(),
            value: value.to_owned(),
            problem: problem.to_owned(),
        };
        let from_variable = |name: &str| variable(name).map(|value| (name.to_owned(), value));

        let max_running = match (from_variable("PYEXEC_MAX_RUNNING"), file.max_running) {
            (Some((name, value)), _) => {
                Some(value.parse().map_err(|_| refused(&name, &value, "a whole number is expected"))?)
            }
            (None, from_file) => from_file,
        };
        let max_running = match max_running {
            None => defaults.max_running,
            Some(number) => usize::try_from(number)
                .ok()
                .filter(|number| *number > 0)
                .ok_or_else(|| refused("max_running", &number.to_string(), "at least 1 is expected"))?,
        };
        let output_buffering = match from_variable("PYEXEC_OUTPUT_BUFFERING") {
            Some((name, value)) => {
                let text: StrDeserializer<'_, serde::de::value::Error> = value.as_str().into_deserializer();
                Buffering::deserialize(text).map_err(|_| refused(&name, &value, "`line` or `full` is expected"))?
            }
            None => file.output_buffering.unwrap_or(defaults.output_buffering),
        };
        let scopes = match from_variable("PYEXEC_SCOPES") {
            Some((name, value)) => {
                let text: StrDeserializer<'_, serde::de::value::Error> = value.as_str().into_deserializer();
                ScopeSetting::deserialize(text).map_err(|_| refused(&name, &value, "`auto` or `never` is expected"))?
            }
            None => file.scopes.unwrap_or(defaults.scopes),
        };
        let capture_figures = match from_variable("PYEXEC_CAPTURE_FIGURES") {
            Some((name, value)) => {
                value.parse().map_err(|_| refused(&name, &value, "`true` or `false` is expected"))?
            }
            None => file.capture_figures.unwrap_or(defaults.capture_figures),
        };
        // The rest are texts that are read alike, wherever they come from.
        let text = |name: &'static str, from_file: Option<String>| {
            let variable_name = format!("PYEXEC_{}", name.to_ascii_uppercase());
            match variable(&variable_name) {
                Some(value) => Some((variable_name, value)),
                None => from_file.map(|value| (name.to_owned(), value)),
            }
        };
        let duration = |given: Option<(String, String)>, default: Duration| match given {
            None => Ok(default),
            Some((name, value)) => humantime::parse_duration(&value)
                .map_err(|_| refused(&name, &value, "a time such as `90s`, `10m` or `24h` is expected")),
        };
        let default_python = match text("default_python", file.default_python) {
            None => None,
            Some((name, value)) => {
                let refused =
                    |error: pyexec_proto::environment::InvalidPythonVersion| refused(&name, &value, &error.to_string());
                Some(value.parse().map_err(refused)?)
            }
        };
        let inherit_env = match (variable("PYEXEC_INHERIT_ENV"), file.inherit_env) {
            (Some(word), _) | (None, Some(Inherit::Word(word))) if word == "all" => InheritEnv::All,
            (Some(names), _) => InheritEnv::Only(names.split(',').map(|name| name.trim().to_owned()).collect()),
            (None, Some(Inherit::Names(names))) => InheritEnv::Only(names),
            (None, Some(Inherit::Word(word))) => {
                return Err(refused("inherit_env", &word, "`all` or a list of names is expected"));
            }
            (None, None) => defaults.inherit_env,
        };
        let number = |of: &str, name: &'static str, from_file: Option<i64>, default: u64| match text(
            name,
            from_file.map(|number| number.to_string()),
        ) {
            None => Ok(default),
            Some((name, value)) => {
                value.parse().map_err(|_| refused(&name, &value, &format!("a number of {of} is expected")))
            }
        };
        let bytes = |name, from_file, default| number("bytes", name, from_file, default);
        let environment_cache_bytes =
            bytes("environment_cache_bytes", file.environment_cache_bytes, defaults.environment_cache_bytes)?;
        let output_bytes = bytes("output_bytes", file.output_bytes, defaults.output_bytes)?;
        let count =
            text("autosaved_scripts_max_count", file.autosaved_scripts_max_count.map(|count| count.to_string()));
        let autosaved_scripts_max_count = match count {
            None => defaults.autosaved_scripts_max_count,
            Some((name, value)) => {
                value.parse().map_err(|_| refused(&name, &value, "a number of scripts is expected"))?
            }
        };
        Ok(Self {
            max_running,
            output_buffering,
            output_bytes,
            capture_figures,
            uv: variable("PYEXEC_UV").map(PathBuf::from).or(file.uv),
            log: variable("PYEXEC_LOG").or(file.log).unwrap_or(defaults.log),
            default_python,
            inherit_env,
            environment_max_age: duration(
                text("environment_max_age", file.environment_max_age),
                defaults.environment_max_age,
            )?,
            environment_timeout: duration(
                text("environment_timeout", file.environment_timeout),
                defaults.environment_timeout,
            )?,
            environment_cache_bytes,
            scopes,
            user_bus: variable("DBUS_SESSION_BUS_ADDRESS")
                .or_else(|| variable("XDG_RUNTIME_DIR").map(|directory| format!("unix:path={directory}/bus"))),
            history: Bounds {
                max_age: duration(text("retention_max_age", file.retention_max_age), defaults.history.max_age)?,
                max_jobs: number("jobs", "retention_max_jobs", file.retention_max_jobs, defaults.history.max_jobs)?,
                max_bytes: bytes("retention_max_bytes", file.retention_max_bytes, defaults.history.max_bytes)?,
                min_age: duration(text("retention_min_age", file.retention_min_age), defaults.history.min_age)?,
            },
            autosaved_scripts_max_age: duration(
                text("autosaved_scripts_max_age", file.autosaved_scripts_max_age),
                defaults.autosaved_scripts_max_age,
            )?,
            autosaved_scripts_max_count,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("config.toml");
        std::fs::write(&file, text).expect("can be written");
        Config::read(&file, |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn without_a_file_the_defaults_hold() {
        let read = Config::read(Path::new("/nowhere/config.toml"), |_| None).expect("is fine");
        assert_eq!(read, Config::default());
    }

    #[test]
    fn a_variable_wins_over_the_file() {
        let config =
            read("max_running = 3\noutput_buffering = \"full\"\n", &[("PYEXEC_MAX_RUNNING", "5")]).expect("is fine");
        assert_eq!((config.max_running, config.output_buffering), (5, Buffering::Full));
    }

    #[test]
    fn the_bus_is_the_one_that_is_named_or_the_usual_one() {
        let runtime = ("XDG_RUNTIME_DIR", "/run/user/7");
        let config = read("scopes = \"never\"\n", &[runtime]).expect("is fine");
        assert_eq!(
            (config.scopes, config.user_bus.as_deref()),
            (ScopeSetting::Never, Some("unix:path=/run/user/7/bus"))
        );
        let variables = [runtime, ("DBUS_SESSION_BUS_ADDRESS", "unix:abstract=x"), ("PYEXEC_SCOPES", "auto")];
        let config = read("scopes = \"never\"\n", &variables).expect("is fine");
        assert_eq!((config.scopes, config.user_bus.as_deref()), (ScopeSetting::Auto, Some("unix:abstract=x")));
    }

    #[test]
    fn figures_are_captured_unless_it_is_switched_off() {
        assert!(Config::default().capture_figures);
        assert!(!read("capture_figures = false\n", &[]).expect("is fine").capture_figures);
        let variables = [("PYEXEC_CAPTURE_FIGURES", "true")];
        assert!(read("capture_figures = false\n", &variables).expect("is fine").capture_figures);
    }

    #[test]
    fn what_is_printed_of_the_settings_is_what_holds() {
        let config = read("uv = \"/opt/uv\"\n", &[("PYEXEC_MAX_RUNNING", "5")]).expect("is fine").to_string();
        for line in ["max_running = 5", "uv = /opt/uv", "environment_timeout = 10m", "inherit_env = all"] {
            assert!(config.lines().any(|found| found == line), "{line} is not in\n{config}");
        }
    }

    #[test]
    fn an_allowlist_is_of_names_and_beginnings() {
        for (text, variables) in
            [("inherit_env = [\"PATH\", \"LC_*\"]\n", &[][..]), ("", &[("PYEXEC_INHERIT_ENV", "PATH, LC_*")][..])]
        {
            let inherit = read(text, variables).expect("is fine").inherit_env;
            for (name, admitted) in [("PATH", true), ("LC_ALL", true), ("PATHS", false), ("TOKEN", false)] {
                assert_eq!(inherit.admits(OsStr::new(name)), admitted, "{name} of {inherit:?}");
            }
        }
        assert_eq!(read("inherit_env = \"all\"\n", &[]).expect("is fine").inherit_env, InheritEnv::All);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (text, variables, named) in [
            ("max_runing = 3\n", &[][..], "max_runing"),
            ("max_running = 0\n", &[][..], "max_running"),
            ("max_running = \"many\"\n", &[][..], "max_running"),
            ("", &[("PYEXEC_MAX_RUNNING", "lots")][..], "PYEXEC_MAX_RUNNING"),
            ("", &[("PYEXEC_OUTPUT_BUFFERING", "none")][..], "PYEXEC_OUTPUT_BUFFERING"),
            ("capture_figures = \"often\"\n", &[][..], "capture_figures"),
            ("", &[("PYEXEC_CAPTURE_FIGURES", "often")][..], "PYEXEC_CAPTURE_FIGURES"),
            ("= 3", &[][..], "config.toml"),
            ("default_python = \"2.7\"\n", &[][..], "default_python"),
            ("", &[("PYEXEC_DEFAULT_PYTHON", "x")][..], "PYEXEC_DEFAULT_PYTHON"),
            ("environment_max_age = \"soon\"\n", &[][..], "environment_max_age"),
            ("scopes = \"always\"\n", &[][..], "config.toml"),
            ("", &[("PYEXEC_SCOPES", "1")][..], "PYEXEC_SCOPES"),
            ("environment_cache_bytes = -1\n", &[][..], "environment_cache_bytes"),
            ("autosaved_scripts_max_age = \"never\"\n", &[][..], "autosaved_scripts_max_age"),
            ("autosaved_scripts_max_count = -1\n", &[][..], "autosaved_scripts_max_count"),
            ("", &[("PYEXEC_AUTOSAVED_SCRIPTS_MAX_COUNT", "all")][..], "PYEXEC_AUTOSAVED_SCRIPTS_MAX_COUNT"),
            ("inherit_env = \"some\"\n", &[][..], "inherit_env"),
        ] {
            let refused = read(text, variables).expect_err("makes no sense").to_string();
            assert!(refused.contains(named), "{refused}");
        }
    }
}
