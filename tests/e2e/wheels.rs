//! Packages that tests make themselves, to be installed without an index: from a directory, or from a server that wants a
//! password.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

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

/// Serves a directory to who knows the password, and prints its port.
const SERVER: &str = r#"
import base64, functools, http.server, sys
folder, credentials = sys.argv[1:]
expected = 'Basic ' + base64.b64encode(credentials.encode()).decode()
class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.headers.get('Authorization') == expected:
            return super().do_GET()
        self.send_response(401)
        self.send_header('WWW-Authenticate', 'Basic realm="wheels"')
        self.end_headers()
    do_HEAD = do_GET
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Handler, directory=folder))
print(server.server_port, flush=True)
server.serve_forever()
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

/// A server on this machine. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    port: String,
}

impl Server {
    pub(crate) fn start(sandbox: &EnvironmentSandbox, credentials: &str) -> Self {
        let arguments = [Path::new("-c"), Path::new(SERVER), &directory(sandbox), Path::new(credentials)];
        let mut process =
            Command::new(python()).args(arguments).stdout(Stdio::piped()).spawn().expect("Python can be started");
        let mut port = String::new();
        let stdout = process.stdout.take().expect("stdout was asked to be a pipe");
        BufReader::new(stdout).read_line(&mut port).expect("the server prints its port");
        Self { process, port: port.trim().to_owned() }
    }

    /// Of version 1.0 of a package, asked for with these credentials.
    pub(crate) fn url(&self, credentials: &str, name: &str) -> String {
        format!("http://{credentials}@127.0.0.1:{}/{}-1.0-py3-none-any.whl", self.port, name.replace('-', "_"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
