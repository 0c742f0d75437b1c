//! Status patches and their outcomes.

use super::*;
use crate::fake::{Fake, Reply, refuse};

fn status(value: Value) -> PodStatus {
    serde_json::from_value(value).unwrap()
}

#[test]
fn only_what_differs_is_in_the_patch() {
    let running = json!({"name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 0});
    let restarted = json!({"name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 1});
    let other = json!({"name": "d", "image": "i", "imageID": "", "ready": true, "restartCount": 0});
    let cases = [
        (json!({"phase": "Pending"}), json!({"phase": "Pending"}), Value::Null),
        (
            json!({"phase": "Pending", "message": "m"}),
            json!({"phase": "Running"}),
            json!({"phase": "Running", "message": null}),
        ),
        (
            json!({"containerStatuses": [running, other]}),
            json!({"containerStatuses": [restarted, other]}),
            json!({"containerStatuses": [restarted, other]}),
        ),
        (
            json!({"podIP": "1", "podIPs": [{"ip": "1"}]}),
            json!({"podIP": "2", "podIPs": [{"ip": "2"}]}),
            json!({"podIP": "2", "podIPs": [{"ip": "2"}, {"$patch": "replace"}]}),
        ),
        (
            json!({"conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "False"}]}),
            json!({"conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}]}),
            json!({"conditions": [{"type": "Ready", "status": "True"}]}),
        ),
        (
            json!({"conditions": [{"type": "PodResizePending", "status": "True"}]}),
            json!({}),
            json!({"conditions": [{"$patch": "delete", "type": "PodResizePending"}]}),
        ),
        (
            json!({"startTime": "2026-01-01T00:00:00Z"}),
            json!({"startTime": "2026-01-01T00:00:00.9Z"}),
            Value::Null,
        ),
    ];
    for (old, new, want) in cases {
        let got = status_patch(&status(old), &status(new)).unwrap_or(Value::Null);
        assert_eq!(got, want);
    }
}

#[tokio::test]
async fn outcomes() {
    let mut fake = Fake::scripted(vec![
        Reply::Json(
            200,
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "resourceVersion": "8"}}),
        ),
        refuse(404, "NotFound", "pods \"p\" not found"),
        refuse(409, "Conflict", "the UID in the precondition (u) does not match the UID in record (v)"),
        refuse(500, "InternalError", "later"),
    ])
    .await;
    let client = fake.connection.api.clone();
    let (key, uid) = (PodKey::new("ns", "p"), PodUid::from("u"));
    let (old, new) = (status(json!({})), status(json!({"phase": "Running"})));
    let send = || patch_pod_status(&client, &key, &uid, &old, &new);
    assert!(
        matches!(send().await, Ok(PatchOutcome::Written(pod)) if pod.metadata.resource_version.as_deref() == Some("8"))
    );
    assert!(matches!(send().await, Ok(PatchOutcome::Gone)));
    assert!(matches!(send().await, Ok(PatchOutcome::Replaced)));
    assert!(send().await.unwrap_err().is_retryable());
    assert!(matches!(patch_pod_status(&client, &key, &uid, &new, &new).await, Ok(PatchOutcome::Unchanged)));
    let asked = fake.next().await;
    assert_eq!(
        (asked.method.as_str(), asked.path.as_str()),
        ("PATCH", "/api/v1/namespaces/ns/pods/p/status")
    );
    assert_eq!(asked.content_type, "application/strategic-merge-patch+json");
    assert_eq!(asked.body["metadata"], json!({"uid": "u"}));
    assert_eq!(asked.body["status"], json!({"phase": "Running"}));
}

#[test]
fn lists_go_by_their_kind() {
    let ready = json!({"type": "Ready", "status": "True"});
    let state = json!({"name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 0});
    let cases = [
        (
            "condition added",
            json!({"conditions": [ready]}),
            json!({"conditions": [ready, {"type": "Initialized", "status": "True"}]}),
            json!({"conditions": [{"type": "Initialized", "status": "True"}]}),
        ),
        (
            "condition lost its message and kept its status",
            json!({"conditions": [{"type": "Ready", "status": "False", "message": "m", "reason": "r"}]}),
            json!({"conditions": [{"type": "Ready", "status": "False", "reason": "r"}]}),
            json!({"conditions": [{"type": "Ready", "message": null}]}),
        ),
        (
            "one condition changed, one added, one removed",
            json!({"conditions": [ready, {"type": "Old", "status": "True"}]}),
            json!({"conditions": [{"type": "Ready", "status": "False"}, {"type": "New", "status": "True"}]}),
            json!({"conditions": [
                {"type": "Ready", "status": "False"},
                {"type": "New", "status": "True"},
                {"$patch": "delete", "type": "Old"},
            ]}),
        ),
        (
            "conditions in another order",
            json!({"conditions": [ready, {"type": "A", "status": "True"}]}),
            json!({"conditions": [{"type": "A", "status": "True"}, ready]}),
            Value::Null,
        ),
        (
            "addresses in another order",
            json!({"podIPs": [{"ip": "1"}, {"ip": "2"}], "hostIPs": [{"ip": "3"}]}),
            json!({"podIPs": [{"ip": "2"}, {"ip": "1"}], "hostIPs": [{"ip": "3"}]}),
            json!({"podIPs": [{"ip": "2"}, {"ip": "1"}, {"$patch": "replace"}]}),
        ),
        (
            "host addresses",
            json!({"hostIP": "1", "hostIPs": [{"ip": "1"}]}),
            json!({"hostIP": "1", "hostIPs": [{"ip": "1"}, {"ip": "2"}]}),
            json!({"hostIPs": [{"ip": "1"}, {"ip": "2"}, {"$patch": "replace"}]}),
        ),
        (
            "addresses gone with the sandbox",
            json!({"podIP": "1", "podIPs": [{"ip": "1"}]}),
            json!({}),
            json!({"podIP": null, "podIPs": [{"$patch": "replace"}]}),
        ),
        (
            "container statuses gone",
            json!({"initContainerStatuses": [state], "containerStatuses": [state]}),
            json!({"containerStatuses": [state]}),
            json!({"initContainerStatuses": null}),
        ),
        (
            "container status lost",
            json!({"ephemeralContainerStatuses": [state, {"name": "d", "image": "i", "imageID": "", "ready": true, "restartCount": 0}]}),
            json!({"ephemeralContainerStatuses": [state]}),
            json!({"ephemeralContainerStatuses": [state]}),
        ),
    ];
    for (name, old, new, want) in cases {
        let got = status_patch(&status(old), &status(new)).unwrap_or(Value::Null);
        assert_eq!(got, want, "{name}");
    }
}

#[tokio::test]
async fn refusals_that_are_not_about_the_uid_stay_errors() {
    let fake = Fake::scripted(vec![
        refuse(422, "Invalid", "Pod \"p\" is invalid: metadata.uid: Invalid value: field is immutable"),
        refuse(422, "Invalid", "Pod \"p\" is invalid: status.phase: Unsupported value"),
        refuse(
            409,
            "Conflict",
            "the object has been modified; please apply your changes to the latest version",
        ),
    ])
    .await;
    let client = fake.connection.api.clone();
    let (key, uid) = (PodKey::new("ns", "p"), PodUid::from("u"));
    let (old, new) = (status(json!({})), status(json!({"phase": "Running"})));
    let send = || patch_pod_status(&client, &key, &uid, &old, &new);
    assert!(matches!(send().await, Ok(PatchOutcome::Replaced)));
    let invalid = send().await.unwrap_err();
    assert_eq!((invalid.code(), invalid.is_retryable()), (Some(422), false));
    assert_eq!(invalid.to_string(), "patch status of pod ns/p");
    assert!(send().await.unwrap_err().is_retryable());
}
