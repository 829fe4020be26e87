//! A sandbox whose uv is the real one behind a script that writes down every call, and can be made to wait.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::sandbox::{Attended, Ran, Sandbox, python};
use crate::uv::{sandbox_with_uv, uv};

/// Its name is in the command line of a uv that is held, and nowhere else.
const HOLD: &str = "hold-sync";
const HELD: &str = "held";

#[derive(Debug)]
pub(crate) struct EnvironmentSandbox(Sandbox);

impl Deref for EnvironmentSandbox {
    type Target = Sandbox;

    fn deref(&self) -> &Sandbox {
        &self.0
    }
}

impl DerefMut for EnvironmentSandbox {
    fn deref_mut(&mut self) -> &mut Sandbox {
        &mut self.0
    }
}

impl EnvironmentSandbox {
    pub(crate) fn new() -> Self {
        let mut sandbox = sandbox_with_uv();
        // One try: what can not be reached in these tests never will be.
        sandbox.set("UV_HTTP_RETRIES", "0");
        let script = format!(
            "#!/bin/sh\nprintf '%s\\n' \"$*\" >> '{log}'\n\
            case \"$1 $2\" in 'pip sync')\n\
            if [ -e '{hold}' ]; then\n\
            echo $$ > '{held}'\n\
            while [ -e '{hold}' ]; do sleep 0.01; done\n\
            fi;; esac\n\
            exec '{uv}' \"$@\"\n",
            log = sandbox.root().join("uv-calls").display(),
            hold = sandbox.root().join(HOLD).display(),
            held = sandbox.file(HELD).display(),
            uv = uv().display(),
        );
        let wrapper = sandbox.root().join("uv");
        std::fs::write(&wrapper, script).expect("can be written");
        std::fs::set_permissions(&wrapper, PermissionsExt::from_mode(0o755)).expect("can be made executable");
        sandbox.set("PYEXEC_UV", wrapper);
        let pythons = pythons().into_values();
        let directories = std::iter::once(directory_of(&python())).chain(pythons.map(|path| directory_of(&path)));
        let system = ["/usr/bin", "/bin"].map(PathBuf::from);
        sandbox.set("PATH", std::env::join_paths(directories.chain(system)).expect("can be joined"));
        Self(sandbox)
    }

    /// How often uv was called with these first words.
    pub(crate) fn calls(&self, of: &str) -> usize {
        let log = std::fs::read_to_string(self.root().join("uv-calls")).unwrap_or_default();
        log.lines().filter(|line| *line == of || line.starts_with(&format!("{of} "))).count()
    }

    /// From now on uv waits before it installs.
    pub(crate) fn hold_installations(&self) {
        std::fs::write(self.root().join(HOLD), "").expect("can be written");
    }

    pub(crate) fn let_installations_go_on(&self) {
        std::fs::remove_file(self.root().join(HOLD)).expect("they were held");
    }

    /// The pid of the uv that waits.
    #[track_caller]
    pub(crate) fn wait_until_held(&self) -> u32 {
        let pid = self.wait_for_file(HELD).parse().expect("is a pid");
        std::fs::remove_file(self.file(HELD)).expect("is there");
        pid
    }

    /// Starts a job that uv holds at its installation; its id, and the pid of that uv.
    #[track_caller]
    pub(crate) fn held_job(&self, arguments: &[&str]) -> (String, u32) {
        self.hold_installations();
        let id = self.detach_with_uv(arguments);
        (id, self.wait_until_held())
    }

    #[track_caller]
    pub(crate) fn run_with_uv(&self, arguments: &[&str]) -> Ran {
        self.attend_with_uv(arguments).end()
    }

    #[track_caller]
    pub(crate) fn attend_with_uv(&self, arguments: &[&str]) -> Attended<'_> {
        self.attend(self.cli(["run"].iter().chain(arguments)))
    }

    #[track_caller]
    pub(crate) fn detach_with_uv(&self, arguments: &[&str]) -> String {
        let ran = self.pyexec(["run", "-d"].iter().chain(arguments)).expect_code(0);
        ran.text().trim_end().to_owned()
    }

    /// Runs to a success, and shows the job.
    #[track_caller]
    pub(crate) fn shown(&self, arguments: &[&str]) -> Value {
        let id = self.detach_with_uv(arguments);
        let job = self.finished(&id);
        assert_eq!(job["exit_code"], 0, "{job}\n{}", self.pyexec(["logs", &id, "--stderr"]));
        job
    }

    /// `pyexec env list --json`.
    #[track_caller]
    pub(crate) fn environments(&self) -> Vec<Value> {
        let listing = self.pyexec(["env", "list", "--json"]).expect_code(0).json();
        listing["environments"].as_array().expect("is an array").clone()
    }

    /// Where environments lie.
    pub(crate) fn shelf(&self) -> PathBuf {
        self.paths().cache.join("environments")
    }

    /// What lies there, unfinished things too.
    pub(crate) fn on_the_shelf(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.shelf()).map(|entries| entries.flatten().collect()).unwrap_or(vec![]);
        entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Returns once nothing lies there that is half built or half removed.
    #[track_caller]
    pub(crate) fn wait_until_the_shelf_is_tidy(&self) {
        self.wait_until("nothing is left of a build", || {
            let left: Vec<_> = self.on_the_shelf().into_iter().filter(|name| name.starts_with('.')).collect();
            if left.is_empty() { Ok(()) } else { Err(left.join(" ")) }
        });
    }

    /// `lib/pythonX.Y/site-packages` of an environment.
    pub(crate) fn site_packages(&self, id: &str) -> PathBuf {
        let lib = self.shelf().join(id).join("lib");
        let entry = std::fs::read_dir(lib).expect("is there").flatten().next().expect("it has a python");
        entry.path().join("site-packages")
    }
}

/// The id of the environment that a job used.
#[track_caller]
pub(crate) fn environment_of(job: &Value) -> String {
    job["environment"].as_str().unwrap_or_else(|| panic!("it used no environment: {job}")).to_owned()
}

/// The versions in a list of packages, without what is not the same every day.
pub(crate) fn names(packages: &Value) -> Vec<&str> {
    let packages = packages.as_array().map(Vec::as_slice).unwrap_or_default();
    packages.iter().filter_map(|package| Some(package.as_str()?.split_once("==")?.0)).collect()
}

/// The interpreters on this machine, by minor version: on `PATH`, and where pyenv keeps them.
pub(crate) fn pythons() -> BTreeMap<String, PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let pyenv = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let pyenv = pyenv.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pyenv")));
    let versions = pyenv.and_then(|root| std::fs::read_dir(root.join("versions")).ok());
    let of_pyenv = versions.into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    let directories: Vec<PathBuf> = of_pyenv.chain(std::env::split_paths(&path)).collect();
    let mut found = BTreeMap::new();
    for minor in 8..=13 {
        let name = format!("python3.{minor}");
        // A shim is a script, and stands for whatever pyenv thinks of at the time.
        let is_program = |file: &PathBuf| std::fs::read(file).is_ok_and(|content| content.starts_with(b"\x7fELF"));
        if let Some(file) = directories.iter().map(|directory| directory.join(&name)).find(is_program) {
            found.insert(format!("3.{minor}"), file);
        }
    }
    found
}

fn directory_of(file: &Path) -> PathBuf {
    file.parent().expect("a file lies in a directory").to_owned()
}
