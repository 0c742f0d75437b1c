//! A server with bundles, and what those who ask get of them.

use futures::StreamExt as _;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use super::*;
use crate::fake::{Fake, Reply, list, refuse};

/// A certificate in PEM.
fn certificate(name: &str) -> String {
    let key = KeyPair::generate().unwrap();
    CertificateParams::new(vec![name.to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap()
        .pem()
        .replace("\r\n", "\n")
}

fn bundle(name: &str, signer: &str, label: &str, certificates: &[&str]) -> Value {
    json!({
        "metadata": { "name": name, "resourceVersion": "5", "labels": { "l": label } },
        "spec": { "signerName": signer, "trustBundle": certificates.join("some words\n") },
    })
}

/// The blocks of a text, in any order.
fn blocks(text: &str) -> BTreeSet<String> {
    text.split_inclusive("-----END CERTIFICATE-----\n").map(str::to_owned).collect()
}

fn serves(version: &str, resource: &str) -> impl Fn(&str) -> Option<Reply> + use<> {
    let (path, resource) = (format!("/apis/certificates.k8s.io/{version}"), resource.to_owned());
    move |asked| {
        let found = json!({ "kind": "APIResourceList", "groupVersion": "certificates.k8s.io", "resources": [
            { "name": resource, "kind": "K", "namespaced": false, "singularName": "", "verbs": [] } ] });
        (asked == path).then(|| Reply::Json(200, found))
    }
}

/// A server that has these in this version, then sends these events; and what asks it.
async fn server(version: &'static str, items: Value, events: Vec<Value>) -> (Fake, TrustBundles) {
    let discovered = serves(version, "clustertrustbundles");
    let other = serves("v1", "certificatesigningrequests");
    let collection = format!("/apis/certificates.k8s.io/{version}/clustertrustbundles");
    let fake = Fake::by(move |asked| {
        let found = discovered(&asked.path).or_else(|| other(&asked.path));
        match found {
            Some(reply) => reply,
            None if asked.path == collection && asked.query.contains("watch=true") => {
                Reply::Lines(events.clone())
            }
            None if asked.path == collection => list("5", items.clone()),
            None => refuse(404, "NotFound", "no such thing"),
        }
    })
    .await;
    let bundles = TrustBundles::new(fake.connection.api.clone());
    (fake, bundles)
}

/// Runs a test beside the watch.
async fn beside_watch<T>(bundles: &TrustBundles, test: impl Future<Output = T>) -> T {
    let mut changes = std::pin::pin!(bundles.clone().watch());
    let watching = async { while changes.next().await.is_some() {} };
    tokio::select! {
        result = test => result,
        () = watching => panic!("the watch ended"),
    }
}

#[tokio::test]
async fn certificates_are_had_by_name_and_by_signer_each_once() {
    let [a, b, c] = ["a", "b", "c"].map(certificate);
    let items = json!([
        bundle("s:one", "s/t", "x", &[&a, &b, &a]),
        bundle("s:two", "s/t", "y", &[&b, &c]),
        bundle("other", "u/v", "x", &[&c]),
        bundle("free", "", "x", &[&a, "-----BEGIN CERTIFICATE-----\n%%\n-----END CERTIFICATE-----\n", &b]),
    ]);
    for version in ["v1", "v1beta1"] {
        let (_fake, bundles) = server(version, items.clone(), vec![]).await;
        beside_watch(&bundles, async {
            let all = |names: &[&String]| names.iter().map(|name| (*name).clone()).collect::<BTreeSet<_>>();
            let one = bundles.named("s:one").await.unwrap();
            assert_eq!(blocks(&one), all(&[&a, &b]), "{version}");
            assert_eq!(bundles.named("s:one").await.unwrap(), one, "the order stays");
            assert_eq!(blocks(&bundles.named("free").await.unwrap()), all(&[&a, &b]));
            let of = async |signer: &str, selector: Value| {
                let selector: Option<LabelSelector> = serde_json::from_value(selector).unwrap();
                bundles.of_signer(signer, selector.as_ref()).await.map(|text| blocks(&text))
            };
            assert_eq!(of("s/t", json!({})).await.unwrap(), all(&[&a, &b, &c]));
            assert_eq!(of("s/t", json!({ "matchLabels": { "l": "y" } })).await.unwrap(), all(&[&b, &c]));
            for (signer, selector, message) in [
                (
                    "s/t",
                    json!(null),
                    "combination of signerName and labelSelector matched zero ClusterTrustBundles",
                ),
                (
                    "s/t",
                    json!({ "matchLabels": { "l": "z" } }),
                    "combination of signerName and labelSelector matched zero ClusterTrustBundles",
                ),
                (
                    "s/t",
                    json!({ "matchExpressions": [{ "key": "l", "operator": "Near" }] }),
                    "while parsing label selector: \"Near\" is not a valid label selector operator",
                ),
                (
                    "s/t",
                    json!({ "matchLabels": { ("l".repeat(60_000)): "v".repeat(60_000) } }),
                    "label selector length (120001) is larger than 102400",
                ),
            ] {
                assert_eq!(of(signer, selector).await.unwrap_err().to_string(), message);
            }
            let missing = bundles.named("nope").await.unwrap_err();
            assert!(missing.is_absence());
            assert_eq!(
                missing.to_string(),
                "while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io \"nope\" not found"
            );
        })
        .await;
    }
}

#[tokio::test]
async fn what_has_become_different_is_told() {
    let [a, b] = ["a", "b"].map(certificate);
    let event = |kind: &str, object: Value| json!({ "type": kind, "object": object });
    let events = vec![
        event("MODIFIED", bundle("one", "s/t", "x", &[&a, &b])),
        // No other content.
        event("MODIFIED", bundle("two", "", "x", &[&a])),
        event("MODIFIED", bundle("one", "u/v", "x", &[&a, &b])),
        event("DELETED", bundle("two", "", "x", &[&a])),
    ];
    let items = json!([bundle("one", "s/t", "x", &[&a]), bundle("two", "", "x", &[&a])]);
    let (_fake, bundles) = server("v1", items, events).await;
    bundles.is_wanted.send_replace(true);
    let named = |name: &str| TrustSource::Named(name.to_owned());
    let signer = |name: &str| TrustSource::OfSigner(name.to_owned());
    let told: Vec<_> = std::pin::pin!(bundles.watch()).take(4).collect().await;
    assert_eq!(
        told,
        [
            BTreeSet::from([named("one"), named("two"), signer("s/t")]),
            BTreeSet::from([named("one"), signer("s/t")]),
            BTreeSet::from([named("one"), signer("s/t"), signer("u/v")]),
            BTreeSet::from([named("two")]),
        ]
    );
}

#[tokio::test]
async fn nobody_is_asked_before_somebody_wants_one() {
    let (mut fake, bundles) = server("v1", json!([]), vec![]).await;
    beside_watch(&bundles, async {
        tokio::task::yield_now().await;
        assert!(fake.asked.try_recv().is_err());
        assert!(bundles.named("one").await.unwrap_err().is_absence());
        assert_eq!(fake.asked.recv().await.unwrap().path, "/apis/certificates.k8s.io/v1");
    })
    .await;
}

#[tokio::test]
async fn a_server_without_them_says_so() {
    let fake = Fake::by(|_| refuse(404, "NotFound", "no such thing")).await;
    let bundles = TrustBundles::new(fake.connection.api.clone());
    let error = beside_watch(&bundles, bundles.named("one")).await.unwrap_err();
    assert!(matches!(error, TrustError::Unserved) && !error.is_absence());
    let fake = Fake::by(|_| refuse(403, "Forbidden", "not you")).await;
    let bundles = TrustBundles::new(fake.connection.api.clone());
    let error = beside_watch(&bundles, bundles.named("one")).await.unwrap_err();
    assert!(
        error.to_string().starts_with("failed to ensure informer manager for ClusterTrustBundles: "),
        "{error}"
    );
}
