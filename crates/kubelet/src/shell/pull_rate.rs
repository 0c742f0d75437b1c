//! How often images may be pulled: `registryPullQPS` and `registryBurst`.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// What a pull fails with when there were too many. Upstream's words, which people look for.
pub(crate) const EXCEEDED: &str = "pull QPS exceeded";

/// A bucket of tokens that fills at a steady rate. Nobody waits for one: who finds none is refused.
pub(crate) struct PullRate {
    per_second: f64,
    burst: f64,
    // Held for a sum only.
    bucket: Mutex<Bucket>,
}

struct Bucket {
    tokens: f64,
    filled_at: Instant,
}

impl PullRate {
    /// So many pulls a second, and so many at once after a pause; `None` for no limit, which no pulls a
    /// second stands for.
    pub(crate) fn new(per_second: u32, burst: u32) -> Option<Self> {
        let (per_second, burst) = (f64::from(per_second), f64::from(burst));
        let bucket = Mutex::new(Bucket { tokens: burst, filled_at: Instant::now() });
        (per_second > 0.0).then_some(Self { per_second, burst, bucket })
    }

    /// Whether a pull may begin now. If so it counts.
    pub(crate) fn admits(&self) -> bool {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let passed = now.saturating_duration_since(bucket.filled_at).as_secs_f64();
        bucket.filled_at = now;
        bucket.tokens = (bucket.tokens + passed * self.per_second).min(self.burst);
        let is_free = bucket.tokens >= 1.0;
        if is_free {
            bucket.tokens -= 1.0;
        }
        is_free
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
