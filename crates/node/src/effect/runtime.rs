//! What the container runtime is asked for (CRI).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use model::downward::PodFacts;
use model::storage::PublishedVolume;
use model::{
    AllocatedPod, ContainerId, ContainerObservation, ImageRef, Pod, PodKey, PodObservation, PodUid,
    RuntimeHandler, SandboxId, SandboxObservation,
};
use serde::{Deserialize, Serialize};

use super::{ActionKind, Subject};

/// Why a pod that has run gets another sandbox. Told with the first attempt to start it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum SandboxLoss {
    /// The runtime holds none of it any more.
    Gone,
    /// The ones it holds are not ready.
    NotReady,
}

/// An action of the runtime on pods.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum RuntimeAction {
    /// Read, of all pods, which sandboxes and containers there are and in what stage.
    /// → [`RuntimeOutcome::Relisted`]
    Relist,
    /// Read everything the runtime holds of one pod. → `Observed`
    Observe {
        /// Which pod.
        uid: PodUid,
        /// Its name, for when the runtime holds nothing that would tell it.
        key: PodKey,
    },
    /// Create and start a sandbox, and read its status. → `SandboxStarted`
    RunSandbox {
        /// The pod.
        #[serde(serialize_with = "super::as_version")]
        pod: AllocatedPod,
        /// How many sandboxes the pod had before.
        attempt: u32,
        /// What became of the one before, where this one takes its place.
        loss: Option<SandboxLoss>,
        /// What runs it.
        handler: RuntimeHandler,
        /// Groups that the pod's volumes need.
        volume_groups: Vec<i64>,
    },
    /// Stop a sandbox with its network. → `Done`
    StopSandbox {
        /// The pod.
        uid: PodUid,
        /// The pod's name.
        key: PodKey,
        /// Which.
        id: SandboxId,
    },
    /// Remove a stopped sandbox with its containers. → `Done`
    RemoveSandbox {
        /// The pod.
        uid: PodUid,
        /// The pod's name.
        key: PodKey,
        /// Which.
        id: SandboxId,
    },
    /// Create and start a container, and read its status. → `ContainerStarted`
    StartContainer(Box<ContainerStart>),
    /// SIGTERM, wait, SIGKILL, then read its status. → `ContainerStopped`
    StopContainer {
        /// The pod it belongs to.
        uid: PodUid,
        /// The pod's name.
        key: PodKey,
        /// The container's name in the spec.
        container: String,
        /// Which.
        id: ContainerId,
        /// The sandbox it is in.
        sandbox: SandboxId,
        /// Time between the signals.
        grace: Duration,
    },
    /// Remove a container that is not running. → `Done`
    RemoveContainer {
        /// The pod it belongs to.
        uid: PodUid,
        /// The pod's name.
        key: PodKey,
        /// The container's name in the spec.
        container: String,
        /// Which.
        id: ContainerId,
        /// Its restart count, which is part of its log's name.
        attempt: u32,
        /// Its log stays, until the pod goes.
        keeps_log: bool,
    },
    /// Tell the runtime from which ranges pods get addresses. → `Done`
    SetPodCidr {
        /// One range, or one of each family, separated by a comma.
        pod_cidr: String,
    },
}

/// A container to start, with all that the core knows of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ContainerStart {
    /// The pod.
    #[serde(serialize_with = "super::as_version")]
    pub pod: AllocatedPod,
    /// The container's name in the spec.
    pub container: String,
    /// The sandbox to put it in.
    pub sandbox: SandboxId,
    /// How many sandboxes the pod had before that one.
    pub sandbox_attempt: u32,
    /// The restart count it gets.
    pub attempt: u32,
    /// What it is made from.
    pub image: ImageRef,
    /// Images that it mounts as volumes, by the names of the volumes.
    pub image_volumes: BTreeMap<String, ImageRef>,
    /// Volumes that were mounted for the pod one by one, by the names of the volumes.
    pub published_volumes: BTreeMap<String, PublishedVolume>,
    /// Groups that the pod's volumes need.
    pub volume_groups: Vec<i64>,
    /// What its environment refers to.
    pub facts: PodFacts,
    /// What runs the pod.
    pub handler: RuntimeHandler,
    /// The running container whose processes an ephemeral one shares (`targetContainerName`).
    pub target: Option<ContainerId>,
}

impl RuntimeAction {
    pub(super) fn kind(&self) -> ActionKind {
        match self {
            Self::Relist => ActionKind::Relist,
            Self::Observe { .. } => ActionKind::Observe,
            Self::RunSandbox { .. } => ActionKind::RunSandbox,
            Self::StopSandbox { .. } => ActionKind::StopSandbox,
            Self::RemoveSandbox { .. } => ActionKind::RemoveSandbox,
            Self::StartContainer { .. } => ActionKind::StartContainer,
            Self::StopContainer { .. } => ActionKind::StopContainer,
            Self::RemoveContainer { .. } => ActionKind::RemoveContainer,
            Self::SetPodCidr { .. } => ActionKind::SetPodCidr,
        }
    }

    pub(super) fn pod(&self) -> Option<&Arc<Pod>> {
        match self {
            Self::RunSandbox { pod, .. } => Some(pod.shared()),
            Self::StartContainer(start) => Some(start.pod.shared()),
            Self::Relist
            | Self::Observe { .. }
            | Self::StopSandbox { .. }
            | Self::RemoveSandbox { .. }
            | Self::StopContainer { .. }
            | Self::RemoveContainer { .. }
            | Self::SetPodCidr { .. } => None,
        }
    }

    pub(super) fn subject(&self) -> Subject<'_> {
        match self {
            Self::Relist | Self::SetPodCidr { .. } => Subject::default(),
            Self::Observe { uid, key } => Subject::named(uid, key),
            Self::RunSandbox { pod, .. } => Subject::of(pod),
            Self::StopSandbox { uid, key, id } | Self::RemoveSandbox { uid, key, id } => {
                Subject { sandbox_id: Some(id), ..Subject::named(uid, key) }
            }
            Self::StartContainer(start) => {
                Subject { container: Some(&start.container), ..Subject::of(&start.pod) }
            }
            Self::StopContainer { uid, key, container, id, .. }
            | Self::RemoveContainer { uid, key, container, id, .. } => {
                Subject { container: Some(container), container_id: Some(id), ..Subject::named(uid, key) }
            }
        }
    }

    pub(super) fn details(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RunSandbox { attempt, .. } => write!(f, " attempt {attempt}"),
            Self::StartContainer(start) => write!(f, " attempt {} in {}", start.attempt, start.sandbox),
            Self::StopContainer { grace, .. } => write!(f, " within {grace:?}"),
            Self::SetPodCidr { pod_cidr } => write!(f, " {pod_cidr}"),
            _ => Ok(()),
        }
    }
}

/// What the runtime has told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum RuntimeOutcome {
    /// All pods' outlines.
    Relisted(Vec<PodObservation>),
    /// One pod's details.
    Observed(PodObservation),
    /// The sandbox is there.
    SandboxStarted(SandboxObservation),
    /// The container is there.
    ContainerStarted(ContainerObservation),
    /// The container has ended; `None` when it is gone altogether.
    ContainerStopped(Option<ContainerObservation>),
}
