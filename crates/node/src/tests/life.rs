//! From the first sight of a pod to the last trace of it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use model::{Pod, PodUid, pod};
use serde_json::json;

use super::scenario::{Scenario, pod};
use crate::{Action, Input, Outcome, QosAmounts, RuntimeAction, RuntimeChange, Source};

fn web() -> Pod {
    pod(json!({ "containers": [{ "name": "a", "image": "i" }] }))
}

/// The pod after somebody asked for its deletion.
fn deleted(pod: &Pod, grace: i64) -> Pod {
    let mut pod = pod.clone();
    pod.metadata.deletion_timestamp = Some(Time(Timestamp::from_second(1_700_002_000).unwrap()));
    pod.metadata.deletion_grace_period_seconds = Some(grace);
    pod
}

fn gone() -> Input {
    Input::PodDeleted { source: Source::Api, uid: PodUid::from("u") }
}

/// Two status writes until it is ready, and one when it is over.
#[test]
fn a_pod_comes_up_and_goes() {
    let mut scenario = Scenario::new();
    let pod = web();
    assert_eq!(
        scenario.apply(&pod),
        "cgroup | volumes | inspect a | write Pending ready=False a=ContainerCreating"
    );
    scenario.play(&[
        ("ok write", ""),
        ("ok volumes", ""),
        ("ok cgroup", "sandbox 0"),
        ("ok inspect a", ""),
        // In the order of upstream's events.
        (
            "ok sandbox",
            "Pulled: Container image \"i\" already present on machine and can be accessed by the pod | start a#0",
        ),
        (
            "ok start a#0",
            "Created: Container created | Started: Container started | write Running ready=True a=running!",
        ),
        ("ok write", ""),
        ("wait 60", ""),
    ]);
    assert_eq!(scenario.apply(&deleted(&pod, 30)), "Killing: Stopping container a | stop a#0 30s");
    scenario.play(&[
        ("ok stop a#0", "stop-sandbox box0"),
        // Only now: what the containers came to and the end are one write.
        ("ok stop-sandbox", "tear-down | remove-cgroup | write Failed ready=False a=exit 143"),
        ("ok tear-down", ""),
        ("ok remove-cgroup", ""),
        ("ok write", "delete"),
        ("ok delete", ""),
    ]);
    assert_eq!(scenario.tell(gone()), "remove-sandbox box0");
    scenario.play(&[
        ("ok remove-sandbox", "remove-folder"),
        ("fail remove-folder: busy", ""),
        ("wait 1", "remove-folder"),
        ("ok remove-folder", ""),
    ]);
    assert!(scenario.node.pods.iter().next().is_none());
    // Whoever collects logs gets the last lines, too.
    scenario.play(&[
        ("wait 59", ""),
        ("wait 1", "remove-logs"),
        ("fail remove-logs: busy", ""),
        ("wait 1", "remove-logs"),
    ]);
    scenario.play(&[("ok remove-logs", ""), ("wait 60", "")]);
    assert!(scenario.node.pods.iter().next().is_none());
}

/// What a pod that is going waits for is told like everything else it ever waited for.
#[test]
fn whoever_asks_is_told_what_the_end_of_a_pod_waits_for() {
    let mut scenario = Scenario::new();
    let pod = web();
    scenario.up(&pod);
    let waits = |scenario: &mut Scenario| {
        let view = scenario.node.view();
        let failed = view.pods.values().flat_map(|pod| pod.waits.iter()).filter_map(|wait| {
            Some(format!("{} since {}: {}", wait.on, wait.since.as_secs(), wait.error.clone()?))
        });
        failed.collect::<Vec<_>>()
    };
    scenario.apply(&deleted(&pod, 30));
    scenario.play(&[(
        "fail stop a#0: hangs",
        "FailedKillPod: error killing pod: failed to \"KillContainer\" for \"a\" with KillContainerError: \"hangs\"",
    )]);
    assert_eq!(waits(&mut scenario), ["container a to stop since 1001: hangs"]);
    scenario.play(&[("wait 1", "stop a#0 29s"), ("ok stop a#0", "stop-sandbox box0")]);
    scenario.play(&[("ok stop-sandbox", "tear-down | remove-cgroup | write Failed ready=False a=exit 143")]);
    scenario.play(&[("fail tear-down: in use", ""), ("fail remove-cgroup: full", "")]);
    assert_eq!(
        waits(&mut scenario),
        ["its volumes to be unmounted since 1002: in use", "its cgroup to be removed since 1002: full"]
    );
}

/// The status waits for the sandbox only so long.
#[test]
fn a_sandbox_that_does_not_stop_holds_back_no_status() {
    let mut scenario = Scenario::new();
    let pod = web();
    scenario.up(&pod);
    scenario.apply(&deleted(&pod, 30));
    scenario.play(&[
        ("ok stop a#0", "stop-sandbox box0"),
        ("wait 0.9", ""),
        ("wait 0.1", "write Running ready=False a=exit 143"),
        ("ok write", ""),
        ("ok stop-sandbox", "tear-down | remove-cgroup | write Failed ready=False a=exit 143"),
    ]);
}

#[test]
fn a_pre_stop_hook_shares_the_grace_and_a_second_deletion_shortens_it() {
    let mut scenario = Scenario::new();
    let mut pod = web();
    pod.spec.as_mut().unwrap().containers[0].lifecycle =
        serde_json::from_value(json!({ "preStop": { "exec": { "command": ["x"] } } })).unwrap();
    scenario.up(&pod);
    assert_eq!(scenario.apply(&deleted(&pod, 30)), "Killing: Stopping container a | preStop a#0 34s");
    scenario.play(&[("wait 10", ""), ("ok preStop", "stop a#0 20s"), ("wait 5", "")]);
    assert_eq!(scenario.apply(&deleted(&pod, 60)), "", "never longer");
    assert_eq!(scenario.apply(&deleted(&pod, 5)), "cancel stop a#0 20s");
    scenario.play(&[("cancelled stop a#0", "stop a#0 5s"), ("ok stop a#0", "stop-sandbox box0")]);
}

#[test]
fn a_hook_that_outlasts_the_grace_is_waited_for_no_longer() {
    let mut scenario = Scenario::new();
    let mut pod = web();
    pod.spec.as_mut().unwrap().containers[0].lifecycle =
        serde_json::from_value(json!({ "preStop": { "exec": { "command": ["x"] } } })).unwrap();
    scenario.up(&pod);
    scenario.apply(&deleted(&pod, 10));
    scenario.play(&[
        ("wait 9.5", ""),
        ("wait 0.5", "stop a#0 2s"),
        // It goes on until the container has ended.
        ("ok stop a#0", "stop-sandbox box0"),
        ("fail preStop: killed", "FailedPreStopHook: PreStopHook failed"),
    ]);
}

#[test]
fn a_pod_deleted_while_it_starts_leaves_nothing() {
    let mut scenario = Scenario::new();
    let pod = web();
    scenario.apply(&pod);
    scenario.play(&[("ok write", ""), ("ok volumes", ""), ("ok cgroup", "sandbox 0")]);
    assert_eq!(scenario.apply(&deleted(&pod, 30)), "cancel inspect a | cancel sandbox 0");
    scenario.play(&[
        ("cancelled inspect a", ""),
        // Too late to cancel: it is there and has to go again.
        ("ok sandbox", "stop-sandbox box0"),
    ]);
}

/// What outlives its cancellation may have died before it is seen: its network is there all the same.
#[test]
fn a_dead_sandbox_that_comes_after_the_end_is_stopped() {
    let mut scenario = Scenario::new();
    let pod = web();
    scenario.apply(&pod);
    scenario.play(&[("ok write", ""), ("ok volumes", ""), ("ok cgroup", "sandbox 0")]);
    let run = |action: &&Action| matches!(action, Action::Runtime(RuntimeAction::RunSandbox { .. }));
    let run = scenario.actions().find(run).cloned().unwrap();
    scenario.apply(&deleted(&pod, 30));
    scenario.ends("inspect a", Outcome::Cancelled);
    scenario.ends("sandbox 0", Outcome::Cancelled);
    scenario.perform(&run);
    scenario.sandbox_dies("box0");
    scenario.hint("box0", RuntimeChange::Stopped);
    scenario.wait(Duration::from_secs(60));
    let open = scenario.under_way();
    assert!(open.iter().any(|text| text == "stop-sandbox box0"), "{open:?}");
}

#[test]
fn a_sidecar_comes_first_and_goes_last() {
    let mut scenario = Scenario::new();
    let pod = pod(json!({
        "initContainers": [{ "name": "s", "image": "i", "restartPolicy": "Always" }],
        "containers": [{ "name": "a", "image": "i" }],
    }));
    scenario.apply(&pod);
    for text in ["write", "volumes", "cgroup", "inspect s"] {
        scenario.done(text);
    }
    assert!(scenario.done("sandbox").ends_with(" | start s#0"));
    assert!(scenario.done("start s#0").contains("inspect a"), "the regular ones follow once it has started");
    while let Some(text) = scenario.under_way().first().cloned() {
        scenario.done(&text);
    }
    let both = "Killing: Stopping container s | Killing: Stopping container a | stop a#0 30s";
    assert_eq!(scenario.apply(&deleted(&pod, 30)), both);
    let then = scenario.done("stop a#0");
    assert!(then.starts_with("stop s#0 30s"), "{then}");
    assert!(scenario.done("stop s#0").contains("stop-sandbox box0"));
}

/// A sidecar's hook runs when the end of its pod begins, at the same time as all others; its signal waits for its turn,
/// and for its hook. The hook's time is the pod's.
#[test]
fn a_sidecars_hook_does_not_wait_for_its_turn() {
    let hook = json!({ "preStop": { "exec": { "command": ["x"] } } });
    let pod = pod(json!({
        "initContainers": [
            { "name": "s", "image": "i", "restartPolicy": "Always", "lifecycle": hook },
            { "name": "t", "image": "i", "restartPolicy": "Always", "lifecycle": hook },
        ],
        "containers": [{ "name": "a", "image": "i" }],
    }));
    let killing = "Killing: Stopping container s | preStop s#0 34s | Killing: Stopping container t | preStop t#0 34s | \
                   Killing: Stopping container a | stop a#0 30s";
    let mut scenario = Scenario::new();
    scenario.up(&pod);
    assert_eq!(scenario.apply(&deleted(&pod, 30)), killing);
    scenario.play(&[("ok preStop s#0", ""), ("wait 5", "")]);
    assert!(!scenario.done("stop a#0").contains("stop"), "the hook of the next one still runs");
    scenario.play(&[("ok preStop t#0", "stop t#0 25s")]);
    assert!(scenario.done("stop t#0").contains("stop s#0 25s"));

    // Without an end of the hooks and of the application, all are killed when the time is up.
    let mut scenario = Scenario::new();
    scenario.up(&pod);
    scenario.apply(&deleted(&pod, 30));
    assert_eq!(scenario.wait(Duration::from_secs(30)), "stop s#0 2s | stop t#0 2s");
}

#[test]
fn a_pod_that_completes_ends_in_success() {
    let mut scenario = Scenario::new();
    let mut pod = web();
    pod.spec.as_mut().unwrap().restart_policy = Some("Never".into());
    scenario.up(&pod);
    scenario.play(&[
        // Its result is out before the sandbox is gone, which takes the runtime a while.
        ("exit a#0 0", "stop-sandbox box0 | write Succeeded ready=False a=exit 0"),
        ("ok write", ""),
        ("ok stop-sandbox", "tear-down | remove-cgroup"),
        ("ok tear-down", ""),
        ("ok remove-cgroup", ""),
        ("wait 60", ""),
    ]);
    // It stays readable until somebody deletes it.
    assert_eq!(scenario.runtime.len(), 1);
    assert_eq!(scenario.apply(&deleted(&pod, 0)), "delete");
}

/// A new process takes over: what was ready stays so, and nothing runs twice.
#[test]
fn a_restarted_node_adopts_what_runs() {
    let mut before = Scenario::new();
    let mut pod = web();
    pod.spec.as_mut().unwrap().containers[0].readiness_probe =
        serde_json::from_value(json!({ "tcpSocket": { "port": 80 }, "periodSeconds": 10 })).unwrap();
    before.up(&pod);
    let status = before.statuses[&PodUid::from("u")].clone();
    let mut after = Scenario::restarted(before.runtime.clone(), before.at + Duration::from_secs(5));
    pod.status = Some((*status).clone());
    pod.metadata.resource_version = Some("500".into());
    let first = after.tell(Input::PodsListed { source: Source::Api, pods: vec![Arc::new(pod.clone())] });
    assert_eq!(first, "cgroup | volumes", "made sure of; no status write");
    after.play(&[
        ("ok cgroup", ""),
        ("ok volumes", ""),
        ("wait 10", "probe a#0 Readiness"),
        ("bad probe a#0 Readiness", "Unhealthy: Readiness probe failed: no"),
    ]);
}

/// When processors are short, the class of Burstable pods gets what they request together; requested memory counts, too.
#[test]
fn classes_are_limited_by_what_their_pods_request() {
    let asking = |uid: &str, resources: serde_json::Value| {
        let mut pod = pod(json!({ "containers": [{ "name": "a", "image": "i", "resources": resources }] }));
        pod.metadata.uid = Some(uid.to_owned());
        pod.metadata.name = Some(uid.to_owned());
        pod
    };
    let burstable =
        |uid: &str, cpu: &str| asking(uid, json!({ "requests": { "cpu": cpu, "memory": "1Ki" } }));
    let both = json!({ "cpu": "2", "memory": "1Mi" });
    let guaranteed = asking("g", json!({ "requests": both, "limits": both }));
    let amounts = |millis, burstable, guaranteed| {
        Some(QosAmounts {
            burstable_cpu_millis: millis,
            burstable_memory_bytes: burstable,
            guaranteed_memory_bytes: guaranteed,
        })
    };
    let mut scenario = Scenario::new();
    scenario.tell(Input::PodsListed { source: Source::Api, pods: vec![] });
    // None of them runs, and what an earlier process has set counts no more.
    assert_eq!(scenario.classes, amounts(0, 0, 0));
    scenario.wait(Duration::from_secs(1));
    let first = burstable("u", "250m");
    scenario.apply(&first);
    assert_eq!(scenario.classes, amounts(250, 1024, 0));
    // Soon after: those that come together are worth one write.
    scenario.apply(&burstable("v", "100m"));
    scenario.apply(&burstable("w", "1"));
    scenario.apply(&guaranteed);
    assert_eq!(scenario.classes, amounts(250, 1024, 0));
    scenario.wait(Duration::from_secs(1));
    assert_eq!(scenario.classes, amounts(1350, 3072, 1 << 20));
    scenario.apply(&deleted(&first, 0));
    while let Some(text) = scenario.under_way().first().cloned() {
        scenario.done(&text);
    }
    scenario.wait(Duration::from_secs(2));
    assert_eq!(scenario.classes, amounts(1100, 2048, 1 << 20));
}

/// Whence a pod came and when it was first seen is written on it, whatever its object says there.
#[test]
fn a_pod_of_the_api_server_says_that_it_is_one() {
    let mut pod = web();
    let static_one = (pod::ANNOTATION_CONFIG_SOURCE.to_owned(), "file".to_owned());
    pod.metadata.annotations = Some([static_one].into());
    let mut scenario = Scenario::new();
    scenario.apply(&pod);
    let origin = |scenario: &Scenario| {
        let record = scenario.node.pods.get(&PodUid::from("u")).unwrap();
        let pod = record.desired.pod().unwrap();
        let of = |key| pod::annotation(pod, key).unwrap().to_owned();
        (of(pod::ANNOTATION_CONFIG_SOURCE), of(pod::ANNOTATION_CONFIG_SEEN))
    };
    assert_eq!(origin(&scenario), ("api".into(), "2023-11-14T22:30:00.000000000Z".into()));
    scenario.wait(Duration::from_secs(5));
    pod.metadata.resource_version = Some("2".into());
    scenario.apply(&pod);
    assert_eq!(origin(&scenario).1, "2023-11-14T22:30:00.000000000Z", "when it was first seen");
}

/// What the containers of a pod came to stays so when the runtime loses them while the rest of it ends.
#[test]
fn the_end_of_a_pod_is_told_as_it_was_reached() {
    let mut scenario = Scenario::new();
    scenario.up(&pod(json!({
        "restartPolicy": "OnFailure",
        "initContainers": [{ "name": "s", "image": "i", "restartPolicy": "Always" }],
        "containers": [{ "name": "a", "image": "i" }],
    })));
    scenario.exits("a#0", 1);
    while let Some(text) = scenario.under_way().first().cloned() {
        scenario.done(&text);
    }
    let ending = scenario.exits("a#1", 0);
    assert!(ending.contains("stop s#0"), "{ending}");
    for held in scenario.runtime.values_mut() {
        held.containers.retain(|container| container.id.as_str() != "a#1");
    }
    scenario.hint("a#1", RuntimeChange::Deleted);
    while let Some(text) = scenario.under_way().first().cloned() {
        scenario.done(&text);
    }
    let status = &scenario.statuses[&PodUid::from("u")];
    assert_eq!(status.phase.as_deref(), Some("Succeeded"), "{status:?}");
}
