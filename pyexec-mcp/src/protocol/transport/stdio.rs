//! The descriptors of the protocol's stream, made private before anything else happens.
//!
//! Only protocol messages may reach stdout, and only this server may read stdin. The descriptors 0 and 1 then lead to
//! `/dev/null` and stderr, for libraries and for every process that is started.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest};

pub(crate) type Input = Box<dyn AsyncRead + Send + Unpin>;
pub(crate) type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// The input and output of the protocol.
pub(crate) struct Stdio {
    pub(crate) input: Input,
    pub(crate) output: Output,
    pub(crate) hangup: Hangup,
    pub(super) originals: Originals,
}

/// The descriptors as this process inherited them, for a program that is executed in its place.
pub(super) struct Originals {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    /// A thread may be reading stdin. Whatever it reads after this process has stopped waiting is lost.
    pub(super) is_read_by_thread: bool,
}

/// Detects that the client has closed its end of stdin, without reading the remaining input.
pub(crate) struct Hangup(OwnedFd);

impl Hangup {
    /// Waits for the hangup; never returns for files, which have no other end. The descriptor is registered with the
    /// kernel only during the wait, so that it costs nothing while stdin is read.
    pub(crate) async fn wait(&self) {
        let Ok(watched) = self.0.try_clone().and_then(watch) else { return std::future::pending().await };
        loop {
            let Ok(mut readiness) = watched.readable().await else { return std::future::pending().await };
            if readiness.ready().is_read_closed() {
                return;
            }
            // There is input to read, but no hangup.
            readiness.clear_ready();
        }
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe, and asks for what an `OwnedFd` is: open for as long as it is watched"
)]
fn watch(input: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(input, Interest::READABLE)
}

/// Makes stdin and stdout private. Afterwards their numbers lead to `/dev/null` and stderr, for this process, for
/// libraries and for every process that is started.
pub(crate) fn take() -> io::Result<Stdio> {
    let stdin = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let stdout = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    lead_elsewhere()?;
    let hangup = Hangup(stdin.try_clone()?);
    let (input, is_read_by_thread) = reader(stdin.try_clone()?)?;
    let output = writer(stdout.try_clone()?)?;
    Ok(Stdio { input, output, hangup, originals: Originals { stdin, stdout, is_read_by_thread } })
}

/// Points the numbers of stdin and stdout to `/dev/null` and stderr.
pub(super) fn lead_elsewhere() -> io::Result<()> {
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    Ok(())
}

/// The reader, and whether it uses a thread.
fn reader(input: OwnedFd) -> io::Result<(Input, bool)> {
    Ok(match file_type(&input)? {
        FileType::Fifo => match opened_again(&input, OFlags::RDONLY) {
            Ok(pipe) => (Box::new(tokio::net::unix::pipe::Receiver::from_owned_fd(pipe)?), false),
            Err(_) => (Box::new(tokio::fs::File::from_std(input.into())), true),
        },
        FileType::Socket => (Box::new(socket(input)?), false),
        FileType::RegularFile
        | FileType::Directory
        | FileType::Symlink
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => (Box::new(tokio::fs::File::from_std(input.into())), true),
    })
}

fn writer(output: OwnedFd) -> io::Result<Output> {
    Ok(match file_type(&output)? {
        FileType::Fifo => match opened_again(&output, OFlags::WRONLY) {
            Ok(pipe) => Box::new(tokio::net::unix::pipe::Sender::from_owned_fd(pipe)?),
            Err(_) => Box::new(tokio::fs::File::from_std(output.into())),
        },
        // Hosts that run on Node.js pass sockets.
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

/// Opens a pipe again, so that it can be non-blocking without affecting other processes that share it. A pipe of
/// another user, as `sudo -u` passes it, cannot be opened again: a thread reads and writes it, as with a file.
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
            (reader(input.into()).expect("can be read").0, writer(output.into()).expect("can be written"));
        output.write_all(b"line").await.expect("it is open");
        output.flush().await.expect("it is open");
        drop(output);
        let mut read = String::new();
        input.read_to_string(&mut read).await.expect("it ends");
        assert_eq!(read, "line");
    }

    /// Data that nobody reads must not hide the end behind it.
    #[tokio::test]
    async fn the_end_of_stdin_is_noticed_in_front_of_what_is_unread() {
        let (pipe, to_pipe) = std::io::pipe().expect("a pipe");
        let (socket, to_socket) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let ends: [(OwnedFd, OwnedFd); 2] = [(pipe.into(), to_pipe.into()), (socket.into(), to_socket.into())];
        for (input, to_input) in ends {
            let hangup = Hangup(input);
            rustix::io::write(&to_input, b"unread").expect("there is room");
            let mut come = std::pin::pin!(hangup.wait());
            // Whatever the reactor has to say, it is not the end.
            for _ in 0..10 {
                tokio::task::yield_now().await;
                assert!(futures::poll!(&mut come).is_pending());
            }
            drop(to_input);
            come.await;
        }
    }
}
