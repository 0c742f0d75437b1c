//! Containers that are replaced, alone or all of a pod at once.

use model::{Pod, PodUid};
use serde_json::json;

use super::scenario::{Scenario, pod};
use crate::{Input, Source};

const PRESENT: &str =
    "Pulled: Container image \"i\" already present on machine and can be accessed by the pod";

/// Begins anew after `a` ended with 42, or fails with anything else.
fn restarting() -> Pod {
    let rule = json!({ "action": "RestartAllContainers", "exitCodes": { "operator": "In", "values": [42] } });
    let hook = json!({ "preStop": { "exec": { "command": ["x"] } } });
    pod(json!({
        "restartPolicy": "Never",
        "initContainers": [{ "name": "s", "image": "i", "restartPolicy": "Always" }],
        "containers": [
            { "name": "a", "image": "i", "restartPolicy": "Never", "restartPolicyRules": [rule] },
            { "name": "b", "image": "i", "lifecycle": hook },
        ],
    }))
}

fn condition(scenario: &Scenario) -> String {
    let status = &scenario.statuses[&PodUid::from("u")];
    let found = status.conditions.iter().flatten().find(|c| c.type_ == "AllContainersRestarting");
    found.map_or(String::new(), |c| c.status.clone())
}

/// The others end without hooks and with the least grace, all are removed, the one that asked for it last, and the pod
/// begins anew, sidecars first, with no back-off.
#[test]
fn all_containers_begin_anew() {
    let mut scenario = Scenario::new();
    scenario.up(&restarting());
    assert_eq!(condition(&scenario), "False");
    scenario.play(&[
        (
            "exit a#0 42",
            "Killing: killing | stop b#0 2s | write Running ready=False s=running! a=exit 42 b=running!",
        ),
        ("ok write", ""),
    ]);
    assert_eq!(condition(&scenario), "True");
    scenario.play(&[
        ("ok stop b#0", "Killing: killing | stop s#0 2s | write Running ready=False s=running! a=exit 42 b=exit 143"),
        ("ok write", ""),
        ("ok stop s#0", "remove s#0 | remove b#0 | write Running ready=False s=exit 143 a=exit 42 b=exit 143"),
        ("ok write", ""),
        ("ok remove b#0", "write Running ready=False s=exit 143 a=exit 42 b=RestartingAllContainers"),
        ("ok write", ""),
        ("ok remove s#0", "remove a#0 | write Running ready=False s=RestartingAllContainers a=exit 42 b=RestartingAllContainers"),
        ("ok write", ""),
        ("ok remove a#0", "inspect s | write Running ready=False s=PodInitializing a=PodInitializing b=PodInitializing"),
        ("ok write", ""),
    ]);
    assert_eq!(condition(&scenario), "False");
    let status = scenario.statuses[&PodUid::from("u")].clone();
    for said in status.init_container_statuses.iter().chain(&status.container_statuses).flatten() {
        let last = said.last_state.clone().and_then(|s| s.terminated).unwrap();
        assert_eq!(
            (last.reason.as_deref(), last.exit_code),
            (Some("RestartingAllContainers"), 137),
            "{}",
            said.name
        );
        assert_eq!(said.restart_count, 1, "{}", said.name);
    }
    scenario.play(&[("ok inspect s", &format!("{PRESENT} | start s#1"))]);
    while let Some(text) = scenario.under_way().first().cloned() {
        scenario.done(&text);
    }
    let status = scenario.statuses[&PodUid::from("u")].clone();
    for said in status.init_container_statuses.iter().chain(&status.container_statuses).flatten() {
        assert!(said.ready && said.restart_count == 1, "{said:?}");
    }
}

/// The same where a sidecar asks for it: the pod's only regular container has ended then, in a pod whose containers are not
/// restarted otherwise.
#[test]
fn a_sidecar_lets_all_containers_begin_anew() {
    let rule = json!({ "action": "RestartAllContainers", "exitCodes": { "operator": "In", "values": [42] } });
    let mut scenario = Scenario::new();
    scenario.up(&pod(json!({
        "restartPolicy": "Never",
        "initContainers": [
            { "name": "i", "image": "i" },
            { "name": "s", "image": "i", "restartPolicy": "Always" },
            { "name": "q", "image": "i", "restartPolicy": "Always", "restartPolicyRules": [rule] },
        ],
        "containers": [{ "name": "a", "image": "i" }],
    })));
    scenario.exits("i#0", 0);
    while let Some(text) = scenario.under_way().first().cloned() {
        scenario.done(&text);
    }
    scenario.exits("q#0", 42);
    let end = "write Running ready=False i=exit 0! s=exit 143 q=exit 42 a=exit 143";
    scenario.play(&[
        ("ok write", ""),
        ("ok stop a#0", "Killing: killing | stop s#0 2s | write Running ready=False i=exit 0! s=running! q=exit 42 a=exit 143"),
        ("ok write", ""),
        ("ok stop s#0", &format!("remove i#0 | remove s#0 | remove a#0 | {end}")),
        ("ok remove i#0", ""),
        ("ok remove s#0", ""),
        ("ok remove a#0", "remove q#0"),
        ("ok remove q#0", "inspect i"),
    ]);
    scenario.done("write");
    for ends in [Some("i#1"), None] {
        while let Some(text) = scenario.under_way().first().cloned() {
            scenario.done(&text);
        }
        if let Some(id) = ends {
            scenario.exits(id, 0);
        }
    }
    let status = scenario.statuses[&PodUid::from("u")].clone();
    assert_eq!(status.phase.as_deref(), Some("Running"));
    for said in status.init_container_statuses.iter().chain(&status.container_statuses).flatten() {
        assert!(said.ready && said.restart_count == 1, "{said:?}");
    }
}

/// An instance that is replaced because its image changed is followed by another whatever the policy, and the API
/// server never hears of an end that it would not let the container come back from.
#[test]
fn a_changed_image_restarts_where_nothing_else_does() {
    let mut scenario = Scenario::new();
    let mut pod = pod(json!({ "restartPolicy": "Never", "containers": [{ "name": "a", "image": "i" }] }));
    scenario.up(&pod);
    pod.spec.as_mut().unwrap().containers[0].image = Some("j".into());
    pod.metadata.resource_version = Some("1000".into());
    pod.status = Some((*scenario.statuses[&PodUid::from("u")]).clone());
    assert_eq!(
        scenario.apply(&pod),
        "Killing: Container a definition changed, will be restarted | stop a#0 30s"
    );
    scenario.play(&[
        ("ok stop a#0", "inspect a | write Running ready=False a=ContainerCreating"),
        ("ok write", ""),
        ("ok inspect a", &format!("{} | start a#1", PRESENT.replace("\"i\"", "\"j\""))),
        (
            "ok start a#1",
            "Created: Container created | Started: Container started | write Running ready=True a=running!",
        ),
    ]);
}

/// When that has failed once, the exit code and the policy count again.
#[test]
fn a_changed_image_that_cannot_be_pulled_ends_such_a_pod() {
    let mut scenario = Scenario::new();
    let mut pod = pod(json!({ "restartPolicy": "Never", "containers": [{ "name": "a", "image": "i" }] }));
    scenario.up(&pod);
    pod.spec.as_mut().unwrap().containers[0].image = Some("j".into());
    pod.metadata.resource_version = Some("1000".into());
    pod.status = Some((*scenario.statuses[&PodUid::from("u")]).clone());
    scenario.apply(&pod);
    scenario.done("stop a#0");
    scenario.done("write");
    scenario.play(&[
        ("absent inspect a", "Pulling: Pulling image \"j\" | pull a"),
        (
            "fail pull a: denied",
            "Failed: Failed to pull image \"j\": denied | Failed: Error: ErrImagePull | \
             stop-sandbox box0 | write Failed ready=False a=exit 143",
        ),
    ]);
}

/// A container that fails its liveness probe where nothing is restarted ends its pod at once: nothing of it is
/// started again meanwhile.
#[test]
fn failed_liveness_ends_a_pod_that_restarts_nothing() {
    let mut scenario = Scenario::new();
    let probe = json!({ "tcpSocket": { "port": 80 }, "failureThreshold": 1 });
    scenario.up(&pod(json!({
        "restartPolicy": "Never",
        "initContainers": [{ "name": "s", "image": "i", "restartPolicy": "Always" }],
        "containers": [{ "name": "a", "image": "i", "livenessProbe": probe }],
    })));
    scenario.play(&[
        ("wait 9", "probe a#0 Liveness"),
        (
            "bad probe",
            "Unhealthy: Liveness probe failed: no | Killing: Stopping container s | \
             Killing: Stopping container a | stop a#0 30s",
        ),
        ("exit s#0 0", "write Running ready=False s=exit 0 a=running!"),
    ]);
}

/// The network of a dead sandbox is taken down before another is made.
#[test]
fn a_dead_sandbox_is_stopped_before_it_is_replaced() {
    let mut scenario = Scenario::new();
    let pod = pod(json!({ "containers": [{ "name": "a", "image": "i" }] }));
    scenario.up(&pod);
    scenario.sandbox_dies("box0");
    scenario.play(&[
        ("exit a#0 137", "inspect a | stop-sandbox box0 | write Running ready=False a=exit 137"),
        ("ok write", ""),
        ("ok inspect a", PRESENT),
        ("fail stop-sandbox: busy", "FailedKillPod: error killing pod: failed to \"KillPodSandbox\" for \"u\" with KillPodSandboxError: \"busy\""),
        ("wait 1", "stop-sandbox box0"),
        (
            "ok stop-sandbox",
            "SandboxChanged: Pod sandbox changed, it will be killed and re-created. | sandbox 1",
        ),
    ]);
}

/// The same for a pod that is over with its sandbox.
#[test]
fn the_dead_sandbox_of_a_pod_that_is_over_is_stopped() {
    let mut scenario = Scenario::new();
    scenario.up(&pod(json!({ "restartPolicy": "Never", "containers": [{ "name": "a", "image": "i" }] })));
    scenario.sandbox_dies("box0");
    scenario.play(&[
        ("exit a#0 137", "stop-sandbox box0 | write Failed ready=False a=exit 137"),
        ("ok write", ""),
        ("ok stop-sandbox", "tear-down | remove-cgroup"),
    ]);
}

/// A container that has ended for good is not run once more because the runtime has lost all of its pod.
#[test]
fn what_has_ended_for_good_is_not_run_again() {
    let mut scenario = Scenario::new();
    let two = json!([{ "name": "a", "image": "i" }, { "name": "b", "image": "i" }]);
    let mut pod = pod(json!({ "restartPolicy": "OnFailure", "containers": two }));
    scenario.up(&pod);
    scenario.exits("a#0", 0);
    scenario.done("write");
    pod.status = Some((*scenario.statuses[&PodUid::from("u")]).clone());
    pod.metadata.resource_version = Some("1000".into());
    let mut after = Scenario::restarted(std::collections::BTreeMap::new(), scenario.at);
    let listed = Input::PodsListed { source: Source::Api, pods: vec![std::sync::Arc::new(pod)] };
    after.tell(Input::PodsListed { source: Source::File, pods: vec![] });
    after.tell(listed);
    let mut done = Vec::new();
    while let Some(text) = after.under_way().first().cloned() {
        after.done(&text);
        done.push(text);
    }
    assert!(done.contains(&"start b#1".to_owned()), "{done:?}");
    assert!(!done.iter().any(|text| text.starts_with("start a")), "{done:?}");
}
