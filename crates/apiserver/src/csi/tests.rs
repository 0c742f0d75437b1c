//! What is asked of an API server about CSI.

use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};

use super::*;
use crate::fake::{Fake, Reply, list, refuse};

fn object(metadata: Value) -> CSINode {
    serde_json::from_value(json!({ "metadata": metadata, "spec": { "drivers": [] } })).unwrap()
}

#[tokio::test]
async fn a_csi_node_is_read_created_replaced_and_deleted() {
    let answer = json!({
        "metadata": { "name": "n", "resourceVersion": "7", "managedFields": [{ "manager": "kubelet" }] },
        "spec": { "drivers": null },
    });
    let mut fake = Fake::scripted(vec![
        refuse(404, "NotFound", "no"),
        Reply::Json(201, answer.clone()),
        Reply::Json(200, answer.clone()),
        refuse(409, "Conflict", "the object has been modified"),
        Reply::Json(200, json!({ "kind": "Status", "status": "Success" })),
        refuse(409, "Conflict", "Precondition failed: UID in precondition"),
    ])
    .await;
    let client = fake.connection.api.clone();
    assert!(get_csi_node(&client, "n").await.unwrap().is_none());
    let created = write_csi_node(&client, &object(json!({ "name": "n" }))).await.unwrap();
    assert!(created.metadata.managed_fields.is_none() && created.spec.drivers.is_empty());
    write_csi_node(&client, &object(json!({ "name": "n", "resourceVersion": "6" }))).await.unwrap();
    let stale = write_csi_node(&client, &created).await.unwrap_err();
    assert!(stale.is_conflict());
    assert!(delete_csi_node(&client, "n", "u").await.unwrap());
    assert!(!delete_csi_node(&client, "n", "u").await.unwrap(), "another one is there by now");
    let path = "/apis/storage.k8s.io/v1/csinodes";
    let own = format!("{path}/n");
    for (method, path, version) in [
        ("GET", own.as_str(), Value::Null),
        ("POST", path, Value::Null),
        ("PUT", &own, json!("6")),
        ("PUT", &own, json!("7")),
    ] {
        let asked = fake.next().await;
        assert_eq!((asked.method.as_str(), asked.path.as_str()), (method, path));
        assert_eq!(asked.body["metadata"]["resourceVersion"], version);
    }
    let asked = fake.next().await;
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("DELETE", own.as_str()));
    assert_eq!(asked.body["preconditions"]["uid"], "u");
}

#[tokio::test]
async fn drivers_say_how_often_they_are_to_be_asked() {
    let driver = |name: &str, spec: Value| json!({ "metadata": { "name": name }, "spec": spec });
    let drivers = json!([
        driver("a", json!({ "nodeAllocatableUpdatePeriodSeconds": 10 })),
        driver("b", json!({})),
        driver("c", json!({ "nodeAllocatableUpdatePeriodSeconds": 0 })),
    ]);
    let fake = Fake::by(move |asked| {
        if asked.query.contains("watch=true") { Reply::Lines(vec![]) } else { list("1", drivers.clone()) }
    })
    .await;
    let mut sets = std::pin::pin!(watch_csi_drivers(fake.connection.api.clone()));
    let set = sets.next().await.unwrap();
    let periods: Vec<_> =
        set.iter().map(|(name, object)| (name.as_str(), object.allocatable_update_period)).collect();
    assert_eq!(periods, [("a", Some(Duration::from_secs(10))), ("b", None), ("c", None)]);
    assert!(set["a"].is_there && set["a"].attach_required);
}
