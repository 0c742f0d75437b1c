//! What effects work with, one adapter for each of the core's ports: an effect carries what the core knows, and whoever
//! carries it out is given the adapter of its port and nothing else.

use std::path::PathBuf;
use std::sync::Arc;

use runtime::Runtime;
use telemetry::traces::Tracer;
use volumes::Volumes;

use super::action_log::ActionLog;
use super::api::Api;
use super::cgroups::NodeCgroups;
use super::containers::Containers;
use super::images::Images;
use super::measurements::Measurements;
use super::objects::ObjectPort;
use super::plugins::Plugins;
use super::pod_logs::PodLogs;
use super::probes::Probes;
use super::sandboxes::Sandboxes;
use super::storage::Storage;
use super::user_namespaces::UserNamespaces;

/// All of them. Only `start` builds this, and only the executor's one match takes it apart.
pub(crate) struct Adapters {
    pub(crate) runtime: RuntimeAdapter,
    pub(crate) images: Images,
    pub(crate) volumes: VolumeAdapter,
    pub(crate) storage: Storage,
    pub(crate) plugins: Plugins,
    pub(crate) host: HostAdapter,
    pub(crate) probes: Probes,
    pub(crate) api: ApiAdapter,
    /// The folder of state files.
    pub(crate) state_files: PathBuf,
    pub(crate) log: ActionLog,
    /// Makes spans of what is done for pods.
    pub(crate) tracer: Tracer,
}

/// For actions of the runtime.
pub(crate) struct RuntimeAdapter {
    pub(crate) runtime: Runtime,
    pub(crate) sandboxes: Arc<Sandboxes>,
    pub(crate) containers: Containers,
}

/// For actions on volumes.
pub(crate) struct VolumeAdapter {
    pub(crate) volumes: Arc<Volumes<ObjectPort>>,
    /// A pod's ids are free when its volumes are gone.
    pub(crate) user_namespaces: Arc<UserNamespaces>,
}

/// For actions on the host.
pub(crate) struct HostAdapter {
    pub(crate) cgroups: NodeCgroups,
    pub(crate) pod_logs: PodLogs,
    pub(crate) measurements: Measurements,
}

/// For requests to the API server.
pub(crate) struct ApiAdapter {
    pub(crate) api: Arc<Api>,
    /// Whether a node that may not create itself is looked for (not so with `KubeletRegistrationGetOnExistsOnly`).
    pub(crate) looks_when_forbidden: bool,
}
