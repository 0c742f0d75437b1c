//! When probes are made, and what they come to.

use std::sync::Arc;
use std::time::Duration;

use model::probe::ProbeOutcome;
use model::{Pod, PodUid};
use serde_json::{Value, json};

use super::scenario::{Scenario, pod};
use crate::{Input, Outcome, Source};

fn with(probes: Value) -> Pod {
    let mut container = json!({ "name": "a", "image": "i" });
    container.as_object_mut().unwrap().extend(probes.as_object().unwrap().clone());
    pod(json!({ "containers": [container] }))
}

/// Up to the start of its container, and the status that says so.
fn begun(pod: &Pod) -> Scenario {
    let mut scenario = Scenario::new();
    scenario.apply(pod);
    for text in ["write", "volumes", "cgroup", "inspect a", "sandbox", "start a#0", "write"] {
        scenario.done(text);
    }
    scenario
}

#[test]
fn readiness_waits_for_its_delay_and_keeps_its_rhythm() {
    let mut scenario = begun(&with(json!({
        "readinessProbe": { "tcpSocket": { "port": 1 }, "initialDelaySeconds": 5, "periodSeconds": 4 },
    })));
    scenario.play(&[
        ("wait 4.9", ""),
        ("wait 0.1", "probe a#0 Readiness"),
        ("ok probe", "write Running ready=True a=running!"),
        ("ok write", ""),
        ("wait 4", "probe a#0 Readiness"),
        // Slow to answer: the next one comes when it would have come anyway.
        ("wait 3", ""),
        ("ok probe", ""),
        ("wait 1", "probe a#0 Readiness"),
        ("bad probe", "Unhealthy: Readiness probe failed: no"),
        ("wait 4", "probe a#0 Readiness"),
        ("bad probe", "Unhealthy: Readiness probe failed: no"),
        ("wait 4", "probe a#0 Readiness"),
        ("bad probe", "Unhealthy: Readiness probe failed: no | write Running ready=False a=running"),
    ]);
}

#[test]
fn an_attempt_that_could_not_be_made_counts_for_nothing() {
    let mut scenario = begun(&with(json!({
        "livenessProbe": { "tcpSocket": { "port": 1 }, "periodSeconds": 2, "failureThreshold": 2 },
    })));
    scenario.play(&[("wait 2", "probe a#0 Liveness"), ("bad probe", "Unhealthy: Liveness probe failed: no")]);
    scenario.play(&[("wait 2", "probe a#0 Liveness")]);
    assert_eq!(
        scenario.ends("probe", Outcome::Probed(ProbeOutcome::unknown("away"))),
        "Unhealthy: Liveness probe errored and resulted in unknown state: away"
    );
    scenario.play(&[
        ("wait 2", "probe a#0 Liveness"),
        (
            "bad probe",
            "Unhealthy: Liveness probe failed: no | \
             Killing: Container a failed liveness probe, will be restarted | stop a#0 30s",
        ),
    ]);
}

#[test]
fn a_startup_probe_that_never_succeeds_restarts_the_container_with_its_own_grace() {
    let mut scenario = begun(&with(json!({
        "startupProbe": {
            "tcpSocket": { "port": 1 }, "periodSeconds": 1, "failureThreshold": 2,
            "initialDelaySeconds": 1, "terminationGracePeriodSeconds": 3,
        },
        "livenessProbe": { "tcpSocket": { "port": 1 }, "periodSeconds": 1 },
    })));
    scenario.play(&[
        ("wait 1", "probe a#0 Startup"),
        ("bad probe", "Unhealthy: Startup probe failed: no"),
        ("wait 1", "probe a#0 Startup"),
        (
            "bad probe",
            "Unhealthy: Startup probe failed: no | \
             Killing: Container a failed startup probe, will be restarted | stop a#0 3s",
        ),
        ("wait 2", ""),
    ]);
}

/// The same world under a new process, which is told of the pod as the API server has it.
fn restarted(before: &Scenario, pod: &Pod, later: Duration) -> Scenario {
    let mut pod = pod.clone();
    pod.status = Some((*before.statuses[&PodUid::from("u")]).clone());
    pod.metadata.resource_version = Some("500".into());
    let mut after = Scenario::restarted(before.runtime.clone(), before.at + later);
    after.tell(Input::PodsListed { source: Source::Api, pods: vec![Arc::new(pod)] });
    after.done("cgroup");
    after.done("volumes");
    after
}

/// kubernetes#125397: the delay counts from the container's start, whoever lived then.
#[test]
fn a_restart_of_the_node_cuts_no_initial_delay_short() {
    for (field, kind) in
        [("startupProbe", "Startup"), ("livenessProbe", "Liveness"), ("readinessProbe", "Readiness")]
    {
        let probe = json!({ "tcpSocket": { "port": 1 }, "initialDelaySeconds": 60, "periodSeconds": 5 });
        let pod = with(json!({ field: probe }));
        let before = begun(&pod);
        let mut after = restarted(&before, &pod, Duration::from_secs(10));
        after.play(&[("wait 49.9", ""), ("wait 0.1", &format!("probe a#0 {kind}"))]);
        // Long after it there is nothing to wait for but the spread over a period.
        let mut after = restarted(&before, &pod, Duration::from_secs(100));
        after.play(&[("wait 5", &format!("probe a#0 {kind}"))]);
    }
}

/// The end of the startup probe asks for readiness at once, but not within its delay.
#[test]
fn readiness_waits_for_its_delay_after_the_startup_probe_too() {
    let mut scenario = begun(&with(json!({
        "startupProbe": { "tcpSocket": { "port": 1 }, "initialDelaySeconds": 2, "periodSeconds": 1 },
        "readinessProbe": { "tcpSocket": { "port": 1 }, "initialDelaySeconds": 5, "periodSeconds": 10 },
    })));
    scenario.play(&[
        ("wait 2", "probe a#0 Startup"),
        ("ok probe", "write Running ready=False a=running"),
        ("ok write", ""),
        ("wait 2.9", ""),
        ("wait 0.1", "probe a#0 Readiness"),
    ]);
}

/// Until its postStart hook is through, a container is shown as one that is being made, nothing
/// asks whether it works, and the next one waits; when a hook fails, the others start all the same.
#[test]
fn a_container_is_not_there_before_its_hook_is_through() {
    let hook = json!({ "postStart": { "exec": { "command": ["hook"] } } });
    let startup = json!({ "tcpSocket": { "port": 1 }, "periodSeconds": 1 });
    let pod = pod(json!({ "containers": [
        { "name": "a", "image": "i", "lifecycle": hook, "startupProbe": startup },
        { "name": "b", "image": "i" },
    ] }));
    let mut scenario = Scenario::new();
    scenario.apply(&pod);
    for text in ["write", "volumes", "cgroup", "inspect a", "inspect b", "sandbox"] {
        scenario.done(text);
    }
    scenario.play(&[
        ("ok start a#0", "Created: Container created | Started: Container started | postStart a#0"),
        ("wait 5", "write Pending ready=False a=ContainerCreating b=ContainerCreating"),
        ("ok write", ""),
        (
            "fail postStart a#0: the password is x",
            "FailedPostStartHook: PostStartHook failed | Killing: FailedPostStartHook | stop a#0 30s | start b#0 | \
             write Pending ready=False a=PostStartHookError b=ContainerCreating",
        ),
        ("ok write", ""),
    ]);
    assert!(scenario.done("stop a#0").starts_with("inspect a"), "it is tried again");
}

/// `ChangeContainerStatusOnKubeletRestart`: what was ready is not, until its probe says so again.
#[test]
fn a_restart_of_the_node_may_forget_what_was_ready() {
    let pod = with(json!({ "readinessProbe": { "tcpSocket": { "port": 1 }, "periodSeconds": 10 } }));
    let mut before = begun(&pod);
    assert_eq!(before.done("probe"), "write Running ready=True a=running!");
    before.done("write");
    let mut shown = pod.clone();
    shown.status = Some((*before.statuses[&PodUid::from("u")]).clone());
    for (forgets, expected) in [(false, ""), (true, "write Running ready=False a=running")] {
        let mut after = Scenario::restarted(before.runtime.clone(), before.at + Duration::from_secs(20));
        after.node.settings.forgets_readiness = forgets;
        let listed = Input::PodsListed { source: Source::Api, pods: vec![Arc::new(shown.clone())] };
        let said = after.tell(listed);
        assert_eq!(said.split(" | ").find(|line| line.starts_with("write")).unwrap_or_default(), expected);
    }
}
