//! The stream that the protocol runs on, kept clean.
//!
//! Only protocol messages may reach stdout, and nothing but this may read stdin: both are taken private before anything
//! else happens, and what is left under their numbers leads to stderr and nowhere.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rmcp::RoleServer;
use rmcp::model::{ClientRequest, GetMeta, JsonRpcMessage, ProtocolVersion};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use rmcp::transport::async_rw::AsyncRwTransport;
use rustix::fs::{FileType, Mode, OFlags};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

pub(crate) type Input = Box<dyn AsyncRead + Send + Unpin>;
pub(crate) type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// The longest message that is accepted, in bytes: a script of the largest size that can be run, as JSON at its worst.
const MAX_LINE_BYTES: usize = 128 << 20;

/// rmcp's transport, with what it lacks: it says when stdin has ended, and does not mind a notification that comes before
/// the first request.
pub(crate) struct Guarded {
    inner: AsyncRwTransport<RoleServer, Input, Output>,
    end_of_input: CancellationToken,
    /// A request has come that rmcp takes for the first of a session.
    open: bool,
}

impl Guarded {
    pub(crate) fn new(input: Input, output: Output, end_of_input: CancellationToken) -> Self {
        let inner = AsyncRwTransport::new_server(input, output).with_max_line_length(MAX_LINE_BYTES);
        Self { inner, end_of_input, open: false }
    }
}

impl Transport<RoleServer> for Guarded {
    type Error = io::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), io::Error>> + Send + 'static {
        self.inner.send(message)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            let Some(message) = self.inner.receive().await else {
                self.end_of_input.cancel();
                return None;
            };
            match &message {
                JsonRpcMessage::Request(request) if !self.open => self.open = opens(&request.request),
                JsonRpcMessage::Request(_) => {}
                JsonRpcMessage::Notification(_) | JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_)
                    if !self.open =>
                {
                    continue;
                }
                JsonRpcMessage::Notification(_) | JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => {}
            }
            return Some(message);
        }
    }

    fn close(&mut self) -> impl Future<Output = Result<(), io::Error>> + Send {
        self.inner.close()
    }
}

/// Whether rmcp regards the connection as set up from this request on.
fn opens(request: &ClientRequest) -> bool {
    #[expect(clippy::wildcard_enum_match_arm, reason = "every other request opens it if it carries what one needs")]
    match request {
        ClientRequest::InitializeRequest(_) => true,
        ClientRequest::DiscoverRequest(_) | ClientRequest::PingRequest(_) => false,
        other => other.get_meta().missing_required_keys(&ProtocolVersion::V_2026_07_28).is_empty(),
    }
}

/// Takes stdin and stdout private. Afterwards their numbers mean `/dev/null` and stderr, for us, for libraries and for
/// every process that is started.
pub(crate) fn take_stdio() -> io::Result<(Input, Output)> {
    let input = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let output = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    Ok((reader(input)?, writer(output)?))
}

fn reader(input: OwnedFd) -> io::Result<Input> {
    Ok(match file_type(&input)? {
        FileType::Fifo => match opened_again(&input, OFlags::RDONLY) {
            Ok(pipe) => Box::new(tokio::net::unix::pipe::Receiver::from_owned_fd(pipe)?),
            Err(_) => Box::new(tokio::fs::File::from_std(input.into())),
        },
        FileType::Socket => Box::new(socket(input)?),
        FileType::RegularFile
        | FileType::Directory
        | FileType::Symlink
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => Box::new(tokio::fs::File::from_std(input.into())),
    })
}

fn writer(output: OwnedFd) -> io::Result<Output> {
    Ok(match file_type(&output)? {
        FileType::Fifo => match opened_again(&output, OFlags::WRONLY) {
            Ok(pipe) => Box::new(tokio::net::unix::pipe::Sender::from_owned_fd(pipe)?),
            Err(_) => Box::new(tokio::fs::File::from_std(output.into())),
        },
        // Hosts that run on Node hand out sockets.
        FileType::Socket => Box::new(socket(output)?),
        FileType::RegularFile
        | FileType::Directory
        | FileType::Symlink
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => Box::new(tokio::fs::File::from_std(output.into())),
    })
}

fn file_type(descriptor: &OwnedFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(descriptor)?.st_mode))
}

/// A pipe that does not block, without making it so for the others who have it open. One that another user has made, as
/// `sudo -u` hands it over, can not be opened again: it is read and written on a thread, as a file is.
fn opened_again(descriptor: &OwnedFd, how: OFlags) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    Ok(rustix::fs::open(path, how | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?)
}

fn socket(descriptor: OwnedFd) -> io::Result<tokio::net::UnixStream> {
    let stream = std::os::unix::net::UnixStream::from(descriptor);
    stream.set_nonblocking(true)?;
    tokio::net::UnixStream::from_std(stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Whoever may read everything proves nothing here: it opens the pipe all the same.
    #[tokio::test]
    async fn a_pipe_that_can_not_be_opened_again_is_read_and_written_as_it_is() {
        let (input, output) = std::io::pipe().expect("a pipe");
        rustix::fs::fchmod(&input, Mode::empty()).expect("it is ours");
        let (mut input, mut output) =
            (reader(input.into()).expect("can be read"), writer(output.into()).expect("can be written"));
        output.write_all(b"line").await.expect("it is open");
        output.flush().await.expect("it is open");
        drop(output);
        let mut read = String::new();
        input.read_to_string(&mut read).await.expect("it ends");
        assert_eq!(read, "line");
    }
}
