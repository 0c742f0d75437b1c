//! What is done with volumes one by one, by their drivers or by the kubelet itself. Each action has all that is needed for it,
//! but for secrets and tokens, which whoever carries it out fetches.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use model::storage::{ClaimName, CsiDriver, Growth, Mounter, VolumeMode, VolumeName, VolumeSpec};
use model::{AllocatedPod, Pod, PodKey, PodUid};
use serde::Serialize;

use super::{ActionKind, Subject};

/// An action on a volume. One that fails says whether it may have happened all the same
/// ([`FailureKind`](super::FailureKind)). All of them end in `Done`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum StorageAction {
    /// Make a volume ready for the node (`NodeStageVolume`; a disk is mounted, and has a file system made on it first if it has
    /// none).
    Stage {
        /// Which.
        volume: Arc<VolumeSpec>,
        /// Who does it.
        mounter: Mounter,
        /// What its attachment says.
        publish_context: BTreeMap<String, String>,
        /// `fsGroup` of the pod it is staged for: for drivers that see to that themselves.
        fs_group: Option<i64>,
    },
    /// Take it from the node (`NodeUnstageVolume`), with all that was made for that. What is not there any more is no error.
    Unstage {
        /// Which.
        volume: VolumeName,
        /// What the mounter calls it.
        handle: String,
        /// Who does it.
        mounter: Mounter,
    },
    /// Make a volume available to a pod (`NodePublishVolume`, or a mount), with its `fsGroup` applied, unless the driver does that.
    Publish {
        /// The pod.
        #[serde(serialize_with = "super::as_version")]
        pod: AllocatedPod,
        /// The volume's name in the pod.
        name: String,
        /// Which.
        volume: Arc<VolumeSpec>,
        /// Who does it.
        mounter: Mounter,
        /// What its attachment says.
        publish_context: BTreeMap<String, String>,
        /// Whether the pod may only ever read it.
        is_read_only: bool,
        /// Whether it was there for the pod before (`requiresRepublish`): then a failure takes nothing away.
        is_again: bool,
    },
    /// Take a volume from a pod (`NodeUnpublishVolume`, or an unmount), and remove what was made for it in the pod's folder. What is not
    /// there any more is no error.
    Unpublish {
        /// The pod.
        uid: PodUid,
        /// Its name.
        key: PodKey,
        /// The volume's folder in that of the pod.
        folder: String,
        /// What the mounter calls it.
        handle: String,
        /// Whether it has a file system.
        mode: VolumeMode,
        /// Who does it.
        mounter: Mounter,
    },
    /// Make the file system of a volume, which is there for a pod, as large as the volume (`NodeExpandVolume`), and say so in
    /// the claim's status.
    Grow {
        /// Which.
        volume: Arc<VolumeSpec>,
        /// Who does it.
        driver: CsiDriver,
        /// The pod.
        uid: PodUid,
        /// The claim.
        claim: ClaimName,
        /// Its uid.
        claim_uid: String,
        /// To what.
        growth: Growth,
    },
}

impl StorageAction {
    pub(super) fn kind(&self) -> ActionKind {
        match self {
            Self::Stage { .. } => ActionKind::StageVolume,
            Self::Unstage { .. } => ActionKind::UnstageVolume,
            Self::Publish { .. } => ActionKind::PublishVolume,
            Self::Unpublish { .. } => ActionKind::UnpublishVolume,
            Self::Grow { .. } => ActionKind::GrowVolume,
        }
    }

    pub(super) fn pod(&self) -> Option<&Arc<Pod>> {
        match self {
            Self::Publish { pod, .. } => Some(pod.shared()),
            Self::Stage { .. } | Self::Unstage { .. } | Self::Unpublish { .. } | Self::Grow { .. } => None,
        }
    }

    pub(super) fn subject(&self) -> Subject<'_> {
        match self {
            Self::Stage { volume, .. } | Self::Grow { volume, .. } => {
                Subject { volume: Some(volume.name.as_str()), ..Subject::default() }
            }
            Self::Unstage { volume, .. } => Subject { volume: Some(volume.as_str()), ..Subject::default() },
            Self::Publish { pod, name, .. } => Subject { volume: Some(name), ..Subject::of(pod) },
            Self::Unpublish { uid, key, folder, .. } => {
                Subject { volume: Some(folder), ..Subject::named(uid, key) }
            }
        }
    }

    pub(super) fn details(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Publish { volume, is_again, .. } => {
                write!(f, " {}{}", volume.name, if *is_again { " again" } else { "" })
            }
            Self::Grow { claim, growth, .. } => write!(f, " of claim {claim} to {} bytes", growth.size),
            _ => Ok(()),
        }
    }
}
