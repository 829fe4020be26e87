//! What a script can see of how its interpreter was started: nothing but what it would see without pyexec. In every Python
//! there is.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{Row, check_in, python, uv_run};
use crate::environment_sandbox::EnvironmentSandbox;
use crate::python_start::interpreters;
use crate::sandbox::{Sandbox, path_variable};

/// What a script sees: a name for it, what is done before, and an expression. It differs between versions of Python, and is
/// left in a file, which is compared.
type Seen = (&'static str, &'static str, &'static str);

fn sees(name: &'static str, seen: &[Seen]) -> Row {
    let mut script = "import sys, os\n".to_owned();
    for (_, before, expression) in seen {
        let _ = writeln!(script, "{before}\nprint(repr({expression}), file=open('seen', 'a'))");
    }
    python(name).file("s.py", script).words(["s.py"])
}

const STATE: [Seen; 8] = [
    (
        "its flags, warnings, options and limits",
        "",
        "[sys.flags, sys.warnoptions, sys._xoptions, sys.getrecursionlimit(), sys.getswitchinterval(), \
         sys.dont_write_bytecode, sys.getdefaultencoding(), sys.getfilesystemencoding(), sys.executable, sys.prefix, \
         getattr(sys, 'orig_argv', [])[1:]]",
    ),
    ("its path", "", "sys.path"),
    ("its modules", "", "sorted(sys.modules)"),
    (
        "its hooks of imports",
        "",
        "[[getattr(hook, '__name__', hook) for hook in sys.path_hooks], sorted(sys.path_importer_cache)]",
    ),
    (
        "who finds modules, but for one",
        "names = [getattr(finder, '__name__', type(finder).__name__) for finder in sys.meta_path]",
        "[name for name in names if name != 'PyexecModules']",
    ),
    (
        "the names of the main module and of builtins",
        "import builtins",
        "[sorted(set(globals()) - {'names'}), dir(builtins)]",
    ),
    (
        "importlib's own classes",
        "import importlib.machinery as m, _frozen_importlib_external as e",
        "[type(__loader__) is m.SourceFileLoader is e.SourceFileLoader, m.PathFinder.find_spec.__qualname__, \
         m.SourceFileLoader.__qualname__, __spec__]",
    ),
    (
        "its handlers, hooks, filters, threads and tracers",
        "import signal, threading, warnings",
        "[[signal.getsignal(n) for n in range(1, 32)], sys.excepthook, sys.displayhook, warnings.filters, \
         threading.enumerate()[1:], sys.gettrace(), sys.getprofile()]",
    ),
];

const TRACED: [Seen; 5] = [
    ("what a tracer sees of imports", TRACES, "sorted(seen, key=repr)"),
    ("what monitoring sees of imports", MONITORS, "sorted(seen)"),
    ("what a profile has of imports", PROFILES, "sorted(seen)"),
    ("what trace counts", COUNTS, "sorted(seen)"),
    (
        "what allocations are traced to",
        "import tracemalloc\nimport wave\nlibrary = os.path.dirname(os.__file__)\ntraces = tracemalloc.take_snapshot().traces",
        "sorted({frame.filename for trace in traces for frame in trace.traceback \
         if not frame.filename.startswith((library, '<'))})",
    ),
];

const TRACES: &str = "
seen = set()
def tracer(frame, event, argument):
    code = frame.f_code
    if not code.co_filename.startswith('<frozen importlib'):
        seen.add((code.co_filename, code.co_name, frame.f_globals.get('__file__')))
    return tracer
sys.settrace(tracer)
import wave, colorsys
try: import nobody_has_this
except ImportError: pass
sys.settrace(None)
sys.setprofile(tracer)
import quopri
sys.setprofile(None)
";

const MONITORS: &str = "
seen = set()
if hasattr(sys, 'monitoring'):
    events = sys.monitoring.events
    sys.monitoring.use_tool_id(0, 'row')
    for event in (events.PY_START, events.PY_RETURN):
        sys.monitoring.register_callback(0, event, lambda code, *_: seen.add(code.co_filename))
    sys.monitoring.set_events(0, events.PY_START | events.PY_RETURN)
    import wave, colorsys
    try: import nobody_has_this
    except ImportError: pass
    sys.monitoring.set_events(0, 0)
seen = {name for name in seen if not name.startswith('<frozen importlib')}
";

const PROFILES: &str = "
import cProfile, pstats
profile = cProfile.Profile()
profile.enable()
import wave, colorsys
profile.disable()
seen = [(file, line, name) for file, line, name in pstats.Stats(profile).stats if file != '~']
";

const COUNTS: &str = "
import trace
counter = trace.Trace(count=1, trace=0, countfuncs=0)
def work():
    import wave, colorsys
    try: import nobody_has_this
    except ImportError: pass
counter.runfunc(work)
seen = {file for file, line in counter.results().counts}
";

/// What a sub-interpreter finds, said by itself.
const SUBINTERPRETER: &str = "
import sys
try: import _interpreters as interpreters
except ImportError:
    try: import _xxsubinterpreters as interpreters
    except ImportError: import _testcapi as interpreters
code = '''if True:
    import sys, os
    with open('seen', 'a') as file:
        print(sys.path, [getattr(f, '__name__', type(f)) for f in sys.meta_path], sorted(sys.modules), sorted(sys.path_importer_cache), len(sys.path_hooks),
            os.environ.get('PYTHONPATH'), sys.stdout.line_buffering, file=file)
'''
for _ in range(2):
    if hasattr(interpreters, 'create'):
        run = getattr(interpreters, 'exec', None) or interpreters.run_string
        run(interpreters.create(), code)
";

const WORKERS: &str = "
import multiprocessing, sys
def work(number): return number * number, sys.path[0] == place, len(sys.meta_path)
import os
place = os.getcwd()
if __name__ == '__main__':
    for how in ('fork', 'spawn', 'forkserver'):
        with multiprocessing.get_context(how).Pool(1) as pool:
            result = pool.map(work, [3])[0]
            print(how, result[:2], flush=True)
";

/// Names of the user's that Python looks for when it starts.
const CUSTOMIZE: &str = "
import builtins, sys, traceback
builtins.ran = getattr(builtins, 'ran', []) + [__name__]
builtins.stack = {frame.filename for frame in traceback.extract_stack() if not frame.filename.endswith(('<frozen site>', 'site.py', '_bootstrap>', '_bootstrap_external>'))}
";

/// `each` is for one version; with others, it is enough to know that they differ.
fn rows(each: bool) -> Vec<Row> {
    let mut rows = if each {
        STATE.iter().map(|seen| sees(seen.0, std::slice::from_ref(seen))).collect()
    } else {
        vec![sees("all that a script sees of its interpreter", &STATE)]
    };
    // One in each process: what has been imported is not imported again.
    rows.extend(TRACED.iter().map(|seen| sees(seen.0, std::slice::from_ref(seen)).variable("PYTHONTRACEMALLOC", "9")));
    let path: Seen = ("", "", "[sys.path, os.environ.get('PYTHONPATH')]");
    rows.extend([
        sees("its path with one of the user's", &[path]).variable("PYTHONPATH", "lib::/nowhere/at/all:lib"),
        sees("its path with an empty one of the user's", &[path]).variable("PYTHONPATH", ""),
        sees("its path with one of the user's that is but a separator", &[path]).variable("PYTHONPATH", ":"),
        sees("its path where scripts have no place in it", &[path]).variable("PYTHONSAFEPATH", "1"),
        python("a script's own arguments")
            .file("s.py", "import sys; print(sys.argv)")
            .words(["s.py", "a", "-b", "--", ""])
            .prints("['s.py', 'a', '-b', '--', '']\n"),
        python("functions for the exit run last first")
            .file("s.py", "import atexit\nfor name in 'ab': atexit.register(print, name)\n")
            .words(["s.py"])
            .prints("b\na\n"),
        python("a module that fails shows its own lines, and no importer's")
            .file("s.py", "import broken\n")
            .file("broken.py", "import deeper\n")
            .file("deeper.py", "1 / 0\n")
            .words(["s.py"])
            .complains("ZeroDivisionError")
            .exits(1),
        python("a module that nobody has is not found")
            .file("s.py", "def f():\n    import nobody_has_this\nf()\n")
            .words(["s.py"])
            .complains("ModuleNotFoundError: No module named 'nobody_has_this'")
            .exits(1),
        python("warnings are errors")
            .file("s.py", "import wave, warnings\nwarnings.warn('careful')\n")
            .variable("PYTHONWARNINGS", "error")
            .words(["s.py"])
            .complains("UserWarning: careful")
            .exits(1),
        python("a warning is of the line that is to blame")
            .file("s.py", "import library\n")
            .file("library.py", "import warnings\nwarnings.warn('careful', stacklevel=2)\n")
            .words(["s.py"])
            .complains("s.py:1: UserWarning: careful"),
        python("a sub-interpreter").file("s.py", SUBINTERPRETER).words(["s.py"]).variable("PYTHONPATH", "/nowhere::lib"),
        python("processes of multiprocessing")
            .file("s.py", WORKERS)
            .words(["s.py"])
            .prints("fork (9, True)\nspawn (9, True)\nforkserver (9, True)\n"),
        python("what is started anew has the user's environment and nothing else")
            .file(
                "s.py",
                "import os, subprocess, sys\n\
                 look = 'import os, sys; print(os.environ.get(\"PYTHONPATH\"), sys.path, len(sys.meta_path), sys.stdout.line_buffering)'\n\
                 kept = {name: value for name, value in os.environ.items() if not name.startswith('PYEXEC_')}\n\
                 with open('seen', 'w') as file:\n\
                 \x20   print(sorted(kept.items()), file=file, flush=True)\n\
                 \x20   for options in ([], ['-I'], ['-E'], ['-S']):\n\
                 \x20       subprocess.check_call([sys.executable] + options + ['-c', look], stdout=file)\n\
                 os.execv(sys.executable, [sys.executable, '-c', 'import os; print(os.environ.get(\"PYTHONPATH\"))'])\n",
            )
            .variable("PYTHONPATH", "/nowhere:lib")
            .words(["s.py"])
            .prints("/nowhere:lib\n"),
        python("the user's own code for the start runs once, and finds nobody above it")
            .file("lib/sitecustomize.py", CUSTOMIZE)
            .file("lib/usercustomize.py", CUSTOMIZE)
            .file(
                "s.py",
                "import os, sys\nprint(ran, sorted({os.path.basename(name) for name in stack}))\n\
                 print(os.path.relpath(sys.modules['sitecustomize'].__file__))\n",
            )
            .variable("PYTHONPATH", "lib")
            .words(["s.py"])
            .prints(
                "['sitecustomize', 'usercustomize'] ['usercustomize.py']\nlib/sitecustomize.py\n",
            ),
        python("the user's own code for the start that fails")
            .file("lib/sitecustomize.py", "raise RuntimeError('broken')\n")
            .file("s.py", "print('on')\n")
            .variable("PYTHONPATH", "lib")
            .words(["s.py"])
            .prints("on\n")
            .complains("RuntimeError: broken"),
        python("no bytecode but the script's own is left where the user has it kept")
            .file("s.py", "import helper; print(helper.x)\n")
            .file("helper.py", "x = 5\n")
            .variable("PYTHONPYCACHEPREFIX", "compiled")
            .words(["s.py"])
            .prints("5\n"),
        python("no bytecode is left at all")
            .file("s.py", "import helper; print(helper.x)\n")
            .file("helper.py", "x = 5\n")
            .variable("PYTHONDONTWRITEBYTECODE", "1")
            .words(["s.py"])
            .prints("5\n"),
        python("a file beside the script that is called as a module of the standard library")
            .file("s.py", "import json, sched, time\nprint(json.x, sched.x, time.time() > 0)\n")
            .file("json.py", "print('json ran'); x = 1\n")
            .file("sched.py", "print('sched ran'); x = 2\n")
            .file("logging.py", "print('logging ran')\n")
            .words(["s.py"])
            .prints("json ran\nsched ran\n1 2 True\n"),
    ]);
    rows
}

/// One interpreter of each version, by the name of the version.
fn versions() -> BTreeMap<String, Sandbox> {
    let mut found = BTreeMap::new();
    for interpreter in interpreters() {
        let mut sandbox = Sandbox::new();
        sandbox.set("PATH", path_variable(interpreter.parent().expect("lies in a directory")));
        let mut asked = sandbox.command("python3");
        asked.args(["-c", "import sys; print('%d.%02d' % sys.version_info[:2], end='')"]);
        let version = sandbox.attend(asked).end().expect_code(0).text();
        found.entry(version).or_insert(sandbox);
    }
    found
}

#[track_caller]
fn check_every(wanted: impl Fn(usize) -> bool) {
    let versions = versions();
    for (number, sandbox) in versions.values().enumerate() {
        if wanted(number) {
            check_in(sandbox, &rows(number + 1 == versions.len()));
        }
    }
}

#[test]
fn a_script_sees_the_same_interpreter() {
    check_every(|number| number % 2 == 0);
}

#[test]
fn a_script_sees_the_same_interpreter_of_other_versions() {
    check_every(|number| number % 2 == 1);
}

/// The one that measures most often.
#[test]
fn coverage_measures_nothing_of_ours() {
    let sandbox = EnvironmentSandbox::new();
    let measures = "import coverage, os\nmeasured = coverage.Coverage(data_file=None)\nmeasured.start()\nimport mod, wave\n\
                    mod.f()\nmeasured.stop()\nprint(sorted(os.path.basename(f) for f in measured.get_data().measured_files()))\n";
    let row = uv_run("coverage measures the script's own modules")
        .options(&["--no-project", "--with", "coverage"], &["--with", "coverage"])
        .file("s.py", measures)
        .file("mod.py", "def f():\n    return 1\n")
        .words(["s.py"])
        .prints("['mod.py']\n");
    check_in(&sandbox, &[row]);
}
