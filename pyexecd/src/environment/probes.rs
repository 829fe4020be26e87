//! What a Python is asked about itself, and what it answers.

use std::path::PathBuf;

use pyexec_proto::OsText;
use pyexec_proto::environment::ResolvedEnvironment;

use super::request::normalized_name;

/// Prints which Python this is, where its environment is, and whether that is one.
pub(super) const PROBE: &str = "import platform, sys\n\
    print(sys.executable, sys.prefix, platform.python_version(), sys.prefix != sys.base_prefix, sep='\\n')";

/// What [`PROBE`] has printed.
pub(super) struct Probed {
    pub(super) python: PathBuf,
    pub(super) prefix: PathBuf,
    pub(super) python_version: String,
    pub(super) is_virtual: bool,
}

impl Probed {
    pub(super) fn read(printed: &[u8]) -> Option<Self> {
        let mut lines = printed.split(|byte| *byte == b'\n');
        let mut line = || lines.next();
        let path = |line: &[u8]| PathBuf::from(OsText::from(line.to_vec()).as_os_str());
        Some(Self {
            python: path(line()?),
            prefix: path(line()?),
            python_version: String::from_utf8_lossy(line()?).into_owned(),
            is_virtual: line()? == b"True",
        })
    }
}

/// Prints which Python this is, and what is installed for it.
pub(super) const INSTALLED: &str = "import importlib.metadata as m, platform\n\
    print(platform.python_version())\n\
    for d in m.distributions():\n    print(d.metadata['Name'], d.version, sep='\\t')\n";

/// What [`INSTALLED`] has printed.
pub(super) fn read_installed(printed: &[u8]) -> ResolvedEnvironment {
    let printed = String::from_utf8_lossy(printed);
    let mut lines = printed.lines();
    let python_version = lines.next().unwrap_or_default().to_owned();
    let named = |line: &str| {
        let (name, version) = line.split_once('\t')?;
        Some(format!("{}=={version}", normalized_name(name)))
    };
    let mut packages: Vec<String> = lines.filter_map(named).collect();
    packages.sort();
    packages.dedup();
    ResolvedEnvironment { packages, ..ResolvedEnvironment::of_python(python_version) }
}
