//! Inline code runs from a file in the job's run directory. Answers strip that directory, which the user did not
//! choose, so that a traceback names `script.py`. The stored output is not changed.

use pyexec_client::Client;
use pyexec_proto::paths::Paths;
use pyexec_proto::{JobDetail, JobSource};

/// The directory with a trailing slash; `None` if the job does not run inline code.
pub(crate) struct InlineScript(Option<String>);

impl InlineScript {
    pub(crate) fn of(client: &Client, job: &JobDetail) -> Self {
        let is_inline = matches!(job.spec.source, JobSource::Inline { .. });
        let file = Paths::inline_script(&client.paths().run_directory(job.id));
        Self(file.parent().filter(|_| is_inline).map(|directory| format!("{}/", directory.display())))
    }

    /// `text`, which is output or a function's name, without the directory.
    pub(crate) fn strip(&self, text: String) -> String {
        match &self.0 {
            Some(directory) if text.contains(directory) => text.replace(directory, ""),
            Some(_) | None => text,
        }
    }
}
