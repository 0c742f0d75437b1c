//! What is asked of an API server about claims, and what is made of its answers.

use serde_json::{Value, json};

use super::*;
use crate::fake::{Fake, Reply, refuse};

fn claim(phase: &str, volume: &str, metadata: Value) -> Value {
    let mut claim = json!({
        "metadata": { "name": "c", "namespace": "ns", "uid": "u-claim" },
        "spec": { "volumeName": volume }, "status": { "phase": phase },
    });
    claim["metadata"].as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
    claim
}

fn volume(spec: Value) -> Value {
    json!({ "metadata": { "name": "pv-1" }, "spec": spec })
}

async fn resolve(replies: Vec<Reply>) -> Result<ClaimAnswer, ClaimError> {
    let fake = Fake::scripted(replies).await;
    let claim = ClaimName { namespace: "ns".into(), name: "c".into() };
    resolve_claim(&fake.connection.api, &claim).await
}

async fn problem(replies: Vec<Reply>) -> String {
    match resolve(replies).await.unwrap() {
        ClaimAnswer::Unusable(problem) => problem.to_string(),
        ClaimAnswer::Bound(bound) => panic!("{bound:?}"),
    }
}

#[tokio::test]
async fn a_claim_and_its_volume_are_read() {
    let owner =
        json!([{ "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u-pod", "controller": true }]);
    let spec = json!({
        "claimRef": { "uid": "u-claim" }, "csi": { "driver": "d.example", "volumeHandle": "h" },
    });
    let mut fake = Fake::scripted(vec![
        Reply::Json(200, claim("Bound", "pv-1", json!({ "ownerReferences": owner }))),
        Reply::Json(200, volume(spec)),
    ])
    .await;
    let name = ClaimName { namespace: "ns".into(), name: "c".into() };
    let answer = resolve_claim(&fake.connection.api, &name).await.unwrap();
    let ClaimAnswer::Bound(bound) = answer else { panic!("{answer:?}") };
    assert_eq!(bound.volume.name.as_str(), "kubernetes.io/csi/d.example^h");
    assert_eq!((bound.volume.folder.as_str(), bound.owner.unwrap().as_str()), ("pv-1", "u-pod"));
    for path in ["/api/v1/namespaces/ns/persistentvolumeclaims/c", "/api/v1/persistentvolumes/pv-1"] {
        assert_eq!(fake.next().await.path, path);
    }
}

/// The texts are upstream's, which people know from events.
#[tokio::test]
async fn what_is_wrong_with_a_claim_is_told() {
    let gone = || refuse(404, "NotFound", "persistentvolumeclaims \"c\" not found");
    assert_eq!(
        problem(vec![gone()]).await,
        "failed to fetch PVC from API server: persistentvolumeclaims \"c\" not found"
    );
    let at = json!({ "deletionTimestamp": "2026-01-01T00:00:00Z" });
    let ends = |more: Value| {
        let mut at = at.clone();
        at.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Reply::Json(200, claim("Pending", "pv-1", at))
    };
    assert_eq!(problem(vec![ends(json!({}))]).await, "PVC is being deleted");
    let protected = json!({ "finalizers": ["kubernetes.io/pvc-protection"] });
    assert_eq!(problem(vec![ends(protected)]).await, "PVC is not bound");
    for phase in ["Pending", "Lost"] {
        assert_eq!(
            problem(vec![Reply::Json(200, claim(phase, "pv-1", json!({})))]).await,
            "PVC is not bound"
        );
    }
    let bound = |volume: &str| Reply::Json(200, claim("Bound", volume, json!({})));
    assert_eq!(problem(vec![bound("")]).await, "PVC has empty pvc.Spec.VolumeName");
    let gone = refuse(404, "NotFound", "persistentvolumes \"pv-1\" not found");
    assert_eq!(
        problem(vec![bound("pv-1"), gone]).await,
        "failed to fetch PV pv-1 from API server: persistentvolumes \"pv-1\" not found"
    );
    for (spec, text) in [
        (json!({}), "it has a nil pv.Spec.ClaimRef"),
        (
            json!({ "claimRef": { "uid": "other" } }),
            "pv.Spec.ClaimRef.UID other does not point to claim.UID u-claim",
        ),
        (json!({ "claimRef": { "uid": "u-claim" }, "fc": { "lun": 1 } }), "kubernetes.io/fc"),
    ] {
        let problem = problem(vec![bound("pv-1"), Reply::Json(200, volume(spec))]).await;
        assert!(problem.contains(text), "{problem}");
    }
}

#[tokio::test]
async fn what_is_not_known_is_an_error() {
    let error = resolve(vec![refuse(403, "Forbidden", "no relationship found")]).await.unwrap_err();
    assert!(error.is_forbidden());
    let text = model::chain(&error);
    assert!(
        text.starts_with("failed to fetch PVC from API server: ") && text.contains("no relationship found")
    );
    let error = resolve(vec![
        Reply::Json(200, claim("Bound", "pv-1", json!({}))),
        refuse(403, "Forbidden", "no relationship found"),
    ])
    .await
    .unwrap_err();
    assert!(error.is_forbidden() && error.to_string().contains("PV pv-1"), "{error}");
}

#[tokio::test]
async fn an_attachment_is_read_or_is_not_there() {
    let mut fake = Fake::scripted(vec![
        refuse(404, "NotFound", "no"),
        Reply::Json(
            200,
            json!({
                "metadata": { "name": "csi-1" },
                "spec": { "attacher": "d", "nodeName": "n", "source": {} },
                "status": { "attached": true, "attachmentMetadata": { "device": "sda" } },
            }),
        ),
    ])
    .await;
    let client = fake.connection.api.clone();
    assert!(get_attachment(&client, "csi-1").await.unwrap().is_none());
    assert!(get_attachment(&client, "csi-1").await.unwrap().unwrap().status.unwrap().attached);
    assert_eq!(fake.next().await.path, "/apis/storage.k8s.io/v1/volumeattachments/csi-1");
}
