//! The Node object as it is created, and what of its metadata is kept right.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use model::MetadataChange;

use super::NodeDescription;
use super::report::describe;
use crate::settings::ObjectSettings;

const ATTACH_ANNOTATION: &str = "volumes.kubernetes.io/controller-managed-attach-detach";
pub(crate) const PROVIDED_IP_ANNOTATION: &str = "alpha.kubernetes.io/provided-node-ip";
const OS_LABEL: &str = "kubernetes.io/os";
const ARCH_LABEL: &str = "kubernetes.io/arch";
const UNINITIALIZED_TAINT: &str = "node.cloudprovider.kubernetes.io/uninitialized";

/// The Node object to create. Its status lacks the conditions, which take
/// the runtime's health and a clock, so whoever registers the node adds them with
/// [`status`](super::status).
pub(crate) fn initial_node(node: NodeDescription<'_>) -> Node {
    let object = &node.settings.object;
    let annotations = annotations(object);
    let taints = taints(object);
    Node {
        metadata: ObjectMeta {
            name: Some(node.settings.node_name.clone()),
            labels: Some(labels(node)),
            annotations: (!annotations.is_empty()).then_some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            taints: (!taints.is_empty()).then_some(taints),
            provider_id: (!object.provider_id.is_empty()).then(|| object.provider_id.clone()),
            ..NodeSpec::default()
        }),
        status: Some(describe(node, &NodeStatus::default())),
    }
}

/// What has to change in the metadata of an existing Node object: the labels that schedulers go by, and the annotation that
/// tells a cloud provider which addresses the node was given, which goes where nobody is told any more. Unlike at
/// registration, when people's changes of the other labels are undone once, this is looked at with each status.
pub(crate) fn metadata_change(node: NodeDescription<'_>, existing: &Node) -> MetadataChange {
    let NodeDescription { settings, machine, .. } = node;
    let mut change = MetadataChange::default();
    for (label, value) in [(OS_LABEL, &machine.operating_system), (ARCH_LABEL, &machine.architecture)] {
        if existing.metadata.labels.as_ref().and_then(|labels| labels.get(label)) != Some(value) {
            change.labels.insert(label.to_owned(), value.clone());
        }
    }
    let provided = provided_ips(&settings.object);
    let annotations = existing.metadata.annotations.as_ref();
    if annotations.and_then(|all| all.get(PROVIDED_IP_ANNOTATION)) != provided.as_ref() {
        change.annotations.insert(PROVIDED_IP_ANNOTATION.to_owned(), provided);
    }
    change
}

/// The addresses given by configuration, as an external cloud provider is told of them.
fn provided_ips(object: &ObjectSettings) -> Option<String> {
    let is_told = object.is_cloud_provider_external && !object.provided_node_ips.is_empty();
    is_told.then(|| object.provided_node_ips.join(","))
}

/// The labels a node is registered with.
pub(crate) fn labels(node: NodeDescription<'_>) -> BTreeMap<String, String> {
    let NodeDescription { settings, machine, .. } = node;
    let mut labels = BTreeMap::from([
        ("kubernetes.io/hostname".to_owned(), settings.node_name.clone()),
        (OS_LABEL.to_owned(), machine.operating_system.clone()),
        (ARCH_LABEL.to_owned(), machine.architecture.clone()),
        ("beta.kubernetes.io/os".to_owned(), machine.operating_system.clone()),
        ("beta.kubernetes.io/arch".to_owned(), machine.architecture.clone()),
    ]);
    labels.extend(settings.object.labels.iter().map(|(name, value)| (name.clone(), value.clone())));
    labels
}

fn annotations(object: &ObjectSettings) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::new();
    if object.is_attach_by_controller {
        annotations.insert(ATTACH_ANNOTATION.to_owned(), "true".to_owned());
    }
    if let Some(ips) = provided_ips(object) {
        annotations.insert(PROVIDED_IP_ANNOTATION.to_owned(), ips);
    }
    annotations
}

fn taints(object: &ObjectSettings) -> Vec<Taint> {
    let mut taints = object.taints.clone();
    if object.is_cloud_provider_external {
        taints.push(Taint {
            key: UNINITIALIZED_TAINT.to_owned(),
            value: Some("true".to_owned()),
            effect: "NoSchedule".to_owned(),
            time_added: None,
        });
    }
    taints
}
