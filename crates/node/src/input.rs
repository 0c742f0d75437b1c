//! What the core is told. Everything that can happen to a node arrives as one of these, through
//! one bounded inbox, and nothing else changes the core.

mod restored;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node as ApiNode;
use model::references::ObjectName;
use model::storage::CsiDriverObject;
use model::{ContainerId, Pod, PodUid, RuntimeHealth, TrustSource};
use serde::{Deserialize, Serialize};

use crate::effect::{EffectId, Outcome};
use crate::node_status::NodeImage;
use crate::pressure::Sample;

pub use restored::{DamagedFile, Restored};

/// One thing that happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Input {
    /// What earlier processes have left on the node was looked for. Comes once; before that, nothing but reads is
    /// started.
    Restored(Box<Restored>),
    /// The complete set of pods of a source, as of now: after a start, and after every re-list.
    PodsListed {
        /// Whose.
        source: Source,
        /// All of them.
        pods: Vec<Arc<Pod>>,
    },
    /// A pod is new or changed.
    PodApplied {
        /// Whose.
        source: Source,
        /// Its newest version.
        pod: Arc<Pod>,
    },
    /// A pod is gone from its source.
    PodDeleted {
        /// Whose.
        source: Source,
        /// Which.
        uid: PodUid,
    },
    /// The runtime says something happened. A hint, not a fact: the core reads the pod again.
    RuntimeHint {
        /// The pod.
        uid: PodUid,
        /// The container or sandbox.
        container: ContainerId,
        /// What is said to have happened to it.
        change: RuntimeChange,
    },
    /// Whether the runtime's event stream is up. While it is not, the core relists often.
    EventStream {
        /// Up or down.
        is_connected: bool,
    },
    /// The runtime's answer to `Status`, or why there was none.
    RuntimeHealth(Result<RuntimeHealth, String>),
    /// An action ended.
    Finished {
        /// Which.
        id: EffectId,
        /// How.
        outcome: Outcome,
    },
    /// The own Node object as the API server holds it now.
    NodeObject(Arc<ApiNode>),
    /// The node's addresses, primary first; none where a cloud provider is to tell. `None` when they could not be found.
    NodeAddresses(Option<Vec<String>>),
    /// What the runtime calls itself.
    RuntimeVersion {
        /// Its name (`containerd`).
        name: String,
        /// Its version.
        version: String,
    },
    /// The RuntimeClasses of the cluster: the handlers they name, by their names.
    RuntimeClasses(BTreeMap<String, String>),
    /// The CSIDriver objects of the cluster: what decisions depend on, by the drivers' names.
    CsiDrivers(BTreeMap<String, CsiDriverObject>),
    /// The sockets that plugins have made to be registered by: all there are now, by their paths, each with a number that is
    /// another one when it was made anew.
    PluginSockets(BTreeMap<String, u64>),
    /// The images that the runtime has.
    Images(Vec<NodeImage>),
    /// What the node has left of what it can run short of, measured again.
    Sample(Sample),
    /// A ConfigMap or Secret that pods refer to changed.
    ObjectChanged(ObjectName),
    /// So many of them changed that they cannot be named one by one.
    ManyObjectsChanged,
    /// ClusterTrustBundles changed: what pods may ask for that has become different.
    TrustBundlesChanged(BTreeSet<TrustSource>),
    /// A certificate of this pod's own was issued, or will not be.
    PodCertificateChanged(PodUid),
    /// A deadline passed; carries nothing, since the time is an argument of the step.
    Tick,
}

/// Where pods come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Source {
    /// The API server.
    Api,
    /// The static pod folder.
    File,
    /// The static pod URL.
    Http,
}

impl Source {
    /// Upstream's word for it, in events and in the annotation `kubernetes.io/config.source`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::File => "file",
            Self::Http => "http",
        }
    }
}

/// What the runtime's event said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuntimeChange {
    /// A container or sandbox was created.
    Created,
    /// It started.
    Started,
    /// It ended.
    Stopped,
    /// It was removed.
    Deleted,
}
