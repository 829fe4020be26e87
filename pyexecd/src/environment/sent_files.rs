//! Files whose content a client has sent, because only the client could read them: a pipe of a process substitution.
//!
//! Each is given a file of the daemon's own, and from then on is like any other that a client names.

use std::io::Write;
use std::path::{Path, PathBuf};

use pyexec_proto::job::{JobSource, JobSpec};
use pyexec_proto::{JobId, OsText};
use pyexec_run_directory::private::create_private;
use rustix::fs::OFlags;

use super::discovery::wherever_the_script_lies;
use super::{EnvironmentError, passwords};
use crate::blocking::blocking;
use pyexec_run_directory::record::private_file;

/// Of what the client has sent, in the run directory: a directory with the script alone, which Python looks in for modules.
const SENT_SCRIPT: &str = "sent/script.py";
const SENT_REQUIREMENTS: &str = "requirements.txt";

/// Gives what the client has sent files in the run directory, and has the specification name those. It is as if the
/// client had named them in the first place.
pub(super) async fn place_sent(spec: JobSpec, run_directory: &Path) -> Result<JobSpec, EnvironmentError> {
    let is_sent = matches!(spec.source, JobSource::Content { .. }) || spec.environment.requirements_content.is_some();
    if !is_sent {
        return Ok(spec);
    }
    let run_directory = run_directory.to_owned();
    let placed = blocking(move || Ok(place(spec, &run_directory))).await;
    placed.map_err(|source| EnvironmentError::Script { path: SENT_SCRIPT.into(), source })?
}

fn place(mut spec: JobSpec, run_directory: &Path) -> Result<JobSpec, EnvironmentError> {
    if let JobSource::Content { content, .. } = &spec.source {
        let path = write_private(run_directory.join(SENT_SCRIPT), content.as_bytes())?;
        spec.source = JobSource::File { path: OsText::from(path) };
        spec.environment.project = wherever_the_script_lies(spec.environment.project);
    }
    if let Some(content) = spec.environment.requirements_content.take() {
        // uv finds the passwords among its variables.
        let (content, _) = passwords::named(&content);
        let path = write_private(run_directory.join(SENT_REQUIREMENTS), content.as_bytes())?;
        spec.environment.requirements_file = Some(OsText::from(path));
    }
    Ok(spec)
}

/// A requirements file that a client has sent to be read once, for as long as this is not dropped.
#[derive(Debug)]
pub(super) struct SentRequirements(PathBuf);

impl SentRequirements {
    pub(super) fn write(directory: &Path, content: &str) -> Result<Self, EnvironmentError> {
        let path = directory.join(format!("sent-{}.txt", JobId::mint().simple()));
        write_private(path, content.as_bytes()).map(Self)
    }

    pub(super) fn path(&self) -> &Path {
        let Self(path) = self;
        path
    }
}

impl Drop for SentRequirements {
    fn drop(&mut self) {
        // One that stays is in nobody's way: it has no passwords in it.
        let _ = std::fs::remove_file(self.path());
    }
}

/// Again, if an earlier daemon has done so.
pub(super) fn write_private(path: PathBuf, content: &[u8]) -> Result<PathBuf, EnvironmentError> {
    let written = create_private(path.parent().unwrap_or(Path::new("/")))
        .and_then(|()| private_file(&path, OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY))
        .and_then(|mut file| file.write_all(content));
    match written {
        Ok(()) => Ok(path),
        Err(source) => Err(EnvironmentError::Script { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_has_sent_is_a_file_with_no_password_in_it() {
        let run_directory = tempfile::tempdir().expect("a directory");
        let content = JobSource::Content { path: "/dev/fd/63".into(), content: "print(1)".into() };
        let mut spec = JobSpec::new(content, "/", pyexec_proto::environment::Interpreter::System);
        spec.environment.requirements_file = Some("/dev/fd/62".into());
        spec.environment.requirements_content = Some("a @ https://user:secret@host/a.whl\n".to_owned());
        // As it is kept.
        passwords::take(spec.environment.requirements_content.as_mut_slice());
        // Twice, as after the end of a daemon.
        for _ in 0..2 {
            let placed = place(spec.clone(), run_directory.path()).expect("can be written");
            let JobSource::File { path } = &placed.source else { panic!("{placed:?}") };
            assert_eq!(std::fs::read_to_string(path.as_path()).expect("is there"), "print(1)");
            assert!(path.as_path().starts_with(run_directory.path()), "{path}");
            let file = placed.environment.requirements_file.expect("is named");
            let text = std::fs::read_to_string(file.as_path()).expect("is there");
            assert!(text.starts_with("a @ https://user:${") && !text.contains("secret"), "{text}");
            assert_eq!(placed.environment.requirements_content, None);
        }
    }
}
