//! One piece of work a pod at a time. A caller may drop the future of a call, but its blocking
//! half runs on; the next call for the same pod has to wait for it, or a tear-down could race
//! with the set-up it follows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use model::PodUid;
use tokio::sync::OwnedMutexGuard;

/// The locks of the pods in work.
#[derive(Debug, Default)]
pub(crate) struct PodLocks {
    locks: Mutex<BTreeMap<PodUid, Arc<tokio::sync::Mutex<()>>>>,
}

impl PodLocks {
    /// Waits for earlier work on the pod. Cancel-safe: dropping the future leaves the queue.
    pub(crate) async fn lock(&self, uid: &PodUid) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever holds or awaits a lock has a share in it; the others are forgotten here,
            // so the map is bounded by the work in flight.
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            locks.entry(uid.clone()).or_default().clone()
        };
        lock.lock_owned().await
    }
}
