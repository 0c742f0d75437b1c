//! Claims of pods on volumes (PersistentVolumeClaim), and what has come of them.

use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Volume;
use serde::{Deserialize, Serialize};

use super::{ClaimSize, VolumeSpec};
use crate::{Pod, PodUid};

/// A PersistentVolumeClaim.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClaimName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ClaimName {
    /// The claim behind a volume of a pod: one that the pod names, or the pod's own (`ephemeral`); `None` where there is none.
    pub fn of(pod: &Pod, volume: &Volume) -> Option<Self> {
        let name = match &volume.persistent_volume_claim {
            Some(claim) => claim.claim_name.clone(),
            None => {
                volume.ephemeral.as_ref()?;
                format!("{}-{}", pod.metadata.name.as_deref().unwrap_or_default(), volume.name)
            }
        };
        Some(Self { namespace: pod.metadata.namespace.clone().unwrap_or_default(), name })
    }
}

impl fmt::Display for ClaimName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What the API server has said of a claim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ClaimAnswer {
    /// There is a volume for it.
    Bound(BoundClaim),
    /// It cannot be used, or not yet.
    Unusable(ClaimProblem),
}

/// A claim that has a volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BoundClaim {
    /// Which.
    pub volume: Arc<VolumeSpec>,
    /// The pod that owns it as its controller, as those of generic ephemeral volumes have one.
    pub owner: Option<PodUid>,
    /// What it says of the volume's size.
    pub size: ClaimSize,
}

/// Why a claim cannot be used: see [`ClaimProblem::about`] for the whole text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ClaimProblem {
    /// There is no such claim.
    #[error("failed to fetch PVC from API server: {0}")]
    NotFound(String),
    /// It is being deleted, and nothing protects it.
    #[error("PVC is being deleted")]
    Deleting,
    /// It waits for a volume, or has lost it.
    #[error("PVC is not bound")]
    NotBound,
    /// It is bound and does not say to what.
    #[error("PVC has empty pvc.Spec.VolumeName")]
    NoVolumeName,
    /// There is no such volume.
    #[error("failed to fetch PV {volume} from API server: {error}")]
    VolumeNotFound {
        /// Its name.
        volume: String,
        /// What the API server says.
        error: String,
    },
    /// The volume knows of no claim.
    #[error(
        "found PV object {volume} but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim"
    )]
    VolumeNotBound {
        /// Its name.
        volume: String,
    },
    /// The volume is another claim's.
    #[error(
        "found PV object {volume} but its pv.Spec.ClaimRef.UID {claim_ref} does not point to claim.UID {claim}"
    )]
    VolumeOfAnother {
        /// Its name.
        volume: String,
        /// Whose it is.
        claim_ref: String,
        /// Whose it should be.
        claim: String,
    },
    /// Nothing here makes volumes of its kind.
    #[error("{error}")]
    NoPlugin {
        /// The volume's name.
        volume: String,
        /// Which kind.
        error: super::SpecError,
    },
}

impl ClaimProblem {
    /// The whole text about a claim, as upstream has it: with a volume of which no kubelet makes any, nothing is wrong with the claim.
    pub fn about(&self, claim: &ClaimName) -> String {
        match self {
            Self::NoPlugin { volume, error } => {
                format!("failed to get Plugin from volumeSpec for volume {volume:?} err={error}")
            }
            _ => format!("error processing PVC {claim}: {self}"),
        }
    }
}
