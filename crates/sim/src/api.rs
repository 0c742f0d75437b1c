//! An API server that knows only pods, and only what this node's agent needs to see of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use model::{Pod, PodKey, PodUid, pod};

/// The objects.
#[derive(Debug, Default)]
pub(crate) struct Api {
    pub(crate) pods: BTreeMap<PodUid, Arc<Pod>>,
    pub(crate) is_away: bool,
    version: u64,
}

/// What a watch tells.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Applied(Arc<Pod>),
    Deleted(PodUid),
}

/// Whether a status is a last word.
pub(crate) fn is_terminal(status: &PodStatus) -> bool {
    matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"))
}

impl Api {
    /// The version of the last change.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn by_key(&self, key: &PodKey) -> Option<&Arc<Pod>> {
        self.pods.values().find(|p| pod::key(p) == *key)
    }

    /// Creates a pod, or changes one.
    pub(crate) fn apply(&mut self, mut pod: Pod) -> Change {
        self.version += 1;
        pod.metadata.resource_version = Some(self.version.to_string());
        let pod = Arc::new(pod);
        self.pods.insert(pod::uid(&pod), pod.clone());
        Change::Applied(pod)
    }

    /// A status write; the new version, or `None` when there is no such pod.
    pub(crate) fn write_status(&mut self, uid: &PodUid, status: &PodStatus) -> Option<(u64, Change)> {
        let mut pod = (**self.pods.get(uid)?).clone();
        pod.status = Some(status.clone());
        let change = self.apply(pod);
        Some((self.version, change))
    }

    /// Removes an object at once.
    pub(crate) fn remove(&mut self, uid: &PodUid) -> Option<Change> {
        self.version += 1;
        self.pods.remove(uid).map(|_| Change::Deleted(uid.clone()))
    }

    /// A user's deletion: the grace can only get shorter, and none is given to a pod that has ended.
    pub(crate) fn delete(&mut self, uid: &PodUid, grace: Option<u32>, now: Timestamp) -> Option<Change> {
        let mut pod = (**self.pods.get(uid)?).clone();
        let own = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).unwrap_or(30);
        let grace = grace.map_or(own, i64::from);
        if grace == 0 || pod.status.as_ref().is_some_and(is_terminal) {
            return self.remove(uid);
        }
        if pod.metadata.deletion_grace_period_seconds.is_some_and(|g| g <= grace) {
            return None;
        }
        let until = now + Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        pod.metadata.deletion_timestamp = Some(Time(model::time::to_seconds(until)));
        pod.metadata.deletion_grace_period_seconds = Some(grace);
        Some(self.apply(pod))
    }
}
