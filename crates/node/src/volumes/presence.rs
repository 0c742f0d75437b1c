//! Whether something that a driver makes is there: the state machine of a volume on the node, and of one in a pod. A call
//! that ended without an answer may still happen, and which calls may follow depends on what it was to do (CSI, "Error
//! Scheme": a call of unknown end is repeated, or what it was to make is removed).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::effect::{Failure, FailureKind, Outcome};

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Presence {
    /// It is not there.
    #[default]
    Absent,
    /// It is there.
    Present {
        /// Since when, or since when it was last made again, monotonic.
        since: Duration,
    },
    /// A call to make it has ended somehow, or an earlier process has left it. To make it or to remove it leads out.
    Uncertain,
    /// A call to remove it may still go on: only to remove it leads out.
    Leaving,
    /// A call to make it is under way.
    Making(Before),
    /// A call to remove it is under way.
    Removing(Before),
}

/// What was before a call, and is again when the call was not even begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Before {
    Absent,
    Present { since: Duration },
    Uncertain,
    Leaving,
}

impl From<Before> for Presence {
    fn from(before: Before) -> Self {
        match before {
            Before::Absent => Self::Absent,
            Before::Present { since } => Self::Present { since },
            Before::Uncertain => Self::Uncertain,
            Before::Leaving => Self::Leaving,
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done,
    NotBegun,
    Final,
    Unknown,
}

fn end(outcome: &Outcome) -> End {
    match outcome {
        Outcome::Failed(Failure { kind: FailureKind::NotBegun, .. }) => End::NotBegun,
        Outcome::Failed(Failure { kind: FailureKind::Uncertain | FailureKind::Busy, .. })
        | Outcome::Cancelled => End::Unknown,
        Outcome::Failed(_) => End::Final,
        _ => End::Done,
    }
}

impl Presence {
    /// Whether it can be used.
    pub(super) fn is_there(self) -> bool {
        matches!(self, Self::Present { .. } | Self::Making(Before::Present { .. }))
    }

    pub(super) fn is_absent(self) -> bool {
        self == Self::Absent
    }

    /// Whether a call is under way.
    pub(super) fn is_changing(self) -> bool {
        matches!(self, Self::Making(_) | Self::Removing(_))
    }

    /// Since when it is there.
    pub(super) fn since(self) -> Option<Duration> {
        match self {
            Self::Present { since } => Some(since),
            _ => None,
        }
    }

    fn before(self) -> Option<Before> {
        match self {
            Self::Absent => Some(Before::Absent),
            Self::Present { since } => Some(Before::Present { since }),
            Self::Uncertain => Some(Before::Uncertain),
            Self::Leaving => Some(Before::Leaving),
            Self::Making(_) | Self::Removing(_) => None,
        }
    }

    /// A call to make it begins. Returns whether it may.
    pub(super) fn make(&mut self) -> bool {
        let before = self.before().filter(|before| *before != Before::Leaving);
        before.inspect(|before| *self = Self::Making(*before)).is_some()
    }

    /// A call to remove it begins. Returns whether it may.
    pub(super) fn remove(&mut self) -> bool {
        let before = self.before().filter(|before| *before != Before::Absent);
        before.inspect(|before| *self = Self::Removing(*before)).is_some()
    }

    /// The call under way has ended.
    pub(super) fn ended(&mut self, outcome: &Outcome, now: Duration) {
        let there = Self::Present { since: now };
        *self = match (*self, end(outcome)) {
            (Self::Making(_), End::Done) => there,
            // It was there before and still is: it was only to be made again.
            (Self::Making(Before::Present { .. }), _) => there,
            (Self::Making(before) | Self::Removing(before), End::NotBegun) => before.into(),
            (Self::Making(Before::Absent), End::Final) => Self::Absent,
            // That it cannot be made again does not say that it is not there.
            (Self::Making(_), End::Final | End::Unknown) => Self::Uncertain,
            (Self::Removing(_), End::Done) => Self::Absent,
            // Some of it may be gone.
            (Self::Removing(_), End::Final) => Self::Uncertain,
            (Self::Removing(_), End::Unknown) => Self::Leaving,
            (settled, _) => settled,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(kind: FailureKind) -> Outcome {
        Outcome::Failed(Failure { kind, message: String::new() })
    }

    const NOW: Duration = Duration::from_secs(9);
    const THEN: Duration = Duration::from_secs(1);
    use Presence::{Absent, Leaving, Uncertain};

    #[test]
    fn what_a_call_leaves_depends_on_what_was_before_and_on_how_sure_its_end_is() {
        let there = Presence::Present { since: THEN };
        let made = Presence::Present { since: NOW };
        // Done, final, uncertain, busy, not begun.
        for (before, makes, removes) in [
            (Absent, Some([made, Absent, Uncertain, Uncertain, Absent]), None),
            (there, Some([made, made, made, made, made]), Some([Absent, Uncertain, Leaving, Leaving, there])),
            (
                Uncertain,
                Some([made, Uncertain, Uncertain, Uncertain, Uncertain]),
                Some([Absent, Uncertain, Leaving, Leaving, Uncertain]),
            ),
            (Leaving, None, Some([Absent, Uncertain, Leaving, Leaving, Leaving])),
        ] {
            let outcomes = [
                Outcome::Done,
                failed(FailureKind::Other),
                failed(FailureKind::Uncertain),
                failed(FailureKind::Busy),
                failed(FailureKind::NotBegun),
            ];
            let after = |begin: fn(&mut Presence) -> bool| {
                let all = outcomes.iter().map(|outcome| {
                    let mut presence = before;
                    begin(&mut presence).then(|| {
                        assert!(presence.is_changing() && !presence.make() && !presence.remove());
                        presence.ended(outcome, NOW);
                        presence
                    })
                });
                all.collect::<Option<Vec<_>>>()
            };
            assert_eq!(after(Presence::make), makes.map(|all| all.to_vec()), "make from {before:?}");
            assert_eq!(after(Presence::remove), removes.map(|all| all.to_vec()), "remove from {before:?}");
        }
    }
}
