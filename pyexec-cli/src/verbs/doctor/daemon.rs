//! The daemon and its socket. It is asked, never started.

use pyexec_run_directory::{directories, lock_file, place};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use pyexec_client::{Client, ClientError, Daemon};
use pyexec_proto::OsText;
use pyexec_proto::daemon::DaemonStatus;
use pyexec_proto::paths::Paths;

use super::check::{Check, LOOK_LIMIT, OUR_VERSION};
use super::{limits, systemd};
use crate::advice::Advice;
use crate::render;

pub(super) async fn checks(paths: &Paths) -> Vec<Check> {
    let asked = async {
        let client = Client::connect(paths.clone(), Daemon::MustRun).await?;
        client.status().await
    };
    let asked = tokio::time::timeout(LOOK_LIMIT, asked).await;
    let socket = match &asked {
        // It may listen elsewhere than one would look.
        Ok(Ok(status)) => status.socket.as_path().to_owned(),
        Ok(Err(_)) | Err(_) => paths.socket.clone(),
    };
    let scopes = match &asked {
        Ok(Ok(status)) => Some(systemd::scopes(&status.scopes)),
        Ok(Err(_)) | Err(_) => systemd::scopes_to_be(),
    };
    let limits = match &asked {
        Ok(Ok(status)) => limits::check(status.pid),
        Ok(Err(_)) | Err(_) => None,
    };
    let last = match &asked {
        Ok(Err(ClientError::NotRunning)) => last_elsewhere(paths),
        Ok(_) | Err(_) => None,
    };
    let daemon = match &asked {
        Ok(Ok(status)) => running(status),
        Ok(Err(ClientError::NotRunning)) => Check::ok("daemon", "not running; it starts when it is needed"),
        Ok(Err(error)) => {
            let hint = error.hint().unwrap_or_else(|| "see `pyexec daemon logs`".into());
            Check::problem("daemon", pyexec_view::with_causes(error), hint)
        }
        Err(_) => {
            let detail = format!("did not answer within {} s", LOOK_LIMIT.as_secs());
            Check::problem("daemon", detail, "`pyexec daemon restart` starts a new one; running jobs are not affected")
        }
    };
    let differences = match &asked {
        Ok(Ok(status)) => [differences(status, paths), world(status)].concat(),
        Ok(Err(_)) | Err(_) => vec![],
    };
    let found = [daemon].into_iter().chain(last).chain(look_at(&socket)).chain(differences);
    found.chain(limits).chain(scopes).collect()
}

/// The daemon has the directories of whoever started it.
fn differences(status: &DaemonStatus, paths: &Paths) -> Vec<Check> {
    let ours = directories::of(paths);
    let of_each = status.directories.differences(&ours).map(|(name, variable, theirs, ours)| {
        let title = format!("{name} directory of the daemon");
        let detail = format!("{}, and yours is {}", theirs.path, ours.path);
        match name {
            // Scripts are the client's own, and the socket has been found.
            "data" | "runtime" => Check::ok(title, detail),
            _ => {
                let hint = format!(
                    "{variable} is another one where the daemon was started; `pyexec daemon restart` starts it with yours, \
                     running jobs are not affected"
                );
                Check::warning(title, detail, hint)
            }
        }
    });
    of_each.collect()
}

/// Whether jobs of this shell run where it does, and as it does.
fn world(status: &DaemonStatus) -> Vec<Check> {
    let for_you = &status.for_you;
    let place = match &for_you.refused {
        None => Check::ok("where jobs run", "in the namespaces, the root directory and the groups of this shell"),
        Some(refused) => Check::warning("where jobs run", refused.to_string(), refused.hint().unwrap_or_default()),
    };
    let scheduling = (!for_you.not_taken_over.is_empty()).then(|| {
        let hint = "only root may change these in the kernel; a daemon that is started from here has them already, \
            where no service manager starts it";
        Check::warning("scheduling", format!("of a job from here, {}", for_you.not_taken_over.join("; ")), hint)
    });
    [place].into_iter().chain(scheduling).collect()
}

fn running(status: &DaemonStatus) -> Check {
    let by = if is_unit(status.pid) { "a unit of systemd" } else { "a process of its own" };
    let up = render::duration(Duration::from_secs(status.uptime_seconds));
    let jobs = status.jobs_running;
    let instance = status.instance.as_ref().map(|name| format!(", instance `{name}`")).unwrap_or_default();
    let detail = format!("{}, pid {}{instance}, {by}, up for {up}, jobs running: {jobs}", status.version, status.pid);
    if let Some(problem) = &status.index_problem {
        let hint =
            "jobs are kept nevertheless; free disk space (`pyexec prune`), or find the process that uses the file";
        return Check::problem("daemon", format!("{detail}; its index cannot be used: {problem}"), hint);
    }
    if status.version == OUR_VERSION {
        return Check::ok("daemon", detail);
    }
    let hint = "`pyexec daemon restart` starts the installed version; jobs go on";
    Check::warning("daemon", format!("{detail}; this program is {OUR_VERSION}"), hint)
}

/// The lock that tells two machines with one home of each other may not hold between them.
fn last_elsewhere(paths: &Paths) -> Option<Check> {
    let last = lock_file::last_to_be_ended(paths)?;
    let place = last.place?.elsewhere_than(&place::here())?;
    let detail = format!("the last daemon of this state directory ran {place}, and did not exit cleanly");
    let hint = "if it still runs there, locks do not hold between the two: let XDG_STATE_HOME name a directory of this \
        machine's own";
    Some(Check::warning("daemon elsewhere", detail, hint))
}

/// By the control group it is in.
fn is_unit(pid: u32) -> bool {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    groups.lines().any(|line| line.split('/').any(|part| part == "pyexecd.service"))
}

/// `None` where there is none, which is as it should be while no daemon runs.
fn look_at(socket: &Path) -> Option<Check> {
    const NAME: &str = "socket";
    let shown = OsText::from(socket).to_text();
    let found = match socket.symlink_metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            let hint = "check its parent directories, or set PYEXEC_SOCKET to another path";
            return Some(Check::problem(NAME, format!("{shown}: {error}"), hint));
        }
    };
    let mode = found.mode() & 0o7777;
    let ours = rustix::process::geteuid().as_raw();
    Some(if !found.file_type().is_socket() {
        let hint = "no daemon can listen there: move the file away, or set PYEXEC_SOCKET to another path";
        Check::problem(NAME, format!("{shown} is not a socket"), hint)
    } else if found.uid() != ours {
        let hint = "set PYEXEC_SOCKET to a path of your own, or unset it";
        Check::problem(NAME, format!("{shown} belongs to user {}, and you are {ours}", found.uid()), hint)
    } else if mode & 0o077 != 0 {
        let hint = "the daemon refuses them, but `pyexec daemon restart` makes it private again";
        Check::warning(NAME, format!("{shown}, mode {mode:04o}: others may connect"), hint)
    } else {
        Check::ok(NAME, format!("{shown}, mode {mode:04o}"))
    })
}
