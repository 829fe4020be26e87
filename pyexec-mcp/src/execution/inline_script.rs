//! Code that a call brought along runs from a file in the job's run directory. Nobody has chosen that directory: answers
//! leave it away, so that a traceback names `script.py`. What is kept of the job's output is as it was printed.

use pyexec_client::Client;
use pyexec_proto::paths::Paths;
use pyexec_proto::{JobDetail, JobSource};

/// The name of the directory, with a slash; `None` where the job runs another file.
pub(crate) struct InlineScript(Option<String>);

impl InlineScript {
    pub(crate) fn of(client: &Client, job: &JobDetail) -> Self {
        let is_inline = matches!(job.spec.source, JobSource::Inline { .. });
        let file = Paths::inline_script(&client.paths().run_directory(job.id));
        Self(file.parent().filter(|_| is_inline).map(|directory| format!("{}/", directory.display())))
    }

    /// What a job has printed, or the name of one of its functions, for an answer.
    pub(crate) fn shown(&self, text: String) -> String {
        match &self.0 {
            Some(directory) if text.contains(directory) => text.replace(directory, ""),
            Some(_) | None => text,
        }
    }
}
