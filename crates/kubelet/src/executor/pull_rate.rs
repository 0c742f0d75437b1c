//! How often images may be pulled: `registryPullQPS` and `registryBurst`.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// What a pull fails with when there were too many. Upstream's words, which people look for.
pub(crate) const EXCEEDED: &str = "pull QPS exceeded";

/// What one pull takes from the bucket: what flows into it in a second at one pull a second, counted by the nanosecond.
const PULL: u64 = 1_000_000_000;

/// A token bucket that fills at a steady rate. Nobody waits for a token: who finds none is refused.
pub(crate) struct PullRate {
    per_second: u64,
    burst: u64,
    // Held for a sum only.
    bucket: Mutex<Bucket>,
}

struct Bucket {
    tokens: u64,
    filled_at: Instant,
}

impl PullRate {
    /// So many pulls a second, and so many at once after a pause; `None` for no limit, which no pulls a
    /// second stands for.
    pub(crate) fn new(per_second: u32, burst: u32) -> Option<Self> {
        let burst = u64::from(burst) * PULL;
        let bucket = Mutex::new(Bucket { tokens: burst, filled_at: Instant::now() });
        (per_second > 0).then_some(Self { per_second: u64::from(per_second), burst, bucket })
    }

    /// Whether a pull may begin now. If so it counts.
    pub(crate) fn admits(&self) -> bool {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let passed = now.saturating_duration_since(bucket.filled_at).as_nanos();
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        bucket.filled_at = now;
        bucket.tokens = bucket.tokens.saturating_add(passed.saturating_mul(self.per_second)).min(self.burst);
        let left = bucket.tokens.checked_sub(PULL);
        bucket.tokens = left.unwrap_or(bucket.tokens);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_and_then_so_many_a_second() {
        let rate = PullRate::new(5, 10).unwrap();
        let admitted = || (0..100).filter(|_| rate.admits()).count();
        assert_eq!(admitted(), 10);
        tokio::time::advance(Duration::from_millis(199)).await;
        assert_eq!(admitted(), 0);
        tokio::time::advance(Duration::from_millis(1001)).await;
        assert_eq!(admitted(), 6);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(admitted(), 10);
        assert!(PullRate::new(0, 10).is_none());
    }
}
