//! Projects, and environments that are there already.

use std::path::PathBuf;

use serde_json::json;

use super::{Row, check, uv_run};
use crate::environment_sandbox::pythons;

/// Says which environment it runs in, as seen from the working directory.
const SAYS_WHERE: &str = "import os, sys\nprint(os.path.relpath(sys.prefix))\n";
/// Says whether that is one called `.venv`: where uv takes a Python of the system, we have an environment of our own.
const SAYS_WHETHER: &str = "import os, sys\nprint(os.path.basename(sys.prefix) == '.venv')\n";
const PROJECT: &str = "[project]\nname = \"p\"\nversion = \"0\"\nrequires-python = \">=3.8\"\ndependencies = []\n";
const OTHER: &str = "[project]\nname = \"o\"\nversion = \"0\"\nrequires-python = \">=3.8\"\n";
const UNMANAGED: &str = "[project]\nname = \"p\"\nversion = \"0\"\n[tool.uv]\nmanaged = false\n";

/// The project of `p`, and two scripts in it.
fn in_project(name: &'static str) -> Row {
    uv_run(name).file("p/pyproject.toml", PROJECT).file("p/s.py", SAYS_WHERE).file("p/tools/s.py", SAYS_WHERE)
}

/// Runs code, of which uv knows no more than that it is Python's.
fn code(row: Row, code: &'static str) -> Row {
    row.options(&["python"], &[]).words(["-c", code])
}

#[test]
fn projects_are_those_of_uv_run() {
    check(&[
        in_project("the project of the working directory is what a script runs in")
            .directory("p")
            .words(["s.py"])
            .prints(".venv\n")
            .mcp(json!({"script_path": "s.py"})),
        in_project("a project is found from below")
            .directory("p/tools")
            .words(["s.py"])
            .prints("../.venv\n")
            .mcp(json!({"script_path": "s.py"})),
        code(in_project("a project is found from below for code, too").directory("p/tools"), SAYS_WHERE)
            .prints("../.venv\n"),
        in_project("a module is run in the project of the working directory")
            .directory("p/tools")
            .words(["-m", "s"])
            .prints("../.venv\n"),
        in_project("a project is found from where a directory with a __main__.py is")
            .file("p/tools/d/__main__.py", SAYS_WHERE)
            .directory("elsewhere")
            .words(["../p/tools/d"])
            .prints("../p/.venv\n"),
        in_project("a project is found from where the script is")
            .directory("elsewhere")
            .words(["../p/tools/s.py"])
            .prints("../p/.venv\n")
            .mcp(json!({"script_path": "../p/tools/s.py"})),
        in_project("a script's project counts, not that of the working directory")
            .file("o/pyproject.toml", OTHER)
            .directory("o")
            .words(["../p/s.py"])
            .prints("../p/.venv\n")
            .mcp(json!({"script_path": "../p/s.py"})),
        in_project("a script that is named from a project belongs to it")
            .file("s.py", SAYS_WHERE)
            .directory("p")
            .words(["../s.py"])
            .prints(".venv\n"),
        in_project("packages are laid over the project that a script is named from")
            .file("s.py", "import six\nprint(six.__name__)\n")
            .directory("p")
            .options(&["--with", "six"], &["--with", "six"])
            .words(["../s.py"])
            .prints("six\n"),
        in_project("a script that lies in no project makes none")
            .program("s.py", SAYS_WHETHER)
            .directory("p")
            .shell("$RUN \"$(realpath ../s.py)\"")
            .prints("False\n"),
        in_project("a script with a header is run without the project")
            .file("p/h.py", "# /// script\n# dependencies = []\n# ///\nimport os, sys\nprint('.venv' in sys.prefix)\n")
            .directory("p")
            .words(["h.py"])
            .prints("False\n")
            .mcp(json!({"script_path": "h.py"})),
        uv_run("a member of a workspace runs in the environment of the workspace")
            .file(
                "pyproject.toml",
                "[project]\nname = \"w\"\nversion = \"0\"\n[tool.uv.workspace]\nmembers = [\"m\"]\n",
            )
            .file("m/pyproject.toml", OTHER)
            .file("m/s.py", SAYS_WHERE)
            .directory("m")
            .words(["s.py"])
            .prints("../.venv\n")
            .mcp(json!({"script_path": "s.py"})),
        uv_run("a project that is none of a workspace has an environment of its own")
            .file(
                "pyproject.toml",
                "[project]\nname = \"w\"\nversion = \"0\"\n[tool.uv.workspace]\nmembers = [\"m\"]\n",
            )
            .file("o/pyproject.toml", OTHER)
            .file("o/s.py", SAYS_WHERE)
            .words(["o/s.py"])
            .prints("o/.venv\n")
            .mcp(json!({"script_path": "o/s.py"})),
        uv_run("a directory with tools in its pyproject.toml is a project all the same")
            .file("pyproject.toml", "[tool.uv]\nmanaged = false\n")
            .file("s.py", SAYS_WHERE)
            .words(["s.py"])
            .prints(".venv\n"),
        uv_run("a project that uv is not to manage is none")
            .file("pyproject.toml", UNMANAGED)
            .file("s.py", SAYS_WHETHER)
            .words(["s.py"])
            .prints("False\n")
            .mcp(json!({"script_path": "s.py"})),
        in_project("--no-project leaves a project out")
            .file("p/n.py", SAYS_WHETHER)
            .options(&["--no-project"], &["--no-project"])
            .words(["p/n.py"])
            .prints("False\n")
            .mcp(json!({"script_path": "p/n.py", "no_project": true})),
        uv_run("--no-project does not mind a project that makes no sense")
            .file("pyproject.toml", "[project\n")
            .options(&["--no-project", "python"], &["--no-project"])
            .words(["-c", "print(1)"])
            .prints("1\n"),
        in_project("UV_NO_PROJECT leaves a project out")
            .file("p/n.py", SAYS_WHETHER)
            .variable("UV_NO_PROJECT", "true")
            .words(["p/n.py"])
            .prints("False\n")
            .mcp(json!({"script_path": "p/n.py"})),
        in_project("UV_PROJECT names the project")
            .file("s.py", SAYS_WHERE)
            .variable("UV_PROJECT", "p")
            .words(["s.py"])
            .prints("p/.venv\n"),
        in_project("UV_PROJECT_ENVIRONMENT names the project's environment")
            .variable("UV_PROJECT_ENVIRONMENT", "named")
            .directory("p/tools")
            .words(["s.py"])
            .prints("../named\n")
            .mcp(json!({"script_path": "s.py"})),
        in_project("UV_WORKING_DIR says where all of it is done")
            .file("p/n.py", "import os, sys\nprint(os.path.basename(os.getcwd()), os.path.relpath(sys.prefix))\n")
            .variable("UV_WORKING_DIR", "p")
            .words(["n.py"])
            .prints("p .venv\n"),
        in_project("packages beside a project in UV_WORKING_DIR are laid over it there")
            .file("p/n.py", "import os, six\nprint(os.path.basename(os.getcwd()))\n")
            .variable("UV_WORKING_DIR", "p")
            .options(&["--with", "six"], &["--with", "six"])
            .words(["n.py"])
            .prints("p\n"),
        in_project("a project in isolation is run in an environment of that run alone")
            .file("p/n.py", SAYS_WHETHER)
            .variable("UV_ISOLATED", "1")
            .directory("p")
            .words(["n.py"])
            .prints("False\n"),
        uv_run("UV_NO_SYNC leaves a project's environment as it is")
            .file("pyproject.toml", PROJECT.replace("[]", "[\"six\"]"))
            .variable("UV_NO_SYNC", "1")
            .options(&["python"], &[])
            .words(["-c", "import importlib.util as u; print(u.find_spec('six'))"])
            .prints("None\n"),
    ]);
}

/// Each row makes an environment first, `.venv` in the directory where it starts or `env`, which is not found by its name.
#[test]
fn environments_that_are_there_are_those_of_uv_run() {
    let pythons: Vec<(String, PathBuf)> = pythons().into_iter().collect();
    let [(oldest, python), .., (newest, _)] = pythons.as_slice() else {
        panic!("one Python is not enough: {pythons:?}")
    };
    let version = "import os, sys\nprint('%d.%d' % sys.version_info[:2], os.path.basename(sys.prefix))\n";
    let unlike = "import os, sys\nprint('%d.%d' % sys.version_info[:2], os.path.basename(sys.prefix) == '.venv')\n";
    let with = |name, line: &'static str| {
        let make = format!("{} -m venv --without-pip", python.display());
        uv_run(name).file("s.py", SAYS_WHERE).shell(line).variable("MAKE", make)
    };
    check(&[
        with("a .venv in the directory is used", "$MAKE .venv; $RUN s.py").prints(".venv\n"),
        with("a .venv above is used", "$MAKE .venv; cd below; $RUN ../s.py")
            .file("below/kept", "")
            .prints("../.venv\n"),
        with("a directory in an environment is in it", "$MAKE env; cd env; $RUN ../s.py").prints(".\n"),
        with("a .venv of the working directory is used for a script elsewhere", "cd p; $MAKE .venv; $RUN ../s.py")
            .file("p/pyproject.toml", PROJECT)
            .prints(".venv\n"),
        with("--no-project uses a .venv that is there", "$MAKE .venv; $RUN s.py")
            .file("pyproject.toml", PROJECT.replace("[]", "[\"six\"]"))
            .file(
                "s.py",
                "import importlib.util as u, os, sys\nprint(os.path.relpath(sys.prefix), u.find_spec('six'))\n",
            )
            .options(&["--no-project"], &["--no-project"])
            .prints(".venv None\n"),
        with("a .venv that is no environment is passed over", "mkdir .venv; $RUN s.py")
            .file("s.py", SAYS_WHETHER)
            .prints("False\n"),
        with(
            "a .venv whose Python is gone is passed over",
            "$MAKE .venv; ln -sf /nowhere/python .venv/bin/python; \
            ln -sf /nowhere/python .venv/bin/python3; $RUN s.py",
        )
        .file("s.py", SAYS_WHETHER)
        .prints("False\n"),
        with("an active environment is used", "$MAKE env; $RUN s.py").variable("VIRTUAL_ENV", "env").prints("env\n"),
        with("an active environment comes before a .venv", "$MAKE env; $MAKE .venv; $RUN s.py")
            .variable("VIRTUAL_ENV", "env")
            .prints("env\n"),
        with("an active environment is not used in a project", "$MAKE env; $RUN s.py")
            .file("pyproject.toml", PROJECT)
            .variable("VIRTUAL_ENV", "env")
            .prints(".venv\n"),
        with("an active environment that is gone is passed over", "$MAKE .venv; $RUN s.py")
            .variable("VIRTUAL_ENV", "/nowhere")
            .prints(".venv\n"),
        with("an active environment of conda's is used", "$MAKE env; $RUN s.py")
            .variable("CONDA_PREFIX", "env")
            .variable("CONDA_DEFAULT_ENV", "env")
            .prints("env\n"),
        with("conda's own environment is not", "$MAKE base/env; $RUN s.py")
            .file("s.py", "import os, sys\nprint(os.path.basename(os.path.dirname(sys.prefix)) == 'base')\n")
            .variable("CONDA_PREFIX", "base/env")
            .variable("CONDA_DEFAULT_ENV", "base")
            .variable("_CONDA_ROOT", "base/env")
            .variable("UV_PYTHON", newest)
            .prints("False\n"),
        with(
            "packages are laid over an environment that is there",
            "$MAKE .venv; echo 'x = 1' > $(echo .venv/lib/*/site-packages)/mine.py; $RUN s.py",
        )
        .file("s.py", "import mine, six\nprint(mine.x)\n")
        .options(&["--with", "six"], &["--with", "six"])
        .prints("1\n"),
        with("a .venv of another Python than that asked for is not used", "$MAKE .venv; $RUN s.py")
            .file("s.py", unlike)
            .options(&["--python", newest], &["--python", newest])
            .prints(format!("{newest} False\n")),
        with("a .venv of the Python that is asked for is used", "$MAKE .venv; $RUN s.py")
            .file("s.py", version)
            .options(&["--python", oldest], &["--python", oldest])
            .prints(format!("{oldest} .venv\n")),
        with("UV_PYTHON decides whether a .venv is used", "$MAKE .venv; $RUN s.py")
            .file("s.py", version)
            .variable("UV_PYTHON", oldest)
            .prints(format!("{oldest} .venv\n")),
        with(".python-version decides whether a .venv is used", "$MAKE .venv; $RUN s.py")
            .file("s.py", version)
            .file(".python-version", format!("{oldest}\n"))
            .prints(format!("{oldest} .venv\n")),
        with("a script with a header does not use a .venv", "$MAKE .venv; $RUN s.py")
            .file("s.py", "# /// script\n# dependencies = []\n# ///\nimport sys\nprint('.venv' in sys.prefix)\n")
            .prints("False\n"),
    ]);
}
