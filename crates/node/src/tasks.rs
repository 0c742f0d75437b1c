//! Who waits for the result of an action: a pod or a part of the node, and with which of its tasks. A task is under way
//! at most once, which is what keeps the core from starting anything twice.

use std::collections::BTreeMap;
use std::time::Duration;

use model::probe::ProbeKind;
use model::storage::{ClaimName, VolumeName};
use model::{ContainerId, ImageUse, PodUid, SandboxId};
use serde::{Deserialize, Serialize};

use crate::effect::{EffectId, Hook, StateFile};
use crate::pods::life::Phase;

/// Who waits for the result of an action.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Owner {
    /// A part of the node.
    Node(NodeTask),
    /// A mirror pod that no static pod stands behind, which is removed.
    StrayMirror(PodUid),
    /// What is written down for the next process.
    Checkpoint(StateFile),
    /// A state file on the disk itself.
    CheckpointSync(StateFile),
    /// A plugin's registration, by its socket.
    Plugin(String),
    /// A registered CSI driver that is asked again, by its name.
    CsiDriver(String),
    /// A claim on a volume that is read.
    Claim(ClaimName),
    /// A volume of a driver on the node.
    Volume(VolumeName),
    /// A volume of a driver in a pod.
    Publication(PodUid, VolumeName),
    /// A pod.
    Pod(PodUid, PodTask),
}

/// What a part of the node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum NodeTask {
    /// The full relist.
    Relist,
    /// The registration of the node.
    Register,
    /// The node's status.
    Status,
    /// The ranges of pods' addresses.
    PodCidr,
    /// The weight and the limits of the QoS classes.
    QosCgroups,
    /// What the Node and CSINode objects say of CSI drivers.
    CsiNode,
    /// What the cgroups of pods have.
    PodCgroups,
    /// The removal of images, or of records of their pulls.
    ImageGc,
    /// What the node has left, or what pods use.
    Eviction,
}

/// An action that was started and has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InFlight {
    /// Its number.
    pub(crate) id: EffectId,
    /// Since when, monotonic.
    pub(crate) since: Duration,
}

/// What is under way: the tasks of one pod, or, by their owners, those of no pod.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound(serialize = "T: Serialize", deserialize = "T: Deserialize<'de> + Ord"))]
pub(crate) struct Tasks<T> {
    #[serde(with = "crate::pairs")]
    open: BTreeMap<T, InFlight>,
}

/// Nothing is.
impl<T> Default for Tasks<T> {
    fn default() -> Self {
        Self { open: BTreeMap::new() }
    }
}

impl<T: Ord> Tasks<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(crate) fn is_open(&self, task: &T) -> bool {
        self.open.contains_key(task)
    }

    pub(crate) fn any(&self, is_meant: impl Fn(&T) -> bool) -> bool {
        self.open.keys().any(is_meant)
    }

    pub(crate) fn get(&self, task: &T) -> Option<InFlight> {
        self.open.get(task).copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&T, InFlight)> {
        self.open.iter().map(|(task, in_flight)| (task, *in_flight))
    }

    pub(crate) fn begin(&mut self, task: T, in_flight: InFlight) {
        self.open.insert(task, in_flight);
    }

    pub(crate) fn end(&mut self, task: &T) {
        self.open.remove(task);
        if self.open.is_empty() {
            // An emptied map keeps room for eleven tasks, and most pods have none for most of their lives.
            self.open = BTreeMap::new();
        }
    }
}

/// What is done for a pod, with what it is about where several may be under way beside each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum PodTask {
    Observe,
    Cgroup,
    Volumes,
    Image(ImageUse),
    Sandbox,
    StopSandbox(SandboxId),
    RemoveSandbox(SandboxId),
    Container(String),
    StopContainer(ContainerId),
    RemoveContainer(ContainerId),
    Hook(ContainerId, Hook),
    Probe(String, ProbeKind),
    Status,
    DeleteObject,
    Mirror,
    MirrorRemoval,
    TearDownVolumes,
    RemoveCgroup,
    Folder,
    Logs,
}

impl PodTask {
    /// Whether the action changes what the runtime holds of the pod, so that its end makes the
    /// last observation stale.
    pub(crate) fn is_change(&self) -> bool {
        matches!(
            self,
            Self::Sandbox
                | Self::StopSandbox(_)
                | Self::RemoveSandbox(_)
                | Self::Container(_)
                | Self::StopContainer(_)
                | Self::RemoveContainer(_)
        )
    }

    /// Whether a pod may be in this phase when the result comes: a pod has not ended before all is through that serves its
    /// running, or stops what ran.
    pub(crate) fn may_end_in(&self, phase: Phase) -> bool {
        match self {
            Self::Observe => true,
            Self::Cgroup
            | Self::Volumes
            | Self::Image(_)
            | Self::Sandbox
            | Self::StopSandbox(_)
            | Self::Container(_)
            | Self::StopContainer(_)
            | Self::Hook(_, Hook::PostStart)
            | Self::Probe(_, ProbeKind::Startup | ProbeKind::Liveness) => {
                matches!(phase, Phase::Running | Phase::Terminating)
            }
            Self::RemoveSandbox(_)
            | Self::RemoveContainer(_)
            | Self::Hook(_, Hook::PreStop)
            | Self::Probe(_, ProbeKind::Readiness)
            | Self::Status
            | Self::Mirror
            | Self::MirrorRemoval => phase != Phase::Admitting,
            // What ended may be found to run, and is ended again.
            Self::DeleteObject | Self::TearDownVolumes | Self::RemoveCgroup | Self::Folder | Self::Logs => {
                matches!(phase, Phase::Terminating | Phase::Terminated)
            }
        }
    }

    /// Whether a container may run, or have ended otherwise than was seen, once the action is done.
    pub(crate) fn may_change_containers(&self) -> bool {
        matches!(self, Self::Sandbox | Self::Container(_) | Self::StopContainer(_))
    }

    /// Whether the action serves the start or the running of a pod, and ends when the pod is to end.
    pub(crate) fn is_for_running(&self) -> bool {
        match self {
            Self::Cgroup | Self::Volumes | Self::Image(_) | Self::Sandbox | Self::Container(_) => true,
            Self::Hook(_, hook) => *hook == Hook::PostStart,
            Self::Probe(_, kind) => *kind != ProbeKind::Readiness,
            _ => false,
        }
    }
}
