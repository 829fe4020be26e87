//! What to do next, for each error of the daemon and of the client: in the terms of this command line.

use std::io::ErrorKind;

use pyexec_client::ClientError;
use pyexec_client::start::process::ProcessState;
use pyexec_client::start::{Elsewhere, StartError};
use pyexec_proto::artifact::NoArtifact;
use pyexec_proto::error::{Error, Held, Named, NoInput};
use pyexec_proto::variables::{INSTANCE_VARIABLE, SOCKET_VARIABLE};

pub(crate) trait Advice {
    /// What the reader can do about it; nothing where the message says it all.
    fn hint(&self) -> Option<String>;
}

impl Advice for ClientError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            ClientError::Refused(error) => return error.hint(),
            ClientError::NotRunning => "`pyexec daemon start` starts one; so does `pyexec run`".into(),
            ClientError::Start(error) => return error.hint(),
            ClientError::Elsewhere(error) => return error.hint(),
            ClientError::NoProc => {
                "`mount -t proc proc /proc` mounts it, in a container or chroot too; pyexec needs it to tell processes \
                apart"
                    .into()
            }
            ClientError::ForeignDirectory(error) => error.hint.clone(),
            ClientError::Connect { .. } => "`pyexec daemon restart` makes a new one, running jobs are not affected; \
                `pyexec doctor` looks for the cause"
                .into(),
            ClientError::ForeignDaemon { .. } => "point PYEXEC_SOCKET at a socket of your own, or unset it".into(),
            ClientError::Preamble { .. } => {
                "another program may be listening there: look at PYEXEC_SOCKET, or run `pyexec doctor`".into()
            }
            ClientError::Unresponsive { pid, state: ProcessState::Stopped } => format!(
                "`kill -CONT {pid}` lets it go on; `pyexec daemon restart` ends it and starts a new one; running jobs are \
                 not affected"
            ),
            ClientError::Unresponsive { .. } => "`pyexec daemon logs` shows what it is doing; `pyexec daemon restart` \
                ends it, by force if necessary, and starts a new one; running jobs are not affected"
                .into(),
            ClientError::OtherState { .. } => format!(
                "unset {SOCKET_VARIABLE}, and pyexec starts your own daemon beside it; or set {SOCKET_VARIABLE} to \
                 another path"
            ),
            ClientError::Version { daemon, client } if daemon.highest < client.lowest => {
                "the daemon is the older one: `pyexec daemon restart` starts the installed version; jobs go on".into()
            }
            ClientError::Version { .. } => {
                "this program is the older one: upgrade it, or restart the editor that started it".into()
            }
            ClientError::Late { .. } | ClientError::Broken { .. } => {
                "see `pyexec daemon logs`; `pyexec doctor` looks for the cause".into()
            }
            ClientError::Unanswered { id, .. } => {
                format!("check with `pyexec show {id}` before you run it again")
            }
            ClientError::TooLarge => "write long data to a file, and open that in the script".into(),
        })
    }
}

impl Advice for StartError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            StartError::NoProgram => {
                "install it beside this program or on PATH, or set PYEXEC_DAEMON to its path; `pyexec doctor` checks the \
                whole installation"
                    .into()
            }
            StartError::Prepare { .. } => {
                "check that the directory is writable, or set XDG_STATE_HOME to another; `pyexec doctor` checks all of them"
                    .into()
            }
            StartError::Spawn { source, .. } if source.kind() == ErrorKind::WouldBlock => {
                "this user may have reached the limit on processes (`ulimit -u`), which counts threads".into()
            }
            StartError::Spawn { .. } => {
                "check that the file is executable; `pyexec doctor` checks the whole installation".into()
            }
            StartError::Failed { .. } | StartError::Died | StartError::Late => {
                "run `pyexec doctor`, and see `pyexec daemon logs`".into()
            }
        })
    }
}

impl Advice for Elsewhere {
    fn hint(&self) -> Option<String> {
        Some(
            "stop it there (`pyexec daemon stop`), or set XDG_STATE_HOME to another directory here, for a separate \
            instance with its own jobs"
                .to_owned(),
        )
    }
}

impl Advice for Error {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Error::NoSuchJob { .. } => {
                "`pyexec jobs --all` lists the jobs; a unique prefix of at least four characters is enough".into()
            }
            Error::AmbiguousJob { .. } => "type more of the id".into(),
            Error::IdTaken { .. } => "submit under a new id".into(),
            Error::InvalidArgument { hint, .. } | Error::Environment { hint, .. } | Error::NoFence { hint, .. } => {
                hint.clone()
            }
            Error::Fenced { .. } => {
                "make the call from outside the fence: what the daemon starts runs outside it".into()
            }
            Error::NotFound { what: Named::Script, .. } => {
                "paths are relative to the job's directory; check the spelling, or pass code with -c".into()
            }
            Error::NotFound { what: Named::EnvFile | Named::RequirementsFile, .. } => {
                "paths are relative to the job's directory; check the spelling".into()
            }
            Error::NotFound { what: Named::Environment, .. } => "`pyexec env list` lists the environments".into(),
            Error::NotFound { what: Named::SavedScript, .. } => "`pyexec scripts list` lists the saved scripts".into(),
            Error::NotFound { what: Named::AutosavedScript, .. } => {
                "`pyexec scripts list --autosaved` lists the autosaved scripts".into()
            }
            Error::NotFound { what: Named::Directory, .. } => {
                "the job's directory must exist before it is submitted".into()
            }
            Error::NoInput { why: NoInput::NotOpened, .. } => {
                "start it with `pyexec run -i` to write to it later".into()
            }
            Error::NoInput { why: NoInput::NotStarted, .. } => "try again when `pyexec show` says running".into(),
            Error::NoInput { id, why: NoInput::NoAnswer { pid, held } } => match held {
                Held::Stopped => format!(
                    "the daemon has sent it SIGCONT; `kill -CONT {pid}` tries again, `pyexec kill --now {id}` ends the job"
                ),
                Held::Traced | Held::Disk | Held::Busy | Held::OutOfReach => {
                    format!("`pyexec show {id}` shows the job's state; `pyexec kill --now {id}` ends it")
                }
            },
            Error::NoInput { .. } => return None,
            Error::NoArtifact { id, why: NoArtifact::Directory, .. } => {
                format!("`pyexec artifacts {id} -o DIR` copies its files")
            }
            Error::NoArtifact { id, .. } => format!("`pyexec artifacts {id}` lists the artifacts"),
            Error::BeingRemoved { .. } => "`pyexec jobs --all` lists the jobs that are kept".into(),
            Error::OutputRemoved { id, .. } => {
                format!("`pyexec show {id}` shows the rest of its record; `pyexec prune` removes it")
            }
            Error::OtherWorld { by_manager, .. } => {
                let own = format!("`{INSTANCE_VARIABLE}=NAME` in the environment gives this place a daemon of its own");
                if *by_manager {
                    format!("{own}; systemd's user manager would start the current daemon in the same place again")
                } else {
                    format!(
                        "`pyexec daemon restart` from here moves the daemon here, running jobs are not affected; or {own}"
                    )
                }
            }
            Error::ShuttingDown => "try again: the next call starts a new daemon".into(),
            Error::Storage { .. } => "see `pyexec daemon logs`; running jobs are not affected".into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_its_manager_would_start_in_the_same_place_again_is_not_to_be_restarted() {
        let hint =
            |by_manager| Error::OtherWorld { how: "is elsewhere".to_owned(), by_manager }.hint().expect("has one");
        assert!(hint(false).starts_with("`pyexec daemon restart` from here moves the daemon here"));
        assert!(!hint(true).contains("daemon restart"));
        assert!([true, false].into_iter().all(|by_manager| hint(by_manager).contains("`PYEXEC_INSTANCE=NAME`")));
    }
}
