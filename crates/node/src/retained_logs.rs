//! Retention of the logs of pods that are gone. They outlive their pods for a while, so that what collects logs on the node gets the last
//! lines of pods that lived for a moment.

use std::collections::VecDeque;
use std::time::Duration;

use model::{Now, PodKey, PodUid};
use serde::{Deserialize, Serialize};

use crate::pods::life::{Life, Terminated};
use crate::pods::record::{Desired, PodRecord};
use crate::pods::registry::PodRegistry;
use crate::pods::seen::Seen;
use crate::settings::{BETWEEN_REMOVALS, LOG_RETENTION};

/// The queue of pods that are gone but for their logs, those that went first in front.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct RetainedLogs {
    pods: VecDeque<PodLogs>,
    /// Monotonic time of the next removal at the earliest.
    next_at: Duration,
}

#[derive(Debug, Serialize, Deserialize)]
/// The logs of one pod.
struct PodLogs {
    uid: PodUid,
    key: PodKey,
    /// Monotonic time at which they go.
    until: Duration,
}

impl RetainedLogs {
    /// Nothing but its logs is left of a pod.
    pub(crate) fn keep(&mut self, uid: PodUid, key: PodKey, now: Now) {
        self.pods.push_back(PodLogs { uid, key, until: now.after(LOG_RETENTION) });
    }

    /// The pod is there again, as a static pod whose manifest was put back: its logs are its own again.
    pub(crate) fn returned(&mut self, uid: &PodUid) {
        self.pods.retain(|logs| logs.uid != *uid);
    }

    /// When the next ones go; monotonic.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.pods.front().map(|logs| logs.until.max(self.next_at))
    }

    /// Removes a pod's logs whose time is over. Its record comes back for that: should the pod itself come back meanwhile,
    /// it has to wait for its turn.
    pub(crate) fn drive(&mut self, pods: &mut PodRegistry, now: Now) {
        let Some(PodLogs { uid, key, .. }) = self.take_due(now) else { return };
        if pods.contains(&uid) {
            // Found in the runtime once more; it leaves its logs again.
            return;
        }
        let mut record = PodRecord::new(uid.clone(), key.clone(), Desired::Orphan);
        record.seen = Seen::nothing(uid, key);
        record.life = Life::Terminated(Terminated::but_for_logs());
        pods.insert(record);
    }

    fn take_due(&mut self, now: Now) -> Option<PodLogs> {
        let due = self.next_deadline().filter(|at| *at <= now.mono).and_then(|_| self.pods.pop_front())?;
        self.next_at = now.after(BETWEEN_REMOVALS);
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_go_in_order_and_one_by_one() {
        let at = |millis| Now { wall: jiff::Timestamp::UNIX_EPOCH, mono: Duration::from_millis(millis) };
        let mut logs = RetainedLogs::default();
        for (uid, millis) in [("a", 0), ("b", 1), ("c", 2)] {
            logs.keep(PodUid::from(uid), PodKey::new("ns", uid), at(millis));
        }
        logs.returned(&PodUid::from("b"));
        let mut due = |millis| logs.take_due(at(millis)).map(|logs| logs.uid.to_string());
        assert_eq!(due(59_999), None);
        assert_eq!(due(60_100).as_deref(), Some("a"));
        assert_eq!(due(60_119), None, "others have to have their turn");
        assert_eq!(due(60_120).as_deref(), Some("c"));
        assert_eq!(logs.next_deadline(), None);
    }
}
