//! Questions about callers, as sent and as answered.

use serde_json::json;

use super::*;
use crate::fake::{Fake, Reply};

#[tokio::test]
async fn tokens() {
    let review = |status| {
        Reply::Json(
            201,
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": {"token": ""}, "status": status}),
        )
    };
    let mut fake = Fake::scripted(vec![
        review(
            json!({"authenticated": true, "user": {"username": "a", "groups": ["g"]}, "audiences": ["x"]}),
        ),
        review(json!({"authenticated": false, "error": "bad"})),
    ])
    .await;
    let client = fake.connection.api.clone();
    let known = review_token(&client, "t", &["x".into()]).await.unwrap();
    let caller = Caller { user: "a".into(), groups: vec!["g".into()], ..Caller::default() };
    assert_eq!(known, TokenAnswer::Known(caller, vec!["x".into()]));
    assert_eq!(review_token(&client, "t", &[]).await.unwrap(), TokenAnswer::Unknown("bad".into()));
    assert_eq!(fake.next().await.body["spec"], json!({"token": "t", "audiences": ["x"]}));
}

#[tokio::test]
async fn access() {
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {}, "spec": {}, "status": {"allowed": true, "reason": "r"}});
    let mut fake = Fake::scripted(vec![Reply::Json(201, review)]).await;
    let caller = Caller { user: "a".into(), ..Caller::default() };
    let question =
        AccessQuestion::Node { verb: "get".into(), name: "n".into(), subresource: "metrics".into() };
    let answer = review_access(&fake.connection.api, &caller, &question).await.unwrap();
    assert_eq!(answer, AccessAnswer { is_allowed: true, reason: "r".into() });
    let asked = fake.next().await;
    let attributes =
        json!({"verb": "get", "version": "v1", "resource": "nodes", "subresource": "metrics", "name": "n"});
    assert_eq!(asked.body["spec"]["resourceAttributes"], attributes);
}
