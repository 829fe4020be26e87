//! Where the daemon says what it does: a file a day, a week of them, and the journal when systemd runs it.

use std::io;
use std::path::Path;

use pyexec_proto::paths::create_private;
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How many days are kept.
const KEPT_FILES: usize = 7;

/// Files are `pyexecd.YYYY-MM-DD.log`.
pub(crate) fn start(directory: &Path, filter: &str) -> io::Result<()> {
    create_private(directory)?;
    let file = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("pyexecd")
        .filename_suffix("log")
        .max_log_files(KEPT_FILES)
        .build(directory)
        .map_err(io::Error::other)?;
    let to_file =
        tracing_subscriber::fmt::layer().with_ansi(false).with_target(false).with_writer(std::sync::Mutex::new(file));
    // systemd connects stderr to the journal, which adds the time itself.
    let under_systemd = std::env::var_os("JOURNAL_STREAM").is_some();
    let to_journal = under_systemd.then(|| {
        tracing_subscriber::fmt::layer().with_ansi(false).with_target(false).without_time().with_writer(io::stderr)
    });
    // tarpc logs every request at info, with a trace id nobody asked for.
    let filter = EnvFilter::new(format!("tarpc=warn,{filter}"));
    tracing_subscriber::registry().with(filter).with(to_file).with(to_journal).init();
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a panic")));
    Ok(())
}
