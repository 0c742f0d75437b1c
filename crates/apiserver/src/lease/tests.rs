//! What a renewal asks the server in each state of the lease.

use serde_json::{Value, json};

use super::*;
use crate::fake::{Fake, Reply, refuse};

fn task(fake: &Fake) -> LeaseRenewerTask {
    let settings = LeaseSettings { node_name: "n".into(), duration_seconds: 40 };
    LeaseRenewerTask::new(fake.connection.heartbeat.clone(), settings)
}

fn lease(version: &str, owners: Value) -> Reply {
    Reply::Json(
        200,
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "n", "namespace": "kube-node-lease", "resourceVersion": version, "ownerReferences": owners},
        "spec": {"holderIdentity": "n"}}),
    )
}

fn node() -> Reply {
    Reply::Json(200, json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "uid": "u"}}))
}

fn owners() -> Value {
    json!([{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}])
}

async fn asked(fake: &mut Fake, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    for _ in 0..count {
        let asked = fake.next().await;
        seen.push(format!(
            "{} {}",
            asked.method,
            asked.path.rsplit('/').take(2).collect::<Vec<_>>().join(" ")
        ));
    }
    seen
}

#[tokio::test]
async fn created_with_its_owner_then_renewed_without_a_read() {
    let mut fake = Fake::scripted(vec![
        refuse(404, "NotFound", "no"),
        node(),
        lease("1", owners()),
        lease("2", owners()),
    ])
    .await;
    let mut task = task(&fake);
    task.renew().await.unwrap();
    task.renew().await.unwrap();
    assert_eq!(asked(&mut fake, 2).await, ["GET n leases", "GET n nodes"]);
    let created = fake.next().await;
    assert_eq!((created.method.as_str(), &created.body["metadata"]["ownerReferences"]), ("POST", &owners()));
    assert_eq!(created.body["spec"]["leaseDurationSeconds"], json!(40));
    let renewed = fake.next().await;
    assert_eq!((renewed.method.as_str(), &renewed.body["metadata"]["resourceVersion"]), ("PUT", &json!("1")));
    assert!(
        renewed.body["spec"]["renewTime"].as_str().unwrap()
            >= created.body["spec"]["renewTime"].as_str().unwrap()
    );
}

#[tokio::test]
async fn a_conflict_is_read_again_and_a_deleted_lease_created_again() {
    let mut fake = Fake::scripted(vec![
        lease("1", owners()),
        refuse(409, "Conflict", "changed"),
        lease("5", owners()),
        lease("6", owners()),
        refuse(404, "NotFound", "deleted"),
        refuse(404, "NotFound", "deleted"),
        node(),
        lease("7", owners()),
    ])
    .await;
    let mut task = task(&fake);
    task.renew().await.unwrap();
    task.renew().await.unwrap();
    let want = [
        "GET n leases",
        "PUT n leases",
        "GET n leases",
        "PUT n leases",
        "PUT n leases",
        "GET n leases",
        "GET n nodes",
    ];
    assert_eq!(asked(&mut fake, 7).await, want);
    assert_eq!(fake.next().await.method, "POST");
}

#[tokio::test]
async fn without_its_node_no_lease_is_created_but_an_existing_one_is_renewed() {
    let fake = Fake::scripted(vec![
        refuse(404, "NotFound", "no"),
        refuse(404, "NotFound", "no"),
        lease("1", json!([])),
        refuse(500, "InternalError", "oops"),
        lease("2", json!([])),
    ])
    .await;
    let mut task = task(&fake);
    let error = task.renew().await.unwrap_err();
    assert!(chain(&error).contains("not registered yet"), "{}", chain(&error));
    task.renew().await.unwrap();
}
