//! Code that is given as text.

use super::{check, python};

#[test]
fn code_as_text_is_pythons() {
    check(&[python("code that raises says where")
        .words(["-c", "raise SystemExit('the end')"])
        .complains("the end\n")
        .exits(1)]);
}
