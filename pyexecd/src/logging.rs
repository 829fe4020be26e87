//! Where the daemon says what it does: a file a day, a week of them, and the journal when systemd runs it.

use std::io;
use std::path::{Path, PathBuf};

use pyexec_proto::{Timestamp, sanitize};
use pyexec_run_directory::private::create_private;
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How many days are kept.
const KEPT_FILES: usize = 7;
const PREFIX: &str = "pyexecd";
const SUFFIX: &str = "log";

/// One event is one line, whatever is in it: a path may have a newline in its name.
struct Lines<W>(W);

impl<W: io::Write> io::Write for Lines<W> {
    /// All of an event comes in one piece.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = sanitize::one_line(text.strip_suffix('\n').unwrap_or(&text));
        self.0.write_all(format!("{line}\n").as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The log in a directory, which may be removed under us: it is made again with the next line.
struct Reopened {
    directory: PathBuf,
    file: RollingFileAppender,
}

impl Reopened {
    fn open(directory: &Path) -> io::Result<Self> {
        create_private(directory)?;
        let file = RollingFileAppender::builder()
            .rotation(Rotation::DAILY)
            .filename_prefix(PREFIX)
            .filename_suffix(SUFFIX)
            .max_log_files(KEPT_FILES)
            .build(directory)
            .map_err(io::Error::other)?;
        Ok(Self { directory: directory.to_owned(), file })
    }

    /// Whether the file of today is where it should be. That of yesterday is not asked for: a new day has a new one.
    fn is_there(&self) -> bool {
        let now = Timestamp::now().to_string();
        let day = now.split('T').next().unwrap_or_default();
        self.directory.join(format!("{PREFIX}.{day}.{SUFFIX}")).symlink_metadata().is_ok()
    }
}

impl io::Write for Reopened {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_there()
            && let Ok(again) = Self::open(&self.directory)
        {
            *self = again;
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Files are `pyexecd.YYYY-MM-DD.log`.
pub(crate) fn start(directory: &Path, filter: &str) -> io::Result<()> {
    let file = Reopened::open(directory)?;
    let to_file = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_target(false)
        .with_writer(std::sync::Mutex::new(Lines(file)));
    // systemd connects stderr to the journal, which adds the time itself.
    let under_systemd = std::env::var_os("JOURNAL_STREAM").is_some();
    let to_journal = under_systemd.then(|| {
        tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_target(false)
            .without_time()
            .with_writer(|| Lines(io::stderr()))
    });
    let (levels, ignored) = levels(filter);
    tracing_subscriber::registry().with(levels).with(to_file).with(to_journal).init();
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a panic")));
    for directive in ignored {
        tracing::warn!(
            directive,
            "the log filter has a part that is neither a level nor `target=level`; it is ignored"
        );
    }
    Ok(())
}

/// Reads the setting `log`: levels, and pairs `target=level`, separated by commas; a later one for the same target wins.
/// Returns the parts that cannot be read beside it. A wrong filter must not keep the daemon from starting.
///
/// `EnvFilter` of tracing-subscriber reads spans and their fields as well, of which the daemon has none, and needs a crate of
/// regular expressions for them.
fn levels(filter: &str) -> (Targets, Vec<&str>) {
    let (read, ignored): (Vec<&str>, Vec<&str>) = filter
        .split(',')
        .map(str::trim)
        .filter(|directive| !directive.is_empty())
        .partition(|directive| directive.parse::<Targets>().is_ok());
    // tarpc logs every request at info, with a trace id nobody asked for.
    let directives = ["tarpc=warn"].into_iter().chain(read.iter().copied()).collect::<Vec<_>>().join(",");
    (directives.parse().expect("each part of it was read"), ignored)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("nothing panics").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_that_was_removed_is_opened_again_and_goes_on() {
        let home = tempfile::tempdir().expect("a directory");
        let directory = home.path().join("state/log");
        let mut log = Reopened::open(&directory).expect("can be made");
        let read = || {
            let entries = std::fs::read_dir(&directory).expect("is there");
            let texts = entries.map(|entry| std::fs::read_to_string(entry.expect("is there").path()).expect("is text"));
            texts.collect::<String>()
        };
        log.write_all(b"first\n").expect("can be written");
        log.write_all(b"second\n").expect("can be written");
        assert_eq!(read(), "first\nsecond\n", "nothing is opened again for nothing");
        std::fs::remove_dir_all(home.path().join("state")).expect("is there");
        log.write_all(b"third\n").expect("can be written");
        assert_eq!(read(), "third\n");
        for entry in std::fs::read_dir(&directory).expect("is there") {
            std::fs::remove_file(entry.expect("is there").path()).expect("is there");
        }
        log.write_all(b"fourth\n").expect("can be written");
        assert_eq!(read(), "fourth\n");
    }

    #[test]
    fn a_filter_is_of_levels_and_of_targets_with_levels_and_tarpc_is_quiet_unless_it_is_named() {
        use tracing::Level;
        for (filter, loudest, silent) in [
            (
                "info",
                &[("pyexecd::jobs", Level::INFO), ("tarpc::client", Level::WARN)][..],
                &[("pyexecd::jobs", Level::DEBUG), ("tarpc", Level::INFO)][..],
            ),
            (
                "WARN, pyexecd::jobs=Trace",
                &[("pyexecd::jobs::x", Level::TRACE), ("pyexecd::store", Level::WARN)],
                &[("pyexecd::store", Level::INFO)],
            ),
            ("info,tarpc=debug", &[("tarpc", Level::DEBUG)], &[("tarpc", Level::TRACE)]),
            ("pyexecd::jobs", &[("pyexecd::jobs", Level::TRACE)], &[("pyexecd::store", Level::ERROR)]),
            ("4", &[("pyexecd", Level::DEBUG)], &[("pyexecd", Level::TRACE)]),
            ("off,,", &[], &[("pyexecd", Level::ERROR)]),
        ] {
            let (levels, ignored) = levels(filter);
            assert_eq!(ignored, Vec::<&str>::new(), "{filter}");
            for (target, level) in loudest {
                assert!(levels.would_enable(target, level), "{filter}: {target} {level}");
            }
            for (target, level) in silent {
                assert!(!levels.would_enable(target, level), "{filter}: {target} {level}");
            }
        }
    }

    #[test]
    fn a_part_of_the_filter_that_cannot_be_read_is_named_and_the_rest_holds() {
        let (levels, ignored) = levels("pyexecd=loud,debug, a=b=c");
        assert_eq!(ignored, ["pyexecd=loud", "a=b=c"]);
        assert!(levels.would_enable("pyexecd", &tracing::Level::DEBUG));
    }

    #[test]
    fn an_event_is_one_line_whatever_its_message_and_its_fields_are() {
        let (kept, hostile) = (Kept::default(), "a\nERROR forged\r\u{1b}]0;t\u{7}\u{9b}2J\u{202e}\0");
        let writer = kept.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || Lines(writer.clone())).finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!(shown = %hostile, debugged = ?hostile, text = hostile, "said {hostile}");
            tracing::error!("next");
        });
        let text = String::from_utf8(kept.0.lock().expect("nothing panics").clone()).expect("is text");
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(!text.contains(|letter| sanitize::is_invisible_or_control(letter) && letter != '\n'), "{text:?}");
        assert!(text.contains("ERROR forged"), "nothing is left out: {text}");
    }
}
