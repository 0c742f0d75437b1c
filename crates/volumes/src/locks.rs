//! One piece of work on a thing at a time, such as a pod. A caller may drop the future of a call, but its blocking
//! half runs on; the next call for the same thing has to wait for it, or a tear-down could race
//! with the set-up it follows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

/// The locks of the things in work, by their names.
#[derive(Debug)]
pub(crate) struct Locks<K> {
    locks: Mutex<BTreeMap<K, Arc<tokio::sync::Mutex<()>>>>,
}

impl<K> Default for Locks<K> {
    fn default() -> Self {
        Self { locks: Mutex::default() }
    }
}

impl<K: Ord + Clone> Locks<K> {
    /// Waits for earlier work on the thing. Cancel-safe: dropping the future leaves the queue.
    pub(crate) async fn lock(&self, name: &K) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever holds or awaits a lock has a share in it; the others are forgotten here,
            // so the map is bounded by the work in flight.
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            locks.entry(name.clone()).or_default().clone()
        };
        lock.lock_owned().await
    }
}
