//! Tests that do something at random: their seed is printed, and `PYEXEC_TEST_SEED` plays a run again.

/// The number that a variable sets, if it does.
pub(crate) fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// A seed that is printed, so that a failure can be looked at again.
pub(crate) fn seed() -> u64 {
    let seed = number("PYEXEC_TEST_SEED").unwrap_or_else(|| fastrand::u64(..));
    say(&format!("PYEXEC_TEST_SEED={seed}"));
    seed
}

pub(crate) fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}
