//! What people at a terminal see of jobs that go on: a line at its foot, and the live table.

use crate::environment_sandbox::EnvironmentSandbox;
use crate::sandbox::Sandbox;

/// Reports that it is at 1 of 4, and goes on when there is a file `go`.
const QUIET: &str = "
import os, time
from pyexec_progress import progress
progress(1, 4, 'quietly')
while not os.path.exists('go'): time.sleep(0.01)
print('out', flush=True)
while not os.path.exists('end'): time.sleep(0.01)
";

#[test]
fn a_job_that_says_nothing_is_followed_with_a_line_of_which_nothing_stays() {
    let mut sandbox = Sandbox::new();
    // The bar is drawn with letters that not every locale has.
    sandbox.set("LANG", "C.UTF-8");
    let id = sandbox.detach(&["-c", QUIET]);
    let terminal = sandbox.at_terminal(&sandbox.cli(["logs", "-f", &id]), 8, 100);
    terminal.wait_for("how far it is", |screen| {
        screen.contains("running") && screen.contains("━━━━──") && screen.contains("25% (1/4)")
    });
    sandbox.write("go", "");
    terminal.wait_for("the line is below what was printed", |screen| {
        let lines: Vec<&str> = screen.lines().collect();
        lines.len() == 2 && lines[0] == "out" && lines[1].contains("25% (1/4)")
    });
    sandbox.write("end", "");
    let shown = terminal.end().expect_code(0);
    assert_eq!(shown.screen.trim_end(), "out");
    assert!(shown.is_cursor_visible);
}

#[test]
fn a_narrow_terminal_gets_a_line_that_fits() {
    let sandbox = Sandbox::new();
    let id = sandbox.detach(&["-c", QUIET]);
    let terminal = sandbox.at_terminal(&sandbox.cli(["wait", &id]), 8, 30);
    let screen = terminal.wait_for("how far it is", |screen| screen.contains("25%"));
    assert!(screen.lines().count() == 1 && !screen.contains('━'), "{screen}");
    sandbox.write("go", "");
    sandbox.write("end", "");
    let shown = terminal.end().expect_code(0);
    assert_eq!(shown.screen.trim_end(), "");
}

#[test]
fn a_run_says_what_it_waits_for_and_then_the_terminal_is_the_jobs_own() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon_with(&[("PYEXEC_MAX_RUNNING", "1")]);
    let first = sandbox.detach(&["-c", QUIET]);
    sandbox.wait_until_running(&first);
    let terminal = sandbox.at_terminal(&sandbox.cli(["run", "--no-uv", "-c", "print('second')"]), 8, 80);
    terminal.wait_for("what it waits for", |screen| screen.contains("pending") && screen.contains("wait"));
    sandbox.write("go", "");
    sandbox.write("end", "");
    let shown = terminal.end().expect_code(0);
    assert_eq!(shown.screen.trim_end(), "second");
    sandbox.finished(&first);
}

#[test]
fn while_an_environment_is_built_a_line_says_so() {
    let sandbox = EnvironmentSandbox::new();
    sandbox.hold_installations();
    let terminal =
        sandbox.at_terminal(&sandbox.cli(["run", "--with", "six", "-c", "import six; print('six')"]), 12, 80);
    sandbox.wait_until_held();
    terminal.wait_for("what goes on", |screen| {
        let last = screen.lines().last().unwrap_or_default();
        last.contains("pending") && last.contains("environment")
    });
    sandbox.let_installations_go_on();
    let shown = terminal.end().expect_code(0);
    assert!(shown.screen.trim_end().ends_with("\nsix") && !shown.screen.contains("pending"), "{}", shown.screen);
}

#[test]
fn a_bar_that_the_job_draws_is_not_drawn_over() {
    let sandbox = Sandbox::new();
    let code = "import os, sys, time\nsys.stderr.write('\\rmine 1/4 25%'); sys.stderr.flush()\n\
                while not os.path.exists('end'): time.sleep(0.01)";
    let id = sandbox.detach(&["-c", code]);
    let terminal = sandbox.at_terminal(&sandbox.cli(["logs", "-f", &id]), 8, 80);
    terminal.wait_for("its own bar", |screen| screen.contains("mine 1/4 25%"));
    // By the time somebody who came later is shown a line, it would have been shown here.
    let later = sandbox.at_terminal(&sandbox.cli(["wait", &id]), 8, 80);
    later.wait_for("a line", |screen| screen.contains("running"));
    sandbox.write("end", "");
    let shown = terminal.end().expect_code(0);
    later.end().expect_code(0);
    assert_eq!(shown.screen.trim_end(), "mine 1/4 25%");
    assert!(!shown.text().contains("running"), "{}", shown.text());
}

#[test]
fn away_from_a_terminal_there_is_nothing_of_it() {
    let sandbox = Sandbox::new();
    let id = sandbox.detach(&["-c", QUIET]);
    let mut follow = sandbox.attend(sandbox.cli(["logs", "-f", &id]));
    let wait = sandbox.attend(sandbox.cli(["wait", &id]));
    sandbox.write("go", "");
    follow.wait_for_stdout("out");
    sandbox.write("end", "");
    let (follow, wait) = (follow.end().expect_code(0), wait.end().expect_code(0));
    assert_eq!((follow.text().as_str(), follow.stderr.as_str()), ("out\n", ""));
    assert_eq!((wait.text().as_str(), wait.stderr.as_str()), ("", ""));
    let ran = sandbox.pyexec(["jobs", "--watch"]).expect_code(2);
    assert!(ran.stderr.contains("--watch needs a terminal"), "{ran}");
}

#[test]
fn the_live_table_follows_the_jobs_the_terminal_and_the_daemon() {
    let sandbox = Sandbox::new();
    let id = sandbox.detach(&["--label", "first", "-c", QUIET]);
    let mut terminal = sandbox.at_terminal(&sandbox.cli(["jobs", "--watch"]), 12, 90);
    let row = |screen: &str, words: &[&str]| {
        screen.lines().any(|line| line.contains(&id[..8]) && words.iter().all(|word| line.contains(word)))
    };
    terminal.wait_for("the job", |screen| row(screen, &["first", "running", "25%"]));
    let second = sandbox.detach(&["--label", "second", "-c", "print(2)"]);
    terminal.wait_for("one that came later", |screen| {
        let is_there = |line: &str| line.contains(&second[..8]) && line.contains("completed");
        screen.lines().any(is_there) && screen.starts_with("1 running, 0 pending, 2 in all")
    });
    // Narrow: less of each, no line longer than the terminal, the most telling stays.
    terminal.resize(6, 40);
    let screen = terminal.wait_for("a table that fits", |screen| {
        screen.starts_with("1 running, 0 pending, 2 in all (1-1)") && row(screen, &["running", "25%"])
    });
    assert!(!screen.contains("first") && screen.contains("q: leave"), "{screen}");
    terminal.resize(12, 90);
    terminal.wait_for("all of it again", |screen| row(screen, &["first", "running"]) && screen.contains("completed"));
    // The daemon's death is not an event.
    let daemon = sandbox.daemon_pid();
    sandbox.kill_daemon();
    let third = sandbox.detach(&["-c", "print(3)"]);
    terminal.wait_for("what the next daemon has been given", |screen| screen.contains(&third[..8]));
    assert_ne!(sandbox.daemon_pid(), daemon);
    // Cancelled only after a yes.
    terminal.press("c");
    terminal.wait_for("the question", |screen| screen.contains(&format!("cancel {}? y: yes", &id[..8])));
    terminal.press("n");
    terminal.wait_for("no question", |screen| screen.contains("q: leave") && row(screen, &["running"]));
    assert_eq!(sandbox.show(&id)["status"], "running");
    terminal.press("cy");
    terminal.wait_for("its end", |screen| row(screen, &["cancelled"]));
    terminal.press("q");
    let shown = terminal.end().expect_code(0);
    // The terminal is as it was.
    assert_eq!(shown.screen.trim_end(), "");
    assert!(shown.is_cursor_visible);
}

#[test]
fn a_live_table_that_is_ended_leaves_the_terminal_as_it_was() {
    let sandbox = Sandbox::new();
    for keys in ["\u{3}", "\u{1b}"] {
        let mut terminal = sandbox.at_terminal(&sandbox.cli(["jobs", "--watch"]), 12, 40);
        terminal.wait_for("that there is nothing", |screen| screen.contains("no jobs"));
        terminal.press(keys);
        let shown = terminal.end().expect_code(0);
        assert!(shown.is_cursor_visible && shown.screen.trim_end().is_empty(), "{}", shown.screen);
    }
    let terminal = sandbox.at_terminal(&sandbox.cli(["jobs", "--watch"]), 12, 40);
    terminal.wait_for("that there is nothing", |screen| screen.contains("no jobs"));
    terminal.signal(rustix::process::Signal::TERM);
    let shown = terminal.end().expect_code(143);
    assert!(shown.is_cursor_visible && shown.screen.trim_end().is_empty(), "{}", shown.screen);
}
