//! Where dependencies come from files: projects, their parents, and files of requirements.

use crate::environment_sandbox::{EnvironmentSandbox, environment_of, names, pythons};

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
fn a_directory_below_a_project_is_not_that_project() {
    let sandbox = EnvironmentSandbox::new();
    write_project(&sandbox, ">=3.8");
    std::fs::create_dir(sandbox.file("below")).expect("can be made");
    sandbox.write("below/script.py", SAYS_WHERE);
    for with in [&[][..], &["--with", "idna"]] {
        let ran = sandbox.run_with_uv(&[with, &["--dir", "below", "script.py"]].concat()).expect_code(0);
        let text = ran.text();
        let (prefix, packages) = text.split_once('\n').expect("two lines");
        assert!(prefix.starts_with(sandbox.shelf().to_str().expect("is UTF-8")), "{ran}");
        assert_eq!(packages, if with.is_empty() { "\n" } else { "idna\n" }, "{ran}");
    }
    assert!(!sandbox.file(".venv").exists() && !sandbox.file("uv.lock").exists(), "uv has found the project");
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
    assert!(!sandbox.file("it-ran").exists());
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
