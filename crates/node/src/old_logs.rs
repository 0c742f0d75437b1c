//! Logs of pods that are gone. They outlive their pods for a while, so that what collects logs on the node gets the last
//! lines of pods that lived for a moment.

use std::collections::VecDeque;
use std::time::Duration;

use model::{Now, PodKey, PodObservation, PodUid};

use crate::core::Node;
use crate::pods::record::{Desired, EndCause, Phase, PodRecord, Step, Terminated};
use crate::settings::LOGS_KEPT;

/// The pods that are gone but for their logs, those that went first in front.
#[derive(Debug, Default)]
pub(crate) struct OldLogs(VecDeque<Left>);

#[derive(Debug)]
struct Left {
    uid: PodUid,
    key: PodKey,
    /// Monotonic time at which they go.
    until: Duration,
}

impl OldLogs {
    /// Nothing but its logs is left of a pod.
    pub(crate) fn keep(&mut self, uid: PodUid, key: PodKey, now: Now) {
        self.0.push_back(Left { uid, key, until: now.after(LOGS_KEPT) });
    }

    /// The pod is there again, as a static pod whose manifest was put back: its logs are its own again.
    pub(crate) fn returned(&mut self, uid: &PodUid) {
        self.0.retain(|left| left.uid != *uid);
    }

    /// When the next ones go; monotonic.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.0.front().map(|left| left.until)
    }

    fn next_due(&mut self, now: Now) -> Option<Left> {
        self.0.pop_front_if(|left| left.until <= now.mono)
    }
}

impl Node {
    /// Removes logs whose time is over. The pod's record comes back for that: should the pod itself come back meanwhile,
    /// it has to wait for its turn.
    pub(crate) fn remove_old_logs(&mut self, now: Now) {
        while let Some(Left { uid, key, .. }) = self.old_logs.next_due(now) {
            if self.pods.contains_key(&uid) {
                // Found in the runtime once more; it leaves its logs again.
                continue;
            }
            let mut record = PodRecord::new(uid.clone(), key.clone(), Desired::Unknown);
            record.observed = Some(PodObservation::empty(uid.clone(), key));
            record.phase = Phase::Terminated(Terminated {
                why: EndCause::Removed,
                volumes: Step::Done,
                cgroup: Step::Done,
                object: Step::Done,
                remains: None,
                logs: Some(Step::Todo),
            });
            self.insert(record);
        }
    }
}
