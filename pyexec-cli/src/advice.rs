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
                "`mount -t proc proc /proc` makes it, in a container or chroot too; pyexec needs it to tell processes \
                apart"
                    .into()
            }
            ClientError::ForeignDirectory(error) => error.hint.clone(),
            ClientError::Connect { .. } => "`pyexec daemon restart` makes a new one, jobs that run are not affected; \
                `pyexec doctor` looks for what may be wrong"
                .into(),
            ClientError::ForeignDaemon { .. } => "point PYEXEC_SOCKET at a socket of your own, or unset it".into(),
            ClientError::Preamble { .. } => {
                "something else may be listening there: look at PYEXEC_SOCKET; `pyexec doctor` does, too".into()
            }
            ClientError::Unresponsive { pid, state: ProcessState::Stopped } => format!(
                "`kill -CONT {pid}` lets it go on; `pyexec daemon restart` ends it and starts another; jobs that run are \
                 not affected"
            ),
            ClientError::Unresponsive { .. } => {
                "`pyexec daemon logs` says what it is busy with; `pyexec daemon restart` \
                ends it, by force if need be, and starts another; jobs that run are not affected"
                    .into()
            }
            ClientError::OtherState { .. } => format!(
                "unset {SOCKET_VARIABLE}, and pyexec starts a daemon of yours beside it; or let {SOCKET_VARIABLE} name \
                 another socket"
            ),
            ClientError::Version { daemon, client } if daemon.highest < client.lowest => {
                "the daemon is the older one: `pyexec daemon restart` starts the installed version; jobs go on".into()
            }
            ClientError::Version { .. } => {
                "this program is the older one: upgrade it, or restart the editor that started it".into()
            }
            ClientError::Late { .. } | ClientError::Broken { .. } => {
                "`pyexec daemon logs` says what it is busy with; `pyexec doctor` looks for what may be wrong".into()
            }
            ClientError::Unanswered { id, .. } => {
                format!("`pyexec show {id}` says what became of it: look before running it again")
            }
            ClientError::TooLarge => "put what is that long into a file, and let the script open that".into(),
        })
    }
}

impl Advice for StartError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            StartError::NoProgram => {
                "it is expected beside this program, or on PATH; PYEXEC_DAEMON may name it instead; \
                `pyexec doctor` looks at the whole installation"
                    .into()
            }
            StartError::Prepare { .. } => {
                "check that the directory can be written to, or let XDG_STATE_HOME name another; `pyexec doctor` looks \
                at all of them"
                    .into()
            }
            StartError::Spawn { source, .. } if source.kind() == ErrorKind::WouldBlock => {
                "this user may have reached the limit on processes (`ulimit -u`), which counts threads".into()
            }
            StartError::Spawn { .. } => {
                "check that the file is executable; `pyexec doctor` looks at the whole installation".into()
            }
            StartError::Failed { .. } | StartError::Died | StartError::Late => {
                "`pyexec doctor` looks for what may be wrong, and `pyexec daemon logs` has more".into()
            }
        })
    }
}

impl Advice for Elsewhere {
    fn hint(&self) -> Option<String> {
        Some(
            "stop it there (`pyexec daemon stop`), or let XDG_STATE_HOME name another directory here, which makes a separate \
        instance with its own jobs"
            .to_owned(),
        )
    }
}

impl Advice for Error {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Error::NoSuchJob { .. } => {
                "`pyexec jobs --all` lists them; any prefix of at least four characters that fits only one will do"
                    .into()
            }
            Error::AmbiguousJob { .. } => "type more of the id".into(),
            Error::IdTaken { .. } => "submit under a new id".into(),
            Error::InvalidArgument { hint, .. } | Error::Environment { hint, .. } | Error::NoFence { hint, .. } => {
                hint.clone()
            }
            Error::Fenced { .. } => {
                "have it done from outside of the fence: what the daemon starts for it would be outside, too".into()
            }
            Error::NotFound { what: Named::Script, .. } => {
                "paths are relative to the job's directory; check the spelling, or pass code with -c".into()
            }
            Error::NotFound { what: Named::EnvFile | Named::RequirementsFile, .. } => {
                "paths are relative to the job's directory; check the spelling".into()
            }
            Error::NotFound { what: Named::Environment, .. } => "`pyexec env list` shows those there are".into(),
            Error::NotFound { what: Named::SavedScript, .. } => "`pyexec scripts list` shows those there are".into(),
            Error::NotFound { what: Named::AutosavedScript, .. } => {
                "`pyexec scripts list --autosaved` shows those there are".into()
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
                    "`kill -CONT {pid}` lets it go on, which the daemon has tried; `pyexec kill --now {id}` ends the job"
                ),
                Held::Traced | Held::Disk | Held::Busy | Held::OutOfReach => {
                    format!("`pyexec show {id}` says how the job is; `pyexec kill --now {id}` ends it")
                }
            },
            Error::NoInput { .. } => return None,
            Error::NoArtifact { id, why: NoArtifact::Directory, .. } => {
                format!("`pyexec artifacts {id} -o DIR` copies what is in it")
            }
            Error::NoArtifact { id, .. } => format!("`pyexec artifacts {id}` lists those there are"),
            Error::BeingRemoved { .. } => "`pyexec jobs --all` lists those that are kept".into(),
            Error::OutputRemoved { id, .. } => {
                format!("`pyexec show {id}` has what else is known of it; `pyexec prune` forgets it")
            }
            Error::OtherWorld { by_manager, .. } => {
                let own = format!("`{INSTANCE_VARIABLE}=NAME` in the environment gives this place a daemon of its own");
                if *by_manager {
                    format!("{own}; systemd's user manager would start the present one in the same place again")
                } else {
                    format!(
                        "`pyexec daemon restart` from here has the daemon run here, jobs that run are not affected; or {own}"
                    )
                }
            }
            Error::ShuttingDown => "try again: the next call starts a new one".into(),
            Error::Storage { .. } => "`pyexec daemon logs` has the details; jobs that run are not affected".into(),
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
        assert!(hint(false).starts_with("`pyexec daemon restart` from here has the daemon run here"));
        assert!(!hint(true).contains("daemon restart"));
        assert!([true, false].into_iter().all(|by_manager| hint(by_manager).contains("`PYEXEC_INSTANCE=NAME`")));
    }
}
