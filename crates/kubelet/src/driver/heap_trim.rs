//! When free memory is given back to the system.
//!
//! What a burst of pods or of requests leaves behind is free, but stays with the process until the C library is told
//! to give it back. That takes a millisecond or more, so it is done when there is nothing else to do, and only where
//! there is enough of it.

use std::time::Duration;

/// As much as is worth the effort, bytes.
const WORTH: u64 = 512 * 1024;
/// Time between two looks: each takes the allocator's lock, and walks its free pieces.
const BETWEEN_LOOKS: Duration = Duration::from_secs(5);
/// What is under way for so long is no burst: it hangs, or is meant to take long.
const LONG: Duration = Duration::from_secs(1);

/// What is known of the free memory.
#[derive(Debug, Default)]
pub(super) struct HeapTrimmer {
    next_look: Duration,
    /// How much is free whose pages are the system's already, bytes, at most: the C library counts it as free still.
    given_back: u64,
}

impl HeapTrimmer {
    /// Gives back what is free, if it is time to look and there is enough of it. To be called when it is quiet.
    pub(super) fn trim_if_worth_it(&mut self, now: Duration) {
        if now < self.next_look {
            return;
        }
        self.next_look = now + BETWEEN_LOOKS;
        if self.is_worth(host::memory::allocator_usage().kept) {
            // Not waited for: nothing depends on it.
            drop(tokio::task::spawn_blocking(host::memory::give_back));
        }
    }

    /// Whether so much free memory, in bytes, is more than was given back by `WORTH`.
    fn is_worth(&mut self, free: u64) -> bool {
        // What was taken into use since has pages of its own when it is free again.
        self.given_back = self.given_back.min(free);
        let is_worth = free - self.given_back >= WORTH;
        if is_worth {
            self.given_back = free;
        }
        is_worth
    }
}

/// Whether nothing is under way that may soon bring work. `under_way` is when each effect was started.
pub(super) fn is_quiet(now: Duration, mut under_way: impl Iterator<Item = Duration>) -> bool {
    under_way.all(|since| now.saturating_sub(since) >= LONG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_hangs_is_no_burst() {
        let now = Duration::from_secs(100);
        let ago = |millis: &[u64]| millis.iter().map(|m| now - Duration::from_millis(*m)).collect::<Vec<_>>();
        for (under_way, expected) in [
            (&[][..], true),
            (&[60_000], true),
            (&[999], false),
            (&[60_000, 1_000], true),
            (&[60_000, 0], false),
        ] {
            assert_eq!(is_quiet(now, ago(under_way).into_iter()), expected, "{under_way:?} ms ago");
        }
    }

    #[test]
    fn only_what_became_free_since_counts() {
        let mut trimmer = HeapTrimmer::default();
        for (free, is_worth, why) in [
            (WORTH - 1, false, "little"),
            (WORTH, true, "enough"),
            (WORTH, false, "given back already"),
            (2 * WORTH - 1, false, "little more"),
            (2 * WORTH, true, "enough more"),
            (WORTH / 2, false, "in use now"),
            (WORTH, false, "little of it is free again"),
            (2 * WORTH, true, "all of it is free again"),
        ] {
            assert_eq!(trimmer.is_worth(free), is_worth, "{why}");
        }
    }
}
