//! What is written to the API server.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerState, Node as ApiNode, NodeStatus, PodStatus};
use k8s_openapi::api::storage::v1::CSINode;
use model::storage::{ClaimAnswer, ClaimName};
use model::{MetadataChange, Pod, PodKey, PodUid};
use serde::{Deserialize, Serialize};

use super::{ActionKind, Subject};

/// An action on objects of the API server.
#[derive(Clone, Debug, PartialEq, Serialize)]
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
        #[serde(serialize_with = "super::as_version")]
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
    /// Write labels and annotations of the Node object. → `Node`
    WriteNodeMetadata {
        /// Which.
        metadata: MetadataChange,
    },
    /// Read the node's CSINode object. → `CsiNode`
    ReadCsiNode,
    /// Create the node's CSINode object, or replace the version that was read. → `CsiNode`
    WriteCsiNode {
        /// The object; one with a resource version is there.
        object: Box<CSINode>,
    },
    /// Delete a CSINode object that belongs to another Node of the same name. → `Done`, or `Gone`
    DeleteCsiNode {
        /// Its uid.
        uid: String,
    },
    /// Read a PersistentVolumeClaim, and the PersistentVolume that it is bound to. → `Claim`
    ResolveClaim {
        /// Which.
        claim: ClaimName,
    },
    /// Read what a VolumeAttachment says of an attached volume. → `Attachment`, or `Gone`
    ReadAttachment {
        /// Its name.
        name: String,
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
            Self::WriteNodeMetadata { .. } => ActionKind::WriteNodeMetadata,
            Self::ReadCsiNode => ActionKind::ReadCsiNode,
            Self::WriteCsiNode { .. } => ActionKind::WriteCsiNode,
            Self::DeleteCsiNode { .. } => ActionKind::DeleteCsiNode,
            Self::ResolveClaim { .. } => ActionKind::ResolveClaim,
            Self::ReadAttachment { .. } => ActionKind::ReadAttachment,
        }
    }

    pub(super) fn pod(&self) -> Option<&Arc<Pod>> {
        match self {
            Self::CreateMirror { pod, .. } => Some(pod),
            Self::WriteStatus { .. }
            | Self::DeletePod { .. }
            | Self::RegisterNode { .. }
            | Self::WriteNodeStatus { .. }
            | Self::WriteNodeMetadata { .. }
            | Self::ReadCsiNode
            | Self::WriteCsiNode { .. }
            | Self::DeleteCsiNode { .. }
            | Self::ResolveClaim { .. }
            | Self::ReadAttachment { .. } => None,
        }
    }

    pub(super) fn subject(&self) -> Subject<'_> {
        match self {
            Self::WriteStatus { uid, key, .. } | Self::DeletePod { uid, key } => Subject::named(uid, key),
            Self::CreateMirror { pod, .. } => Subject::of(pod),
            Self::RegisterNode { .. }
            | Self::WriteNodeStatus { .. }
            | Self::WriteNodeMetadata { .. }
            | Self::ReadCsiNode
            | Self::WriteCsiNode { .. }
            | Self::DeleteCsiNode { .. }
            | Self::ResolveClaim { .. }
            | Self::ReadAttachment { .. } => Subject::default(),
        }
    }

    pub(super) fn details(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WriteStatus { new, .. } => status(new, f),
            Self::WriteCsiNode { object } => {
                let names: Vec<&str> =
                    object.spec.drivers.iter().map(|driver| driver.name.as_str()).collect();
                write!(f, " with drivers [{}]", names.join(" "))
            }
            Self::ResolveClaim { claim } => write!(f, " {claim}"),
            Self::ReadAttachment { name } => write!(f, " {name}"),
            _ => Ok(()),
        }
    }
}

/// A status in one line: the phase, then each container with its restart count and state; `+` is ready.
fn status(status: &PodStatus, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, ": {}", status.phase.as_deref().unwrap_or_default())?;
    for c in status.init_container_statuses.iter().chain(&status.container_statuses).flatten() {
        write!(f, " {}#{}=", c.name, c.restart_count)?;
        match c.state.as_ref() {
            Some(ContainerState { running: Some(_), .. }) => f.write_str("running")?,
            Some(ContainerState { terminated: Some(ended), .. }) => write!(f, "ended {}", ended.exit_code)?,
            Some(ContainerState { waiting: Some(waiting), .. }) => {
                f.write_str(waiting.reason.as_deref().unwrap_or_default())?;
            }
            _ => f.write_str("?")?,
        }
        f.write_str(if c.ready { "+" } else { "" })?;
    }
    Ok(())
}

/// What the API server has told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ApiOutcome {
    /// A write went through; the object has this version now.
    Written {
        /// `metadata.resourceVersion`, which orders versions of one kind of object (KEP-5504).
        version: u64,
    },
    /// The Node object as the API server holds it.
    Registered(Arc<ApiNode>),
    /// The Node object, as it is after a write.
    Node(Arc<ApiNode>),
    /// The node's CSINode object as the API server holds it; `None` when there is none.
    CsiNode(Option<Arc<CSINode>>),
    /// What has come of a claim on a volume.
    Claim(ClaimAnswer),
    /// What a VolumeAttachment says: what the driver has to be told of the attachment (`status.attachmentMetadata`), or why
    /// there is none yet (`status.attachError`).
    Attachment {
        /// Whether `status.attached` says so.
        is_attached: bool,
        /// `status.attachmentMetadata`.
        metadata: BTreeMap<String, String>,
        /// `status.attachError.message`.
        error: Option<String>,
    },
}
