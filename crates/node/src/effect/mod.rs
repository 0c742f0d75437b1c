//! What the core wants done. An effect is plain data: the shell that executes it adds sockets,
//! files and clocks, and reports back with exactly one [`Input::Finished`](crate::Input).
//!
//! Actions are listed here once, those of each port in a file of their own. Which [kind](ActionKind) an action is of and
//! [what it is about](Subject) is all that log lines, spans, metrics and the histories of tests go by.
//!
//! An action carries all that the core knows and the action needs. It may start before the picture of the node that it
//! follows from is published, and may go on while others replace that; so nobody who carries one out looks there.

mod api;
mod checkpoint;
mod event;
mod host;
mod image;
mod kind;
mod outcome;
mod plugin;
mod probe;
mod runtime;
mod storage;
mod subject;
mod volume;

use std::fmt;
use std::sync::Arc;

use model::Pod;
use serde::{Deserialize, Serialize, Serializer};

pub use api::{ApiAction, ApiOutcome};
pub use checkpoint::{CheckpointAction, CheckpointWrite, StateFile, Version};
pub use event::{EventObject, EventRecord};
pub use host::{HostAction, QosAmounts};
pub use image::{ImageAction, ImageAnswer, ImageOutcome, ImageQuestion, ImageRemovalCause};
pub use kind::{ActionKind, Worker};
pub use outcome::{Failure, FailureKind, Outcome};
pub use plugin::{CsiNodeInfo, PluginAction, PluginInfo, PluginOutcome};
pub use probe::{Hook, ProbeAction};
pub use runtime::{ContainerStart, RuntimeAction, RuntimeOutcome, SandboxLoss};
pub use storage::StorageAction;
pub use subject::Subject;
pub use volume::{VolumeAction, VolumeFailure, VolumeOutcome, VolumeStage};

/// Names one started action, so that its result finds the place that waits for it. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EffectId(pub u64);

/// One thing for the shell to do.
#[derive(Clone, Debug, PartialEq, Serialize)]
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

/// An action with a result, by the port that carries it out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Action {
    /// The container runtime.
    Runtime(RuntimeAction),
    /// Images.
    Image(ImageAction),
    /// Volumes.
    Volume(VolumeAction),
    /// Drivers of volumes.
    Storage(StorageAction),
    /// Plugins.
    Plugin(PluginAction),
    /// The node's own cgroups and folders.
    Host(HostAction),
    /// Containers, asked by probes and hooks.
    Probe(ProbeAction),
    /// The API server.
    Api(ApiAction),
    /// State files.
    Checkpoint(CheckpointAction),
}

impl Action {
    /// Which kind it is of.
    pub fn kind(&self) -> ActionKind {
        match self {
            Self::Runtime(action) => action.kind(),
            Self::Image(action) => action.kind(),
            Self::Volume(action) => action.kind(),
            Self::Storage(action) => action.kind(),
            Self::Plugin(action) => action.kind(),
            Self::Host(action) => action.kind(),
            Self::Probe(action) => action.kind(),
            Self::Api(action) => action.kind(),
            Self::Checkpoint(action) => action.kind(),
        }
    }

    /// The pod it carries.
    pub fn pod(&self) -> Option<&Arc<Pod>> {
        match self {
            Self::Runtime(action) => action.pod(),
            Self::Image(action) => action.pod(),
            Self::Volume(action) => action.pod(),
            Self::Storage(action) => action.pod(),
            Self::Host(action) => action.pod(),
            Self::Probe(action) => Some(action.pod()),
            Self::Api(action) => action.pod(),
            Self::Plugin(_) | Self::Checkpoint(_) => None,
        }
    }

    /// What it is about.
    pub fn subject(&self) -> Subject<'_> {
        match self {
            Self::Runtime(action) => action.subject(),
            Self::Image(action) => action.subject(),
            Self::Volume(action) => action.subject(),
            Self::Storage(action) => action.subject(),
            Self::Plugin(action) => action.subject(),
            Self::Host(action) => action.subject(),
            Self::Probe(action) => action.subject(),
            Self::Api(action) => action.subject(),
            Self::Checkpoint(_) => Subject::default(),
        }
    }
}

/// A pod in what effects are compared by: which version it is of, not all that is in it.
pub(crate) fn as_version<S: Serializer>(pod: &Pod, serializer: S) -> Result<S::Ok, S::Error> {
    let metadata = &pod.metadata;
    (&metadata.uid, &metadata.resource_version, metadata.generation).serialize(serializer)
}

/// As histories of tests name it: its kind, its subject, and what tells one of several from the others.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.kind(), self.subject())?;
        match self {
            Self::Runtime(action) => action.details(f),
            Self::Storage(action) => action.details(f),
            Self::Plugin(action) => action.details(f),
            Self::Host(action) => action.details(f),
            Self::Probe(action) => action.details(f),
            Self::Api(action) => action.details(f),
            Self::Checkpoint(action) => action.details(f),
            Self::Image(_) | Self::Volume(_) => Ok(()),
        }
    }
}

impl From<RuntimeAction> for Action {
    fn from(action: RuntimeAction) -> Self {
        Self::Runtime(action)
    }
}

impl From<ImageAction> for Action {
    fn from(action: ImageAction) -> Self {
        Self::Image(action)
    }
}

impl From<VolumeAction> for Action {
    fn from(action: VolumeAction) -> Self {
        Self::Volume(action)
    }
}

impl From<StorageAction> for Action {
    fn from(action: StorageAction) -> Self {
        Self::Storage(action)
    }
}

impl From<PluginAction> for Action {
    fn from(action: PluginAction) -> Self {
        Self::Plugin(action)
    }
}

impl From<HostAction> for Action {
    fn from(action: HostAction) -> Self {
        Self::Host(action)
    }
}

impl From<ProbeAction> for Action {
    fn from(action: ProbeAction) -> Self {
        Self::Probe(action)
    }
}

impl From<ApiAction> for Action {
    fn from(action: ApiAction) -> Self {
        Self::Api(action)
    }
}

impl From<CheckpointAction> for Action {
    fn from(action: CheckpointAction) -> Self {
        Self::Checkpoint(action)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::{PodKey, PodUid, RuntimeHandler};

    use super::*;

    #[test]
    fn an_action_tells_its_kind_its_subject_and_its_own_details() {
        let pod: Pod =
            serde_json::from_str(r#"{"metadata":{"name":"web","namespace":"ns","uid":"u"}}"#).unwrap();
        let pod = model::AllocatedPod::granted(Arc::new(pod));
        let (uid, key, grace) = (PodUid::from("u"), PodKey::new("ns", "web"), Duration::from_secs(5));
        for (action, text) in [
            (Action::from(RuntimeAction::Relist), "list pods of the runtime"),
            (HostAction::EnsureCgroup { pod: pod.clone() }.into(), "make cgroup of pod u"),
            (
                ImageAction::Pull {
                    pod,
                    used_by: model::ImageUse::Container("a".into()),
                    handler: RuntimeHandler::default(),
                }
                .into(),
                "pull image u/a",
            ),
            (
                RuntimeAction::StopSandbox { uid: uid.clone(), key: key.clone(), id: "s".into() }.into(),
                "stop pod sandbox u s",
            ),
            (
                RuntimeAction::StopContainer {
                    uid,
                    key,
                    container: "a".into(),
                    id: "c".into(),
                    sandbox: "s".into(),
                    grace,
                }
                .into(),
                "stop container u/a c within 5s",
            ),
        ] {
            assert_eq!(action.to_string(), text);
        }
    }
}
