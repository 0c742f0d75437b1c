//! What the container runtime was seen to hold, in our own words: protobuf types stop at the
//! adapter that fills these in.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::pod::{self, ContainerKind};
use crate::{ContainerId, ImageRef, Pod, PodKey, PodUid, SandboxId};

/// Everything the runtime holds of one pod at one moment: the unit in which the core compares
/// "is" with "should be".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodObservation {
    /// The pod, from the `io.kubernetes.pod.uid` label.
    pub uid: PodUid,
    /// The pod's namespace and name, from its labels.
    pub key: PodKey,
    /// Newest first (by attempt, then creation).
    pub sandboxes: Vec<SandboxObservation>,
    /// Newest first (by attempt, then creation).
    pub containers: Vec<ContainerObservation>,
}

/// What a pod's cgroup has, read from the kernel; `None` for what is not limited, or cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupObservation {
    /// Weight as `cpu.shares`, 2 to 262144.
    pub cpu_shares: Option<u64>,
    /// CPU time, thousandths of a processor.
    pub cpu_limit_millis: Option<u64>,
    /// Memory, bytes.
    pub memory_limit_bytes: Option<u64>,
}

/// One pod sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxObservation {
    /// Its id.
    pub id: SandboxId,
    /// `metadata.attempt`: how many sandboxes this pod had before.
    pub attempt: u32,
    /// Whether the runtime calls it `SANDBOX_READY`.
    pub is_ready: bool,
    /// When it was created.
    pub created_at: Timestamp,
    /// Addresses, primary first. Empty in a relist (only a status carries them) and for pods
    /// in the host's network.
    pub ips: Vec<String>,
}

/// One container, running or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerObservation {
    /// Its id.
    pub id: ContainerId,
    /// The sandbox it belongs to.
    pub sandbox_id: SandboxId,
    /// The name in the pod's spec.
    pub name: String,
    /// `metadata.attempt`, which the node uses as the restart count.
    pub attempt: u32,
    /// Where it is in its life.
    pub state: ContainerState,
    /// When it was created.
    pub created_at: Timestamp,
    /// Annotation `io.kubernetes.container.hash`: which spec it was made from. Absent when the
    /// container was not made by a kubelet.
    pub spec_hash: Option<u64>,
    /// The image as the user asked for it. Empty in a relist.
    pub image: String,
    /// The image's digest reference, CRI's `image_ref`, for `status.containerStatuses[].imageID`.
    /// Empty in a relist.
    pub image_id: String,
    /// The image of the node that it is made from. `None` in a relist.
    #[serde(default)]
    pub image_used: Option<ImageRef>,
    /// Annotation `io.kubernetes.pod.terminationGracePeriod`, seconds: how to end a pod whose
    /// spec is gone.
    pub pod_grace_seconds: Option<u64>,
    /// Resources the runtime reports as applied; `None` when it reports none.
    pub resources: Option<ContainerResources>,
    /// User the first process runs as, when the runtime reports it (Linux uid, gid, supplemental).
    pub user: Option<ContainerUser>,
    /// The signal that ends it, as the API spells it (`SIGTERM`); `None` when the runtime does not
    /// say, or feature gate `ContainerStopSignals` is off.
    pub stop_signal: Option<String>,
    /// Where in the container mounts are read-only with all that is below them. Empty in a relist.
    pub recursive_read_only: Vec<String>,
    /// The images that are mounted in it. Empty in a relist.
    pub image_mounts: Vec<ImageMountObservation>,
}

/// An image mounted in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageMountObservation {
    /// Where in the container.
    pub container_path: String,
    /// Which image.
    pub image: ImageRef,
}

impl ContainerObservation {
    /// The images that it keeps on the node: its own, and those that are mounted in it.
    pub fn images(&self) -> impl Iterator<Item = &ImageRef> {
        self.image_used.iter().chain(self.image_mounts.iter().map(|mount| &mount.image))
    }

    /// A container of which no more is told than this, made at the beginning of time as the first of its name.
    pub fn bare(
        id: ContainerId,
        sandbox_id: SandboxId,
        name: impl Into<String>,
        state: ContainerState,
    ) -> Self {
        Self {
            id,
            sandbox_id,
            name: name.into(),
            attempt: 0,
            state,
            created_at: Timestamp::UNIX_EPOCH,
            spec_hash: None,
            image: String::new(),
            image_id: String::new(),
            image_used: None,
            pod_grace_seconds: None,
            resources: None,
            user: None,
            stop_signal: None,
            recursive_read_only: Vec::new(),
            image_mounts: Vec::new(),
        }
    }
}

/// Linux limits as the runtime applied them (CRI `LinuxContainerResources`).
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ContainerResources {
    /// CPU shares; 0 means not set.
    pub cpu_shares: i64,
    /// CFS quota in microseconds a period; 0 or negative means none.
    pub cpu_quota: i64,
    /// CFS period in microseconds.
    pub cpu_period: i64,
    /// Memory limit in bytes; 0 means none.
    pub memory_limit_bytes: i64,
}

/// Identity of a container's first process (CRI `ContainerUser.linux`).
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ContainerUser {
    /// User id.
    pub uid: i64,
    /// Primary group id.
    pub gid: i64,
    /// Supplementary group ids.
    pub supplemental_groups: Vec<i64>,
}

/// Where a container is in its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Created and not started: what a crash between the two calls leaves.
    Created,
    /// Its first process runs.
    Running {
        /// Absent in a relist, where the runtime does not say.
        started_at: Option<Timestamp>,
    },
    /// It ended.
    Exited(ContainerExit),
    /// The runtime lost track of it.
    Unknown,
}

/// How a container ended. A relist knows only *that* it ended: then every field is its default.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ContainerExit {
    /// Exit status of the first process; 128 + signal when a signal ended it.
    pub exit_code: i32,
    /// Signal number, 0 when none is reported.
    pub signal: i32,
    /// The runtime's word for it: `Completed`, `Error`, `OOMKilled`, ….
    pub reason: String,
    /// The runtime's message, or the termination message the container wrote.
    pub message: String,
    /// When it started; `None` when it never did.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

impl ContainerState {
    /// Whether its process runs.
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Running { .. })
    }

    /// Whether the two states name the same stage. A relist and a status of the same container
    /// differ in detail and agree in this.
    pub fn is_same_stage(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl PodObservation {
    /// A pod of which the runtime holds nothing.
    pub fn empty(uid: PodUid, key: PodKey) -> Self {
        Self { uid, key, sandboxes: Vec::new(), containers: Vec::new() }
    }

    /// The newest container of that name.
    pub fn latest(&self, name: &str) -> Option<&ContainerObservation> {
        self.containers.iter().find(|c| c.name == name)
    }

    /// The newest sandbox that is ready.
    pub fn ready_sandbox(&self) -> Option<&SandboxObservation> {
        self.sandboxes.iter().find(|s| s.is_ready)
    }

    /// Whether any container's process runs.
    pub fn has_running_container(&self) -> bool {
        self.containers.iter().any(|c| c.state.is_running())
    }

    /// Whether the pod got past its init containers, as far as can be seen: a regular container was made, in this
    /// sandbox if one is named.
    pub fn is_initialized(&self, pod: &Pod, sandbox: Option<&SandboxId>) -> bool {
        pod::containers(pod).filter(|c| c.kind == ContainerKind::Regular).any(|c| {
            let mut made = self.containers.iter().filter(|held| held.name == c.spec.name);
            made.any(|held| sandbox.is_none_or(|id| held.sandbox_id == *id))
        })
    }

    /// Restores the order that [`PodObservation::latest`] relies on.
    pub fn sort(&mut self) {
        self.sandboxes.sort_by_key(|s| std::cmp::Reverse((s.attempt, s.created_at)));
        self.containers.sort_by_key(|c| std::cmp::Reverse((c.attempt, c.created_at)));
    }
}

/// One condition of the runtime's own `Status` answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeCondition {
    /// Whether it holds.
    pub is_met: bool,
    /// CamelCase reason.
    pub reason: String,
    /// Text for people.
    pub message: String,
}

/// What the runtime says of itself (CRI `Version` and `Status`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeHealth {
    /// `RuntimeReady`.
    pub runtime: RuntimeCondition,
    /// `NetworkReady`.
    pub network: RuntimeCondition,
    /// Runtime handlers with the features each supports, in the runtime's order.
    pub handlers: Vec<RuntimeHandler>,
    /// What it supports, whichever handler.
    pub features: RuntimeFeatures,
}

/// What a runtime supports, whichever handler (CRI `RuntimeFeatures`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeFeatures {
    /// Strict supplemental groups.
    pub has_supplemental_groups_policy: bool,
    /// A user namespace of a pod's own on the host's network.
    pub has_users_on_host_network: bool,
    /// `noexec`, `nodev` and `nosuid` of single mounts.
    pub has_mount_options: bool,
}

/// One runtime handler (`node.status.runtimeHandlers[]`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeHandler {
    /// Name; empty for the default handler.
    pub name: String,
    /// Supports `recursiveReadOnly` mounts.
    pub has_recursive_read_only_mounts: bool,
    /// Supports user namespaces.
    pub has_user_namespaces: bool,
}
