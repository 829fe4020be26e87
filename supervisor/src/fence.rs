//! What a job is kept from: what this kernel can do of it, and what is prepared before its process is forked.
//!
//! The network: a network namespace with nothing in it but `lo`, which is brought up. It belongs to a user namespace in
//! which every id is mapped to itself, so that the job sees the same users, and has no power over the namespace it comes
//! from: root, too, could otherwise walk back into the first network with `setns(2)`.
//!
//! The file system: a Landlock ruleset that handles writing, and nothing else. What is promised of it takes Landlock's
//! third version (truncation); a kernel that has less refuses the job. Scopes (signals, abstract sockets) are taken where
//! the kernel has them, and not promised.
//!
//! Nothing of this is for the supervisor, which writes output and record: the child does it to itself, between fork and
//! exec, in `process`.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, Scope,
};
use pyexec_proto::fence::{Fence, FenceCheck, FilesystemFence};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::process::{self, PreparedFence, Program, Stage, StartFailure, Stdio, ToSet};
use pyexec_run_directory::control::Launch;
use pyexec_run_directory::processes;
use pyexec_run_directory::report::REPORTS;

const ARTIFACTS: &str = "artifacts";

/// Linux 6.2. Without it a file that may not be written can be truncated.
const LEAST_LANDLOCK: u32 = 3;

/// Why a fence can not be had, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub fence: &'static str,
    pub problem: String,
    pub hint: String,
}

impl Refusal {
    fn new(fence: &'static str, problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { fence, problem: problem.into(), hint: hint.into() }
    }
}

const NETWORK: &str = "network";
const FILESYSTEM: &str = "filesystem";

/// What can be known without trying: read anew each time, because an administrator may have changed it. What can not be
/// known so is found out when the job is started.
///
/// # Errors
/// When the kernel would refuse it for certain.
pub fn check(fence: Fence) -> Result<(), Refusal> {
    if fence.network.is_some() {
        check_namespaces()?;
    }
    if fence.filesystem.is_some() {
        check_landlock()?;
        check_own_privileges()?;
    }
    Ok(())
}

/// What tells a job in such a fence from other clients must not be true of every client.
fn check_own_privileges() -> Result<(), Refusal> {
    if processes::may_gain_privileges("self").unwrap_or(true) {
        return Ok(());
    }
    let problem = "this daemon may itself gain no privileges (no_new_privs), as a job in the fence, and could not refuse \
        to do for that job what the fence forbids";
    Err(Refusal::new(FILESYSTEM, problem, "start the daemon where no_new_privs is not set"))
}

fn check_namespaces() -> Result<(), Refusal> {
    for (kind, name) in [("user", "CONFIG_USER_NS"), ("net", "CONFIG_NET_NS")] {
        if !Path::new("/proc/self/ns").join(kind).exists() {
            let problem = format!("this kernel has no {kind} namespaces");
            return Err(Refusal::new(NETWORK, problem, format!("it takes a kernel with {name}")));
        }
        let most = format!("/proc/sys/user/max_{kind}_namespaces");
        if setting(&most).as_deref() == Some("0") {
            let hint = format!("`sysctl -w user.max_{kind}_namespaces=1000` as root, if that is to be allowed");
            return Err(Refusal::new(NETWORK, format!("{most} is 0"), hint));
        }
    }
    const UNPRIVILEGED: &str = "/proc/sys/kernel/unprivileged_userns_clone";
    if !geteuid().is_root() && setting(UNPRIVILEGED).as_deref() == Some("0") {
        let hint = "`sysctl -w kernel.unprivileged_userns_clone=1` as root, if that is to be allowed";
        return Err(Refusal::new(NETWORK, format!("{UNPRIVILEGED} is 0"), hint));
    }
    Ok(())
}

fn check_landlock() -> Result<(), Refusal> {
    let hint = "it takes Linux 6.2 or later, with `landlock` among the modules of its boot parameter `lsm=`";
    let refused = |problem: String| Err(Refusal::new(FILESYSTEM, problem, hint));
    match process::landlock_version() {
        Ok(version) if version < LEAST_LANDLOCK => refused(format!(
            "this kernel has version {version} of Landlock, which can not keep files from being truncated"
        )),
        Ok(_) => Ok(()),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::OPNOTSUPP) => refused("Landlock is not enabled in this kernel".to_owned()),
            Some(Errno::NOSYS) => refused("this kernel has no Landlock".to_owned()),
            _ => refused(format!("Landlock can not be asked for: {error}")),
        },
    }
}

fn setting(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// In the run directory. The error is for people.
pub(super) fn prepare(launch: &Launch) -> Result<PreparedFence, String> {
    let Some(filesystem) = launch.fence.filesystem else {
        return Ok(PreparedFence { network: launch.fence.network.is_some(), ..PreparedFence::default() });
    };
    let temporary = launch.temporary_directory.as_ref().ok_or("it was given no temporary directory")?.as_path();
    make_temporary(temporary)
        .map_err(|error| format!("could not make its temporary directory {}: {error}", temporary.display()))?;
    let writable = [PathBuf::from(ARTIFACTS), PathBuf::from(REPORTS), temporary.to_owned()];
    let in_directory = match filesystem {
        FilesystemFence::ReadOnly => None,
        FilesystemFence::Workdir => Some(writing().bits()),
    };
    let ruleset = ruleset(&writable).map_err(|why| format!("a filesystem fence cannot be set up here: {why}"))?;
    Ok(PreparedFence { network: launch.fence.network.is_some(), ruleset: Some(ruleset), in_directory })
}

/// It must be ours: not one that somebody has put there.
fn make_temporary(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path)
}

/// All ways of writing that are handled.
fn writing() -> BitFlags<AccessFs> {
    AccessFs::from_write(ABI::V3)
}

/// Nothing may be written but beneath `writable`, and to what programs take for granted.
fn ruleset(writable: &[PathBuf]) -> Result<OwnedFd, String> {
    // Shared memory and semaphores are files there: multiprocessing does not do without.
    const SHARED_MEMORY: &str = "/dev/shm";
    // Not /dev/tty: a job has no terminal of its own, and nobody else's is to become it.
    const DEVICES: [&str; 3] = ["/dev/null", "/dev/zero", "/dev/full"];
    check_landlock().map_err(|refusal| refusal.problem)?;
    let said = |error: landlock::RulesetError| error.to_string();
    let writing = writing();
    let allow = |ruleset: RulesetCreated, path: &Path, access| {
        let opened = PathFd::new(path).map_err(|error| format!("{}: {error}", path.display()))?;
        ruleset.add_rule(PathBeneath::new(opened, access)).map_err(said)
    };
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(writing)
        .map_err(said)?
        .set_compatibility(CompatLevel::BestEffort)
        .scope(Scope::from_all(ABI::V6))
        .map_err(said)?
        .set_compatibility(CompatLevel::HardRequirement)
        .create()
        .map_err(said)?;
    for path in writable {
        ruleset = allow(ruleset, path, writing)?;
    }
    if Path::new(SHARED_MEMORY).is_dir() {
        ruleset = allow(ruleset, Path::new(SHARED_MEMORY), writing)?;
    }
    for device in DEVICES.map(Path::new).into_iter().filter(|device| device.exists()) {
        ruleset = allow(ruleset, device, AccessFs::WriteFile | AccessFs::Truncate)?;
    }
    Option::<OwnedFd>::from(ruleset).ok_or_else(|| "Landlock gave no ruleset".to_owned())
}

/// What a failure to make or to fill the namespaces means.
pub(super) fn explain_namespaces(doing: &str, error: &io::Error) -> String {
    let refusal = check_namespaces().err().or_else(|| limit_reached(error)).or_else(|| restricted_by_apparmor(error));
    let why = refusal.map(|refusal| format!("; {}: {}", refusal.problem, refusal.hint));
    format!("a network fence cannot be set up here: {doing}: {error}{}", why.unwrap_or_default())
}

fn limit_reached(error: &io::Error) -> Option<Refusal> {
    (Errno::from_io_error(error) == Some(Errno::NOSPC)).then(|| {
        let hint = "wait for other jobs to end, or raise those limits as root";
        Refusal::new(
            NETWORK,
            "as many as /proc/sys/user/max_user_namespaces or max_net_namespaces allows are in use",
            hint,
        )
    })
}

fn restricted_by_apparmor(error: &io::Error) -> Option<Refusal> {
    const RESTRICTED: &str = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";
    let is_refusal = error.kind() == io::ErrorKind::PermissionDenied;
    (is_refusal && setting(RESTRICTED).as_deref() == Some("1")).then(|| {
        let hint = "`sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` as root, or an AppArmor profile for \
            pyexecd with `userns,`";
        Refusal::new(NETWORK, format!("{RESTRICTED} is 1"), hint)
    })
}

/// For `pyexec doctor`: tries each kind of fence on a process of ours. Only in a process that has one thread.
pub fn try_each() -> Vec<FenceCheck> {
    let check = |fence: &str, tried: Result<String, Refusal>| {
        let (detail, hint) = match tried {
            Ok(detail) => (detail, None),
            Err(refusal) => (refusal.problem, Some(refusal.hint)),
        };
        FenceCheck { fence: fence.to_owned(), detail, hint }
    };
    let network = check_namespaces().and_then(|()| {
        try_out(NETWORK, PreparedFence { network: true, ..PreparedFence::default() })?;
        Ok("user and network namespaces".to_owned())
    });
    let filesystem = check_landlock().and_then(|()| {
        let ruleset = ruleset(&[]).map_err(|problem| Refusal::new(FILESYSTEM, problem, REPORT))?;
        try_out(FILESYSTEM, PreparedFence { ruleset: Some(ruleset), ..PreparedFence::default() })?;
        Ok(format!("Landlock, version {}", process::landlock_version().unwrap_or(LEAST_LANDLOCK)))
    });
    vec![check(NETWORK, network), check(FILESYSTEM, filesystem)]
}

const REPORT: &str = "jobs that ask for it are refused; a container or a security module may be what forbids it";

/// Starts this very program inside the fence, for no more than its version.
fn try_out(name: &'static str, fence: PreparedFence) -> Result<(), Refusal> {
    let refused = |problem: String| Refusal::new(name, problem, REPORT);
    let null = || File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from);
    let streams = || Ok::<_, io::Error>(Stdio { stdin: null()?, stdout: null()?, stderr: null()? });
    let stdio = streams().map_err(|error| refused(format!("/dev/null: {error}")))?;
    let program = Program {
        path: c"/proc/self/exe".to_owned(),
        argv: vec![c"pyexecd".to_owned(), c"--version".to_owned()],
        environment: vec![],
        directory: c"/".to_owned(),
        umask: 0o077,
        limits: vec![],
        to_set: ToSet::default(),
        fence,
    };
    let started = process::start(&program, stdio).and_then(process::Starting::wait);
    let pid = started.map_err(|failure| refused(explain(&failure)))?;
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let _ = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty());
    Ok(())
}

/// Where putting up a fence failed, for people; of another stage, the bare error.
pub(super) fn explain(failure: &StartFailure) -> String {
    let error = &failure.error;
    match failure.stage {
        Stage::Namespaces => explain_namespaces("no user and network namespace could be made", error),
        Stage::Ids if geteuid().is_root() => {
            let doing = "its ids could not be mapped to themselves, for which root takes CAP_SETUID, CAP_SETGID and CAP_SETFCAP";
            explain_namespaces(doing, error)
        }
        Stage::Ids => explain_namespaces("its ids could not be mapped to themselves", error),
        Stage::Loopback => {
            format!("a network fence cannot be set up here: its loopback device could not be brought up: {error}")
        }
        Stage::Landlock => format!("a filesystem fence cannot be set up here: Landlock could not be applied: {error}"),
        Stage::Fork | Stage::Setup | Stage::Groups | Stage::Directory | Stage::Exec => error.to_string(),
    }
}
