//! Splits stdin into lines of bounded length.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use super::visible_id::IdSearch;

/// The longest accepted line, in bytes: a script of the maximal size in its longest JSON form.
pub(super) const MAX_LINE_BYTES: usize = 128 << 20;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Without its terminator. The last line may have had none.
    Whole(Vec<u8>),
    /// Longer than [`MAX_LINE_BYTES`], with its `id` if one was found.
    TooLong(Option<String>),
    End,
}

pub(super) struct Lines<R> {
    /// Bytes to read before the input, from `at` on: those that another server read but did not handle.
    ahead: Vec<u8>,
    at: usize,
    input: BufReader<R>,
    longest: usize,
    /// The beginning of the next line. It is kept if the caller stops waiting for the rest.
    line: Vec<u8>,
    /// The search for an `id` in a line that is skipped.
    search: Option<IdSearch>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn of(ahead: Vec<u8>, input: R) -> Self {
        Self { ahead, at: 0, input: BufReader::new(input), longest: MAX_LINE_BYTES, line: vec![], search: None }
    }

    /// The next line. An error of the input counts as its end. It is cancel-safe: no bytes are lost.
    pub(super) async fn next(&mut self) -> io::Result<Line> {
        loop {
            let is_ahead = self.at < self.ahead.len();
            let available = if is_ahead { &self.ahead[self.at..] } else { self.input.fill_buf().await? };
            if available.is_empty() {
                let line = std::mem::take(&mut self.line);
                return Ok(match self.search.take() {
                    Some(search) => Line::TooLong(search.found()),
                    None if line.is_empty() => Line::End,
                    None => Line::Whole(line),
                });
            }
            let newline = available.iter().position(|byte| *byte == b'\n');
            let text = &available[..newline.unwrap_or(available.len())];
            match &mut self.search {
                Some(search) => search.feed(text),
                None if self.line.len() + text.len() > self.longest => {
                    let mut begun = IdSearch::default();
                    begun.feed(&self.line);
                    begun.feed(text);
                    self.line = Vec::new();
                    self.search = Some(begun);
                }
                None => self.line.extend_from_slice(text),
            }
            let taken = text.len() + usize::from(newline.is_some());
            if is_ahead {
                self.at += taken;
                if self.at == self.ahead.len() {
                    (self.ahead, self.at) = (Vec::new(), 0);
                }
            } else {
                self.input.consume(taken);
            }
            if newline.is_some() {
                return Ok(match self.search.take() {
                    Some(search) => Line::TooLong(search.found()),
                    None => Line::Whole(std::mem::take(&mut self.line)),
                });
            }
        }
    }

    /// All bytes that were read but not returned as a line. `None` in the middle of a skipped line, which is not kept.
    pub(super) fn unread(&self) -> Option<Vec<u8>> {
        let ahead = &self.ahead[self.at..];
        self.search.is_none().then(|| [self.line.as_slice(), ahead, self.input.buffer()].concat())
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
            let mut lines = Lines { input, longest, ..Lines::of(vec![], text.as_bytes()) };
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

    #[tokio::test]
    async fn what_was_read_and_not_returned_can_be_read_by_somebody_else() {
        let (ours, mut client) = tokio::io::duplex(64);
        tokio::io::AsyncWriteExt::write_all(&mut client, b"one\ntwo\nthr").await.expect("there is room");
        let mut lines = Lines::of(b"ze".to_vec(), ours);
        assert_eq!(lines.next().await.expect("can be read"), Line::Whole(b"zeone".to_vec()));
        let unread = lines.unread().expect("no line is passed over");
        assert_eq!(unread, b"two\nthr");
        // Also after the beginning of a line has been looked at.
        assert_eq!(lines.next().await.expect("can be read"), Line::Whole(b"two".to_vec()));
        assert!(futures::poll!(std::pin::pin!(lines.next())).is_pending());
        assert_eq!(lines.unread().as_deref(), Some(b"thr".as_slice()));
        let mut others = Lines::of(unread, b"ee\n".as_slice());
        let mut read = vec![];
        while let Line::Whole(line) = others.next().await.expect("can be read") {
            read.push(line);
        }
        assert_eq!(read, [b"two".to_vec(), b"three".to_vec()]);
    }
}
