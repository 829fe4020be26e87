//! Output: every byte, in order, whatever a job does with its streams.

use crate::sandbox::Sandbox;

#[test]
fn a_job_that_opens_dev_stdout_loses_nothing_that_was_printed_before() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "open.py",
        "
print('before')
with open('/dev/stdout', 'w') as again: again.write('again\\n')
print('after')
",
    );
    assert_eq!(sandbox.run(&["open.py"]).expect_code(0).text(), "before\nagain\nafter\n");
}

#[test]
fn a_child_that_tees_to_dev_stderr_loses_nothing_that_was_printed_before() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "tee.py",
        "
import subprocess, sys
print('before', file=sys.stderr)
print('out')
subprocess.run(['tee', '/dev/stderr'], input=b'teed\\n', check=True)
print('after', file=sys.stderr)
",
    );
    let ran = sandbox.run(&["tee.py"]).expect_code(0);
    assert_eq!((ran.text().as_str(), ran.stderr.as_str()), ("out\nteed\n", "before\nteed\nafter\n"));
}
