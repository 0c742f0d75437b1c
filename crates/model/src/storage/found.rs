//! Volumes that earlier processes have left on a node, as its disk and its mount table tell of them.

use serde::{Deserialize, Serialize};

use super::{MounterName, VolumeMode};
use crate::PodUid;

/// All that were found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FoundVolumes {
    /// Those that are there for pods, or may be.
    pub published: Vec<FoundPublication>,
    /// Those that are there for the node, or may be.
    pub staged: Vec<FoundStage>,
}

/// A volume in a pod's folder (`pods/UID/volumes/PLUGIN/FOLDER`; of a CSI driver, `vol_data.json` there tells of it).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundPublication {
    /// The pod.
    pub uid: PodUid,
    /// The volume's folder there.
    pub folder: String,
    /// Who has mounted it.
    pub mounter: MounterName,
    /// What the mounter calls the volume.
    pub handle: String,
    /// Whether it lives and dies with its pod.
    pub is_ephemeral: bool,
    /// Whether it has a file system.
    pub mode: VolumeMode,
    /// Whether it is mounted. One that is not may be on its way.
    pub is_mounted: bool,
}

/// A volume that was made ready for the node (`plugins/kubernetes.io/csi/DRIVER/HASH/vol_data.json`,
/// `plugins/kubernetes.io/local-volume/mounts/VOLUME`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundStage {
    /// Who has mounted it.
    pub mounter: MounterName,
    /// What the mounter calls the volume.
    pub handle: String,
    /// Whether it is mounted. One that is not may be on its way.
    pub is_mounted: bool,
}
