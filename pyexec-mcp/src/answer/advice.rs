//! The next step for each error of the daemon and the client: a tool to call, or a command for a terminal if no tool
//! helps.

use std::io::ErrorKind;

use pyexec_client::ClientError;
use pyexec_client::start::StartError;
use pyexec_client::start::process::ProcessState;
use pyexec_proto::error::{Error, Named, NoInput};
use pyexec_proto::variables::{INSTANCE_VARIABLE, SOCKET_VARIABLE};

/// For errors that no tool can fix.
const DOCTOR: &str = "`pyexec doctor` in a terminal looks for what may be wrong";
const NOT_AFFECTED: &str = "jobs that run are not affected";

/// The next step; `None` if the message says everything.
pub(crate) fn next_after(error: &ClientError) -> Option<String> {
    Some(match error {
        ClientError::Refused(refusal) => return after_refusal(refusal),
        ClientError::NotRunning => "call again: the call starts one".to_owned(),
        ClientError::Start(error) => after_start(error),
        ClientError::ForeignDirectory(error) => error.hint.clone(),
        ClientError::Elsewhere(_) => "stop it there (`pyexec daemon stop`), or set XDG_STATE_HOME to another \
            directory for this server, which makes a separate instance with its own jobs"
            .to_owned(),
        ClientError::NoProc => "mount /proc (`mount -t proc proc /proc`), in a container or chroot too: pyexec needs \
            it to tell processes apart"
            .to_owned(),
        ClientError::Connect { .. } => {
            format!("`pyexec daemon restart` in a terminal starts a new one, {NOT_AFFECTED}; {DOCTOR}")
        }
        ClientError::ForeignDaemon { .. } => format!("point {SOCKET_VARIABLE} at a socket of your own, or unset it"),
        ClientError::Preamble { .. } => {
            format!("something else may be listening there: look at {SOCKET_VARIABLE}; {DOCTOR}")
        }
        ClientError::Unresponsive { pid, state: ProcessState::Stopped } => format!(
            "`kill -CONT {pid}` continues it; `pyexec daemon restart` in a terminal ends it and starts another; {NOT_AFFECTED}"
        ),
        ClientError::Unresponsive { .. } => format!(
            "`pyexec daemon logs` in a terminal shows what it is doing; `pyexec daemon restart` ends it, by force if need \
             be, and starts another; {NOT_AFFECTED}"
        ),
        ClientError::OtherState { .. } => format!(
            "unset {SOCKET_VARIABLE} for this server, so that it starts a daemon of your own; or let {SOCKET_VARIABLE} \
             name another socket"
        ),
        ClientError::Version { daemon, client } if daemon.highest < client.lowest => {
            "the daemon is the older one: `pyexec daemon restart` in a terminal starts the installed version; jobs go on"
                .to_owned()
        }
        ClientError::Version { .. } => {
            "this MCP server is older than the daemon: restart it, from the editor's list of MCP servers, to run the \
            installed version; jobs are not affected"
                .to_owned()
        }
        ClientError::Late { .. } | ClientError::Broken { .. } => {
            format!("call again; `pyexec daemon logs` in a terminal shows what the daemon is doing; {DOCTOR}")
        }
        ClientError::Unanswered { id, .. } => {
            format!("ask py_job_status of job {id} before running it again: it may be running")
        }
        ClientError::TooLarge => "put long data into a file that the script opens".to_owned(),
    })
}

fn after_start(error: &StartError) -> String {
    match error {
        StartError::NoProgram => {
            format!("it is expected beside this program, or on PATH; PYEXEC_DAEMON may name it instead; {DOCTOR}")
        }
        StartError::Prepare { .. } => {
            format!("check that the directory is writable, or set XDG_STATE_HOME to another; {DOCTOR}")
        }
        StartError::Spawn { source, .. } if source.kind() == ErrorKind::WouldBlock => {
            "this user may have reached the limit on processes (`ulimit -u`), which counts threads".to_owned()
        }
        StartError::Spawn { .. } => format!("check that the file is executable; {DOCTOR}"),
        StartError::Failed { .. } | StartError::Died | StartError::Late => {
            format!("{DOCTOR}, and `pyexec daemon logs` has more")
        }
    }
}

fn after_refusal(refusal: &Error) -> Option<String> {
    let next = match refusal {
        Error::NoSuchJob { .. } => "py_list_jobs lists the jobs there are; a job that was pruned is gone",
        Error::BeingRemoved { .. } => "py_list_jobs lists the jobs that are kept",
        Error::OutputRemoved { .. } => "py_job_status shows what is still known about it",
        Error::AmbiguousJob { .. } => "give the whole id",
        Error::IdTaken { .. } => "call again: each call submits under a new id",
        Error::Fenced { .. } => "do it from outside the fence: anything the daemon starts runs outside the fence too",
        Error::NotFound { what: Named::Script, .. } => {
            "script_path is relative to `directory`: check the spelling, or give the code as script_content"
        }
        Error::NotFound { what: Named::EnvFile, .. } => "env_file is relative to `directory`: check the spelling",
        Error::NotFound { what: Named::RequirementsFile, .. } => {
            "paths are relative to the job's directory; check the spelling"
        }
        Error::NotFound { what: Named::Directory, .. } => "create the directory first, or name one that exists",
        Error::NotFound { what: Named::Environment, .. } => {
            "py_list_environments lists the existing ones; py_create_environment creates one"
        }
        Error::NotFound { what: Named::SavedScript, .. } => {
            "py_list_scripts lists the saved ones; py_save_script saves one"
        }
        Error::NotFound { what: Named::AutosavedScript, .. } => {
            "py_list_scripts(include_autosaved=true) lists the existing ones; old ones are removed"
        }
        Error::NoInput { why: NoInput::NotOpened, .. } => {
            "start the job with open_stdin=true to write to it while it runs, or give all of it as `stdin`"
        }
        Error::NoInput { why: NoInput::NotStarted, .. } => {
            "py_job_status with wait_seconds shows what it waits for; then try again"
        }
        Error::NoInput { why: NoInput::Finished | NoInput::Closed | NoInput::ClosedByJob, .. } => {
            "py_job_status shows how far it got"
        }
        Error::NoInput { why: NoInput::NoAnswer { .. }, .. } => {
            "py_job_status shows the state of the job; py_kill_job ends it in any case"
        }
        Error::NoArtifact { .. } => "py_job_status lists the artifacts of a job",
        Error::ShuttingDown => "try again: the next call starts a new one",
        Error::Storage { .. } => "`pyexec daemon logs` in a terminal has the details; jobs that run are not affected",
        Error::OtherWorld { by_manager: true, .. } => {
            return Some(format!(
                "`{INSTANCE_VARIABLE}=NAME` in the environment of this server makes a separate daemon run here; systemd's \
                 user manager would restart the present one in the same place"
            ));
        }
        Error::OtherWorld { by_manager: false, .. } => {
            return Some(format!(
                "`pyexec daemon restart` from here makes the daemon run here, {NOT_AFFECTED}; or `{INSTANCE_VARIABLE}=NAME` in \
                 the environment of this server makes a separate daemon run here"
            ));
        }
        Error::InvalidArgument { .. } | Error::Environment { .. } | Error::NoFence { .. } => {
            return refusal.daemon_hint().map(str::to_owned);
        }
    };
    Some(next.to_owned())
}
