//! What becomes of repeated and similar events and of floods, and what is written.

use serde_json::{Value, json};

use super::*;
use crate::fake::{Fake, Reply, refuse};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn event(message: &str, seconds: i64) -> NewEvent {
    NewEvent {
        object: InvolvedObject {
            kind: "Pod",
            namespace: "ns".into(),
            name: "p".into(),
            uid: "u".into(),
            resource_version: "7".into(),
            field_path: "spec.containers{c}".into(),
        },
        event_type: EventType::Warning,
        reason: "Unhealthy".into(),
        message: message.into(),
        at: at(seconds),
    }
}

fn judged(correlator: &mut Correlator, event: NewEvent) -> Option<(u32, String)> {
    match correlator.observe(event) {
        Verdict::Write(write) => Some((write.count, write.event.message)),
        Verdict::Drop => None,
    }
}

#[test]
fn the_same_event_again_raises_its_count() {
    let mut correlator = Correlator::default();
    assert_eq!(judged(&mut correlator, event("m", 0)), Some((1, "m".into())));
    assert_eq!(judged(&mut correlator, event("m", 5)), Some((2, "m".into())));
    assert_eq!(judged(&mut correlator, event("n", 6)), Some((1, "n".into())));
    let mut other = event("m", 7);
    other.object.field_path = "spec.containers{d}".into();
    assert_eq!(judged(&mut correlator, other), Some((1, "m".into())));
}

#[test]
fn from_the_tenth_message_on_similar_events_are_combined() {
    let mut correlator = Correlator::default();
    for number in 0..9 {
        assert_eq!(judged(&mut correlator, event(&number.to_string(), number)).unwrap().0, 1);
    }
    let combined = judged(&mut correlator, event("tenth", 10));
    assert_eq!(combined, Some((1, "(combined from similar events): tenth".into())));
    let combined = judged(&mut correlator, event("eleventh", 11));
    assert_eq!(combined, Some((2, "(combined from similar events): eleventh".into())));
    // Ten quiet minutes later it starts anew.
    assert_eq!(judged(&mut correlator, event("later", 700)), Some((1, "later".into())));
}

#[test]
fn an_object_gets_25_at_once_and_one_more_in_five_minutes() {
    let mut correlator = Correlator::default();
    let written = (0..40).filter(|_| judged(&mut correlator, event("m", 0)).is_some()).count();
    assert_eq!(written, 25);
    assert!(judged(&mut correlator, event("m", 299)).is_none());
    assert_eq!(
        judged(&mut correlator, event("m", 601)).unwrap().0,
        42,
        "dropped ones are counted all the same"
    );
    let mut other = event("m", 602);
    other.object.name = "q".into();
    assert!(judged(&mut correlator, other).is_some());
}

#[test]
fn names_fit() {
    let mut object = event("m", 0).object;
    assert_eq!(event_name(&object, at(0)), "p.18fae27693b40000");
    object.name = "x".repeat(253);
    let name = event_name(&object, at(0));
    assert!(name.len() <= 253 && name.ends_with(".18fae27693b40000"));
}

#[tokio::test]
async fn created_then_patched_and_created_anew_when_expired() {
    let ok = || Reply::Json(200, json!({}));
    let mut fake = Fake::scripted(vec![
        ok(),
        ok(),
        refuse(404, "NotFound", "expired"),
        ok(),
        refuse(403, "Forbidden", "no"),
    ])
    .await;
    let settings = EventSettings { component: "kubelet".into(), host: "n".into() };
    let (recorder, task) = EventRecorder::new(fake.connection.api.clone(), settings);
    for second in 0..3 {
        recorder.record(event("m", second));
    }
    recorder.record(NewEvent { object: InvolvedObject::node("n"), ..event("node", 4) });
    let counters = Arc::clone(&recorder.counters);
    drop(recorder);
    task.run().await;
    let created = fake.next().await;
    assert_eq!((created.method.as_str(), created.path.as_str()), ("POST", "/api/v1/namespaces/ns/events"));
    let involved = json!({"apiVersion": "v1", "kind": "Pod", "namespace": "ns", "name": "p", "uid": "u", "resourceVersion": "7", "fieldPath": "spec.containers{c}"});
    assert_eq!(created.body["involvedObject"], involved);
    assert_eq!(created.body["source"], json!({"component": "kubelet", "host": "n"}));
    let name = created.body["metadata"]["name"].as_str().unwrap().to_owned();
    let patched = fake.next().await;
    assert_eq!(
        (patched.method.as_str(), patched.path),
        ("PATCH", format!("/api/v1/namespaces/ns/events/{name}"))
    );
    assert_eq!(patched.body["count"], json!(2));
    assert_eq!(fake.next().await.method, "PATCH");
    assert_eq!(fake.next().await.body["count"], json!(3));
    assert_eq!(fake.next().await.path, "/api/v1/namespaces/default/events");
    let counts = [&counters.written, &counters.failed, &counters.queue_full]
        .map(|count| count.load(Ordering::Relaxed));
    assert_eq!(counts, [3, 1, 0]);
}

#[tokio::test]
async fn a_full_queue_drops_and_counts() {
    let fake = Fake::by(|_| Reply::Json(200, Value::Null)).await;
    let settings = EventSettings { component: "kubelet".into(), host: "n".into() };
    let (recorder, _task) = EventRecorder::new(fake.connection.api.clone(), settings);
    for _ in 0..QUEUE + 3 {
        recorder.record(event("m", 0));
    }
    assert_eq!(recorder.counters().queue_full.load(Ordering::Relaxed), 3);
}
