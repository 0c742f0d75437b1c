//! Randomness, from one seed.

use std::time::Duration;

/// The only source of randomness of a world.
#[derive(Debug)]
pub(crate) struct SimRng(fastrand::Rng);

impl SimRng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// True in `percent` of 100 cases.
    pub(crate) fn percent(&mut self, percent: u32) -> bool {
        percent > 0 && self.0.u32(0..100) < percent
    }

    /// From `low` to `high`, both included.
    pub(crate) fn number(&mut self, low: u32, high: u32) -> u32 {
        self.0.u32(low..=high)
    }

    /// A time span in milliseconds, short ones being likelier.
    pub(crate) fn millis(&mut self, low: u32, high: u32) -> Duration {
        let first = self.number(low, high);
        let high = if self.percent(60) { first } else { high };
        Duration::from_millis(u64::from(self.number(low, high)))
    }

    /// One of several; `None` of none.
    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        if of.is_empty() { None } else { of.get(self.0.usize(0..of.len())) }
    }
}
