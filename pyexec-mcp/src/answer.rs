//! What a call gives: an answer in its two forms, or why there is none.
//!
//! Results are markdown first: several hosts hide the text from the model as soon as structured content is there, so it is
//! there only when it was asked for. The first block of a failure says what failed, with the value, and what to do next:
//! that is the one thing that every host shows.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use pyexec_client::ClientError;
use pyexec_proto::error::Error;
use pyexec_view::course::Course;
use pyexec_view::picture::Curve;
use rmcp::model::{CallToolResult, ContentBlock};
use serde::Serialize;
use serde_json::Value;

use crate::advice::next_after;
use crate::images::Images;
use crate::render;

/// The same thing twice, for models and for programs.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) markdown: String,
    pub(crate) structured: Value,
    /// The job could not even be started: there is a result, and it is a failure of the call.
    pub(crate) is_error: bool,
    /// Shown after the text, with what is to be said of those that are not.
    pub(crate) images: Images,
    /// Shown after the text, to those who get no structured content: many hosts show either.
    pub(crate) picture: Option<Picture>,
}

/// What is drawn once it is known to be shown.
#[derive(Clone, Debug)]
pub(crate) struct Picture {
    pub(crate) title: String,
    pub(crate) course: Course,
}

impl Picture {
    fn block(&self) -> ContentBlock {
        let curve = Curve { name: &self.title, course: &self.course };
        ContentBlock::image(BASE64.encode(pyexec_view::picture::png(&self.title, &[curve])), "image/png")
    }
}

impl Answer {
    pub(crate) fn new(markdown: String, structured: &impl Serialize) -> Self {
        let structured = serde_json::to_value(structured).expect("what we answer with has text for keys");
        Self { markdown, structured, is_error: false, images: Images::default(), picture: None }
    }
}

/// In which form a call is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Markdown,
    Structured,
    /// Markdown was asked for where a schema promises structured content.
    Both,
}

impl Form {
    pub(crate) fn of(schema_is_declared: bool, markdown_output: Option<bool>) -> Self {
        match (schema_is_declared, markdown_output) {
            (false, None | Some(true)) => Form::Markdown,
            (true, Some(true)) => Form::Both,
            (true, None) | (_, Some(false)) => Form::Structured,
        }
    }
}

pub(crate) fn result(answer: Result<Answer, Failure>, form: Form) -> CallToolResult {
    let answer = match answer {
        Ok(answer) => answer,
        Err(failure) => return CallToolResult::error(vec![ContentBlock::text(failure.text())]),
    };
    let Images { blocks, note } = answer.images;
    let markdown = answer.markdown + &note;
    let mut result = match form {
        Form::Markdown => {
            let picture = answer.picture.as_ref().map(Picture::block);
            CallToolResult::success([ContentBlock::text(markdown)].into_iter().chain(picture).collect())
        }
        Form::Structured if !answer.is_error => {
            let mut result = CallToolResult::structured(answer.structured);
            if !note.is_empty() {
                result.content.push(ContentBlock::text(note.trim_start()));
            }
            result
        }
        // Of a failure, too, the first block has to be readable by itself.
        Form::Structured | Form::Both => {
            let mut result = CallToolResult::success(vec![ContentBlock::text(markdown)]);
            result.structured_content = Some(answer.structured);
            result
        }
    };
    result.is_error = Some(answer.is_error);
    result.content.extend(blocks);
    result
}

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The arguments make no sense.
    #[error("{problem}")]
    Argument { problem: String, next: String },
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Something about a job that is there, whatever became of this call.
    #[error("{source}")]
    OfJob { job: String, next: String, source: Box<Failure> },
}

impl Failure {
    pub(crate) fn argument(problem: impl Into<String>, next: impl Into<String>) -> Self {
        Failure::Argument { problem: problem.into(), next: next.into() }
    }

    /// Of a call about `job`, which has been taken: the answer names it, and `next` is the call that follows it. Nobody is
    /// told to run it again.
    pub(crate) fn of_job(self, job: &str, next: impl FnOnce() -> String) -> Self {
        let is_about_the_call = match &self {
            // The job is not there, or is named by the refusal, with what to do.
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

    pub(crate) fn text(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let said = error.to_string();
            if !text.contains(&said) {
                text.push_str(&format!(": {said}"));
            }
            cause = error.source();
        }
        // With values in it that may be anybody's: a path, what uv says of a package.
        let mut text = format!("**Error:** {}", render::message(&text));
        if let Failure::OfJob { job, .. } = self {
            let job = render::inline(job);
            text.push_str(&format!(
                "\n\nJob `{job}` has been taken, and this error does not end it: do not run it again."
            ));
        }
        if let Some(next) = self.next() {
            text.push_str(&format!("\n\n**Next:** {}", render::message(&next)));
        }
        text
    }

    /// Whether there is nothing to be mended: the next call finds the next daemon.
    fn passes(&self) -> bool {
        matches!(self, Failure::Client(ClientError::Refused(Error::ShuttingDown) | ClientError::Broken { .. }))
    }

    fn next(&self) -> Option<String> {
        match self {
            Failure::Argument { next, .. } => Some(next.clone()),
            Failure::Client(error) => next_after(error),
            Failure::OfJob { next, source, .. } => Some(match source.next() {
                Some(mend) if !source.passes() => format!("{next}. If it fails again: {mend}"),
                Some(_) | None => next.clone(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer() -> Answer {
        Answer::new("text".to_owned(), &json!({"status": "completed"}))
    }

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
        assert!(gone.contains(&format!("Job `{id}` has been taken")) && !gone.contains("try again"), "{gone}");
        assert!(gone.ends_with(&format!("**Next:** py_job_status(job_id=\"{id}\")")), "{gone}");
        let no_program = of_job(pyexec_client::start::StartError::NoProgram.into()).text();
        assert!(no_program.contains(&format!("py_job_status(job_id=\"{id}\")")), "{no_program}");
        assert!(no_program.contains("PYEXEC_DAEMON"), "what is to be mended is not said: {no_program}");
        let unknown = of_job(Error::NoSuchJob { given: id.to_string() }.into()).text();
        assert!(!unknown.contains("has been taken"), "{unknown}");
    }

    #[test]
    fn structured_content_is_there_only_where_it_was_asked_for() {
        let cases = [
            (false, None, false),
            (false, Some(true), false),
            (false, Some(false), true),
            (true, None, true),
            (true, Some(false), true),
            // The schema promises it.
            (true, Some(true), true),
        ];
        for (declared, markdown, expected) in cases {
            let result = result(Ok(answer()), Form::of(declared, markdown));
            assert_eq!(result.structured_content.is_some(), expected, "declared: {declared}, markdown: {markdown:?}");
            let text = result.content[0].as_text().map(|text| text.text.clone());
            let is_markdown = text.as_deref() == Some("text");
            assert_eq!(is_markdown, markdown.unwrap_or(!declared), "declared: {declared}, markdown: {markdown:?}");
        }
    }

    #[test]
    fn a_failure_says_what_and_what_next_in_its_first_block() {
        let failure = Failure::from(ClientError::from(Error::NoSuchJob { given: "1234".into() }));
        let result = result(Err(failure), Form::Structured);
        assert_eq!(result.is_error, Some(true));
        let text = &result.content[0].as_text().expect("is text").text;
        assert!(text.starts_with("**Error:** no job `1234`\n\n**Next:** py_list_jobs"), "{text}");
    }
}
