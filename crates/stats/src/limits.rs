//! What groups may use, as it was read last.
//!
//! Limits hardly ever change, but they are two of the four or five files that are read of each group. What is read anyway
//! tells on version 1 of control groups whether they can have changed: the least limit of the group and of those above
//! it. What that does not show, a limit moving above those of the groups around it, is found out within a minute.

use std::collections::HashMap;
use std::time::Duration;

use host::cgroup::stats::LeastLimits;

/// For how long limits are believed that nothing speaks against.
const BELIEVED: Duration = Duration::from_secs(60);

/// A group's own limits, bytes; `None` is without a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OwnLimits {
    pub(crate) memory_bytes: Option<u64>,
    /// With memory on version 1, without on version 2.
    pub(crate) swap_bytes: Option<u64>,
}

/// The limits of each group that the last round asked about.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    known: HashMap<String, Known>,
    round: u64,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    own: OwnLimits,
    /// What was the least one then.
    least: LeastLimits,
    read_at: Duration,
    /// The round that asked last.
    round: u64,
}

impl Limits {
    /// A group's limits, which `read` reads if what is known may be wrong: `least` is what the kernel says now, and
    /// `mono` the time.
    pub(crate) fn of(
        &mut self,
        group: &str,
        least: LeastLimits,
        mono: Duration,
        read: impl FnOnce() -> OwnLimits,
    ) -> OwnLimits {
        let round = self.round;
        match self.known.get_mut(group) {
            Some(known) if known.least == least && mono.saturating_sub(known.read_at) < BELIEVED => {
                known.round = round;
                known.own
            }
            found => {
                let now = Known { own: read(), least, read_at: mono, round };
                match found {
                    Some(known) => *known = now,
                    None => drop(self.known.insert(group.to_owned(), now)),
                }
                now.own
            }
        }
    }

    /// Ends a round that asked about every group: the others are forgotten.
    pub(crate) fn end_round(&mut self) {
        let round = self.round;
        self.known.retain(|_, known| known.round == round);
        self.round += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn least(memory: u64) -> LeastLimits {
        LeastLimits { memory_bytes: Some(memory), memory_and_swap_bytes: None }
    }

    #[test]
    fn limits_are_read_when_they_may_have_changed() {
        let mut limits = Limits::default();
        let mut own = 0;
        for (case, least_bytes, seconds, is_read) in [
            ("for the first time", 5, 0, true),
            ("again", 5, 11, false),
            ("a lower one", 4, 12, true),
            ("believed from then on", 4, 71, false),
            ("for a minute", 4, 72, true),
        ] {
            own += 1;
            let now = OwnLimits { memory_bytes: Some(own), swap_bytes: None };
            let mut was_read = false;
            let known = limits.of("/g", least(least_bytes), Duration::from_secs(seconds), || {
                was_read = true;
                now
            });
            limits.end_round();
            assert_eq!((was_read, known == now), (is_read, is_read), "{case}");
        }
    }

    #[test]
    fn who_is_gone_is_forgotten() {
        let mut limits = Limits::default();
        for groups in [["/a", "/b"], ["/a", "/a"]] {
            for group in groups {
                limits.of(group, least(1), Duration::ZERO, OwnLimits::default);
            }
            limits.end_round();
        }
        assert_eq!(limits.known.keys().collect::<Vec<_>>(), ["/a"]);
    }
}
