//! What the core is told. Everything that can happen to a node arrives as one of these, through
//! one bounded inbox, and nothing else changes the core.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node as ApiNode;
use model::probe::ProbeOutcome;
use model::references::ObjectName;
use model::{
    ContainerId, ContainerObservation, ImageRef, Pod, PodObservation, PodUid, RuntimeHealth,
    SandboxObservation,
};

use crate::effect::EffectId;
use crate::node_status::NodeFacts;
use crate::pressure::Observations;

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The complete set of pods of a source, as of now: after a start, and after every re-list.
    PodsListed {
        /// Whose.
        source: Source,
        /// All of them.
        pods: Vec<Arc<Pod>>,
    },
    /// A pod is new or changed.
    PodApplied {
        /// Whose.
        source: Source,
        /// Its newest version.
        pod: Arc<Pod>,
    },
    /// A pod is gone from its source.
    PodDeleted {
        /// Whose.
        source: Source,
        /// Which.
        uid: PodUid,
    },
    /// The runtime says something happened. A hint, not a fact: the core reads the pod again.
    RuntimeHint {
        /// The pod.
        uid: PodUid,
        /// The container or sandbox.
        container: ContainerId,
        /// What is said to have happened to it.
        change: RuntimeChange,
    },
    /// Whether the runtime's event stream is up. While it is not, the core relists often.
    EventStream {
        /// Up or down.
        is_connected: bool,
    },
    /// The runtime's answer to `Status`, or why there was none.
    RuntimeHealth(Result<RuntimeHealth, String>),
    /// An action ended.
    Finished {
        /// Which.
        id: EffectId,
        /// How.
        outcome: Outcome,
    },
    /// The own Node object as the API server holds it now.
    NodeObject(Arc<ApiNode>),
    /// What the node is and has, measured again.
    NodeFacts(Box<NodeFacts>),
    /// What the node has left of what it can run short of, measured again.
    Observations(Observations),
    /// A ConfigMap or Secret that pods refer to changed.
    ObjectChanged(ObjectName),
    /// So many of them changed that they cannot be named one by one.
    ManyObjectsChanged,
    /// Pods of which something was found on disk or in the cgroup tree at start.
    FoundOnHost {
        /// Their uids.
        pods: Vec<PodUid>,
    },
    /// A deadline passed; carries nothing, since the time is an argument of the step.
    Tick,
}

/// Where pods come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The API server.
    Api,
    /// The static pod folder.
    File,
    /// The static pod URL.
    Http,
}

impl Source {
    /// Upstream's word for it, in events and in the annotation `kubernetes.io/config.source`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::File => "file",
            Self::Http => "http",
        }
    }
}

/// What the runtime's event said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeChange {
    /// A container or sandbox was created.
    Created,
    /// It started.
    Started,
    /// It ended.
    Stopped,
    /// It was removed.
    Deleted,
}

/// How an action ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It succeeded and has nothing to tell.
    Done,
    /// A write went through; the object has this version now.
    Written {
        /// `metadata.resourceVersion`, which orders versions of one kind of object (KEP-5504).
        version: u64,
    },
    /// The object it was about does not exist (any more).
    Gone,
    /// It was stopped because the core asked for it.
    Cancelled,
    /// It failed.
    Failed(Failure),
    /// All pods' outlines.
    Relisted(Vec<PodObservation>),
    /// One pod's details.
    Observed(PodObservation),
    /// Some volumes are not as they should be: their names, and why.
    VolumesFailed(Vec<(String, String)>),
    /// Volumes are as they should be.
    VolumesSynced {
        /// When to look again although nothing changed, because a token grows old.
        refresh_after: Option<Duration>,
    },
    /// What there is of an image.
    Image(ImageAnswer),
    /// The image is there now.
    Pulled {
        /// What to create containers from.
        image: ImageRef,
        /// Its size.
        size_bytes: u64,
        /// Time the pull itself took.
        took: Duration,
        /// The same with the wait for other pulls.
        took_with_wait: Duration,
    },
    /// The sandbox is there.
    SandboxStarted(SandboxObservation),
    /// The container is there.
    ContainerStarted(ContainerObservation),
    /// The container has ended; `None` when it is gone altogether.
    ContainerStopped(Option<ContainerObservation>),
    /// What the probe said.
    Probed(ProbeOutcome),
    /// The Node object as the API server holds it.
    Registered(Arc<ApiNode>),
}

impl Outcome {
    /// Whether what was to go is gone.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Done | Self::Gone)
    }
}

/// What there is of an image, for the pod it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageAnswer {
    /// Nothing.
    Absent,
    /// It is there; who may use it is not looked into.
    Present(ImageRef),
    /// It is there, and this pod may use it.
    Accessible(ImageRef),
    /// Only a pull with the pod's credentials tells whether it may use what may be there.
    Unproven,
}

/// Why an action failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The stage at which it did, where the core acts or reports differently by it.
    pub kind: FailureKind,
    /// Text for people: the operation, the object, the cause.
    pub message: String,
}

/// Stages and causes the core tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// Any other.
    Other,
    /// The runtime could not be reached.
    RuntimeUnavailable,
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
