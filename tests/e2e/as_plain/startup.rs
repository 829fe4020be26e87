//! What a script can see of how its interpreter was started.

use super::{check, python};

#[test]
fn a_script_sees_the_same_interpreter() {
    check(&[python("its flags are the same")
        .file("s.py", "import sys; print(sys.flags.isolated, sys.flags.no_site)")
        .words(["s.py"])
        .prints("0 0\n")]);
}
