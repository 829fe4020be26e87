//! What a call gives: an answer in its two forms, or why there is none.
//!
//! Results are markdown first: several hosts hide the text from the model as soon as structured content is there, so it is
//! there only when it was asked for. The first block of a failure says what failed, with the value, and what to do next:
//! that is the one thing that every host shows.

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

/// The same thing twice, for models and for programs.
pub(crate) struct Answer {
    pub(crate) markdown: String,
    /// Made into JSON only when it is shown.
    structured: Box<dyn FnOnce() -> Value + Send>,
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
            let mut result = CallToolResult::structured((answer.structured)());
            if !note.is_empty() {
                result.content.push(ContentBlock::text(note.trim_start()));
            }
            result
        }
        // Of a failure, too, the first block has to be readable by itself.
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
