//! Cuts stdin into lines, none of them longer than what is kept of one.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use super::visible_id::IdSearch;

/// The longest line that is taken, in bytes: a script of the largest size that can be run, as JSON at its worst.
pub(super) const MAX_LINE_BYTES: usize = 128 << 20;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Without what ends it. The last one may have come without an end.
    Whole(Vec<u8>),
    /// Longer than [`MAX_LINE_BYTES`], with the `id` that could be seen in it.
    TooLong(Option<String>),
    End,
}

pub(super) struct Lines<R> {
    input: BufReader<R>,
    longest: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn of(input: R) -> Self {
        Self { input: BufReader::new(input), longest: MAX_LINE_BYTES }
    }

    /// The next line. An error of the input ends it like its end.
    pub(super) async fn next(&mut self) -> io::Result<Line> {
        let mut line = Vec::new();
        // Of one that is not kept.
        let mut search: Option<IdSearch> = None;
        loop {
            let available = self.input.fill_buf().await?;
            if available.is_empty() {
                return Ok(match search {
                    Some(search) => Line::TooLong(search.found()),
                    None if line.is_empty() => Line::End,
                    None => Line::Whole(line),
                });
            }
            let newline = available.iter().position(|byte| *byte == b'\n');
            let text = &available[..newline.unwrap_or(available.len())];
            match &mut search {
                Some(search) => search.feed(text),
                None if line.len() + text.len() > self.longest => {
                    let mut begun = IdSearch::default();
                    begun.feed(&line);
                    begun.feed(text);
                    line = Vec::new();
                    search = Some(begun);
                }
                None => line.extend_from_slice(text),
            }
            let taken = text.len() + usize::from(newline.is_some());
            self.input.consume(taken);
            if newline.is_some() {
                return Ok(match search {
                    Some(search) => Line::TooLong(search.found()),
                    None => Line::Whole(line),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_that_is_too_long_is_passed_over_and_its_id_is_not() {
        let text = "{\"id\":1}\n\n{\"x\":\"longer than it may be\",\"id\":2}\r\n{\"id\":3}\r\nno end";
        let longest = "{\"id\":3}\r".len();
        for capacity in [1, 2, 7, 1000] {
            let input = BufReader::with_capacity(capacity, text.as_bytes());
            let mut lines = Lines { input, longest };
            let mut read = Vec::new();
            while let line = lines.next().await.expect("can be read")
                && line != Line::End
            {
                read.push(line);
            }
            let whole = |text: &str| Line::Whole(text.into());
            let expected = [
                whole("{\"id\":1}"),
                whole(""),
                Line::TooLong(Some("2".to_owned())),
                whole("{\"id\":3}\r"),
                whole("no end"),
            ];
            assert_eq!(read, expected, "{capacity} bytes at once");
        }
    }
}
