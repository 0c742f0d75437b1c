//! The kinds of actions.

use std::fmt;

use model::probe::ProbeKind;

use super::{Hook, StateFile};

/// One kind of action. What log lines, spans and metrics make of it is in one list, its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is what the action of its name is")]
pub enum ActionKind {
    Relist,
    Observe,
    EnsureCgroup,
    ReadPodCgroups,
    RemoveCgroup,
    UpdateQosCgroups,
    SyncVolumes,
    TearDownVolumes,
    InspectImage,
    PullImage,
    RemoveImage,
    PruneImageRecords,
    RunSandbox,
    StopSandbox,
    RemoveSandbox,
    StartContainer,
    StopContainer,
    RemoveContainer,
    RunHook(Hook),
    Probe(ProbeKind),
    WriteStatus,
    DeletePod,
    CreateMirror,
    RemovePodFolder,
    RemovePodLogs,
    TakeSample,
    MeasurePods,
    SetPodCidr,
    RegisterNode,
    WriteNodeStatus,
    GetPluginInfo,
    NotifyPlugin,
    GetCsiNodeInfo,
    WriteNodeMetadata,
    ReadCsiNode,
    WriteCsiNode,
    DeleteCsiNode,
    ResolveClaim,
    ReadAttachment,
    StageVolume,
    UnstageVolume,
    PublishVolume,
    UnpublishVolume,
    GrowVolume,
    WriteStateFile(StateFile),
    SyncStateFile(StateFile),
}

/// The part of upstream's kubelet that does an action there, as spans and metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worker {
    /// A pod that is meant to run (`SyncPod`).
    Sync,
    /// A pod that is being ended (`SyncTerminatingPod`).
    SyncTerminating,
    /// A pod of which nothing runs any more (`SyncTerminatedPod`).
    SyncTerminated,
    /// The removal of dead containers and sandboxes.
    ContainerGc,
    /// The removal of images that nobody uses.
    ImageGc,
}

impl ActionKind {
    /// The one list of kinds: what is done, in the imperative; what has been done when it went well, if an operator wants to
    /// know without asking for details (the actions that make the story of a pod); and who does it upstream.
    #[rustfmt::skip]
    fn row(self) -> (&'static str, Option<&'static str>, Option<Worker>) {
        use Worker::{ContainerGc, ImageGc, Sync, SyncTerminated, SyncTerminating};
        match self {
            Self::Relist => ("list pods of the runtime", None, None),
            Self::Observe => ("read pod of the runtime", None, None),
            Self::EnsureCgroup => ("make cgroup of pod", None, Some(Sync)),
            Self::ReadPodCgroups => ("read cgroups of pods", None, None),
            Self::RemoveCgroup => ("remove cgroup of pod", None, Some(SyncTerminated)),
            Self::UpdateQosCgroups => ("update cgroups of QoS classes", None, None),
            Self::SyncVolumes => ("mount volumes of pod", None, Some(Sync)),
            Self::TearDownVolumes => ("unmount volumes of pod", None, Some(SyncTerminated)),
            Self::InspectImage => ("inspect image", None, Some(Sync)),
            Self::PullImage => ("pull image", Some("Pulled image"), Some(Sync)),
            Self::RemoveImage => ("remove image", Some("Removed image"), Some(ImageGc)),
            Self::PruneImageRecords => ("remove records of image pulls", None, Some(ImageGc)),
            Self::RunSandbox => ("start pod sandbox", Some("Started pod sandbox"), Some(Sync)),
            Self::StopSandbox => ("stop pod sandbox", Some("Stopped pod sandbox"), Some(SyncTerminating)),
            Self::RemoveSandbox => ("remove pod sandbox", None, Some(ContainerGc)),
            Self::StartContainer => ("start container", Some("Started container"), Some(Sync)),
            Self::StopContainer => ("stop container", Some("Stopped container"), Some(SyncTerminating)),
            Self::RemoveContainer => ("remove container", None, Some(ContainerGc)),
            Self::RunHook(Hook::PostStart) => ("run postStart hook", None, Some(Sync)),
            Self::RunHook(Hook::PreStop) => ("run preStop hook", None, Some(SyncTerminating)),
            Self::Probe(ProbeKind::Startup) => ("probe startup", None, None),
            Self::Probe(ProbeKind::Liveness) => ("probe liveness", None, None),
            Self::Probe(ProbeKind::Readiness) => ("probe readiness", None, None),
            Self::WriteStatus => ("write status of pod", None, Some(Sync)),
            Self::DeletePod => ("remove pod from the API server", Some("Removed pod from the API server"), Some(SyncTerminated)),
            Self::CreateMirror => ("create mirror of static pod", Some("Created mirror of static pod"), Some(Sync)),
            Self::RemovePodFolder => ("remove directory of pod", None, Some(SyncTerminated)),
            Self::RemovePodLogs => ("remove logs of pod", None, Some(SyncTerminated)),
            Self::TakeSample => ("measure what the node has left", None, None),
            Self::MeasurePods => ("measure what pods use", None, None),
            Self::SetPodCidr => ("set pod CIDR of the runtime", None, None),
            Self::RegisterNode => ("register node", Some("Successfully registered node"), None),
            Self::WriteNodeStatus => ("write node status", None, None),
            Self::GetPluginInfo => ("get info of plugin", None, None),
            Self::NotifyPlugin => ("notify plugin of its registration", None, None),
            Self::GetCsiNodeInfo => ("get node info from CSI driver", None, None),
            Self::WriteNodeMetadata => ("write labels and annotations of node", None, None),
            Self::ReadCsiNode => ("read CSINode", None, None),
            Self::WriteCsiNode => ("write CSINode", None, None),
            Self::DeleteCsiNode => ("delete CSINode", None, None),
            Self::ResolveClaim => ("read claim on volume", None, None),
            Self::ReadAttachment => ("read attachment of volume", None, None),
            Self::StageVolume => ("make volume ready for the node", None, None),
            Self::UnstageVolume => ("take volume from the node", None, None),
            Self::PublishVolume => ("make volume available to pod", None, None),
            Self::UnpublishVolume => ("take volume from pod", None, None),
            Self::GrowVolume => ("grow volume", None, None),
            Self::WriteStateFile(_) => ("write state file", None, None),
            Self::SyncStateFile(_) => ("sync state file", None, None),
        }
    }

    /// What has been done when it went well, if it is logged for everyone.
    pub fn done(self) -> Option<&'static str> {
        self.row().1
    }

    /// Which part of upstream's kubelet does this. Reading is no part of it: calls to the runtime have spans of their own.
    pub fn worker(self) -> Option<Worker> {
        self.row().2
    }
}

/// What is done, in the imperative, as log lines and spans say it.
impl fmt::Display for ActionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (words, ..) = self.row();
        match self {
            Self::WriteStateFile(file) | Self::SyncStateFile(file) => write!(f, "{words} {}", file.name()),
            _ => f.write_str(words),
        }
    }
}
