//! What is asked for of a pod's volumes.

use std::sync::Arc;
use std::time::Duration;

use model::downward::PodFacts;
use model::{AllocatedPod, Pod, PodKey, PodUid};
use serde::{Deserialize, Serialize};

use super::{ActionKind, Subject};

/// An action on the volumes of a pod.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum VolumeAction {
    /// Make every volume of the pod present and up to date. → `Synced`
    Sync {
        /// The pod.
        #[serde(serialize_with = "super::as_version")]
        pod: AllocatedPod,
        /// What its downward API files refer to, as far as known.
        facts: PodFacts,
    },
    /// Unmount and remove the pod's volumes. Its folder stays. → `Done`
    TearDown {
        /// Which pod.
        uid: PodUid,
        /// Its name.
        key: PodKey,
    },
    /// Remove the pod's folder, which has no volumes any more. → `Done`
    RemoveFolder {
        /// Which pod.
        uid: PodUid,
        /// Its name.
        key: PodKey,
    },
}

impl VolumeAction {
    pub(super) fn kind(&self) -> ActionKind {
        match self {
            Self::Sync { .. } => ActionKind::SyncVolumes,
            Self::TearDown { .. } => ActionKind::TearDownVolumes,
            Self::RemoveFolder { .. } => ActionKind::RemovePodFolder,
        }
    }

    pub(super) fn pod(&self) -> Option<&Arc<Pod>> {
        match self {
            Self::Sync { pod, .. } => Some(pod.shared()),
            Self::TearDown { .. } | Self::RemoveFolder { .. } => None,
        }
    }

    pub(super) fn subject(&self) -> Subject<'_> {
        match self {
            Self::Sync { pod, .. } => Subject::of(pod),
            Self::TearDown { uid, key } | Self::RemoveFolder { uid, key } => Subject::named(uid, key),
        }
    }
}

/// What came of a pod's volumes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum VolumeOutcome {
    /// They are as they should be.
    Synced {
        /// When to look again although nothing changed, because a token grows old.
        refresh_after: Option<Duration>,
    },
    /// Some are not as they should be.
    Failed(Vec<VolumeFailure>),
}

/// Why a volume is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeFailure {
    /// Its name in the pod.
    pub volume: String,
    /// How far it came.
    pub stage: VolumeStage,
    /// Text for people.
    pub message: String,
}

/// What a volume goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeStage {
    /// It is found out what it is and what makes it.
    Processing,
    /// It is made.
    Mounting,
}
