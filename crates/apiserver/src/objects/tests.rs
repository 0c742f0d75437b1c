//! Secrets and ConfigMaps from memory, and when they are watched.

use serde_json::{Value, json};

use super::*;
use crate::fake::{Fake, Reply, list, refuse};

fn map(version: &str, value: &str, immutable: bool) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": "ns", "resourceVersion": version}, "data": {"k": value}, "immutable": immutable})
}

fn pod(uid: &str, maps: &[&str]) -> Pod {
    let sources: Vec<_> = maps.iter().map(|name| json!({"configMapRef": {"name": name}})).collect();
    serde_json::from_value(json!({"metadata": {"name": uid, "namespace": "ns", "uid": uid}, "spec": {"containers": [{"name": "c", "envFrom": sources}]}})).unwrap()
}

fn value(map: &ConfigMap) -> &str {
    &map.data.as_ref().unwrap()["k"]
}

fn changed() -> Option<ObjectChange> {
    let (kind, namespace, name) = (ObjectKind::ConfigMap, "ns".to_owned(), "m".to_owned());
    Some(ObjectChange::One(ObjectName { kind, namespace, name }))
}

#[tokio::test]
async fn a_registered_object_is_read_from_memory() {
    // One list and one watch answer all of them; a third request would be a surprise to the script.
    let mut fake =
        Fake::scripted(vec![list("5", json!([map("5", "old", false)])), Reply::Lines(vec![])]).await;
    let cache = ObjectCache::new(fake.connection.clone());
    cache.register(&pod("a", &["m"]));
    cache.register(&pod("b", &["m"]));
    for _ in 0..3 {
        assert_eq!(value(&cache.config_map("ns", "m").await.unwrap()), "old");
    }
    let (listed, watched) = (fake.next().await.query, fake.next().await.query);
    assert!(listed.contains("fieldSelector=metadata.name%3Dm") && !listed.contains("watch="), "{listed}");
    assert!(watched.contains("fieldSelector=metadata.name%3Dm") && watched.contains("watch="), "{watched}");
    cache.unregister(&"a".into());
    assert_eq!(cache.len(), 1);
    cache.unregister(&"b".into());
    assert!(cache.is_empty());
}

#[tokio::test]
async fn what_is_in_memory_is_kept_true() {
    let lines = vec![
        json!({"type": "MODIFIED", "object": map("6", "new", false)}),
        json!({"type": "DELETED", "object": map("7", "new", false)}),
    ];
    let fake = Fake::scripted(vec![list("5", json!([map("5", "old", false)])), Reply::Lines(lines)]).await;
    let cache = ObjectCache::new(fake.connection.clone());
    let mut changes = cache.changes();
    cache.register(&pod("a", &["m"]));
    for _ in 0..3 {
        assert_eq!(changes.next().await, changed());
    }
    assert!(matches!(cache.config_map("ns", "m").await, Err(ObjectError::NotFound(_))));
}

#[tokio::test]
async fn an_immutable_object_is_not_watched() {
    let mut fake = Fake::scripted(vec![list("5", json!([map("5", "fixed", true)]))]).await;
    let cache = ObjectCache::new(fake.connection.clone());
    cache.register(&pod("a", &["m"]));
    assert_eq!(value(&cache.config_map("ns", "m").await.unwrap()), "fixed");
    assert_eq!(value(&cache.config_map("ns", "m").await.unwrap()), "fixed");
    fake.next().await;
    assert!(fake.asked.try_recv().is_err(), "no watch follows the list");
}

#[tokio::test]
async fn missing_forbidden_and_failed_are_told_apart() {
    let fake = Fake::by(|asked| match asked.query.as_str() {
        query if query.contains("watch=") => Reply::Lines(vec![]),
        query if query.contains("missing") => list("5", json!([])),
        query if query.contains("forbidden") => refuse(403, "Forbidden", "no"),
        _ => refuse(500, "InternalError", "oops"),
    })
    .await;
    let cache = ObjectCache::new(fake.connection.clone());
    cache.register(&pod("a", &["missing", "forbidden", "failed"]));
    assert!(matches!(cache.config_map("ns", "missing").await, Err(ObjectError::NotFound(_))));
    assert!(matches!(cache.config_map("ns", "forbidden").await, Err(ObjectError::Forbidden(..))));
    assert!(matches!(cache.config_map("ns", "failed").await, Err(ObjectError::Failed(..))));
}

/// A watch that is refused and a list that fails do not take away what pods go by.
#[tokio::test]
async fn what_was_read_stays_when_the_server_refuses_it_for_a_while() {
    let mut fake = Fake::scripted(vec![
        list("5", json!([map("5", "old", false)])),
        refuse(403, "Forbidden", "no relationship found between node and this object"),
        refuse(403, "Forbidden", "no relationship found between node and this object"),
        Reply::Lines(vec![json!({"type": "MODIFIED", "object": map("6", "new", false)})]),
    ])
    .await;
    let cache = ObjectCache::new(fake.connection.clone());
    let mut changes = cache.changes();
    cache.register(&pod("a", &["m"]));
    assert_eq!(changes.next().await, changed());
    // With the third request the answer to the second one was heard.
    for _ in 0..3 {
        fake.next().await;
    }
    assert_eq!(value(&cache.config_map("ns", "m").await.unwrap()), "old");
    assert_eq!(changes.next().await, changed());
    assert_eq!(value(&cache.config_map("ns", "m").await.unwrap()), "new");
}

#[tokio::test]
async fn a_pod_that_names_other_objects_now_lets_go_of_the_old_ones() {
    let fake =
        Fake::by(
            |asked| if asked.query.contains("watch=") { Reply::Lines(vec![]) } else { list("1", json!([])) },
        )
        .await;
    let cache = ObjectCache::new(fake.connection.clone());
    cache.register(&pod("a", &["m", "n"]));
    assert_eq!(cache.len(), 2);
    cache.register(&pod("a", &["n"]));
    assert_eq!(cache.len(), 1);
}

#[tokio::test]
async fn unregistered_objects_are_fetched_each_time() {
    let fake = Fake::scripted(vec![
        Reply::Json(200, map("5", "one", false)),
        Reply::Json(200, map("6", "two", false)),
    ])
    .await;
    let cache = ObjectCache::new(fake.connection.clone());
    assert_eq!(value(&cache.config_map("ns", "m").await.unwrap()), "one");
    assert_eq!(value(&cache.config_map("ns", "m").await.unwrap()), "two");
}

#[tokio::test]
async fn a_connection_carries_no_more_watches_than_the_server_allows() {
    let fake =
        Fake::by(
            |asked| if asked.query.contains("watch=") { Reply::Lines(vec![]) } else { list("1", json!([])) },
        )
        .await;
    let cache = ObjectCache::new(fake.connection.clone());
    let held: Vec<_> = (0..WATCHES_PER_CONNECTION).map(|_| cache.client()).collect();
    assert!(held.iter().all(|client| Arc::ptr_eq(client, &held[0])));
    let further = cache.client();
    assert!(!Arc::ptr_eq(&further, &held[0]));
    drop(held);
    assert!(cache.pool.lock().unwrap().len() == 2);
}

/// How often a strategy asks for three reads in a row, of which the third one is of a pod that came late.
#[tokio::test]
async fn without_watches_objects_are_read_as_often_as_the_strategy_says() {
    for (detection, ttl, expect) in [
        (Detection::Get, None, ["", "", ""].as_slice()),
        // Whatever a new pod needs is read anew.
        (Detection::Cache, None, ["", ""].as_slice()),
        (Detection::Cache, Some(Duration::ZERO), ["", "&resourceVersion=0", ""].as_slice()),
    ] {
        let mut fake = Fake::by(|asked| match asked.query.contains("watch=") {
            true => Reply::Lines(vec![]),
            false => Reply::Json(200, map("5", "old", false)),
        })
        .await;
        let cache = ObjectCache::with(fake.connection.clone(), detection);
        cache.set_ttl(ttl);
        assert!(!cache.tells_of_changes());
        cache.register(&pod("a", &["m"]));
        for _ in 0..2 {
            cache.register(&pod("a", &["m"]));
            assert_eq!(value(&cache.config_map("ns", "m").await.unwrap()), "old");
        }
        cache.register(&pod("b", &["m"]));
        assert_eq!(value(&cache.config_map("ns", "m").await.unwrap()), "old");
        for query in expect {
            assert_eq!(fake.next().await.query, *query, "{detection:?} {ttl:?}");
        }
        assert!(fake.asked.try_recv().is_err(), "{detection:?} {ttl:?}");
    }
}

#[tokio::test]
async fn what_was_read_stays_while_the_server_is_away_and_goes_when_it_is_gone() {
    let fake = Fake::scripted(vec![
        Reply::Json(200, map("5", "old", false)),
        refuse(500, "InternalError", "oops"),
        Reply::Json(200, map("4", "older", false)),
        Reply::Json(200, map("6", "new", false)),
        refuse(404, "NotFound", "gone"),
        refuse(500, "InternalError", "oops"),
    ])
    .await;
    let cache = ObjectCache::with(fake.connection.clone(), Detection::Cache);
    cache.set_ttl(Some(Duration::ZERO));
    cache.register(&pod("a", &["m"]));
    for expect in ["old", "old", "old", "new"] {
        assert_eq!(value(&cache.config_map("ns", "m").await.unwrap()), expect);
    }
    assert!(matches!(cache.config_map("ns", "m").await, Err(ObjectError::NotFound(_))));
    assert!(matches!(cache.config_map("ns", "m").await, Err(ObjectError::Failed(..))));
    cache.unregister(&"a".into());
    assert!(cache.expiring.is_empty());
}
