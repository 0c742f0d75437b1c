//! The schedule: one ordered set of deadlines for pods and for the parts of the node. A deadline that passes makes its
//! owner look again; that costs the same whether ten others wait or ten thousand.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::PodUid;
use serde::{Deserialize, Serialize};

/// Who has a deadline.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Key {
    Relist,
    NodeLifecycle,
    PodCidr,
    QosCgroups,
    PodCgroups,
    Checkpoints,
    Mirrors,
    RetainedLogs,
    ImageGc,
    Eviction,
    Plugins,
    Volumes,
    Pod(PodUid),
}

/// Deadlines in monotonic time, at most one for each key.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Schedule {
    due: BTreeSet<(Duration, Key)>,
    #[serde(with = "crate::pairs")]
    at: BTreeMap<Key, Duration>,
}

impl Schedule {
    /// Replaces the deadline of a key; `None` when nothing of it is due by itself.
    pub(crate) fn set(&mut self, key: Key, at: Option<Duration>) {
        let before = self.at.get(&key).copied();
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.at.remove(&key);
            self.due.remove(&(before, key.clone()));
        }
        if let Some(at) = at {
            self.at.insert(key.clone(), at);
            self.due.insert((at, key));
        }
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Removes the earliest deadline that has passed and returns whose it was.
    pub(crate) fn take_due(&mut self, now: Duration) -> Option<Key> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.due.pop_first()?;
        self.at.remove(&key);
        Some(key)
    }
}

/// The earlier of two deadlines.
pub(crate) fn earliest(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Option<Duration> {
        Some(Duration::from_secs(second))
    }

    #[test]
    fn the_last_deadline_of_a_key_counts_and_each_is_taken_once() {
        let pod = |uid: &str| Key::Pod(PodUid::from(uid));
        let mut schedule = Schedule::default();
        assert_eq!(schedule.next(), None);
        for (key, second) in [(pod("a"), at(5)), (Key::Relist, at(9)), (pod("b"), at(5)), (pod("c"), at(3))] {
            schedule.set(key, second);
        }
        assert_eq!(schedule.next(), at(3));
        schedule.set(pod("c"), at(7));
        schedule.set(Key::Relist, at(1));
        schedule.set(Key::Relist, None);
        assert_eq!(schedule.next(), at(5));
        let mut due = |second| {
            std::iter::from_fn(|| schedule.take_due(Duration::from_secs(second))).collect::<Vec<_>>()
        };
        assert_eq!(due(4), []);
        assert_eq!(due(5), [pod("a"), pod("b")]);
        assert_eq!(due(100), [pod("c")]);
        assert_eq!(schedule.next(), None);
        schedule.set(pod("a"), at(5));
        assert_eq!(schedule.next(), at(5), "taken, it can be set again to the same");
    }
}
