//! pyexec in the place of `python3` and of `uv run`: a table of commands, each run both ways, and compared.
//!
//! A row says what is there, what is run, and what the plain program must give; a row whose plain side gives something else
//! is an error of this suite. Then `pyexec run` runs the same in the same place, and has to give the same: stdout, stderr, exit
//! code, and the files that are left. Where the MCP server has the thing, so does it.
//!
//! `PYEXEC_TEST_ROW=words` runs the rows whose name has these words.

mod arguments;
mod environments;
mod inline;
mod projects;
mod startup;
mod world;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::environment_sandbox::EnvironmentSandbox;
use crate::mcp_session::{Era, McpSession};
use crate::sandbox::{PYEXEC_MCP, Ran, Sandbox};
use crate::uv::uv;

/// The program that pyexec stands in for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Plain {
    /// `python3`; with us, `pyexec run --no-uv`.
    Python,
    /// `uv run -q`.
    Uv,
}

/// One behaviour.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// What holds, as a sentence.
    name: &'static str,
    plain: Plain,
    /// Written below the working directory before each side runs.
    files: Vec<(&'static str, Vec<u8>)>,
    /// Those of them that may be executed.
    programs: Vec<&'static str>,
    variables: Vec<(&'static str, String)>,
    /// The directory that both are started in, below the working directory.
    directory: &'static str,
    /// What both are started through, such as `taskset -c 0`.
    through: Vec<&'static str>,
    /// Options of the plain program alone, and of `pyexec run` alone.
    plain_options: Vec<String>,
    our_options: Vec<String>,
    /// What follows the program and its options: the same on both sides.
    words: Vec<OsString>,
    /// A shell's own command; `$RUN` is the program with its options.
    shell: Option<&'static str>,
    stdout: String,
    code: i32,
    /// What stderr has to contain; `None` when stderr is not compared.
    stderr: Option<&'static str>,
    /// Arguments of `py_run_script_in_dir` beside the directory, where that can do the same.
    mcp: Option<Value>,
}

/// What a program is put in the place of `python3`.
pub(crate) fn python(name: &'static str) -> Row {
    Row {
        name,
        plain: Plain::Python,
        files: vec![],
        programs: vec![],
        variables: vec![],
        directory: "",
        through: vec![],
        plain_options: vec![],
        our_options: vec![],
        words: vec![],
        shell: None,
        stdout: String::new(),
        code: 0,
        stderr: Some(""),
        mcp: None,
    }
}

/// What a program is put in the place of `uv run`. Its stderr is not compared: uv speaks of its own work there.
pub(crate) fn uv_run(name: &'static str) -> Row {
    Row { plain: Plain::Uv, stderr: None, ..python(name) }
}

impl Row {
    pub(crate) fn file(mut self, name: &'static str, text: impl AsRef<[u8]>) -> Self {
        self.files.push((name, text.as_ref().to_vec()));
        self
    }

    pub(crate) fn program(mut self, name: &'static str, text: impl AsRef<[u8]>) -> Self {
        self.programs.push(name);
        self.file(name, text)
    }

    pub(crate) fn variable(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    pub(crate) fn directory(mut self, name: &'static str) -> Self {
        self.directory = name;
        self
    }

    pub(crate) fn through(mut self, words: &[&'static str]) -> Self {
        self.through = words.to_vec();
        self
    }

    /// Options that mean the same to both, but are spelled otherwise.
    pub(crate) fn options(mut self, plain: &[&str], ours: &[&str]) -> Self {
        self.plain_options = plain.iter().map(|word| (*word).to_owned()).collect();
        self.our_options = ours.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    pub(crate) fn words<A: Into<OsString>>(mut self, words: impl IntoIterator<Item = A>) -> Self {
        self.words = words.into_iter().map(Into::into).collect();
        self
    }

    /// A command of `bash`, in which `$RUN` stands for the program with its options.
    pub(crate) fn shell(mut self, command: &'static str) -> Self {
        self.shell = Some(command);
        self
    }

    /// All that the plain program prints to stdout.
    pub(crate) fn prints(mut self, text: impl Into<String>) -> Self {
        self.stdout = text.into();
        self
    }

    /// A part of what the plain program prints to stderr, all of which has to be the same on both sides.
    pub(crate) fn complains(mut self, text: &'static str) -> Self {
        self.stderr = Some(text);
        self
    }

    /// Stderr of the two is not compared.
    pub(crate) fn whatever_stderr_says(mut self) -> Self {
        self.stderr = None;
        self
    }

    fn are_alike(&self, ours: &Came, plain: &Came) -> bool {
        let is_same = |part: fn(&Came) -> &String| part(ours) == part(plain);
        is_same(|came| &came.stdout)
            && (self.stderr.is_none() || is_same(|came| &came.stderr))
            && (ours.code, &ours.files) == (plain.code, &plain.files)
    }

    pub(crate) fn exits(mut self, code: i32) -> Self {
        self.code = code;
        self
    }

    /// The MCP server can do the same, with these arguments of `py_run_script_in_dir`; the directory is added.
    pub(crate) fn mcp(mut self, arguments: Value) -> Self {
        self.mcp = Some(arguments);
        self
    }
}

/// What running a row has come to.
#[derive(Debug)]
struct Came {
    stdout: String,
    stderr: String,
    code: i32,
    /// What is below the working directory afterwards.
    files: BTreeMap<PathBuf, String>,
}

/// Runs each row with the `python3` of the tests.
#[track_caller]
pub(crate) fn check(rows: &[Row]) {
    let sandbox = EnvironmentSandbox::new();
    check_in(&sandbox, rows);
}

/// The same in a sandbox that has been prepared.
#[track_caller]
pub(crate) fn check_in(sandbox: &Sandbox, rows: &[Row]) {
    let wanted = std::env::var("PYEXEC_TEST_ROW").unwrap_or_default();
    let rows: Vec<&Row> = rows.iter().filter(|row| row.name.contains(&wanted)).collect();
    assert!(!rows.is_empty() || !wanted.is_empty(), "there is no row to run");
    let mut wrong = String::new();
    for row in &rows {
        if let Err(problem) = compare(sandbox, row) {
            let _ = write!(wrong, "\n--- {}\n{problem}\n", row.name);
        }
    }
    assert!(wrong.is_empty(), "of {} rows these differ:\n{wrong}\n{}", rows.len(), sandbox.daemon_log());
}

fn compare(sandbox: &Sandbox, row: &Row) -> Result<(), String> {
    let plain = run(sandbox, row, plain_command(sandbox, row));
    let says = |part: &str| if part.is_empty() { plain.stderr.is_empty() } else { plain.stderr.contains(part) };
    let is_as_stated = plain.stdout == row.stdout && plain.code == row.code && row.stderr.is_none_or(says);
    if !is_as_stated {
        return Err(format!(
            "the row is wrong: it says stdout {:?}, exit {}, stderr {:?}; plain gives {plain:#?}",
            row.stdout, row.code, row.stderr
        ));
    }
    let ours = run(sandbox, row, our_command(sandbox, row));
    if !row.are_alike(&ours, &plain) {
        return Err(format!("pyexec gives {ours:#?}\nplain gives {plain:#?}"));
    }
    let Some(arguments) = &row.mcp else { return Ok(()) };
    let ours = call(sandbox, row, arguments);
    if !row.are_alike(&ours, &plain) {
        return Err(format!("pyexec-mcp gives {ours:#?}\nplain gives {plain:#?}"));
    }
    Ok(())
}

fn plain_command(sandbox: &Sandbox, row: &Row) -> Command {
    let program: Vec<OsString> = match row.plain {
        Plain::Python => vec!["python3".into()],
        Plain::Uv => vec![uv().into(), "run".into(), "-q".into()],
    };
    command(sandbox, row, &program, &row.plain_options)
}

fn our_command(sandbox: &Sandbox, row: &Row) -> Command {
    let program = sandbox.cli(["run"]);
    let mut words = vec![program.get_program().to_owned()];
    words.extend(program.get_args().map(ToOwned::to_owned));
    if row.plain == Plain::Python {
        words.push("--no-uv".into());
    }
    command(sandbox, row, &words, &row.our_options)
}

fn command(sandbox: &Sandbox, row: &Row, program: &[OsString], options: &[String]) -> Command {
    let words: Vec<OsString> = program.iter().cloned().chain(options.iter().map(OsString::from)).collect();
    let mut all: Vec<OsString> = row.through.iter().map(OsString::from).collect();
    match row.shell {
        // Each word is one to the shell, too.
        Some(line) => all.extend(
            ["bash", "-c", &format!("RUN=(\"$@\"); {}", line.replace("$RUN", "\"${RUN[@]}\""))]
                .map(OsString::from)
                .into_iter()
                .chain(["bash".into()])
                .chain(words),
        ),
        None => all.extend(words.into_iter().chain(row.words.iter().cloned())),
    }
    let mut command = sandbox.command(&all[0]);
    command.args(&all[1..]).envs(row.variables.iter().map(|(name, value)| (name, value)));
    command.current_dir(sandbox.work().join(row.directory));
    command
}

/// In a working directory that has what the row says, and nothing else.
fn place(sandbox: &Sandbox, row: &Row) {
    let work = sandbox.work();
    std::fs::remove_dir_all(&work).expect("can be removed");
    std::fs::create_dir(&work).expect("can be made");
    std::fs::create_dir_all(work.join(row.directory)).expect("can be made");
    for (name, text) in &row.files {
        let path = work.join(name);
        std::fs::create_dir_all(path.parent().expect("has one")).expect("can be made");
        std::fs::write(&path, text).expect("can be written");
        let mode = if row.programs.contains(name) { 0o755 } else { 0o644 };
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("is ours");
    }
}

fn run(sandbox: &Sandbox, row: &Row, command: Command) -> Came {
    place(sandbox, row);
    let Ran { code, stdout, stderr } = sandbox.attend(command).end();
    Came { stdout: String::from_utf8_lossy(&stdout).into_owned(), stderr, code, files: files_left(&sandbox.work()) }
}

fn call(sandbox: &Sandbox, row: &Row, arguments: &Value) -> Came {
    place(sandbox, row);
    let mut all: Vec<OsString> = row.through.iter().map(OsString::from).collect();
    all.push(PYEXEC_MCP.into());
    let mut command = sandbox.command(&all[0]);
    command.args(&all[1..]).envs(row.variables.iter().map(|(name, value)| (name, value)));
    let mut session = McpSession::open_command(sandbox, Era::Handshake("2025-06-18"), command);
    let mut given = json!({"directory": sandbox.work().join(row.directory), "use_uv": row.plain == Plain::Uv});
    for (name, value) in arguments.as_object().expect("arguments are an object") {
        given[name] = value.clone();
    }
    given["markdown_output"] = false.into();
    let answer = session.call("py_run_script_in_dir", given);
    let result = &answer["structuredContent"];
    session.close();
    let text = |name: &str| result[name].as_str().unwrap_or_default().to_owned();
    let code = result["exit_code"].as_i64().and_then(|code| i32::try_from(code).ok());
    Came {
        stdout: text("stdout"),
        stderr: text("stderr"),
        code: code.unwrap_or_else(|| panic!("no exit code in {answer}")),
        files: files_left(&sandbox.work()),
    }
}

/// The names below, with what regular files contain. What depends on when it was written is left out.
fn files_left(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut to_read = vec![directory.to_owned()];
    while let Some(next) = to_read.pop() {
        for entry in std::fs::read_dir(&next).expect("can be listed") {
            let path = entry.expect("can be listed").path();
            let name = path.strip_prefix(directory).expect("lies below").to_owned();
            let kind = path.symlink_metadata().expect("is there").file_type();
            // An environment's own files are compared by what runs in it.
            let is_environment = kind.is_dir() && path.join("pyvenv.cfg").exists();
            if kind.is_dir() && !is_environment {
                to_read.push(path);
                found.insert(name, "a directory".to_owned());
            } else if kind.is_file() && path.extension().is_none_or(|extension| extension != "pyc") {
                let bytes = std::fs::read(&path).expect("can be read");
                found.insert(name, String::from_utf8_lossy(&bytes).into_owned());
            } else {
                found.insert(name, format!("{kind:?}"));
            }
        }
    }
    found
}

#[test]
fn a_row_that_does_not_hold_is_found() {
    let sandbox = Sandbox::new();
    let misstated = python("").words(["-c", "print(1)"]).prints("2\n");
    assert!(compare(&sandbox, &misstated).expect_err("plain prints 1").starts_with("the row is wrong"));
    // The variables of a job tell it from its caller.
    let seen = |probe: &str| compare(&sandbox, &python("").words(["-c", probe]).prints("None\n"));
    for probe in [
        "import os; print(os.environ.get('PYEXEC_JOB_ID'))",
        "import os, sys; print(None); print(os.environ.get('PYEXEC_JOB_ID', ''), end='', file=sys.stderr)",
        "import os; print(None); 'PYEXEC_JOB_ID' in os.environ and exit(1)",
        "import os; print(None); 'PYEXEC_JOB_ID' in os.environ and open('left', 'w')",
    ] {
        assert!(seen(probe).expect_err(probe).starts_with("pyexec gives"), "{probe}");
    }
    let through_mcp = python("").words(["-c", "print(1)"]).prints("1\n").mcp(json!({"script_content": "print(2)"}));
    assert!(compare(&sandbox, &through_mcp).expect_err("the server prints 2").starts_with("pyexec-mcp gives"));
}
