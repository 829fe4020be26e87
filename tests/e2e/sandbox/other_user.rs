//! Users beside the one that runs the tests: who needs root to become them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Ability, PYEXEC, PYEXECD, Ran, Sandbox, can};

/// Somebody who owns nothing: `nobody`, on most systems.
pub(crate) const NOBODY: u32 = 65534;
/// Somebody else again; he need not be known to the system.
pub(crate) const STRANGER: u32 = 65533;

/// An interpreter that every user may run.
const PYTHON: &str = "/usr/bin/python3";

/// As [`NOBODY`], with nothing of root's left, and a umask that protects nothing.
const AS_NOBODY: &[&str] =
    &["sh", "-c", "umask 0; exec setpriv --reuid=65534 --regid=65534 --clear-groups -- \"$@\"", "sh"];

/// Whether a test that becomes somebody else is to go on: see [`can`].
#[track_caller]
pub(crate) fn can_change_users() -> bool {
    can(Ability::OtherUsers, rustix::process::geteuid().is_root() && Path::new(PYTHON).exists())
}

impl Sandbox {
    /// A sandbox whose command line and daemon run as [`NOBODY`]. Its directories can be entered by everybody, so that what
    /// keeps others out is ours.
    pub(crate) fn of_nobody() -> Self {
        let mut sandbox = Self::new();
        let programs = sandbox.share_programs();
        open(sandbox.root());
        for directory in std::fs::read_dir(sandbox.root()).expect("can be listed") {
            let directory = directory.expect("can be listed").path();
            if directory != programs {
                open(&directory);
                std::os::unix::fs::chown(&directory, Some(NOBODY), Some(NOBODY)).expect("can be given away");
            }
        }
        sandbox.set("PATH", "/usr/bin:/bin");
        sandbox.set("PYEXEC_DAEMON", programs.join("pyexecd"));
        sandbox.pyexec = programs.join("pyexec");
        sandbox.set_through(AS_NOBODY);
        sandbox
    }

    /// Where the programs can be run by everybody.
    fn share_programs(&self) -> PathBuf {
        let programs = self.root().join("programs");
        std::fs::create_dir(&programs).expect("can be made");
        open(&programs);
        for (program, name) in [(PYEXEC, "pyexec"), (PYEXECD, "pyexecd")] {
            let shared = programs.join(name);
            std::fs::hard_link(program, &shared)
                .or_else(|_| std::fs::copy(program, &shared).map(drop))
                .expect("can be copied");
        }
        programs
    }

    /// Runs Python as that user, who sees nothing of this sandbox but what the program names.
    pub(crate) fn python_as(&self, user: u32, program: &str, arguments: &[&str]) -> Ran {
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={user}"), format!("--regid={user}")]).args([
            "--clear-groups",
            "--",
            PYTHON,
            "-c",
        ]);
        command.arg(program).args(arguments).env_clear().current_dir("/").stdin(Stdio::null());
        self.attend(command).end()
    }
}

/// As directories are that others may look into.
pub(crate) fn open(directory: &Path) {
    std::fs::set_permissions(directory, PermissionsExt::from_mode(0o755)).expect("is ours");
}
