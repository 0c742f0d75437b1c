//! The targets of a measurement: told by the caller for each question, never kept as a second list of pods.

use std::path::PathBuf;

use jiff::Timestamp;
use model::storage::CsiDriver;
use model::{ContainerId, PodKey, PodUid, SandboxId};

use crate::document::PvcReference;

/// A pod with at least one running container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodTarget {
    /// Its uid, which is also that of its sandbox.
    pub uid: PodUid,
    /// Its name.
    pub key: PodKey,
    /// Its control group below the hierarchies' roots; `None` where pods have none of their own, or
    /// nobody knows any more which it was.
    pub group: Option<String>,
    /// Its sandbox.
    pub sandbox: SandboxId,
    /// When the sandbox was made.
    pub created_at: Timestamp,
    /// Its running containers.
    pub containers: Vec<ContainerTarget>,
    /// Its volumes that can be measured, in the order of the spec.
    pub volumes: Vec<VolumeTarget>,
    /// Its folder of logs, in which each container has one.
    pub log_dir: PathBuf,
    /// Its hosts file, which need not exist.
    pub hosts_file: PathBuf,
}

/// A running container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerTarget {
    /// Its id.
    pub id: ContainerId,
    /// Its name in the pod's spec.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeTarget {
    /// Its name in the pod's spec.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// How what it takes is found.
    pub measure: Measure,
    /// Whether it takes from the node's own storage.
    pub is_local_ephemeral: bool,
    /// The claim behind it.
    pub claim: Option<PvcReference>,
}

/// How it is found what a volume takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Its files are added up.
    Files,
    /// It is a file system of its own (`statfs`).
    FileSystem,
    /// Its CSI driver is asked (`NodeGetVolumeStats`).
    Driver {
        /// Which.
        driver: CsiDriver,
        /// What it calls the volume.
        handle: String,
    },
}

/// The node, as far as it does not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeTarget {
    /// Its name.
    pub name: String,
    /// `MemTotal`, bytes.
    pub memory_bytes: u64,
    /// Memory set aside for huge pages that does not count as available, bytes.
    pub huge_page_bytes: u64,
    /// `SwapTotal`, bytes.
    pub swap_bytes: u64,
    /// The kubelet's root folder, whose file system is the node's.
    pub root_dir: PathBuf,
    /// When the machine was started.
    pub booted_at: Timestamp,
    /// When the kubelet was started.
    pub kubelet_started: Timestamp,
    /// Whether the file system of writable layers is shown apart from that of images (`KubeletSeparateDiskGC`).
    pub shows_layers_apart: bool,
    /// Control groups that are reported as system containers.
    pub system_groups: Vec<SystemGroup>,
}

/// A control group that is not a pod's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemGroup {
    /// What it is for.
    pub role: SystemRole,
    /// Its path below the hierarchies' roots.
    pub group: String,
}

/// What system containers are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemRole {
    /// The kubelet itself.
    Kubelet,
    /// The container runtime.
    Runtime,
    /// `systemCgroups`.
    Misc,
    /// All pods.
    Pods,
}

impl SystemRole {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kubelet => "kubelet",
            Self::Runtime => "runtime",
            Self::Misc => "misc",
            Self::Pods => "pods",
        }
    }
}
