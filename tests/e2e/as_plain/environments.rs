//! Which packages, in which versions, and which Python.

use super::{check, uv_run};

#[test]
fn environments_are_those_of_uv_run() {
    check(&[uv_run("a script's header decides its packages")
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
