//! Who has connected: what the kernel and `/proc` say of that process. Nothing that it says of itself counts here.
//!
//! The daemon looks once for each connection, before anything is exchanged. What it finds says whether the process is in a
//! fence, what a job of it takes over, and whether such a job may run here at all: it is never run elsewhere than where its
//! submitter is.

use std::io;
use std::os::fd::AsFd;

use pyexec_proto::Error;
use pyexec_proto::daemon::ForYou;
use pyexec_proto::world::{Submitter, World, enumerated};
use pyexec_run_directory::proc_file;
use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::process::Pid;

use super::{process, scheduling, taking_over};
use pyexec_run_directory::processes::{gains_privileges, may_gain_privileges};

/// This daemon, as it was when it started.
#[derive(Clone, Debug)]
pub struct Own {
    pub world: World,
    /// Jobs can be given other groups than the daemon's.
    pub may_set_groups: bool,
    powers: taking_over::Powers,
    /// It is a unit of a service manager, which would start it in the same place again.
    is_unit: bool,
}

impl Own {
    /// # Errors
    /// `/proc` is not there, or not this process's.
    pub fn look() -> io::Result<Self> {
        /// Of `linux/capability.h`.
        const CAP_SETGID: u32 = 6;
        let status = proc_file::read(c"/proc/self/status")?;
        let boot_id = pyexec_run_directory::boot::id();
        let powers = taking_over::Powers::of(&status, scheduling::of(None)?);
        let is_unit = ["NOTIFY_SOCKET", "LISTEN_PID"].iter().any(|name| std::env::var_os(name).is_some());
        Ok(Self {
            world: World { boot_id, ..world_of("self", &status, None)? },
            may_set_groups: powers.has(CAP_SETGID),
            powers,
            is_unit,
        })
    }

    /// Why the kernel does not show this daemon where a process of this `status` runs, in words that follow "the daemon": it
    /// has something that the daemon has not.
    fn shut_out_by(&self, status: &str) -> Option<String> {
        let (group, groups) = groups_of(status)?;
        let differences = self.world.differences_in_groups(&World { group, groups, ..World::default() });
        if group != self.world.group {
            return Some(format!("has {}, and cannot see where this process runs", enumerated(&differences)));
        }
        let capabilities = taking_over::capabilities_in(status, "CapPrm");
        Some(if self.powers.include(capabilities) {
            "cannot see where this process runs: it is in another user namespace or outside of a sandbox that the daemon is in"
                .to_owned()
        } else {
            "does not have the capabilities of this process, and cannot see where it runs".to_owned()
        })
    }

    /// What a job of `submitter` finds otherwise here than the submitter has it, in words that follow "the daemon"; `None`
    /// where it may run here.
    pub fn otherwise_than(&self, submitter: &World) -> Option<String> {
        let mut differences = self.world.differences(submitter);
        if !self.may_set_groups {
            differences.extend(self.world.differences_in_groups(submitter));
        }
        (!differences.is_empty()).then(|| format!("has {}", enumerated(&differences)))
    }
}

/// A process that has connected.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Why it may have nothing done: it is inside a fence, or cannot be told from one that is.
    pub confined: Option<&'static str>,
    /// What a job of it takes over; or why it would be refused.
    submitter: Result<Submitter, Error>,
    /// What a job of it would not have as it has it.
    not_taken_over: Vec<String>,
}

const UNSEEN: &str = "runs in a pid namespace into which the daemon cannot see";

impl Peer {
    /// `pid` is what the kernel says; `None` where the process has none in the daemon's pid namespace.
    pub fn look(pid: Option<Pid>, own: &Own) -> Self {
        let refused = |how: String| Err(Error::OtherWorld { how, by_manager: own.is_unit });
        let Some(pid) = pid else {
            let submitter =
                refused("runs in another pid namespace, and cannot see into that of this process".to_owned());
            return Self { confined: Some(UNSEEN), submitter, not_taken_over: vec![] };
        };
        let status = proc_file::read(format!("/proc/{}/status", pid.as_raw_nonzero()));
        let confined = confined_by(pid, &status);
        let unseen = |error: io::Error| format!("cannot see where this process runs: {error}");
        let looked = status.map_err(unseen).and_then(|status| {
            let world = world_of(&pid.as_raw_nonzero().to_string(), &status, Some(&own.world));
            let world = world.map_err(|error| own.shut_out_by(&status).unwrap_or_else(|| unseen(error)))?;
            let scheduling = scheduling::of(Some(pid)).map_err(|error| unseen(error.into()))?;
            Ok(Submitter { world: World { boot_id: own.world.boot_id.clone(), ..world }, scheduling })
        });
        let (submitter, not_taken_over) = match looked {
            Ok(submitter) => {
                let not_taken_over = own.powers.would_refuse(&submitter.scheduling);
                match own.otherwise_than(&submitter.world) {
                    None => (Ok(submitter), not_taken_over),
                    Some(how) => (refused(how), not_taken_over),
                }
            }
            Err(why) => (refused(why), vec![]),
        };
        Self { confined, submitter, not_taken_over }
    }

    /// The kernel does not say who it is.
    pub fn is_unseen(&self) -> bool {
        self.confined == Some(UNSEEN)
    }

    /// # Errors
    /// [`Error::OtherWorld`], when a job of it would not run where it does.
    pub fn submitter(&self) -> Result<Submitter, Error> {
        self.submitter.clone()
    }

    /// For `doctor` and `daemon status`.
    pub fn for_you(&self) -> ForYou {
        ForYou { refused: self.submitter.as_ref().err().cloned(), not_taken_over: self.not_taken_over.clone() }
    }
}

/// The user and the pid at the other end; the pid is `None` where it has none in our namespace.
///
/// # Errors
/// It is no socket.
pub fn at(socket: impl AsFd) -> io::Result<(rustix::process::Uid, Option<Pid>)> {
    process::peer_of(socket.as_fd())
}

/// Whether a process that has connected is inside a fence, where this one is not: how that shows. Every job in a fence may
/// gain no privileges, which it can not undo; where that is true of us as well, it is by its network that it is told. One
/// that is not there any more, or can not be looked at, is no better.
///
/// Others have taken the same upon themselves, in a sandbox of their own: we are not to be the way out of that, either.
pub fn confined(pid: Option<Pid>) -> Option<&'static str> {
    let Some(pid) = pid else { return Some(UNSEEN) };
    confined_by(pid, &proc_file::read(format!("/proc/{}/status", pid.as_raw_nonzero())))
}

/// The same, of a process whose `status` has been read.
fn confined_by(pid: Pid, status: &io::Result<String>) -> Option<&'static str> {
    let network = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net"));
    let gains = match status {
        Ok(status) => gains_privileges(status).map_err(|_| None),
        Err(error) => Err(error.raw_os_error()),
    };
    match gains {
        Ok(true) => None,
        Ok(false) if may_gain_privileges("self").unwrap_or(true) => Some("may gain no privileges (no_new_privs)"),
        Ok(false) => match (network(&pid.as_raw_nonzero().to_string()), network("self")) {
            (Ok(theirs), Ok(ours)) if theirs == ours => None,
            (Ok(_), Ok(_)) => Some("has another network than the daemon"),
            (Err(_), _) | (_, Err(_)) => Some("can not be looked at"),
        },
        Err(Some(libc::EMFILE)) => Some("cannot be looked at: the daemon has no file descriptor left (`ulimit -n`)"),
        Err(_) if may_gain_privileges("self").is_err() => {
            Some("cannot be looked at: the daemon has no /proc any more; end it with SIGTERM")
        }
        Err(_) => Some("can not be looked at"),
    }
}

/// The world of `/proc/PROCESS`, whose `status` has been read, without the boot. What `own`, the daemon, does not know of
/// itself is not looked for.
fn world_of(process: &str, status: &str, own: Option<&World>) -> io::Result<World> {
    let namespace = |kind: &str, of_own: fn(&World) -> &str| {
        if own.is_some_and(|own| of_own(own).is_empty()) {
            return Ok(String::new());
        }
        match rustix::fs::readlinkat(CWD, format!("/proc/{process}/ns/{kind}"), Vec::new()) {
            Ok(link) => Ok(link.to_string_lossy().into_owned()),
            // A kernel without namespaces of this kind.
            Err(rustix::io::Errno::NOENT) if own.is_none() => Ok(String::new()),
            Err(error) => Err(io::Error::from(error)),
        }
    };
    let (group, groups) = groups_of(status).ok_or(io::ErrorKind::InvalidData)?;
    Ok(World {
        network_namespace: namespace("net", |own| &own.network_namespace)?,
        mount_namespace: namespace("mnt", |own| &own.mount_namespace)?,
        pid_namespace: namespace("pid", |own| &own.pid_namespace)?,
        user_namespace: namespace("user", |own| &own.user_namespace)?,
        root_directory: root_of(process)?,
        group,
        groups,
        boot_id: String::new(),
    })
}

/// The effective group, and the supplementary ones in ascending order.
fn groups_of(status: &str) -> Option<(u32, Vec<u32>)> {
    let numbers = |name: &str| -> Vec<u32> {
        let value = proc_file::field(status, name).unwrap_or_default();
        value.split_whitespace().filter_map(|number| number.parse().ok()).collect()
    };
    // Real, effective, saved, and that of the file system.
    let group = numbers("Gid").get(1).copied()?;
    let mut groups = numbers("Groups");
    groups.sort_unstable();
    Some((group, groups))
}

/// The root directory, by the name that it has here and by what tells it from another of that name. One that is not ours is
/// not touched: what it lies on may not answer.
fn root_of(process: &str) -> io::Result<String> {
    let path = format!("/proc/{process}/root");
    let link = rustix::fs::readlinkat(CWD, &path, Vec::new())?;
    if link.as_bytes() != b"/" {
        return Ok(link.to_string_lossy().into_owned());
    }
    let found = rustix::fs::statx(CWD, path, AtFlags::STATX_DONT_SYNC, StatxFlags::INO)?;
    Ok(format!("/, device {}:{}, inode {}", found.stx_dev_major, found.stx_dev_minor, found.stx_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_like_the_daemon_may_submit_jobs_and_one_that_cannot_be_seen_may_not() {
        let own = Own::look().expect("there is a /proc");
        let child = std::process::Command::new("sleep").arg("600").spawn();
        let mut child = child.expect("can be started");
        let peer = Peer::look(i32::try_from(child.id()).ok().and_then(Pid::from_raw), &own);
        child.kill().and_then(|()| child.wait()).expect("can be killed");
        let submitter = peer.submitter().expect("is like us");
        assert_eq!((submitter.world, peer.confined), (own.world.clone(), None));
        assert_eq!(peer.not_taken_over, Vec::<String>::new());
        let gone = Peer::look(i32::try_from(child.id()).ok().and_then(Pid::from_raw), &own);
        assert!(gone.confined.is_some() && gone.submitter().is_err(), "{gone:?}");
        let unseen = Peer::look(None, &own);
        let refused = unseen.submitter().expect_err("is not seen").to_string();
        assert!(unseen.confined.is_some() && refused.contains("another pid namespace"), "{refused}");
    }

    #[test]
    fn a_process_with_another_root_directory_may_submit_nothing() {
        use std::io::{BufRead, BufReader};
        const CHROOT: &str = "import os, sys; os.chroot(sys.argv[1]); print('there', flush=True); sys.stdin.read()";
        if !rustix::process::geteuid().is_root() {
            let skipped = std::env::var("PYEXEC_TEST_SKIP").unwrap_or_default();
            let is_meant = skipped.split(',').any(|name| name.trim() == "other_users");
            assert!(
                is_meant,
                "it takes root to change the root directory; if it is meant, PYEXEC_TEST_SKIP=other_users"
            );
            return;
        }
        let own = Own::look().expect("there is a /proc");
        let directory = tempfile::tempdir().expect("a directory");
        let mut command = std::process::Command::new("python3");
        command.args(["-c", CHROOT]).arg(directory.path());
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = command.spawn().expect("there is a python3");
        let mut said = String::new();
        let stdout = child.stdout.as_mut().expect("is a pipe");
        BufReader::new(stdout).read_line(&mut said).expect("can be read");
        assert_eq!(said, "there\n");
        let peer = Peer::look(i32::try_from(child.id()).ok().and_then(Pid::from_raw), &own);
        drop(child.stdin.take());
        child.wait().expect("reads to the end");
        let refused = peer.submitter().expect_err("is elsewhere").to_string();
        let named =
            format!("another root directory ({}, here {})", own.world.root_directory, directory.path().display());
        assert!(refused.contains(&named), "{refused}");
    }

    #[test]
    fn what_a_process_has_that_the_daemon_does_not_is_why_it_cannot_be_seen() {
        let own = Own::look().expect("there is a /proc");
        let (group, groups) = (own.world.group, own.world.groups.iter().map(|group| format!("{group} ")));
        let groups: String = groups.collect();
        let why = |group: u32, capabilities: u64| {
            let powers = own.powers.without_any();
            let status = format!("Gid:\t1\t{group}\t1\t1\nGroups:\t{groups}\nCapPrm:\t{capabilities:016x}\n");
            Own { powers, ..own.clone() }.shut_out_by(&status).expect("says why")
        };
        assert!(why(group + 1, 0).contains("another primary group"), "{}", why(group + 1, 0));
        assert!(why(group, 1 << 35).contains("capabilities"), "{}", why(group, 1 << 35));
        assert!(why(group, 0).contains("user namespace"), "{}", why(group, 0));
    }

    #[test]
    fn other_groups_are_a_difference_only_where_they_cannot_be_set() {
        let own = Own::look().expect("there is a /proc");
        let other = World { groups: vec![4321], ..own.world.clone() };
        let with = |may_set_groups| Own { may_set_groups, ..own.clone() }.otherwise_than(&other);
        assert_eq!(with(true), None);
        assert!(with(false).is_some_and(|how| how.contains("4321")));
        let network = World { network_namespace: "net:[1]".to_owned(), ..own.world.clone() };
        assert!(Own { may_set_groups: true, ..own.clone() }.otherwise_than(&network).is_some());
    }
}
