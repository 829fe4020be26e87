//! How the programs of a preparation are told from all others: a daemon ends what an earlier one has left at work.

use std::ffi::OsString;
use std::path::Path;

use rustix::process::Signal;
use tokio::process::Command;
use tokio::sync::watch;

use pyexec_run_directory::processes::{self, PREPARING_VARIABLE};

/// On every program that is run for a preparation, and on all that it starts: which daemon's it is.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    /// The state directory, which one daemon has at a time.
    state: OsString,
    /// Never sent anything: closed once no program of an earlier daemon is left.
    alone: watch::Receiver<()>,
}

/// What an earlier daemon has left at work. While it has not been ended, no program is given the mark: it would be taken
/// for one of those.
#[derive(Debug)]
pub(super) struct Former {
    state: OsString,
    _not_alone: watch::Sender<()>,
}

impl Mark {
    pub(super) fn new(state: &Path) -> (Self, Former) {
        let (not_alone, alone) = watch::channel(());
        let state = state.as_os_str().to_owned();
        (Self { state: state.clone(), alone }, Former { state, _not_alone: not_alone })
    }

    pub(super) async fn set_on(&self, command: &mut Command) {
        let _closed = self.alone.clone().changed().await;
        command.env(PREPARING_VARIABLE, &self.state);
    }
}

impl Former {
    pub(super) fn end(self) {
        for process in processes::preparing_for(&self.state) {
            if let Err(error) = process.signal(Signal::KILL) {
                tracing::warn!(pid = process.pid, %error, "what a preparation left running can not be ended");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn nothing_is_marked_before_what_was_left_has_been_ended() {
        let (mark, former) = Mark::new(Path::new("/nowhere/of-this-test"));
        let mut command = Command::new("true");
        {
            let mut setting = std::pin::pin!(mark.set_on(&mut command));
            let mut context = Context::from_waker(Waker::noop());
            assert!(setting.as_mut().poll(&mut context).is_pending());
            former.end();
            assert_eq!(setting.as_mut().poll(&mut context), Poll::Ready(()));
        }
        let variables: Vec<_> = command.as_std().get_envs().collect();
        let marked = (PREPARING_VARIABLE.as_ref(), Some("/nowhere/of-this-test".as_ref()));
        assert_eq!(variables, [marked]);
    }
}
