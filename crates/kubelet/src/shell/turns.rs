//! Taking turns at what keeps the machine busy, without ever being held up by what hangs.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

/// A turn that takes longer than this is not busy but stuck, or waits for something else: the
/// next one begins beside it.
const LONGEST_TURN: Duration = Duration::from_secs(1);

/// A limit on how much goes on at once.
pub(crate) struct Turns(Semaphore);

impl Turns {
    /// That many at once.
    pub(crate) fn new(at_once: usize) -> Self {
        Self(Semaphore::new(at_once.max(1)))
    }

    /// Waits for a turn, then works to the end. The turn is given up early when the work takes
    /// long, so that a call that hangs holds up others for a moment and not for ever.
    pub(crate) async fn take<T>(&self, work: impl Future<Output = T>) -> T {
        // The semaphore is never closed, so there is always a permit in the end.
        let permit: Option<SemaphorePermit<'_>> = self.0.acquire().await.ok();
        let mut work = std::pin::pin!(work);
        match tokio::time::timeout(LONGEST_TURN, &mut work).await {
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
    async fn what_hangs_gives_its_turn_up() {
        let turns = Arc::new(Turns::new(1));
        let hung = {
            let turns = turns.clone();
            tokio::spawn(async move { turns.take(std::future::pending::<()>()).await })
        };
        tokio::task::yield_now().await;
        let started = tokio::time::Instant::now();
        turns.take(async {}).await;
        assert_eq!(started.elapsed().as_secs(), LONGEST_TURN.as_secs());
        hung.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn turns_come_one_after_the_other() {
        let turns = Turns::new(2);
        let pause = || turns.take(async { tokio::time::sleep(Duration::from_millis(100)).await });
        let started = tokio::time::Instant::now();
        tokio::join!(pause(), pause(), pause(), pause());
        // Two rounds of two; the clock is virtual and counts whole milliseconds.
        assert_eq!(started.elapsed().as_millis() / 100, 2);
    }
}
