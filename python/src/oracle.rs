//! Programs in Python that the tests compare themselves with: one process answers thousands of cases.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

/// A Python program that answers a line of JSON with a line of JSON. Dropping it ends it.
pub(crate) struct Oracle {
    process: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Oracle {
    pub(crate) fn start(python: &std::path::Path, program: &str) -> Oracle {
        let mut process = Command::new(python)
            .args(["-I", "-c", program])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("could not start {}: {error}", python.display()));
        let questions = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().expect("stdout was asked to be a pipe"));
        Oracle { process, questions, answers }
    }

    pub(crate) fn ask(&mut self, question: &Value) -> Value {
        let questions = self.questions.as_mut().expect("it is only closed when dropped");
        writeln!(questions, "{question}").expect("the oracle reads questions; its stderr says why it stopped");
        questions.flush().expect("the oracle reads questions; its stderr says why it stopped");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the oracle writes UTF-8");
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error} in the answer to {question}: {answer:?}"))
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // The end of its input ends it.
        self.questions.take();
        let _ = self.process.wait();
    }
}

/// The interpreters to test with: those `PYEXEC_TEST_PYTHONS` lists, separated as `PATH` is, or the `python3` on `PATH`.
pub(crate) fn pythons() -> Vec<PathBuf> {
    match std::env::var_os("PYEXEC_TEST_PYTHONS") {
        Some(list) => std::env::split_paths(&list).collect(),
        None => vec!["python3".into()],
    }
}

/// Standard base64, for bytes that have to travel in JSON.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut written = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = if place <= group.len() { DIGITS[(bits >> (18 - 6 * place)) as usize & 63] } else { b'=' };
            written.push(char::from(digit));
        }
    }
    written
}
