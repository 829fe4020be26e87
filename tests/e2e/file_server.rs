//! An HTTP server on this machine, for packages that tests make themselves.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::sandbox::python;

/// Serves a directory to who has these credentials, if there are any; or answers all with this code. Prints its port.
const SERVER: &str = r#"
import base64, functools, http.server, sys
folder, code, credentials = sys.argv[1], int(sys.argv[2]), sys.argv[3]
expected = credentials and 'Basic ' + base64.b64encode(credentials.encode()).decode()
class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        is_known = not expected or self.headers.get('Authorization') == expected
        if code == 200 and is_known:
            return super().do_GET()
        self.send_response(code if is_known else 401)
        if not is_known:
            self.send_header('WWW-Authenticate', 'Basic realm="wheels"')
        self.send_header('Content-Length', '0')
        self.end_headers()
    do_HEAD = do_GET
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Handler, directory=folder))
print(server.server_port, flush=True)
server.serve_forever()
"#;

/// Dropping it ends it.
#[derive(Debug)]
pub(crate) struct FileServer {
    process: Child,
    port: String,
}

impl FileServer {
    /// Of what lies in this directory.
    pub(crate) fn of(directory: &Path) -> Self {
        Self::start(directory, 200, "")
    }

    /// Of what lies in this directory, for who sends `user:password`.
    pub(crate) fn with_password(directory: &Path, credentials: &str) -> Self {
        Self::start(directory, 200, credentials)
    }

    /// Has nothing, and answers with this code.
    pub(crate) fn that_answers(code: u16) -> Self {
        Self::start(Path::new("/"), code, "")
    }

    fn start(directory: &Path, code: u16, credentials: &str) -> Self {
        let arguments = ["-c".into(), SERVER.into(), directory.to_owned(), code.to_string().into(), credentials.into()];
        let mut process =
            Command::new(python()).args(arguments).stdout(Stdio::piped()).spawn().expect("Python can be started");
        let mut port = String::new();
        let stdout = process.stdout.take().expect("stdout was asked to be a pipe");
        BufReader::new(stdout).read_line(&mut port).expect("the server prints its port");
        Self { process, port: port.trim().to_owned() }
    }

    /// With `user:password@` in it, unless that is empty.
    pub(crate) fn url(&self, credentials: &str) -> String {
        let at = if credentials.is_empty() { "" } else { "@" };
        format!("http://{credentials}{at}127.0.0.1:{}/", self.port)
    }
}

impl Drop for FileServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
