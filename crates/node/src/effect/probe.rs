//! What containers are asked: probes and lifecycle hooks.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use model::probe::ProbeKind;
use model::{ContainerId, Pod};
use serde::{Deserialize, Serialize};

use super::{ActionKind, Subject};

/// An action that a container's spec describes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum ProbeAction {
    /// Make one attempt of a probe. → `Probed`
    Attempt {
        /// The pod.
        #[serde(serialize_with = "super::as_version")]
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
    /// Run a lifecycle hook of a container. → `Done`
    Hook {
        /// The pod.
        #[serde(serialize_with = "super::as_version")]
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
}

impl ProbeAction {
    pub(super) fn kind(&self) -> ActionKind {
        match self {
            Self::Attempt { kind, .. } => ActionKind::Probe(*kind),
            Self::Hook { hook, .. } => ActionKind::RunHook(*hook),
        }
    }

    pub(super) fn pod(&self) -> &Arc<Pod> {
        match self {
            Self::Attempt { pod, .. } | Self::Hook { pod, .. } => pod,
        }
    }

    pub(super) fn subject(&self) -> Subject<'_> {
        match self {
            Self::Attempt { pod, container, id, .. } | Self::Hook { pod, container, id, .. } => {
                Subject { container: Some(container), container_id: Some(id), ..Subject::of(pod) }
            }
        }
    }

    pub(super) fn details(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hook { timeout: Some(timeout), .. } => write!(f, " within {timeout:?}"),
            _ => Ok(()),
        }
    }
}

/// Which lifecycle hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Hook {
    /// After the start; the container does not count as started before it returned.
    PostStart,
    /// Before SIGTERM, within the grace period.
    PreStop,
}
