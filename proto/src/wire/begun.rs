//! A time limit for incomplete frames.
//!
//! A connection may be idle between two frames for any time. Within a frame the sender has to make progress, because an
//! incomplete frame takes memory and a descriptor.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a frame may take after its first byte if nothing more arrives.
const PATIENCE: Duration = Duration::from_secs(10);
/// The lowest average rate, in bytes per second, that extends the time limit. The largest frame may take 35 minutes.
const LEAST_RATE: u64 = 16 << 10;

/// The time limit, after its first byte, of a frame of which `received` bytes have arrived.
pub fn allowance(received: usize) -> Duration {
    PATIENCE + Duration::from_millis((received as u64).saturating_mul(1000) / LEAST_RATE)
}

/// Tracks frames in the stream: a length of four bytes, big-endian, and that many bytes.
#[derive(Debug, Default)]
struct Frame {
    header: [u8; HEADER],
    /// How many bytes of the frame have arrived, including its header; 0 between two frames.
    received: usize,
    /// When its first byte arrived.
    begun: Option<Instant>,
}

const HEADER: usize = 4;

impl Frame {
    fn take(&mut self, mut bytes: &[u8], now: Instant) {
        while let Some(first) = bytes.first() {
            self.begun.get_or_insert(now);
            if let Some(place) = self.header.get_mut(self.received) {
                *place = *first;
                self.received += 1;
                bytes = &bytes[1..];
            } else {
                let taken = bytes.len().min(self.whole() - self.received);
                self.received += taken;
                bytes = &bytes[taken..];
            }
            if self.received >= HEADER && self.received == self.whole() {
                *self = Self::default();
            }
        }
    }

    /// The size of the frame. Valid only once its header has arrived.
    fn whole(&self) -> usize {
        (u32::from_be_bytes(self.header) as usize).saturating_add(HEADER)
    }

    fn due(&self) -> Option<Instant> {
        self.begun.map(|begun| begun + allowance(self.received))
    }
}

/// A stream of frames whose reads fail if a frame is not completed in time.
#[derive(Debug)]
pub struct Timely<S> {
    stream: S,
    frame: Frame,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<S> Timely<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, frame: Frame::default(), alarm: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timely<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(context, buffer) {
            self.alarm = None;
            self.frame.take(&buffer.filled()[before..], Instant::now());
            return Poll::Ready(read);
        }
        let Some(due) = self.frame.due() else { return Poll::Pending };
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(due)));
        ready!(alarm.as_mut().poll(context));
        let problem = format!("a frame was not completed in time: {} bytes arrived", self.frame.received);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, problem)))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timely<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("is short");
        [&length.to_be_bytes()[..], payload].concat()
    }

    #[test]
    fn only_within_a_frame_is_there_a_limit_however_the_bytes_are_cut() {
        let wire = [framed(b"one"), framed(b""), framed(&[7; 300])].concat();
        let ends = [7, 11, 11 + 304];
        for cut in 1..20 {
            let mut frame = Frame::default();
            let mut at = 0;
            for piece in wire.chunks(cut) {
                frame.take(piece, Instant::now());
                at += piece.len();
                assert_eq!(frame.due().is_none(), ends.contains(&at), "at {at} of pieces of {cut}");
            }
        }
    }

    #[test]
    fn a_frame_that_goes_on_is_given_more_time_and_one_that_does_not_is_not() {
        let start = Instant::now();
        let mut frame = Frame::default();
        let whole = framed(&vec![0; 32 << 20]);
        frame.take(&whole[..1], start);
        let first = frame.due().expect("has begun");
        assert!((PATIENCE..PATIENCE + Duration::from_secs(1)).contains(&(first - start)));
        // What comes late is no new beginning.
        frame.take(&whole[1..2], start + PATIENCE / 2);
        assert_eq!(frame.due(), Some(start + allowance(2)));
        // 64 KiB a second.
        let mut now = start;
        for piece in whole[2..].chunks(64 << 10) {
            now += Duration::from_secs(1);
            assert!(frame.due().is_none_or(|due| now < due), "{} bytes came by then", frame.received);
            frame.take(piece, now);
        }
        assert_eq!(frame.due(), None);
    }

    #[test]
    fn the_next_frame_has_a_time_of_its_own() {
        let start = Instant::now();
        let mut frame = Frame::default();
        frame.take(&[&framed(b"one")[..], &[0]].concat(), start);
        let later = start + Duration::from_secs(5);
        frame.take(&framed(b"")[1..], later);
        assert_eq!(frame.due(), None);
        frame.take(&[0], later);
        assert_eq!(frame.due(), Some(later + allowance(1)));
    }
}
