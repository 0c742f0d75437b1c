//! What pods use, as it was measured for a decision about them.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Pod, PodObservation, PodUid};
use serde::{Deserialize, Serialize};

/// A pod that is to be measured, with what the runtime was last seen to hold of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PodToMeasure {
    /// The pod.
    #[serde(serialize_with = "crate::effect::as_version")]
    pub pod: Arc<Pod>,
    /// What there is of it.
    #[serde(skip)]
    pub observed: Arc<PodObservation>,
}

/// What a pod uses. What could not be measured is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodUsage {
    /// The working set of the whole pod, bytes.
    pub memory_bytes: Option<u64>,
    /// Its processes.
    pub processes: Option<u64>,
    /// Its containers, in the order in which they were measured.
    pub containers: Vec<ContainerUsage>,
    /// Its volumes on the node's own disk, by their names in it.
    pub volumes: BTreeMap<String, FilesUsage>,
}

/// What a container uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerUsage {
    /// Its name in the pod.
    pub name: String,
    /// Its working set, bytes.
    pub memory_bytes: Option<u64>,
    /// Its writable layer.
    pub layer: Option<FilesUsage>,
    /// Its logs.
    pub logs: Option<FilesUsage>,
}

/// What files take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesUsage {
    /// Bytes on the disk.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

/// What each pod uses. A pod of which nothing could be measured is not in it.
pub type PodUsages = BTreeMap<PodUid, PodUsage>;

/// What of a pod's files lies on the disk that runs short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) layers: bool,
    pub(super) logs: bool,
    pub(super) volumes: bool,
}

impl PodUsage {
    /// What its files of these kinds take together.
    pub(super) fn files(&self, parts: Parts) -> FilesUsage {
        let layers = self.containers.iter().filter(|_| parts.layers).filter_map(|c| c.layer);
        let logs = self.containers.iter().filter(|_| parts.logs).filter_map(|c| c.logs);
        let volumes = self.volumes.values().filter(|_| parts.volumes).copied();
        layers.chain(logs).chain(volumes).fold(FilesUsage::default(), |all, one| FilesUsage {
            bytes: all.bytes.saturating_add(one.bytes),
            inodes: all.inodes.saturating_add(one.inodes),
        })
    }
}
