//! A semaphore whose permits expire: a limit on what keeps the machine busy that is never held up by what hangs.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

/// Work that takes longer than this is not busy but stuck, or waits for something else: it
/// gives up its permit, and goes on.
const LONGEST_HOLD: Duration = Duration::from_secs(1);

/// A limit on how much goes on at once.
pub(crate) struct SoftLimit(Semaphore);

impl SoftLimit {
    /// That many at once.
    pub(crate) fn new(at_once: usize) -> Self {
        Self(Semaphore::new(at_once.max(1)))
    }

    /// Waits for a permit, then works to the end. The permit is given up early when the work takes
    /// long, so that a call that hangs holds up others for a moment and not for ever.
    ///
    /// The work is made, on the heap, when there is a permit: a thousand may wait, and each would hold a call's worth of
    /// memory meanwhile.
    pub(crate) async fn run<T, F: Future<Output = T>>(&self, work: impl FnOnce() -> F) -> T {
        // The semaphore is never closed, so there is always a permit in the end.
        let permit: Option<SemaphorePermit<'_>> = self.0.acquire().await.ok();
        let mut work = Box::pin(work());
        match tokio::time::timeout(LONGEST_HOLD, &mut work).await {
            Ok(done) => done,
            Err(_) => {
                drop(permit);
                work.await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_hangs_gives_its_permit_up() {
        let limit = Arc::new(SoftLimit::new(1));
        let hung = {
            let limit = limit.clone();
            tokio::spawn(async move { limit.run(std::future::pending::<()>).await })
        };
        tokio::task::yield_now().await;
        let started = tokio::time::Instant::now();
        limit.run(|| async {}).await;
        assert_eq!(started.elapsed().as_secs(), LONGEST_HOLD.as_secs());
        hung.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_runs_at_once_than_allowed() {
        let limit = SoftLimit::new(2);
        let pause = || limit.run(|| tokio::time::sleep(Duration::from_millis(100)));
        let started = tokio::time::Instant::now();
        tokio::join!(pause(), pause(), pause(), pause());
        // Two rounds of two; the clock is virtual and counts whole milliseconds.
        assert_eq!(started.elapsed().as_millis() / 100, 2);
    }
}
