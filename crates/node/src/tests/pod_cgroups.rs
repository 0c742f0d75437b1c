//! What a pod's cgroup has, as its status tells, and what the runtime has lost.

use std::time::Duration;

use model::{CgroupObservation, PodUid};
use serde_json::{Value, json};

use super::scenario::{Scenario, pod};
use crate::{Action, Outcome, RuntimeAction, SandboxLoss};

fn has(memory_limit_bytes: Option<u64>) -> CgroupObservation {
    CgroupObservation { cpu_shares: Some(2), cpu_limit_millis: None, memory_limit_bytes }
}

/// A pod that runs, in a cgroup that has this.
fn running(has: CgroupObservation) -> Scenario {
    let mut scenario = Scenario::new();
    scenario.apply(&pod(
        json!({ "containers": [{ "name": "a", "image": "i", "imagePullPolicy": "IfNotPresent" }] }),
    ));
    scenario.done("write");
    scenario.ends("cgroup", Outcome::Cgroup(has));
    finish(&mut scenario);
    scenario
}

/// All goes well until nothing is under way.
fn finish(scenario: &mut Scenario) {
    while let Some(text) = scenario.under_way().first().cloned() {
        scenario.done(&text);
    }
}

fn memory_limit(scenario: &Scenario) -> Value {
    json!(scenario.statuses[&PodUid::from("u")].resources)["limits"]["memory"].clone()
}

#[test]
fn what_others_write_to_a_cgroup_is_read_and_told() {
    let mut scenario = running(has(None));
    assert_eq!(memory_limit(&scenario), Value::Null);
    scenario.wait(Duration::from_secs(60));
    assert_eq!(scenario.under_way(), ["read cgroups of 1 pods"]);
    scenario.ends(
        "read cgroups of 1 pods",
        Outcome::PodCgroups(vec![("u".into(), has(Some(64 << 20))), ("gone".into(), has(None))]),
    );
    // Nobody acts on it, so it waits a moment for what else there may be.
    scenario.wait(Duration::from_secs(1));
    finish(&mut scenario);
    assert_eq!(memory_limit(&scenario), "64Mi");
    // One that cannot be read has what it had, and nothing is told of what is as it was.
    for outcome in [vec![], vec![("u".into(), has(Some(64 << 20)))]] {
        assert!(scenario.wait(Duration::from_secs(60)).contains("read cgroups of 1 pods"));
        assert_eq!(scenario.ends("read cgroups of 1 pods", Outcome::PodCgroups(outcome)), "");
    }
    assert_eq!(memory_limit(&scenario), "64Mi");
}

/// Whoever reads the log learns why pods start anew after the runtime came back without them.
#[test]
fn a_sandbox_that_is_lost_is_told_from_a_first_one() {
    let lost = |scenario: &Scenario| -> Vec<Option<SandboxLoss>> {
        let started = scenario.actions().filter_map(|action| match action {
            Action::Runtime(RuntimeAction::RunSandbox { loss, .. }) => Some(*loss),
            _ => None,
        });
        started.collect()
    };
    let mut scenario = Scenario::new();
    scenario.apply(&pod(
        json!({ "containers": [{ "name": "a", "image": "i", "imagePullPolicy": "IfNotPresent" }] }),
    ));
    for text in ["write", "volumes", "cgroup"] {
        scenario.done(text);
    }
    assert_eq!(lost(&scenario), [None]);
    finish(&mut scenario);
    scenario.wait(Duration::from_secs(1));
    scenario.runtime.clear();
    scenario.wait(Duration::from_secs(400));
    assert_eq!(lost(&scenario), [Some(SandboxLoss::Gone)]);
    scenario.fails("sandbox 0", crate::FailureKind::Other, "no");
    scenario.wait(Duration::from_secs(60));
    assert_eq!(lost(&scenario), [None], "it is told once");
}
