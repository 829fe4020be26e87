//! The daemon's settings: `config.toml`, and `PYEXEC_<NAME>` over it. The only place that reads either.

use std::path::{Path, PathBuf};

use pyexec_proto::job::Buffering;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::StrDeserializer;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How many jobs run at once; more wait their turn.
    pub max_running: usize,
    /// Whether a line that was printed can be read at once.
    pub output_buffering: Buffering,
    /// The uv to use, instead of looking for one.
    pub uv: Option<PathBuf>,
    /// What goes into the log: a `tracing` filter such as `info` or `pyexecd=debug`.
    pub log: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_running: 64, output_buffering: Buffering::Line, uv: None, log: "info".to_owned() }
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
    uv: Option<PathBuf>,
    log: Option<String>,
}

impl Config {
    /// # Errors
    /// On a file that can not be read or understood, and on a value that makes no sense; both say which.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        Self::read(file, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))
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
        Ok(Self {
            max_running,
            output_buffering,
            uv: variable("PYEXEC_UV").map(PathBuf::from).or(file.uv),
            log: variable("PYEXEC_LOG").or(file.log).unwrap_or(defaults.log),
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
    fn what_makes_no_sense_is_refused_by_name() {
        for (text, variables, named) in [
            ("max_runing = 3\n", &[][..], "max_runing"),
            ("max_running = 0\n", &[][..], "max_running"),
            ("max_running = \"many\"\n", &[][..], "max_running"),
            ("", &[("PYEXEC_MAX_RUNNING", "lots")][..], "PYEXEC_MAX_RUNNING"),
            ("", &[("PYEXEC_OUTPUT_BUFFERING", "none")][..], "PYEXEC_OUTPUT_BUFFERING"),
            ("= 3", &[][..], "config.toml"),
        ] {
            let refused = read(text, variables).expect_err("makes no sense").to_string();
            assert!(refused.contains(named), "{refused}");
        }
    }
}
