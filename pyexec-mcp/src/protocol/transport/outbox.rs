//! The queue of lines for stdout. A separate task writes them in order, so that handlers never wait for the client to
//! read.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, watch};

use super::stdio::Output;

/// The number of queued bytes beyond which stdin is left unread.
const MOST_BYTES: usize = 32 << 20;

/// The number of queued bytes beyond which progress notifications are dropped and other notifications wait. Progress is
/// sent twice a second, so a dropped one is soon outdated.
const MOST_BYTES_FOR_NOTIFICATIONS: usize = 1 << 20;

#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    lines: mpsc::UnboundedSender<Vec<u8>>,
    waiting: Arc<watch::Sender<usize>>,
}

impl Outbox {
    /// Starts the writing task, which ends when all senders are dropped.
    pub(super) fn over(output: Output) -> Self {
        let (lines, queued) = mpsc::unbounded_channel();
        let waiting = Arc::new(watch::Sender::new(0));
        tokio::spawn(write(output, queued, waiting.clone()));
        Self { lines, waiting }
    }

    /// Queues a message, without line terminator.
    pub(super) fn push(&self, mut line: Vec<u8>) {
        line.push(b'\n');
        let length = line.len();
        self.waiting.send_modify(|waiting| *waiting += length);
        if self.lines.send(line).is_err() {
            // The client no longer reads.
            self.waiting.send_replace(0);
        }
    }

    pub(super) fn has_room_for_notifications(&self) -> bool {
        *self.waiting.borrow() < MOST_BYTES_FOR_NOTIFICATIONS
    }

    pub(super) async fn room_for_notifications(&self) {
        self.until(|waiting| waiting < MOST_BYTES_FOR_NOTIFICATIONS).await;
    }

    pub(super) async fn room(&self) {
        self.until(|waiting| waiting < MOST_BYTES).await;
    }

    /// Waits until the whole queue is written, or writing has failed.
    pub(crate) async fn written(&self) {
        self.until(|waiting| waiting == 0).await;
    }

    async fn until(&self, is_reached: impl Fn(usize) -> bool) {
        let mut waiting = self.waiting.subscribe();
        // The sender is a field of `self`, so it cannot be dropped.
        let _ = waiting.wait_for(|waiting| is_reached(*waiting)).await;
    }
}

async fn write(mut output: Output, mut queued: mpsc::UnboundedReceiver<Vec<u8>>, waiting: Arc<watch::Sender<usize>>) {
    while let Some(line) = queued.recv().await {
        let written = async {
            output.write_all(&line).await?;
            output.flush().await
        };
        if let Err(error) = written.await {
            tracing::error!("could not write to stdout: {error}");
            drop(queued);
            waiting.send_replace(0);
            return;
        }
        waiting.send_modify(|waiting| *waiting = waiting.saturating_sub(line.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn what_the_client_does_not_read_is_counted_until_it_does() {
        let (ours, mut client) = tokio::io::duplex(64);
        let outbox = Outbox::over(Box::new(ours));
        outbox.push(vec![b'x'; MOST_BYTES_FOR_NOTIFICATIONS]);
        assert!(!outbox.has_room_for_notifications());
        outbox.room().await;
        outbox.push(vec![b'y'; MOST_BYTES]);
        let mut room = Box::pin(outbox.room());
        assert!(futures::poll!(&mut room).is_pending());
        let mut read = vec![0; MOST_BYTES_FOR_NOTIFICATIONS + 1];
        client.read_exact(&mut read).await.expect("is written");
        assert_eq!(read.last(), Some(&b'\n'));
        let mut rest = vec![0; MOST_BYTES + 1];
        client.read_exact(&mut rest).await.expect("is written");
        room.await;
        outbox.written().await;
        outbox.room_for_notifications().await;
    }

    #[tokio::test]
    async fn nothing_waits_for_a_client_that_has_closed_its_end() {
        let (ours, client) = tokio::io::duplex(64);
        let outbox = Outbox::over(Box::new(ours));
        drop(client);
        outbox.push(vec![b'x'; MOST_BYTES + 1]);
        outbox.written().await;
        outbox.push(vec![b'x'; MOST_BYTES + 1]);
        outbox.written().await;
    }
}
