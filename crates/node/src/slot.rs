//! The things that can be under way for one pod. One slot holds at most one action, which is
//! what keeps the core from starting anything twice.

use model::probe::ProbeKind;
use model::{ContainerId, SandboxId};

use crate::effect::Hook;

/// One kind of action, with what it is about where several may run beside each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Slot {
    Observe,
    Cgroup,
    Volumes,
    Image(String),
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
    Logs,
}

impl Slot {
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
