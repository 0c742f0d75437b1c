//! What the runtime was last seen to hold of a pod, and whether that is to be read again: the freshness of the
//! observation.
//!
//! ```text
//!  Never ──────── the first relist has nothing of it ────────► Fresh ◄──── a read shows it ────┐
//!    │                                                           │                             │
//!    └── the first relist has something ──► First(read) ──┐      └─ it changed ──► Stale(read) ┴─┐
//!                                             ▲           │                          ▲           │
//!                                             └───────────┴── the read fails, or  ───┴───────────┘
//!                                                             missed something
//! ```

use std::sync::Arc;
use std::time::Duration;

use model::{Now, PodKey, PodObservation, PodUid};
use serde::{Deserialize, Serialize};

use super::backoff::{Pauses, Retry};

/// The newest observation of a pod, and what is known to have happened since.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Seen {
    /// There is none yet: the first relist says whether there is anything to read.
    Never,
    /// There is none yet, and the runtime holds something to be read.
    First(Read),
    /// It shows everything that is known to have happened.
    Fresh(Arc<PodObservation>),
    /// Something was changed, or may have been, since: no further change before the pod is read again.
    Stale {
        /// The observation.
        last: Arc<PodObservation>,
        /// How far the next one is.
        read: Read,
    },
}

/// How far the next observation is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Read {
    /// It is asked for in this round.
    Due,
    /// It failed, and is asked for again.
    Failed(Retry),
    /// It is under way.
    UnderWay {
        /// Those before it that failed.
        failed: Option<Retry>,
        /// What it may have missed.
        missed: Missed,
    },
}

/// What happened to a pod while it was being read. The last one counts for most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Missed {
    /// Nothing.
    Nothing,
    /// A hint came: the result is newer than what was known, though perhaps not the newest.
    Hint,
    /// A change ended that the node itself made: the result may be older than what that said.
    Change,
}

impl Seen {
    /// The runtime holds nothing of the pod.
    pub(crate) fn nothing(uid: PodUid, key: PodKey) -> Self {
        Self::Fresh(Arc::new(PodObservation::empty(uid, key)))
    }

    /// The newest observation, as it was read and as results of the node's own changes have it.
    pub(crate) fn last(&self) -> Option<&Arc<PodObservation>> {
        match self {
            Self::Never | Self::First(_) => None,
            Self::Fresh(last) | Self::Stale { last, .. } => Some(last),
        }
    }

    /// The same, to put the result of a change into it.
    pub(crate) fn last_mut(&mut self) -> Option<&mut PodObservation> {
        match self {
            Self::Never | Self::First(_) => None,
            Self::Fresh(last) | Self::Stale { last, .. } => Some(Arc::make_mut(last)),
        }
    }

    /// Whether the runtime holds anything of the pod, as far as is known.
    pub(crate) fn holds_something(&self) -> bool {
        match self {
            Self::Never => false,
            Self::First(_) => true,
            Self::Fresh(last) | Self::Stale { last, .. } => {
                !last.containers.is_empty() || !last.sandboxes.is_empty()
            }
        }
    }

    /// The newest observation if it can be acted on.
    pub(crate) fn fresh(&self) -> Option<&PodObservation> {
        match self {
            Self::Fresh(last) => Some(last),
            Self::Never | Self::First(_) | Self::Stale { .. } => None,
        }
    }

    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh().is_some()
    }

    /// When the pod is to be read, monotonic; `None` when it need not be, or is being read.
    pub(crate) fn read_at(&self) -> Option<Duration> {
        match self.read()? {
            Read::Due => Some(Duration::ZERO),
            Read::Failed(retry) => Some(retry.next_at),
            Read::UnderWay { .. } => None,
        }
    }

    /// Whether it is to be read, or is being read.
    pub(crate) fn is_to_be_read(&self) -> bool {
        self.read().is_some()
    }

    /// Reads that failed, the last of them not long ago.
    pub(crate) fn retry(&self) -> Option<&Retry> {
        match self.read()? {
            Read::Due => None,
            Read::Failed(retry) => Some(retry),
            Read::UnderWay { failed, .. } => failed.as_ref(),
        }
    }

    fn read(&self) -> Option<&Read> {
        match self {
            Self::Never | Self::Fresh(_) => None,
            Self::First(read) | Self::Stale { read, .. } => Some(read),
        }
    }

    fn read_mut(&mut self) -> Option<&mut Read> {
        match self {
            Self::Never | Self::Fresh(_) => None,
            Self::First(read) | Self::Stale { read, .. } => Some(read),
        }
    }

    /// Something happened that the last observation does not show.
    pub(crate) fn outdate(&mut self) {
        match self {
            Self::Never => *self = Self::First(Read::Due),
            Self::Fresh(last) => *self = Self::Stale { last: last.clone(), read: Read::Due },
            Self::First(_) | Self::Stale { .. } => self.note_missed(Missed::Hint),
        }
    }

    /// A change that the node made has ended. A read under way may or may not have seen it.
    pub(crate) fn change_ended(&mut self) {
        self.note_missed(Missed::Change);
    }

    fn note_missed(&mut self, what: Missed) {
        if let Some(Read::UnderWay { missed, .. }) = self.read_mut() {
            *missed = what.max(*missed);
        }
    }

    /// A relist has nothing of the pod, of which nothing was known either.
    pub(crate) fn found_nothing(&mut self, uid: &PodUid, key: &PodKey) {
        let last = Arc::new(PodObservation::empty(uid.clone(), key.clone()));
        *self = match std::mem::replace(self, Self::Never) {
            Self::Never | Self::Fresh(_) => Self::Fresh(last),
            Self::First(read) | Self::Stale { read, .. } => Self::Stale { last, read },
        };
    }

    /// The pod is read from now on.
    pub(crate) fn begin_read(&mut self) {
        if let Some(read) = self.read_mut() {
            let failed = match read {
                Read::Failed(retry) => Some(retry.clone()),
                Read::Due | Read::UnderWay { .. } => None,
            };
            *read = Read::UnderWay { failed, missed: Missed::Nothing };
        }
    }

    /// The pod was read. Returns whether the result is taken.
    pub(crate) fn read_succeeded(&mut self, observed: PodObservation) -> bool {
        let missed = match self.read() {
            Some(Read::UnderWay { missed, .. }) => *missed,
            _ => Missed::Nothing,
        };
        let last = Arc::new(observed);
        match missed {
            Missed::Nothing => *self = Self::Fresh(last),
            Missed::Hint => *self = Self::Stale { last, read: Read::Due },
            Missed::Change => self.read_is_due(),
        }
        missed < Missed::Change
    }

    /// The pod could not be read.
    pub(crate) fn read_failed(&mut self, error: String, now: Now) {
        if let Some(read) = self.read_mut() {
            let before = match read {
                Read::UnderWay { failed, .. } => failed.as_ref(),
                Read::Due | Read::Failed(_) => None,
            };
            *read = Read::Failed(Retry::after(before, error, Pauses::CALLS, now));
        }
    }

    /// The pod is still to be read, from the beginning.
    pub(crate) fn read_is_due(&mut self) {
        if let Some(read) = self.read_mut() {
            *read = Read::Due;
        }
    }
}

#[cfg(test)]
mod tests {
    use model::SandboxId;

    use super::*;

    const NOW: Now = Now { wall: jiff::Timestamp::UNIX_EPOCH, mono: Duration::from_secs(7) };

    /// An observation of one sandbox.
    fn observed(sandbox: &str) -> PodObservation {
        let mut observed = PodObservation::empty(PodUid::from("u"), PodKey::new("ns", "web"));
        observed.sandboxes.push(model::SandboxObservation {
            id: SandboxId::from(sandbox),
            attempt: 0,
            is_ready: true,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            ips: Vec::new(),
        });
        observed
    }

    fn text(seen: &Seen) -> String {
        let read = match seen.read() {
            None => "",
            Some(Read::Due) => " due",
            Some(Read::Failed(retry)) => return format!("{} failed {}", name(seen), retry.failures),
            Some(Read::UnderWay { missed: Missed::Nothing, .. }) => " reading",
            Some(Read::UnderWay { missed: Missed::Hint, .. }) => " reading, hinted",
            Some(Read::UnderWay { missed: Missed::Change, .. }) => " reading, changed",
        };
        format!("{}{read}", name(seen))
    }

    fn name(seen: &Seen) -> String {
        let what = seen.last().map(|last| last.sandboxes.first().map_or("-", |s| s.id.as_str()));
        match seen {
            Seen::Never => "never".to_owned(),
            Seen::First(_) => "first".to_owned(),
            Seen::Fresh(_) => format!("fresh {}", what.unwrap_or_default()),
            Seen::Stale { .. } => format!("stale {}", what.unwrap_or_default()),
        }
    }

    /// What a series of words makes of a pod that was never seen.
    fn after(words: &str) -> String {
        let mut seen = Seen::Never;
        for word in words.split_whitespace() {
            match word {
                "hint" => seen.outdate(),
                "change" => seen.change_ended(),
                "nothing" => seen.found_nothing(&PodUid::from("u"), &PodKey::new("ns", "web")),
                "read" => seen.begin_read(),
                "fails" => seen.read_failed("no".to_owned(), NOW),
                "ends" => seen.read_is_due(),
                sandbox => {
                    seen.read_succeeded(observed(sandbox));
                }
            }
        }
        text(&seen)
    }

    #[test]
    fn an_observation_is_fresh_until_something_happens() {
        for (words, expected) in [
            ("", "never"),
            ("nothing", "fresh -"),
            ("hint", "first due"),
            ("hint nothing", "stale - due"),
            ("hint read", "first reading"),
            ("hint read a", "fresh a"),
            ("hint read a hint", "stale a due"),
            ("hint read a hint hint", "stale a due"),
            // A change ends with a result of its own, which says more than that the pod is to be read.
            ("hint read a change", "fresh a"),
            ("hint read a hint read b", "fresh b"),
            ("hint read a hint read ends", "stale a due"),
        ] {
            assert_eq!(after(words), expected, "{words}");
        }
    }

    #[test]
    fn what_a_read_may_have_missed_is_read_once_more() {
        for (words, expected) in [
            ("hint read hint", "first reading, hinted"),
            ("hint read hint a", "stale a due"),
            ("hint read change", "first reading, changed"),
            ("hint read change a", "first due"),
            ("hint read a hint read change b", "stale a due"),
            ("hint read a hint read change hint b", "stale a due"),
            ("hint read a hint read hint change b", "stale a due"),
        ] {
            assert_eq!(after(words), expected, "{words}");
        }
    }

    #[test]
    fn reads_that_fail_are_counted_until_one_succeeds() {
        for (words, expected) in [
            ("hint read fails", "first failed 1"),
            ("hint read fails hint", "first failed 1"),
            ("hint read fails read fails", "first failed 2"),
            ("hint read hint fails read a", "fresh a"),
            ("hint read change fails read a", "fresh a"),
            ("hint read fails read a hint read fails", "stale a failed 1"),
            ("hint read fails read change a read fails", "first failed 1"),
        ] {
            assert_eq!(after(words), expected, "{words}");
        }
        let mut seen = Seen::First(Read::Due);
        assert_eq!(seen.read_at(), Some(Duration::ZERO));
        seen.begin_read();
        assert_eq!(seen.read_at(), None);
        seen.read_failed("no".to_owned(), NOW);
        assert_eq!(seen.read_at(), Some(Duration::from_secs(8)));
    }
}
