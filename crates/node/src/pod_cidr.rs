//! Tells the runtime from which ranges its pods get addresses: those of the Node object, or the configured one (`podCIDR`).

use std::time::Duration;

use k8s_openapi::api::core::v1::Node as ApiNode;
use model::Now;
use serde::{Deserialize, Serialize};

use crate::effect::{Outcome, RuntimeAction};
use crate::outbox::Outbox;
use crate::pods::backoff::{Pauses, Retry};
use crate::tasks::{NodeTask, Owner};
use crate::wait::{Found, WaitOn};

const TASK: Owner = Owner::Node(NodeTask::PodCidr);

/// What the runtime was told, and what it is to be told.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct PodCidr {
    /// Several are separated by commas; empty for none.
    wanted: String,
    /// What the runtime has taken.
    told: String,
    /// What it was told last, or is being told.
    sent: String,
    retry: Option<Retry>,
}

impl PodCidr {
    /// The configured range, for as long as the Node object has none.
    pub(crate) fn new(configured: &str) -> Self {
        Self { wanted: configured.to_owned(), ..Self::default() }
    }

    /// The Node object has these. One that has none changes nothing, as upstream: what was given is not taken away.
    pub(crate) fn of_node(&mut self, node: &ApiNode) {
        let ranges = node.spec.as_ref().and_then(|spec| spec.pod_cidrs.as_deref()).unwrap_or_default();
        if !ranges.is_empty() {
            self.wanted = ranges.join(",");
        }
    }

    pub(crate) fn drive(&mut self, now: Now, out: &mut Outbox) {
        let is_due = self.retry.as_ref().is_none_or(|retry| retry.next_at <= now.mono);
        if out.is_open(&TASK) || self.wanted == self.told || !is_due {
            return;
        }
        self.sent.clone_from(&self.wanted);
        out.start(TASK, RuntimeAction::SetPodCidr { pod_cidr: self.wanted.clone() });
    }

    pub(crate) fn finished(&mut self, now: Now, outcome: Outcome) {
        match outcome {
            Outcome::Done => {
                self.told = std::mem::take(&mut self.sent);
                self.retry = None;
            }
            Outcome::Failed(failure) => {
                self.retry = Some(Retry::after(self.retry.as_ref(), failure.message, Pauses::CALLS, now));
            }
            _ => {}
        }
    }

    /// When it is to be tried again.
    pub(crate) fn next_deadline(&self, out: &Outbox) -> Option<Duration> {
        let is_wanted = !out.is_open(&TASK) && self.wanted != self.told;
        self.retry.as_ref().filter(|_| is_wanted).map(|retry| retry.next_at)
    }

    /// Finds that the runtime would not take it.
    pub(crate) fn find_waits(&self, found: &mut Found) {
        found.failing(WaitOn::PodCidr, self.retry.as_ref().filter(|_| self.wanted != self.told));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::effect::{Action, Failure, FailureKind};
    use crate::{Effect, Input, Machine, Node, Settings};

    fn node(pod_cidr: &str) -> Node {
        let settings = Settings { pod_cidr: pod_cidr.into(), ..Settings::for_tests() };
        Node::begun(settings, Machine::default())
    }

    fn at(seconds: u64) -> Now {
        Now { wall: Timestamp::UNIX_EPOCH, mono: Duration::from_secs(seconds) }
    }

    /// What the runtime is told, with how that is to end.
    fn told(effects: &[Effect]) -> Vec<(crate::EffectId, String)> {
        let told = effects.iter().filter_map(|effect| match effect {
            Effect::Start { id, action: Action::Runtime(RuntimeAction::SetPodCidr { pod_cidr }) } => {
                Some((*id, pod_cidr.clone()))
            }
            _ => None,
        });
        told.collect()
    }

    fn object(ranges: &[&str]) -> Input {
        let node: ApiNode = serde_json::from_value(json!({"spec": {"podCIDRs": ranges}})).unwrap();
        Input::NodeObject(Arc::new(node))
    }

    #[test]
    fn the_runtime_is_told_the_nodes_ranges_once() {
        let mut node = node("");
        assert_eq!(told(&node.step(at(0), Input::Tick)), [], "nothing is known");
        let told_now = told(&node.step(at(1), object(&["10.88.1.0/24", "fd00:1::/64"])));
        let [(id, ranges)] = told_now.as_slice() else { panic!("{told_now:?}") };
        assert_eq!(ranges, "10.88.1.0/24,fd00:1::/64");
        assert_eq!(told(&node.step(at(1), object(&["10.88.1.0/24", "fd00:1::/64"]))), [], "under way");
        node.step(at(1), Input::Finished { id: *id, outcome: Outcome::Done });
        assert_eq!(told(&node.step(at(2), object(&["10.88.1.0/24", "fd00:1::/64"]))), [], "done");
        assert_eq!(told(&node.step(at(3), object(&[]))), [], "not taken away");
        assert_eq!(told(&node.step(at(4), object(&["10.88.2.0/24"])))[0].1, "10.88.2.0/24");
    }

    #[test]
    fn a_configured_range_serves_until_the_node_has_one() {
        let mut node = node("10.1.0.0/24");
        let first = told(&node.step(at(0), Input::Tick));
        assert_eq!(first[0].1, "10.1.0.0/24");
        node.step(at(0), Input::Finished { id: first[0].0, outcome: Outcome::Done });
        let second = told(&node.step(at(1), object(&["10.88.1.0/24"])));
        assert_eq!(second[0].1, "10.88.1.0/24");
        node.step(at(1), Input::Finished { id: second[0].0, outcome: Outcome::Done });
        assert_eq!(told(&node.step(at(2), object(&[]))), []);
    }

    #[test]
    fn a_runtime_that_did_not_take_it_is_told_again() {
        let mut node = node("");
        let first = told(&node.step(at(0), object(&["10.88.1.0/24"])));
        let failure = Failure { kind: FailureKind::Other, message: "away".into() };
        node.step(at(0), Input::Finished { id: first[0].0, outcome: Outcome::Failed(failure) });
        assert!(node.next_deadline().is_some_and(|next| next <= Duration::from_secs(1)));
        let again = told(&node.step(at(1), Input::Tick));
        assert_eq!(again[0].1, "10.88.1.0/24");
        let view = node.view();
        let wait = view.waits.iter().find(|wait| wait.on == WaitOn::PodCidr).unwrap();
        assert_eq!((wait.since, wait.attempts, wait.error.as_deref()), (Duration::ZERO, 1, Some("away")));
        node.step(at(2), Input::Finished { id: again[0].0, outcome: Outcome::Done });
        assert!(node.view().waits.iter().all(|wait| wait.on != WaitOn::PodCidr), "{:?}", node.view().waits);
    }
}
