//! matplotlib in a job: no windows, and what was drawn is kept. With the real one, which takes a while to install.

use serde_json::{Value, json};

use crate::environment_sandbox::{EnvironmentSandbox, pythons};
use crate::sandbox::Sandbox;

/// As much of matplotlib as decides: who keeps the figures, and closes them at the exit.
const PRETENDED: &str = "
import atexit
class Figure:
    def __init__(self, num): self.num = num
    def savefig(self, file, format):
        if self.num == 3: raise RuntimeError('can not be drawn')
        import warnings; warnings.warn('drawn')
        file.write(b'figure %d' % self.num)
class Manager:
    def __init__(self, num):
        self.num, self.canvas = num, self
        self.figure = Figure(num)
class Gcf:
    figs = {}
    @classmethod
    def get_all_fig_managers(cls): return list(cls.figs.values())
    @classmethod
    def destroy_all(cls): cls.figs.clear()
atexit.register(Gcf.destroy_all)
";

/// A sandbox in whose working directory it lies.
pub(crate) fn pretended() -> Sandbox {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.file("matplotlib")).expect("can be made");
    sandbox.write("matplotlib/__init__.py", "");
    sandbox.write("matplotlib/_pylab_helpers.py", PRETENDED);
    sandbox
}

const OPEN_FIVE: &str = "from matplotlib._pylab_helpers import Gcf, Manager\nimport os, sys\n\
    for n in range(1, 6): Gcf.figs[n] = Manager(n)\n\
    del Gcf.figs[2]\nopen(os.environ['PYEXEC_ARTIFACTS'] + '/figure-4.png', 'w').write('my own')\n";

fn artifacts(sandbox: &Sandbox, arguments: &[&str], code: i32) -> (Value, String) {
    let ran = sandbox.pyexec(["run", "--no-uv", "--json"].iter().chain(arguments)).expect_code(code).json();
    assert_eq!(ran["stdout"], "", "{ran}");
    (ran["artifacts"].clone(), ran["stderr"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn figures_that_are_open_at_the_end_are_saved_and_nothing_else_is() {
    let sandbox = pretended();
    let expected = json!([
        {"path": "figure-1.png", "bytes": 8},
        {"path": "figure-4.png", "bytes": 6},
        {"path": "figure-5.png", "bytes": 8},
    ]);
    assert_eq!(artifacts(&sandbox, &["-c", OPEN_FIVE], 0), (expected.clone(), String::new()));
    assert_eq!(artifacts(&sandbox, &["--buffering", "full", "-c", OPEN_FIVE], 0), (expected.clone(), String::new()));
    let (found, said) = artifacts(&sandbox, &["-c", &format!("{OPEN_FIVE}raise SystemExit(3)")], 3);
    assert_eq!((found, said), (expected.clone(), String::new()));
    let (found, said) = artifacts(&sandbox, &["-c", &format!("{OPEN_FIVE}1/0")], 1);
    assert_eq!(found, expected);
    assert!(said.trim_end().ends_with("ZeroDivisionError: division by zero"), "{said}");
    // A child that ends as Python does is not asked to save them, too.
    let forked = "if os.fork() == 0: del Gcf.figs[1]; sys.exit()\nos.wait(); Gcf.figs.clear()\n";
    let only_its_own = json!([{"path": "figure-4.png", "bytes": 6}]);
    assert_eq!(artifacts(&sandbox, &["-c", &format!("{OPEN_FIVE}{forked}")], 0).0, only_its_own);
}

#[test]
fn no_more_than_twenty_are_saved() {
    let sandbox = pretended();
    let many = "from matplotlib._pylab_helpers import Gcf, Manager\nfor n in range(10, 40): Gcf.figs[n] = Manager(n)";
    let (found, _) = artifacts(&sandbox, &["-c", many], 0);
    let paths: Vec<&str> =
        found.as_array().expect("is an array").iter().filter_map(|artifact| artifact["path"].as_str()).collect();
    assert_eq!((paths.len(), paths.first(), paths.last()), (20, Some(&"figure-10.png"), Some(&"figure-29.png")));
}

#[test]
fn nothing_is_saved_where_the_user_chose_a_backend_or_switched_it_off() {
    let mut sandbox = pretended();
    let own = json!([{"path": "figure-4.png", "bytes": 6}]);
    let code = format!("{OPEN_FIVE}print(os.environ.get('MPLBACKEND'), file=sys.stderr)");
    assert_eq!(artifacts(&sandbox, &["-e", "MPLBACKEND=pdf", "-c", &code], 0), (own.clone(), "pdf\n".to_owned()));
    sandbox.kill_daemon();
    sandbox.set("PYEXEC_CAPTURE_FIGURES", "false");
    assert_eq!(artifacts(&sandbox, &["-c", &code], 0), (own, "None\n".to_owned()));
}

#[test]
fn a_failure_to_import_looks_as_it_does_without_us() {
    let sandbox = pretended();
    sandbox.write("matplotlib/_pylab_helpers.py", "raise RuntimeError('broken')\n");
    let script = sandbox.write("script.py", "import matplotlib._pylab_helpers\n");
    let ours = sandbox.run(&["script.py"]).expect_code(1);
    let mut plain = sandbox.command(crate::sandbox::python());
    plain.arg(script);
    let plain = sandbox.attend(plain).end().expect_code(1);
    let last = |text: &str| text.lines().rev().take(2).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(last(&ours.stderr), last(&plain.stderr), "{ours}");
}

/// What decides of a backend: a mapping that chooses one when it is asked for it.
const CHOOSES: &str = "
import os
from matplotlib import rcsetup
class RcParams(dict):
    def __getitem__(self, name): raise RuntimeError('it is asked too early')
rcParams = RcParams()
dict.__setitem__(rcParams, 'backend', os.environ.get('MPLBACKEND', rcsetup._auto_backend_sentinel))
if os.path.exists('matplotlibrc'): dict.__setitem__(rcParams, 'backend', 'svg')
";

#[test]
fn a_backend_is_chosen_where_the_user_has_chosen_none_and_nobody_inherits_it() {
    let sandbox = pretended();
    sandbox.write(
        "matplotlib/rcsetup.py",
        "class Auto:\n    def __repr__(self): return 'auto'\n_auto_backend_sentinel = Auto()\n",
    );
    sandbox.write("matplotlib/__init__.py", CHOOSES);
    let code = "import matplotlib, os, subprocess, sys\nprint(dict.get(matplotlib.rcParams, 'backend'), flush=True)\n\
                if len(sys.argv) == 1:\n    subprocess.check_call([sys.executable, sys.argv[0], 'x'])\n    \
                print(os.environ.get('MPLBACKEND'))\n";
    sandbox.write("s.py", code);
    let of = |options: &[&str]| sandbox.run(&[options, &["s.py"]].concat()).expect_code(0).text();
    assert_eq!(of(&[]), "agg\nauto\nNone\n");
    assert_eq!(of(&["-e", "MPLBACKEND=pdf"]), "pdf\npdf\npdf\n");
    sandbox.write("matplotlibrc", "backend: svg\n");
    assert_eq!(of(&[]), "svg\nsvg\nNone\n");
}

/// Draws, shows, and closes one of three.
const DRAWS: &str = "
import matplotlib, os, sys
import matplotlib.pyplot as plt
plt.plot([1, 2, 3])
plt.title('\u{6f22}')
plt.show()
plt.figure(2); plt.plot([1]); plt.savefig('own.png'); plt.close()
plt.figure(); plt.plot([3, 2, 1])
print(matplotlib.get_backend().lower())
";

/// A kernel is a process of its own, which has its own way of showing figures; and a matplotlibrc is the user's choice.
#[test]
fn a_notebook_has_its_figures_and_a_matplotlibrc_is_heeded() {
    let sandbox = EnvironmentSandbox::new();
    let executes = "import nbformat\nfrom nbclient import NotebookClient\n\
        cell = nbformat.v4.new_code_cell('import matplotlib.pyplot as plt\\nplt.plot([1, 3, 2])\\nplt.show()')\n\
        notebook = nbformat.v4.new_notebook(cells=[cell])\n\
        NotebookClient(notebook, kernel_name='python3').execute()\n\
        print([sorted(output['data']) for output in cell.outputs if 'data' in output][-1:])\n";
    let with = ["nbclient", "nbformat", "ipykernel", "matplotlib"].map(|package| ["--with", package]).concat();
    let run = |code| sandbox.run_with_uv(&[&with[..], &["-c", code]].concat()).expect_code(0).text();
    assert_eq!(run(executes), "[['image/png', 'text/plain']]\n");
    sandbox.write("matplotlibrc", "backend: svg\n");
    let draws = "import glob, matplotlib, matplotlib.pyplot as plt\nplt.plot([1, 2]); plt.savefig('fig')\n\
                 print(matplotlib.get_backend(), glob.glob('fig.*'))\n";
    assert_eq!(run(draws), "svg ['fig.svg']\n");
}

#[test]
fn the_real_matplotlib_shows_nothing_and_loses_nothing() {
    let mut sandbox = EnvironmentSandbox::new();
    // As on a desktop, where show() would say that there is no window.
    sandbox.set("DISPLAY", ":77");
    let pythons = pythons();
    let minor = |version: &&String| version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
    let ends = [pythons.keys().min_by_key(minor), pythons.keys().max_by_key(minor)];
    for version in ends.into_iter().flatten() {
        let ran = sandbox.run_with_uv(&["--json", "--with", "matplotlib", "--python", version, "-c", DRAWS]);
        let result = ran.clone().expect_code(0).json();
        assert_eq!(result["stdout"], "agg\n", "{ran}");
        let said = result["stderr"].as_str().unwrap_or_default();
        assert!(!said.contains("cannot") && !said.contains("Traceback"), "{said}");
        let found = result["artifacts"].as_array().expect("there are some").clone();
        let paths: Vec<&str> = found.iter().filter_map(|artifact| artifact["path"].as_str()).collect();
        assert_eq!(paths, ["figure-1.png", "figure-2.png"], "{version}: {ran}");
        let id = result["job_id"].as_str().expect("is text");
        let png = sandbox.pyexec(["artifacts", id, "figure-1.png"]).expect_code(0).stdout;
        assert!(png.starts_with(b"\x89PNG\r\n\x1a\n") && png.ends_with(b"IEND\xaeB`\x82"), "{} bytes", png.len());
    }
}
