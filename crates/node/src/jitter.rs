//! Chance for the core, from a seed: equal seeds give equal histories.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A sequence of fractions (SplitMix64: a few lines, and even enough to spread writes over time).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Jitter(u64);

impl Jitter {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next fraction, in thousandths of thousandths: at least 0, below 1,000,000.
    fn next_millionths(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % 1_000_000
    }

    /// Some of the time, or none, but never all of it.
    pub(crate) fn part_of(&mut self, time: Duration) -> Duration {
        let nanos = time.as_nanos().saturating_mul(u128::from(self.next_millionths())) / 1_000_000;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_spread_evenly_and_follow_from_the_seed() {
        let whole = Duration::from_secs(100);
        let parts = |seed: u64| -> Vec<Duration> {
            let mut jitter = Jitter::new(seed);
            (0..1000).map(|_| jitter.part_of(whole)).collect()
        };
        assert_eq!(parts(7), parts(7));
        assert_ne!(parts(7), parts(8));
        let mut tenths = [0; 10];
        for part in parts(1) {
            assert!(part < whole);
            tenths[usize::try_from(part.as_secs() / 10).unwrap()] += 1;
        }
        assert!(tenths.iter().all(|count| (60..140).contains(count)), "{tenths:?}");
        assert_eq!(Jitter::new(3).part_of(Duration::ZERO), Duration::ZERO);
    }
}
