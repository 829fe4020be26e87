//! Packages that tests make themselves, to be installed without an index.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::environment_sandbox::EnvironmentSandbox;
use crate::sandbox::python;

/// Writes the wheel of one module, and prints the SHA-256 of it.
const WHEEL: &str = r#"
import base64, hashlib, os, sys, zipfile
folder, name, version = sys.argv[1:]
module = name.replace('-', '_')
info = f'{module}-{version}.dist-info'
files = {f'{module}.py': f"__version__ = '{version}'\n",
         f'{info}/METADATA': f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n',
         f'{info}/WHEEL': 'Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n'}
def digest(text):
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()
record = [f'{path},sha256={digest(text)},{len(text)}' for path, text in files.items()]
files[f'{info}/RECORD'] = '\n'.join(record + [f'{info}/RECORD,,', ''])
os.makedirs(folder, exist_ok=True)
path = f'{folder}/{module}-{version}-py3-none-any.whl'
with zipfile.ZipFile(path, 'w') as wheel:
    for name, text in files.items():
        wheel.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), text)
print(hashlib.sha256(open(path, 'rb').read()).hexdigest())
"#;

/// Where they lie in a sandbox.
pub(crate) fn directory(sandbox: &EnvironmentSandbox) -> PathBuf {
    sandbox.root().join("wheels")
}

/// A sandbox in which uv knows no index, and finds what [`wheel`] makes.
pub(crate) fn sandbox_without_index() -> EnvironmentSandbox {
    let mut sandbox = EnvironmentSandbox::new();
    let wheels = directory(&sandbox);
    std::fs::create_dir(&wheels).expect("can be made");
    sandbox.set("UV_NO_INDEX", "1");
    sandbox.set("UV_FIND_LINKS", wheels);
    let cache = sandbox.root().join("uv-cache");
    sandbox.set("UV_CACHE_DIR", cache);
    sandbox
}

/// Makes a package of one module, `a_b` for the name `a-b`, and returns the SHA-256 of its wheel.
#[track_caller]
pub(crate) fn wheel(sandbox: &EnvironmentSandbox, name: &str, version: &str) -> String {
    let arguments = [Path::new("-c"), Path::new(WHEEL), &directory(sandbox), Path::new(name), Path::new(version)];
    let made = Command::new(python()).args(arguments).output().expect("Python can be started");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8(made.stdout).expect("is hexadecimal").trim().to_owned()
}

/// Where version 1.0 of a package is, below the address of a server of [`directory`].
pub(crate) fn url(server: &str, name: &str) -> String {
    format!("{server}{}-1.0-py3-none-any.whl", name.replace('-', "_"))
}
