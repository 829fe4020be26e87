//! The variables a job starts with: the caller's, the file's, and what was set for this job alone. Later wins.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use pyexec_proto::Error;
use pyexec_proto::error::Named;
use pyexec_proto::job::Variables;
use pyexec_proto::variables::SERVICE_MARK;

use crate::client_files::{ClientFiles, Deadline};
use crate::config::InheritEnv;
use pyexec_python::dotenv;

/// What is to be set for a job.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    pub inherit: &'a InheritEnv,
    pub caller: &'a Variables,
    pub env_file: Option<&'a EnvFile>,
    pub overrides: &'a Variables,
}

/// A file of variables that has been read.
#[derive(Debug)]
pub struct EnvFile {
    path: PathBuf,
    text: Vec<u8>,
}

impl EnvFile {
    /// One that the client has read.
    pub fn sent(path: PathBuf, content: Vec<u8>) -> Self {
        Self { path, text: content }
    }

    /// # Errors
    /// When there is no such file, it is not a regular file, it is too large, or it cannot be read in time.
    pub async fn read(path: PathBuf, files: &ClientFiles, deadline: Deadline) -> Result<Self, Error> {
        match deadline.bounds(files.read(&path, dotenv::MAX_FILE_BYTES)).await {
            Ok(text) => Ok(Self { path, text }),
            Err(problem) => Err(problem.refusal(Named::EnvFile, &path)),
        }
    }
}

/// # Errors
/// When the file has a line that means nothing; the line is named, not its content.
pub fn compose(sources: Sources<'_>) -> Result<Variables, Error> {
    let mut composed: Vec<(OsString, OsString)> = sources
        .caller
        .iter()
        .filter(|(name, _)| sources.inherit.admits(name) && *name != SERVICE_MARK)
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    if let Some(EnvFile { path, text }) = sources.env_file {
        let look_up = |name: &str| {
            let (_, value) = composed.iter().find(|(known, _)| known == name)?;
            value.to_str().map(str::to_owned)
        };
        let read = dotenv::read(text, &look_up).map_err(|error| Error::InvalidArgument {
            what: "env file".to_owned(),
            given: path.display().to_string(),
            problem: error.to_string(),
            hint: "it is read as python-dotenv reads it; the job was not started".to_owned(),
        })?;
        for (name, value) in read {
            set(&mut composed, OsStr::new(&name), OsStr::new(&value));
        }
    }
    for (name, value) in sources.overrides.iter() {
        set(&mut composed, name, value);
    }
    Ok(composed.into_iter().collect())
}

fn set(composed: &mut Vec<(OsString, OsString)>, name: &OsStr, value: &OsStr) {
    match composed.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) => value.clone_into(known),
        None => composed.push((name.to_owned(), value.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    fn composed(inherit: &InheritEnv, file: &str, overrides: &[(&str, &str)]) -> Result<Vec<(String, String)>, Error> {
        let file = EnvFile { path: ".env".into(), text: file.into() };
        let caller = variables(&[("A", "caller"), ("B", "caller"), ("SECRET", "hunter2")]);
        let composed =
            compose(Sources { inherit, caller: &caller, env_file: Some(&file), overrides: &variables(overrides) })?;
        let text = |part: &OsStr| part.to_str().expect("is UTF-8").to_owned();
        Ok(composed.iter().map(|(name, value)| (text(name), text(value))).collect())
    }

    #[test]
    fn later_wins() {
        let all = composed(&InheritEnv::All, "B=file\nC=${A}\n", &[("C", "set")]).expect("can be composed");
        let expected = [("A", "caller"), ("B", "file"), ("SECRET", "hunter2"), ("C", "set")];
        assert_eq!(all, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn an_allowlist_keeps_everything_else_out_of_the_job_and_of_the_file() {
        let only = InheritEnv::Only(vec!["A".into()]);
        let all = composed(&only, "C=${SECRET:-nothing}\n", &[]).expect("can be composed");
        assert_eq!(all, [("A", "caller"), ("C", "nothing")].map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_line_that_means_nothing_is_named_by_its_number_and_not_repeated() {
        let refused = composed(&InheritEnv::All, "A=1\n=hunter3\n", &[]).expect_err("means nothing").to_string();
        assert!(refused.contains("line 2") && !refused.contains("hunter3"), "{refused}");
    }
}
