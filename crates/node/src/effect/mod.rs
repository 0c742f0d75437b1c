//! What the core wants done. An effect is plain data: the shell that executes it adds sockets,
//! files and clocks, and reports back with exactly one [`Input::Finished`](crate::Input).
//!
//! Actions are listed here once. Which [kind](ActionKind) an action is of and [what it is about](Subject) is all that
//! log lines, spans, metrics and the histories of tests go by.
//!
//! An action carries all that the core knows and the action needs. It may start before the picture of the node that it
//! follows from is published, and may go on while others replace that; so nobody who carries one out looks there.

mod event;
mod kind;
mod subject;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node as ApiNode, NodeStatus, PodStatus};
use model::downward::PodFacts;
use model::probe::ProbeKind;
use model::{ContainerId, ImageRef, Pod, PodKey, PodUid, SandboxId};

pub use event::{EventObject, EventRecord};
pub use kind::ActionKind;
pub use subject::Subject;

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
        /// Its name.
        key: PodKey,
    },
    /// Weigh and limit the QoS classes by what their pods request together. → `Done`
    LimitClasses {
        /// What they request.
        amounts: ClassAmounts,
        /// The memory of the node.
        memory_bytes: u64,
    },
    /// Make every volume of the pod present and up to date. → `VolumesSynced`
    SyncVolumes {
        /// The pod.
        pod: Arc<Pod>,
        /// What its downward API files refer to, as far as known.
        facts: PodFacts,
    },
    /// Unmount and remove everything under the pod's folder. → `Done`
    TearDownVolumes {
        /// Which pod.
        uid: PodUid,
        /// Its name.
        key: PodKey,
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
    StartContainer {
        /// The pod.
        pod: Arc<Pod>,
        /// The container's name in the spec.
        container: String,
        /// The sandbox to put it in.
        sandbox: SandboxId,
        /// How many sandboxes the pod had before that one.
        sandbox_attempt: u32,
        /// The restart count it gets.
        attempt: u32,
        /// What it is made from.
        image: ImageRef,
        /// What its environment refers to.
        facts: PodFacts,
        /// The running container whose processes an ephemeral one shares (`targetContainerName`).
        target: Option<ContainerId>,
    },
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

impl Action {
    /// Which kind it is of.
    pub fn kind(&self) -> ActionKind {
        match self {
            Self::Relist => ActionKind::Relist,
            Self::Observe { .. } => ActionKind::Observe,
            Self::EnsureCgroup { .. } => ActionKind::EnsureCgroup,
            Self::RemoveCgroup { .. } => ActionKind::RemoveCgroup,
            Self::LimitClasses { .. } => ActionKind::LimitClasses,
            Self::SyncVolumes { .. } => ActionKind::SyncVolumes,
            Self::TearDownVolumes { .. } => ActionKind::TearDownVolumes,
            Self::InspectImage { .. } => ActionKind::InspectImage,
            Self::PullImage { .. } => ActionKind::PullImage,
            Self::RunSandbox { .. } => ActionKind::RunSandbox,
            Self::StopSandbox { .. } => ActionKind::StopSandbox,
            Self::RemoveSandbox { .. } => ActionKind::RemoveSandbox,
            Self::StartContainer { .. } => ActionKind::StartContainer,
            Self::StopContainer { .. } => ActionKind::StopContainer,
            Self::RemoveContainer { .. } => ActionKind::RemoveContainer,
            Self::RunHook { hook, .. } => ActionKind::RunHook(*hook),
            Self::Probe { kind, .. } => ActionKind::Probe(*kind),
            Self::WriteStatus { .. } => ActionKind::WriteStatus,
            Self::DeletePod { .. } => ActionKind::DeletePod,
            Self::CreateMirror { .. } => ActionKind::CreateMirror,
            Self::RemovePodLogs { .. } => ActionKind::RemovePodLogs,
            Self::SetPodCidr { .. } => ActionKind::SetPodCidr,
            Self::RegisterNode { .. } => ActionKind::RegisterNode,
            Self::WriteNodeStatus { .. } => ActionKind::WriteNodeStatus,
        }
    }

    /// The pod it carries.
    pub fn pod(&self) -> Option<&Arc<Pod>> {
        match self {
            Self::EnsureCgroup { pod }
            | Self::SyncVolumes { pod, .. }
            | Self::InspectImage { pod, .. }
            | Self::PullImage { pod, .. }
            | Self::RunSandbox { pod, .. }
            | Self::StartContainer { pod, .. }
            | Self::RunHook { pod, .. }
            | Self::Probe { pod, .. }
            | Self::CreateMirror { pod, .. } => Some(pod),
            Self::Relist
            | Self::Observe { .. }
            | Self::RemoveCgroup { .. }
            | Self::LimitClasses { .. }
            | Self::TearDownVolumes { .. }
            | Self::StopSandbox { .. }
            | Self::RemoveSandbox { .. }
            | Self::StopContainer { .. }
            | Self::RemoveContainer { .. }
            | Self::WriteStatus { .. }
            | Self::DeletePod { .. }
            | Self::RemovePodLogs { .. }
            | Self::SetPodCidr { .. }
            | Self::RegisterNode { .. }
            | Self::WriteNodeStatus { .. } => None,
        }
    }

    /// What it is about.
    pub fn subject(&self) -> Subject<'_> {
        match self {
            Self::Relist
            | Self::LimitClasses { .. }
            | Self::SetPodCidr { .. }
            | Self::RegisterNode { .. }
            | Self::WriteNodeStatus { .. } => Subject::default(),
            Self::EnsureCgroup { pod }
            | Self::SyncVolumes { pod, .. }
            | Self::RunSandbox { pod, .. }
            | Self::CreateMirror { pod, .. } => Subject::of(pod),
            Self::InspectImage { pod, container }
            | Self::PullImage { pod, container }
            | Self::StartContainer { pod, container, .. } => {
                Subject { container: Some(container), ..Subject::of(pod) }
            }
            Self::RunHook { pod, container, id, .. } | Self::Probe { pod, container, id, .. } => {
                Subject { container: Some(container), container_id: Some(id), ..Subject::of(pod) }
            }
            Self::Observe { uid, key }
            | Self::RemoveCgroup { uid, key }
            | Self::TearDownVolumes { uid, key }
            | Self::WriteStatus { uid, key, .. }
            | Self::DeletePod { uid, key }
            | Self::RemovePodLogs { uid, key } => Subject::named(uid, key),
            Self::StopSandbox { uid, key, id } | Self::RemoveSandbox { uid, key, id } => {
                Subject { sandbox_id: Some(id), ..Subject::named(uid, key) }
            }
            Self::StopContainer { uid, key, container, id, .. }
            | Self::RemoveContainer { uid, key, container, id, .. } => {
                Subject { container: Some(container), container_id: Some(id), ..Subject::named(uid, key) }
            }
        }
    }
}

/// As histories of tests name it: its kind, its subject, and what tells one of several from the others.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.kind(), self.subject())?;
        match self {
            Self::LimitClasses { amounts, .. } => write!(f, " by {amounts:?}"),
            Self::RunSandbox { attempt, .. } => write!(f, " attempt {attempt}"),
            Self::StartContainer { attempt, sandbox, .. } => write!(f, " attempt {attempt} in {sandbox}"),
            Self::StopContainer { grace, .. } => write!(f, " within {grace:?}"),
            Self::RunHook { timeout: Some(timeout), .. } => write!(f, " within {timeout:?}"),
            Self::SetPodCidr { pod_cidr } => write!(f, " {pod_cidr}"),
            _ => Ok(()),
        }
    }
}

/// Which lifecycle hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// After the start; the container does not count as started before it returned.
    PostStart,
    /// Before SIGTERM, within the grace period.
    PreStop,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_tells_its_kind_its_subject_and_its_own_details() {
        let pod: Pod =
            serde_json::from_str(r#"{"metadata":{"name":"web","namespace":"ns","uid":"u"}}"#).unwrap();
        let pod = Arc::new(pod);
        let (uid, key, grace) = (PodUid::from("u"), PodKey::new("ns", "web"), Duration::from_secs(5));
        for (action, text) in [
            (Action::Relist, "list pods of the runtime"),
            (Action::EnsureCgroup { pod: pod.clone() }, "make cgroup of pod u"),
            (Action::PullImage { pod, container: "a".into() }, "pull image u/a"),
            (
                Action::StopSandbox { uid: uid.clone(), key: key.clone(), id: "s".into() },
                "stop pod sandbox u s",
            ),
            (
                Action::StopContainer {
                    uid,
                    key,
                    container: "a".into(),
                    id: "c".into(),
                    sandbox: "s".into(),
                    grace,
                },
                "stop container u/a c within 5s",
            ),
        ] {
            assert_eq!(action.to_string(), text);
        }
    }
}
