//! CPU weight and memory protection of the cgroups of QoS classes: they follow what the pods of a class request together. When processors are short, the
//! Burstable class gets what its pods request, and BestEffort pods what is left; Guaranteed pods stand beside the
//! classes, not in one. Where configured, requested memory is kept for classes in a like manner.

use std::time::Duration;

use model::Now;
use serde::{Deserialize, Serialize};

use crate::cx::Cx;
use crate::effect::{HostAction, Outcome, QosAmounts};
use crate::outbox::Outbox;
use crate::pods::backoff::{Pauses, Retry};
use crate::tasks::{NodeTask, Owner};
use crate::wait::{Found, WaitOn};

const TASK: Owner = Owner::Node(NodeTask::QosCgroups);
/// Between two writes: many pods that come together are worth one.
const PAUSE: Duration = Duration::from_secs(1);

/// What the cgroups of QoS classes are set to, and whether that still holds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct QosCgroups {
    counts_memory: bool,
    /// As last set for certain.
    set: Option<QosAmounts>,
    /// What they were set to last, or are being set to.
    sent: Option<QosAmounts>,
    retry: Option<Retry>,
    /// Monotonic time before which nothing is set.
    next_at: Duration,
}

impl QosCgroups {
    /// Nothing is set yet. Whether memory counts is the configuration's business.
    pub(crate) fn new(counts_memory: bool) -> Self {
        Self { counts_memory, set: None, sent: None, retry: None, next_at: Duration::ZERO }
    }

    /// Sets weight and limits anew when that is due, by what pods request now.
    pub(crate) fn drive(&mut self, requested: QosAmounts, cx: &mut Cx<'_>) {
        if self.next_deadline(requested, cx.out).is_none_or(|at| at > cx.now.mono) {
            return;
        }
        self.next_at = cx.now.after(PAUSE);
        let amounts = self.counted(requested);
        self.sent = Some(amounts);
        let memory_bytes = cx.node.machine.map_or(0, |machine| machine.memory_bytes);
        cx.out.start(TASK, HostAction::UpdateQosCgroups { amounts, memory_bytes });
    }

    /// When [`QosCgroups::drive`] has something to do; monotonic.
    pub(crate) fn next_deadline(&self, requested: QosAmounts, out: &Outbox) -> Option<Duration> {
        let is_due = !out.is_open(&TASK) && self.set != Some(self.counted(requested));
        let retry_at = self.retry.as_ref().map(|retry| retry.next_at).unwrap_or_default();
        is_due.then(|| self.next_at.max(retry_at))
    }

    /// Finds that they could not be updated.
    pub(crate) fn find_waits(&self, requested: QosAmounts, found: &mut Found) {
        let is_open = self.set != Some(self.counted(requested));
        found.failing(WaitOn::QosCgroups, self.retry.as_ref().filter(|_| is_open));
    }

    /// What of it counts.
    fn counted(&self, requested: QosAmounts) -> QosAmounts {
        if self.counts_memory {
            return requested;
        }
        QosAmounts { burstable_memory_bytes: 0, guaranteed_memory_bytes: 0, ..requested }
    }

    /// Takes in how setting it ended.
    pub(crate) fn finished(&mut self, outcome: Outcome, now: Now) {
        match outcome {
            Outcome::Done => {
                self.set = self.sent.take();
                self.retry = None;
            }
            Outcome::Failed(failure) => {
                self.retry = Some(Retry::after(self.retry.as_ref(), failure.message, Pauses::CALLS, now));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::effect::{Action, Effect, EffectId, Failure, FailureKind};
    use crate::{Input, Machine, Node, Settings};

    fn at(seconds: u64) -> Now {
        Now { wall: Timestamp::UNIX_EPOCH, mono: Duration::from_secs(seconds) }
    }

    /// The update that a step asks for.
    fn update(effects: &[Effect]) -> Option<EffectId> {
        effects.iter().find_map(|effect| match effect {
            Effect::Start { id, action: Action::Host(HostAction::UpdateQosCgroups { .. }) } => Some(*id),
            _ => None,
        })
    }

    fn is_waited_for(node: &Node) -> Option<(u32, Option<String>)> {
        let view = node.view();
        let wait = view.waits.iter().find(|wait| wait.on == WaitOn::QosCgroups)?;
        Some((wait.attempts, wait.error.clone()))
    }

    #[test]
    fn what_could_not_be_set_is_waited_for_until_it_is() {
        let mut node = Node::begun(Settings::for_tests(), Machine::default());
        let first = update(&node.step(at(1), Input::Tick)).unwrap();
        assert_eq!(is_waited_for(&node), None, "it is under way for the first time");
        let failure = Failure { kind: FailureKind::Other, message: "no such folder".into() };
        node.step(at(1), Input::Finished { id: first, outcome: Outcome::Failed(failure) });
        assert_eq!(is_waited_for(&node), Some((1, Some("no such folder".to_owned()))));
        let second = update(&node.step(at(3), Input::Tick)).unwrap();
        assert!(is_waited_for(&node).is_some(), "it has not been set yet");
        node.step(at(3), Input::Finished { id: second, outcome: Outcome::Done });
        assert_eq!(is_waited_for(&node), None);
    }
}
