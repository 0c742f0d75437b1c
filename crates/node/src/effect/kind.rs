//! The kinds of actions.

use std::fmt;

use model::probe::ProbeKind;

use super::{Hook, StateFile};

/// One kind of action. Whoever treats kinds differently matches on all of them, so that a new one is not forgotten.
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
    WriteStateFile(StateFile),
    SyncStateFile(StateFile),
}

/// What is done, in the imperative, as log lines and spans say it.
impl fmt::Display for ActionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Relist => "list pods of the runtime",
            Self::Observe => "read pod of the runtime",
            Self::EnsureCgroup => "make cgroup of pod",
            Self::ReadPodCgroups => "read cgroups of pods",
            Self::RemoveCgroup => "remove cgroup of pod",
            Self::UpdateQosCgroups => "update cgroups of QoS classes",
            Self::SyncVolumes => "mount volumes of pod",
            Self::TearDownVolumes => "unmount volumes of pod",
            Self::InspectImage => "inspect image",
            Self::PullImage => "pull image",
            Self::RunSandbox => "start pod sandbox",
            Self::StopSandbox => "stop pod sandbox",
            Self::RemoveSandbox => "remove pod sandbox",
            Self::StartContainer => "start container",
            Self::StopContainer => "stop container",
            Self::RemoveContainer => "remove container",
            Self::RunHook(Hook::PostStart) => "run postStart hook",
            Self::RunHook(Hook::PreStop) => "run preStop hook",
            Self::Probe(ProbeKind::Startup) => "probe startup",
            Self::Probe(ProbeKind::Liveness) => "probe liveness",
            Self::Probe(ProbeKind::Readiness) => "probe readiness",
            Self::WriteStatus => "write status of pod",
            Self::DeletePod => "remove pod from the API server",
            Self::CreateMirror => "create mirror of static pod",
            Self::RemovePodFolder => "remove directory of pod",
            Self::RemovePodLogs => "remove logs of pod",
            Self::SetPodCidr => "set pod CIDR of the runtime",
            Self::RegisterNode => "register node",
            Self::WriteNodeStatus => "write node status",
            Self::GetPluginInfo => "get info of plugin",
            Self::NotifyPlugin => "notify plugin of its registration",
            Self::GetCsiNodeInfo => "get node info from CSI driver",
            Self::WriteNodeMetadata => "write labels and annotations of node",
            Self::ReadCsiNode => "read CSINode",
            Self::WriteCsiNode => "write CSINode",
            Self::DeleteCsiNode => "delete CSINode",
            Self::ResolveClaim => "read claim on volume",
            Self::ReadAttachment => "read attachment of volume",
            Self::StageVolume => "make volume ready for the node",
            Self::UnstageVolume => "take volume from the node",
            Self::PublishVolume => "make volume available to pod",
            Self::UnpublishVolume => "take volume from pod",
            Self::WriteStateFile(file) => return write!(f, "write state file {}", file.name()),
            Self::SyncStateFile(file) => return write!(f, "sync state file {}", file.name()),
        })
    }
}
