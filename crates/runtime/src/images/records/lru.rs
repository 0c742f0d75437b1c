//! An LRU cache of files' content: as many as there is room for, and whether that is all there are.

use std::collections::HashMap;

/// At most so many entries; what was used last stays.
#[derive(Debug)]
pub(super) struct Lru<V> {
    entries: HashMap<String, (u64, V)>,
    /// Counts uses.
    uses: u64,
    limit: usize,
    /// Whether what is not in here does not exist.
    is_complete: bool,
}

impl<V> Lru<V> {
    /// With everything there is. It is not complete if some of it could not be read (`is_all` is false).
    pub(super) fn new(all: impl IntoIterator<Item = (String, V)>, is_all: bool, limit: usize) -> Self {
        let mut cache = Self { entries: HashMap::new(), uses: 0, limit: limit.max(1), is_complete: is_all };
        for (key, value) in all {
            cache.put(key, value);
        }
        cache
    }

    pub(super) fn get(&mut self, key: &str) -> Option<&V> {
        self.uses += 1;
        let (used, value) = self.entries.get_mut(key)?;
        *used = self.uses;
        Some(value)
    }

    pub(super) fn put(&mut self, key: String, value: V) {
        if self.entries.len() >= self.limit && !self.entries.contains_key(&key) {
            // A few thousand at most, and this follows a write to the disk.
            let oldest = self.entries.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| self.entries.remove(&oldest));
            self.is_complete = false;
        }
        self.uses += 1;
        self.entries.insert(key, (self.uses, value));
    }

    /// It does not exist any more.
    pub(super) fn remove(&mut self, key: &str) {
        self.entries.remove(key);
    }

    /// Whether what is not in here does not exist.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// How full it is.
    pub(super) fn percent(&self) -> usize {
        self.entries.len() * 100 / self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lru(is_all: bool) -> Lru<u32> {
        Lru::new([("a".to_owned(), 1), ("b".to_owned(), 2)], is_all, 3)
    }

    #[test]
    fn is_complete_until_something_does_not_fit() {
        let mut cache = lru(true);
        assert_eq!((cache.is_complete(), cache.percent()), (true, 66));
        cache.put("c".to_owned(), 3);
        cache.put("c".to_owned(), 4);
        assert_eq!((cache.is_complete(), cache.percent()), (true, 100));
        cache.get("a");
        cache.put("d".to_owned(), 5);
        assert_eq!((cache.is_complete(), cache.percent()), (false, 100));
        let left = ["a", "b", "c", "d"].map(|key| cache.get(key).copied());
        assert_eq!(left, [Some(1), None, Some(4), Some(5)], "what was used least recently goes");
    }

    #[test]
    fn is_not_complete_if_some_could_not_be_read() {
        assert!(!lru(false).is_complete());
    }
}
