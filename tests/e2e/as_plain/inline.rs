//! Code that is given as text. Through MCP it is a script, for which a file of that text in the working directory is the
//! measure; `-c` is Python's own.

use serde_json::{Value, json};

use super::{Row, check, python};

/// A script, from a file `script.py` and as the text that an agent gives.
fn script(name: &'static str, code: impl AsRef<str>, prints: &str) -> Row {
    let code = code.as_ref();
    python(name).file("script.py", code).words(["script.py"]).prints(prints).mcp(json!({"script_content": code}))
}

fn with(mut row: Row, name: &str, value: Value) -> Row {
    row.mcp.as_mut().expect("is a script")[name] = value;
    row
}

const WORKERS: &str = "
import multiprocessing, os, sys
from concurrent.futures import ProcessPoolExecutor
class Point:
    def __init__(self, x): self.x = x
def double(point): return Point(2 * point.x)
if __name__ == '__main__':
    for how in ('fork', 'spawn', 'forkserver'):
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(how)) as pool:
            print(how, [type(point) is Point and point.x for point in pool.map(double, map(Point, [1, 2]))], flush=True)
";

const TRACEBACK: &str = "
import os, traceback
def fails():
    raise ValueError('the reason')
try:
    fails()
except ValueError:
    print(traceback.format_exc().replace(os.path.dirname(__file__) + os.sep, ''), end='')
";

fn rows() -> Vec<Row> {
    let long = format!("# {}\nprint(len(open(__file__).read()))\n", "x".repeat(200_000));
    let length = format!("{}\n", long.len());
    let typed = "import sys\nprint([line for line in sys.stdin])\n";
    vec![
        script(
            "a script knows its name, its arguments and its place",
            "import os, sys\nprint(sys.argv, __name__, os.path.basename(__file__))\n\
             print(os.path.isabs(__file__), sys.path[0] == os.getcwd(), __spec__, type(__loader__).__name__, __package__)\n",
            "['script.py'] __main__ script.py\nTrue True None SourceFileLoader None\n",
        ),
        with(
            script("arguments are the script's", "import sys; print(sys.argv[1:])", "['x', '', 'a b']\n"),
            "args",
            json!(["x", "", "a b"]),
        )
        .words(["script.py", "x", "", "a b"]),
        script("modules beside it are found", "import helper; print(helper.x)", "5\n").file("helper.py", "x = 5\n"),
        script("files are those of the working directory", "print(open('data').read())", "text\n").file("data", "text"),
        script(
            "the path of a script where none is wanted",
            "import sys\ntry:\n    import helper\nexcept ImportError: helper = None\n\
             print((helper is None) == (sys.version_info >= (3, 11)))\n",
            "True\n",
        )
        .file("helper.py", "")
        .variable("PYTHONSAFEPATH", "1"),
        script(
            "workers of any kind import what they are to do",
            WORKERS,
            "fork [2, 4]\nspawn [2, 4]\nforkserver [2, 4]\n",
        ),
        script(
            "its own source can be read",
            "import inspect\ndef f(): return 'the source'\nprint(inspect.getsource(f), end='')\n",
            "def f(): return 'the source'\n",
        ),
        script(
            "its classes can be pickled",
            "import pickle\nclass C: pass\nprint(pickle.loads(pickle.dumps(C)) is C)\n",
            "True\n",
        ),
        script(
            "a traceback has its lines",
            TRACEBACK,
            "Traceback (most recent call last):\n  File \"script.py\", line 6, in <module>\n    fails()\n  \
             File \"script.py\", line 4, in fails\n    raise ValueError('the reason')\nValueError: the reason\n",
        ),
        script("it may be longer than an argument", &long, &length),
        script(
            "it says in what it is written, and how its lines end",
            "# -*- coding: utf-8 -*-\r\nprint('gr\u{fc}n',\r\n    ascii('''a\r\nb'''))\r\n",
            "gr\u{fc}n 'a\\nb'\n",
        ),
        with(script("stdin is its own", typed, "['one\\n', 'two']\n"), "stdin", "one\ntwo".into())
            .shell("printf 'one\\ntwo' | $RUN script.py"),
        script("it says how it ends", "import sys; sys.exit(7)", "").exits(7),
        script("an error of syntax ends it", "print(1\n", "").exits(1).whatever_stderr_says(),
        python("code as an argument has no file")
            .words(["-c", "import sys; print(sys.argv, sys.path[0], '__file__' in globals())", "x"])
            .prints("['-c', 'x']  False\n"),
        python("code that raises says where")
            .words(["-c", "raise SystemExit('the end')"])
            .complains("the end\n")
            .exits(1),
    ]
}

#[test]
fn code_as_text_is_pythons() {
    check(&rows());
}
