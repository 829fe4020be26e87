//! Failures of a call, and their text for a model or a person: the cause and the next step.

use pyexec_client::ClientError;
use pyexec_proto::JobId;
use pyexec_proto::error::Error;
use pyexec_proto::preamble::Preamble;

use super::advice::next_after;
use super::render;

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// An invalid argument.
    #[error("{problem}")]
    Argument { problem: String, next: String },
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A failure of a call whose job was accepted.
    #[error("{source}")]
    OfJob { job: String, next: String, source: Box<Failure> },
}

impl Failure {
    pub(crate) fn argument(problem: impl Into<String>, next: impl Into<String>) -> Self {
        Failure::Argument { problem: problem.into(), next: next.into() }
    }

    /// Marks the failure of a call whose `job` was accepted. The text then names the job and the follow-up call `next`,
    /// and asks not to run the job again.
    pub(crate) fn of_job(self, job: &str, next: impl FnOnce() -> String) -> Self {
        let is_about_the_call = match &self {
            // There is no job, or the refusal itself names the job and the next step.
            Failure::Client(ClientError::Refused(refusal)) => match refusal {
                Error::NoSuchJob { .. }
                | Error::AmbiguousJob { .. }
                | Error::IdTaken { .. }
                | Error::InvalidArgument { .. }
                | Error::NotFound { .. }
                | Error::Environment { .. }
                | Error::NoFence { .. }
                | Error::Fenced { .. }
                | Error::NoInput { .. }
                | Error::NoArtifact { .. }
                | Error::BeingRemoved { .. }
                | Error::OutputRemoved { .. }
                | Error::OtherWorld { .. } => true,
                Error::ShuttingDown | Error::Storage { .. } => false,
            },
            Failure::Argument { .. } | Failure::OfJob { .. } => true,
            Failure::Client(_) => false,
        };
        if is_about_the_call {
            self
        } else {
            Failure::OfJob { job: job.to_owned(), next: next(), source: Box::new(self) }
        }
    }

    /// The daemon's preamble, if it only speaks protocols newer than this server's.
    pub(crate) fn newer_daemon(&self) -> Option<&Preamble> {
        match self {
            Failure::Client(error) => newer_daemon(error),
            Failure::OfJob { source, .. } => source.newer_daemon(),
            Failure::Argument { .. } => None,
        }
    }

    /// The job that this call has submitted, or may have submitted.
    pub(crate) fn job(&self) -> Option<JobId> {
        match self {
            Failure::Client(ClientError::Unanswered { id, .. }) => Some(*id),
            Failure::OfJob { job, .. } => job.parse().ok(),
            Failure::Argument { .. } | Failure::Client(_) => None,
        }
    }

    pub(crate) fn text(&self) -> String {
        let text = pyexec_view::with_causes(self);
        // The text contains untrusted values: paths, or messages of uv about a package.
        let mut text = format!("**Error:** {}", render::message(&text));
        if let Failure::OfJob { job, .. } = self {
            let job = render::inline(job);
            text.push_str(&format!(
                "\n\nJob `{job}` was accepted and is not affected by this error: do not run it again."
            ));
        }
        if let Some(next) = self.next() {
            text.push_str(&format!("\n\n**Next:** {}", render::message(&next)));
        }
        text
    }

    /// Whether a repeated call succeeds without any change, because it finds the next daemon.
    fn is_transient(&self) -> bool {
        matches!(self, Failure::Client(ClientError::Refused(Error::ShuttingDown) | ClientError::Broken { .. }))
    }

    fn next(&self) -> Option<String> {
        match self {
            Failure::Argument { next, .. } => Some(next.clone()),
            Failure::Client(error) => next_after(error),
            Failure::OfJob { next, source, .. } => Some(match source.next() {
                Some(mend) if !source.is_transient() => format!("{next}. If it fails again: {mend}"),
                Some(_) | None => next.clone(),
            }),
        }
    }
}

/// The daemon's preamble, if it only speaks protocols newer than ours.
pub(crate) fn newer_daemon(error: &ClientError) -> Option<&Preamble> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "no other error is about versions")]
    match error {
        ClientError::Version { daemon, client } if daemon.lowest > client.highest => Some(daemon),
        ClientError::Unanswered { source, .. } => newer_daemon(source),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_submission_whose_answer_was_lost_names_the_job_twice() {
        let id = pyexec_proto::JobId::mint();
        let late = ClientError::Late { limit: std::time::Duration::from_secs(30) };
        let failure = Failure::from(ClientError::Unanswered { id, source: Box::new(late) });
        let text = failure.text();
        assert_eq!(text.matches(&id.to_string()).count(), 2, "{text}");
        assert!(text.contains("within 30 s") && text.contains("py_job_status"), "{text}");
    }

    #[test]
    fn what_fails_after_a_submission_names_the_job_and_the_call_that_follows_it() {
        let id = pyexec_proto::JobId::mint();
        let of_job = |error: ClientError| {
            Failure::from(error).of_job(&id.to_string(), || format!("py_job_status(job_id=\"{id}\")"))
        };
        let gone = of_job(Error::ShuttingDown.into()).text();
        assert!(gone.contains(&format!("Job `{id}` was accepted")) && !gone.contains("try again"), "{gone}");
        assert!(gone.ends_with(&format!("**Next:** py_job_status(job_id=\"{id}\")")), "{gone}");
        let no_program = of_job(pyexec_client::start::StartError::NoProgram.into()).text();
        assert!(no_program.contains(&format!("py_job_status(job_id=\"{id}\")")), "{no_program}");
        assert!(no_program.contains("PYEXEC_DAEMON"), "what is to be mended is not said: {no_program}");
        let unknown = of_job(Error::NoSuchJob { given: id.to_string() }.into()).text();
        assert!(!unknown.contains("was accepted"), "{unknown}");
    }
}
