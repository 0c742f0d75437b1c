//! A server whose signer answers, and what pods get.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, Ordering};

use futures::StreamExt as _;
use serde_json::{Value, json};

use super::*;
use crate::fake::{Fake, Reply, list, refuse};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/podcertificaterequests";
const OF_NAMESPACE: &str = "/apis/certificates.k8s.io/v1/namespaces/ns/podcertificaterequests";

fn source() -> CertificateSource {
    CertificateSource { pod_uid: "u".into(), volume: "v".to_owned(), index: 1 }
}

fn wish(key_type: &str) -> CertificateWish {
    let projection = json!({
        "signerName": "example.com/signer", "keyType": key_type, "maxExpirationSeconds": 7200,
        "userAnnotations": { "example.com/a": "b" },
    });
    CertificateWish {
        pod: PodKey::new("ns", "web"),
        service_account: "account".to_owned(),
        projection: serde_json::from_value(projection).unwrap(),
    }
}

fn certificate() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    rcgen::CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap().pem().replace("\r\n", "\n")
}

fn condition(kind: &str) -> Value {
    json!({
        "type": kind, "status": "True", "reason": "Because", "message": "of \"that\"",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    })
}

fn request(number: usize, spec: &Value, status: Value) -> Value {
    json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "PodCertificateRequest", "spec": spec, "status": status,
        "metadata": { "name": format!("req-{number}"), "namespace": "ns", "resourceVersion": "7" },
    })
}

/// A server whose signer gives each request this status before its maker hears of it. The first `failures` requests are
/// refused with this code.
async fn server(status: Value, failures: u32, code: u16) -> (Fake, PodCertificates) {
    let mut refused = 0;
    let mut made: Vec<Value> = Vec::new();
    let fake = Fake::by(move |asked| match (asked.method.as_str(), asked.path.as_str()) {
        ("GET", "/api/v1/namespaces/ns/serviceaccounts/account") => {
            Reply::Json(200, json!({ "metadata": { "name": "account", "uid": "account-uid" } }))
        }
        ("GET", "/api/v1/nodes/n1") => {
            Reply::Json(200, json!({ "metadata": { "name": "n1", "uid": "node-uid" } }))
        }
        ("POST", OF_NAMESPACE) if refused < failures => {
            refused += 1;
            refuse(code, "Forbidden", "no")
        }
        ("POST", OF_NAMESPACE) => {
            made.push(asked.body["spec"].clone());
            Reply::Json(201, request(made.len(), &asked.body["spec"], Value::Null))
        }
        ("GET", REQUESTS) if !asked.query.contains("watch=true") => list("5", json!([])),
        // It is watched anew until there is something to tell.
        ("GET", REQUESTS) => {
            let all = made.iter().enumerate().map(|(before, spec)| {
                json!({ "type": "MODIFIED", "object": request(before + 1, spec, status.clone()) })
            });
            Reply::LinesThenEnd(all.collect())
        }
        other => panic!("unexpected {other:?}"),
    })
    .await;
    let certificates = PodCertificates::new(fake.connection.api.clone(), "n1");
    (fake, certificates)
}

/// The next so many news.
async fn news(certificates: &PodCertificates, count: usize) -> Vec<PodCertificateNews> {
    std::pin::pin!(certificates.clone().issue()).take(count).collect().await
}

fn issued(chain: &str) -> Value {
    json!({
        "conditions": [condition("Issued")], "certificateChain": chain, "notBefore": "2026-01-01T00:00:00Z",
        "beginRefreshAt": "2126-01-01T00:00:00Z", "notAfter": "2127-01-01T00:00:00Z",
    })
}

#[tokio::test]
async fn a_pod_gets_a_key_and_a_certificate_of_it() {
    let (a, b) = (certificate(), certificate());
    let with_header = b.replacen("CERTIFICATE-----\n", "CERTIFICATE-----\nkind: b\n\n", 1);
    let (mut fake, certificates) = server(issued(&format!("{a}# next\n{with_header}")), 0, 0).await;
    assert_eq!(certificates.credential(&source(), &wish("ECDSAP256")), Err(PodCertificateError::Pending));
    assert_eq!(
        certificates.counts(),
        BTreeMap::from([(("example.com/signer".to_owned(), "not_yet_issued"), 1)])
    );
    assert_eq!(news(&certificates, 1).await, [PodCertificateNews::Changed("u".into())]);
    let found = certificates.credential(&source(), &wish("ECDSAP256")).unwrap();
    assert_eq!(found.chain, format!("{a}{b}"));
    assert!(found.key.starts_with("-----BEGIN PRIVATE KEY-----\n"));
    assert!(!format!("{found:?}").contains("BEGIN"));
    assert_eq!(certificates.counts().into_keys().next().unwrap().1, "fresh");

    let mut seen = BTreeSet::new();
    let made = loop {
        let asked = fake.next().await;
        if asked.method == "POST" {
            break asked.body;
        }
        seen.insert((asked.path, asked.query.contains("fieldSelector=spec.nodeName%3Dn1")));
    };
    assert!(seen.contains(&(REQUESTS.to_owned(), true)), "{seen:?}");
    assert_eq!(made["metadata"]["generateName"], "req-");
    let owner = json!([{ "apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "u" }]);
    assert_eq!(made["metadata"]["ownerReferences"], owner);
    let mut spec = made["spec"].clone();
    assert!(spec.as_object_mut().unwrap().remove("stubPKCS10Request").unwrap().is_string());
    let wanted = json!({
        "signerName": "example.com/signer", "podName": "web", "podUID": "u", "serviceAccountName": "account",
        "serviceAccountUID": "account-uid", "nodeName": "n1", "nodeUID": "node-uid", "maxExpirationSeconds": 7200,
        "unverifiedUserAnnotations": { "example.com/a": "b" },
    });
    assert_eq!(spec, wanted);

    certificates.forget(&"other".into());
    assert!(certificates.credential(&source(), &wish("ECDSAP256")).is_ok());
    certificates.forget(&"u".into());
    assert_eq!(certificates.credential(&source(), &wish("ECDSAP256")), Err(PodCertificateError::Pending));
}

#[tokio::test]
async fn a_refusal_is_told_in_the_words_of_the_signer() {
    for (kind, how, error) in [
        (
            "Denied",
            "was denied",
            r#"PodCertificateRequest was permanently denied: reason="Because" message="of \"that\"""#,
        ),
        (
            "Failed",
            "failed",
            r#"PodCertificateRequest was permanently failed: reason="Because" message="of \"that\"""#,
        ),
    ] {
        let (_fake, certificates) = server(json!({ "conditions": [condition(kind)] }), 0, 0).await;
        let _ = certificates.credential(&source(), &wish("ED25519"));
        let message = format!(
            "Because%!(EXTRA string=PodCertificateRequest ns/req-1 {how}, reason=\"Because\", message=\"of \\\"that\\\"\")"
        );
        assert_eq!(
            news(&certificates, 2).await,
            [
                PodCertificateNews::Warning {
                    pod: PodKey::new("ns", "web"),
                    uid: "u".into(),
                    reason: kind,
                    message
                },
                PodCertificateNews::Changed("u".into()),
            ]
        );
        let refused = certificates.credential(&source(), &wish("ED25519")).unwrap_err();
        assert_eq!(refused.to_string(), error);
    }
}

#[tokio::test]
async fn a_request_that_fails_is_made_again() {
    for code in [403, 500] {
        let (_fake, certificates) = server(issued(&certificate()), 3, code).await;
        let _ = certificates.credential(&source(), &wish("ECDSAP384"));
        assert_eq!(news(&certificates, 1).await, [PodCertificateNews::Changed("u".into())], "{code}");
    }
}

#[tokio::test]
async fn a_certificate_is_refreshed_when_the_clock_says_so() {
    let (_fake, mut certificates) = server(issued(&certificate()), 0, 0).await;
    let ahead = Arc::new(AtomicI64::new(0));
    let by = ahead.clone();
    certificates.clock =
        Arc::new(move || Timestamp::now() + SignedDuration::from_hours(by.load(Ordering::Relaxed)));
    let credential = |certificates: &PodCertificates| certificates.credential(&source(), &wish("ECDSAP256"));
    let _ = credential(&certificates);
    let mut issuing = std::pin::pin!(certificates.clone().issue());
    let changed = Some(PodCertificateNews::Changed("u".into()));
    assert_eq!(issuing.next().await, changed);
    let first = credential(&certificates).unwrap();
    // Nobody tells of a clock that was set: it is looked at each minute.
    assert!(issuing.next().now_or_never().is_none());
    ahead.store(101 * 365 * 24, Ordering::Relaxed);
    certificates.woken.notify_one();
    for reason in ["CertificateOverdueForRefresh", "CertificateExpired"] {
        let told = issuing.next().await;
        assert!(
            matches!(&told, Some(PodCertificateNews::Warning { reason: told, .. }) if *told == reason),
            "{told:?}"
        );
    }
    assert_eq!(certificates.counts().into_keys().next().unwrap().1, "expired");
    assert_eq!(credential(&certificates), Ok(first.clone()), "it is what there is");
    assert_eq!(issuing.next().await, changed);
    assert_ne!(credential(&certificates).unwrap().key, first.key);
}

#[tokio::test]
async fn nobody_is_asked_before_a_pod_wants_one() {
    let (mut fake, certificates) = server(issued(&certificate()), 0, 0).await;
    let mut issuing = std::pin::pin!(certificates.clone().issue());
    assert!(issuing.next().now_or_never().is_none());
    assert!(fake.asked.try_recv().is_err());
    let _ = certificates.credential(&source(), &wish("ECDSAP521"));
    assert!(issuing.next().await.is_some());
}

/// What programs other than this one make of keys and requests.
#[test]
fn keys_and_requests_are_of_the_kind_asked_for() {
    for (kind, label) in [
        ("RSA3072", "RSA 3072"),
        ("RSA4096", "RSA 4096"),
        ("ECDSAP256", "EC 256"),
        ("ECDSAP384", "EC 384"),
        ("ECDSAP521", "EC 521"),
        ("ED25519", "Ed25519"),
    ] {
        let made = keys::generate(kind).unwrap();
        assert!(!format!("{made:?}").contains("BEGIN"));
        assert_eq!(keys::testing::kind_of(&made), label, "{kind}");
    }
    assert_eq!(keys::generate("DSA").unwrap_err().to_string(), "unknown key type \"DSA\"");
}
