//! Projects, and environments that are there already.

use super::{check, uv_run};

#[test]
fn projects_are_those_of_uv_run() {
    check(&[uv_run("the project of the working directory is what a script runs in")
        .file(
            "pyproject.toml",
            "[project]\nname = \"p\"\nversion = \"0\"\nrequires-python = \">=3.8\"\ndependencies = []\n",
        )
        .file("s.py", "import os, sys\nprint(os.path.relpath(sys.prefix))\n")
        .words(["s.py"])
        .prints(".venv\n")]);
}
