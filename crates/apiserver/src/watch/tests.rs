//! The list-and-watch loop against a server with a script.

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

use super::*;
use crate::fake::{Fake, Reply, list, refuse};

fn map(name: &str, version: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "resourceVersion": version}})
}

fn event(kind: &str, object: Value) -> Value {
    json!({"type": kind, "object": object})
}

fn watch(fake: &Fake, freshness: Freshness) -> Watch<ConfigMap> {
    let fields = Some("metadata.name=a".to_owned());
    let purpose = Purpose::new("watch", "a");
    Watch::new(fake.connection.api.clone(), "/api/v1/configmaps", fields, freshness, purpose)
}

/// A change in short: kind and versions.
fn short(change: &Change<ConfigMap>) -> String {
    let version = |object: &ConfigMap| object.version().unwrap_or_default().to_owned();
    match change {
        Change::Listed(all) => format!("listed {}", all.iter().map(version).collect::<Vec<_>>().join(" ")),
        Change::Applied(object) => format!("applied {}", version(object)),
        Change::Deleted(object) => format!("deleted {}", version(object)),
    }
}

#[tokio::test]
async fn lists_then_follows_and_goes_on_from_the_last_version() {
    let bookmark = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"resourceVersion": "9", "creationTimestamp": null}});
    let mut fake = Fake::scripted(vec![
        list("5", json!([map("a", "3")])),
        Reply::LinesThenEnd(vec![
            event("MODIFIED", map("a", "6")),
            event("DELETED", map("a", "7")),
            event("BOOKMARK", bookmark),
        ]),
        Reply::Lines(vec![event("ADDED", map("a", "10"))]),
    ])
    .await;
    let mut watch = watch(&fake, Freshness::Cached);
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(short(&watch.next().await));
    }
    assert_eq!(seen, ["listed 3", "applied 6", "deleted 7", "applied 10"]);
    let asked = fake.next().await;
    assert!(asked.query.contains("resourceVersion=0"), "{}", asked.query);
    assert!(asked.query.contains("fieldSelector=metadata.name%3Da"), "{}", asked.query);
    assert_eq!(
        (asked.user_agent.as_str(), asked.authorization.as_str()),
        ("kubelet/test", "Bearer secret-token")
    );
    assert!(fake.next().await.query.contains("resourceVersion=5"));
    let asked = fake.next().await;
    assert!(asked.query.contains("resourceVersion=9"), "{}", asked.query);
    assert_eq!(asked.query.matches("timeoutSeconds").count(), 1);
}

#[tokio::test]
async fn an_expired_version_starts_over_with_the_latest_list() {
    let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old"});
    let mut fake = Fake::scripted(vec![
        list("5", json!([])),
        Reply::Lines(vec![event("ERROR", gone)]),
        list("8", json!([map("a", "8")])),
    ])
    .await;
    let mut watch = watch(&fake, Freshness::Cached);
    assert_eq!(short(&watch.next().await), "listed ");
    assert_eq!(short(&watch.next().await), "listed 8");
    fake.next().await;
    fake.next().await;
    let asked = fake.next().await;
    assert!(!asked.query.contains("resourceVersion"), "{}", asked.query);
}

#[tokio::test]
async fn events_may_arrive_in_any_pieces_and_a_broken_one_is_skipped() {
    let whole = format!("{}\nnonsense\n\n{}\n", event("ADDED", map("a", "6")), event("ADDED", map("a", "7")));
    let pieces = whole.as_bytes().chunks(7).map(<[u8]>::to_vec).collect();
    let fake = Fake::scripted(vec![list("5", json!([])), Reply::Chunks(pieces)]).await;
    let mut watch = watch(&fake, Freshness::Latest);
    assert_eq!(short(&watch.next().await), "listed ");
    assert_eq!(short(&watch.next().await), "applied 6");
    let error = watch.try_next().await.unwrap_err();
    assert!(matches!(error.cause, Cause::Decode(_)));
    // The pause after a failure is real time elsewhere; here only its end matters.
    watch.not_before = None;
    assert_eq!(short(&watch.next().await), "applied 7");
}

#[tokio::test]
async fn failures_are_returned_once_each_and_pauses_grow() {
    let fake = Fake::scripted(vec![
        refuse(403, "Forbidden", "no"),
        refuse(500, "InternalError", "oops"),
        list("5", json!([])),
    ])
    .await;
    let mut watch = watch(&fake, Freshness::Cached);
    assert!(watch.try_next().await.unwrap_err().is_forbidden());
    let first = watch.not_before.take().unwrap();
    assert!(first > Instant::now());
    assert_eq!(watch.told.as_deref(), Some("403 Forbidden"));
    assert_eq!(watch.try_next().await.unwrap_err().code(), Some(500));
    assert_eq!(watch.failures, 2);
    watch.not_before = None;
    assert_eq!(short(&watch.next().await), "listed ");
    assert_eq!((watch.failures, watch.told.is_none()), (0, true));
}

#[tokio::test]
async fn a_refusal_of_a_first_read_is_not_news_until_it_stays() {
    let fake = Fake::by(|_| refuse(403, "Forbidden", "no")).await;
    let mut watch = watch(&fake, Freshness::Latest);
    for _ in 0..LATE_AUTHORIZATIONS {
        assert!(watch.try_next().await.unwrap_err().is_forbidden());
        assert!(watch.told.is_none());
        watch.not_before = None;
    }
    watch.try_next().await.unwrap_err();
    assert_eq!(watch.told.as_deref(), Some("403 Forbidden"));
}

#[test]
fn a_line_is_decoded_by_its_type() {
    let bookmark = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"resourceVersion": "9"}});
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired", "message": "old"});
    let cases = [
        (event("ADDED", map("a", "6")).to_string(), "added 6"),
        (event("MODIFIED", map("a", "7")).to_string(), "modified 7"),
        (event("DELETED", map("a", "8")).to_string(), "deleted 8"),
        (event("BOOKMARK", bookmark).to_string(), "bookmark 9"),
        (event("ERROR", status).to_string(), "error 410 Expired"),
        (format!(r#"{{"object": {}, "more": [1], "type": "ADDED"}}"#, map("a", "5")), "added 5"),
        (event("RENAMED", map("a", "6")).to_string(), "unknown variant `RENAMED`"),
        (event("ADDED", json!(5)).to_string(), "invalid type: integer `5`"),
        (r#"{"type": "ADDED"}"#.to_owned(), "missing field `object`"),
        (r#"{"object": {}}"#.to_owned(), "missing field `type`"),
        ("nonsense".to_owned(), "expected"),
        (r#"{"type": "ADDED", "object": {"#.to_owned(), "EOF while parsing"),
    ];
    let version = |object: &ConfigMap| object.version().unwrap_or_default().to_owned();
    for (line, want) in cases {
        let got = match super::event::<ConfigMap>(line.as_bytes()) {
            Ok(WatchEvent::Added(object)) => format!("added {}", version(&object)),
            Ok(WatchEvent::Modified(object)) => format!("modified {}", version(&object)),
            Ok(WatchEvent::Deleted(object)) => format!("deleted {}", version(&object)),
            Ok(WatchEvent::Bookmark(bookmark)) => format!("bookmark {}", bookmark.metadata.resource_version),
            Ok(WatchEvent::Error(status)) => format!("error {} {}", status.code, status.reason),
            Err(error) => error.to_string(),
        };
        assert!(got.starts_with(want), "{line}: {got}");
    }
}

#[tokio::test]
async fn a_broken_connection_goes_on_from_the_last_version() {
    // Broken on purpose only once the event has arrived: a reset may overtake what was sent before.
    let (tell, told) = tokio::sync::oneshot::channel();
    let mut fake = Fake::scripted(vec![
        list("5", json!([])),
        Reply::LinesThenBreak(vec![event("ADDED", map("a", "6"))], told),
        Reply::Lines(vec![event("MODIFIED", map("a", "7"))]),
    ])
    .await;
    let mut watch = watch(&fake, Freshness::Cached);
    assert_eq!(short(&watch.next().await), "listed ");
    assert_eq!(short(&watch.next().await), "applied 6");
    tell.send(()).unwrap();
    assert!(matches!(watch.try_next().await.unwrap_err().cause, Cause::Body(_)));
    // The pause is real time elsewhere; here only that there is one matters.
    assert!(watch.not_before.take().is_some());
    assert_eq!(short(&watch.next().await), "applied 7");
    fake.next().await;
    assert!(fake.next().await.query.contains("resourceVersion=5"));
    let again = fake.next().await;
    assert!(
        again.query.contains("watch=true") && again.query.contains("resourceVersion=6"),
        "{}",
        again.query
    );
}

#[tokio::test]
async fn a_watch_refused_as_expired_starts_over() {
    let mut fake = Fake::scripted(vec![
        list("5", json!([])),
        refuse(410, "Gone", "too old resource version"),
        list("8", json!([map("a", "8")])),
    ])
    .await;
    let mut watch = watch(&fake, Freshness::Cached);
    assert_eq!(short(&watch.next().await), "listed ");
    assert!(watch.try_next().await.unwrap_err().is_expired());
    assert!(watch.told.is_none(), "ordinary after a long break");
    assert_eq!(short(&watch.next().await), "listed 8");
    for is_watch in [false, true, false] {
        assert_eq!(fake.next().await.query.contains("watch=true"), is_watch);
    }
}

#[tokio::test]
async fn versions_that_always_expire_do_not_hammer_the_server() {
    let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired", "message": "old"});
    let fake = Fake::by(move |asked| {
        if asked.query.contains("watch=true") {
            Reply::Lines(vec![event("ERROR", gone.clone())])
        } else {
            list("5", json!([]))
        }
    })
    .await;
    let mut watch = watch(&fake, Freshness::Cached);
    for is_paused in [false, true, true] {
        assert_eq!(short(&watch.next().await), "listed ");
        assert!(watch.try_next().await.unwrap_err().is_expired());
        assert_eq!(watch.not_before.take().is_some(), is_paused);
    }
}

#[test]
fn pauses_grow_up_to_a_limit() {
    let (first, max) = (Duration::from_millis(200), Duration::from_secs(7));
    for (failures, least) in [(0, 200), (1, 400), (3, 1600), (6, 7000), (16, 7000), (u32::MAX, 7000)] {
        let least = Duration::from_millis(least);
        let pause = retry_pause(failures, first, max);
        assert!(pause >= least && pause <= least.mul_f64(1.5), "{failures}: {pause:?}");
    }
}
