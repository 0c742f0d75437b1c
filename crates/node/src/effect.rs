//! What the core wants done. An effect is plain data: the shell that executes it adds sockets,
//! files and clocks, and reports back with exactly one [`Input::Finished`](crate::Input).

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node as ApiNode, NodeStatus, PodStatus};
use model::probe::ProbeKind;
use model::{ContainerId, ImageRef, Pod, PodKey, PodUid, SandboxId};

use crate::node_status::MetadataChange;

/// Names one started action, so that its result finds the place that waits for it. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EffectId(pub u64);

/// One thing for the shell to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Start this action in a task of its own; it ends in one `Finished` input with this id.
    Start {
        /// The action's name.
        id: EffectId,
        /// What to do.
        action: Action,
    },
    /// Stop that action as soon as possible. It still ends in one `Finished` input, which may
    /// report success when it was too late to stop it.
    Cancel(EffectId),
    /// Record a Kubernetes event. Fire and forget: nothing waits for it.
    Record(EventRecord),
}

/// What the pods of QoS classes request together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassAmounts {
    /// Burstable pods: thousandths of a processor.
    pub burstable_cpu_millis: u64,
    /// Burstable pods: bytes of memory. 0 where [`Settings::limits_class_memory`](crate::Settings) is off.
    pub burstable_memory_bytes: u64,
    /// Guaranteed pods: bytes of memory. Likewise.
    pub guaranteed_memory_bytes: u64,
}

/// An action with a result.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Read, of all pods, which sandboxes and containers there are and in what stage.
    /// → [`Outcome::Relisted`](crate::Outcome::Relisted)
    Relist,
    /// Read everything the runtime holds of one pod. → `Observed`
    Observe {
        /// Which pod.
        uid: PodUid,
        /// Its name, for when the runtime holds nothing that would tell it.
        key: PodKey,
    },
    /// Make the pod's cgroup with its limits. → `Done`
    EnsureCgroup {
        /// The pod whose requests and limits apply.
        pod: Arc<Pod>,
    },
    /// Remove the pod's cgroup and whatever process is left in it. → `Done`
    RemoveCgroup {
        /// Which pod.
        uid: PodUid,
    },
    /// Weigh and limit the QoS classes by what their pods request together. → `Done`
    LimitClasses {
        /// What they request.
        amounts: ClassAmounts,
    },
    /// Make every volume of the pod present and up to date. → `VolumesSynced`
    SyncVolumes {
        /// The pod.
        pod: Arc<Pod>,
        /// The pod's addresses as far as known, for downward API files.
        pod_ips: Vec<String>,
    },
    /// Unmount and remove everything under the pod's folder. → `Done`
    TearDownVolumes {
        /// Which pod.
        uid: PodUid,
    },
    /// Ask whether an image is present, and whether the pod may use it. → `Image`
    InspectImage {
        /// The pod it is for, whose runtime class decides the image's variant.
        pod: Arc<Pod>,
        /// The container it is for.
        container: String,
    },
    /// Pull an image with the pod's and the node's credentials. → `Pulled`
    PullImage {
        /// The pod it is for.
        pod: Arc<Pod>,
        /// The container it is for.
        container: String,
    },
    /// Create and start a sandbox, and read its status. → `SandboxStarted`
    RunSandbox {
        /// The pod.
        pod: Arc<Pod>,
        /// How many sandboxes the pod had before.
        attempt: u32,
    },
    /// Stop a sandbox with its network. → `Done`
    StopSandbox {
        /// The pod.
        uid: PodUid,
        /// Which.
        id: SandboxId,
    },
    /// Remove a stopped sandbox with its containers. → `Done`
    RemoveSandbox {
        /// The pod.
        uid: PodUid,
        /// Which.
        id: SandboxId,
    },
    /// Create and start a container, and read its status. → `ContainerStarted`
    StartContainer {
        /// The pod.
        pod: Arc<Pod>,
        /// The container's name in the spec.
        container: String,
        /// The sandbox to put it in.
        sandbox: SandboxId,
        /// The restart count it gets.
        attempt: u32,
        /// What it is made from.
        image: ImageRef,
        /// The pod's addresses, for its environment.
        pod_ips: Vec<String>,
    },
    /// SIGTERM, wait, SIGKILL, then read its status. → `ContainerStopped`
    StopContainer {
        /// The pod it belongs to.
        uid: PodUid,
        /// Which.
        id: ContainerId,
        /// Time between the signals.
        grace: Duration,
    },
    /// Remove a container that is not running. → `Done`
    RemoveContainer {
        /// The pod it belongs to.
        uid: PodUid,
        /// Which.
        id: ContainerId,
        /// Its log stays, until the pod goes.
        keeps_log: bool,
    },
    /// Run a lifecycle hook of a container. → `Done`
    RunHook {
        /// The pod.
        pod: Arc<Pod>,
        /// The container's name in the spec.
        container: String,
        /// The running container.
        id: ContainerId,
        /// Which hook.
        hook: Hook,
        /// Address for HTTP hooks.
        pod_ip: Option<String>,
        /// When to give up; `None` for as long as it takes.
        timeout: Option<Duration>,
    },
    /// Make one attempt of a probe. → `Probed`
    Probe {
        /// The pod.
        pod: Arc<Pod>,
        /// The container's name in the spec.
        container: String,
        /// The running container.
        id: ContainerId,
        /// Which probe.
        kind: ProbeKind,
        /// Address for network probes.
        pod_ip: Option<String>,
    },
    /// Write what changed of a pod's status. → `Written`, or `Gone` when there is no such pod
    WriteStatus {
        /// The API object's name.
        key: PodKey,
        /// The API object's uid: for a static pod its mirror's.
        uid: PodUid,
        /// What the API server is known to hold.
        old: Arc<PodStatus>,
        /// What it should hold.
        new: Arc<PodStatus>,
    },
    /// Remove a pod that has ended from the API server. → `Done`, or `Gone`
    DeletePod {
        /// The API object's name.
        key: PodKey,
        /// The API object's uid.
        uid: PodUid,
    },
    /// Create the mirror of a static pod. → `Done`
    CreateMirror {
        /// The static pod.
        pod: Arc<Pod>,
        /// The Node object, which owns the mirror.
        node_uid: String,
    },
    /// Remove the log folder of a pod that is gone. → `Done`
    RemovePodLogs {
        /// Which pod.
        uid: PodUid,
        /// Its name, which is part of the folder's.
        key: PodKey,
    },
    /// Tell the runtime from which ranges pods get addresses. → `Done`
    SetPodCidr {
        /// One range, or one of each family, separated by a comma.
        pod_cidr: String,
    },
    /// Create the Node object, or adopt the one that is there. → `Registered`
    RegisterNode {
        /// The object as this node would create it.
        node: Box<ApiNode>,
    },
    /// Write what changed of the node's status. → `Written`
    WriteNodeStatus {
        /// What the API server is known to hold.
        old: Arc<NodeStatus>,
        /// What it should hold.
        new: Arc<NodeStatus>,
        /// What of the object's labels and annotations is to be put right.
        metadata: MetadataChange,
    },
}

/// Which lifecycle hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// After the start; the container does not count as started before it returned.
    PostStart,
    /// Before SIGTERM, within the grace period.
    PreStop,
}

/// A Kubernetes event, before the recorder adds times, counts and the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRecord {
    /// What it is about.
    pub about: EventObject,
    /// Whether it is of type `Warning`; `Normal` otherwise.
    pub is_warning: bool,
    /// CamelCase reason.
    pub reason: &'static str,
    /// Text for people.
    pub message: String,
}

/// The object an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventObject {
    /// This node.
    Node,
    /// A pod.
    Pod {
        /// Its name.
        key: PodKey,
        /// Its uid.
        uid: PodUid,
        /// The part of it, such as `spec.containers{web}`.
        field_path: Option<String>,
    },
}

/// As log lines name it.
impl std::fmt::Display for EventObject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Node => f.write_str("node"),
            Self::Pod { key, field_path: None, .. } => write!(f, "pod {key}"),
            Self::Pod { key, field_path: Some(path), .. } => write!(f, "pod {key} {path}"),
        }
    }
}
