//! The start: nothing is done on half of what is known.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use model::{Now, PodKey, PodObservation, PodUid, SandboxId, SandboxObservation};
use serde_json::json;

use super::scenario::{Scenario, pod};
use super::words::action_text;
use crate::pressure::Sample;
use crate::{
    Effect, EffectId, Input, Machine, Node, Outcome, Restored, RuntimeOutcome, Settings, Source, WaitOn,
};

fn at(second: u64) -> Now {
    Now { wall: Timestamp::UNIX_EPOCH, mono: Duration::from_secs(second) }
}

fn actions(effects: Vec<Effect>) -> Vec<String> {
    let action = |effect| match effect {
        Effect::Start { action, .. } => action_text(&action),
        other => format!("{other:?}"),
    };
    effects.into_iter().map(action).collect()
}

/// A sandbox of a pod that nobody wants any more.
fn left() -> PodObservation {
    let mut left = PodObservation::empty(PodUid::from("left"), PodKey::new("ns", "left"));
    left.sandboxes.push(SandboxObservation {
        id: SandboxId::from("box"),
        attempt: 0,
        is_ready: true,
        created_at: Timestamp::UNIX_EPOCH,
        ips: vec![],
    });
    left
}

#[test]
fn nothing_but_reads_is_started_before_it_is_known_what_was_left() {
    let mut node = Node::new(Settings {
        sources: vec![Source::Api],
        is_registering: true,
        pod_cidr: "10.0.0.0/24".into(),
        ..Settings::for_tests()
    });
    let wanted = Arc::new(pod(json!({ "containers": [{ "name": "a", "image": "i" }] })));
    assert_eq!(actions(node.step(at(0), Input::Sample(Sample::default()))), ["relist"]);
    for input in [
        Input::PodsListed { source: Source::Api, pods: vec![wanted] },
        Input::Finished {
            id: EffectId(0),
            outcome: Outcome::Runtime(RuntimeOutcome::Relisted(vec![left()])),
        },
        Input::Tick,
    ] {
        assert_eq!(actions(node.step(at(1), input)), Vec::<String>::new());
    }
    let view = node.view();
    assert_eq!(view.waits[0].on, WaitOn::Restoring);
    assert_eq!(view.pods.size(), 2);
    for pod in view.pods.values() {
        let waits: Vec<_> = pod.waits.iter().map(|wait| (&wait.on, wait.since)).collect();
        assert_eq!(waits, [(&WaitOn::Restoring, Duration::from_secs(1))], "{}", pod.uid);
    }
    assert!(node.next_deadline().is_some_and(|next| next > Duration::from_secs(1)), "the next relist");

    let machine = Machine { cpus: 1, memory_bytes: 1 << 30, ..Machine::default() };
    let restored = Restored { machine, pods: vec![PodUid::from("on-disk")], ..Restored::default() };
    let done = actions(node.step(at(2), Input::Restored(Box::new(restored))));
    for text in ["register", "pod-cidr 10.0.0.0/24", "observe", "cgroup", "volumes", "tear-down"] {
        assert!(done.iter().any(|done| done == text), "{text} is started: {done:?}");
    }
    let view = node.view();
    assert_eq!(view.pods.size(), 3);
    let waits = view.pods.values().flat_map(|pod| pod.waits.iter()).chain(view.waits.iter());
    assert_eq!(waits.filter(|wait| wait.on == WaitOn::Restoring).count(), 0);
}

#[test]
fn the_node_waits_for_sources_that_have_not_named_their_pods() {
    let settings = Settings { sources: vec![Source::Api, Source::File], ..Settings::for_tests() };
    let mut node = Node::begun(settings, Machine::default());
    let mut left = |input| {
        node.step(at(1), input);
        let view = node.view();
        view.waits.iter().find_map(|wait| match &wait.on {
            WaitOn::Sources(sources) => Some(sources.clone()),
            _ => None,
        })
    };
    assert_eq!(left(Input::Tick), Some(vec![Source::Api, Source::File]));
    assert_eq!(left(Input::PodsListed { source: Source::File, pods: vec![] }), Some(vec![Source::Api]));
    assert_eq!(left(Input::PodsListed { source: Source::Api, pods: vec![] }), None);
}

/// Long before the node counts as not ready.
#[test]
fn a_runtime_that_falls_silent_is_waited_for_since_its_last_answer() {
    let mut scenario = Scenario::new();
    let since = scenario.now().mono;
    let silent = |scenario: &Scenario| {
        let view = scenario.node.view();
        view.waits.iter().find(|wait| wait.on == WaitOn::Runtime).map(|wait| wait.since)
    };
    scenario.wait(Duration::from_secs(10));
    assert_eq!(silent(&scenario), None);
    scenario.wait(Duration::from_secs(10));
    assert_eq!(silent(&scenario), Some(since));
}

/// Container ids in a status begin with it. It may be known later than the first containers are, after a restart.
#[test]
fn a_runtime_that_is_named_late_is_named_in_statuses() {
    let mut scenario = Scenario::new();
    scenario.up(&pod(json!({ "containers": [{ "name": "a", "image": "i" }] })));
    let id = |scenario: &Scenario| -> String {
        let view = scenario.node.view();
        let status = &view.pods.values().next().unwrap().status;
        status.container_statuses.as_ref().unwrap()[0].container_id.clone().unwrap()
    };
    assert_eq!(id(&scenario), "containerd://a#0");
    scenario.tell(Input::RuntimeVersion { name: "cri-o".into(), version: "1".into() });
    assert_eq!(id(&scenario), "cri-o://a#0");
}
