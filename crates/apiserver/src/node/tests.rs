//! Registration and status patches touch nothing that belongs to others.

use serde_json::json;

use super::*;
use crate::fake::{Fake, Reply, refuse};

fn node(value: Value) -> Node {
    serde_json::from_value(value).unwrap()
}

#[tokio::test]
async fn a_new_node_is_created() {
    let answer = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "uid": "u"}});
    let mut fake = Fake::scripted(vec![Reply::Json(201, answer)]).await;
    let wanted = node(json!({"metadata": {"name": "n", "labels": {"kubernetes.io/os": "linux"}}}));
    let registered = register(&fake.connection.api, &wanted).await.unwrap();
    assert!(matches!(&registered, Registered::Created(node) if node.metadata.uid.as_deref() == Some("u")));
    let asked = fake.next().await;
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/api/v1/nodes"));
}

#[test]
fn of_an_existing_node_only_own_labels_and_one_annotation_change() {
    let wanted = node(json!({"metadata": {"name": "n",
        "labels": {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "kubernetes.io/hostname": "", "team": "mine"},
        "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true", "other": "x"}}}));
    let existing = node(json!({"metadata": {"name": "n",
        "labels": {"kubernetes.io/os": "linux", "kubernetes.io/arch": "arm64", "kubernetes.io/hostname": "old", "team": "theirs"}}}));
    let patch = reconcile(&wanted, &existing).unwrap();
    assert_eq!(
        patch["metadata"],
        json!({
            "labels": {"kubernetes.io/arch": "amd64", "kubernetes.io/hostname": null},
            "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
        })
    );
    assert!(patch.get("status").is_none() && patch.get("spec").is_none());
    assert!(reconcile(&existing, &existing).is_none());
}

#[tokio::test]
async fn a_node_that_may_not_create_itself_may_exist() {
    let answer = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}});
    let fake = Fake::scripted(vec![
        refuse(403, "Forbidden", "no"),
        Reply::Json(200, answer),
        refuse(403, "Forbidden", "no"),
        refuse(404, "NotFound", "no"),
    ])
    .await;
    let wanted = node(json!({"metadata": {"name": "n"}}));
    assert!(matches!(register(&fake.connection.api, &wanted).await, Ok(Registered::Existing(_))));
    assert!(register(&fake.connection.api, &wanted).await.unwrap_err().is_forbidden());
}

#[test]
fn status_patches_leave_others_alone() {
    let status = |value| serde_json::from_value::<NodeStatus>(value).unwrap();
    let old = status(json!({
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "NetworkUnavailable", "status": "False"}],
        "addresses": [{"type": "InternalIP", "address": "1"}],
        "volumesAttached": [{"name": "v", "devicePath": "d"}],
        "capacity": {"cpu": "2", "example.com/gpu": "1"},
    }));
    let new = status(json!({
        "conditions": [{"type": "Ready", "status": "False"}],
        "addresses": [{"type": "InternalIP", "address": "1"}, {"type": "InternalIP", "address": "2"}],
        "capacity": {"cpu": "2"},
    }));
    assert_eq!(
        node_status_patch(&old, &new).unwrap(),
        json!({
            "conditions": [{"type": "Ready", "status": "False"}],
            "addresses": [{"type": "InternalIP", "address": "1"}, {"type": "InternalIP", "address": "2"}, {"$patch": "replace"}],
            "capacity": {"example.com/gpu": null},
        })
    );
    assert!(node_status_patch(&old, &old).is_none());
}
