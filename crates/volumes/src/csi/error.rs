//! Why a CSI volume is not as it should be, in upstream's texts, which end up in events.

use std::path::PathBuf;

use model::storage::SecretName;
use plugins::CallFailure;
use plugins::csi::Certainty;

use crate::error::{SetUpError, chain};
use crate::objects::ObjectError;

/// A failed operation on a CSI volume. Each message tells its whole chain.
#[derive(Debug, thiserror::Error)]
pub enum CsiError {
    /// A secret is not to be had.
    #[error(
        "fetching {of} {}/{} failed: kubernetes.io/csi: failed to find the secret {} in the namespace {} with error: {cause}",
        name.namespace,
        name.name,
        name.name,
        name.namespace
    )]
    Secret {
        /// What names it: `NodeStageSecretRef` or `NodePublishSecretRef`.
        of: &'static str,
        /// Which.
        name: SecretName,
        /// Why not.
        cause: String,
    },
    /// A token for the driver is not to be had.
    #[error("kubernetes.io/csi: mounter.SetUpAt failed to get service accoount token attributes: {0}")]
    Token(#[source] ObjectError),
    /// Nothing here maps block devices yet.
    #[error("volumes of volumeMode Block are not supported yet")]
    Block,
    /// What has to be there before the driver is called cannot be made.
    #[error("kubernetes.io/csi: {during}: {}", chain(cause))]
    Prepare {
        /// Upstream's word for it.
        during: &'static str,
        /// Why not.
        cause: SetUpError,
    },
    /// The driver was called and has not done it, as far as it says.
    #[error("{during}{cause}")]
    Call {
        /// Upstream's words in front of it.
        during: &'static str,
        /// What came of the call.
        cause: CallFailure,
    },
    /// The volume is mounted, and its files cannot be handed to the pod's group.
    #[error("applyFSGroup failed for vol {handle}: {}", chain(cause))]
    Group {
        /// The driver's name of the volume.
        handle: String,
        /// Why not.
        cause: SetUpError,
    },
    /// The driver has answered that it is done, and its mount is there.
    #[error("{} is still mounted although the CSI driver says that it is not", path.display())]
    StillMounted {
        /// Where.
        path: PathBuf,
    },
    /// What was made for the volume cannot be removed.
    #[error("kubernetes.io/csi: {during}: {}", chain(cause))]
    CleanUp {
        /// Upstream's word for it.
        during: &'static str,
        /// Why not.
        cause: SetUpError,
    },
    /// The blocking work panicked or the runtime shut down.
    #[error("the work was interrupted")]
    Interrupted,
}

impl CsiError {
    /// Whether the driver may have done it all the same; `None` when it was not called, and all is as it was.
    pub fn certainty(&self) -> Option<Certainty> {
        match self {
            Self::Secret { .. } | Self::Token(_) | Self::Block | Self::Prepare { .. } => None,
            Self::Call { cause, .. } => Some(cause.certainty()),
            // It is mounted, so somebody has to unmount it.
            Self::Group { .. } | Self::Interrupted => Some(Certainty::Uncertain),
            Self::StillMounted { .. } | Self::CleanUp { .. } => Some(Certainty::Final),
        }
    }
}
