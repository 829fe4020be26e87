//! The result of a call: an answer in its two forms, or a failure.
//!
//! Answers are Markdown by default, because several hosts hide the text from the model if there is structured content;
//! structured content is sent only on request. The first block of a failure states the cause, with the value, and the
//! next step, because every host shows that block.

mod advice;
mod failure;
pub(crate) mod images;
pub(crate) mod refusal;
pub(crate) mod render;
pub(crate) mod shown;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use pyexec_view::timeline::{Curve, Timeline};
use rmcp::model::{CallToolResult, ContentBlock};
use serde::Serialize;
use serde_json::Value;

pub(crate) use failure::{Failure, newer_daemon};
use images::Images;

/// An answer as Markdown, for models, and as a structure, for programs.
pub(crate) struct Answer {
    pub(crate) markdown: String,
    /// Serialized only if it is sent.
    structured: Box<dyn FnOnce() -> Value + Send>,
    /// The job could not be started: there is a result, but the call has failed.
    pub(crate) is_error: bool,
    /// Shown after the text, with a note about those that are not shown.
    pub(crate) images: Images,
    /// Shown after the text if there is no structured content, because many hosts show only one of them.
    pub(crate) picture: Option<Picture>,
}

/// A picture that is drawn only if it is shown.
#[derive(Clone, Debug)]
pub(crate) struct Picture {
    pub(crate) title: String,
    pub(crate) timeline: Timeline,
}

impl Picture {
    fn block(&self) -> ContentBlock {
        let curve = Curve { name: &self.title, timeline: &self.timeline };
        ContentBlock::image(BASE64.encode(pyexec_view::picture::png(&self.title, &[curve])), "image/png")
    }
}

impl Answer {
    pub(crate) fn new(markdown: String, structured: impl Serialize + Send + 'static) -> Self {
        let structured =
            Box::new(move || serde_json::to_value(structured).expect("what we answer with has text for keys"));
        Self { markdown, structured, is_error: false, images: Images::default(), picture: None }
    }
}

/// The form in which a call is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Markdown,
    Structured,
    /// Markdown was requested although a schema promises structured content.
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
            let mut result = CallToolResult::structured((answer.structured)());
            if !note.is_empty() {
                result.content.push(ContentBlock::text(note.trim_start()));
            }
            result
        }
        // The first block of a failure has to be readable by itself, too.
        Form::Structured | Form::Both => {
            let mut result = CallToolResult::success(vec![ContentBlock::text(markdown)]);
            result.structured_content = Some((answer.structured)());
            result
        }
    };
    result.is_error = Some(answer.is_error);
    result.content.extend(blocks);
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyexec_client::ClientError;
    use pyexec_proto::error::Error;
    use serde_json::json;

    fn answer() -> Answer {
        Answer::new("text".to_owned(), json!({"status": "completed"}))
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
