//! Signals to `pyexec run`: the first SIGINT or SIGTERM cancels the job, the second kills it, the third makes pyexec exit
//! without waiting. A terminal that hangs up (SIGHUP) does not affect the job.

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

/// What to do about the job; each action is more urgent than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Action {
    Continue,
    Cancel,
    Kill,
    Leave,
}

/// The action that the signals so far have requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Requested {
    action: Action,
    first: Option<Interruption>,
}

impl Requested {
    const NOTHING: Requested = Requested { action: Action::Continue, first: None };

    fn after(self, signal: Interruption) -> Self {
        let first = Some(self.first.unwrap_or(signal));
        match (signal, self.action) {
            // A request to end the job stands even if the terminal is closed afterwards.
            (Interruption::HangUp, Action::Cancel | Action::Kill) => self,
            (Interruption::HangUp, Action::Continue) | (_, Action::Kill | Action::Leave) => {
                Self { action: Action::Leave, first }
            }
            (Interruption::Interrupt | Interruption::Terminate, Action::Continue) => {
                Self { action: Action::Cancel, first }
            }
            (Interruption::Interrupt | Interruption::Terminate, Action::Cancel) => Self { action: Action::Kill, first },
        }
    }
}

/// The signals received since [`Interruptions::listen`], so that none is missed during a submission.
#[derive(Clone, Debug)]
pub(crate) struct Interruptions(watch::Receiver<Requested>);

impl Interruptions {
    pub(crate) fn listen() -> io::Result<Self> {
        let ignored = ignored_signals();
        let mut interrupt = listener(SignalKind::interrupt(), ignored)?;
        let mut terminate = listener(SignalKind::terminate(), ignored)?;
        let mut hang_up = listener(SignalKind::hangup(), ignored)?;
        let (requested, receiver) = watch::channel(Requested::NOTHING);
        tokio::spawn(async move {
            loop {
                let signal = tokio::select! {
                    () = received(&mut interrupt) => Interruption::Interrupt,
                    () = received(&mut terminate) => Interruption::Terminate,
                    () = received(&mut hang_up) => Interruption::HangUp,
                };
                let before = *requested.borrow();
                let after = before.after(signal);
                if after.action == Action::Cancel && before.action == Action::Continue && terminal::stderr_is_terminal()
                {
                    terminal::note("cancelling… (Ctrl-C again to kill)");
                }
                requested.send_replace(after);
            }
        });
        Ok(Self(receiver))
    }

    /// The first signal received, if any.
    pub(crate) fn first(&self) -> Option<Interruption> {
        self.0.borrow().first
    }

    /// Returns when this process has to exit at once.
    pub(crate) async fn leave(&self) -> Interruption {
        self.wait_for_action(|requested| requested.action == Action::Leave).await
    }

    /// Like [`Self::leave`], but ignores SIGHUP: the job has to run, so its submission has to complete.
    pub(crate) async fn leave_unless_hung_up(&self) -> Interruption {
        self.wait_for_action(|requested| {
            requested.action == Action::Leave && requested.first != Some(Interruption::HangUp)
        })
        .await
    }

    async fn wait_for_action(&self, enough: impl Fn(&Requested) -> bool) -> Interruption {
        let mut receiver = self.0.clone();
        let first = match receiver.wait_for(|requested| enough(requested)).await {
            Ok(requested) => requested.first,
            // The task that listens never ends.
            Err(_) => None,
        };
        match first {
            Some(first) => first,
            None => std::future::pending().await,
        }
    }

    /// Sends the requested action to the daemon, again whenever it becomes more urgent. The job must be submitted.
    pub(crate) async fn stop_job(mut self, client: Arc<Client>, id: JobId) {
        let mut done = Action::Continue;
        loop {
            let Ok(action) =
                self.0.wait_for(|requested| requested.action > done).await.map(|requested| requested.action)
            else {
                return;
            };
            done = action;
            let now = match action {
                Action::Cancel => false,
                Action::Kill => true,
                Action::Continue | Action::Leave => return,
            };
            let more_urgent = async {
                let mut urgent = self.0.clone();
                if urgent.wait_for(|requested| requested.action > action).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                // A slow answer must not delay a more urgent action.
                () = more_urgent => {}
                () = stop(&client, id, now) => {}
            }
        }
    }
}

async fn stop(client: &Client, id: JobId, now: bool) {
    match client.stop(id, StopRequest { now, grace_ms: None }).await {
        Err(error) => terminal::error(&error, error.hint().as_deref()),
        // The task that follows the job reports its end and any error.
        Ok(_) => drop(wait_briefly(client, id).await),
    }
}

/// The job, if it finishes within two seconds. Otherwise prints a note with the reason that the daemon gives, for example
/// a full disk that the rest of its output does not fit on.
pub(crate) async fn wait_briefly(client: &Client, id: JobId) -> Result<Option<JobDetail>, ClientError> {
    const SAY_WHY_AFTER: Duration = Duration::from_secs(2);
    let finished = client.wait_until(id, Instant::now() + SAY_WHY_AFTER, pending()).await?;
    if finished.is_none()
        && let Some(message) = client.show(id).await?.message
    {
        terminal::note(&format!("job {id} has not ended yet: {message}"));
    }
    Ok(finished)
}

/// `None` if the parent process set the signal to be ignored, as `nohup` does, and a shell for `&` in a script.
fn listener(kind: SignalKind, ignored: u64) -> io::Result<Option<Signal>> {
    if is_ignored(ignored, kind.as_raw_value()) { Ok(None) } else { signal(kind).map(Some) }
}

async fn received(listener: &mut Option<Signal>) {
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
        let cases: [(&[Interruption], Action, Interruption); 7] = [
            (&[Interrupt], Action::Cancel, Interrupt),
            (&[Terminate], Action::Cancel, Terminate),
            (&[HangUp], Action::Leave, HangUp),
            (&[Interrupt, Interrupt], Action::Kill, Interrupt),
            (&[Terminate, Interrupt], Action::Kill, Terminate),
            (&[Interrupt, Interrupt, Interrupt], Action::Leave, Interrupt),
            (&[Interrupt, HangUp], Action::Cancel, Interrupt),
        ];
        for (signals, action, first) in cases {
            let requested = signals.iter().fold(Requested::NOTHING, |requested, signal| requested.after(*signal));
            assert_eq!(requested, Requested { action, first: Some(first) }, "{signals:?}");
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
