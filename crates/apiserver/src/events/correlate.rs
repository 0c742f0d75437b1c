//! What becomes of an event in the light of those before it. Pure: time is in the event.
//!
//! Three rules, with the numbers users know from upstream: an object gets 25 events at once and
//! then one in five minutes; from the tenth different message with one reason within ten minutes
//! on they are combined into one; the same event again only raises a count.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::{SignedDuration, Timestamp};

use super::{NewEvent, event_name};

/// Events an object (and type) may have at once.
const BURST: f64 = 25.0;
/// Time after which it may have one more, seconds.
const REFILL_SECONDS: f64 = 300.0;
/// Different messages of one reason from which on they are combined.
const SIMILAR: usize = 10;
/// Silence after which similar events are counted anew.
const SIMILAR_WINDOW: SignedDuration = SignedDuration::from_mins(10);
const COMBINED: &str = "(combined from similar events): ";
/// Keys remembered in each of the three tables. Upstream keeps 4096; a node of 110 pods has some
/// ten live keys a pod, and forgetting one only means that its count starts again.
const KEYS: usize = 1024;

/// What to do with an event.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Write it.
    Write(Write),
    /// Its object has had too many.
    Drop,
}

/// An event to write.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) event: NewEvent,
    /// Name of the Event object.
    pub(super) name: String,
    /// 1: create it; more: raise the count of the one of that name.
    pub(super) count: u32,
    pub(super) first: Timestamp,
}

/// Remembers recent events.
#[derive(Debug, Default)]
pub(super) struct Correlator {
    buckets: Recent<TokenBucket>,
    similar: Recent<Similar>,
    seen: Recent<Seen>,
}

#[derive(Debug)]
struct TokenBucket {
    tokens: f64,
    at: Timestamp,
}

#[derive(Debug)]
struct Similar {
    messages: BTreeSet<u64>,
    at: Timestamp,
}

#[derive(Debug)]
struct Seen {
    name: String,
    count: u32,
    first: Timestamp,
}

impl Correlator {
    /// Judges one event.
    pub(super) fn observe(&mut self, mut event: NewEvent) -> Verdict {
        // The order is upstream's: similar events are counted even when one is then dropped.
        let (key, is_combined) = self.combine(&event);
        if is_combined {
            event.message.insert_str(0, COMBINED);
        }
        let at = event.at;
        let seen = self.seen.entry(key, || Seen { name: event_name(&event.object, at), count: 0, first: at });
        seen.count = seen.count.saturating_add(1);
        let write = Write { name: seen.name.clone(), count: seen.count, first: seen.first, event };
        if self.takes_token(&write.event) { Verdict::Write(write) } else { Verdict::Drop }
    }

    /// The key under which the event is counted, and whether it is one of many similar ones.
    fn combine(&mut self, event: &NewEvent) -> (u64, bool) {
        let group = hash(&(
            &event.object.kind,
            &event.object.namespace,
            &event.object.name,
            &event.object.uid,
            event.event_type,
            &event.reason,
        ));
        let message = hash(&event.message);
        let at = event.at;
        let similar = self.similar.entry(group, || Similar { messages: BTreeSet::new(), at });
        if at.duration_since(similar.at) > SIMILAR_WINDOW {
            similar.messages.clear();
        }
        similar.at = at;
        similar.messages.insert(message);
        if similar.messages.len() < SIMILAR {
            return (hash(&(group, &event.object.field_path, message)), false);
        }
        similar.messages.pop_first();
        (group, true)
    }

    fn takes_token(&mut self, event: &NewEvent) -> bool {
        let key = hash(&(
            &event.object.kind,
            &event.object.namespace,
            &event.object.name,
            &event.object.uid,
            event.event_type,
        ));
        let at = event.at;
        let bucket = self.buckets.entry(key, || TokenBucket { tokens: BURST, at });
        let earned = at.duration_since(bucket.at).as_secs_f64().max(0.0) / REFILL_SECONDS;
        bucket.tokens = (bucket.tokens + earned).min(BURST);
        bucket.at = at;
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// The entries used last, at most [`KEYS`] of them.
#[derive(Debug)]
struct Recent<V> {
    entries: HashMap<u64, (u64, V)>,
    clock: u64,
}

impl<V> Default for Recent<V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), clock: 0 }
    }
}

impl<V> Recent<V> {
    fn entry(&mut self, key: u64, new: impl FnOnce() -> V) -> &mut V {
        self.clock += 1;
        if self.entries.len() >= KEYS && !self.entries.contains_key(&key) {
            // Drop the older half at once: rare, and cheaper than keeping an order all the time.
            let mut uses: Vec<u64> = self.entries.values().map(|(used, _)| *used).collect();
            let middle = uses.len() / 2;
            let (_, median, _) = uses.select_nth_unstable(middle);
            let median = *median;
            self.entries.retain(|_, (used, _)| *used >= median);
        }
        let entry = self.entries.entry(key).or_insert_with(|| (0, new()));
        entry.0 = self.clock;
        &mut entry.1
    }
}

#[cfg(test)]
mod tests;
