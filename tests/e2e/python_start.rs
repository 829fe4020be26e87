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
const TOLD: [&str; 3] = ["PYEXEC_JOB_ID", "PYEXEC_PROGRESS", "PYEXEC_ARTIFACTS"];

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
        for pythonpath in [None, Some("/nowhere/a:/nowhere/b"), Some("relative"), Some("/nowhere::/other"), Some("")] {
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

/// A file beside the script, or in the user's `PYTHONPATH`, for each module of the standard library that Python has not
/// imported when it starts. Each says that it ran.
const SHADOWS: &str = r#"
import os, sys
names = getattr(sys, 'stdlib_module_names', None)
if names is None:
    place = os.path.dirname(os.__file__)
    found = os.listdir(place) + os.listdir(os.path.join(place, 'lib-dynload'))
    names = {name.split('.')[0] for name in found} | set(sys.builtin_module_names)
for name in {name for name in names if name.isidentifier()} - set(sys.modules) - {'sitecustomize', 'usercustomize'}:
    with open(os.path.join(sys.argv[1], name + '.py'), 'w') as file:
        file.write('import builtins; builtins.ran = getattr(builtins, "ran", []) + [__name__]\nmine = True\n')
"#;

/// Uses all that we do in a process: reports, bars, figures, and a profile where one is asked for.
const USES_ALL: &str = "
import builtins, os, sys
from pyexec_progress import progress
for number in range(30): progress(number, 40, 'caf\u{e9} \"x\"')
from matplotlib._pylab_helpers import Gcf, Manager
manager = Gcf.figs[1] = Manager(1)
manager.figure = type('Figure', (), {'savefig': lambda self, file, format: file.write(b'drawn')})()
import rich.live
thread = rich.live._RefreshThread()
thread.stop()
before = list(getattr(builtins, 'ran', []))
import json, logging, sched, textwrap, wave
assert json.mine and logging.mine and sched.mine and textwrap.mine and wave.mine
print(before)
";

#[test]
fn nothing_is_imported_that_a_file_of_the_users_could_be() {
    for interpreter in interpreters() {
        let sandbox = crate::figures::pretended();
        std::fs::create_dir(sandbox.file("rich")).expect("can be made");
        sandbox.write("rich/__init__.py", "");
        sandbox.write("rich/progress.py", "class Progress: pass\n");
        sandbox.write(
            "rich/live.py",
            "import rich.progress\nclass _RefreshThread:\n    live = None\n    def stop(self): pass\n",
        );
        sandbox.write("script.py", USES_ALL);
        std::fs::create_dir(sandbox.file("elsewhere")).expect("can be made");
        let path = path_variable(interpreter.parent().expect("lies in a directory"));
        for (place, pythonpath) in [(".", None), ("elsewhere", Some("elsewhere"))] {
            let mut shadows = sandbox.command(&interpreter);
            shadows.args(["-I", "-c", SHADOWS, place]);
            sandbox.attend(shadows).end().expect_code(0);
            if pythonpath.is_some() {
                let mut away = sandbox.command("bash");
                away.args(["-c", "for each in elsewhere/*; do rm -f ./\"${each#*/}\"; done"]);
                sandbox.attend(away).end().expect_code(0);
            }
            let what = format!("{} with them in {place}", interpreter.display());
            // What Python itself imports of them when it starts.
            let mut plain = sandbox.command(&interpreter);
            plain.args(["-c", "import builtins; print(getattr(builtins, 'ran', []))"]).current_dir(sandbox.root());
            plain.envs(pythonpath.map(|place| ("PYTHONPATH", sandbox.file(place))));
            let expected = sandbox.attend(plain).end().expect_code(0).text();
            for options in [&[][..], &["--profile"]] {
                let mut command = sandbox.cli([&["run", "--no-uv", "--json"], options, &["script.py"]].concat());
                command.env("PATH", &path).envs(pythonpath.map(|place| ("PYTHONPATH", place)));
                let ran = sandbox.attend(command).end();
                let result = ran.clone().expect_code(0).json();
                assert_eq!(
                    (&result["stdout"], &result["stderr"]),
                    (&expected.clone().into(), &"".into()),
                    "{what}: {ran}"
                );
                let id = result["job_id"].as_str().expect("is text");
                let progress = sandbox.show(id)["progress"].clone();
                assert_eq!(
                    (&progress["current"], &progress["message"]),
                    (&29.into(), &"caf\u{e9} \"x\"".into()),
                    "{what}"
                );
                let left = result["artifacts"].to_string();
                assert!(left.contains("figure-1.png"), "{what}: {left}");
                assert_eq!(left.contains("profile.prof"), !options.is_empty(), "{what}: {left}");
            }
        }
    }
}

/// Versions that are too old for what we do are left alone.
#[test]
fn older_pythons_say_nothing_of_us() {
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv"));
    let pyenv = std::env::var_os("PYENV_ROOT").map(PathBuf::from).or(home).map(|root| root.join("versions"));
    let entries = pyenv.and_then(|versions| versions.read_dir().ok()).into_iter().flatten().flatten();
    let old: Vec<PathBuf> = entries
        .filter(|entry| ["3.6.", "3.7."].iter().any(|old| entry.file_name().to_string_lossy().starts_with(old)))
        .map(|entry| entry.path().join("bin"))
        .collect();
    for place in old {
        let sandbox = crate::figures::pretended();
        sandbox.write("s.py", "import os, matplotlib._pylab_helpers, wave\nprint(os.environ.get('PYTHONPATH'))\n");
        for options in [&[][..], &["--profile"]] {
            let mut command = sandbox.cli([&["run", "--no-uv", "--json"], options, &["s.py"]].concat());
            command.env("PATH", path_variable(&place)).env("PYTHONPATH", "/nowhere");
            let ran = sandbox.attend(command).end().expect_code(0).json();
            assert_eq!((&ran["stdout"], &ran["stderr"]), (&"/nowhere\n".into(), &"".into()), "{}", place.display());
        }
    }
}

/// In `PYTHONPATH`, a colon parts one directory from the next.
#[test]
fn a_colon_in_the_name_of_our_cache_is_no_trace_either() {
    let mut sandbox = Sandbox::new();
    let cache = sandbox.root().join("a:b");
    sandbox.set("XDG_CACHE_HOME", &cache);
    sandbox.write("s.py", "import os, sys\nprint(os.environ['PYTHONPATH'], sys.path[1:3])\nimport pyexec_progress\n");
    let mut command = sandbox.cli(["run", "--no-uv", "s.py"]);
    command.env("PYTHONPATH", "/nowhere:/else");
    let ran = sandbox.attend(command).end().expect_code(0);
    assert_eq!(ran.text(), "/nowhere:/else ['/nowhere', '/else']\n", "{ran}");
}
