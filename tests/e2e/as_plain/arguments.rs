//! What stands on the command line.

use serde_json::json;

use super::{check, python};

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
    ]);
}
