//! The full relist, a level-triggered resync: all that the runtime holds is listed now and then, which repairs whatever was lost
//! otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::reason::event;
use model::{Now, PodUid};
use serde::{Deserialize, Serialize};

use crate::effect::{EventObject, EventRecord, Outcome, RuntimeAction, RuntimeOutcome};
use crate::outbox::Outbox;
use crate::pods::record::{Desired, PodRecord};
use crate::pods::registry::PodRegistry;
use crate::settings::{CONTAINER_GC_PERIOD, RELIST_WITH_EVENTS, RELIST_WITHOUT_EVENTS};
use crate::tasks::{NodeTask, Owner};

const TASK: Owner = Owner::Node(NodeTask::Relist);

/// When the runtime is listed, and what a list under way can no longer tell. Times are monotonic.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Relist {
    /// The next; zero at start.
    next_at: Duration,
    /// Asked for again while one was under way.
    is_wanted: bool,
    has_succeeded: bool,
    has_events: bool,
    /// From then on one that fails is told of.
    #[serde(default)]
    told_from: Duration,
    /// Pods read or changed since the relist under way began: for them it is no news.
    touched: BTreeSet<PodUid>,
}

impl Relist {
    /// Whether there was one. What it lacked is not there: nobody but this node makes sandboxes.
    pub(crate) fn has_succeeded(&self) -> bool {
        self.has_succeeded
    }

    /// The runtime's event stream is up or down. Either way something may have been missed.
    pub(crate) fn event_stream(&mut self, is_connected: bool, out: &Outbox) {
        self.has_events = is_connected;
        self.want(out);
    }

    /// Asks for one at once.
    pub(crate) fn want(&mut self, out: &Outbox) {
        self.next_at = Duration::ZERO;
        self.is_wanted = out.is_open(&TASK);
    }

    /// A pod was read or changed.
    pub(crate) fn touched(&mut self, uid: PodUid) {
        self.touched.insert(uid);
    }

    /// When the next one is due.
    pub(crate) fn next_deadline(&self, out: &Outbox) -> Option<Duration> {
        (!out.is_open(&TASK)).then_some(self.next_at)
    }

    /// Begins one that is due.
    pub(crate) fn drive(&mut self, now: Now, out: &mut Outbox) {
        if self.next_deadline(out).is_some_and(|at| at <= now.mono) {
            self.touched.clear();
            out.start(TASK, RuntimeAction::Relist);
        }
    }

    /// One has ended: marks the pods of which it has news. Returns whether it succeeded.
    pub(crate) fn finished(
        &mut self,
        outcome: Outcome,
        pods: &mut PodRegistry,
        now: Now,
        out: &mut Outbox,
    ) -> bool {
        let pause = if self.has_events { RELIST_WITH_EVENTS } else { RELIST_WITHOUT_EVENTS };
        self.next_at = if std::mem::take(&mut self.is_wanted) { now.mono } else { now.after(pause) };
        let list = match outcome {
            Outcome::Runtime(RuntimeOutcome::Relisted(list)) => list,
            Outcome::Failed(failure) => {
                self.failed(failure.message, now, out);
                return false;
            }
            _ => return false,
        };
        let is_first = !std::mem::replace(&mut self.has_succeeded, true);
        let mut seen = BTreeMap::new();
        for mut observation in list {
            observation.sort();
            seen.insert(observation.uid.clone(), observation);
        }
        for (uid, observation) in &seen {
            if !pods.contains(uid) {
                pods.insert(PodRecord::new(uid.clone(), observation.key.clone(), Desired::Orphan));
            }
        }
        pods.mark_where(|record| {
            if self.touched.contains(&record.uid) || record.is_changing() {
                return false;
            }
            let differs = record.compare(seen.get(&record.uid));
            differs || is_first
        });
        true
    }

    /// Upstream lists everything once a minute to collect dead containers, and tells of each time that it cannot.
    fn failed(&mut self, message: String, now: Now, out: &mut Outbox) {
        if now.mono < self.told_from {
            return;
        }
        self.told_from = now.after(CONTAINER_GC_PERIOD);
        let (about, reason) = (EventObject::Node, event::CONTAINER_GC_FAILED.into());
        out.record(EventRecord { about, is_warning: true, reason, message });
    }
}
