//! `pyexec send ID TEXT`: writes to a job's stdin.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use pyexec_proto::id::SenderId;
use pyexec_proto::request::Input;

use crate::args::Send;
use crate::attach::input::{START_MS, send_once_started};
use crate::connection::{connect_and_resolve_one, note_unaffected};
use crate::exit_code::{Code, Failure, SUCCESS};

pub(crate) async fn perform(send: Send) -> Result<Code, Failure> {
    let (client, id) = connect_and_resolve_one(&send.id).await?;
    let bytes = line(send.text, send.no_newline);
    let given = bytes.len() as u64;
    let (sender, close) = (SenderId::mint(), send.eof);
    // A job that has been submitted is written to once it starts; a buffer that is full is not waited for.
    let input = Input { sender, offset: 0, bytes, close, wait_ms: 0, start_wait_ms: START_MS };
    let sent = send_once_started(&client, id, &input).await.map_err(Failure::from);
    let taken = note_unaffected(id, sent)?.bytes_written;
    if taken < given {
        return Err(Failure::InputBufferFull { id, taken, given });
    }
    Ok(SUCCESS)
}

fn line(text: Option<OsString>, no_newline: bool) -> Vec<u8> {
    let Some(text) = text else { return vec![] };
    let mut bytes = text.into_vec();
    if !no_newline {
        bytes.push(b'\n');
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_a_line_unless_told_otherwise() {
        assert_eq!(line(Some("yes".into()), false), b"yes\n");
        assert_eq!(line(Some("yes".into()), true), b"yes");
        assert_eq!(line(Some(OsString::new()), false), b"\n");
        assert_eq!(line(None, false), b"");
    }
}
