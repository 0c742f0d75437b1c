//! The Node object as it is created, and what of it is set right on one that already exists.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::facts::NodeFacts;
use super::report::describe;

const ATTACH_ANNOTATION: &str = "volumes.kubernetes.io/controller-managed-attach-detach";
const PROVIDED_IP_ANNOTATION: &str = "alpha.kubernetes.io/provided-node-ip";
const UNINITIALIZED_TAINT: &str = "node.cloudprovider.kubernetes.io/uninitialized";

/// Labels that an existing Node object gets from its kubelet again; all others are its
/// administrator's.
const DEFAULT_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];

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

/// Sets right on an existing Node object what its kubelet answers for: the default labels and the
/// annotation on who attaches volumes. Returns whether anything was to be done.
pub fn reconcile(initial: &Node, existing: &mut Node) -> bool {
    let mut is_changed = false;
    let none = BTreeMap::new();
    let wanted = initial.metadata.labels.as_ref().unwrap_or(&none);
    let labels = existing.metadata.labels.get_or_insert_default();
    for name in DEFAULT_LABELS {
        let Some(value) = wanted.get(name) else { continue };
        if value.is_empty() {
            is_changed |= labels.remove(name).is_some();
        } else if labels.get(name) != Some(value) {
            labels.insert(name.to_owned(), value.clone());
            is_changed = true;
        }
    }
    let wanted = initial.metadata.annotations.as_ref().and_then(|a| a.get(ATTACH_ANNOTATION));
    let annotations = existing.metadata.annotations.get_or_insert_default();
    if annotations.get(ATTACH_ANNOTATION) != wanted {
        match wanted {
            Some(value) => annotations.insert(ATTACH_ANNOTATION.to_owned(), value.clone()),
            None => annotations.remove(ATTACH_ANNOTATION),
        };
        is_changed = true;
    }
    is_changed
}

fn labels(facts: &NodeFacts) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        ("kubernetes.io/hostname".to_owned(), facts.hostname.clone()),
        ("kubernetes.io/os".to_owned(), facts.operating_system.clone()),
        ("kubernetes.io/arch".to_owned(), facts.architecture.clone()),
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
    if facts.is_cloud_provider_external && !facts.provided_node_ips.is_empty() {
        annotations.insert(PROVIDED_IP_ANNOTATION.to_owned(), facts.provided_node_ips.join(","));
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
