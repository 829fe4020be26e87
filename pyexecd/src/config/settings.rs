//! What each setting is called, which values it takes, and what it means: `docs/settings.md` and `pyexecd --check-config` are
//! made from this list.

use std::fmt::{self, Write as _};
use std::time::Duration;

use pyexec_proto::job::Buffering;
use pyexec_proto::variables;

use super::{Config, InheritEnv, ScopeSetting};

struct Setting {
    name: &'static str,
    takes: Takes,
    meaning: &'static str,
    /// `None` if it is not set.
    value: fn(&Config) -> Option<String>,
}

enum Takes {
    Number,
    Bytes,
    Time,
    Flag,
    Words(&'static [&'static str]),
    Path,
    Version,
    Names,
    Text,
}

const SETTINGS: [Setting; 18] = [
    Setting {
        name: "max_running",
        takes: Takes::Number,
        meaning: "how many jobs run at once; more wait their turn",
        value: |config| Some(config.max_running.to_string()),
    },
    Setting {
        name: "output_buffering",
        takes: Takes::Words(&["line", "full"]),
        meaning: "`line`: a printed line can be read at once. `full`: Python buffers in blocks, which is faster for scripts that print a lot",
        value: |config| Some(buffering(config.output_buffering).to_owned()),
    },
    Setting {
        name: "output_bytes",
        takes: Takes::Bytes,
        meaning: "how much of each stream of a job is kept: its beginning and its end",
        value: |config| Some(config.output_bytes.to_string()),
    },
    Setting {
        name: "capture_figures",
        takes: Takes::Flag,
        meaning: "whether matplotlib figures that are open when a job ends are saved as artifacts; they are never saved if the variable `MPLBACKEND` is set",
        value: |config| Some(config.capture_figures.to_string()),
    },
    Setting {
        name: "uv",
        takes: Takes::Path,
        meaning: "the uv to use; without it, the first uv along `PATH`",
        value: |config| config.uv.as_ref().map(|uv| uv.display().to_string()),
    },
    Setting {
        name: "default_python",
        takes: Takes::Version,
        meaning: "the Python version of jobs that name none; without it, the one that uv chooses",
        value: |config| config.default_python.as_ref().map(ToString::to_string),
    },
    Setting {
        name: "inherit_env",
        takes: Takes::Names,
        meaning: "which variables of the caller a job gets: `all`, or a list of names such as `[\"PATH\", \"HOME\", \"LC_*\"]`; in the variable, names are separated by commas",
        value: |config| Some(inherit_env(&config.inherit_env)),
    },
    Setting {
        name: "environment_max_age",
        takes: Takes::Time,
        meaning: "how long pyexec relies on what unpinned requirements resolved to",
        value: |config| Some(time(config.environment_max_age)),
    },
    Setting {
        name: "environment_timeout",
        takes: Takes::Time,
        meaning: "the longest time that building one environment may take",
        value: |config| Some(time(config.environment_timeout)),
    },
    Setting {
        name: "environment_cache_bytes",
        takes: Takes::Bytes,
        meaning: "above this size, unused environments are removed, the least recently used first",
        value: |config| Some(config.environment_cache_bytes.to_string()),
    },
    Setting {
        name: "scopes",
        takes: Takes::Words(&["auto", "never"]),
        meaning: "`auto`: each job gets a control group of its own if the user's service manager makes one. `never`: it does not, see [systemd](systemd.md)",
        value: |config| Some(scopes(config.scopes).to_owned()),
    },
    Setting {
        name: "retention_max_age",
        takes: Takes::Time,
        meaning: "finished jobs older than this are removed with their files; only time that the daemon saw pass counts, so that a clock that jumps costs no job",
        value: |config| Some(time(config.history.max_age)),
    },
    Setting {
        name: "retention_max_jobs",
        takes: Takes::Number,
        meaning: "the oldest finished jobs beyond this number are removed",
        value: |config| Some(config.history.max_jobs.to_string()),
    },
    Setting {
        name: "retention_max_bytes",
        takes: Takes::Bytes,
        meaning: "the oldest finished jobs are removed while the files of all of them take more than this",
        value: |config| Some(config.history.max_bytes.to_string()),
    },
    Setting {
        name: "retention_min_age",
        takes: Takes::Time,
        meaning: "a job that ended more recently than this is never removed automatically",
        value: |config| Some(time(config.history.min_age)),
    },
    Setting {
        name: "autosaved_scripts_max_age",
        takes: Takes::Time,
        meaning: "how long code that was run without a file is kept",
        value: |config| Some(time(config.autosaved_scripts_max_age)),
    },
    Setting {
        name: "autosaved_scripts_max_count",
        takes: Takes::Number,
        meaning: "how many of these scripts are kept; 0 keeps none",
        value: |config| Some(config.autosaved_scripts_max_count.to_string()),
    },
    Setting {
        name: "log",
        takes: Takes::Text,
        meaning: "what the daemon logs: a level (`error`, `warn`, `info`, `debug`, `trace`, `off`), or several for parts, such as `info,pyexecd::jobs=debug`",
        value: |config| Some(config.log.clone()),
    },
];

impl Setting {
    fn variable(&self) -> String {
        format!("PYEXEC_{}", self.name.to_ascii_uppercase())
    }
}

impl Takes {
    fn described(&self) -> String {
        match self {
            Takes::Number => "whole number".to_owned(),
            Takes::Bytes => "number of bytes".to_owned(),
            Takes::Time => "time".to_owned(),
            Takes::Flag => "`true` or `false`".to_owned(),
            Takes::Words(words) => words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(" or "),
            Takes::Path => "path".to_owned(),
            Takes::Version => "version such as `\"3.12\"`".to_owned(),
            Takes::Names => "`\"all\"` or a list of names".to_owned(),
            Takes::Text => "text".to_owned(),
        }
    }

    /// A value as it is written in `config.toml`.
    fn literal(&self, value: &str) -> String {
        match self {
            Takes::Number | Takes::Bytes | Takes::Flag => value.to_owned(),
            Takes::Time | Takes::Words(_) | Takes::Path | Takes::Version | Takes::Names | Takes::Text => {
                format!("\"{value}\"")
            }
        }
    }
}

/// A line for each setting, `name = value`; those that are not set have none.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for setting in &SETTINGS {
            if let Some(value) = (setting.value)(self) {
                writeln!(f, "{} = {value}", setting.name)?;
            }
        }
        Ok(())
    }
}

fn buffering(buffering: Buffering) -> &'static str {
    match buffering {
        Buffering::Line => "line",
        Buffering::Full => "full",
    }
}

fn scopes(scopes: ScopeSetting) -> &'static str {
    match scopes {
        ScopeSetting::Auto => "auto",
        ScopeSetting::Never => "never",
    }
}

fn inherit_env(inherit: &InheritEnv) -> String {
    match inherit {
        InheritEnv::All => "all".to_owned(),
        InheritEnv::Only(names) => names.join(","),
    }
}

/// `90d`, `24h`, or in several units where it is not a whole number of those.
fn time(duration: Duration) -> String {
    const HOUR: u64 = 3600;
    let (seconds, is_whole) = (duration.as_secs(), duration.subsec_nanos() == 0);
    if is_whole && seconds > 24 * HOUR && seconds.is_multiple_of(24 * HOUR) {
        format!("{}d", seconds / (24 * HOUR))
    } else if is_whole && seconds > 0 && seconds.is_multiple_of(HOUR) {
        format!("{}h", seconds / HOUR)
    } else {
        humantime::format_duration(duration).to_string()
    }
}

/// `256 MiB`, of a number of bytes that is one of whole units.
fn with_unit(bytes: &str) -> Option<String> {
    let number: u64 = bytes.parse().ok()?;
    let (shift, unit) = [(30, "GiB"), (20, "MiB")].into_iter().find(|(shift, _)| number.is_multiple_of(1 << shift))?;
    Some(format!("{} {unit}", number >> shift))
}

/// `docs/settings.md`.
pub(crate) fn page() -> String {
    let mut page = "# Settings

<!-- Made by scripts/docs.sh from pyexecd/src/config/settings.rs and proto/src/variables.rs: do not edit. -->

The daemon reads `~/.config/pyexec/config.toml` when it starts. Each setting also has an environment variable of the daemon,
which comes first; it can stand in `~/.config/pyexec/pyexec.env`, see [agents](agents.md#variables-for-the-server). Times are
written as `90s`, `10m`, `24h` or `30d`. `pyexecd --check-config` prints the settings that hold, or what is wrong with them;
`pyexec daemon restart` applies a change, and jobs go on meanwhile.

| setting | variable | type | default | meaning |
|---|---|---|---|---|
"
    .to_owned();
    let defaults = Config::default();
    for setting in &SETTINGS {
        let Setting { name, takes, meaning, value } = setting;
        let default = value(&defaults).map_or_else(String::new, |value| {
            let unit = if matches!(takes, Takes::Bytes) { with_unit(&value) } else { None };
            let unit = unit.map_or_else(String::new, |unit| format!(" ({unit})"));
            format!("`{}`{unit}", takes.literal(&value))
        });
        let _ =
            writeln!(page, "| `{name}` | `{}` | {} | {default} | {meaning} |", setting.variable(), takes.described());
    }
    page += "\n## Other variables that the programs read\n\n| variable | meaning |\n|---|---|\n";
    write_rows(&mut page, &variables::READ);
    page +=
        "\nuv reads its own variables (`UV_*`) from the environment of the job, see [environments](environments.md).\n";
    page += "\n## Variables that jobs have\n\n| variable | meaning |\n|---|---|\n";
    write_rows(&mut page, &variables::SET);
    page
}

fn write_rows(page: &mut String, rows: &[(&str, &str)]) {
    for (names, meaning) in rows {
        let names: Vec<String> = names.split(", ").map(|name| format!("`{name}`")).collect();
        let _ = writeln!(page, "| {} | {meaning} |", names.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::super::ConfigError;
    use super::*;
    use std::cell::RefCell;
    use std::path::Path;

    fn read(text: &str) -> Result<Config, ConfigError> {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("config.toml");
        std::fs::write(&file, text).expect("can be written");
        Config::read(&file, |_| None)
    }

    #[test]
    fn the_defaults_that_the_page_shows_hold() {
        let defaults = Config::default();
        let line = |setting: &Setting| {
            let value = (setting.value)(&defaults)?;
            Some(format!("{} = {}\n", setting.name, setting.takes.literal(&value)))
        };
        let text: String = SETTINGS.iter().filter_map(line).collect();
        assert_eq!(read(&text).expect("is what is expected"), defaults);
    }

    #[test]
    fn every_setting_that_a_file_can_have_is_listed() {
        // What is expected instead of an unknown name is every name that there is.
        let refused = read("no_such_setting = 1\n").expect_err("there is none").to_string();
        let (_, expected) = refused.split_once("expected one of").expect("names the others");
        let mut known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
        let mut listed: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
        known.sort_unstable();
        listed.sort_unstable();
        assert_eq!(listed, known, "{refused}");
    }

    #[test]
    fn every_setting_has_the_variable_that_the_page_shows() {
        let asked = RefCell::new(vec![]);
        let read = Config::read(Path::new("/nowhere/config.toml"), |name| {
            asked.borrow_mut().push(name.to_owned());
            None
        });
        assert!(read.is_ok());
        for setting in &SETTINGS {
            assert!(asked.borrow().contains(&setting.variable()), "{}", setting.name);
        }
    }

    #[test]
    fn times_are_written_as_people_write_them() {
        for (seconds, expected) in [(0, "0s"), (90, "1m 30s"), (3600, "1h"), (86_400, "24h"), (90 * 86_400, "90d")] {
            let written = time(Duration::from_secs(seconds));
            assert_eq!(written, expected);
            assert_eq!(humantime::parse_duration(&written), Ok(Duration::from_secs(seconds)));
        }
    }
}
