//! The Node object as it is created, and what of its metadata is kept right.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use super::facts::NodeFacts;
use super::report::describe;

const ATTACH_ANNOTATION: &str = "volumes.kubernetes.io/controller-managed-attach-detach";
pub(crate) const PROVIDED_IP_ANNOTATION: &str = "alpha.kubernetes.io/provided-node-ip";
const OS_LABEL: &str = "kubernetes.io/os";
const ARCH_LABEL: &str = "kubernetes.io/arch";
const UNINITIALIZED_TAINT: &str = "node.cloudprovider.kubernetes.io/uninitialized";

/// The Node object to create. Its status holds what follows from the facts alone; conditions take
/// the runtime's health and a clock, so whoever registers the node adds them with
/// [`status`](super::status).
pub fn initial_node(facts: &NodeFacts) -> Node {
    let annotations = annotations(facts);
    let taints = taints(facts);
    Node {
        metadata: ObjectMeta {
            name: Some(facts.name.clone()),
            labels: Some(labels(facts)),
            annotations: (!annotations.is_empty()).then_some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            taints: (!taints.is_empty()).then_some(taints),
            provider_id: (!facts.provider_id.is_empty()).then(|| facts.provider_id.clone()),
            ..NodeSpec::default()
        }),
        status: Some(describe(facts, &NodeStatus::default())),
    }
}

/// What of a Node's metadata is not as it has to be. Unlike at registration, when people's changes of the other labels are
/// undone once, this is looked at with each status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MetadataChange {
    /// Labels to set.
    pub labels: BTreeMap<String, String>,
    /// Annotations to set; `None` removes one.
    pub annotations: BTreeMap<String, Option<String>>,
}

impl MetadataChange {
    /// Whether all is as it has to be.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.annotations.is_empty()
    }
}

/// What has to change in the metadata of an existing Node object: the labels that schedulers go by, and the annotation that
/// tells a cloud provider which addresses the node was given, which goes where nobody is told any more.
pub fn metadata_change(facts: &NodeFacts, existing: &Node) -> MetadataChange {
    let mut change = MetadataChange::default();
    for (label, value) in [(OS_LABEL, &facts.operating_system), (ARCH_LABEL, &facts.architecture)] {
        if existing.metadata.labels.as_ref().and_then(|labels| labels.get(label)) != Some(value) {
            change.labels.insert(label.to_owned(), value.clone());
        }
    }
    let provided = provided_ips(facts);
    let annotations = existing.metadata.annotations.as_ref();
    if annotations.and_then(|all| all.get(PROVIDED_IP_ANNOTATION)) != provided.as_ref() {
        change.annotations.insert(PROVIDED_IP_ANNOTATION.to_owned(), provided);
    }
    change
}

/// The addresses given by configuration, as an external cloud provider is told of them.
fn provided_ips(facts: &NodeFacts) -> Option<String> {
    let is_told = facts.is_cloud_provider_external && !facts.provided_node_ips.is_empty();
    is_told.then(|| facts.provided_node_ips.join(","))
}

fn labels(facts: &NodeFacts) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        ("kubernetes.io/hostname".to_owned(), facts.name.clone()),
        (OS_LABEL.to_owned(), facts.operating_system.clone()),
        (ARCH_LABEL.to_owned(), facts.architecture.clone()),
        ("beta.kubernetes.io/os".to_owned(), facts.operating_system.clone()),
        ("beta.kubernetes.io/arch".to_owned(), facts.architecture.clone()),
    ]);
    labels.extend(facts.labels.iter().map(|(name, value)| (name.clone(), value.clone())));
    labels
}

fn annotations(facts: &NodeFacts) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::new();
    if facts.is_attach_by_controller {
        annotations.insert(ATTACH_ANNOTATION.to_owned(), "true".to_owned());
    }
    if let Some(ips) = provided_ips(facts) {
        annotations.insert(PROVIDED_IP_ANNOTATION.to_owned(), ips);
    }
    annotations
}

fn taints(facts: &NodeFacts) -> Vec<Taint> {
    let mut taints = facts.taints.clone();
    if facts.is_cloud_provider_external {
        taints.push(Taint {
            key: UNINITIALIZED_TAINT.to_owned(),
            value: Some("true".to_owned()),
            effect: "NoSchedule".to_owned(),
            time_added: None,
        });
    }
    taints
}
