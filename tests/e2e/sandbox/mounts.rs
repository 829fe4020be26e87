//! Mounts of a test's own, and a file system that does not answer.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::io::{FdFlags, fcntl_setfd};

use super::{Ability, can};

/// Set for a test that runs in a mount namespace of its own.
const INSIDE: &str = "PYEXEC_TEST_MOUNTS";

/// Plays `test` of `module`, this very one, in a mount namespace, which takes what is mounted there with it. `false`: that
/// was done.
pub(crate) fn in_mount_namespace(module: &str, test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    let module = module.split_once("::").expect("lies in a crate").1;
    command.arg(std::env::current_exe().expect("is known")).args([
        "--exact",
        &format!("{module}::{test}"),
        "--nocapture",
    ]);
    let ran = command.env(INSIDE, "1").output().expect("there is an unshare");
    let said = String::from_utf8_lossy(&ran.stdout);
    let complained = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && said.contains("1 passed"), "{said}\n{complained}");
    false
}

/// A FUSE mount whose server does not answer: whoever touches it waits, until this is dropped.
#[derive(Debug)]
pub(crate) struct Stalled {
    at: PathBuf,
    server: Option<File>,
}

impl Stalled {
    /// Whether a test that makes one is to go on: see [`can`].
    #[track_caller]
    pub(crate) fn can_be_made() -> bool {
        can(Ability::Fuse, File::options().read(true).write(true).open("/dev/fuse").is_ok())
    }

    /// In a mount namespace of the test's own.
    pub(crate) fn mount(at: PathBuf) -> Self {
        std::fs::create_dir(&at).expect("can be made");
        let server = File::options().read(true).write(true).open("/dev/fuse").expect("can be opened");
        fcntl_setfd(&server, FdFlags::empty()).expect("is open");
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
        let mounted = Command::new("mount").args(["-i", "-t", "fuse", "-o", &options, "none"]).arg(&at).status();
        assert!(mounted.expect("there is a mount").success());
        fcntl_setfd(&server, FdFlags::CLOEXEC).expect("is open");
        Self { at, server: Some(server) }
    }

    /// Everybody who waits is told that the server has gone, and so is everybody who comes.
    pub(crate) fn end_server(&mut self) {
        self.server = None;
    }

    pub(crate) fn path(&self) -> &Path {
        &self.at
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        self.end_server();
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}
