//! A node that runs short: what is reclaimed, which pod goes, and what is known before that.

use std::time::Duration;

use model::{ImageRef, Signal};
use serde_json::json;

use super::scenario::{Scenario, pod};
use crate::eviction::{ContainerUsage, PodUsage};
use crate::node_status::NodeImage;
use crate::pressure::{Amount, Limit, Sample, Threshold};
use crate::{Failure, FailureKind, Input, Outcome};

const KILLED: &str = "Killing: Stopping container a";

/// A node with these thresholds, of a hundred and ten thousand each, and a pod that runs.
fn scenario(thresholds: &[(Signal, u64, u64)]) -> Scenario {
    let mut scenario = Scenario::new();
    let threshold = |(signal, limit, grace): &(Signal, u64, u64)| Threshold {
        signal: *signal,
        limit: Limit::amount(*limit),
        grace: Duration::from_secs(*grace),
        reclaim: None,
    };
    scenario.node.settings.thresholds = thresholds.iter().map(threshold).collect();
    scenario.node.settings.max_eviction_grace_seconds = 20;
    scenario.up(&pod(json!({ "containers": [{ "name": "a", "image": "i" }] })));
    scenario
}

fn sample(scenario: &Scenario, signal: Signal, available: u64) -> Sample {
    let signals = [(signal, Amount { available, capacity: 10_000 })].into();
    Sample { at: scenario.at, signals, ..Sample::default() }
}

/// A regular sample ten seconds later.
fn sampled(scenario: &mut Scenario, signal: Signal, available: u64) -> String {
    let told = scenario.wait(Duration::from_secs(10));
    let sample = sample(scenario, signal, available);
    join([told, scenario.tell(Input::Sample(sample))])
}

fn join(lines: [String; 2]) -> String {
    lines.into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" | ")
}

/// The pod was measured.
fn measured(scenario: &mut Scenario) -> String {
    let container =
        ContainerUsage { name: "a".to_owned(), memory_bytes: Some(2048), ..ContainerUsage::default() };
    let usage = PodUsage { memory_bytes: Some(2048), containers: vec![container], ..PodUsage::default() };
    scenario.ends("measure", Outcome::PodUsages([("u".into(), usage)].into()))
}

/// The pod goes at once and says why; nothing else is done until nothing of it is left, and then it is measured again.
#[test]
fn a_hard_threshold_is_acted_upon_at_once() {
    let mut scenario = scenario(&[(Signal::Memory, 100, 0)]);
    assert_eq!(sampled(&mut scenario, Signal::Memory, 100), "", "so much is enough");
    assert_eq!(sampled(&mut scenario, Signal::Memory, 99), "measure 1 pods");
    let message = "The node was low on resource: memory. Threshold quantity: 100, available: 99. Container a was using 2Ki, \
                   request is 0, has larger consumption of memory. ";
    assert_eq!(measured(&mut scenario), format!("Evicted: {message} | {KILLED} | stop a#0 2s"));
    assert_eq!(sampled(&mut scenario, Signal::Memory, 98), "", "one at a time");
    scenario.play(&[
        ("ok stop a#0", "stop-sandbox box0 | write Failed ready=False a=exit 143"),
        ("ok write", ""),
        // What it has written is needed.
        ("ok stop-sandbox", "tear-down | remove-cgroup | remove a#0"),
        ("ok remove-cgroup", ""),
        ("ok tear-down", ""),
        ("ok remove a#0", "sample"),
    ]);
    let status = scenario.statuses.values().next().unwrap().clone();
    assert_eq!((status.reason.as_deref(), status.message.as_deref()), (Some("Evicted"), Some(message)));
    let conditions = status.conditions.iter().flatten();
    let told: Vec<_> = conditions
        .filter(|c| c.type_ == "DisruptionTarget")
        .map(|c| (c.status.as_str(), c.reason.as_deref(), c.message.as_deref()))
        .collect();
    assert_eq!(told, [("True", Some("TerminationByKubelet"), Some(message))]);
    let last = scenario.node_events.last().map(String::as_str);
    assert_eq!(last, Some("EvictionThresholdMet: Attempting to reclaim memory"));
    assert_eq!(scenario.node.view().tallies.evicted, [(Signal::Memory, 1)].into());
    // Nobody is left who could go, and the node says what it lacks.
    let short = sample(&scenario, Signal::Memory, 98);
    assert_eq!(scenario.ends("sample", Outcome::Sampled(short)), "");
    assert_eq!(sampled(&mut scenario, Signal::Memory, 98), "");
    let view = scenario.node.view();
    let wait = view.waits.iter().find(|wait| wait.on == crate::WaitOn::Shortage(Signal::Memory)).unwrap();
    assert_eq!(
        wait.error.as_deref(),
        Some(
            "98 of 10000 are left, which is below the threshold of 100; there is no pod that may be evicted"
        )
    );
}

/// A soft one has to last, and gives a pod time. A hard one that is met meanwhile takes that away.
#[test]
fn a_soft_threshold_waits_and_a_hard_one_does_not_wait_for_it() {
    let mut scenario = scenario(&[(Signal::Memory, 100, 0), (Signal::Memory, 200, 15)]);
    assert_eq!(sampled(&mut scenario, Signal::Memory, 150), "");
    assert_eq!(sampled(&mut scenario, Signal::Memory, 150), "");
    assert_eq!(sampled(&mut scenario, Signal::Memory, 150), "measure 1 pods");
    assert!(measured(&mut scenario).ends_with("stop a#0 20s"));
    let told = sampled(&mut scenario, Signal::Memory, 50);
    assert_eq!(told, "cancel stop a#0 20s");
    assert_eq!(scenario.ends("stop a#0", Outcome::Cancelled), "stop a#0 2s");
}

fn listed(scenario: &mut Scenario, images: &[&str]) {
    let image = |id: &&str| NodeImage {
        id: ImageRef::from(*id),
        names: Vec::new(),
        size_bytes: 10,
        is_pinned: false,
    };
    assert_eq!(scenario.tell(Input::Images(images.iter().map(image).collect())), "");
}

/// Images go first. Only if that was not enough by what is measured after it, a pod goes.
#[test]
fn a_disk_is_freed_of_images_before_a_pod_goes() {
    for (available, expected) in [(100, ""), (99, "measure 1 pods")] {
        let mut scenario = scenario(&[(Signal::NodeFs, 100, 0)]);
        listed(&mut scenario, &["unused"]);
        scenario.wait(Duration::from_secs(200));
        assert_eq!(sampled(&mut scenario, Signal::NodeFs, 50), "remove-image unused");
        assert_eq!(sampled(&mut scenario, Signal::NodeFs, 40), "", "it is not through");
        scenario.play(&[("ok remove-image", "prune-records"), ("ok prune-records", "sample")]);
        let sample = sample(&scenario, Signal::NodeFs, available);
        assert_eq!(scenario.ends("sample", Outcome::Sampled(sample)), expected);
    }
}

/// What cannot be measured is no reason to act: the next sample begins anew.
#[test]
fn nobody_goes_without_a_measurement() {
    let mut scenario = scenario(&[(Signal::Memory, 100, 0)]);
    assert_eq!(sampled(&mut scenario, Signal::Memory, 50), "measure 1 pods");
    let failure = Failure { kind: FailureKind::Other, message: "no answer".to_owned() };
    assert_eq!(scenario.ends("measure", Outcome::Failed(failure)), "");
    assert_eq!(sampled(&mut scenario, Signal::Memory, 50), "measure 1 pods");
    // It has passed meanwhile.
    assert_eq!(sampled(&mut scenario, Signal::Memory, 500), "");
    assert_eq!(measured(&mut scenario), "");
}

/// A pod of critical priority stays, and one that uses little goes in its place.
#[test]
fn critical_pods_stay() {
    let mut scenario = Scenario::new();
    scenario.node.settings.thresholds = vec![Threshold {
        signal: Signal::Memory,
        limit: Limit::amount(100),
        grace: Duration::ZERO,
        reclaim: None,
    }];
    let mut critical =
        pod(json!({ "priority": 2_000_000_000, "containers": [{ "name": "a", "image": "i" }] }));
    critical.metadata.name = Some("critical".to_owned());
    scenario.up(&critical);
    assert_eq!(sampled(&mut scenario, Signal::Memory, 50), "measure 1 pods");
    assert_eq!(measured(&mut scenario), "");
}
