//! What the Node object and the CSINode object say of CSI drivers, as pure functions of what they say now. What others have
//! written there stays, drivers of an earlier process included.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Node as ApiNode;
use k8s_openapi::api::storage::v1::{CSINode, CSINodeDriver, CSINodeSpec, VolumeNodeResources};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use model::MetadataChange;

use crate::effect::CsiNodeInfo;

/// On the Node: what drivers call it, by their names, as JSON.
pub(crate) const NODE_ID_ANNOTATION: &str = "csi.volume.kubernetes.io/nodeid";
/// On the CSINode: the kinds of volumes for which a driver stands in, sorted, with commas between them.
pub(crate) const MIGRATED_ANNOTATION: &str = "storage.alpha.kubernetes.io/migrated-plugins";

/// The kinds of volumes that upstream's kubelet leaves to CSI drivers.
const MIGRATED: [&str; 7] = [
    "kubernetes.io/aws-ebs",
    "kubernetes.io/azure-disk",
    "kubernetes.io/azure-file",
    "kubernetes.io/cinder",
    "kubernetes.io/gce-pd",
    "kubernetes.io/portworx-volume",
    "kubernetes.io/vsphere-volume",
];

/// What has to change on the Node for this driver; `None` when it has all. A label that is there stays as it is.
pub(super) fn node_with(node: &ApiNode, driver: &str, info: &CsiNodeInfo) -> Option<MetadataChange> {
    let mut change = MetadataChange::default();
    let mut ids = node_ids(node);
    if ids.get(driver) != Some(&info.node_id) {
        ids.insert(driver.to_owned(), info.node_id.clone());
        change.annotations.insert(NODE_ID_ANNOTATION.to_owned(), written(&ids));
    }
    let labels = node.metadata.labels.as_ref();
    let missing = info.topology.iter().filter(|(name, _)| labels.is_none_or(|all| !all.contains_key(*name)));
    change.labels.extend(missing.map(|(name, value)| (name.clone(), value.clone())));
    (!change.is_empty()).then_some(change)
}

/// What has to change on the Node when the driver is gone; `None` when nothing is there of it. Its labels stay: other
/// drivers may have the same.
pub(super) fn node_without(node: &ApiNode, driver: &str) -> Option<MetadataChange> {
    let mut ids = node_ids(node);
    ids.remove(driver)?;
    let annotations = BTreeMap::from([(NODE_ID_ANNOTATION.to_owned(), written(&ids))]);
    Some(MetadataChange { annotations, ..MetadataChange::default() })
}

/// A label of the Node that contradicts what a driver says; upstream's text.
pub(super) fn collision(node: &ApiNode, info: &CsiNodeInfo) -> Option<String> {
    let labels = node.metadata.labels.as_ref()?;
    info.topology.iter().find_map(|(name, value)| {
        let known = labels.get(name).filter(|known| *known != value)?;
        let [name, value, known] = [name, value, known].map(|text| golang::quote::quoted(text));
        Some(format!(
            "detected topology value collision: driver reported {name}:{value} but existing label is {name}:{known}"
        ))
    })
}

/// What drivers call the node. What is no JSON is written anew: nobody but kubelets writes it.
fn node_ids(node: &ApiNode) -> BTreeMap<String, String> {
    let annotation = node.metadata.annotations.as_ref().and_then(|all| all.get(NODE_ID_ANNOTATION));
    annotation.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

fn written(ids: &BTreeMap<String, String>) -> Option<String> {
    if ids.is_empty() { None } else { golang::json::to_string(ids).ok() }
}

/// The object of a node that has none, without drivers.
pub(super) fn new_csi_node(node_name: &str, node_uid: &str) -> CSINode {
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node_name.to_owned(),
        uid: node_uid.to_owned(),
        ..OwnerReference::default()
    };
    let mut object = CSINode {
        metadata: ObjectMeta {
            name: Some(node_name.to_owned()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: CSINodeSpec { drivers: Vec::new() },
        ..CSINode::default()
    };
    annotate(&mut object);
    object
}

/// Whether the object belongs to this Node, and not to an earlier one of that name.
pub(super) fn is_owned(object: &CSINode, node_name: &str, node_uid: &str) -> bool {
    let owners = object.metadata.owner_references.iter().flatten();
    owners.into_iter().any(|owner| owner.kind == "Node" && owner.name == node_name && owner.uid == node_uid)
}

/// The object with the annotation that is to be there; `None` when it is.
pub(super) fn annotated(object: &CSINode) -> Option<CSINode> {
    let annotation = object.metadata.annotations.as_ref().and_then(|all| all.get(MIGRATED_ANNOTATION));
    let known = || annotation.iter().flat_map(|text| text.split(','));
    // Mostly it is as it was written here, and this is looked at in each step.
    if known().eq(MIGRATED) || known().collect::<BTreeSet<&str>>() == BTreeSet::from(MIGRATED) {
        return None;
    }
    let mut object = object.clone();
    annotate(&mut object);
    Some(object)
}

fn annotate(object: &mut CSINode) {
    let annotations = object.metadata.annotations.get_or_insert_default();
    annotations.insert(MIGRATED_ANNOTATION.to_owned(), MIGRATED.join(","));
}

/// The object with this driver; `None` when it is there as it has to be.
pub(super) fn csi_node_with(object: &CSINode, driver: &str, info: &CsiNodeInfo) -> Option<CSINode> {
    let wanted = entry(driver, info);
    let known = object.spec.drivers.iter().find(|known| known.name == driver);
    if known.is_some_and(|known| is_same(known, &wanted)) {
        return None;
    }
    let mut object = object.clone();
    object.spec.drivers.retain(|known| known.name != driver);
    object.spec.drivers.push(wanted);
    Some(object)
}

/// The object without this driver; `None` when it is not there.
pub(super) fn csi_node_without(object: &CSINode, driver: &str) -> Option<CSINode> {
    object.spec.drivers.iter().find(|known| known.name == driver)?;
    let mut object = object.clone();
    object.spec.drivers.retain(|known| known.name != driver);
    Some(object)
}

/// A number of volumes that is none is left out, and one that the API cannot hold is the largest it can.
fn entry(driver: &str, info: &CsiNodeInfo) -> CSINodeDriver {
    let count = (info.max_volumes > 0).then(|| i32::try_from(info.max_volumes).unwrap_or(i32::MAX));
    let topology_keys: Vec<String> = info.topology.keys().cloned().collect();
    CSINodeDriver {
        name: driver.to_owned(),
        node_id: info.node_id.clone(),
        topology_keys: (!topology_keys.is_empty()).then_some(topology_keys),
        allocatable: count.map(|count| VolumeNodeResources { count: Some(count) }),
    }
}

fn is_same(known: &CSINodeDriver, wanted: &CSINodeDriver) -> bool {
    let keys = |driver: &CSINodeDriver| -> BTreeSet<String> {
        driver.topology_keys.iter().flatten().cloned().collect()
    };
    let count = |driver: &CSINodeDriver| driver.allocatable.as_ref().and_then(|room| room.count);
    known.node_id == wanted.node_id && keys(known) == keys(wanted) && count(known) == count(wanted)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(metadata: Value) -> ApiNode {
        serde_json::from_value(json!({ "metadata": metadata })).unwrap()
    }

    fn info(node_id: &str, max_volumes: i64, topology: &[(&str, &str)]) -> CsiNodeInfo {
        let topology =
            topology.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        CsiNodeInfo { node_id: node_id.to_owned(), max_volumes, topology, ..CsiNodeInfo::default() }
    }

    fn change(labels: Value, ids: Option<Value>) -> MetadataChange {
        let annotations = ids.map(|ids| (NODE_ID_ANNOTATION.to_owned(), ids.as_str().map(str::to_owned)));
        MetadataChange {
            labels: serde_json::from_value(labels).unwrap(),
            annotations: annotations.into_iter().collect(),
        }
    }

    #[test]
    fn a_driver_comes_to_the_node_with_its_labels_and_goes_without_them() {
        let ids = |text: &str| node(json!({ "annotations": { NODE_ID_ANNOTATION: text } }));
        let zone = [("zone", "a")];
        for (name, node, expected) in [
            ("first", node(json!({})), change(json!({ "zone": "a" }), Some(json!(r#"{"d":"n"}"#)))),
            (
                "beside another",
                ids(r#"{"c":"x"}"#),
                change(json!({ "zone": "a" }), Some(json!(r#"{"c":"x","d":"n"}"#))),
            ),
            ("another id", ids(r#"{"d":"x"}"#), change(json!({ "zone": "a" }), Some(json!(r#"{"d":"n"}"#)))),
            ("damaged", ids("{"), change(json!({ "zone": "a" }), Some(json!(r#"{"d":"n"}"#)))),
            (
                "its label is there",
                node(json!({ "labels": { "zone": "a" } })),
                change(json!({}), Some(json!(r#"{"d":"n"}"#))),
            ),
            ("its id is there", ids(r#"{"d":"n"}"#), change(json!({ "zone": "a" }), None)),
        ] {
            assert_eq!(node_with(&node, "d", &info("n", 0, &zone)), Some(expected), "{name}");
        }
        let complete =
            node(json!({ "labels": { "zone": "a" }, "annotations": { NODE_ID_ANNOTATION: r#"{"d":"n"}"# } }));
        assert_eq!(node_with(&complete, "d", &info("n", 0, &zone)), None);
        assert_eq!(node_without(&complete, "d"), Some(change(json!({}), Some(Value::Null))));
        assert_eq!(node_without(&complete, "c"), None);
        let two = ids(r#"{"c":"x<","d":"n"}"#);
        assert_eq!(node_without(&two, "d"), Some(change(json!({}), Some(json!(r#"{"c":"x\u003c"}"#)))));
    }

    #[test]
    fn a_label_that_contradicts_is_told() {
        let node = node(json!({ "labels": { "zone": "b", "rack": "1" } }));
        assert_eq!(collision(&node, &info("n", 0, &[("rack", "1"), ("row", "2")])), None);
        assert_eq!(
            collision(&node, &info("n", 0, &[("rack", "1"), ("zone", "a")])).as_deref(),
            Some(
                "detected topology value collision: driver reported \"zone\":\"a\" but existing label is \"zone\":\"b\""
            )
        );
    }

    #[test]
    fn drivers_in_the_object_are_written_when_they_differ() {
        let object = new_csi_node("node", "uid");
        assert!(is_owned(&object, "node", "uid"));
        assert!(!is_owned(&object, "node", "other"));
        assert_eq!(annotated(&object), None);
        let many = info("n", i64::from(i32::MAX) + 1, &[("zone", "a"), ("rack", "1")]);
        let object = csi_node_with(&object, "d", &many).unwrap();
        let drivers = serde_json::to_value(&object.spec.drivers).unwrap();
        assert_eq!(
            drivers,
            json!([{
                "name": "d", "nodeID": "n", "topologyKeys": ["rack", "zone"], "allocatable": { "count": i32::MAX },
            }])
        );
        assert_eq!(csi_node_with(&object, "d", &many), None);
        let object = csi_node_with(&object, "c", &info("m", -1, &[])).unwrap();
        assert_eq!(csi_node_with(&object, "c", &info("m", 0, &[])), None, "no limit either way");
        for changed in [info("m", 3, &[]), info("x", 0, &[]), info("m", 0, &[("zone", "a")])] {
            assert!(csi_node_with(&object, "c", &changed).is_some(), "{changed:?}");
        }
        let object = csi_node_with(&object, "d", &info("n", 3, &[])).unwrap();
        let names = |object: &CSINode| object.spec.drivers.iter().map(|d| d.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&object), ["c", "d"], "what changes goes to the end");
        assert_eq!(names(&csi_node_without(&object, "c").unwrap()), ["d"]);
        assert_eq!(csi_node_without(&object, "x"), None);
    }

    #[test]
    fn the_annotation_of_an_older_kubelet_is_put_right() {
        let mut object = new_csi_node("node", "uid");
        let annotations = object.metadata.annotations.as_mut().unwrap();
        annotations.insert(MIGRATED_ANNOTATION.to_owned(), "kubernetes.io/gce-pd".to_owned());
        annotations.insert("other".to_owned(), "kept".to_owned());
        let right = annotated(&object).unwrap();
        assert_eq!(annotated(&right), None);
        assert_eq!(right.metadata.annotations.unwrap()["other"], "kept");
    }
}
