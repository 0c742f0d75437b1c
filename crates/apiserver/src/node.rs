//! The Node object: created or reconciled at start, its status patched, the object followed.

use std::sync::Arc;

use futures::Stream;
use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use kube::Client;
use kube::api::{GetParams, Patch, PatchParams, PostParams};
use kube::core::Request;
use model::MetadataChange;
use model::json::to_tree;
use serde_json::{Map, Value, json};

use crate::call::{Purpose, RequestError, call};
use crate::patch::{ListKind, Lists, diff};
use crate::watch::{Change, Freshness, Watch};

const NODES: &str = "/api/v1/nodes";
/// Says that the controller manager attaches volumes, not the node.
const ATTACH_ANNOTATION: &str = "volumes.kubernetes.io/controller-managed-attach-detach";
/// Labels the node keeps true on an object that is there already; all others belong to people.
const OWN_LABELS: [&str; 12] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "node.kubernetes.io/windows-build",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];

const LISTS: Lists = &[
    // Other components report conditions too; a node takes back only what it says itself.
    ("conditions", ListKind::Keyed { key: "type", delete: false }),
    // Declared as keyed by type, but a node can have two addresses of one type.
    ("addresses", ListKind::Replaced),
];

/// How the Node came to be registered.
#[derive(Clone, Debug)]
pub enum Registered {
    /// It is new.
    Created(Box<Node>),
    /// It was there; labels and annotations the node answers for are true now.
    Existing(Box<Node>),
}

impl Registered {
    /// The Node as the server has it.
    pub fn node(&self) -> &Node {
        match self {
            Self::Created(node) | Self::Existing(node) => node,
        }
    }
}

/// Creates the Node, or makes the existing one say what `node` says about the machine, touching
/// nothing that belongs to others. One attempt; the caller repeats it.
///
/// A node that may not create itself can still have been created by somebody else; `looks_when_forbidden` tells whether
/// that is looked into (not so with the feature gate `KubeletRegistrationGetOnExistsOnly`).
///
/// # Errors
/// A request failed.
pub async fn register(
    client: &Client,
    node: &Node,
    looks_when_forbidden: bool,
) -> Result<Registered, RequestError> {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let purpose = Purpose::new("register node", name);
    let body = serde_json::to_vec(node).map_err(|error| purpose.build(error))?;
    let refused = match call(client, &purpose, Request::new(NODES).create(&PostParams::default(), body)).await
    {
        Ok(created) => return Ok(Registered::Created(Box::new(created))),
        Err(error) if error.is_already_exists() || (looks_when_forbidden && error.is_forbidden()) => error,
        Err(error) => return Err(error),
    };
    let existing = match get_node(client, name).await? {
        Some(existing) => existing,
        None => return Err(refused),
    };
    let Some(patch) = reconcile(node, &existing) else { return Ok(Registered::Existing(Box::new(existing))) };
    let purpose = Purpose::new("reconcile node", name);
    let request = Request::new(NODES).patch_subresource(
        "status",
        name,
        &PatchParams::default(),
        &Patch::Strategic(patch),
    );
    call(client, &purpose, request).await.map(|node| Registered::Existing(Box::new(node)))
}

/// Reads the Node; `None` when there is none.
///
/// # Errors
/// The request failed.
pub async fn get_node(client: &Client, name: &str) -> Result<Option<Node>, RequestError> {
    let request = Request::new(NODES).get(name, &GetParams::default());
    match call(client, &Purpose::new("get node", name), request).await {
        Ok(node) => Ok(Some(node)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// What has to change in `existing` for it to describe this machine.
fn reconcile(wanted: &Node, existing: &Node) -> Option<Value> {
    let mut labels = Map::new();
    for label in OWN_LABELS {
        let Some(value) = wanted.metadata.labels.as_ref().and_then(|all| all.get(label)) else { continue };
        let current = existing.metadata.labels.as_ref().and_then(|all| all.get(label));
        if value.is_empty() && current.is_some() {
            labels.insert(label.to_owned(), Value::Null);
        } else if !value.is_empty() && current != Some(value) {
            labels.insert(label.to_owned(), json!(value));
        }
    }
    let attach = |node: &Node| node.metadata.annotations.as_ref()?.get(ATTACH_ANNOTATION).cloned();
    let (before, after) = (attach(existing), attach(wanted));
    let mut metadata = Map::new();
    if !labels.is_empty() {
        metadata.insert("labels".to_owned(), Value::Object(labels));
    }
    if before != after {
        metadata.insert("annotations".to_owned(), json!({ATTACH_ANNOTATION: after}));
    }
    (!metadata.is_empty()).then(|| patch_of(metadata, None))
}

fn patch_of(metadata: Map<String, Value>, status: Option<Value>) -> Value {
    let mut patch = json!({"apiVersion": Node::API_VERSION, "kind": Node::KIND});
    if !metadata.is_empty() {
        patch["metadata"] = Value::Object(metadata);
    }
    if let Some(status) = status {
        patch["status"] = status;
    }
    patch
}

/// The patch that turns `old` into `new` for the Node's `status` subresource; `None` when nothing
/// differs. Conditions of others and `volumesAttached` (the attach controller's) never appear.
pub fn node_status_patch(old: &NodeStatus, new: &NodeStatus) -> Option<Value> {
    let value = |status: &NodeStatus| {
        let mut value = to_tree(status).ok()?;
        value.as_object_mut()?.remove("volumesAttached");
        Some(value)
    };
    diff(&value(old)?, &value(new)?, LISTS).map(Value::Object)
}

fn metadata_patch(change: &MetadataChange) -> Map<String, Value> {
    let mut patch = Map::new();
    if !change.labels.is_empty() {
        patch.insert("labels".to_owned(), json!(change.labels));
    }
    if !change.annotations.is_empty() {
        patch.insert("annotations".to_owned(), json!(change.annotations));
    }
    patch
}

/// Writes the Node's status, and what is to change of its metadata; `None` when nothing differs and nothing was sent.
///
/// # Errors
/// The request failed.
pub async fn patch_node_status(
    client: &Client,
    name: &str,
    old: &NodeStatus,
    new: &NodeStatus,
    metadata: &MetadataChange,
) -> Result<Option<Node>, RequestError> {
    let (metadata, status) = (metadata_patch(metadata), node_status_patch(old, new));
    if metadata.is_empty() && status.is_none() {
        return Ok(None);
    }
    let patch = Patch::Strategic(patch_of(metadata, status));
    let request = Request::new(NODES).patch_subresource("status", name, &PatchParams::default(), &patch);
    call(client, &Purpose::new("patch status of node", name), request).await.map(Some)
}

/// What happened to the Node object.
#[derive(Clone, Debug)]
pub enum NodeEvent {
    /// It is this now.
    Current(Arc<Node>),
    /// It does not exist (not yet, or no more).
    Absent,
}

/// Follows the Node, for ever: labels, taints, pod CIDRs and annotations.
pub fn watch_node(client: Client, name: &str) -> impl Stream<Item = NodeEvent> + Send + use<> {
    let purpose = Purpose::new("watch node", name);
    let selector = format!("metadata.name={name}");
    let watch = Watch::<Node>::new(client, NODES, Some(selector), Freshness::Cached, purpose);
    futures::stream::unfold(watch, |mut watch| async {
        let current = match watch.next().await {
            Change::Listed(nodes) => nodes.into_iter().next(),
            Change::Applied(node) => Some(node),
            Change::Deleted(_) => None,
        };
        let event = match current {
            Some(mut node) => {
                node.metadata.managed_fields = None;
                // Names and sizes of images: the node wrote them, nobody here reads them back.
                if let Some(status) = &mut node.status {
                    status.images = None;
                }
                NodeEvent::Current(Arc::new(node))
            }
            None => NodeEvent::Absent,
        };
        Some((event, watch))
    })
}

#[cfg(test)]
mod tests;
