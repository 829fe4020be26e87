//! What a job is said to have used is its own, however large the daemon is.

use std::io::Write;

use crate::sandbox::{Sandbox, python};

/// The peak of `python3 -c pass`, in MiB, as its parent's `wait4` tells it.
fn peak_of_a_plain_start(sandbox: &Sandbox) -> f64 {
    let code = "import resource, subprocess, sys; subprocess.run([sys.executable, '-c', 'pass'], check=True); \
                print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";
    let mut command = sandbox.command(python());
    command.args(["-c", code]);
    let kib = sandbox.attend(command).end().expect_code(0).text();
    kib.trim().parse::<f64>().expect("is a number") / 1024.0
}

#[test]
fn the_peak_of_a_trivial_job_is_not_that_of_a_daemon_of_400_megabytes() {
    const PART: usize = 30 << 20;
    let sandbox = Sandbox::new();
    let daemon = sandbox.daemon();
    // Each has sent all but the last byte of a large request, which the daemon has to keep.
    let mut unfinished = Vec::new();
    for _ in 0..15 {
        let mut stream = sandbox.greeted();
        stream.write_all(&u32::try_from(PART).expect("fits").to_be_bytes()).expect("can be written");
        stream.write_all(&vec![1; PART - 1]).expect("is read");
        unfinished.push(stream);
    }
    sandbox.wait_until("the daemon has 400 MB", || {
        let status = sandbox.daemon_status();
        if status["rss_bytes"].as_u64().is_some_and(|bytes| bytes > 400_000_000) { Ok(()) } else { Err(status) }
    });
    let id = sandbox.detach(&["-c", "pass"]);
    let job = sandbox.finished(&id);
    let (peak, plain) = (job["usage"]["peak_rss_mb"].as_f64().expect("is a number"), peak_of_a_plain_start(&sandbox));
    assert!(peak < plain + 16.0, "{peak} MiB, where a plain start has {plain}");
    assert!(peak > 2.0, "{peak} MiB is no Python");
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
        let peak = sandbox.finished(&id)["usage"]["peak_rss_mb"].as_f64().expect("is a number");
        assert!((200.0..300.0).contains(&peak), "{peak} MiB for {code}");
    }
}

/// Allocators like to keep what is freed, for the next that is as large.
#[test]
fn the_daemon_gives_the_memory_of_large_scripts_back() {
    let sandbox = Sandbox::new();
    let script = sandbox.write("script.py", format!("#{}\nprint('done')\n", "#".repeat(15 << 20)));
    let daemon = sandbox.daemon();
    for _ in 0..3 {
        let mut run = sandbox.cli(["run", "--no-uv", "-"]);
        run.stdin(std::fs::File::open(&script).expect("is there"));
        assert_eq!(sandbox.attend(run).end().expect_code(0).text(), "done\n");
    }
    sandbox.wait_until("the daemon is small again", || {
        let status = sandbox.daemon_status();
        if status["rss_bytes"].as_u64().is_some_and(|bytes| bytes < 60_000_000) { Ok(()) } else { Err(status) }
    });
    assert_eq!(sandbox.daemon_pid(), daemon.pid());
}
