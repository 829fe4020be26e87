//! Scripts that are kept: saved and found again under a name, or autosaved for a while; never more than was asked for.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use pyexec_client::Client;
use pyexec_proto::job::Submission;
use pyexec_proto::script::{Autosave, MAX_SOURCE_BYTES, SaveScript};
use pyexec_proto::{JobId, JobSource, JobSpec};
use serde_json::{Value, json};

use crate::environment_sandbox::{EnvironmentSandbox, names, pythons};
use crate::sandbox::{Ran, Sandbox, contains, file_names};

const SOURCE: &str = "#!/usr/bin/env python3\n\"\"\"Counts.\n\nSlowly.\"\"\"\nimport sys\nprint(len(sys.argv))\n";

#[track_caller]
fn list(sandbox: &Sandbox, arguments: &[&str]) -> Vec<Value> {
    let ran = sandbox.pyexec(["scripts", "list", "--json"].iter().chain(arguments)).expect_code(0);
    ran.json()["scripts"].as_array().expect("is an array").clone()
}

#[track_caller]
fn names_of(sandbox: &Sandbox, arguments: &[&str]) -> Vec<String> {
    let name = |script: &Value| script["name"].as_str().expect("is text").to_owned();
    list(sandbox, arguments).iter().map(name).collect()
}

#[track_caller]
fn assert_refused(ran: &Ran, code: i32, named: &str) {
    assert_eq!(ran.code, code, "{ran}");
    assert!(ran.stdout.is_empty(), "{ran}");
    let errors: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(errors.len() == 1 && errors[0].contains(named), "not one error that names {named}: {ran}");
    assert_eq!(ran.stderr.lines().filter(|line| line.starts_with("hint: ")).count(), 1, "{ran}");
}

fn mode(path: &std::path::Path) -> u32 {
    std::fs::metadata(path).expect("is there").permissions().mode() & 0o7777
}

#[test]
fn a_script_is_saved_listed_shown_run_and_removed_whoever_the_daemon_is() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    assert_eq!(list(&sandbox, &[]), [] as [Value; 0]);
    assert_eq!(sandbox.pyexec(["scripts", "list"]).expect_code(0).stderr, "note: no scripts\n");
    sandbox.write("x.py", SOURCE);
    assert_eq!(sandbox.pyexec(["scripts", "save", "count", "x.py"]).expect_code(0).text(), "count.py saved\n");
    daemon.restart();
    let path = sandbox.paths().scripts().join("count.py");
    let listed = json!({
        "name": "count.py",
        "path": path.to_str().expect("is UTF-8"),
        "docstring": "Counts.\n\nSlowly.",
        "dependencies": [],
        "requires_python": null,
        "autosaved": false,
    });
    assert_eq!(list(&sandbox, &[]), [listed]);
    let table = sandbox.pyexec(["scripts", "list"]).expect_code(0).text();
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("NAME") && lines[0].ends_with("ABOUT"), "{table}");
    assert!(lines[1].starts_with("count.py ") && lines[1].ends_with(" Counts."), "{table}");
    for name in ["count", "count.py"] {
        assert_eq!(sandbox.pyexec(["scripts", "show", name]).expect_code(0).text(), SOURCE);
        let view = sandbox.pyexec(["scripts", "show", name, "--json"]).expect_code(0).json();
        let expected = json!({"name": "count.py", "path": path.to_str(), "source": SOURCE, "metadata": null});
        assert_eq!(view, expected);
        let ran = sandbox.pyexec(["scripts", "run", "--no-uv", name, "a", "--b"]).expect_code(0);
        assert_eq!(ran.text(), "3\n", "{ran}");
    }
    assert_eq!((mode(path.parent().expect("has one")), mode(&path)), (0o700, 0o600));
    assert_eq!(sandbox.pyexec(["scripts", "rm", "count"]).expect_code(0).text(), "count removed\n");
    daemon.restart();
    assert_eq!(list(&sandbox, &[]), [] as [Value; 0]);
    assert!(!path.exists());
}

#[test]
fn any_bytes_are_saved_and_shown_as_they_are() {
    let sandbox = Sandbox::new();
    let mut source: Vec<u8> = (0..=255).collect();
    source.extend(vec![b'#'; 2 << 20]);
    let mut command = sandbox.cli(["scripts", "save", "bytes", "-"]);
    command.stdin(Stdio::piped());
    let mut saving = sandbox.attend(command);
    saving.stdin().write_all(&source).expect("is read");
    saving.end().expect_code(0);
    let shown = sandbox.pyexec(["scripts", "show", "bytes"]).expect_code(0).stdout;
    assert!(shown == source, "{} bytes came of {}", shown.len(), source.len());
}

#[test]
fn a_script_is_not_replaced_unless_that_is_asked_for() {
    let sandbox = Sandbox::new();
    sandbox.write("one.py", "print(1)\n");
    sandbox.write("two.py", "print(2)\n");
    sandbox.pyexec(["scripts", "save", "x", "one.py"]).expect_code(0);
    for (file, said) in [("two.py", "there is one already"), ("one.py", "there is one already, with the very same")] {
        let ran = sandbox.pyexec(["scripts", "save", "x.py", file]);
        assert_refused(&ran, 2, "`x.py`");
        assert!(ran.stderr.contains(said) && ran.stderr.contains("--overwrite"), "{ran}");
    }
    assert_eq!(sandbox.pyexec(["scripts", "show", "x"]).expect_code(0).text(), "print(1)\n");
    let ran = sandbox.pyexec(["scripts", "save", "x", "two.py", "--overwrite"]).expect_code(0);
    assert_eq!(ran.text(), "x.py replaced\n");
    assert_eq!(sandbox.pyexec(["scripts", "run", "--no-uv", "x"]).expect_code(0).text(), "2\n");
    assert_eq!(names_of(&sandbox, &[]), ["x.py"]);
}

#[tokio::test]
async fn of_many_who_save_the_same_name_at_once_one_does() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    let client = sandbox.client().await;
    let scripts: Vec<SaveScript> = (0..20)
        .map(|number| SaveScript {
            name: "same".to_owned(),
            source: format!("print({number})\n").repeat(10_000).into_bytes(),
            dependencies: vec![],
            requires_python: None,
            overwrite: false,
        })
        .collect();
    let mut calls = tokio::task::JoinSet::new();
    let client = std::sync::Arc::new(client);
    for (number, script) in scripts.iter().cloned().enumerate() {
        let client = client.clone();
        calls.spawn(async move { client.save_script(&script).await.ok().map(|_| number) });
    }
    let won: Vec<usize> = calls.join_all().await.into_iter().flatten().collect();
    let [winner] = won.as_slice() else { panic!("these were saved: {won:?}") };
    let script = client.view_script("same", false).await.expect("is there");
    assert!(script.source == scripts[*winner].source, "another one's content is there");
}

#[test]
fn a_header_is_written_for_what_a_script_needs_unless_it_has_one() {
    let sandbox = Sandbox::new();
    sandbox.write("bare.py", SOURCE);
    let headed = "# /// script\n# dependencies = [\"idna\"]\n# ///\nprint(1)\n";
    sandbox.write("headed.py", headed);
    let needs = ["--with", "six", "--with", "idna>=3", "--requires-python", ">=3.9,<4"];
    let ran = sandbox.pyexec(["scripts", "save", "bare", "bare.py"].iter().chain(&needs)).expect_code(0);
    assert_eq!(ran.stderr, "");
    let ran = sandbox.pyexec(["scripts", "save", "headed", "headed.py"].iter().chain(&needs)).expect_code(0);
    assert!(ran.stderr.starts_with("note: the script's own metadata header was kept"), "{ran}");
    assert_eq!(sandbox.pyexec(["scripts", "show", "headed"]).expect_code(0).text(), headed);
    let (first, rest) = SOURCE.split_once('\n').expect("it has lines");
    assert_eq!(
        sandbox.pyexec(["scripts", "show", "bare"]).expect_code(0).text(),
        format!(
            "{first}\n\n# /// script\n# requires-python = \">=3.9,<4\"\n# dependencies = [\n#     \"six\",\n\
             #     \"idna>=3\",\n# ]\n# ///\n\n{rest}"
        )
    );
    let listed = list(&sandbox, &[]);
    assert_eq!(
        (&listed[0]["dependencies"], &listed[0]["requires_python"], &listed[0]["docstring"]),
        (&json!(["six", "idna>=3"]), &json!(">=3.9,<4"), &json!("Counts.\n\nSlowly."))
    );
    assert_eq!((&listed[1]["dependencies"], &listed[1]["requires_python"]), (&json!(["idna"]), &Value::Null));
}

#[test]
fn what_makes_no_sense_is_refused_and_nothing_is_made_of_it() {
    let sandbox = Sandbox::new();
    sandbox.write("x.py", "print(1)\n");
    sandbox.write("broken.py", "# /// script\n# dependencies = 'six'\n# ///\n");
    sandbox.write("large.py", vec![b'#'; MAX_SOURCE_BYTES + 1]);
    let long = "n".repeat(300);
    for (arguments, code, named) in [
        (&["save", "../x", "x.py"][..], 2, "../x"),
        (&["save", "/tmp/x", "x.py"], 2, "/tmp/x"),
        (&["save", "a/b", "x.py"], 2, "a/b"),
        (&["save", ".x", "x.py"], 2, ".x"),
        (&["save", "..", "x.py"], 2, ".."),
        (&["save", "", "x.py"], 2, "empty"),
        (&["save", "a\nb", "x.py"], 2, "script name"),
        (&["save", &long, "x.py"], 2, "200"),
        (&["save", "x", "missing.py"], 127, "missing.py"),
        (&["save", "x", "."], 125, "cannot read the script ."),
        (&["save", "x", "large.py"], 2, "large.py"),
        (&["save", "x", "broken.py"], 2, "line 2"),
        (&["save", "x", "x.py", "--with", "==1"], 2, "==1"),
        (&["save", "x", "x.py", "--requires-python", "3.12"], 2, "3.12"),
        (&["show", "x"], 127, "x.py"),
        (&["show", "x", "--autosaved"], 127, "x.py"),
        (&["show", "../scripts/x"], 2, "../scripts/x"),
        (&["run", "x"], 127, "x.py"),
        (&["run", "../../work/x"], 2, "../../work/x"),
        (&["rm", "x"], 127, "x.py"),
        (&["rm", "/etc/passwd"], 2, "/etc/passwd"),
        (&[], 2, "no command given"),
    ] {
        assert_refused(&sandbox.pyexec(["scripts"].iter().chain(arguments)), code, named);
    }
    assert_eq!(list(&sandbox, &["--autosaved"]), [] as [Value; 0]);
    assert!(!sandbox.paths().scripts().exists());
    assert_eq!(sandbox.pyexec(["jobs", "--json"]).json()["total"], 0);
    let ran = sandbox.pyexec(["scripts", "show", "x"]);
    assert!(ran.stderr.ends_with("hint: `pyexec scripts list` lists the saved scripts\n"), "{ran}");
}

#[test]
fn what_is_no_script_of_ours_is_neither_listed_nor_followed_nor_waited_for() {
    let sandbox = Sandbox::new();
    let directory = sandbox.paths().scripts();
    sandbox.write("x.py", "print(1)\n");
    sandbox.pyexec(["scripts", "save", "good", "x.py"]).expect_code(0);
    let elsewhere = sandbox.write("elsewhere", "print('elsewhere')\n");
    symlink(&elsewhere, directory.join("link.py")).expect("can be linked");
    symlink("/dev/zero", directory.join("device.py")).expect("can be linked");
    symlink("/nowhere", directory.join("dangling.py")).expect("can be linked");
    std::fs::create_dir(directory.join("directory.py")).expect("can be made");
    let fifo = rustix::fs::FileType::Fifo;
    let private = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, directory.join("pipe.py"), fifo, private, 0).expect("can be made");
    for name in ["notes.txt", ".hidden.py", "a\nb.py"] {
        std::fs::write(directory.join(name), "print(1)\n").expect("can be written");
    }
    use std::os::unix::ffi::OsStrExt;
    let odd = directory.join(std::ffi::OsStr::from_bytes(b"\xff.py"));
    std::fs::write(odd, "print(1)\n").expect("can be written");
    std::fs::write(directory.join("broken.py"), "'''Says.'''\n# /// script\n# = 3\n# ///\n").expect("can be written");
    assert_eq!(names_of(&sandbox, &[]), ["broken.py", "good.py"]);
    assert_eq!(list(&sandbox, &[])[0]["docstring"], "Says.");
    for name in ["link", "device", "dangling", "directory", "pipe"] {
        for verb in [&["show", name][..], &["run", "--no-uv", name], &["rm", name]] {
            let ran = sandbox.pyexec(["scripts"].iter().chain(verb));
            assert_refused(&ran, 2, &format!("script `{name}.py`: it is not a regular file"));
        }
        let save = ["scripts", "save", name, "x.py", "--overwrite"];
        assert_refused(&sandbox.pyexec(save), 2, "not a regular file");
    }
    assert_eq!(std::fs::read_to_string(elsewhere).expect("is there"), "print('elsewhere')\n");
    assert_eq!(std::fs::read_dir(directory).expect("is there").count(), 11);
    assert_eq!(sandbox.pyexec(["jobs", "--json"]).json()["total"], 0);
}

#[test]
fn a_saved_script_is_a_job_like_that_of_a_file() {
    let sandbox = Sandbox::new();
    sandbox.write("x.py", "import os, sys\nprint(os.getcwd(), os.environ['A'], sys.stdin.read())\nsys.exit(7)\n");
    sandbox.pyexec(["scripts", "save", "x", "x.py"]).expect_code(0);
    let mut command =
        sandbox.cli(["scripts", "run", "--no-uv", "--json", "-e", "A=1", "--label", "saved", "--timeout", "50s", "x"]);
    command.stdin(Stdio::piped());
    let mut running = sandbox.attend(command);
    running.stdin().write_all(b"typed").expect("is read");
    let view = running.end().expect_code(7).json();
    assert_eq!(view["stdout"], format!("{} 1 typed\n", sandbox.work().display()), "{view}");
    let job = sandbox.show(view["job_id"].as_str().expect("is text"));
    assert_eq!((&job["label"], &job["timeout_seconds"]), (&json!("saved"), &json!(50.0)), "{job}");
    let path = sandbox.paths().scripts().join("x.py");
    assert_eq!(job["command"], path.to_str().expect("is UTF-8"), "{job}");
    let id = sandbox.pyexec(["scripts", "run", "--no-uv", "-d", "-e", "A=2", "x"]).expect_code(0).text();
    assert_eq!(sandbox.finished(id.trim_end())["exit_code"], 7);
}

#[test]
fn what_a_saved_script_needs_is_there_when_it_runs() {
    let sandbox = EnvironmentSandbox::new();
    let Some(oldest) = pythons().into_keys().next() else { panic!("there is no Python") };
    sandbox.write("x.py", "import six, sys\nprint(six.__name__, '%d.%d' % sys.version_info[:2])\n");
    let spec = format!("=={oldest}.*");
    let save = ["scripts", "save", "needy", "x.py", "--with", "six", "--requires-python", &spec];
    sandbox.pyexec(save).expect_code(0);
    let view = sandbox.pyexec(["scripts", "run", "--json", "needy"]).expect_code(0).json();
    assert_eq!(view["stdout"], format!("six {oldest}\n"), "{view}");
    assert_eq!(names(&view["resolved_dependencies"]), ["six"]);
}

/// In no source file in one piece, so that no test finds its own text.
fn secret() -> String {
    ["hunter", "-", "3", "-of-pyexec"].concat()
}

const INLINE: &str = "'''Counts.'''\nprint(1)\n";

/// A job of code that came as text, which is to be kept.
fn to_be_kept(sandbox: &Sandbox, parameters: String) -> Submission {
    let submission = sandbox.submission(INLINE);
    let source = JobSource::Inline { code: INLINE.into() };
    let autosave = Autosave { tool: "py_run_script_in_dir".to_owned(), parameters };
    Submission { spec: JobSpec { source, ..submission.spec }, autosave: Some(autosave), ..submission }
}

/// The name under which the code of a job is kept.
fn kept_as(sandbox: &Sandbox, job: JobId) -> Option<String> {
    let end = format!("-{}.py", &job.simple()[..8]);
    file_names(&sandbox.paths().autosaved_scripts()).into_iter().find(|name| name.ends_with(&end))
}

/// Submits a job of such code, and returns the name under which the code is kept.
async fn autosaved(sandbox: &Sandbox, client: &Client) -> String {
    let submission = to_be_kept(sandbox, json!({}).to_string());
    let id = submission.id;
    client.submit(submission).await.expect("is taken");
    kept_as(sandbox, id).expect("is kept by then")
}

#[tokio::test]
async fn code_that_was_run_without_a_file_is_kept_once_with_where_it_came_from_and_no_secret() {
    let mut sandbox = Sandbox::new();
    sandbox.set("PYEXEC_LOG", "trace");
    let mut daemon = sandbox.daemon();
    let client = sandbox.client().await;
    let parameters = json!({
        "script_content": format!("print('{}')", secret()),
        "directory": "/work",
        "env_vars": {"TOKEN": secret(), "OTHER": {"nested": secret()}},
        "stdin": secret(),
        "nested": {"env_vars": secret(), "stdin": [secret()]},
    });
    let mut submission = to_be_kept(&sandbox, parameters.to_string());
    submission.spec.args = vec!["a".into()];
    submission.spec.variables = vec!["TOKEN".to_owned(), "OTHER".to_owned()];
    let job = submission.id;
    client.submit(submission.clone()).await.expect("is taken");
    let name = kept_as(&sandbox, job).expect("is kept by then");
    daemon.restart();
    client.submit(submission).await.expect("is the same job");
    for misuse in [json!({"env_vars": secret()}), json!({"env_vars": [secret()]})] {
        client.submit(to_be_kept(&sandbox, misuse.to_string())).await.expect("is taken");
    }
    // What it cannot be kept with is no reason not to run it.
    for text in [format!("\"{}\"", secret()), format!("{{\"stdin\": \"{}\"", secret()), secret()] {
        let submission = to_be_kept(&sandbox, text);
        let id = submission.id;
        client.submit(submission).await.expect("is taken");
        assert_eq!(kept_as(&sandbox, id), None);
        assert!(sandbox.daemon_log().contains("parameters"), "{}", sandbox.daemon_log());
    }
    for path in sandbox.files() {
        let content = std::fs::read(&path).unwrap_or_default();
        assert!(!contains(&content, &secret()), "the secret is in {}", path.display());
    }

    let directory = sandbox.paths().autosaved_scripts();
    let stem = name.strip_suffix(".py").expect("is a script");
    assert!(stem.ends_with(&format!("-{}", &job.simple()[..8])), "{name}");
    let listed = list(&sandbox, &["--autosaved"]);
    assert_eq!(listed.len(), 3);
    let row = listed.iter().find(|row| row["name"] == *name).expect("is listed");
    assert_eq!(
        *row,
        json!({
            "name": name,
            "path": directory.join(&name).to_str(),
            "docstring": "Counts.",
            "dependencies": [],
            "requires_python": null,
            "autosaved": true,
        })
    );
    assert_eq!(list(&sandbox, &[]), [] as [Value; 0], "they are listed only when they are asked for");
    let view = sandbox.pyexec(["scripts", "show", "--autosaved", stem, "--json"]).expect_code(0).json();
    assert_eq!(view["source"], "'''Counts.'''\nprint(1)\n");
    let metadata = &view["metadata"];
    let saved_at = metadata["saved_at"].as_str().expect("is text");
    let digits: String = saved_at.chars().take(19).filter(char::is_ascii_digit).collect();
    assert_eq!(format!("{}-{}", &digits[..8], &digits[8..]), stem[..15], "{metadata}");
    assert_eq!(
        *metadata,
        json!({
            "tool": "py_run_script_in_dir",
            "job_id": job.to_string(),
            "saved_at": saved_at,
            "parameters": {
                "directory": "/work",
                "args": ["a"],
                "env_vars": {"TOKEN": "***", "OTHER": "***"},
                "nested": {"env_vars": "***"},
            },
        })
    );
    let shown = sandbox.pyexec(["scripts", "show", "--autosaved", &name]).expect_code(0).stdout;
    assert_eq!(shown, INLINE.as_bytes());
    for file in [name.clone(), format!("{stem}.json")] {
        assert_eq!(mode(&directory.join(file)), 0o600);
    }
    assert_eq!(mode(&directory), 0o700);
}

#[tokio::test]
async fn autosaved_scripts_go_with_their_sidecars_when_they_are_too_many_or_too_old() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox
        .daemon_with(&[("PYEXEC_AUTOSAVED_SCRIPTS_MAX_COUNT", "3"), ("PYEXEC_AUTOSAVED_SCRIPTS_MAX_AGE", "10d")]);
    let client = sandbox.client().await;
    let directory = sandbox.paths().autosaved_scripts();
    let left = || file_names(&directory);
    let with_sidecars = |names: &[String]| {
        let sidecar = |name: &String| format!("{}.json", name.strip_suffix(".py").expect("is a script"));
        let mut files: Vec<String> = names.iter().flat_map(|name| [sidecar(name), name.clone()]).collect();
        files.sort();
        files
    };
    let become_left = |expected: &[String]| {
        sandbox.wait_until("what is kept no longer has gone", || {
            let left = left();
            if left == expected { Ok(()) } else { Err(format!("{left:?} instead of {expected:?}")) }
        });
    };
    let mut names = Vec::new();
    for number in 0..5u64 {
        let name = autosaved(&sandbox, &client).await;
        // Each a minute older than the next.
        age(&directory.join(&name), Duration::from_secs(60 * (10 - number)));
        names.push(name);
    }
    let newest = autosaved(&sandbox, &client).await;
    names.push(newest);
    become_left(&with_sidecars(&names[3..]));

    age(&directory.join(&names[4]), Duration::from_secs(11 * 86_400));
    for odd in ["notes.txt", "20200101-000000-0a1b2c3d.json", ".20200101-000000-0a1b2c3d.py.tmp"] {
        std::fs::write(directory.join(odd), "").expect("can be written");
    }
    daemon.restart();
    let mut kept = with_sidecars(&[names[3].clone(), names[5].clone()]);
    kept.push("notes.txt".to_owned());
    kept.sort();
    become_left(&kept);
}

fn age(path: &PathBuf, age: Duration) {
    let file = std::fs::File::options().append(true).open(path).expect("is there");
    file.set_modified(SystemTime::now() - age).expect("can be set");
}

#[tokio::test]
async fn autosaved_scripts_are_listed_after_saved_ones_newest_first() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    let client = sandbox.client().await;
    sandbox.write("x.py", "print(1)\n");
    for name in ["b", "c", "a"] {
        sandbox.pyexec(["scripts", "save", name, "x.py"]).expect_code(0);
    }
    let mut names = vec!["a.py".to_owned(), "b.py".to_owned(), "c.py".to_owned()];
    for older in [0, 60, 30] {
        let name = autosaved(&sandbox, &client).await;
        age(&sandbox.paths().autosaved_scripts().join(&name), Duration::from_secs(older));
        names.push(name);
    }
    names.swap(4, 5);
    assert_eq!(names_of(&sandbox, &["--autosaved"]), names);
}

#[test]
fn a_daemon_that_is_killed_while_it_saves_leaves_the_old_script_or_the_new_one() {
    let sandbox = Sandbox::new();
    let (one, two) = (vec![b'#'; 8 << 20], vec![b'%'; 8 << 20]);
    let (first, second) = (sandbox.write("one.py", &one), sandbox.write("two.py", &two));
    sandbox.pyexec(["scripts".as_ref(), "save".as_ref(), "x".as_ref(), first.as_os_str()]).expect_code(0);
    let path = sandbox.paths().scripts().join("x.py");
    // Held open: the file lives on as long as somebody reads it, and so does its number, which would be given again.
    let old = std::fs::File::open(&path).expect("is there");
    for source in [&second, &first, &second] {
        let command = sandbox.cli([
            "scripts".as_ref(),
            "save".as_ref(),
            "x".as_ref(),
            source.as_os_str(),
            "--overwrite".as_ref(),
        ]);
        let saving = sandbox.attend(command);
        sandbox.kill_daemon();
        // The call is sent again, to a daemon that the command line starts.
        saving.end().expect_code(0);
        let content = std::fs::read(&path).expect("is there");
        assert!(content == std::fs::read(source).expect("is there"), "it is not the one that was saved last");
    }
    assert_ne!(std::fs::metadata(&path).expect("is there").ino(), old.metadata().expect("is open").ino());
    assert!(std::io::read_to_string(old).expect("is open").into_bytes() == one, "it was written in its place");
    assert_eq!(names_of(&sandbox, &[]), ["x.py"]);
    sandbox.wait_until("nothing unfinished is left", || {
        let count = std::fs::read_dir(sandbox.paths().scripts()).expect("is there").count();
        if count == 1 { Ok(()) } else { Err(count) }
    });
}
