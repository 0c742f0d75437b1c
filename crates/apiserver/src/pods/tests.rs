//! Pods followed, deleted and mirrored.

use futures::StreamExt;
use serde_json::{Value, json};

use super::*;
use crate::fake::{Fake, Reply, list, refuse};

fn pod(annotations: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "ns", "uid": "u", "resourceVersion": "3",
        "annotations": annotations, "managedFields": [{"manager": "m"}]}})
}

#[tokio::test]
async fn pods_of_the_node_are_followed_without_managed_fields() {
    let changed = json!({"type": "MODIFIED", "object": pod(json!({"a": "b"}))});
    let mut fake =
        Fake::scripted(vec![list("3", json!([pod(json!({}))])), Reply::Lines(vec![changed])]).await;
    let mut events = Box::pin(watch_pods(fake.connection.api.clone(), "n1"));
    let Some(PodEvent::Listed(pods)) = events.next().await else { panic!("not listed") };
    assert!(pods[0].metadata.managed_fields.is_none());
    let Some(PodEvent::Applied(pod)) = events.next().await else { panic!("not applied") };
    assert!(pod.metadata.managed_fields.is_none());
    assert!(fake.next().await.query.contains("fieldSelector=spec.nodeName%3Dn1"));
}

#[tokio::test]
async fn a_pod_is_deleted_at_once_and_only_by_its_uid() {
    let mut fake = Fake::scripted(vec![
        Reply::Json(200, pod(json!({}))),
        refuse(409, "Conflict", "Precondition failed: UID in precondition: u, UID in object meta: v"),
        refuse(404, "NotFound", "no"),
        refuse(403, "Forbidden", "no"),
    ])
    .await;
    let client = fake.connection.api.clone();
    let (key, uid) = (PodKey::new("ns", "p"), PodUid::from("u"));
    assert!(delete_pod(&client, &key, &uid).await.unwrap());
    assert!(!delete_pod(&client, &key, &uid).await.unwrap());
    assert!(!delete_pod(&client, &key, &uid).await.unwrap());
    assert!(delete_pod(&client, &key, &uid).await.unwrap_err().is_forbidden());
    let asked = fake.next().await;
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("DELETE", "/api/v1/namespaces/ns/pods/p"));
    assert_eq!(asked.body["gracePeriodSeconds"], json!(0));
    assert_eq!(asked.body["preconditions"], json!({"uid": "u"}));
}

#[tokio::test]
async fn mirrors() {
    let mirrored = |hash: &str| Reply::Json(200, pod(json!({"kubernetes.io/config.mirror": hash})));
    let exists = || refuse(409, "AlreadyExists", "there");
    let mut fake = Fake::scripted(vec![
        Reply::Json(201, pod(json!({}))),
        exists(),
        mirrored("h1"),
        exists(),
        mirrored("other"),
    ])
    .await;
    let client = fake.connection.api.clone();
    let fixed: Pod = serde_json::from_value(pod(json!({"kubernetes.io/config.hash": "h1"}))).unwrap();
    let create = || create_mirror(&client, &fixed, "n1", "node-uid");
    assert!(matches!(create().await, Ok(MirrorOutcome::Created(_))));
    assert!(matches!(create().await, Ok(MirrorOutcome::Present(_))));
    assert!(matches!(create().await, Ok(MirrorOutcome::Conflict(_))));
    let asked = fake.next().await;
    assert_eq!(asked.body["metadata"]["annotations"]["kubernetes.io/config.mirror"], json!("h1"));
    let owner =
        json!([{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "node-uid", "controller": true}]);
    assert_eq!(asked.body["metadata"]["ownerReferences"], owner);
}

#[test]
fn a_mirror_is_the_pod_owned_by_the_node() {
    let fixed = |hash: Value| {
        let value = json!({"metadata": {"name": "p-n1", "namespace": "ns", "uid": "h1",
            "labels": {"app": "web"},
            "annotations": hash,
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "y"}]},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}});
        serde_json::from_value::<Pod>(value).unwrap()
    };
    let pod =
        fixed(json!({"kubernetes.io/config.hash": "h1", "kubernetes.io/config.source": "file", "mine": "m"}));
    let mirror = mirror_of(&pod, "n1", "node-uid");
    let annotations = json!({"kubernetes.io/config.hash": "h1", "kubernetes.io/config.mirror": "h1",
        "kubernetes.io/config.source": "file", "mine": "m"});
    let meta = serde_json::to_value(&mirror.metadata).unwrap();
    assert_eq!(meta["annotations"], annotations);
    assert_eq!(meta["labels"], json!({"app": "web"}));
    let owner =
        json!([{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "node-uid", "controller": true}]);
    assert_eq!(meta["ownerReferences"], owner, "the node alone");
    assert_eq!(mirror.spec, pod.spec);
    assert_eq!(mirror_hash(&mirror), Some("h1"));
    assert_eq!(mirror_hash(&pod), None, "a static pod is no mirror");
    let without = mirror_of(&fixed(Value::Null), "n1", "node-uid");
    assert_eq!(mirror_hash(&without), Some(""));
}

#[tokio::test]
async fn a_name_in_use_is_looked_at_before_it_is_called_occupied() {
    let exists = || refuse(409, "AlreadyExists", "there");
    let fake = Fake::scripted(vec![
        exists(),
        Reply::Json(200, pod(json!({"somebody": "else"}))),
        exists(),
        refuse(404, "NotFound", "gone meanwhile"),
        exists(),
        refuse(500, "InternalError", "oops"),
        refuse(409, "Conflict", "namespace is being deleted"),
        refuse(403, "Forbidden", "node is not allowed"),
    ])
    .await;
    let client = fake.connection.api.clone();
    let fixed: Pod = serde_json::from_value(pod(json!({"kubernetes.io/config.hash": "h1"}))).unwrap();
    let create = || create_mirror(&client, &fixed, "n1", "node-uid");
    assert!(matches!(create().await, Ok(MirrorOutcome::Conflict(_))), "not a mirror at all");
    let gone = create().await.unwrap_err();
    assert!(gone.is_already_exists() && gone.is_retryable());
    assert_eq!(create().await.unwrap_err().to_string(), "get pod ns/p");
    let conflict = create().await.unwrap_err();
    assert!(conflict.is_conflict(), "no pod is read for another conflict");
    assert!(create().await.unwrap_err().is_forbidden());
}

#[tokio::test]
async fn a_mirror_is_deleted_whatever_its_uid_unless_one_is_given() {
    let mut fake = Fake::scripted(vec![
        Reply::Json(200, pod(json!({}))),
        refuse(409, "Conflict", "Precondition failed: UID in precondition: u, UID in object meta: v"),
        refuse(409, "Conflict", "something else"),
    ])
    .await;
    let client = fake.connection.api.clone();
    let (key, uid) = (PodKey::new("ns", "p"), PodUid::from("u"));
    assert!(delete_mirror(&client, &key, None).await.unwrap());
    assert!(!delete_mirror(&client, &key, Some(&uid)).await.unwrap());
    assert!(delete_mirror(&client, &key, Some(&uid)).await.unwrap_err().is_conflict());
    let asked = fake.next().await;
    assert_eq!(asked.body["gracePeriodSeconds"], json!(0));
    assert!(asked.body.get("preconditions").is_none_or(Value::is_null), "{}", asked.body);
    assert_eq!(fake.next().await.body["preconditions"], json!({"uid": "u"}));
}
