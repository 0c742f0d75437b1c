//! Objects that are not watched but read again when they have become old (the strategy `Cache`).
//!
//! As upstream: a pod that names an object makes it old at once, so that a new pod never starts with what
//! another one got a minute ago. While the server cannot be reached, what was read last stays.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::references::references;
use model::{Pod, PodUid};
use tokio::time::Instant;

use super::{Cached, ObjectError, ObjectName, Stored};

/// How long an object is new where the node does not say (`node.alpha.kubernetes.io/ttl`).
const TTL: Duration = Duration::from_secs(60);

/// What was read, and when. Locked across a request, so that one request serves everybody.
type Slot = Arc<tokio::sync::Mutex<Option<(Instant, Stored)>>>;

/// Objects that pods name.
pub(super) struct Expiring {
    ttl_millis: AtomicU64,
    slots: Mutex<HashMap<ObjectName, (BTreeSet<PodUid>, Slot)>>,
}

impl Default for Expiring {
    fn default() -> Self {
        Self { ttl_millis: AtomicU64::new(millis(TTL)), slots: Mutex::default() }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Expiring {
    /// `None` is the usual one.
    pub(super) fn set_ttl(&self, ttl: Option<Duration>) {
        self.ttl_millis.store(millis(ttl.unwrap_or(TTL)), Ordering::Relaxed);
    }

    pub(super) fn register(&self, pod: &Pod) {
        let uid = model::pod::uid(pod);
        let wanted = references(pod);
        let mut slots = self.slots();
        slots.retain(|name, (pods, _)| {
            if !wanted.contains(name) {
                pods.remove(&uid);
            }
            !pods.is_empty()
        });
        for name in wanted {
            let (pods, slot) = slots.entry(name).or_default();
            if pods.insert(uid.clone()) {
                *slot = Slot::default();
            }
        }
    }

    pub(super) fn unregister(&self, uid: &PodUid) {
        self.slots().retain(|_, (pods, _)| {
            pods.remove(uid);
            !pods.is_empty()
        });
    }

    /// An object that is new enough. `fetch` is told whether an answer from the server's own cache will do.
    pub(super) async fn read<K: Cached, F>(
        &self,
        name: &ObjectName,
        fetch: impl FnOnce(bool) -> F,
    ) -> Result<Arc<K>, ObjectError>
    where
        F: Future<Output = Result<Arc<K>, ObjectError>>,
    {
        let Some(slot) = self.slots().get(name).map(|(_, slot)| slot.clone()) else {
            return fetch(false).await;
        };
        let mut slot = slot.lock().await;
        let known = slot.as_ref().and_then(|(at, stored)| Some((*at, K::take(stored)?)));
        let ttl = Duration::from_millis(self.ttl_millis.load(Ordering::Relaxed));
        if let Some((at, object)) = &known
            && at.elapsed() < ttl
        {
            return Ok(object.clone());
        }
        match (fetch(known.is_some()).await, known) {
            // The server's cache may lag behind.
            (Ok(fetched), Some((_, known))) if is_older(&*fetched, &*known) => Ok(known),
            (Ok(fetched), _) => {
                *slot = Some((Instant::now(), K::store(fetched.clone())));
                Ok(fetched)
            }
            (Err(error @ ObjectError::NotFound(_)), _) => {
                *slot = None;
                Err(error)
            }
            (Err(_), Some((_, known))) => Ok(known),
            (Err(error), None) => Err(error),
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.slots().is_empty()
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<ObjectName, (BTreeSet<PodUid>, Slot)>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_older<K: Cached>(one: &K, other: &K) -> bool {
    let number = |object: &K| object.version().and_then(|version| version.parse::<u64>().ok());
    matches!((number(one), number(other)), (Some(one), Some(other)) if one < other)
}
