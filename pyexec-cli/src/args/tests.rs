//! What is read from a command line, and what is refused.

use super::values::Limit;
use super::*;
use pyexec_proto::benchmark::BenchmarkSpec;
use pyexec_proto::job::DEFAULT_GRACE_MS;

fn read(line: &[&str]) -> Result<Cli, clap::Error> {
    parse(std::iter::once("pyexec").chain(line.iter().copied()).map(OsString::from))
}

fn run(line: &[&str]) -> Run {
    let line: Vec<&str> = std::iter::once("run").chain(line.iter().copied()).collect();
    match read(&line) {
        Ok(Cli { verb: Verb::Run(run) }) => *run,
        other => panic!("{line:?} was read as {other:?}"),
    }
}

fn refusal(line: &[&str]) -> String {
    let error = match read(line) {
        Err(error) => error,
        Ok(read) => panic!("{line:?} was read as {read:?}"),
    };
    assert_eq!(error.exit_code(), 2, "{line:?}");
    error.to_string()
}

#[test]
fn a_usage_error_is_explained_like_any_other() {
    for (line, problem, hint) in [
        (&["run", "x.py", "--timeout", "abc"][..], "invalid value 'abc' for '--timeout <TIME>'", "pyexec run --help"),
        (&["run", "x.py", "-c", "pass"], "a script and -c CODE can not be combined", "pyexec run --help"),
        (&["nonsense"], "unrecognized subcommand 'nonsense'", "pyexec --help"),
        (&["daemon"], "a verb is missing", "pyexec daemon --help"),
        (&[], "a verb is missing", "pyexec --help"),
    ] {
        let error = read(line).expect_err("it makes no sense");
        let explained = explain(&error, line.first().map(OsStr::new));
        assert!(explained.0.starts_with(problem), "{line:?}: {explained:?}");
        assert!(explained.1.contains(&format!("`{hint}`")), "{line:?}: {explained:?}");
        assert!(!explained.0.contains("For more information"), "{line:?}: {explained:?}");
    }
}

#[test]
fn the_declared_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn arguments_of_a_script_may_follow_it_directly_or_after_two_hyphens() {
    type Case<'a> = (&'a [&'a str], Option<&'a str>, Option<&'a str>, &'a [&'a str]);
    let cases: [Case<'_>; 9] = [
        (&["x.py"], Some("x.py"), None, &[]),
        (&["x.py", "a", "b"], Some("x.py"), None, &["a", "b"]),
        (&["x.py", "a", "--json"], Some("x.py"), None, &["a", "--json"]),
        (&["x.py", "--", "--epochs", "3"], Some("x.py"), None, &["--epochs", "3"]),
        (&["-", "a"], Some("-"), None, &["a"]),
        (&["-c", "print(1)"], None, Some("print(1)"), &[]),
        (&["-c", "print(1)", "a", "b"], None, Some("print(1)"), &["a", "b"]),
        (&["-c", "print(1)", "--", "--flag", "b"], None, Some("print(1)"), &["--flag", "b"]),
        (&["-c", "-1"], None, Some("-1"), &[]),
    ];
    for (line, file, code, args) in cases {
        let run = run(line);
        assert_eq!(run.file.as_deref(), file.map(std::ffi::OsStr::new), "{line:?}");
        assert_eq!(run.code.as_deref(), code.map(std::ffi::OsStr::new), "{line:?}");
        assert_eq!(run.args, args.iter().map(OsString::from).collect::<Vec<_>>(), "{line:?}");
    }
}

#[test]
fn options_may_stand_before_and_after_the_script() {
    assert!(run(&["--json", "x.py"]).options.json);
    assert!(run(&["x.py", "--json"]).options.json);
    assert!(run(&["-c", "1", "--json"]).options.json);
    assert!(!run(&["x.py", "--", "--json"]).options.json);
    let with = |arguments: &[&str]| Requirements::of_all(run(arguments).options.script.with);
    assert_eq!(with(&["--with", "a", "x.py", "--with", "b"]), ["a", "b"]);
    for (given, expected) in [
        ("a==1.0,b", &["a==1.0", "b"][..]),
        ("a>=1,<2 , b", &["a>=1,<2", "b"]),
        ("a >=1, !=1.5,~=1.2,==1.*", &["a >=1, !=1.5,~=1.2,==1.*"]),
        ("a[x,y]>1,b[z]", &["a[x,y]>1", "b[z]"]),
        ("a ; python_version > '3',b", &["a ; python_version > '3'", "b"]),
        ("a @ https://host/a.whl,./b", &["a @ https://host/a.whl", "./b"]),
        ("", &[]),
        (" , ,", &[]),
        ("a]b,c", &["a]b", "c"]),
    ] {
        assert_eq!(with(&["--with", given, "x.py"]), expected, "{given}");
    }
}

#[test]
fn a_saved_script_is_run_with_the_arguments_and_options_of_a_file() {
    let line = ["scripts", "run", "--label", "l", "train", "--with", "six", "--", "--epochs", "3"];
    let Ok(Cli { verb: Verb::Scripts(ScriptsVerb::Run(of_name)) }) = read(&line) else { panic!("was refused") };
    let of_file = run(&["--label", "l", "train.py", "--with", "six", "--", "--epochs", "3"]);
    assert_eq!((of_name.name.as_str(), &of_name.args), ("train", &of_file.args));
    assert_eq!(of_name.args, ["--epochs", "3"]);
    assert_eq!(format!("{:?}", of_name.options), format!("{:?}", of_file.options));
}

#[test]
fn contradictions_are_usage_errors() {
    for line in [
        &["run"][..],
        &["run", "x.py", "-c", "print(1)"],
        &["run", "x.py", "-e", "NAME"],
        &["run", "x.py", "-e", "=value"],
        &["run", "x.py", "--stdin"],
        &["run", "x.py", "-d", "-i", "--stdin"],
        &["run", "x.py", "--python", "3"],
        &["run", "x.py", "--buffering", "none"],
        &["run", "x.py", "--unknown"],
        &["jobs", "--status", "done"],
        &["jobs", "-n", "0"],
        &["jobs", "-n", "3", "--all"],
        &["logs", "abcd", "--stdout", "--stderr"],
        &["logs", "abcd", "--tail", "3", "--since-byte", "4"],
        &["wait"],
        &["send", "abcd"],
        &["kill"],
        &["kill", "abcd", "--all"],
        &["kill", "abcd", "--now", "--grace", "1s"],
        &["scripts"],
        &["scripts", "save", "x"],
        &["scripts", "rm"],
        &["scripts", "run"],
        &["scripts", "run", "x", "-c", "pass"],
        &["daemon"],
        &["bench"],
        &["bench", "x.py", "--runs", "0"],
        &["bench", "x.py", "--json", "--show-output"],
        &["mcp"],
        &["mcp", "install"],
        &["mcp", "install", "--client", "emacs"],
        &["completions", "cmd"],
        &[],
    ] {
        refusal(line);
    }
}

#[test]
fn a_script_together_with_code_is_told_so() {
    assert!(refusal(&["run", "x.py", "-c", "1"]).starts_with("error: a script and -c CODE can not be combined"));
}

#[test]
fn text_to_send_may_begin_with_a_hyphen() {
    let cases: [(&[&str], Option<&str>, bool); 5] = [
        (&["send", "abcd", "-5"], Some("-5"), false),
        (&["send", "abcd", "hello"], Some("hello"), false),
        (&["send", "abcd", "--eof"], None, true),
        (&["send", "abcd", "bye", "--eof"], Some("bye"), true),
        (&["send", "abcd", "--", "--eof"], Some("--eof"), false),
    ];
    for (line, text, eof) in cases {
        let Ok(Cli { verb: Verb::Send(send) }) = read(line) else { panic!("{line:?} was refused") };
        assert_eq!((send.text.as_deref(), send.eof), (text.map(std::ffi::OsStr::new), eof), "{line:?}");
    }
}

#[test]
fn lengths_of_time_are_read_with_units_or_as_seconds() {
    let cases = [
        ("90s", Some(90_000)),
        ("1h30m", Some(5_400_000)),
        ("250ms", Some(250)),
        ("7", Some(7_000)),
        ("0.5", Some(500)),
        ("0", None),
        ("0s", None),
    ];
    for (given, milliseconds) in cases {
        assert_eq!(given.parse(), Ok(Limit(milliseconds.map(Duration::from_millis))), "{given}");
    }
    for given in ["", "-1", "soon", ".", "1.2.3", "1e3", "NaN", "5 parsecs", "9".repeat(40).as_str()] {
        assert!(given.parse::<Limit>().is_err(), "{given:?} was taken for a length of time");
    }
}

#[test]
fn a_client_is_called_what_it_is_called_on_the_command_line() {
    for client in McpClient::value_variants() {
        let value = client.to_possible_value().expect("none is hidden");
        assert_eq!(value.get_name(), client.name());
    }
}

#[test]
fn the_default_grace_is_the_one_of_the_vocabulary() {
    assert_eq!(run(&["x.py"]).options.grace, Duration::from_millis(DEFAULT_GRACE_MS));
}

#[test]
fn the_options_of_a_benchmark_come_with_it_and_have_defaults() {
    let options = |line: &[&str]| {
        let options = run(line).options.bench_options;
        (options.runs, options.warmup, options.sample_interval.as_millis())
    };
    let default = u128::from(BenchmarkSpec::DEFAULT_SAMPLE_INTERVAL_MS);
    assert_eq!(options(&["--bench", "x.py"]), (1, 0, default));
    assert_eq!(options(&["--bench", "--runs", "3", "--warmup", "2", "--sample-interval", "0.01", "x.py"]), (3, 2, 10));
    for line in [
        &["run", "x.py", "--runs", "3"][..],
        &["run", "x.py", "--warmup", "1"],
        &["run", "x.py", "--bench", "--runs", "0"],
        &["run", "x.py", "--bench", "--runs", "1001"],
        &["run", "x.py", "--bench", "--sample-interval", "0"],
        &["run", "x.py", "--bench", "--sample-interval", "61"],
        &["run", "x.py", "--bench", "-i"],
        &["run", "x.py", "--bench", "--profile"],
        &["run", "x.py", "--top", "3"],
        &["run", "x.py", "--profile", "--top", "0"],
        &["run", "x.py", "--profile", "--top", "101"],
        &["run", "x.py", "--bench", "--keep-leftovers"],
    ] {
        refusal(line);
    }
    assert!(run(&["x.py", "-d", "--bench", "--stdin"]).options.stdin);
}

#[test]
fn scripts_to_compare_are_files_and_code_and_share_their_arguments() {
    let line = ["bench", "a.py", "-c", "pass", "b.py", "--runs", "3", "-c", "-1", "--", "--epochs", "3"];
    let Ok(Cli { verb: Verb::Bench(bench) }) = read(&line) else { panic!("was refused") };
    assert_eq!((bench.files.len(), bench.code.len(), bench.runs, bench.warmup), (2, 2, 3, 1));
    let runs: Vec<Run> = bench.scripts().collect();
    let named: Vec<_> = runs.iter().map(|run| run.file.as_ref().or(run.code.as_ref()).expect("is one")).collect();
    assert_eq!(named, ["a.py", "b.py", "pass", "-1"]);
    for run in runs {
        assert_eq!(run.args, ["--epochs", "3"]);
        assert!(run.options.bench && run.options.bench_options.runs == 3);
    }
}

#[test]
fn an_assignment_is_split_at_its_first_equals_sign() {
    let assignment = |name: &str, value: &str| Assignment { name: name.into(), value: value.into() };
    assert_eq!(
        run(&["x.py", "-e", "A=b=c", "-e", "EMPTY="]).options.script.env,
        [assignment("A", "b=c"), assignment("EMPTY", "")]
    );
}

#[test]
fn a_size_is_a_number_with_a_unit_of_1024() {
    for (given, expected) in
        [("1", 1), ("512M", 512 << 20), ("2g", 2 << 30), ("1.5GiB", 3 << 29), ("64kb", 64 << 10), ("1T", 1 << 40)]
    {
        assert_eq!(super::values::parse_size(given), Ok(expected), "{given}");
    }
    for given in ["", "0", "M", "-1", "1e9", "lots", "5X", "1 G", "inf", "nan", "99999999999T"] {
        assert!(super::values::parse_size(given).is_err(), "{given:?} was taken for a size");
    }
}
