//! A bounded cache of answers that grow old.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Keeps answers until they expire, and the youngest ones when there are too many. The lock is
/// held for a lookup or an insertion, never across a wait.
pub(crate) struct ExpiringCache<K, V> {
    capacity: usize,
    inner: Mutex<Inner<K, V>>,
}

struct Inner<K, V> {
    answers: HashMap<K, (Instant, V)>,
    /// Keys in the order they came.
    order: VecDeque<K>,
}

impl<K: Hash + Eq + Clone, V: Clone> ExpiringCache<K, V> {
    pub(crate) fn new(capacity: usize) -> Self {
        let inner = Inner { answers: HashMap::new(), order: VecDeque::new() };
        Self { capacity, inner: Mutex::new(inner) }
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (expires, value) = inner.answers.get(key)?;
        (Instant::now() < *expires).then(|| value.clone())
    }

    pub(crate) fn insert(&self, key: K, value: V, ttl: Duration) {
        if ttl.is_zero() {
            return;
        }
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.answers.insert(key.clone(), (Instant::now() + ttl, value)).is_none() {
            inner.order.push_back(key);
        }
        while inner.answers.len() > self.capacity {
            let Some(oldest) = inner.order.pop_front() else { break };
            inner.answers.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_expire_and_make_room() {
        let cache = ExpiringCache::new(2);
        cache.insert(1, "a", Duration::from_secs(10));
        cache.insert(2, "b", Duration::from_secs(20));
        cache.insert(9, "never", Duration::ZERO);
        assert_eq!((cache.get(&1), cache.get(&2), cache.get(&9)), (Some("a"), Some("b"), None));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!((cache.get(&1), cache.get(&2)), (None, Some("b")));
        cache.insert(1, "again", Duration::from_secs(10));
        cache.insert(3, "c", Duration::from_secs(10));
        assert_eq!((cache.get(&1), cache.get(&2), cache.get(&3)), (None, Some("b"), Some("c")));
    }
}
