//! Mirror pods: what makes a static pod visible in the API
//! (<https://kubernetes.io/docs/tasks/configure-pod-container/static-pod/>).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::{Now, Pod, PodKey, PodUid, pod};
use serde::{Deserialize, Serialize};

use crate::cx::Cx;
use crate::effect::{ApiAction, Outcome};
use crate::outbox::Outbox;
use crate::pods::backoff::{Pauses, Retry};
use crate::pods::life::Step;
use crate::pods::record::{PodRecord, resource_version};
use crate::pods::registry::PodRegistry;
use crate::schedule::earliest;
use crate::tasks::{Owner, PodTask};
use crate::wait::{Found, WaitOn};

/// The mirror pods the API server holds for this node.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Mirrors {
    #[serde(with = "crate::pairs")]
    by_key: BTreeMap<PodKey, Arc<Pod>>,
    by_uid: BTreeMap<PodUid, PodKey>,
    /// Names of which a mirror has come since it was last seen who stands behind them.
    unsorted: BTreeSet<PodKey>,
    /// Names of mirrors that no static pod stands behind.
    strays: BTreeSet<PodKey>,
    /// What came of removing those.
    removals: BTreeMap<PodUid, Removal>,
}

/// What the last attempt to remove a mirror came to.
#[derive(Debug, Serialize, Deserialize)]
enum Removal {
    /// It is tried again.
    Failed(Retry),
    /// The watch will say so; until then nothing more is to be done about it.
    Done,
}

impl Mirrors {
    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(crate) fn uids(&self) -> impl Iterator<Item = PodUid> {
        self.by_key.values().map(|p| pod::uid(p))
    }

    pub(crate) fn key_of(&self, uid: &PodUid) -> Option<PodKey> {
        self.by_uid.get(uid).cloned()
    }

    pub(crate) fn applied(&mut self, mirror: Arc<Pod>) {
        let (key, uid) = (pod::key(&mirror), pod::uid(&mirror));
        self.unsorted.insert(key.clone());
        self.by_uid.insert(uid.clone(), key.clone());
        if let Some(before) = self.by_key.insert(key, mirror)
            && pod::uid(&before) != uid
        {
            self.by_uid.remove(&pod::uid(&before));
        }
    }

    /// Takes note that an API pod is gone; returns its name when it was a mirror.
    pub(crate) fn deleted(&mut self, uid: &PodUid) -> Option<PodKey> {
        let key = self.by_uid.remove(uid)?;
        self.by_key.remove(&key);
        self.strays.remove(&key);
        self.removals.remove(uid);
        Some(key)
    }

    /// Keeps one static pod's mirror as it should be: there, and of this very manifest. One is made once the node's object is
    /// known, its owner; what an earlier process has told by one is heard before that.
    pub(crate) fn drive(&self, record: &mut PodRecord, cx: &mut Cx<'_>) -> Option<Duration> {
        let pod = record.desired.pod()?.clone();
        match self.by_key.get(&record.key) {
            // What it says is taken over once it is known what of it still holds.
            Some(mirror) if is_mirror_of(mirror, &pod) && record.seen.last().is_none() => None,
            Some(mirror) if is_mirror_of(mirror, &pod) => {
                let (uid, version) = (pod::uid(mirror), resource_version(mirror));
                let is_other = record.report.api_uid.as_ref() != Some(&uid);
                record.mirror = Step::Done;
                if is_other || (version > record.report.version && !record.is_being_reported()) {
                    record.report.api_uid = Some(uid);
                    record.report.version = version;
                    record.report.is_gone = false;
                    record.report.written = Arc::new(mirror.status.clone().unwrap_or_default());
                    // Probes may follow from what it says.
                    let next = if record.recall_mirror(cx) { record.drive(cx) } else { None };
                    return earliest(next, record.drive_report(cx));
                }
                None
            }
            // Of an older manifest, or on its way out: it makes room first.
            Some(mirror) => {
                record.report.api_uid = None;
                if record.mirror.is_done() {
                    record.mirror = Step::Todo;
                }
                let is_leaving = self.is_leaving(&pod::uid(mirror), cx.out)
                    || record.tasks.is_open(&PodTask::MirrorRemoval);
                if record.mirror.is_due(cx.now) && !is_leaving {
                    let action = ApiAction::DeletePod { key: record.key.clone(), uid: pod::uid(mirror) };
                    record.start(PodTask::MirrorRemoval, action, cx.out);
                }
                record.mirror.next_at(cx.now)
            }
            None => {
                let node_uid = cx.node.uid()?.to_owned();
                let is_busy =
                    [PodTask::Mirror, PodTask::MirrorRemoval].iter().any(|s| record.tasks.is_open(s));
                if !is_busy && record.mirror.is_due(cx.now) {
                    record.start(PodTask::Mirror, ApiAction::CreateMirror { pod, node_uid }, cx.out);
                }
                record.mirror.next_at(cx.now)
            }
        }
    }

    /// Finds mirrors that could not be removed.
    pub(crate) fn find_waits(&self, found: &mut Found) {
        for (uid, removal) in &self.removals {
            if let (Removal::Failed(retry), Some(key)) = (removal, self.by_uid.get(uid)) {
                found.retrying(WaitOn::StrayMirror(key.clone()), Some(retry));
            }
        }
    }

    /// Removes mirrors that no static pod stands behind, once every source has spoken.
    pub(crate) fn remove_strays(&mut self, pods: &mut PodRegistry, cx: &mut Cx<'_>) {
        for key in std::mem::take(&mut self.unsorted).into_iter().chain(pods.take_changed_statics()) {
            if self.by_key.contains_key(&key) && !pods.has_static(&key) {
                self.strays.insert(key);
            } else {
                self.strays.remove(&key);
            }
        }
        let strays: Vec<(PodKey, PodUid)> = self
            .strays
            .iter()
            .filter_map(|key| Some((key.clone(), pod::uid(self.by_key.get(key)?))))
            .collect();
        // What failed is tried again only while there is something to remove.
        let is_stray = |uid: &PodUid| strays.iter().any(|(_, stray)| stray == uid);
        self.removals.retain(|uid, removal| matches!(removal, Removal::Done) || is_stray(uid));
        for (key, uid) in strays {
            let is_due = match self.removals.get(&uid) {
                None => true,
                Some(Removal::Done) => false,
                Some(Removal::Failed(retry)) => retry.next_at <= cx.now.mono,
            };
            if is_due && !self.is_leaving(&uid, cx.out) {
                let action = ApiAction::DeletePod { key, uid: uid.clone() };
                cx.out.start(Owner::StrayMirror(uid), action);
            }
        }
    }

    /// Whether a mirror is being removed, or was, because nobody stood behind it.
    fn is_leaving(&self, uid: &PodUid, out: &Outbox) -> bool {
        matches!(self.removals.get(uid), Some(Removal::Done)) || out.is_open(&Owner::StrayMirror(uid.clone()))
    }

    pub(crate) fn removal_done(&mut self, uid: &PodUid, outcome: &Outcome, now: Now) {
        if !self.by_uid.contains_key(uid) {
            return;
        }
        let before = match self.removals.get(uid) {
            Some(Removal::Failed(retry)) => Some(retry),
            _ => None,
        };
        let removal = match outcome {
            _ if outcome.is_gone() => Removal::Done,
            Outcome::Failed(failure) => {
                Removal::Failed(Retry::after(before, failure.message.clone(), Pauses::CALLS, now))
            }
            _ => Removal::Failed(Retry::after(before, String::new(), Pauses::CALLS, now)),
        };
        self.removals.insert(uid.clone(), removal);
    }

    pub(crate) fn next_deadline(&self, out: &Outbox) -> Option<Duration> {
        let waiting = self.removals.iter().filter(|(uid, _)| !self.is_leaving(uid, out));
        let retries = waiting.filter_map(|(_, removal)| match removal {
            Removal::Failed(retry) => Some(retry.next_at),
            Removal::Done => None,
        });
        retries.min()
    }
}

/// Whether an API pod mirrors exactly this static pod and is not being deleted.
fn is_mirror_of(mirror: &Pod, pod: &Pod) -> bool {
    let hash = pod::annotation(pod, pod::ANNOTATION_CONFIG_HASH);
    mirror.metadata.deletion_timestamp.is_none()
        && hash.is_some()
        && pod::annotation(mirror, pod::ANNOTATION_CONFIG_MIRROR) == hash
}

#[cfg(test)]
mod tests;
