//! A script can not tell that its lines are made to appear at once, but by asking for just that. All that it can see of
//! us is who it is, where it may report to, and the one finder that lets it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::sandbox::{Sandbox, path_variable, python};

/// All that a script could notice of how its interpreter was started.
const DUMP: &str = "
import sys
modules = sorted(sys.modules)
path_hooks = [getattr(hook, '__name__', type(hook).__name__) for hook in sys.path_hooks]
importer_cache = sorted(sys.path_importer_cache)
import builtins, json, os, signal, subprocess, threading
json.dump({
    'path': sys.path,
    'modules': modules,
    'path_hooks': path_hooks,
    'importer_cache': importer_cache,
    'meta_path': [getattr(finder, '__name__', type(finder).__name__) for finder in sys.meta_path],
    'environment': dict(os.environ),
    'environment_of_children': subprocess.check_output('env').decode(),
    'argv': sys.argv,
    'orig_argv': getattr(sys, 'orig_argv', None),
    'flags': list(sys.flags),
    'warnoptions': sys.warnoptions,
    'xoptions': sys._xoptions,
    'executable': sys.executable,
    'prefix': [sys.prefix, sys.exec_prefix, sys.base_prefix],
    'builtins': sorted(dir(builtins)),
    'main': sorted(globals()),
    'threads': threading.active_count(),
    'signals': [str(signal.getsignal(number)) for number in sorted(signal.valid_signals())],
    'streams': [[stream.encoding, stream.errors, stream.newlines, stream.name, stream.mode, stream.write_through]
        for stream in (sys.stdin, sys.stdout, sys.stderr)],
    'stderr_line_buffering': sys.stderr.line_buffering if sys.version_info >= (3, 9) else None,
    'hooks': [str(sys.excepthook), str(sys.displayhook), str(sys.breakpointhook), hasattr(sys, 'last_value')],
    'trace': [str(sys.gettrace()), str(sys.getprofile())],
    'recursion': sys.getrecursionlimit(),
    'cwd': os.getcwd(),
    'marker': getattr(builtins, 'marker', None),
}, sys.stdout)
";

/// Variables of a job.
const TOLD: [&str; 4] = ["PYEXEC_JOB_ID", "PYEXEC_PROGRESS", "PYEXEC_ARTIFACTS", "MPLBACKEND"];

/// `PYEXEC_TEST_PYTHONS`, a list like `PATH`, of interpreters; else those that pyenv has; and always `python3`.
pub(crate) fn interpreters() -> Vec<PathBuf> {
    if let Some(listed) = std::env::var_os("PYEXEC_TEST_PYTHONS") {
        return std::env::split_paths(&listed).collect();
    }
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv"));
    let pyenv = std::env::var_os("PYENV_ROOT").map(PathBuf::from).or(home);
    let versions = pyenv.and_then(|root| root.join("versions").read_dir().ok()).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let mut parts = name.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
            parts.next() == Some(3) && parts.next().is_some_and(|minor| minor >= 8)
        })
        .map(|entry| entry.path().join("bin/python3"))
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    found.push(python());
    found
}

/// The dump of the script under pyexec, and of a plain start of the same.
fn dumps(sandbox: &Sandbox, interpreter: &Path, pythonpath: Option<&str>) -> (Value, Value) {
    let prepare = |command: &mut std::process::Command| {
        command.env("PATH", path_variable(interpreter.parent().expect("lies in a directory")));
        if let Some(path) = pythonpath {
            command.env("PYTHONPATH", path);
        }
    };
    // By the path that pyexec finds, so that sys.executable is the same.
    let mut plain_command = sandbox.command(interpreter);
    prepare(&mut plain_command);
    plain_command.args(["dump.py", "x"]);
    let plain = sandbox.attend(plain_command).end().expect_code(0).json();
    let mut command = sandbox.cli(["run", "--no-uv", "dump.py", "x"]);
    prepare(&mut command);
    let mut ours = sandbox.attend(command).end().expect_code(0).json();
    // What a job is told.
    for told in TOLD {
        let value = ours["environment"].as_object_mut().expect("is an object").remove(told);
        assert!(value.as_ref().is_some_and(Value::is_string), "{told}: {value:?}");
    }
    // Asked for a module when nobody else knows it.
    assert_eq!(ours["meta_path"].as_array_mut().expect("is an array").pop(), Some("PyexecModules".into()));
    let children = ours["environment_of_children"].as_str().expect("is text");
    let kept: String = children
        .lines()
        .filter(|line| !TOLD.iter().any(|told| line.split('=').next() == Some(told)))
        .map(|line| format!("{line}\n"))
        .collect();
    ours["environment_of_children"] = kept.into();
    (sorted(ours), sorted(plain))
}

/// The order of variables is nobody's business.
fn sorted(mut dump: Value) -> Value {
    let mut lines: Vec<String> =
        dump["environment_of_children"].as_str().expect("is text").lines().map(str::to_owned).collect();
    lines.retain(|line| !line.starts_with("_="));
    lines.sort();
    dump["environment_of_children"] = lines.into();
    dump
}

#[track_caller]
fn assert_same(ours: &Value, plain: &Value, what: &str) {
    for (name, value) in plain.as_object().expect("is an object") {
        assert_eq!(&ours[name], value, "{name}, {what}");
    }
}

#[test]
fn a_script_sees_the_same_interpreter_as_without_us() {
    let sandbox = Sandbox::new();
    sandbox.write("dump.py", DUMP);
    for interpreter in interpreters() {
        for pythonpath in [None, Some("/nowhere/a:/nowhere/b"), Some("relative"), Some("/nowhere::/other")] {
            let (ours, plain) = dumps(&sandbox, &interpreter, pythonpath);
            assert_same(&ours, &plain, &format!("of {} with PYTHONPATH {pythonpath:?}", interpreter.display()));
        }
    }
}

#[test]
fn the_users_own_sitecustomize_still_runs() {
    let sandbox = Sandbox::new();
    sandbox.write("dump.py", DUMP);
    std::fs::create_dir(sandbox.file("own")).expect("can be made");
    sandbox.write("own/sitecustomize.py", "import builtins; builtins.marker = 'the own one ran'\n");
    for interpreter in interpreters() {
        let own = sandbox.file("own");
        let (ours, plain) = dumps(&sandbox, &interpreter, own.to_str());
        assert_eq!(ours["marker"], "the own one ran");
        assert_same(&ours, &plain, &format!("of {}", interpreter.display()));
    }
}

#[test]
fn a_broken_sitecustomize_says_what_it_says_without_us() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.file("own")).expect("can be made");
    sandbox.write("own/sitecustomize.py", "raise RuntimeError('broken')\n");
    let run = |mut command: std::process::Command| {
        command.env("PYTHONPATH", sandbox.file("own"));
        sandbox.attend(command).end()
    };
    let ours = run(sandbox.cli(["run", "--no-uv", "-c", "print('on')"]));
    let mut plain = sandbox.command(python());
    plain.args(["-c", "print('on')"]);
    let plain = run(plain);
    assert_eq!((ours.code, ours.text()), (plain.code, plain.text()));
    assert!(ours.stderr.contains("RuntimeError: broken"), "{ours}");
}

#[test]
fn lines_appear_as_they_are_printed_in_every_interpreter() {
    for interpreter in interpreters() {
        let sandbox = Sandbox::new();
        let code = "import os, sys, time\nprint('line')\nsys.stderr.write('error\\n')\nwhile not os.path.exists('go'): time.sleep(0.005)";
        let mut command = sandbox.cli(["run", "--no-uv", "-c", code]);
        command.env("PATH", path_variable(interpreter.parent().expect("lies in a directory")));
        let mut run = sandbox.attend(command);
        run.wait_for_stdout("line\n");
        run.wait_for_stderr("error\n");
        sandbox.write("go", "");
        run.end().expect_code(0);
    }
}
