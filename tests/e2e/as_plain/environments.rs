//! Which packages, in which versions, and which Python.

use serde_json::json;

use super::{Row, check, check_in, uv_run};
use crate::environment_sandbox::{EnvironmentSandbox, pythons};
use crate::uv::lock_script;
use crate::wheels::{self, wheel};

#[test]
fn environments_are_those_of_uv_run() {
    check(&[
        uv_run("a script's header decides its packages")
            .file(
                "s.py",
                "# /// script\n# dependencies = ['packaging==24.1']\n# ///\nimport packaging\nprint(packaging.__version__)\n",
            )
            .words(["s.py"])
            .prints("24.1\n"),
        uv_run("packages are named on the command line")
            .options(&["--no-project", "--with", "packaging==24.1", "python"], &["--with", "packaging==24.1"])
            .words(["-c", "import packaging; print(packaging.__version__)"])
            .prints("24.1\n"),
    ]);
}

/// Its user's settings know no index but a directory, which has three versions of `tried-a`, and `tried-b`.
fn sandbox_with_packages() -> EnvironmentSandbox {
    let mut sandbox = EnvironmentSandbox::new();
    for version in ["1.0", "2.0", "3.0rc1"] {
        wheel(&sandbox, "tried-a", version);
    }
    wheel(&sandbox, "tried-b", "1.0");
    let cache = sandbox.root().join("uv-cache");
    sandbox.set("UV_CACHE_DIR", cache);
    let settings = sandbox.root().join("config/uv");
    std::fs::create_dir_all(&settings).expect("can be made");
    let links = wheels::directory(&sandbox).display().to_string();
    std::fs::write(settings.join("uv.toml"), format!("no-index = true\nfind-links = [{links:?}]\n"))
        .expect("can be written");
    sandbox
}

const PRINTS: &str = "import tried_a; print(tried_a.__version__)\n";
const LOWEST: &str = "resolution = 'lowest'\n";
const LOWEST_OF_TABLE: &str = "[tool.uv]\nresolution = 'lowest'\n";

/// A script that needs `tried-a` and prints its version. Each row has one of its own: uv keeps what it has installed for a
/// path, as long as that is enough.
fn script(row: Row, name: &'static str) -> Row {
    row.file(name, format!("# /// script\n# dependencies = ['tried-a']\n# ///\n{PRINTS}"))
}

/// Code that is given `tried-a` and prints its version.
fn code(row: Row) -> Row {
    row.options(&["--no-project", "--with", "tried-a", "python"], &["--with", "tried-a"]).words(["-c", PRINTS])
}

#[test]
fn settings_are_those_of_uv_run() {
    let sandbox = sandbox_with_packages();
    let system = sandbox.root().join("system");
    std::fs::create_dir_all(system.join("uv")).expect("can be made");
    std::fs::write(system.join("uv/uv.toml"), LOWEST).expect("can be written");
    let wheels = wheels::directory(&sandbox).display().to_string();
    let named = format!("no-index = true\nfind-links = [{wheels:?}]\n{LOWEST}");
    check_in(
        &sandbox,
        &[
            code(uv_run("the user's settings hold for code")).prints("2.0\n"),
            script(uv_run("the user's settings hold for a script with a header"), "user.py")
                .words(["user.py"])
                .prints("2.0\n")
                .mcp(json!({"script_path": "user.py"})),
            code(uv_run("uv.toml of the directory holds for code")).file("uv.toml", LOWEST).prints("1.0\n"),
            script(uv_run("uv.toml of the directory holds for a script"), "here.py")
                .file("uv.toml", LOWEST)
                .words(["here.py"])
                .prints("1.0\n")
                .mcp(json!({"script_path": "here.py"})),
            code(uv_run("uv.toml above the directory holds")).file("uv.toml", LOWEST).directory("a/b").prints("1.0\n"),
            script(uv_run("[tool.uv] of a pyproject.toml holds"), "table.py")
                .file("pyproject.toml", LOWEST_OF_TABLE)
                .words(["table.py"])
                .prints("1.0\n"),
            script(uv_run("a pyproject.toml without [tool.uv] is passed over"), "a/over.py")
                .file("uv.toml", LOWEST)
                .file("a/pyproject.toml", "[tool.other]\nx = 1\n")
                .directory("a")
                .words(["over.py"])
                .prints("1.0\n"),
            script(uv_run("uv.toml wins over [tool.uv] beside it"), "both.py")
                .file("pyproject.toml", LOWEST_OF_TABLE)
                .file("uv.toml", "resolution = 'highest'\n")
                .words(["both.py"])
                .prints("2.0\n"),
            script(uv_run("the directory's settings win over the user's where both are set"), "wins.py")
                .file("uv.toml", "find-links = ['nothing-here']\n")
                .file("nothing-here/readme", "")
                .words(["wins.py"])
                .prints("2.0\n"),
            script(uv_run("settings beside the script hold, not those of the working directory"), "sub/beside.py")
                .file("sub/uv.toml", LOWEST)
                .words(["sub/beside.py"])
                .prints("1.0\n"),
            script(uv_run("settings of the working directory do not hold for a script elsewhere"), "elsewhere.py")
                .file("sub/uv.toml", LOWEST)
                .directory("sub")
                .words([sandbox.file("elsewhere.py")])
                .prints("2.0\n"),
            script(uv_run("uv looks through the directories that a path with `..` names"), "above.py")
                .file("sub/uv.toml", LOWEST)
                .directory("sub")
                .words(["../above.py"])
                .prints("1.0\n"),
            code(uv_run("a table [pip] is not for uv run"))
                .file("uv.toml", "[pip]\nresolution = 'lowest'\n")
                .prints("2.0\n"),
            code(uv_run("constraints in uv.toml are not for uv run"))
                .file("uv.toml", "constraint-dependencies = ['tried-a<2']\n")
                .prints("2.0\n"),
            script(uv_run("settings between a script and its project do not hold"), "a/b/between.py")
                .file("a/pyproject.toml", "[project]\nname = 'x'\nversion = '0'\n")
                .file("a/b/uv.toml", LOWEST)
                .words(["a/b/between.py"])
                .prints("2.0\n"),
            script(uv_run("in a workspace those of its root hold"), "w/member/workspace.py")
                .file(
                    "w/pyproject.toml",
                    "[tool.uv]\nresolution = 'lowest'\n[tool.uv.workspace]\nmembers = ['member']\n",
                )
                .file("w/member/pyproject.toml", "[project]\nname = 'm'\nversion = '0'\n")
                .words(["w/member/workspace.py"])
                .prints("1.0\n"),
            code(uv_run("the system's settings hold"))
                .variable("XDG_CONFIG_DIRS", system.display().to_string())
                .prints("1.0\n"),
            code(uv_run("UV_CONFIG_FILE is the only one, and relative to the caller's directory"))
                .file("sub/named.toml", named)
                .file("sub/uv.toml", "resolution = 'highest'\n")
                .variable("UV_CONFIG_FILE", "named.toml")
                .directory("sub")
                .prints("1.0\n"),
            code(uv_run("UV_NO_CONFIG turns all of them off"))
                .file("uv.toml", LOWEST)
                .variable("UV_NO_CONFIG", "1")
                .variable("UV_OFFLINE", "1")
                .variable("UV_FIND_LINKS", wheels.clone())
                .prints("2.0\n"),
            code(uv_run("UV_RESOLUTION wins over settings"))
                .file("uv.toml", "resolution = 'highest'\n")
                .variable("UV_RESOLUTION", "lowest")
                .prints("1.0\n"),
            code(uv_run("UV_PRERELEASE admits release candidates"))
                .variable("UV_PRERELEASE", "allow")
                .prints("3.0rc1\n"),
            code(uv_run("UV_FIND_LINKS is relative to the caller's directory"))
                .variable("UV_NO_CONFIG", "1")
                .variable("UV_OFFLINE", "1")
                .variable("UV_FIND_LINKS", "../../wheels")
                .directory("sub")
                .prints("2.0\n"),
            code(uv_run("requirements in a file may include others"))
                .file("r.txt", "-r more.txt\n-c limits.txt\n")
                .file("more.txt", "tried-a\n")
                .file("limits.txt", "tried-a<2\n")
                .options(&["--no-project", "--with-requirements", "r.txt", "python"], &["--with-requirements", "r.txt"])
                .prints("1.0\n"),
        ],
    );
}

#[test]
fn the_lock_beside_a_script_is_that_of_uv_run() {
    let sandbox = sandbox_with_packages();
    // As it is when there is nothing newer.
    std::fs::write(sandbox.file("uv.toml"), LOWEST).expect("can be written");
    sandbox.write("s.py", format!("# /// script\n# dependencies = ['tried-a']\n# ///\n{PRINTS}"));
    lock_script(&sandbox, "s.py");
    let lock = std::fs::read_to_string(sandbox.file("s.py.lock")).expect("uv has written it");
    let lock = lock.replace("[options]\nresolution-mode = \"lowest\"\n", "");
    let two = format!(
        "# /// script\n# dependencies = ['tried-a', 'tried-b']\n# ///\nimport importlib.util\n\
        print(importlib.util.find_spec('tried_b') is not None)\n{PRINTS}"
    );
    check_in(
        &sandbox,
        &[
            script(uv_run("a script gets the versions of its lock"), "locked.py")
                .file("locked.py.lock", &lock)
                .words(["locked.py"])
                .prints("1.0\n")
                .mcp(json!({"script_path": "locked.py"})),
            script(uv_run("the lock of another script is none of its business"), "other.py")
                .file("s.py.lock", &lock)
                .words(["other.py"])
                .prints("2.0\n"),
            uv_run("a lock that does not fit the header any more is written anew")
                .file("outdated.py", &two)
                .file("outdated.py.lock", &lock)
                .words(["outdated.py"])
                .prints("True\n1.0\n"),
            uv_run("UV_FROZEN takes a lock as it is")
                .file("frozen.py", &two)
                .file("frozen.py.lock", &lock)
                .variable("UV_FROZEN", "1")
                .words(["frozen.py"])
                .prints("False\n1.0\n"),
            script(uv_run("what is named on the command line comes beside what is locked"), "beside.py")
                .file("beside.py.lock", &lock)
                .options(&["--with", "tried-b"], &["--with", "tried-b"])
                .words(["beside.py"])
                .prints("1.0\n"),
            uv_run("a lock is heeded where the header has settings, too")
                .file(
                    "settings.py",
                    format!("# /// script\n# dependencies = ['tried-a']\n# [tool.uv]\n# compile-bytecode = true\n# ///\n{PRINTS}"),
                )
                .file("settings.py.lock", &lock)
                .words(["settings.py"])
                .prints("1.0\n"),
        ],
    );
}

const SAYS_WHICH: &str = "import sys; print('%d.%d' % sys.version_info[:2])\n";

#[test]
fn the_python_is_that_of_uv_run() {
    let sandbox = EnvironmentSandbox::new();
    let default = sandbox.pyexec(["run", "--no-uv", "-c", SAYS_WHICH]).expect_code(0).text();
    let default = default.trim_end();
    let others: Vec<String> = pythons().into_keys().filter(|version| version != default).collect();
    let [one, .., two] = others.as_slice() else { panic!("three Pythons are needed: {default}, {others:?}") };
    let (pin, other_pin) = (format!("{one}\n"), format!("{two}\n"));
    let requires = |version: &str| format!("# /// script\n# requires-python = '=={version}.*'\n# ///\n{SAYS_WHICH}");
    let header = format!("# /// script\n# dependencies = []\n# ///\n{SAYS_WHICH}");
    check_in(
        &sandbox,
        &[
            uv_run("without a wish, the first Python")
                .file("s.py", SAYS_WHICH)
                .words(["s.py"])
                .prints(format!("{default}\n")),
            uv_run(".python-version of the directory decides")
                .file("s.py", SAYS_WHICH)
                .file(".python-version", &pin)
                .words(["s.py"])
                .prints(&pin)
                .mcp(json!({"script_path": "s.py"})),
            uv_run(".python-version above the directory decides")
                .file("a/b/s.py", SAYS_WHICH)
                .file(".python-version", &pin)
                .directory("a/b")
                .words(["s.py"])
                .prints(&pin),
            uv_run(".python-version beside the script decides")
                .file("a/s.py", SAYS_WHICH)
                .file("a/.python-version", &pin)
                .file(".python-version", &other_pin)
                .words(["a/s.py"])
                .prints(&pin),
            uv_run("for code, .python-version of the working directory decides")
                .file(".python-version", &pin)
                .options(&["python"], &[])
                .words(["-c", SAYS_WHICH])
                .prints(&pin),
            uv_run("comments and further lines of .python-version do not count")
                .file("s.py", SAYS_WHICH)
                .file(".python-version", format!("# a comment\n\n{one}\n{two}\n"))
                .words(["s.py"])
                .prints(&pin),
            uv_run(".python-versions decides where there is no .python-version")
                .file("s.py", SAYS_WHICH)
                .file(".python-versions", &pin)
                .words(["s.py"])
                .prints(&pin),
            uv_run("the user's own pin holds where there is no nearer one")
                .file("s.py", SAYS_WHICH)
                .file("config/uv/.python-version", &pin)
                .variable("XDG_CONFIG_HOME", sandbox.file("config").display().to_string())
                .words(["s.py"])
                .prints(&pin),
            uv_run("UV_NO_CONFIG turns .python-version off")
                .file("s.py", SAYS_WHICH)
                .file(".python-version", &pin)
                .variable("UV_NO_CONFIG", "1")
                .words(["s.py"])
                .prints(format!("{default}\n")),
            uv_run("UV_PYTHON wins over .python-version")
                .file("s.py", SAYS_WHICH)
                .file(".python-version", &pin)
                .variable("UV_PYTHON", two)
                .words(["s.py"])
                .prints(&other_pin),
            uv_run("--python wins over UV_PYTHON")
                .file("s.py", SAYS_WHICH)
                .variable("UV_PYTHON", two)
                .options(&["--python", one], &["--python", one])
                .words(["s.py"])
                .prints(&pin),
            uv_run("requires-python of a header decides").file("r.py", requires(one)).words(["r.py"]).prints(&pin),
            uv_run("a .python-version that the header excludes does not hold")
                .file("x.py", requires(two))
                .file(".python-version", &pin)
                .words(["x.py"])
                .prints(&other_pin),
            uv_run("a .python-version that the header admits holds")
                .file("h.py", &header)
                .file(".python-version", &pin)
                .words(["h.py"])
                .prints(&pin),
            uv_run("UV_PYTHON wins over a header that excludes it")
                .file("y.py", requires(two))
                .variable("UV_PYTHON", one)
                .words(["y.py"])
                .prints(&pin),
            uv_run("a range in .python-version is a wish like any other")
                .file("s.py", SAYS_WHICH)
                .file(".python-version", format!("=={one}.*\n"))
                .words(["s.py"])
                .prints(&pin),
        ],
    );
}
