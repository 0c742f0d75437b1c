//! Registration and status patches touch nothing that belongs to others.

use std::collections::BTreeMap;

use futures::StreamExt;
use serde_json::json;

use super::*;
use crate::fake::{Fake, Reply, list, refuse};

fn node(value: Value) -> Node {
    serde_json::from_value(value).unwrap()
}

#[tokio::test]
async fn a_new_node_is_created() {
    let answer = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "uid": "u"}});
    let mut fake = Fake::scripted(vec![Reply::Json(201, answer)]).await;
    let wanted = node(json!({"metadata": {"name": "n", "labels": {"kubernetes.io/os": "linux"}}}));
    let registered = register(&fake.connection.api, &wanted, true).await.unwrap();
    assert!(matches!(&registered, Registered::Created(node) if node.metadata.uid.as_deref() == Some("u")));
    let asked = fake.next().await;
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/api/v1/nodes"));
    // CVE-2025-5187.
    assert_eq!(asked.body["metadata"]["ownerReferences"], Value::Null);
}

/// CVE-2025-5187: a node that names an owner of itself is deleted together with it.
#[test]
fn who_owns_a_node_is_never_said() {
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "u"}]);
    let named = |owners: &Value, status: Value| {
        node(
            json!({"metadata": {"name": "n", "labels": {"kubernetes.io/os": "linux"}, "ownerReferences": owners}, "status": status}),
        )
    };
    let (none, other) = (Value::Null, json!([]));
    for (wanted, existing) in [(&owner, &none), (&owner, &other), (&none, &owner)] {
        let (wanted, existing) = (named(wanted, json!({})), named(existing, json!({})));
        assert!(reconcile(&wanted, &existing).is_none());
        let relabelled = node(json!({"metadata": {"name": "n", "ownerReferences": owner}}));
        let patch = reconcile(&wanted, &relabelled).unwrap();
        assert!(!patch.to_string().contains("ownerReferences"), "{patch}");
    }
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
    assert!(matches!(register(&fake.connection.api, &wanted, true).await, Ok(Registered::Existing(_))));
    assert!(register(&fake.connection.api, &wanted, true).await.unwrap_err().is_forbidden());
}

/// With `KubeletRegistrationGetOnExistsOnly` the node is read only after the API server has said that it is there.
#[tokio::test]
async fn whether_a_node_that_may_not_create_itself_exists_can_be_left_open() {
    let answer = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}});
    let mut fake = Fake::scripted(vec![
        refuse(403, "Forbidden", "no"),
        refuse(409, "AlreadyExists", "no"),
        Reply::Json(200, answer),
    ])
    .await;
    let wanted = node(json!({"metadata": {"name": "n"}}));
    assert!(register(&fake.connection.api, &wanted, false).await.unwrap_err().is_forbidden());
    assert!(matches!(register(&fake.connection.api, &wanted, false).await, Ok(Registered::Existing(_))));
    for method in ["POST", "POST", "GET"] {
        assert_eq!(fake.next().await.method, method);
    }
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

#[test]
fn only_what_changed_is_in_a_status_patch() {
    let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady"});
    let cases = [
        (
            "attached by the controller",
            json!({}),
            json!({"volumesAttached": [{"name": "v", "devicePath": "d"}]}),
            Value::Null,
        ),
        (
            "detached by the controller",
            json!({"volumesAttached": [{"name": "v", "devicePath": "d"}]}),
            json!({}),
            Value::Null,
        ),
        (
            "volumes in use whole",
            json!({"volumesInUse": ["a", "b"]}),
            json!({"volumesInUse": ["b"]}),
            json!({"volumesInUse": ["b"]}),
        ),
        (
            "condition added beside others'",
            json!({"conditions": [ready, {"type": "NetworkUnavailable", "status": "False"}]}),
            json!({"conditions": [ready, {"type": "PIDPressure", "status": "False"}]}),
            json!({"conditions": [{"type": "PIDPressure", "status": "False"}]}),
        ),
        (
            "heartbeat alone",
            json!({"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]}),
            json!({"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:05:00Z"}]}),
            json!({"conditions": [{"type": "Ready", "lastHeartbeatTime": "2026-01-01T00:05:00Z"}]}),
        ),
        ("no condition left", json!({"conditions": [ready]}), json!({}), Value::Null),
        (
            "addresses gone",
            json!({"addresses": [{"type": "InternalIP", "address": "1"}]}),
            json!({}),
            json!({"addresses": [{"$patch": "replace"}]}),
        ),
        (
            "resources one by one",
            json!({"capacity": {"cpu": "2", "pods": "110"}, "allocatable": {"cpu": "2"}}),
            json!({"capacity": {"cpu": "4", "pods": "110"}, "allocatable": {"cpu": "2", "memory": "1Gi"}}),
            json!({"capacity": {"cpu": "4"}, "allocatable": {"memory": "1Gi"}}),
        ),
        (
            "port of the daemon",
            json!({"daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}}),
            json!({"daemonEndpoints": {"kubeletEndpoint": {"Port": 10251}}}),
            json!({"daemonEndpoints": {"kubeletEndpoint": {"Port": 10251}}}),
        ),
        (
            "images whole",
            json!({"images": [{"names": ["a"], "sizeBytes": 1}]}),
            json!({"images": [{"names": ["a"], "sizeBytes": 1}, {"names": ["b"], "sizeBytes": 2}]}),
            json!({"images": [{"names": ["a"], "sizeBytes": 1}, {"names": ["b"], "sizeBytes": 2}]}),
        ),
    ];
    let status = |value: &Value| serde_json::from_value::<NodeStatus>(value.clone()).unwrap();
    for (name, old, new, want) in cases {
        let got = node_status_patch(&status(&old), &status(&new)).unwrap_or(Value::Null);
        assert_eq!(got, want, "{name}");
    }
}

#[tokio::test]
async fn a_status_is_one_patch_and_nothing_when_nothing_differs() {
    let answer =
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "resourceVersion": "4"}});
    let mut fake = Fake::scripted(vec![Reply::Json(200, answer), refuse(404, "NotFound", "gone")]).await;
    let client = fake.connection.api.clone();
    let status = |value| serde_json::from_value::<NodeStatus>(value).unwrap();
    let (old, new) = (status(json!({})), status(json!({"capacity": {"cpu": "2"}})));
    let none = MetadataChange::default();
    assert!(patch_node_status(&client, "n", &new, &new, &none).await.unwrap().is_none());
    assert!(patch_node_status(&client, "n", &old, &new, &none).await.unwrap().is_some());
    let some = MetadataChange {
        labels: BTreeMap::from([("kubernetes.io/os".to_owned(), "linux".to_owned())]),
        annotations: BTreeMap::from([("mine".to_owned(), None)]),
    };
    assert!(patch_node_status(&client, "n", &old, &old, &some).await.unwrap_err().is_not_found());
    let asked = fake.next().await;
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("PATCH", "/api/v1/nodes/n/status"));
    assert_eq!(asked.content_type, "application/strategic-merge-patch+json");
    assert_eq!(asked.body, json!({"apiVersion": "v1", "kind": "Node", "status": {"capacity": {"cpu": "2"}}}));
    let metadata = json!({"labels": {"kubernetes.io/os": "linux"}, "annotations": {"mine": null}});
    assert_eq!(fake.next().await.body, json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata}));
}

#[tokio::test]
async fn the_node_is_followed_without_what_nobody_reads() {
    let found = json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "n", "resourceVersion": "5", "labels": {"a": "b"}, "managedFields": [{"manager": "m"}]},
        "status": {"images": [{"names": ["i"]}], "capacity": {"cpu": "2"}}});
    let lines = vec![json!({"type": "ADDED", "object": found}), json!({"type": "DELETED", "object": found})];
    let mut fake = Fake::scripted(vec![list("4", json!([])), Reply::Lines(lines)]).await;
    let mut events = Box::pin(watch_node(fake.connection.api.clone(), "n"));
    assert!(matches!(events.next().await, Some(NodeEvent::Absent)));
    let Some(NodeEvent::Current(node)) = events.next().await else { panic!("not there") };
    assert!(node.metadata.managed_fields.is_none());
    let status = node.status.as_ref().unwrap();
    assert!(status.images.is_none() && status.capacity.is_some());
    assert_eq!(node.metadata.labels.as_ref().unwrap()["a"], "b");
    assert!(matches!(events.next().await, Some(NodeEvent::Absent)));
    assert!(fake.next().await.query.contains("fieldSelector=metadata.name%3Dn"));
}
