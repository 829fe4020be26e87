//! What tells how far a job is: the file that it reports in, and the end of what it has printed.

use std::time::Duration;

use pyexec_proto::Progress;
use pyexec_proto::progress::MAX_MESSAGE;

use super::Allowance;
use crate::progress::{in_output, understood};

/// The screen is 256 rows of 512 letters, of which a copy is made to be read.
const ALLOWANCE: Allowance = Allowance { held: 4 << 20, held_per_byte: 256, total: 16 << 20, total_per_byte: 64 << 10 };

/// The input is a report, the output of a job, and both streams of it, one half each.
pub fn check(input: &[u8]) {
    for age in [0, 5, 3600, u64::from(u32::MAX)] {
        if let Some(progress) = understood(input, Duration::from_secs(age)) {
            check_progress(&progress, input.len());
        }
    }
    let text = String::from_utf8_lossy(input);
    let mut half = text.len() / 2;
    while !text.is_char_boundary(half) {
        half -= 1;
    }
    for is_cut in [false, true] {
        for is_finished in [false, true] {
            for ends in [vec![(&*text, is_cut)], vec![(&text[..half], is_cut), (&text[half..], is_cut)]] {
                let mut found = None;
                ALLOWANCE.check(input, || found = in_output(&ends, is_finished));
                if let Some(progress) = &found {
                    check_progress(progress, input.len());
                    check_drawn(progress);
                }
                assert_eq!(in_output(&ends, is_finished), found, "it is not the same when looked at again");
            }
        }
    }
}

fn check_progress(progress: &Progress, input: usize) {
    let Progress { current, total, message, rate, eta_seconds, seen: _ } = progress;
    for number in [current, total, rate, eta_seconds].into_iter().flatten() {
        assert!(number.is_finite(), "{progress:?}");
    }
    assert!(total.is_none_or(|total| total >= 0.0), "{progress:?}");
    assert!(rate.is_none_or(|rate| rate > 0.0) && eta_seconds.is_none_or(|eta| eta >= 0.0), "{progress:?}");
    assert!(progress.fraction().is_none_or(|fraction| (0.0..=1.0).contains(&fraction)), "{progress:?}");
    if let Some(message) = message {
        assert!(message.chars().count() <= MAX_MESSAGE && message.len() <= 3 * input, "{progress:?}");
    }
    // What is shown is bounded too: no number is written out that has hundreds of digits.
    assert!(progress.sentence().chars().count() <= MAX_MESSAGE + 100, "{}", progress.sentence());
    serde_json::to_string(progress).expect("can be told");
}

/// What a job says of itself it is free to say; what is recognised goes from nothing to all of it.
fn check_drawn(progress: &Progress) {
    assert!(progress.current.is_none_or(|current| current >= 0.0), "{progress:?}");
    if let (Some(current), Some(total)) = (progress.current, progress.total) {
        assert!(current <= total, "{progress:?}");
    }
    let is_plain = |message: &String| !message.contains(char::is_control);
    assert!(progress.message.as_ref().is_none_or(is_plain), "{progress:?}");
}
