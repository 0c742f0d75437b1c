//! The three rules of events at their edges: which differences matter, and for how long.

use super::super::{EventType, InvolvedObject};
use super::*;

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
        reason: "BackOff".into(),
        message: message.into(),
        at: Timestamp::from_second(1_800_000_000 + seconds).unwrap(),
    }
}

fn written(correlator: &mut Correlator, event: NewEvent) -> Write {
    match correlator.observe(event) {
        Verdict::Write(write) => write,
        Verdict::Drop => panic!("dropped"),
    }
}

/// One way in which an event differs from [`event`].
type Change = fn(&mut NewEvent);

#[test]
fn a_count_is_raised_only_for_the_same_event() {
    let cases: [(&str, Change, u32); 9] = [
        ("later", |event| event.at += SignedDuration::from_secs(90), 2),
        ("newer version of the object", |event| event.object.resource_version = "8".into(), 2),
        ("another message", |event| event.message = "n".into(), 1),
        ("another reason", |event| event.reason = "Failed".into(), 1),
        ("another type", |event| event.event_type = EventType::Normal, 1),
        ("another container", |event| event.object.field_path = "spec.containers{d}".into(), 1),
        ("another uid", |event| event.object.uid = "v".into(), 1),
        ("another namespace", |event| event.object.namespace = "other".into(), 1),
        ("another kind", |event| event.object.kind = "Node", 1),
    ];
    for (name, change, count) in cases {
        let mut correlator = Correlator::default();
        let first = written(&mut correlator, event("m", 0));
        let mut changed = event("m", 0);
        change(&mut changed);
        assert_eq!(written(&mut correlator, changed).count, count, "{name}");
        assert_eq!(first.count, 1);
    }
}

#[test]
fn a_raised_count_keeps_the_name_and_the_first_time() {
    let mut correlator = Correlator::default();
    let first = written(&mut correlator, event("m", 0));
    let again = written(&mut correlator, event("m", 3600));
    assert_eq!((again.count, &again.name, again.first), (2, &first.name, event("m", 0).at));
    assert_eq!(again.event.at, event("m", 3600).at);
    let other = written(&mut correlator, event("n", 3601));
    assert_ne!(other.name, first.name);
}

#[test]
fn messages_are_similar_while_they_follow_each_other_closely() {
    for (pause, is_combined) in [(0, true), (600, true), (601, false)] {
        let mut correlator = Correlator::default();
        for number in 0..9 {
            let write = written(&mut correlator, event(&format!("m{number}"), 0));
            assert_eq!(write.event.message, format!("m{number}"));
        }
        let tenth = written(&mut correlator, event("m9", pause));
        assert_eq!(tenth.event.message.starts_with(COMBINED), is_combined, "after {pause} s");
    }
}

#[test]
fn only_one_reason_of_one_object_is_similar() {
    let cases: [(&str, Change, bool); 5] = [
        ("another container", |event| event.object.field_path = "spec.containers{d}".into(), true),
        ("another reason", |event| event.reason = "Failed".into(), false),
        ("another type", |event| event.event_type = EventType::Normal, false),
        ("another pod", |event| event.object.name = "q".into(), false),
        ("a pod made anew", |event| event.object.uid = "v".into(), false),
    ];
    for (name, change, is_combined) in cases {
        let mut correlator = Correlator::default();
        for number in 0..9 {
            written(&mut correlator, event(&format!("m{number}"), number));
        }
        let mut tenth = event("m9", 10);
        change(&mut tenth);
        let write = written(&mut correlator, tenth);
        assert_eq!(write.event.message.starts_with(COMBINED), is_combined, "{name}");
    }
}

#[test]
fn the_same_few_messages_are_never_combined() {
    let mut correlator = Correlator::default();
    for round in 1..=2 {
        for number in 0..9 {
            let write = written(&mut correlator, event(&format!("m{number}"), round));
            assert_eq!(
                (write.count, write.event.message),
                (u32::try_from(round).unwrap(), format!("m{number}"))
            );
        }
    }
}

#[test]
fn a_budget_belongs_to_an_object_and_a_type() {
    let cases: [(&str, Change, bool); 6] = [
        ("the same", |_| {}, false),
        ("another reason", |event| event.reason = "Failed".into(), false),
        ("another container", |event| event.object.field_path = "spec.containers{d}".into(), false),
        ("another type", |event| event.event_type = EventType::Normal, true),
        ("another pod", |event| event.object.name = "q".into(), true),
        ("a pod made anew", |event| event.object.uid = "v".into(), true),
    ];
    for (name, change, is_written) in cases {
        let mut correlator = Correlator::default();
        for _ in 0..25 {
            written(&mut correlator, event("m", 0));
        }
        let mut next = event("m", 0);
        change(&mut next);
        assert_eq!(matches!(correlator.observe(next), Verdict::Write(_)), is_written, "{name}");
    }
}

#[test]
fn a_budget_refills_with_time_and_never_beyond_its_burst() {
    // Written at once after the first 25 and this pause, seconds.
    for (pause, want) in [(0, 0), (299, 0), (300, 1), (900, 3), (1_000_000, 25), (-60, 0)] {
        let mut correlator = Correlator::default();
        for _ in 0..25 {
            written(&mut correlator, event("m", 0));
        }
        let more = (0..40).filter(|_| matches!(correlator.observe(event("m", pause)), Verdict::Write(_)));
        assert_eq!(more.count(), want, "after {pause} s");
    }
}

#[test]
fn what_was_used_last_is_remembered_and_memory_has_an_end() {
    let mut recent = Recent::<u32>::default();
    for key in 0..u64::try_from(KEYS).unwrap() {
        *recent.entry(key, || 0) += 1;
    }
    // Used again: the oldest is the youngest now.
    *recent.entry(0, || 0) += 1;
    for key in 10_000..20_000 {
        recent.entry(key, || 0);
        assert!(recent.entries.len() <= KEYS);
        *recent.entry(0, || 0) += 1;
    }
    assert_eq!(*recent.entry(0, || 0), 10_002);
    assert_eq!(*recent.entry(1, || 0), 0, "forgotten, it starts again");
}
