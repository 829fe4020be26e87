//! What signals to `pyexec run` mean for the job: the first asks it to end, the second ends it, the third leaves
//! without waiting. A terminal that hangs up leaves the job alone.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pyexec_client::{Client, ClientError};
use pyexec_proto::request::StopRequest;
use pyexec_proto::{JobDetail, JobId};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::advice::Advice;
use crate::exit_code::Interruption;
use crate::terminal;

/// What is to become of the job, each more urgent than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wish {
    GoOn,
    Cancel,
    Kill,
    Leave,
}

/// What the signals so far have asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    wish: Wish,
    first: Option<Interruption>,
}

impl Asked {
    const NOTHING: Asked = Asked { wish: Wish::GoOn, first: None };

    fn after(self, signal: Interruption) -> Self {
        let first = Some(self.first.unwrap_or(signal));
        match (signal, self.wish) {
            // A wish to end the job stays one, even if the terminal is closed over it.
            (Interruption::HangUp, Wish::Cancel | Wish::Kill) => self,
            (Interruption::HangUp, Wish::GoOn) | (_, Wish::Kill | Wish::Leave) => Self { wish: Wish::Leave, first },
            (Interruption::Interrupt | Interruption::Terminate, Wish::GoOn) => Self { wish: Wish::Cancel, first },
            (Interruption::Interrupt | Interruption::Terminate, Wish::Cancel) => Self { wish: Wish::Kill, first },
        }
    }
}

/// Listens for signals from its making on, so that none is missed while a submission is under way.
#[derive(Clone, Debug)]
pub(crate) struct Interruptions(watch::Receiver<Asked>);

impl Interruptions {
    pub(crate) fn listen() -> io::Result<Self> {
        let ignored = ignored_signals();
        let mut interrupt = listener(SignalKind::interrupt(), ignored)?;
        let mut terminate = listener(SignalKind::terminate(), ignored)?;
        let mut hang_up = listener(SignalKind::hangup(), ignored)?;
        let (asked, receiver) = watch::channel(Asked::NOTHING);
        tokio::spawn(async move {
            loop {
                let signal = tokio::select! {
                    () = heard(&mut interrupt) => Interruption::Interrupt,
                    () = heard(&mut terminate) => Interruption::Terminate,
                    () = heard(&mut hang_up) => Interruption::HangUp,
                };
                let before = *asked.borrow();
                let after = before.after(signal);
                if after.wish == Wish::Cancel && before.wish == Wish::GoOn && terminal::stderr_is_terminal() {
                    terminal::note("cancelling… (Ctrl-C again to kill)");
                }
                asked.send_replace(after);
            }
        });
        Ok(Self(receiver))
    }

    /// The signal that began it, if any came.
    pub(crate) fn first(&self) -> Option<Interruption> {
        self.0.borrow().first
    }

    /// Returns when we are to leave at once.
    pub(crate) async fn left(&self) -> Interruption {
        self.wished(|asked| asked.wish == Wish::Leave).await
    }

    /// Like [`Self::left`], but a terminal that hung up is not a reason yet: the job it started is to run, so its
    /// submission has to get through.
    pub(crate) async fn gave_up(&self) -> Interruption {
        self.wished(|asked| asked.wish == Wish::Leave && asked.first != Some(Interruption::HangUp)).await
    }

    async fn wished(&self, enough: impl Fn(&Asked) -> bool) -> Interruption {
        let mut receiver = self.0.clone();
        let first = match receiver.wait_for(|asked| enough(asked)).await {
            Ok(asked) => asked.first,
            // The task that listens never ends.
            Err(_) => None,
        };
        match first {
            Some(first) => first,
            None => std::future::pending().await,
        }
    }

    /// Tells the daemon what is wished for, as often as it becomes more urgent. For a job that has been submitted.
    pub(crate) async fn stop_job(mut self, client: Arc<Client>, id: JobId) {
        let mut done = Wish::GoOn;
        loop {
            let Ok(wish) = self.0.wait_for(|asked| asked.wish > done).await.map(|asked| asked.wish) else { return };
            done = wish;
            let now = match wish {
                Wish::Cancel => false,
                Wish::Kill => true,
                Wish::GoOn | Wish::Leave => return,
            };
            let more_urgent = async {
                let mut urgent = self.0.clone();
                if urgent.wait_for(|asked| asked.wish > wish).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                // An answer that is slow to come must not hold up what is more urgent.
                () = more_urgent => {}
                () = stop(&client, id, now) => {}
            }
        }
    }
}

async fn stop(client: &Client, id: JobId, now: bool) {
    match client.stop(id, StopRequest { now, grace_ms: None }).await {
        Err(error) => terminal::error(&error, error.hint().as_deref()),
        // Whoever shows what the job prints hears of its end, and of what went wrong meanwhile.
        Ok(_) => drop(ended_soon(client, id).await),
    }
}

/// The job, if it ends soon after it was told to. What keeps it from that is said: a full disk, on which the rest of its
/// output has no room.
pub(crate) async fn ended_soon(client: &Client, id: JobId) -> Result<Option<JobDetail>, ClientError> {
    const SAY_WHY_AFTER: Duration = Duration::from_secs(2);
    let finished = client.wait_until(id, Instant::now() + SAY_WHY_AFTER, pending()).await?;
    if finished.is_none()
        && let Some(message) = client.show(id).await?.message
    {
        terminal::note(&format!("job {id} has not ended yet: {message}"));
    }
    Ok(finished)
}

/// `None` where whoever started us wants the signal ignored, as `nohup` does, and a shell does for `&` in a script.
fn listener(kind: SignalKind, ignored: u64) -> io::Result<Option<Signal>> {
    if is_ignored(ignored, kind.as_raw_value()) { Ok(None) } else { signal(kind).map(Some) }
}

async fn heard(listener: &mut Option<Signal>) {
    if let Some(signal) = listener
        && signal.recv().await.is_some()
    {
        return;
    }
    std::future::pending().await
}

/// One bit for each signal, the lowest for signal 1.
fn ignored_signals() -> u64 {
    std::fs::read_to_string("/proc/self/status").map_or(0, |status| parse_ignored(&status))
}

fn parse_ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

fn is_ignored(mask: u64, signal: i32) -> bool {
    u32::try_from(signal - 1).is_ok_and(|bit| mask.checked_shr(bit).is_some_and(|rest| rest & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Interruption::{HangUp, Interrupt, Terminate};

    #[test]
    fn each_signal_is_more_urgent_than_the_last_and_the_first_names_the_exit_code() {
        let cases: [(&[Interruption], Wish, Interruption); 7] = [
            (&[Interrupt], Wish::Cancel, Interrupt),
            (&[Terminate], Wish::Cancel, Terminate),
            (&[HangUp], Wish::Leave, HangUp),
            (&[Interrupt, Interrupt], Wish::Kill, Interrupt),
            (&[Terminate, Interrupt], Wish::Kill, Terminate),
            (&[Interrupt, Interrupt, Interrupt], Wish::Leave, Interrupt),
            (&[Interrupt, HangUp], Wish::Cancel, Interrupt),
        ];
        for (signals, wish, first) in cases {
            let asked = signals.iter().fold(Asked::NOTHING, |asked, signal| asked.after(*signal));
            assert_eq!(asked, Asked { wish, first: Some(first) }, "{signals:?}");
        }
    }

    #[test]
    fn signals_ignored_by_our_starter_are_known() {
        let mask = parse_ignored("Name:\tpyexec\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001003\n");
        assert!(is_ignored(mask, 1) && is_ignored(mask, 2) && is_ignored(mask, 13));
        assert!(!is_ignored(mask, 15) && !is_ignored(mask, 64));
        assert_eq!(parse_ignored("nothing of that kind"), 0);
    }
}
