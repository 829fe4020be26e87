//! `pyexec bench`: what it says of scripts is what their jobs say, in every form it says it in.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::mcp_session::{ERAS, McpSession, base64_decoded, text_of};
use crate::sandbox::{Ran, Sandbox, Shown};
use crate::uv::sandbox_with_uv;

/// Keeps a core busy until it has used so many seconds of it.
const BUSY: &str = "import sys, time\nwhile time.process_time() < float(sys.argv[1]): pass\n";

#[track_caller]
fn bench(sandbox: &Sandbox, arguments: &[&str]) -> Ran {
    sandbox.pyexec(["bench", "--no-uv"].iter().chain(arguments))
}

#[track_caller]
fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn a_script_is_measured_ten_times_after_one_to_warm_up_and_its_output_is_not_shown() {
    let sandbox = Sandbox::new();
    let ran = bench(&sandbox, &["-c", "print('hello')"]).expect_code(0);
    assert!(ran.text().starts_with("-c \"print('hello')\": 10 measured runs, after 1 warm-up run\n"), "{ran}");
    for what in ["wall time", "cpu time", "peak memory", "page faults", "switches", "storage"] {
        assert!(ran.text().contains(&format!("\n  {what}:")), "{what} is missing: {ran}");
    }
    assert!(ran.text().contains(", median "), "{ran}");
    assert!(!ran.text().contains("\nhello"), "{ran}");
    assert_eq!(ran.stderr, "", "nothing but the results, where nobody watches");
    let shown = bench(&sandbox, &["--runs", "2", "--show-output", "-c", "print('hello')"]).expect_code(0);
    assert!(shown.text().starts_with("hello\nhello\nhello\n-c"), "{shown}");
}

#[test]
fn of_two_scripts_the_quicker_is_the_measure_and_every_form_of_the_results_agrees() {
    let sandbox = Sandbox::new();
    sandbox.write("busy.py", BUSY);
    sandbox.write("quick.py", "pass");
    let arguments =
        ["--runs", "3", "--json", "--export-json", "all.json", "--export-markdown", "all.md", "busy.py", "quick.py"];
    let ran = bench(&sandbox, &[&arguments[..], &["--", "0.3"]].concat()).expect_code(0);
    let document = ran.json();
    let exported = std::fs::read_to_string(sandbox.file("all.json")).expect("is written");
    assert_eq!(exported, ran.text());
    let [busy, quick] = &document["results"].as_array().expect("is a list")[..] else { panic!("{document}") };
    assert_eq!((&busy["script"], &quick["script"]), (&"busy.py".into(), &"quick.py".into()));
    assert_eq!(quick["relative"]["wall_time"]["ratio"], 1.0, "{document}");
    let ratio = number(&busy["relative"]["wall_time"]["ratio"]);
    let mean = |of: &Value| number(&of["benchmark"]["wall_time_seconds"]["mean"]);
    assert!(ratio > 1.0 && (ratio - mean(busy) / mean(quick)).abs() < 1e-9, "{document}");
    assert!(number(&busy["relative"]["wall_time"]["stddev"]) > 0.0, "{document}");
    for result in [busy, quick] {
        let job = sandbox.show(result["job_id"].as_str().expect("is text"));
        assert_eq!(job["benchmark"], result["benchmark"]);
    }
    let markdown = std::fs::read_to_string(sandbox.file("all.md")).expect("is written");
    let lines: Vec<&str> = markdown.lines().collect();
    assert_eq!(lines.len(), 6, "{markdown}");
    assert!(lines[5].starts_with("Measured with CPUs "), "{markdown}");
    assert!(lines[2].starts_with("| `busy.py` | 3 | ") && lines[2].ends_with(" |"), "{markdown}");
    assert!(lines[2].contains(&format!("{ratio:.2} ± ")), "{markdown}");
    assert!(lines[3].starts_with("| `quick.py` | 3 | ") && lines[3].ends_with(" | 1.00 |"), "{markdown}");
    let told = bench(&sandbox, &["--runs", "2", "busy.py", "quick.py", "--", "0.2"]).expect_code(0).text();
    let table = told.lines().skip_while(|line| !line.starts_with("RATIO")).collect::<Vec<_>>();
    assert!(table.len() == 3 && table[2].starts_with("1.00 ") && table[2].ends_with("quick.py"), "{told}");
}

#[test]
fn the_first_failure_is_the_exit_code_and_the_others_are_measured_all_the_same() {
    let sandbox = Sandbox::new();
    sandbox.write("fails.py", "import sys; print('nothing to do with it'); sys.exit('the reason')");
    sandbox.write("worse.py", "raise SystemExit(7)");
    let ran = bench(&sandbox, &["--runs", "2", "--json", "fails.py", "missing.py", "-c", "pass", "worse.py"]);
    // Files come first.
    let document = ran.clone().expect_code(1).json();
    let results = document["results"].as_array().expect("is a list");
    let told: Vec<_> = results.iter().map(|one| (one["script"].as_str(), one["exit_code"].as_i64())).collect();
    assert_eq!(told, [(Some("fails.py"), Some(1)), (Some("worse.py"), Some(7)), (Some("-c \"pass\""), Some(0))]);
    assert_eq!((&results[0]["error"], &results[0]["stderr"]), (&"exit code 1".into(), &"the reason".into()));
    assert_eq!((&results[0]["relative"], &results[2]["benchmark"]["runs"]), (&Value::Null, &2.into()), "{document}");
    assert!(ran.stderr.contains("error: fails.py: exit code 1:\n  the reason\nhint: `pyexec logs "), "{ran}");
    assert!(ran.stderr.contains("error: missing.py: no such script: "), "{ran}");
    bench(&sandbox, &["missing.py"]).expect_code(127);
}

#[test]
fn what_a_timeout_ends_is_told_with_what_there_is() {
    let sandbox = Sandbox::new();
    sandbox.write("waits.py", "import time; print('waits', flush=True); x = bytearray(20 << 20); time.sleep(600)");
    let ran = bench(&sandbox, &["--warmup", "0", "--timeout", "2s", "--json", "waits.py"]).expect_code(124);
    let result = ran.json()["results"][0].clone();
    assert_eq!((&result["reason"], &result["benchmark"]["failed_runs"]), (&"timed_out".into(), &1.into()), "{result}");
    assert!(number(&result["benchmark"]["peak_rss_mb"]["max"]) > 20.0, "{result}");
    assert!(ran.stderr.contains("error: waits.py: timed out after 2s"), "{ran}");
}

#[test]
fn ten_megabytes_on_stderr_are_kept_and_only_their_end_is_told() {
    let sandbox = Sandbox::new();
    let code = "import sys; sys.stderr.write(('x' * 1023 + '\\n') * 10240 + 'the end\\n'); sys.exit(3)";
    let ran = bench(&sandbox, &["--warmup", "0", "--json", "-c", code]).expect_code(3);
    let result = ran.json()["results"][0].clone();
    let stderr = result["stderr"].as_str().expect("is text");
    assert!(stderr.ends_with("\nthe end") && stderr.len() < 5_000, "{} bytes", stderr.len());
    let job = sandbox.show(result["job_id"].as_str().expect("is text"));
    assert_eq!(job["stderr_bytes"], (10 << 20) + 8, "{job}");
}

#[test]
fn an_interrupt_cancels_the_script_that_runs_and_those_after_it() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "waits.py",
        "import os, time; open('up.tmp', 'w').write('up\\n'); os.rename('up.tmp', 'up'); time.sleep(600)",
    );
    let run = sandbox.attend(sandbox.cli(["bench", "--no-uv", "waits.py", "-c", "pass"]));
    sandbox.wait_for_file("up");
    run.signal(Signal::INT);
    run.end().expect_code(130);
    let listing = sandbox.pyexec(["jobs", "--json"]).expect_code(0).json();
    assert_eq!((&listing["total"], &listing["jobs"][0]["status"]), (&1.into(), &"cancelled".into()), "{listing}");
}

#[test]
fn what_can_not_be_written_is_found_out_before_anything_runs() {
    let sandbox = Sandbox::new();
    let ran = bench(&sandbox, &["--export-json", "nowhere/x.json", "-c", "pass"]).expect_code(125);
    assert!(ran.stderr.contains("error: cannot write nowhere/x.json"), "{ran}");
    assert_eq!(sandbox.daemons().len(), 0, "there was nothing to start one for");
    bench(&sandbox, &["-", "-"]).expect_code(2);
}

/// Returns once its memory has been looked at a few times: while nothing is printed, that is all its supervisor wakes for.
const LOOKED_AT: &str = "
import os, time
def wakes():
    with open(f'/proc/{os.getppid()}/status') as status:
        return next(int(line.split()[1]) for line in status if line.startswith('voluntary'))
x = bytearray(30 << 20)
before = wakes()
while wakes() < before + 6: time.sleep(0.005)
";

/// Measures at a terminal of 40 columns.
fn at_a_terminal(sandbox: &Sandbox, arguments: &[&str]) -> Shown {
    let options = ["bench", "--no-uv", "--sample-interval", "5ms"];
    sandbox.at_terminal(&sandbox.cli(options.iter().chain(arguments)), 30, 40).end()
}

#[test]
fn a_terminal_of_forty_columns_gets_lines_that_fit_and_a_chart() {
    let mut sandbox = Sandbox::new();
    sandbox.set("LANG", "C.UTF-8");
    sandbox.write("looked_at.py", LOOKED_AT);
    sandbox.write("again.py", LOOKED_AT);
    let told = at_a_terminal(&sandbox, &["--runs", "2", "looked_at.py", "again.py"]).expect_code(0).text();
    assert!(told.contains("\rmeasuring") || told.contains("\x1b[Kmeasuring [1/2] looked_at.py…"), "{told}");
    // What was wiped is not there any more.
    let lines: Vec<&str> = told.lines().map(|line| line.rsplit("\x1b[K").next().unwrap_or(line)).collect();
    let shown = |line: &str| {
        let mut plain = line.replace("\x1b[0m", "");
        for colour in ["\x1b[1m", "\x1b[33m", "\x1b[36m"] {
            plain = plain.replace(colour, "");
        }
        plain
    };
    for line in &lines {
        assert!(shown(line).chars().count() <= 41, "{line:?} in 40 columns:\n{told}");
    }
    assert!(told.contains("\x1b[36m") && told.contains('█') && told.contains("MiB▏"), "{told}");
    assert!(lines.iter().any(|line| line.starts_with("RATIO")), "{told}");
    sandbox.set("NO_COLOR", "1");
    // Python makes a UTF-8 locale of LANG=C.
    sandbox.set("LC_ALL", "C");
    let told = at_a_terminal(&sandbox, &["--runs", "2", "looked_at.py"]).expect_code(0).text();
    let report = told.rsplit("\x1b[K").next().expect("is the rest");
    assert!(report.contains("MiB|") && report.contains('#'), "{told}");
    assert!(report.is_ascii() && !report.contains("\x1b["), "{told}");
}

#[test]
fn what_is_over_before_it_was_looked_at_is_told_in_full_but_for_the_chart() {
    let sandbox = Sandbox::new();
    let ran = bench(&sandbox, &["--runs", "2", "--sample-interval", "60", "-c", "pass"]).expect_code(0);
    assert!(ran.text().contains("\n  no chart:    finished before the first memory sample (60.000 s);"), "{ran}");
    let ran = bench(&sandbox, &["--runs", "2", "--sample-interval", "60", "-c", "pass", "--plot", "x.png"]);
    assert!(ran.expect_code(125).stderr.contains("has no samples to draw"));
    assert!(!sandbox.file("x.png").exists());
}

/// The width and height that a PNG's header gives, after its signature and its end have been looked at.
#[track_caller]
fn size_of_png(file: &[u8]) -> (u32, u32) {
    assert!(file.starts_with(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), "no PNG");
    assert!(file.ends_with(b"IEND\xae\x42\x60\x82") && file.len() < 1 << 20, "not whole, or large: {}", file.len());
    let number = |at: usize| u32::from_be_bytes(file[at..at + 4].try_into().expect("are four"));
    (number(16), number(20))
}

#[test]
fn memory_and_cpu_are_drawn_into_a_png_at_once_and_later() {
    let sandbox = Sandbox::new();
    sandbox.write("looked_at.py", LOOKED_AT);
    let arguments = ["--runs", "1", "--sample-interval", "5ms", "--json", "--plot", "one.png", "looked_at.py"];
    let document = bench(&sandbox, &arguments).expect_code(0).json();
    let one = std::fs::read(sandbox.file("one.png")).expect("is written");
    assert_eq!(size_of_png(&one), (1200, 640));
    let id = document["results"][0]["job_id"].as_str().expect("is text");
    sandbox.pyexec(["show", id, "--plot", "again.png"]).expect_code(0);
    assert_eq!(std::fs::read(sandbox.file("again.png")).expect("is written"), one, "it is the same run");
    let plain = sandbox.detach(&["-c", "pass"]);
    sandbox.finished(&plain);
    sandbox.pyexec(["show", &plain, "--plot", "no.png"]).expect_code(125);
}

#[test]
fn an_agent_is_shown_the_picture_only_where_it_asked_and_has_no_structured_content() {
    let sandbox = sandbox_with_uv();
    for era in ERAS {
        let mut session = McpSession::open(&sandbox, era);
        let mut call = |more: Value| {
            let mut arguments = json!({"script_content": LOOKED_AT, "sample_interval": 0.005});
            arguments.as_object_mut().expect("is one").extend(more.as_object().expect("is one").clone());
            session.call("py_benchmark_script", arguments)
        };
        let asked = call(json!({"plot": true}));
        assert_eq!(asked["isError"], false, "{asked}");
        assert_eq!(asked["content"][0]["type"], "text", "{asked}");
        let picture = &asked["content"][1];
        assert_eq!((&picture["type"], &picture["mimeType"]), (&"image".into(), &"image/png".into()), "{asked}");
        let file = base64_decoded(picture["data"].as_str().expect("is text"));
        assert_eq!(size_of_png(&file), (1200, 640));
        for without in [json!({}), json!({"plot": false}), json!({"plot": true, "markdown_output": false})] {
            let answer = call(without);
            assert_eq!(answer["content"].as_array().map(Vec::len), Some(1), "{answer}");
        }
        let too_short = call(json!({"plot": true, "script_content": "pass", "sample_interval": 60}));
        assert!(text_of(&too_short).contains("No picture: the last run ended before the first sample."), "{too_short}");
        let started = call(json!({"plot": true, "async_mode": true}));
        assert_eq!(started["content"].as_array().map(Vec::len), Some(1), "{started}");
        let text = text_of(&started);
        let id = text.split('`').nth(1).expect("names the job");
        assert!(text.contains(", images=true) waits for the result and draws it"), "{text}");
        let drawn = session.call("py_job_status", json!({"job_id": id, "wait_seconds": 45, "images": true}));
        assert_eq!(drawn["content"][1]["type"], "image", "{drawn}");
    }
}

#[test]
fn of_many_runs_an_agent_is_told_some_and_a_person_all() {
    let sandbox = sandbox_with_uv();
    let mut session = McpSession::open(&sandbox, ERAS[0]);
    let arguments = json!({"script_content": "pass", "runs": 25, "markdown_output": false});
    let told = &session.call("py_benchmark_script", arguments)["structuredContent"];
    let runs = |document: &Value| document["benchmark"]["measured"].as_array().map(Vec::len);
    assert_eq!((&told["benchmark"]["runs"], runs(told)), (&25.into(), Some(20)), "{told}");
    let id = told["job_id"].as_str().expect("is text");
    assert_eq!(runs(&sandbox.show(id)), Some(25));
}
