//! One function for each reader of bytes that somebody else wrote: it reads them, and panics where what comes of it can
//! not be right.
//!
//! `fuzz/` searches for such bytes; the tests here go through what is in `fuzz/seeds`, and through changes of it. How much
//! is allocated on the way stands for how much memory and time it takes: it is counted, and does not depend on the machine.

pub mod dotenv;
pub mod progress;
pub mod run_directory;
pub mod wire;

#[cfg(test)]
mod tests;

/// What may be allocated: so much in any case, and so much more for each byte of the input.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    /// At one time.
    held: usize,
    held_per_byte: usize,
    /// Over all.
    total: usize,
    total_per_byte: usize,
}

impl Allowance {
    /// Does it, and looks at what that took.
    fn check(self, input: &[u8], work: impl FnOnce()) {
        let took = allocation_counter::measure(work);
        let is_within = |took: u64, fixed: usize, per_byte: usize| took <= (fixed + per_byte * input.len()) as u64;
        assert!(
            is_within(took.bytes_max, self.held, self.held_per_byte)
                && is_within(took.bytes_total, self.total, self.total_per_byte),
            "{took:?} for an input of {} bytes, where allowed is {self:?}",
            input.len()
        );
    }
}
