//! When probes are made, and what they come to.

use model::Pod;
use model::probe::ProbeOutcome;
use serde_json::{Value, json};

use super::story::{Story, pod};
use crate::Outcome;

fn with(probes: Value) -> Pod {
    let mut container = json!({ "name": "a", "image": "i" });
    container.as_object_mut().unwrap().extend(probes.as_object().unwrap().clone());
    pod(json!({ "containers": [container] }))
}

/// Up to the start of its container, and the status that says so.
fn begun(pod: &Pod) -> Story {
    let mut story = Story::new();
    story.apply(pod);
    for text in ["write", "volumes", "cgroup", "inspect a", "sandbox", "start a#0", "write"] {
        story.done(text);
    }
    story
}

#[test]
fn readiness_waits_for_its_delay_and_keeps_its_rhythm() {
    let mut story = begun(&with(json!({
        "readinessProbe": { "tcpSocket": { "port": 1 }, "initialDelaySeconds": 5, "periodSeconds": 4 },
    })));
    story.play(&[
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
    let mut story = begun(&with(json!({
        "livenessProbe": { "tcpSocket": { "port": 1 }, "periodSeconds": 2, "failureThreshold": 2 },
    })));
    story.play(&[("wait 2", "probe a#0 Liveness"), ("bad probe", "Unhealthy: Liveness probe failed: no")]);
    story.play(&[("wait 2", "probe a#0 Liveness")]);
    assert_eq!(story.ends("probe", Outcome::Probed(ProbeOutcome::Error("away".into()))), "");
    story.play(&[
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
    let mut story = begun(&with(json!({
        "startupProbe": {
            "tcpSocket": { "port": 1 }, "periodSeconds": 1, "failureThreshold": 2,
            "initialDelaySeconds": 1, "terminationGracePeriodSeconds": 3,
        },
        "livenessProbe": { "tcpSocket": { "port": 1 }, "periodSeconds": 1 },
    })));
    story.play(&[
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
