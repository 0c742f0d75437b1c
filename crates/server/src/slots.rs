//! Places for connections: how many there may be, and what happens once a crowd of them has gone.
//!
//! The allocator keeps what a thousand streams have freed. When half of a crowd is gone, it gives back what it can; no
//! clock is needed for that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// As many connections as leave memory behind that is worth a millisecond.
const CROWD: usize = 64;
/// Connections end together: what the last of them free is to be given back too.
const CALM: Duration = Duration::from_secs(1);

/// All places of one server.
#[derive(Debug)]
pub(crate) struct Slots {
    places: Arc<Semaphore>,
    open: AtomicUsize,
    /// The most that were open since memory was given back.
    most: AtomicUsize,
    crowd_left: Notify,
}

/// A connection's place, with everything that became of the connection: requests and tunnels.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    _permit: OwnedSemaphorePermit,
}

impl Slots {
    /// So many places.
    pub(crate) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self {
            places: Arc::new(Semaphore::new(places)),
            open: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            crowd_left: Notify::new(),
        })
    }

    /// Waits for a place; `None` is never. Cancel-safe: a place that was not taken stays free.
    pub(crate) async fn take(self: &Arc<Self>) -> Option<Slot> {
        // The semaphore is never closed.
        let permit = self.places.clone().acquire_owned().await.ok()?;
        // The numbers only decide when memory is given back: nothing else is ordered by them, here and below.
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(open, Ordering::Relaxed);
        Some(Slot { slots: self.clone(), _permit: permit })
    }

    /// Gives memory back each time a crowd has gone. Never ends. Cancel-safe: a notice not taken stays.
    pub(crate) async fn tidy_up(self: Arc<Self>) {
        loop {
            self.crowd_left.notified().await;
            tokio::time::sleep(CALM).await;
            self.most.store(self.open.load(Ordering::Relaxed), Ordering::Relaxed);
            // Whether it was done or cut off by the end of the process: nothing depends on it.
            let _ = tokio::task::spawn_blocking(host::memory::give_back).await;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let open = self.slots.open.fetch_sub(1, Ordering::Relaxed).saturating_sub(1);
        let most = self.slots.most.load(Ordering::Relaxed);
        if most >= CROWD && open <= most / 2 {
            self.slots.crowd_left.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn places_are_bounded_and_a_crowd_that_goes_is_noticed() {
        let slots = Slots::new(CROWD + 1);
        let has_left = |slots: &Arc<Slots>| slots.crowd_left.notified().now_or_never().is_some();
        let few: Vec<_> = (0..CROWD - 1).map(|_| slots.take().now_or_never().flatten().unwrap()).collect();
        drop(few);
        assert!(!has_left(&slots), "few leave nothing behind");
        let mut crowd: Vec<_> = (0..=CROWD).map(|_| slots.take().now_or_never().flatten().unwrap()).collect();
        assert!(slots.take().now_or_never().is_none(), "all places are taken");
        crowd.truncate(CROWD / 2 + 1);
        assert!(!has_left(&slots), "more than half are there");
        crowd.pop();
        assert!(has_left(&slots));
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_given_back_once_for_a_crowd() {
        let slots = Slots::new(CROWD);
        let tidying = tokio::spawn(slots.clone().tidy_up());
        let crowd: Vec<_> = (0..CROWD).map(|_| slots.take().now_or_never().flatten().unwrap()).collect();
        drop(crowd);
        while slots.most.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(CALM).await;
        }
        assert!(!tidying.is_finished());
        drop(slots.take().await);
        assert_eq!(slots.most.load(Ordering::Relaxed), 1);
    }
}
