//! For whom something is asked or made: whose variables hold, and where what is said goes.

use std::ffi::OsStr;
use std::path::Path;

use pyexec_proto::job::Variables;

use super::log::PreparationLog;
use super::mark::Mark;
use super::uv::Call;
use crate::client_files::ClientFiles;

/// On whose behalf, and in whose environment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller<'a> {
    pub(super) variables: &'a Variables,
    pub(super) mark: &'a Mark,
    pub(super) files: &'a ClientFiles,
    pub(super) log: &'a PreparationLog,
}

impl<'a> Caller<'a> {
    /// A call of a program for this caller's job, with no text on its stdin.
    pub(super) fn call(self, program: &'a Path, directory: &'a Path, arguments: Vec<&'a OsStr>) -> Call<'a> {
        Call {
            program,
            arguments,
            variables: self.variables,
            directory,
            stdin: &[],
            mark: self.mark,
            holds: None,
            files: self.files,
            log: self.log,
        }
    }
}
