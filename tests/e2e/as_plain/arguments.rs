//! What stands on the command line.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use serde_json::json;

use super::{check, python, uv_run};

/// Prints what a script can see of how it was named. Paths are those from the working directory.
const SEEN: &str = "import os, sys
argv = [os.path.relpath(sys.argv[0])] + sys.argv[1:]
print(__name__, __spec__ and __spec__.name, __package__, argv, os.path.relpath(sys.path[0]), sep='|')
";

const ARGV: &str = "import sys; print(sys.argv)";

#[test]
fn arguments_are_pythons() {
    check(&[
        python("words after the script are its arguments")
            .file("s.py", "import sys; print(sys.argv)")
            .words(["s.py", "a", "", "b c", "ü"])
            .prints("['s.py', 'a', '', 'b c', 'ü']\n"),
        python("a script that ends with a code ends the command with it")
            .file("s.py", "import sys; print(sys.argv[1:]); sys.exit(7)")
            .words(["s.py", "a"])
            .prints("['a']\n")
            .exits(7)
            .mcp(json!({"script_path": "s.py", "args": ["a"]})),
        python("code is given with -c").words(["-c", "import sys; print(sys.argv)", "a"]).prints("['-c', 'a']\n"),
        python("what an interpreter says of code that fails")
            .words(["-c", "import sys; print('x' * 3, file=sys.stderr); sys.exit(3)"])
            .complains("xxx\n")
            .exits(3),
        python("options after the script are the script's, those of pyexec's names too")
            .file("s.py", ARGV)
            .words(["s.py", "--timeout", "5", "-d", "--verbose", "-c", "x", "--help", "--version", "-"])
            .prints("['s.py', '--timeout', '5', '-d', '--verbose', '-c', 'x', '--help', '--version', '-']\n")
            .mcp(json!({"script_path": "s.py", "args":
                ["--timeout", "5", "-d", "--verbose", "-c", "x", "--help", "--version", "-"]})),
        python("two hyphens after the script are an argument, as often as they stand there")
            .file("s.py", ARGV)
            .words(["s.py", "--", "-x", "--", "y"])
            .prints("['s.py', '--', '-x', '--', 'y']\n"),
        python("two hyphens before the script end the options, and it may be called anything")
            .file("-odd.py", ARGV)
            .words(["--", "-odd.py", "-d", "--", "x"])
            .prints("['-odd.py', '-d', '--', 'x']\n")
            .mcp(json!({"script_path": "-odd.py", "args": ["-d", "--", "x"]})),
        python("options after the code are the code's")
            .words(["-c", ARGV, "--", "-d", "-m", "x", "-c", "y", ""])
            .prints("['-c', '--', '-d', '-m', 'x', '-c', 'y', '']\n"),
        python("code may follow its letter at once")
            .words([&format!("-c{ARGV}"), "-d", "s.py"])
            .prints("['-c', '-d', 's.py']\n"),
        python("options after a hyphen belong to the code on stdin")
            .shell("echo 'import sys; print(sys.argv)' | $RUN - --flag -- -d")
            .prints("['-', '--flag', '--', '-d']\n"),
        python("an argument may have any bytes")
            .file("s.py", "import os, sys; print([os.fsencode(each) for each in sys.argv[1:]])")
            .words([OsString::from("s.py"), OsString::from_vec(b"-\xff\xfe".to_vec()), OsString::from_vec(vec![b'\n'])])
            .prints("[b'-\\xff\\xfe', b'\\n']\n"),
        python("a script may be called like an option's value, and lie anywhere")
            .file("below/5", ARGV)
            .words(["./below/5", "5"])
            .prints("['./below/5', '5']\n"),
        python("a file that may be executed is run by its first line, with all its arguments")
            .file("body", ARGV)
            .shell(
                "{ echo \"#!/usr/bin/env -S ${RUN[*]}\"; cat body; } > tool; chmod +x tool\n\
                 ./tool --timeout 5 -d -- x; rm tool",
            )
            .prints("['./tool', '--timeout', '5', '-d', '--', 'x']\n"),
    ]);
}

#[test]
fn modules_directories_and_zip_files_are_run_as_python_runs_them() {
    let package = |row: super::Row| {
        let relative = "from . import helper; print(helper.NAME)\n";
        row.file("pkg/__init__.py", "")
            .file("pkg/helper.py", "NAME = __name__\n")
            .file("pkg/mod.py", format!("{SEEN}{relative}"))
            .file("pkg/sub/__init__.py", "")
            .file("pkg/sub/__main__.py", SEEN)
    };
    check(&[
        package(python("a module of a package is run by its name, with options of its own"))
            .words(["-m", "pkg.mod", "-d", "--json", "--", "-m", ""])
            .prints("__main__|pkg.mod|pkg|['pkg/mod.py', '-d', '--json', '--', '-m', '']|.\npkg.helper\n")
            .mcp(json!({"module": "pkg.mod", "args": ["-d", "--json", "--", "-m", ""]})),
        package(python("the name of a module may follow its letter at once"))
            .words(["-mpkg.mod", "-d"])
            .prints("__main__|pkg.mod|pkg|['pkg/mod.py', '-d']|.\npkg.helper\n"),
        package(python("of a package its __main__ is run"))
            .words(["-m", "pkg.sub", "a"])
            .prints("__main__|pkg.sub.__main__|pkg.sub|['pkg/sub/__main__.py', 'a']|.\n")
            .mcp(json!({"module": "pkg.sub", "args": ["a"]})),
        python("a module of the standard library reads its stdin")
            .shell("echo '{\"a\": [1]}' | $RUN -m json.tool --compact")
            .prints("{\"a\":[1]}\n"),
        python("a module that is not there is Python's to complain of")
            .words(["-m", "nosuch.module", "-d"])
            .complains("Error while finding module specification for 'nosuch.module'")
            .exits(1)
            .mcp(json!({"module": "nosuch.module", "args": ["-d"]})),
        package(python("and so is a package that cannot be run"))
            .words(["-m", "pkg"])
            .complains("No module named pkg.__main__; 'pkg' is a package and cannot be directly executed")
            .exits(1)
            .mcp(json!({"module": "pkg"})),
        python("a module that fails shows where")
            .file("fails.py", "def f():\n    1 / 0\nf()\n")
            .words(["-m", "fails"])
            .complains("ZeroDivisionError")
            .exits(1),
        python("a directory with a __main__.py is run, and finds its own modules before those beside it")
            .file("app/__main__.py", format!("{SEEN}import helper; print(helper.WHERE)\n"))
            .file("app/helper.py", "WHERE = 'in the directory'\n")
            .file("helper.py", "WHERE = 'beside it'\n")
            .words(["app", "--flag"])
            .prints("__main__|__main__||['app', '--flag']|app\nin the directory\n")
            .mcp(json!({"script_path": "app", "args": ["--flag"]})),
        python("also where its name ends with a slash")
            .file("app/__main__.py", ARGV)
            .words(["./app/", "x"])
            .prints("['./app/', 'x']\n"),
        python("a zip file with a __main__.py is run, and finds its own modules")
            .file("__main__.py", format!("{SEEN}import helper; print(helper.WHERE)\n"))
            .file("helper.py", "WHERE = __file__[-17:]\n")
            .shell(
                "$RUN -m zipfile -c app.zip __main__.py helper.py; mv helper.py other; $RUN app.zip --flag -d\n\
                 rm app.zip",
            )
            .prints("__main__|__main__||['app.zip', '--flag', '-d']|app.zip\napp.zip/helper.py\n"),
        python("so is one that begins with a line for the kernel")
            .file("app/__main__.py", ARGV)
            .shell("$RUN -m zipapp app -o app.pyz -p '/usr/bin/env python3' && $RUN app.pyz --flag -d; rm app.pyz")
            .prints("['app.pyz', '--flag', '-d']\n"),
    ]);
}

/// As `uv run` has them, but for what `python3` alone tells.
#[test]
fn modules_directories_and_zip_files_are_run_as_uv_runs_them() {
    let header = format!("# /// script\n# dependencies = ['no-such-package-at-all']\n# ///\n{ARGV}\n");
    check(&[
        uv_run("the header of a module is not read")
            .file("mod.py", &header)
            .shell("$RUN -m mod --flag -- -d | sed 's|/.*/||'")
            .prints("['mod.py', '--flag', '--', '-d']\n"),
        uv_run("nor is that of a directory")
            .file("app/__main__.py", &header)
            .words(["app", "--flag", "-d"])
            .prints("['app', '--flag', '-d']\n"),
        uv_run("nor is that of a zip file, whose bytes may look like one")
            .file("app/__main__.py", &header)
            .shell("python3 -m zipapp app -o app.pyz -p '/usr/bin/env python3' && $RUN app.pyz --flag; rm app.pyz")
            .prints("['app.pyz', '--flag']\n"),
        uv_run("a module of a package that is asked for beside it is run")
            .options(&["--no-project", "--with", "packaging==24.1"], &["--with", "packaging==24.1"])
            .words(["-m", "packaging.version", "-d"]),
        uv_run("a module of a project is run in the project's environment")
            .file(
                "pyproject.toml",
                "[project]\nname = \"p\"\nversion = \"0\"\nrequires-python = \">=3.8\"\ndependencies = []\n",
            )
            .file("mod.py", "import os, sys; print(os.path.relpath(sys.prefix), sys.argv[1:])\n")
            .words(["-m", "mod", "--frozen"])
            .prints(".venv ['--frozen']\n"),
    ]);
}

#[test]
fn files_that_only_the_caller_can_open_are_read_for_the_job() {
    check(&[
        python("a script may be what another command prints")
            .shell("$RUN <(echo 'import sys; print(__name__, sys.argv[1:])') --flag -- x")
            .prints("__main__ ['--flag', '--', 'x']\n"),
        python("it finds no modules beside the caller, and reads the caller's stdin")
            .file("helper.py", "print('imported')\n")
            .shell("echo typed | $RUN <(printf '%s\\n' 'print(input())' 'import helper')")
            .prints("typed\n")
            .exits(1)
            .whatever_stderr_says(),
        python("its exit code counts").shell("$RUN <(echo 'raise SystemExit(7)'); echo $?").prints("7\n"),
        python("a script may be an open file, which is read from its beginning")
            .file("s.py", "import sys; print(sys.argv[1:])\n")
            .shell("exec 7< s.py; read -r line <&7; $RUN /dev/fd/7 a; $RUN /proc/self/fd/7 -d")
            .prints("['a']\n['-d']\n"),
        python("a script may be a path for stdin, of which nothing is left then")
            .shell("echo 'import sys; print(sys.argv[1:], repr(sys.stdin.read()))' | $RUN /dev/stdin --flag")
            .prints("['--flag'] ''\n"),
        python("a job's own stdin may be named by a path")
            .file("s.py", "import sys; print(open(sys.argv[1]).read())")
            .shell("echo typed | $RUN s.py /dev/stdin; echo again | $RUN s.py /dev/fd/0")
            .prints("typed\n\nagain\n\n"),
        uv_run("variables may be what another command prints")
            .file("s.py", "import os; print(os.environ['GIVEN'], os.environ['OTHER'])")
            .shell("$RUN --env-file <(printf '%s\\n' 'GIVEN=grüezi' 'OTHER=\"a b\"') s.py")
            .prints("grüezi a b\n"),
        uv_run("requirements may be what another command prints")
            .file("s.py", "import packaging; print(packaging.__version__)")
            .shell("$RUN --with-requirements <(echo 'packaging==24.1') s.py")
            .prints("24.1\n"),
    ]);
}
