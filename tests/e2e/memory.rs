//! What a job is said to have used is its own, however large the daemon is.

use std::io::Write;

use crate::sandbox::{Sandbox, python};

/// The peak of `python3 -c CODE` without pyexec, in MiB, as its parent's `wait4` tells it.
fn plain_peak(sandbox: &Sandbox, code: &str) -> f64 {
    let measure = "import resource, subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], check=True); \
                   print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";
    let mut command = sandbox.command(python());
    command.args(["-c", measure, code]);
    let kib = sandbox.attend(command).end().expect_code(0).text();
    kib.trim().parse::<f64>().expect("is a number") / 1024.0
}

/// What is said of a job, in MiB.
fn peak(job: &serde_json::Value) -> f64 {
    job["usage"]["peak_rss_mb"].as_f64().expect("is a number")
}

#[test]
fn the_peak_of_a_trivial_job_is_not_that_of_a_large_daemon() {
    const PART: usize = 30 << 20;
    const PARTS: usize = 15;
    let sandbox = Sandbox::new();
    let daemon = sandbox.daemon();
    // Each has sent all but the last byte of a large request, which the daemon has to keep.
    let mut unfinished = Vec::new();
    for _ in 0..PARTS {
        let mut stream = sandbox.greeted();
        stream.write_all(&u32::try_from(PART).expect("fits").to_be_bytes()).expect("can be written");
        stream.write_all(&vec![1; PART - 1]).expect("is read");
        unfinished.push(stream);
    }
    sandbox.wait_until("the daemon has all parts but one", || {
        let status = sandbox.daemon_status();
        let least = u64::try_from(PART * (PARTS - 1)).expect("fits");
        if status["rss_bytes"].as_u64().is_some_and(|bytes| bytes > least) { Ok(()) } else { Err(status) }
    });
    let id = sandbox.detach(&["-c", "pass"]);
    let job = sandbox.finished(&id);
    let (peak, plain) = (peak(&job), plain_peak(&sandbox, "pass"));
    assert!((plain / 2.0..plain * 2.0).contains(&peak), "{peak} MiB, where a plain start has {plain}");
    assert_eq!(sandbox.daemon_pid(), daemon.pid());
    drop(unfinished);
}

#[test]
fn what_a_job_really_uses_is_measured_in_its_children_too() {
    let sandbox = Sandbox::new();
    for code in [
        "x = bytearray(200 << 20)",
        "import subprocess, sys; subprocess.run([sys.executable, '-c', 'x = bytearray(200 << 20)'])",
    ] {
        let id = sandbox.detach(&["-c", code]);
        let (peak, plain) = (peak(&sandbox.finished(&id)), plain_peak(&sandbox, code));
        assert!(peak >= 200.0 && peak < plain * 1.25, "{peak} MiB for {code}, which has {plain} by itself");
    }
}

/// Allocators like to keep what is freed, for the next that is as large.
#[test]
fn the_daemon_gives_the_memory_of_large_scripts_back() {
    let sandbox = Sandbox::new();
    const SIZE: usize = 15 << 20;
    let script = sandbox.write("script.py", format!("#{}\nprint('done')\n", "#".repeat(SIZE)));
    let daemon = sandbox.daemon();
    sandbox.run(&["-c", "pass"]).expect_code(0);
    let before = sandbox.daemon_status()["rss_bytes"].as_u64().expect("is a number");
    for _ in 0..3 {
        let mut run = sandbox.cli(["run", "--no-uv", "-"]);
        run.stdin(std::fs::File::open(&script).expect("is there"));
        assert_eq!(sandbox.attend(run).end().expect_code(0).text(), "done\n");
    }
    sandbox.wait_until("the daemon keeps less than one of them", || {
        let status = sandbox.daemon_status();
        let most = before + u64::try_from(SIZE).expect("fits");
        if status["rss_bytes"].as_u64().is_some_and(|bytes| bytes < most) { Ok(()) } else { Err(status) }
    });
    assert_eq!(sandbox.daemon_pid(), daemon.pid());
}
