//! Where dependencies come from files: projects, their parents, and files of requirements.

use serde_json::json;

use crate::environment_sandbox::{EnvironmentSandbox, environment_of, names, pythons};
use crate::sandbox::{PYEXEC, python};

/// Prints where its environment is, and which of two packages it has.
const SAYS_WHERE: &str = "import importlib.util as u, sys\n\
    print(sys.prefix)\nprint(*[name for name in ('idna', 'six') if u.find_spec(name)])\n";

fn write_project(sandbox: &EnvironmentSandbox, requires_python: &str) {
    let project = format!(
        "[project]\nname = \"tiny\"\nversion = \"0\"\nrequires-python = \"{requires_python}\"\ndependencies = [\"six\"]\n"
    );
    sandbox.write("pyproject.toml", project);
}

#[test]
fn a_directory_below_a_project_is_that_projects() {
    let sandbox = EnvironmentSandbox::new();
    write_project(&sandbox, ">=3.8");
    std::fs::create_dir(sandbox.file("below")).expect("can be made");
    sandbox.write("below/script.py", SAYS_WHERE);
    let job = sandbox.shown(&["--dir", "below", "script.py"]);
    let prefix = sandbox.file(".venv").canonicalize().expect("it was made");
    let log = sandbox.logs(job["id"].as_str().expect("is text"));
    assert_eq!(String::from_utf8_lossy(&log), format!("{}\nsix\n", prefix.display()), "{job}");
    assert_eq!(job["project"], json!({"use": "synced", "path": sandbox.work()}), "{job}");
    let job = sandbox.shown(&["--with", "idna", "--dir", "below", "script.py"]);
    let log = sandbox.logs(job["id"].as_str().expect("is text"));
    assert!(String::from_utf8_lossy(&log).ends_with("\nidna six\n"), "{job}");
}

#[test]
fn without_its_project_a_job_runs_in_an_environment_of_ours() {
    let sandbox = EnvironmentSandbox::new();
    write_project(&sandbox, ">=3.8");
    sandbox.write("script.py", SAYS_WHERE);
    let cases: [(&[&str], &str); 2] = [(&["script.py"], "\n"), (&["--with", "idna", "script.py"], "idna\n")];
    for (arguments, expected) in cases {
        let ran = sandbox.run_with_uv(&[&["--no-project"], arguments].concat()).expect_code(0);
        let text = ran.text();
        let (prefix, packages) = text.split_once('\n').expect("two lines");
        assert!(prefix.starts_with(sandbox.shelf().to_str().expect("is UTF-8")), "{ran}");
        assert_eq!(packages, expected, "{ran}");
    }
    assert!(!sandbox.file(".venv").exists() && !sandbox.file("uv.lock").exists(), "uv has found the project");
    let ran = sandbox.pyexec(["bench", "--runs", "1", "--warmup", "0", "--no-project", "script.py"]).expect_code(0);
    assert!(!sandbox.file(".venv").exists(), "{ran}");
}

#[test]
fn a_saved_script_belongs_to_the_project_of_the_working_directory() {
    let sandbox = EnvironmentSandbox::new();
    write_project(&sandbox, ">=3.8");
    sandbox.write("script.py", SAYS_WHERE);
    sandbox.pyexec(["scripts", "save", "where", "script.py"]).expect_code(0);
    let ran = sandbox.attend(sandbox.cli(["scripts", "run", "where"])).end().expect_code(0);
    let prefix = sandbox.file(".venv").canonicalize().expect("it was made");
    assert_eq!(ran.text(), format!("{}\nsix\n", prefix.display()), "{ran}");
}

#[test]
fn a_script_that_only_the_caller_can_open_belongs_to_the_project_of_the_working_directory() {
    let sandbox = EnvironmentSandbox::new();
    write_project(&sandbox, ">=3.8");
    sandbox.write("script.py", SAYS_WHERE);
    let mut command = sandbox.command("bash");
    command.args(["-c", "\"$0\" run <(cat script.py)"]).arg(PYEXEC);
    let ran = sandbox.attend(command).end().expect_code(0);
    let prefix = sandbox.file(".venv").canonicalize().expect("it was made");
    assert_eq!(ran.text(), format!("{}\nsix\n", prefix.display()), "{ran}");
}

#[test]
fn a_project_is_run_in_its_own_environment() {
    let mut sandbox = EnvironmentSandbox::new();
    // What is active where it was submitted is none of its business.
    sandbox.set("VIRTUAL_ENV", "/nowhere/venv");
    write_project(&sandbox, ">=3.8");
    let prefix = sandbox.file(".venv").canonicalize().unwrap_or(sandbox.file(".venv"));
    let ran = sandbox.run_with_uv(&["-c", SAYS_WHERE]).expect_code(0);
    assert_eq!(ran.text(), format!("{}\nsix\n", prefix.display()), "{ran}");
    assert!(ran.stderr.contains("`VIRTUAL_ENV=/nowhere/venv` does not match"), "uv does not know of it: {ran}");
    let code = "import os, sys; print(os.environ['VIRTUAL_ENV'] == sys.prefix, os.getpid())";
    let job = sandbox.shown(&["-c", code]);
    assert_eq!(names(&job["resolved_dependencies"]), ["six"], "{job}");
    assert_eq!(job["python_version_used"].as_str().map(|version| version.matches('.').count()), Some(2), "{job}");
    let log = sandbox.logs(job["id"].as_str().expect("is text"));
    assert_eq!(String::from_utf8_lossy(&log), format!("True {}\n", job["pid"]), "uv stands in between");
}

#[test]
fn a_project_chooses_its_python() {
    let sandbox = EnvironmentSandbox::new();
    let pythons: Vec<String> = pythons().into_keys().collect();
    let [oldest, .., newest] = pythons.as_slice() else { panic!("one Python is not enough: {pythons:?}") };
    for wanted in [oldest, newest] {
        write_project(&sandbox, &format!("=={wanted}.*"));
        let _ = std::fs::remove_file(sandbox.file("uv.lock"));
        let ran = sandbox.run_with_uv(&["-c", "import six, sys; print('%d.%d' % sys.version_info[:2])"]);
        assert_eq!(ran.expect_code(0).text(), format!("{wanted}\n"));
    }
    let ran = sandbox.run_with_uv(&["--python", oldest, "-c", "pass"]).expect_code(126);
    assert!(ran.stderr.contains("the project's environment could not be made"), "{ran}");
}

#[test]
fn what_is_asked_for_beside_a_project_is_there_together_with_it() {
    let sandbox = EnvironmentSandbox::new();
    write_project(&sandbox, ">=3.8");
    let job = sandbox.shown(&["--with", "idna", "-c", "import six, idna; print('both')"]);
    assert_eq!(sandbox.logs(job["id"].as_str().expect("is text")), b"both\n");
    assert_eq!(names(&job["resolved_dependencies"]), ["idna", "six"], "{job}");
    assert_eq!(job["python_version_used"].as_str().map(|version| version.matches('.').count()), Some(2), "{job}");
    let ran = sandbox.run_with_uv(&["--with", "six==999", "-c", "open('it-ran', 'w')"]).expect_code(126);
    assert!(ran.stderr.contains("six==999") && !sandbox.file("it-ran").exists(), "{ran}");
    let ran = sandbox.run_with_uv(&["-c", SAYS_WHERE]).expect_code(0);
    assert!(ran.text().ends_with("\nsix\n"), "it was installed into the project: {ran}");
}

#[test]
fn a_project_that_makes_no_sense_is_the_outcome_of_the_job() {
    let sandbox = EnvironmentSandbox::new();
    sandbox.write("pyproject.toml", "[project\n");
    let ran = sandbox.run_with_uv(&["-c", "open('it-ran', 'w')"]).expect_code(126);
    assert!(ran.stderr.contains("pyproject.toml"), "{ran}");
    assert!(ran.stderr.contains("the project's environment could not be made; --no-project"), "{ran}");
    assert!(!sandbox.file("it-ran").exists());
    sandbox.run_with_uv(&["--no-project", "-c", "open('it-ran', 'w')"]).expect_code(0);
    assert!(sandbox.file("it-ran").exists());
}

#[test]
fn a_project_that_takes_too_long_fails_its_job_and_says_how_to_run_without_it() {
    let mut sandbox = EnvironmentSandbox::new();
    let never = sandbox.write("never", "#!/bin/sh\nexec sleep 600\n");
    std::fs::set_permissions(&never, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("is ours");
    sandbox.set("PYEXEC_UV", &never);
    let _daemon = sandbox.daemon_with(&[("PYEXEC_ENVIRONMENT_TIMEOUT", "1s")]);
    write_project(&sandbox, ">=3.8");
    let ran = sandbox.run_with_uv(&["-c", "open('it-ran', 'w')"]).expect_code(126);
    assert!(ran.stderr.contains("took longer than 1 s (`environment_timeout`); --no-project"), "{ran}");
    assert!(!sandbox.file("it-ran").exists());
}

/// An environment of the Python that tests run with, without any package.
fn make_environment(sandbox: &EnvironmentSandbox, name: &str) {
    let made = std::process::Command::new(python())
        .args(["-m", "venv", "--without-pip"])
        .arg(sandbox.file(name))
        .status()
        .expect("can be run");
    assert!(made.success(), "no environment could be made");
}

#[test]
fn an_active_environment_that_is_broken_is_said_to_be() {
    let mut sandbox = EnvironmentSandbox::new();
    make_environment(&sandbox, "env");
    for name in ["env/bin/python", "env/bin/python3"] {
        std::fs::remove_file(sandbox.file(name)).expect("is there");
        std::os::unix::fs::symlink("/nowhere/python", sandbox.file(name)).expect("can be made");
    }
    let environment = sandbox.file("env");
    sandbox.set("VIRTUAL_ENV", environment);
    let ran = sandbox.run_with_uv(&["-c", "open('it-ran', 'w')"]).expect_code(126);
    assert!(ran.stderr.contains("env/bin/python"), "{ran}");
    assert!(!sandbox.file("it-ran").exists());
}

#[test]
fn what_has_hashes_is_not_laid_over_an_environment_that_is_there() {
    let sandbox = EnvironmentSandbox::new();
    make_environment(&sandbox, ".venv");
    let hash = "sha256:946d195a0d259cbba61165e88e65941f16e9b36ea6ddb97f00452bae8b1287d3";
    sandbox.write("needs.txt", format!("idna==3.10 --hash={hash}\n"));
    let job = sandbox.shown(&["--with-requirements", "needs.txt", "-c", "import idna"]);
    assert!(environment_of(&job).len() > 8, "{job}");
    assert_eq!(job["project"], json!({"use": "left_out", "path": sandbox.file(".venv")}), "{job}");
}

#[test]
fn what_uv_would_lay_over_an_environment_in_a_fence_is_refused_with_what_to_do() {
    let sandbox = EnvironmentSandbox::new();
    make_environment(&sandbox, ".venv");
    let fenced = ["--filesystem", "read-only"];
    let ran = sandbox.run_with_uv(&[&fenced, &["--with", "six", "-c", "open('it-ran', 'w')"][..]].concat());
    let ran = ran.expect_code(126);
    assert!(
        ran.stderr.contains(&format!("uv lays its requirements over {}", sandbox.file(".venv").display())),
        "{ran}"
    );
    let ran = sandbox.run_with_uv(&[&fenced, &["-c", SAYS_WHERE][..]].concat()).expect_code(0);
    assert!(ran.text().starts_with(sandbox.file(".venv").to_str().expect("is UTF-8")), "{ran}");
}

#[test]
fn what_an_environment_that_is_there_has_is_not_installed_again() {
    let sandbox = EnvironmentSandbox::new();
    make_environment(&sandbox, ".venv");
    let lib = std::fs::read_dir(sandbox.file(".venv/lib")).expect("is there").flatten().next().expect("has a Python");
    let module = lib.path().join("site-packages/six.py");
    std::fs::write(module, "mine = 1\n").expect("can be written");
    let job = sandbox.shown(&["--auto-install", "-c", "import six; print(six.mine)"]);
    assert_eq!(sandbox.logs(job["id"].as_str().expect("is text")), b"1\n");
    assert_eq!(job["project"], json!({"use": "as_found", "path": sandbox.file(".venv")}), "{job}");
    let job = sandbox.shown(&["--auto-install", "-c", "import six, idna; print(six.mine)"]);
    assert_eq!(names(&job["resolved_dependencies"]), ["idna"], "{job}");
}

#[test]
fn an_environment_that_is_there_is_found_without_asking_uv() {
    let sandbox = EnvironmentSandbox::new();
    make_environment(&sandbox, ".venv");
    sandbox.run_with_uv(&["-c", "pass"]).expect_code(0);
    assert!(!sandbox.root().join("uv-calls").exists(), "uv was asked");
}

#[test]
fn a_requirements_file_is_found_from_the_directory_of_the_job() {
    let sandbox = EnvironmentSandbox::new();
    std::fs::create_dir(sandbox.file("below")).expect("can be made");
    sandbox.write("below/needs.txt", "# what it needs\nidna>=3  # names\n\n");
    let arguments = ["--dir", "below", "--with-requirements", "needs.txt", "--with", "six", "-c", "import idna, six"];
    let first = sandbox.shown(&arguments);
    assert_eq!(names(&first["resolved_dependencies"]), ["idna", "six"], "{first}");
    assert_eq!(environment_of(&sandbox.shown(&arguments)), environment_of(&first));
    assert_eq!(sandbox.calls("venv"), 1);
    sandbox.write("below/needs.txt", "humanize\n");
    let third = sandbox.shown(&[&arguments[..7], &["import humanize, six"]].concat());
    assert_eq!(names(&third["resolved_dependencies"]), ["humanize", "six"], "{third}");
}

#[test]
fn a_requirements_file_may_name_another_one() {
    let sandbox = EnvironmentSandbox::new();
    sandbox.write("needs.txt", "-r others.txt\n");
    sandbox.write("others.txt", "six\n");
    let job = sandbox.shown(&["--with-requirements", "needs.txt", "-c", "import six"]);
    assert_eq!(names(&job["resolved_dependencies"]), ["six"], "{job}");
    sandbox.write("others.txt", "idna\n");
    sandbox.run_with_uv(&["--with-requirements", "needs.txt", "-c", "import idna"]).expect_code(0);
}

#[test]
fn a_package_in_a_directory_is_taken_as_it_is_at_the_time() {
    let sandbox = EnvironmentSandbox::new();
    for version in ["1", "2"] {
        std::fs::create_dir_all(sandbox.file("local")).expect("can be made");
        let project = "[build-system]\nrequires = [\"flit_core\"]\nbuild-backend = \"flit_core.buildapi\"\n\
            [project]\nname = \"pxlocal\"\ndescription = \"\"\nversion = ";
        sandbox.write("local/pyproject.toml", format!("{project}\"{version}\"\n"));
        sandbox.write("local/pxlocal.py", "");
        let code = "import importlib.metadata as m; print(m.version('pxlocal'))";
        let job = sandbox.shown(&["--with", "./local", "-c", code]);
        let id = job["id"].as_str().expect("is text");
        assert_eq!(String::from_utf8_lossy(&sandbox.logs(id)), format!("{version}\n"));
        assert_eq!(job["resolved_dependencies"], serde_json::json!([format!("pxlocal=={version}")]), "{job}");
    }
    let ran = sandbox.run_with_uv(&["--with", "./missing", "-c", "open('it-ran', 'w')"]).expect_code(126);
    assert!(ran.stderr.contains("missing"), "{ran}");
    assert!(!sandbox.file("it-ran").exists());
}

#[test]
fn a_requirements_file_that_is_missing_or_means_nothing_is_said() {
    let sandbox = EnvironmentSandbox::new();
    let ran = sandbox.run_with_uv(&["--with-requirements", "none.txt", "-c", "pass"]).expect_code(127);
    assert!(ran.stderr.contains("none.txt"), "{ran}");
    assert_eq!(sandbox.pyexec(["jobs", "--json"]).json()["total"], 0);
    sandbox.write("needs.txt", "six\n==garbage\n");
    let ran = sandbox.run_with_uv(&["--with-requirements", "needs.txt", "-c", "pass"]).expect_code(126);
    assert!(ran.stderr.contains("needs.txt"), "{ran}");
    assert_eq!(sandbox.on_the_shelf(), Vec::<String>::new());
}
