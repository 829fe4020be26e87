//! A job's output on disk: reading it by offset, wherever its supervisor has got to.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use pyexec_proto::output::{OutputChunk, OutputLengths, Stream};
use pyexec_proto::{JobState, OsText, Outcome};

use crate::{regular_file, segment};

/// Up to `max` bytes from `offset` on; fewer, down to none, where no more has been written.
///
/// What lies before the first byte still kept is skipped: the chunk then starts later than asked.
pub fn read(directory: &Path, stream: Stream, offset: u64, max: usize) -> io::Result<OutputChunk> {
    let mut chunk = OutputChunk { offset, bytes: Vec::new() };
    while chunk.bytes.len() < max {
        let at = chunk.next();
        let number = segment::number(at);
        let Some(file) = open(directory, stream, number)? else {
            if !chunk.bytes.is_empty() {
                break;
            }
            // Dropped, or not written yet: the next segment there is decides which.
            let kept = segments(directory, stream)?;
            match kept.into_iter().find(|kept| *kept > number) {
                Some(next) => {
                    chunk.offset = next * segment::BYTES;
                    continue;
                }
                None => break,
            }
        };
        let within = segment::offset_within(at);
        let room = usize::try_from(segment::BYTES - within).unwrap_or(usize::MAX).min(max - chunk.bytes.len());
        let start = chunk.bytes.len();
        let available = usize::try_from(file.metadata()?.len().saturating_sub(within)).unwrap_or(usize::MAX);
        chunk.bytes.resize(start + room.min(available), 0);
        let read = read_fully_at(&file, &mut chunk.bytes[start..], within)?;
        chunk.bytes.truncate(start + read);
        if read < room {
            break;
        }
    }
    Ok(chunk)
}

/// How much has been written so far.
pub fn lengths(directory: &Path) -> io::Result<OutputLengths> {
    let length = |stream| -> io::Result<u64> {
        let Some(last) = segments(directory, stream)?.into_iter().max() else { return Ok(0) };
        let found = std::fs::symlink_metadata(directory.join(segment::name(stream, last)))?;
        let bytes = if found.is_file() { found.len().min(segment::BYTES) } else { 0 };
        Ok(last * segment::BYTES + bytes)
    };
    Ok(OutputLengths { stdout: length(Stream::Stdout)?, stderr: length(Stream::Stderr)? })
}

/// Whether a run directory is there, and no link to somewhere else. One that cannot be looked at is not said to be gone.
pub fn is_there(directory: &Path) -> bool {
    std::fs::symlink_metadata(directory).map_or_else(
        |error| !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        |found| found.is_dir(),
    )
}

/// The run directory, where that is gone, or ends before the output of a finished job did. What was dropped at the beginning
/// because only so much is kept is not missed.
pub fn removed_from(directory: &Path, state: &JobState) -> Option<OsText> {
    let printed = match state.outcome() {
        Some(Outcome::Ended(record)) => record.output,
        Some(Outcome::NotStarted(_) | Outcome::Lost { .. }) | None => OutputLengths::default(),
    };
    let is_kept = || {
        printed == OutputLengths::default()
            || lengths(directory)
                .map_or(true, |kept| Stream::BOTH.iter().all(|stream| kept.get(*stream) >= printed.get(*stream)))
    };
    (!is_there(directory) || !is_kept()).then(|| OsText::from(directory))
}

/// Where the last `lines` lines begin; a last line without a newline counts as one.
pub fn tail_offset(directory: &Path, stream: Stream, lines: u64) -> io::Result<u64> {
    const STEP: u64 = 64 << 10;
    let end = *lengths(directory)?.get(stream);
    if lines == 0 {
        return Ok(end);
    }
    let mut missing = lines;
    let mut at = end;
    while at > 0 {
        let from = at.saturating_sub(STEP);
        let chunk = read(directory, stream, from, usize::try_from(at - from).unwrap_or(usize::MAX))?;
        if chunk.offset >= at {
            // Nothing of it is kept.
            return Ok(chunk.offset.min(end));
        }
        for (index, byte) in chunk.bytes.iter().enumerate().rev() {
            let after = chunk.offset + index as u64 + 1;
            if *byte == b'\n' && after < end {
                missing -= 1;
                if missing == 0 {
                    return Ok(after);
                }
            }
        }
        at = from;
    }
    Ok(0)
}

/// The numbers of the segments there are, ascending.
fn segments(directory: &Path, stream: Stream) -> io::Result<Vec<u64>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| segment::number_in(stream, name)));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn open(directory: &Path, stream: Stream, number: u64) -> io::Result<Option<File>> {
    regular_file::open(&directory.join(segment::name(stream, number)))
}

fn read_fully_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(bytes) => read += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_stdout(segments: &[(u64, &[u8])]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        for (number, bytes) in segments {
            std::fs::write(directory.path().join(segment::name(Stream::Stdout, *number)), bytes)
                .expect("can be written");
        }
        directory
    }

    fn read_stdout(directory: &tempfile::TempDir, offset: u64, max: usize) -> OutputChunk {
        read(directory.path(), Stream::Stdout, offset, max).expect("can be read")
    }

    #[test]
    fn a_job_that_printed_nothing_has_empty_output() {
        let directory = with_stdout(&[]);
        assert_eq!(read_stdout(&directory, 0, 10), OutputChunk::default());
        assert_eq!(lengths(directory.path()).expect("can be told"), OutputLengths::default());
    }

    #[test]
    fn a_read_goes_across_segments() {
        let full = vec![b'a'; segment::BYTES as usize];
        let directory = with_stdout(&[(0, &full), (1, b"bc")]);
        let chunk = read_stdout(&directory, segment::BYTES - 2, 10);
        assert_eq!((chunk.offset, chunk.bytes.as_slice()), (segment::BYTES - 2, b"aabc".as_slice()));
        assert_eq!(lengths(directory.path()).expect("can be told").stdout, segment::BYTES + 2);
    }

    #[test]
    fn a_gap_is_told_by_where_the_chunk_starts() {
        let full = vec![b'a'; segment::BYTES as usize];
        let directory = with_stdout(&[(0, &full), (3, b"late")]);
        let chunk = read_stdout(&directory, segment::BYTES, 10);
        assert_eq!((chunk.offset, chunk.bytes.as_slice()), (3 * segment::BYTES, b"late".as_slice()));
    }

    #[test]
    fn past_the_end_there_is_nothing() {
        let directory = with_stdout(&[(0, b"abc")]);
        assert_eq!(read_stdout(&directory, 3, 10), OutputChunk { offset: 3, bytes: vec![] });
        assert_eq!(read_stdout(&directory, 999_999_999, 10).bytes, b"");
    }

    #[test]
    fn the_tail_starts_after_the_right_newline() {
        for (text, lines, expected) in [
            ("a\nb\nc\n", 1, 4),
            ("a\nb\nc\n", 2, 2),
            ("a\nb\nc", 1, 4),
            ("a\nb\nc\n", 9, 0),
            ("a\nb\nc\n", 0, 6),
            ("", 3, 0),
            ("\n\n\n", 2, 1),
        ] {
            let directory = with_stdout(&[(0, text.as_bytes())]);
            let found = tail_offset(directory.path(), Stream::Stdout, lines).expect("can be told");
            assert_eq!(found, expected, "{lines} lines of {text:?}");
        }
    }

    #[test]
    fn the_tail_of_long_lines_is_found_further_back() {
        let line = "x".repeat(200_000) + "\n";
        let directory = with_stdout(&[(0, line.repeat(3).as_bytes())]);
        let found = tail_offset(directory.path(), Stream::Stdout, 2).expect("can be told");
        assert_eq!(found, line.len() as u64);
    }
}
