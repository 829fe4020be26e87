//! What comes over the daemon's socket and is no request: garbled, endless, or never finished.

use pyexec_run_directory::directories;
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;

use pyexec_client::{Client, Daemon};
use pyexec_proto::greeting::Greeting;
use pyexec_proto::paths::Paths;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::sandbox::Sandbox;

/// How many frames are sent.
const FRAMES: usize = 10_000;
/// How much more memory the daemon may have at the end than after the first tenth of them.
const MOST_GROWTH: u64 = 4 << 20;

async fn greeted(socket: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(socket).await.expect("the daemon listens");
    Greeting::default().exchange(&mut stream).await.expect("the daemon greets");
    stream
}

/// What a client sends to ask for the daemon's status: the frame, its length included.
async fn status_request(sandbox: &Sandbox) -> Vec<u8> {
    let socket = sandbox.root().join("stand-in");
    let listener = UnixListener::bind(&socket).expect("can be bound");
    let client = Client::connect(Paths { socket, ..sandbox.paths() }, Daemon::MustRun);
    let (client, stream) = tokio::join!(client, async {
        let (mut stream, _) = listener.accept().await.expect("the client connects");
        directories::greeting(&sandbox.paths()).exchange(&mut stream).await.expect("the client greets");
        stream
    });
    let (client, mut stream) = (client.expect("is greeted"), stream);
    let asked = tokio::spawn(async move { client.status().await });
    let mut frame = vec![0; 4];
    stream.read_exact(&mut frame).await.expect("the client asks");
    let length = u32::from_be_bytes(frame[..4].try_into().expect("are four bytes")) as usize;
    frame.resize(4 + length, 0);
    stream.read_exact(&mut frame[4..]).await.expect("the client asks");
    asked.abort();
    frame
}

fn framed(payload: &[u8]) -> Vec<u8> {
    [&u32::try_from(payload.len()).expect("is short").to_be_bytes()[..], payload].concat()
}

/// Something that is no request, however it is read; `request` is one.
fn malformed(random: &mut fastrand::Rng, request: &[u8]) -> Vec<u8> {
    let payload = &request[4..];
    let noise = |random: &mut fastrand::Rng, most| (0..random.usize(..most)).map(|_| random.u8(..)).collect::<Vec<_>>();
    match random.u8(..8) {
        // Requests begin with 0, and what takes them back with 1.
        0 => framed(&[&[random.u8(2..)], &noise(random, 200)[..]].concat()),
        // The end of it is missing.
        1 => framed(&payload[..random.usize(..payload.len())]),
        // There is more than a request.
        2 => framed(&[payload, &[random.u8(..)], &noise(random, 100)].concat()),
        // A deadline that no clock can count to.
        3 => framed(&[&[0, 253], &random.u64(1 << 40..).to_le_bytes()[..], &payload[1..]].concat()),
        // Longer than any frame may be.
        4 => [&random.u32((32 << 20) + 1..).to_be_bytes()[..], &noise(random, 200)].concat(),
        // A frame that is announced and not sent.
        5 => [&random.u32(1000..32 << 20).to_be_bytes()[..], &noise(random, 900)].concat(),
        // Not even its length.
        6 => noise(random, 4),
        // A request that cannot be read: one whose first byte has been lost.
        _ => framed(&[&[2], &payload[1..]].concat()),
    }
}

#[tokio::test]
async fn ten_thousand_frames_that_are_none_harm_nobody() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    let request = status_request(&sandbox).await;
    let seed = std::env::var("PYEXEC_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(11);
    let mut random = fastrand::Rng::with_seed(seed);
    let client = sandbox.client().await;
    let socket = sandbox.paths().socket;
    // It is one: what differs from it is what is refused.
    let mut stream = greeted(&socket).await;
    stream.write_all(&request).await.expect("is taken");
    assert!(stream.read_u32().await.expect("is answered") > 0);
    let mut after_a_tenth = 0;
    for number in 0..FRAMES {
        let mut stream = if random.u8(..8) > 0 {
            greeted(&socket).await
        } else {
            // What is garbled may be the greeting.
            UnixStream::connect(&socket).await.expect("the daemon listens")
        };
        let frame = malformed(&mut random, &request);
        // A daemon that has seen enough may have closed the connection before all of it was sent.
        let _ = stream.write_all(&frame).await;
        drop(stream);
        let status = client.status().await;
        let status = status.unwrap_or_else(|error| panic!("after frame {number} of seed {seed}, {frame:?}: {error}"));
        if number == FRAMES / 10 {
            after_a_tenth = status.rss_bytes;
        }
    }
    let rss = client.status().await.expect("is answered").rss_bytes;
    assert!(rss < after_a_tenth + MOST_GROWTH, "{after_a_tenth} bytes after a tenth of the frames, {rss} at the end");
}

#[tokio::test]
async fn a_frame_that_is_begun_and_not_finished_ends_its_connection_and_idle_ones_are_kept() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    let request = status_request(&sandbox).await;
    let socket = sandbox.paths().socket;
    let mut idle = greeted(&socket).await;
    // As it would be if each second a piece of a large request came.
    let mut slow = greeted(&socket).await;
    let pieces = tokio::spawn(async move {
        let whole = framed(&vec![7; 300 << 10]);
        let (last, others) = whole.split_last().expect("is long");
        for piece in others.chunks(25 << 10) {
            slow.write_all(piece).await.expect("its connection is kept");
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        slow.write_all(&[*last]).await.expect("its connection is kept");
        // What has come was no request.
        assert_eq!(slow.read(&mut [0]).await.expect("is closed"), 0);
    });
    let unfinished = [1, 3, request.len() - 1].map(|begun| {
        let (request, socket) = (request.clone(), socket.clone());
        tokio::spawn(async move {
            let mut stream = greeted(&socket).await;
            stream.write_all(&[&request[..], &request[..begun]].concat()).await.expect("is taken");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.expect("the daemon closes it");
            assert!(answer.len() > 4, "what came before was not answered");
        })
    });
    for ended in unfinished {
        ended.await.expect("does not panic");
    }
    pieces.await.expect("does not panic");
    idle.write_all(&request).await.expect("is taken");
    assert!(idle.read_u32().await.expect("is answered") > 0);
}

/// The supervisor's control socket, on which the next daemon finds it.
#[test]
fn a_supervisor_ends_a_connection_on_which_a_frame_is_not_finished() {
    use std::io::{Read, Write};
    let sandbox = Sandbox::new();
    let id = sandbox.detach(&["-c", "import time; time.sleep(600)"]);
    sandbox.wait_until_running(&id);
    let simple = id.replace('-', "");
    let socket = sandbox.paths().supervisors().join(&simple[..16]);
    let mut idle = StdStream::connect(&socket).expect("it listens");
    let mut begun = StdStream::connect(&socket).expect("it listens");
    begun.write_all(&[200]).expect("is taken");
    let mut said = Vec::new();
    begun.read_to_end(&mut said).expect("it is closed");
    assert!(!said.is_empty(), "it greets");
    // Nothing has been begun here.
    idle.set_nonblocking(true).expect("works");
    let mut said = Vec::new();
    let error = idle.read_to_end(&mut said).expect_err("it is open, and nothing more is said");
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    sandbox.pyexec(["kill", "--now", &id]).expect_code(0);
}
