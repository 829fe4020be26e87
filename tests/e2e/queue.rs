//! More jobs than may run at once: who goes first, and who is never held back.

use crate::sandbox::Sandbox;

const ONE: &[(&str, &str)] = &[("PYEXEC_MAX_RUNNING", "1")];

/// Keeps the only place until the file `go` is there.
const HOLDER: &str = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.005)";

fn append(name: &str) -> String {
    format!("open('order', 'a').write('{name}\\n')")
}

fn order(sandbox: &Sandbox) -> String {
    std::fs::read_to_string(sandbox.file("order")).expect("is written").replace('\n', " ")
}

fn wait_until_submitted(sandbox: &Sandbox, number: u64) {
    sandbox.wait_until(&format!("{number} jobs are submitted"), || {
        let total = sandbox.pyexec(["jobs", "--json"]).expect_code(0).json()["total"].clone();
        if total == number { Ok(()) } else { Err(total) }
    });
}

#[test]
fn a_job_that_somebody_waits_for_goes_before_those_nobody_does_and_equals_in_their_order() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon_with(ONE);
    let holder = sandbox.detach(&["-c", HOLDER]);
    sandbox.wait_until_running(&holder);
    let first = sandbox.detach(&["-c", &append("first")]);
    let second = sandbox.detach(&["-c", &append("second")]);
    let waited = sandbox.attend_run(&["-c", &append("waited")]);
    wait_until_submitted(&sandbox, 4);
    let shown = sandbox.show(&second);
    assert_eq!(shown["status"], "pending", "{shown}");
    assert!(
        shown["message"].as_str().is_some_and(|message| message.contains("2 before it, 1 of 1 running")),
        "{shown}"
    );
    sandbox.write("go", "");
    waited.end().expect_code(0);
    sandbox.pyexec(["wait", &first, &second]).expect_code(0);
    assert_eq!(order(&sandbox), "waited first second ");
}

#[test]
fn the_queue_goes_on_in_its_order_after_the_death_of_the_daemon() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon_with(ONE);
    let holder = sandbox.detach(&["-c", HOLDER]);
    sandbox.wait_until_running(&holder);
    let names = ["a", "b", "c", "d"];
    let waiting = names.map(|name| sandbox.detach(&["-c", &append(name)]));
    daemon.restart();
    assert!(waiting.iter().all(|id| sandbox.show(id)["status"] == "pending"));
    sandbox.write("go", "");
    let ids: Vec<&str> = ["wait"].into_iter().chain(waiting.iter().map(String::as_str)).collect();
    sandbox.pyexec(ids).expect_code(0);
    assert_eq!(order(&sandbox), "a b c d ");
}

#[test]
fn no_more_than_the_limit_run_also_right_after_a_restart() {
    let mut sandbox = Sandbox::new();
    // For everybody: a client that misses its daemon may be the one to start the next.
    sandbox.set("PYEXEC_MAX_RUNNING", "1");
    let mut daemon = sandbox.daemon();
    let holder = sandbox.detach(&["-c", HOLDER]);
    sandbox.wait_until_running(&holder);
    // Submitted earlier than the one that gets the place next, because that is waited for.
    let detached = sandbox.detach(&["-c", &append("detached")]);
    let code = "import os, time\nopen('running', 'w').write('x\\n')\nwhile not os.path.exists('on'): time.sleep(0.005)";
    let waited = sandbox.attend_run(&["-c", &format!("{code}\n{}", append("waited"))]);
    wait_until_submitted(&sandbox, 3);
    sandbox.write("go", "");
    sandbox.wait_for_file("running");
    daemon.restart();
    // Also one that is still being started has taken a place.
    let message = sandbox.show(&detached)["message"].clone();
    assert_eq!(message, "waiting for its turn: 0 before it, 1 of 1 running", "two run where one may");
    sandbox.write("on", "");
    waited.end().expect_code(0);
    sandbox.pyexec(["wait", &detached]).expect_code(0);
    assert_eq!(order(&sandbox), "waited detached ");
}

#[test]
fn a_job_started_by_a_job_is_not_held_back_by_its_parent() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon_with(ONE);
    sandbox.write(
        "parent.py",
        format!(
            "
import subprocess
command = [{:?}, 'run', '--no-uv', '-c', 'print(6 * 7)']
print('child said', subprocess.run(command, capture_output=True, text=True, check=True).stdout)
",
            crate::sandbox::PYEXEC
        ),
    );
    assert_eq!(sandbox.run(&["parent.py"]).expect_code(0).text(), "child said 42\n\n");
}

#[test]
fn a_job_that_waits_can_be_cancelled_and_never_runs() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon_with(ONE);
    let holder = sandbox.detach(&["-c", HOLDER]);
    sandbox.wait_until_running(&holder);
    let waiting = sandbox.detach(&["-c", &append("never")]);
    assert_eq!(sandbox.pyexec(["kill", &waiting]).expect_code(0).text(), format!("{waiting} cancelled\n"));
    sandbox.pyexec(["wait", &waiting]).expect_code(130);
    let shown = sandbox.show(&waiting);
    assert_eq!((&shown["status"], &shown["pid"]), (&"cancelled".into(), &serde_json::Value::Null), "{shown}");
    sandbox.write("go", "");
    sandbox.pyexec(["wait", &holder]).expect_code(0);
    sandbox.run(&["-c", "pass"]).expect_code(0);
    assert!(!sandbox.file("order").exists(), "it has run");
}

#[test]
fn a_job_whose_directory_vanishes_while_it_waits_could_not_be_started() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon_with(ONE);
    let holder = sandbox.detach(&["-c", HOLDER]);
    sandbox.wait_until_running(&holder);
    std::fs::create_dir(sandbox.file("gone")).expect("can be made");
    let waiting = sandbox.detach(&["--dir", "gone", "-c", "pass"]);
    std::fs::remove_dir(sandbox.file("gone")).expect("is empty");
    sandbox.write("go", "");
    let ran = sandbox.pyexec(["wait", &waiting]).expect_code(126);
    assert!(ran.stderr.contains("could not enter "), "{ran}");
}
