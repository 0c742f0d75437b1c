//! What is written to the API server.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node as ApiNode, NodeStatus, PodStatus};
use model::{Pod, PodKey, PodUid};

use super::{ActionKind, Subject};
use crate::node_status::MetadataChange;

/// An action on objects of the API server.
#[derive(Clone, Debug, PartialEq)]
pub enum ApiAction {
    /// Write what changed of a pod's status. → `Written`, or `Gone` when there is no such pod
    WriteStatus {
        /// The API object's name.
        key: PodKey,
        /// The API object's uid: for a static pod its mirror's.
        uid: PodUid,
        /// What the API server is known to hold.
        old: Arc<PodStatus>,
        /// What it should hold.
        new: Arc<PodStatus>,
    },
    /// Remove a pod that has ended from the API server. → `Done`, or `Gone`
    DeletePod {
        /// The API object's name.
        key: PodKey,
        /// The API object's uid.
        uid: PodUid,
    },
    /// Create the mirror of a static pod. → `Done`
    CreateMirror {
        /// The static pod.
        pod: Arc<Pod>,
        /// The Node object, which owns the mirror.
        node_uid: String,
    },
    /// Create the Node object, or adopt the one that is there. → `Registered`
    RegisterNode {
        /// The object as this node would create it.
        node: Box<ApiNode>,
    },
    /// Write what changed of the node's status. → `Written`
    WriteNodeStatus {
        /// What the API server is known to hold.
        old: Arc<NodeStatus>,
        /// What it should hold.
        new: Arc<NodeStatus>,
        /// What of the object's labels and annotations is to be put right.
        metadata: MetadataChange,
    },
}

impl ApiAction {
    pub(super) fn kind(&self) -> ActionKind {
        match self {
            Self::WriteStatus { .. } => ActionKind::WriteStatus,
            Self::DeletePod { .. } => ActionKind::DeletePod,
            Self::CreateMirror { .. } => ActionKind::CreateMirror,
            Self::RegisterNode { .. } => ActionKind::RegisterNode,
            Self::WriteNodeStatus { .. } => ActionKind::WriteNodeStatus,
        }
    }

    pub(super) fn pod(&self) -> Option<&Arc<Pod>> {
        match self {
            Self::CreateMirror { pod, .. } => Some(pod),
            Self::WriteStatus { .. }
            | Self::DeletePod { .. }
            | Self::RegisterNode { .. }
            | Self::WriteNodeStatus { .. } => None,
        }
    }

    pub(super) fn subject(&self) -> Subject<'_> {
        match self {
            Self::WriteStatus { uid, key, .. } | Self::DeletePod { uid, key } => Subject::named(uid, key),
            Self::CreateMirror { pod, .. } => Subject::of(pod),
            Self::RegisterNode { .. } | Self::WriteNodeStatus { .. } => Subject::default(),
        }
    }
}

/// What the API server has told.
#[derive(Clone, Debug)]
pub enum ApiOutcome {
    /// A write went through; the object has this version now.
    Written {
        /// `metadata.resourceVersion`, which orders versions of one kind of object (KEP-5504).
        version: u64,
    },
    /// The Node object as the API server holds it.
    Registered(Arc<ApiNode>),
}
