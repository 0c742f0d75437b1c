//! Token requests as sent, their answers, and that no token is printed.

use serde_json::{Value, json};

use super::*;
use crate::fake::{Fake, Reply, refuse};

fn answer(status: Value) -> Reply {
    let kind = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {}, "spec": {"audiences": []}, "status": status});
    Reply::Json(201, kind)
}

#[tokio::test]
async fn a_token_is_bound_to_its_pod() {
    let mut fake = Fake::scripted(vec![
        answer(json!({"token": "hush", "expirationTimestamp": "2030-01-01T00:00:00Z"})),
        answer(json!({"token": "", "expirationTimestamp": "2030-01-01T00:00:00Z"})),
        refuse(403, "Forbidden", "no"),
    ])
    .await;
    let client = fake.connection.api.clone();
    let scope = TokenScope {
        namespace: "ns".into(),
        service_account: "sa".into(),
        audiences: vec!["aud".into()],
        expiration_seconds: 3600,
        pod: Some(BoundPod { name: "p".into(), uid: "u".into() }),
    };
    let token = request_token(&client, &scope).await.unwrap();
    assert_eq!((&*token.value, token.expires.to_string().as_str()), ("hush", "2030-01-01T00:00:00Z"));
    assert!(!format!("{token:?}").contains("hush"));
    assert!(matches!(request_token(&client, &scope).await, Err(TokenError::Empty { .. })));
    assert!(request_token(&client, &scope).await.unwrap_err().is_forbidden());
    let asked = fake.next().await;
    assert_eq!(asked.path, "/api/v1/namespaces/ns/serviceaccounts/sa/token");
    let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"});
    assert_eq!(
        asked.body["spec"],
        json!({"audiences": ["aud"], "expirationSeconds": 3600, "boundObjectRef": bound})
    );
}
