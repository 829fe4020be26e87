//! What is reported of a job: by itself, with the module `pyexec_progress`, and by the supervisor that runs it several
//! times. Files in its run directory.
//!
//! The job can write whatever it likes there, so nothing in it is trusted: not what kind of file it is, not its size,
//! not its numbers.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use pyexec_proto::progress::{MAX_MESSAGE, Progress, Seen};
use pyexec_run_directory::regular_file;
use pyexec_run_directory::report::{REPORTED, REPORTS, Report};
use rustix::fs::{Mode, OFlags};

/// Far more than either writes.
const LONGEST: u64 = 16 << 10;

pub(super) fn read(directory: &Path, file: &str) -> Option<Progress> {
    read_file(regular_file::open(&directory.join(file)).ok()??)
}

/// Of a job that may write into no more than a directory of its run directory.
pub(super) fn read_fenced(directory: &Path) -> Option<Progress> {
    const FOUND: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
    let reports = rustix::fs::open(directory.join(REPORTS), FOUND, Mode::empty()).ok()?;
    read_file(regular_file::open_at(&reports, REPORTED).ok()??)
}

fn read_file(file: File) -> Option<Progress> {
    let age = file.metadata().ok()?.modified().ok().and_then(|at| at.elapsed().ok()).unwrap_or_default();
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text).ok()?;
    understood(&text, age)
}

/// What is meant by a report that was written so long ago.
pub(crate) fn understood(text: &[u8], age: Duration) -> Option<Progress> {
    let said: Report = serde_json::from_slice(text).ok()?;
    let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
    let total = finite(said.total).filter(|total| *total >= 0.0);
    let rate = finite(said.rate).filter(|rate| *rate > 0.0);
    let current = finite(Some(said.current))?;
    let eta = total.zip(rate).map(|(total, rate)| ((total - current) / rate).max(0.0));
    let message = said.message.filter(|message| !message.is_empty());
    Some(Progress {
        current: Some(current),
        total,
        message: message.map(|message| message.chars().take(MAX_MESSAGE).collect()),
        rate,
        eta_seconds: finite(eta).and_then(|eta| still_left(eta, age)),
        seen: Seen::Reported,
    })
}

/// What is left of it so long after it was said; nothing that can be told where it was far off.
fn still_left(eta: f64, age: Duration) -> Option<f64> {
    const PATIENCE: f64 = 10.0;
    let age = age.as_secs_f64();
    (age <= PATIENCE.max(3.0 * eta)).then(|| (eta - age).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &[u8]) -> Option<Progress> {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join(REPORTED), text).expect("can be written");
        read(directory.path(), REPORTED)
    }

    #[test]
    fn what_is_said_is_read_and_what_is_nonsense_is_nothing() {
        let progress = read_text(br#"{"version":1,"current":3,"total":9,"message":"m","rate":2,"more":[]}"#);
        let progress = progress.expect("is read");
        assert_eq!((progress.current, progress.total), (Some(3.0), Some(9.0)));
        assert!(progress.eta_seconds.is_some_and(|left| (2.0..=3.0).contains(&left)), "{progress:?}");
        for nonsense in
            [&b""[..], b"{", b"[]", b"{\"current\":null}", b"{\"current\":1e999}", b"\xff\xfe", b"{\"total\":3}"]
        {
            assert_eq!(read_text(nonsense), None, "{:?}", String::from_utf8_lossy(nonsense));
        }
        let half = read_text(br#"{"current":3,"total":-1,"rate":-5}"#).expect("is read");
        assert_eq!((half.total, half.rate, half.eta_seconds), (None, None, None));
        let long = format!(r#"{{"current":3,"message":"{}"}}"#, "x".repeat(5_000));
        let message = read_text(long.as_bytes()).and_then(|progress| progress.message).expect("is read");
        assert_eq!(message.len(), MAX_MESSAGE);
    }

    #[test]
    fn what_was_to_be_left_becomes_less_and_is_not_believed_for_ever() {
        let left = |eta, age| still_left(eta, Duration::from_secs(age));
        assert_eq!((left(60.0, 0), left(60.0, 20), left(60.0, 70)), (Some(60.0), Some(40.0), Some(0.0)));
        assert_eq!((left(60.0, 181), left(0.03, 1), left(0.03, 11)), (None, Some(0.0), None));
    }

    #[test]
    fn only_a_file_is_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(REPORTED);
        assert_eq!(read(directory.path(), REPORTED), None, "there is none");
        let elsewhere = directory.path().join("elsewhere");
        std::fs::write(&elsewhere, r#"{"current":3}"#).expect("can be written");
        std::os::unix::fs::symlink(&elsewhere, &path).expect("can be linked");
        assert_eq!(read(directory.path(), REPORTED), None, "a link is not followed");
        std::fs::remove_file(&path).expect("is there");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .expect("can be made");
        assert_eq!(read(directory.path(), REPORTED), None, "a pipe is not waited for");
        std::fs::remove_file(&path).expect("is there");
        std::fs::create_dir(&path).expect("can be made");
        assert_eq!(read(directory.path(), REPORTED), None, "a directory is none");
    }
}
