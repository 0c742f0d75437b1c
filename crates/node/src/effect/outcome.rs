//! How actions end.

use model::probe::ProbeOutcome;
use model::reason::waiting;
use model::{CgroupObservation, PodUid};
use serde::{Deserialize, Serialize};

use crate::eviction::PodUsages;
use crate::pressure::Sample;

use super::{ApiOutcome, ImageOutcome, PluginOutcome, RuntimeOutcome, VolumeOutcome};

/// How an action ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Outcome {
    /// It succeeded and has nothing to tell.
    Done,
    /// The object it was about does not exist (any more).
    Gone,
    /// It was stopped because the core asked for it.
    Cancelled,
    /// It failed.
    Failed(Failure),
    /// What the runtime has told.
    Runtime(RuntimeOutcome),
    /// The pod's cgroup is there and has this.
    Cgroup(CgroupObservation),
    /// What the cgroups of pods have, without those that cannot be read.
    PodCgroups(Vec<(PodUid, CgroupObservation)>),
    /// What the node has left.
    Sampled(Sample),
    /// What pods use.
    PodUsages(PodUsages),
    /// What came of an image.
    Image(ImageOutcome),
    /// What came of a pod's volumes.
    Volume(VolumeOutcome),
    /// What the probe said.
    Probed(ProbeOutcome),
    /// What the API server has told.
    Api(ApiOutcome),
    /// What a plugin has told.
    Plugin(PluginOutcome),
}

impl Outcome {
    /// Whether what was to go is gone.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Done | Self::Gone)
    }
}

/// Why an action failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The stage at which it did, where the core acts or reports differently by it.
    pub kind: FailureKind,
    /// Text for people: the operation, the object, the cause.
    pub message: String,
}

/// Stages and causes the core tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// Any other: it has not happened.
    Other,
    /// Nobody knows whether it has happened, and it may still.
    Uncertain,
    /// The same, as another call about the same thing is under way.
    Busy,
    /// It was not even begun: a driver was not called, and all is as it was.
    NotBegun,
    /// A driver does not do it as long as the volume is in use.
    InUse,
    /// The API server does not accept it, and would not if it were asked again.
    Rejected,
    /// The runtime could not be reached.
    RuntimeUnavailable,
    /// The sandbox was made, and the runtime cannot tell of it.
    SandboxStatus,
    /// The pod's folders cannot be made.
    PodFolders,
    /// The image's name cannot be parsed.
    InvalidImageName,
    /// The registry could not be reached.
    RegistryUnavailable,
    /// The image's signature is not accepted.
    SignatureInvalid,
    /// A container cannot be created as its pod asks: a referenced object is missing, or its
    /// security context contradicts the image.
    ContainerConfig,
    /// The runtime refused to create the container.
    ContainerCreate,
    /// The runtime created the container and could not start it.
    ContainerStart,
}

impl FailureKind {
    /// The reason a container waits with after its image could not be pulled.
    pub fn pull_reason(self) -> &'static str {
        match self {
            Self::InvalidImageName => waiting::INVALID_IMAGE_NAME,
            Self::RegistryUnavailable => waiting::REGISTRY_UNAVAILABLE,
            Self::SignatureInvalid => waiting::SIGNATURE_VALIDATION_FAILED,
            _ => waiting::ERR_IMAGE_PULL,
        }
    }

    /// The reason a container waits with after it could not be started.
    pub fn start_reason(self) -> &'static str {
        match self {
            Self::ContainerConfig => waiting::CREATE_CONTAINER_CONFIG_ERROR,
            Self::ContainerStart => waiting::RUN_CONTAINER_ERROR,
            _ => waiting::CREATE_CONTAINER_ERROR,
        }
    }
}
