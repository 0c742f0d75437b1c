//! How many requests are taken, as a bucket of tokens that fills at a rate.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Takes so many requests a second on average, and so many at once.
#[derive(Debug)]
pub(crate) struct Limit {
    interval: Duration,
    burst: u32,
    /// When the bucket is full again. The generic cell rate algorithm needs no more.
    full_at: Mutex<Instant>,
}

impl Limit {
    pub(crate) fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        Self { interval: Duration::from_secs(1) / per_second.max(1), burst, full_at: Mutex::new(now) }
    }

    /// Whether one more is taken.
    pub(crate) fn takes(&self, now: Instant) -> bool {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let next = (*full_at).max(now) + self.interval;
        let is_taken = next <= now + self.interval * self.burst;
        if is_taken {
            *full_at = next;
        }
        is_taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_taken_and_then_as_many_as_the_rate() {
        let start = Instant::now();
        let limit = Limit::new(100, 10, start);
        let taken = |at: u64| (0..100).filter(|_| limit.takes(start + Duration::from_millis(at))).count();
        assert_eq!(taken(0), 10);
        assert_eq!(taken(9), 0);
        assert_eq!(taken(10), 1);
        assert_eq!(taken(45), 3);
        // No more than a burst is saved up.
        assert_eq!(taken(10_000), 10);
    }
}
