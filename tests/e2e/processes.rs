//! What a job leaves running is ended with it, whichever way the job ends.

use crate::sandbox::{Sandbox, is_alive};

/// Double-forks a grandchild into a session of its own, that ignores what can be ignored; then does what it is told to.
const ESCAPE: &str = "
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM): signal.signal(number, signal.SIG_IGN)
        os.environ.clear()
        null = os.open('/dev/null', os.O_RDWR)
        for fd in (0, 1, 2): os.dup2(null, fd)
        with open('pid.tmp', 'w') as file: file.write(f'{os.getpid()}\\n')
        os.rename('pid.tmp', 'pid')
        time.sleep(600)
    os._exit(0)
os.wait()
while not os.path.exists('pid'): time.sleep(0.005)
print('escaped')
if sys.argv[1] == 'exit': sys.exit(5)
time.sleep(600)
";

fn escaped(sandbox: &Sandbox) -> u32 {
    let pid = sandbox.wait_for_file("pid").parse().expect("is a pid");
    assert!(is_alive(pid));
    pid
}

#[test]
fn a_grandchild_in_a_session_of_its_own_does_not_survive_a_cancel() {
    let sandbox = Sandbox::new();
    sandbox.write("escape.py", ESCAPE);
    let id = sandbox.detach(&["--grace", "1s", "escape.py", "stay"]);
    let grandchild = escaped(&sandbox);
    sandbox.pyexec(["kill", &id]).expect_code(0);
    assert!(!is_alive(grandchild), "the grandchild has survived");
}

#[test]
fn a_grandchild_in_a_session_of_its_own_does_not_survive_a_kill() {
    let sandbox = Sandbox::new();
    sandbox.write("escape.py", ESCAPE);
    let id = sandbox.detach(&["escape.py", "stay"]);
    let grandchild = escaped(&sandbox);
    let killed = sandbox.pyexec(["kill", "--now", &id]).expect_code(0);
    assert_eq!(killed.text(), format!("{id} killed\n"));
    assert!(!is_alive(grandchild), "the grandchild has survived");
    let job = sandbox.show(&id);
    assert_eq!((&job["reason"], &job["exit_code"]), (&"killed".into(), &(-9).into()), "{job}");
}

#[test]
fn a_grandchild_in_a_session_of_its_own_does_not_survive_a_timeout() {
    let sandbox = Sandbox::new();
    sandbox.write("escape.py", ESCAPE);
    let mut run = sandbox.attend_run(&["--grace", "1s", "--timeout", "2s", "escape.py", "stay"]);
    run.wait_for_stdout("escaped");
    let grandchild = escaped(&sandbox);
    run.end().expect_code(124);
    assert!(!is_alive(grandchild), "the grandchild has survived");
}

#[test]
fn a_grandchild_in_a_session_of_its_own_does_not_survive_the_normal_end_of_its_job() {
    let sandbox = Sandbox::new();
    sandbox.write("escape.py", ESCAPE);
    let ran = sandbox.run(&["--grace", "1s", "escape.py", "exit"]).expect_code(5);
    assert_eq!(ran.text(), "escaped\n");
    let grandchild: u32 = sandbox.wait_for_file("pid").parse().expect("is a pid");
    assert!(!is_alive(grandchild), "the grandchild has survived");
}

#[test]
fn a_job_that_traps_term_gets_to_clean_up() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "trap.py",
        "
import os, signal, sys, time
def clean_up(*_):
    print('cleaning')
    while not os.path.exists('go'): time.sleep(0.005)
    print('clean')
    sys.exit(3)
signal.signal(signal.SIGTERM, clean_up)
os.write(1, b'ready\\n')
time.sleep(600)
",
    );
    let mut run = sandbox.attend_run(&["--grace", "10m", "trap.py"]);
    run.wait_for_stdout("ready");
    let kill = sandbox.attend(sandbox.cli(["kill", "--all"]));
    run.wait_for_stdout("cleaning");
    sandbox.write("go", "");
    assert_eq!(run.end().expect_code(3).text(), "ready\ncleaning\nclean\n");
    assert!(kill.end().expect_code(0).text().ends_with(" cancelled\n"));
}

#[test]
fn a_job_that_ignores_term_is_killed_after_its_grace() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "deaf.py",
        "
import os, signal, time
signal.signal(signal.SIGTERM, lambda *_: print('never mind'))
os.write(1, b'ready\\n')
while True: time.sleep(600)
",
    );
    let mut run = sandbox.attend_run(&["--grace", "1s", "deaf.py"]);
    run.wait_for_stdout("ready");
    sandbox.pyexec(["kill", "--all"]).expect_code(0);
    assert_eq!(run.end().expect_code(137).text(), "ready\nnever mind\n");
}
