//! What a renewal asks the server in each state of the lease.

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Value, json};

use super::*;
use crate::ClientSettings;
use crate::fake::{Fake, Reply, refuse};
use crate::status::patch_pod_status;

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

/// Hundreds of statuses wait for their turn, which takes more than a minute; the lease is renewed all the same, again
/// and again, before they are through.
#[tokio::test]
async fn a_flood_of_statuses_does_not_delay_renewals() {
    const STATUSES: usize = 400;
    const RENEWALS: usize = 50;
    const BURST: usize = 10;
    let settings = ClientSettings { qps: 5.0, burst: BURST as u32, ..ClientSettings::default() };
    let mut fake = Fake::with(settings, |asked| {
        if asked.path.contains("/leases/") { lease("1", owners()) } else { Reply::Json(200, json!({})) }
    })
    .await;
    let mut task = task(&fake);
    task.renew().await.unwrap();
    for _ in 0..2 {
        assert!(fake.next().await.path.contains("/leases/"), "read and written");
    }
    let mut writes = tokio::task::JoinSet::new();
    for number in 0..STATUSES {
        let api = fake.connection.api.clone();
        writes.spawn(async move {
            let key = model::PodKey::new("ns", &format!("p{number}"));
            let (old, new) =
                (PodStatus::default(), PodStatus { phase: Some("Running".into()), ..PodStatus::default() });
            patch_pod_status(&api, &key, &model::PodUid::from("u"), &old, &new).await.map(drop)
        });
    }
    // The burst is through, and the others wait.
    for _ in 0..BURST {
        assert!(fake.next().await.path.ends_with("/status"));
    }
    for _ in 0..RENEWALS {
        task.renew().await.unwrap();
    }
    let mut statuses = 0;
    let mut renewals = 0;
    while renewals < RENEWALS {
        match fake.next().await.path.contains("/leases/") {
            true => renewals += 1,
            false => statuses += 1,
        }
    }
    let waiting = STATUSES - BURST - statuses;
    assert!(waiting > 0, "all statuses were written before the lease was renewed {RENEWALS} times");
    writes.shutdown().await;
}
