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
        (&["run", "--timeout", "abc", "x.py"][..], "invalid value 'abc' for '--timeout <TIME>'", "pyexec run --help"),
        (&["run", "-c"], "a value is required for '-c <CODE>'", "pyexec run --help"),
        (&["run", "-d"], "the following required arguments were not provided", "pyexec run --help"),
        (&["nonsense"], "unrecognized subcommand 'nonsense'", "pyexec --help"),
        (&["daemon"], "no command given", "pyexec daemon --help"),
        (&[], "no command given", "pyexec --help"),
    ] {
        let error = read(line).expect_err("it makes no sense");
        let explained = explain(&error, line.first().map(OsStr::new));
        assert!(explained.0.starts_with(problem), "{line:?}: {explained:?}");
        assert!(explained.1.contains(&format!("`{hint}`")), "{line:?}: {explained:?}");
        assert!(!explained.0.contains("For more information"), "{line:?}: {explained:?}");
    }
}

#[test]
fn nobody_is_told_to_make_a_script_of_an_option() {
    for (line, alike) in
        [(&["run", "--unknown", "x.py"][..], None), (&["run", "--timeuot", "5", "x.py"], Some("--timeout"))]
    {
        let said = refusal(line);
        assert!(said.contains(line[1]) && !said.contains("-- "), "{said}");
        assert!(alike.is_none_or(|alike| said.contains(alike)), "{said}");
    }
}

#[test]
fn the_declared_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn what_follows_the_script_the_code_or_the_module_is_the_scripts_whatever_it_looks_like() {
    let file = |name: &str| Source::File(name.into());
    let code = |code: &str| Source::Code(code.into());
    let module = |module: &str| Source::Module(module.into());
    let cases: [(&[&str], Source, &[&str]); 27] = [
        (&["x.py"], file("x.py"), &[]),
        (&["x.py", "a", "b"], file("x.py"), &["a", "b"]),
        (&["x.py", "--timeout", "5", "-d"], file("x.py"), &["--timeout", "5", "-d"]),
        (&["x.py", "--help"], file("x.py"), &["--help"]),
        (&["x.py", "-c", "pass"], file("x.py"), &["-c", "pass"]),
        (&["x.py", "--", "--epochs", "--", "3"], file("x.py"), &["--", "--epochs", "--", "3"]),
        (&["x.py", "", "-"], file("x.py"), &["", "-"]),
        (&["--", "x.py", "--", "-d"], file("x.py"), &["--", "-d"]),
        (&["--", "-c", "pass"], file("-c"), &["pass"]),
        (&["-d", "--", "--odd.py", "-d"], file("--odd.py"), &["-d"]),
        (&["-", "a", "--json"], file("-"), &["a", "--json"]),
        (&["--label", "x.py", "y.py", "-d"], file("y.py"), &["-d"]),
        (&["--label=x.py", "y.py", "-d"], file("y.py"), &["-d"]),
        (&["-e", "A=1", "y.py", "-d"], file("y.py"), &["-d"]),
        (&["-eA=1", "y.py", "-d"], file("y.py"), &["-d"]),
        (&["-c", "print(1)"], code("print(1)"), &[]),
        (&["-c", "print(1)", "a", "--flag", "--", "-d"], code("print(1)"), &["a", "--flag", "--", "-d"]),
        (&["-cprint(1)", "-d", "x.py"], code("print(1)"), &["-d", "x.py"]),
        (&["-dc", "print(1)", "-d"], code("print(1)"), &["-d"]),
        (&["-dcprint(1)", "-d"], code("print(1)"), &["-d"]),
        (&["-c", "-1"], code("-1"), &[]),
        (&["-c", "--", "-d"], code("--"), &["-d"]),
        (&["-c", "", "-m", "a"], code(""), &["-m", "a"]),
        (&["-m", "http.server", "-d", "."], module("http.server"), &["-d", "."]),
        (&["--with", "pytest", "-m", "pytest", "-m", "slow"], module("pytest"), &["-m", "slow"]),
        (&["-mpytest", "--json"], module("pytest"), &["--json"]),
        (&["-im", "pytest", "--", "-x"], module("pytest"), &["--", "-x"]),
    ];
    for (line, source, args) in cases {
        let run = run(line);
        assert_eq!(run.source, source, "{line:?}");
        assert_eq!(run.args, args.iter().map(OsString::from).collect::<Vec<_>>(), "{line:?}");
    }
}

#[test]
fn options_of_ours_stand_before_the_script() {
    assert!(run(&["--json", "x.py"]).options.json);
    assert!(run(&["--json", "-c", "1"]).options.json);
    assert!(!run(&["x.py", "--json"]).options.json);
    assert!(!run(&["-c", "1", "--json"]).options.json);
    assert!(!run(&["-m", "m", "--json"]).options.json);
    let with = |arguments: &[&str]| Requirements::of_all(run(arguments).options.script.with);
    assert_eq!(with(&["--with", "a", "--with", "b", "x.py"]), ["a", "b"]);
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
    let line = ["scripts", "run", "--label", "l", "--with", "six", "train", "--epochs", "3", "--"];
    let Ok(Cli { verb: Verb::Scripts(ScriptsVerb::Run(of_name)) }) = read(&line) else { panic!("was refused") };
    let of_file = run(&["--label", "l", "--with", "six", "train.py", "--epochs", "3", "--"]);
    assert_eq!((of_name.name.as_str(), &of_name.args), ("train", &of_file.args));
    assert_eq!(of_name.args, ["--epochs", "3", "--"]);
    assert_eq!(format!("{:?}", of_name.options), format!("{:?}", of_file.options));
}

#[test]
fn contradictions_are_usage_errors() {
    for line in [
        &["run"][..],
        &["run", "--"],
        &["run", "-c"],
        &["run", "-m"],
        &["run", "--label"],
        &["run", "--label", "--json", "x.py"],
        &["run", "-e", "NAME", "x.py"],
        &["run", "-e", "=value", "x.py"],
        &["run", "--stdin", "x.py"],
        &["run", "-d", "-i", "--stdin", "x.py"],
        &["run", "--python", "3", "x.py"],
        &["run", "--buffering", "none", "x.py"],
        &["run", "--unknown", "x.py"],
        &["run", "-dx", "x.py"],
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
        &["scripts", "run", "-c", "pass"],
        &["scripts", "run", "-m", "x"],
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
        &["run", "--runs", "3", "x.py"][..],
        &["run", "--warmup", "1", "x.py"],
        &["run", "--bench", "--runs", "0", "x.py"],
        &["run", "--bench", "--runs", "1001", "x.py"],
        &["run", "--bench", "--sample-interval", "0", "x.py"],
        &["run", "--bench", "--sample-interval", "61", "x.py"],
        &["run", "--bench", "-i", "x.py"],
        &["run", "--bench", "--profile", "x.py"],
        &["run", "--top", "3", "x.py"],
        &["run", "--profile", "--top", "0", "x.py"],
        &["run", "--profile", "--top", "101", "x.py"],
        &["run", "--bench", "--keep-leftovers", "x.py"],
    ] {
        refusal(line);
    }
    assert!(run(&["-d", "--bench", "--stdin", "x.py"]).options.stdin);
}

#[test]
fn scripts_to_compare_are_files_code_and_modules_and_share_their_arguments() {
    let line =
        ["bench", "a.py", "-c", "pass", "-m", "timeit", "b.py", "--runs", "3", "-c", "-1", "--", "--epochs", "--", "3"];
    let Ok(Cli { verb: Verb::Bench(bench) }) = read(&line) else { panic!("was refused") };
    assert_eq!((bench.files.len(), bench.code.len(), bench.runs, bench.warmup), (2, 2, 3, 1));
    let runs: Vec<Run> = bench.scripts().collect();
    let (file, code) = (|name: &str| Source::File(name.into()), |code: &str| Source::Code(code.into()));
    let all = [file("a.py"), file("b.py"), code("pass"), code("-1"), Source::Module("timeit".into())];
    assert_eq!(runs.iter().map(|run| run.source.clone()).collect::<Vec<_>>(), all);
    for run in runs {
        assert_eq!(run.args, ["--epochs", "--", "3"]);
        assert!(run.options.bench && run.options.bench_options.runs == 3);
    }
}

#[test]
fn an_assignment_is_split_at_its_first_equals_sign() {
    let assignment = |name: &str, value: &str| Assignment { name: name.into(), value: value.into() };
    assert_eq!(
        run(&["-e", "A=b=c", "-e", "EMPTY=", "x.py"]).options.script.env,
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
