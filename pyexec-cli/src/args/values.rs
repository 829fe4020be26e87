//! The values of options: durations, sizes, variables, and words with a fixed meaning.

use std::convert::Infallible;
use std::ffi::OsString;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use pyexec_proto::fence::{FilesystemFence, NetworkFence};
use pyexec_proto::job::Buffering;
use pyexec_proto::limits::OnOutputLimit;

/// The value of one `--with`: any number of packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Requirements(Vec<String>);

impl Requirements {
    pub(crate) fn of_all(given: Vec<Requirements>) -> Vec<String> {
        given.into_iter().flat_map(|Requirements(each)| each).collect()
    }
}

impl FromStr for Requirements {
    type Err = Infallible;

    /// Splits as uv does: at commas, but not within brackets (`a[b,c]`), nor before a version (`a>=1,<2`).
    fn from_str(given: &str) -> Result<Self, Infallible> {
        let mut parts = vec![String::new()];
        let mut depth = 0_usize;
        for (place, character) in given.char_indices() {
            match character {
                '[' => depth += 1,
                ']' => depth = depth.saturating_sub(1),
                ',' if depth == 0 && !given[place + 1..].trim_start().starts_with(['!', '=', '<', '>', '~']) => {
                    parts.push(String::new());
                    continue;
                }
                _ => {}
            }
            parts.last_mut().expect("there is one from the start").push(character);
        }
        Ok(Self(parts.iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BufferingArg {
    /// Line by line
    Line,
    /// In blocks, as Python does when it does not print to a terminal
    Full,
}

impl From<BufferingArg> for Buffering {
    fn from(given: BufferingArg) -> Self {
        match given {
            BufferingArg::Line => Buffering::Line,
            BufferingArg::Full => Buffering::Full,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnOutputLimitArg {
    /// Keep running; keep the first and the newest output, and drop what is between them
    DropOldest,
    /// End the job
    Stop,
}

impl From<OnOutputLimitArg> for OnOutputLimit {
    fn from(given: OnOutputLimitArg) -> Self {
        match given {
            OnOutputLimitArg::DropOldest => OnOutputLimit::DropOldest,
            OnOutputLimitArg::Stop => OnOutputLimit::Stop,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum NetworkArg {
    /// No network except a loopback device of its own
    None,
}

impl From<NetworkArg> for NetworkFence {
    fn from(NetworkArg::None: NetworkArg) -> Self {
        NetworkFence::None
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FilesystemArg {
    /// The job writes only to its artifacts and to a temporary directory of its own
    ReadOnly,
    /// The job also writes beneath its working directory
    Workdir,
}

impl From<FilesystemArg> for FilesystemFence {
    fn from(given: FilesystemArg) -> Self {
        match given {
            FilesystemArg::ReadOnly => FilesystemFence::ReadOnly,
            FilesystemArg::Workdir => FilesystemFence::Workdir,
        }
    }
}

/// `NAME=value`, of any bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) name: OsString,
    pub(crate) value: OsString,
}

/// The longest time that something may take; `None` means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit(pub(crate) Option<Duration>);

impl std::str::FromStr for Limit {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, String> {
        parse_duration(given).map(|limit| Self((!limit.is_zero()).then_some(limit)))
    }
}

/// Reads `90s`, `1h30m`, and a bare number of seconds.
pub(crate) fn parse_duration(given: &str) -> Result<Duration, String> {
    // What is kept is milliseconds in a u64; far below that there is already no difference to forever.
    const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);
    let bare = !given.is_empty() && given.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let read = if bare {
        given.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    } else {
        humantime::parse_duration(given).ok()
    };
    match read {
        None => Err("not a length of time; write 90s, 5m, 1h30m, or seconds as a bare number".to_owned()),
        Some(long) if long > LONGEST => Err("longer than a hundred years".to_owned()),
        Some(duration) => Ok(duration),
    }
}

/// Reads `512M`, `2G`, `1.5GiB`, and a bare number of bytes. The letters are powers of 1024, as everywhere here.
pub(super) fn parse_size(given: &str) -> Result<u64, String> {
    const UNITS: [(&str, u32); 5] = [("K", 10), ("M", 20), ("G", 30), ("T", 40), ("", 0)];
    let wrong = || "not a size; write 512M, 2G, or bytes as a bare number".to_owned();
    let upper = given.to_ascii_uppercase();
    let text = upper.strip_suffix("IB").or_else(|| upper.strip_suffix('B')).unwrap_or(&upper);
    let (number, shift) =
        UNITS.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift))).ok_or_else(wrong)?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number: f64 = if is_number { number.parse().map_err(|_| wrong())? } else { return Err(wrong()) };
    let bytes = number * f64::from(shift).exp2();
    if bytes < 1.0 || bytes >= u64::MAX as f64 {
        return Err(wrong());
    }
    Ok(bytes as u64)
}

pub(super) fn assignment_parser() -> impl clap::builder::TypedValueParser<Value = Assignment> {
    use clap::builder::TypedValueParser as _;
    clap::builder::OsStringValueParser::new().try_map(parse_assignment)
}

fn parse_assignment(given: OsString) -> Result<Assignment, String> {
    use std::os::unix::ffi::OsStringExt as _;
    let mut name = given.into_vec();
    match name.iter().position(|byte| *byte == b'=') {
        None => Err("no `=` in it; write NAME=value".to_owned()),
        Some(0) => Err("no name before the `=`".to_owned()),
        Some(at) => {
            let value = name.split_off(at + 1);
            name.truncate(at);
            Ok(Assignment { name: OsString::from_vec(name), value: OsString::from_vec(value) })
        }
    }
}
