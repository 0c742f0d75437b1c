//! What is done on the node itself: cgroups and folders.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use model::{AllocatedPod, Pod, PodKey, PodUid, QosClass, Signal};
use serde::{Deserialize, Serialize};

use super::{ActionKind, Subject};
use crate::eviction::PodToMeasure;

/// An action on the node's own cgroups and folders.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum HostAction {
    /// Make the pod's cgroup with its limits, and read what it has. → `Cgroup`, or `Done` where pods have none
    EnsureCgroup {
        /// The pod whose requests and limits apply.
        #[serde(serialize_with = "super::as_version")]
        pod: AllocatedPod,
    },
    /// Read what the cgroups of these pods have. → `PodCgroups`
    ReadPodCgroups {
        /// Which pods, each with the class its cgroup is in.
        pods: Vec<(PodUid, QosClass)>,
    },
    /// Remove the pod's cgroup and whatever process is left in it. → `Done`
    RemoveCgroup {
        /// Which pod.
        uid: PodUid,
        /// Its name.
        key: PodKey,
    },
    /// Update the weight and limits of the QoS classes' cgroups by what their pods request together. → `Done`
    UpdateQosCgroups {
        /// What they request.
        amounts: QosAmounts,
        /// The memory of the node.
        memory_bytes: u64,
    },
    /// Remove the log folder of a pod that is gone. → `Done`
    RemovePodLogs {
        /// Which pod.
        uid: PodUid,
        /// Its name, which is part of the folder's.
        key: PodKey,
    },
    /// Measure what the node has left. → `Sampled`
    TakeSample,
    /// Measure what these pods use now. → `PodUsages`
    MeasurePods {
        /// Which pods.
        pods: Vec<PodToMeasure>,
        /// Whether their files are added up, which takes longest.
        with_files: bool,
        /// The signals for which one of them is to go, and how old the last measurement of each is.
        ages: BTreeMap<Signal, Duration>,
    },
}

impl HostAction {
    pub(super) fn kind(&self) -> ActionKind {
        match self {
            Self::EnsureCgroup { .. } => ActionKind::EnsureCgroup,
            Self::ReadPodCgroups { .. } => ActionKind::ReadPodCgroups,
            Self::RemoveCgroup { .. } => ActionKind::RemoveCgroup,
            Self::UpdateQosCgroups { .. } => ActionKind::UpdateQosCgroups,
            Self::RemovePodLogs { .. } => ActionKind::RemovePodLogs,
            Self::TakeSample => ActionKind::TakeSample,
            Self::MeasurePods { .. } => ActionKind::MeasurePods,
        }
    }

    pub(super) fn pod(&self) -> Option<&Arc<Pod>> {
        match self {
            Self::EnsureCgroup { pod } => Some(pod.shared()),
            Self::ReadPodCgroups { .. }
            | Self::RemoveCgroup { .. }
            | Self::UpdateQosCgroups { .. }
            | Self::RemovePodLogs { .. }
            | Self::TakeSample
            | Self::MeasurePods { .. } => None,
        }
    }

    pub(super) fn subject(&self) -> Subject<'_> {
        match self {
            Self::EnsureCgroup { pod } => Subject::of(pod),
            Self::RemoveCgroup { uid, key } | Self::RemovePodLogs { uid, key } => Subject::named(uid, key),
            Self::ReadPodCgroups { .. }
            | Self::UpdateQosCgroups { .. }
            | Self::TakeSample
            | Self::MeasurePods { .. } => Subject::default(),
        }
    }

    pub(super) fn details(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UpdateQosCgroups { amounts, .. } => write!(f, " by {amounts:?}"),
            Self::ReadPodCgroups { pods } => write!(f, " of {} pods", pods.len()),
            Self::MeasurePods { pods, .. } => write!(f, " of {} pods", pods.len()),
            _ => Ok(()),
        }
    }
}

/// What the pods of QoS classes request together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QosAmounts {
    /// Burstable pods: thousandths of a processor.
    pub burstable_cpu_millis: u64,
    /// Burstable pods: bytes of memory. 0 where [`Settings::limits_qos_memory`](crate::Settings) is off.
    pub burstable_memory_bytes: u64,
    /// Guaranteed pods: bytes of memory. Likewise.
    pub guaranteed_memory_bytes: u64,
}
