//! Restart policies and back-off.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::scene::{
    EVENTUALLY, SOON, Scene, condition, container, ended, is_ready, phase, restarts, shell, waiting, with,
};
use crate::cluster::wait_for;
use crate::images::AGNHOST;

pub(super) async fn failing_container_backs_off(scene: Scene) -> Result<()> {
    scene.pod("fails", json!({ "containers": [shell("main", "echo trying; exit 3")] })).await?;
    let pod = scene
        .until("fails", "in back-off after two restarts", EVENTUALLY, |pod| {
            restarts(pod, "main") >= 2 && waiting(pod, "main") == "CrashLoopBackOff"
        })
        .await?;
    ensure!(ended(&pod, "main") == Some(("Error", 3)), "the last end is kept: {:?}", ended(&pod, "main"));
    ensure!(phase(&pod) == "Running", "a pod that will be restarted is Running, not {}", phase(&pod));
    scene.event("fails", "BackOff", SOON).await?;
    Ok(())
}

pub(super) async fn on_failure_stops_after_success(scene: Scene) -> Result<()> {
    let script = "test -e /shared/again && exit 0; touch /shared/again; exit 1";
    let mounts = json!({ "volumeMounts": [{ "name": "shared", "mountPath": "/shared" }] });
    let spec = json!({
        "restartPolicy": "OnFailure",
        "containers": [with(shell("main", script), mounts)],
        "volumes": [{ "name": "shared", "emptyDir": {} }],
    });
    scene.pod("twice", spec).await?;
    let pod = scene.until("twice", "finished", SOON, |pod| phase(pod) == "Succeeded").await?;
    ensure!(restarts(&pod, "main") == 1, "one restart, not {}", restarts(&pod, "main"));
    Ok(())
}

/// A container whose image changes is replaced even where nothing is ever restarted, and however it ends.
pub(super) async fn changed_image_is_run_whatever_the_policy(scene: Scene) -> Result<()> {
    let script = "trap 'exit 0' TERM; while :; do sleep 0.1; done";
    let mut waits = Vec::new();
    for policy in ["Never", "OnFailure", "Always"] {
        let name = policy.to_lowercase();
        let spec = json!({
            "restartPolicy": policy,
            "containers": [shell("main", script), shell("other", script)],
            "terminationGracePeriodSeconds": 30,
        });
        waits.push((name.clone(), scene.ready_pod(&name, spec).await?));
    }
    let patch = json!({ "spec": { "containers": [{ "name": "main", "image": AGNHOST }] } });
    for (name, _) in &waits {
        let pods = scene.api::<Pod>();
        pods.patch(name, &PatchParams::default(), &Patch::Strategic(&patch)).await?;
    }
    for (name, _) in &waits {
        let is_new = |pod: &Pod| {
            container(pod, "main").is_some_and(|s| {
                s.image == AGNHOST
                    && s.restart_count == 1
                    && s.state.as_ref().is_some_and(|s| s.running.is_some())
            })
        };
        let pod = scene.until(name, "running the new image", SOON, is_new).await?;
        ensure!(phase(&pod) == "Running" && restarts(&pod, "other") == 0, "{:?}", pod.status);
        scene.event_naming(name, "Killing", "Container main definition changed, will be restarted").await?;
    }
    Ok(())
}

/// A failed liveness probe restarts a container also if it ends with success, unless nothing is to be restarted:
/// then the pod is over at once, and a sidecar that ends meanwhile is not started again.
pub(super) async fn failed_liveness_asks_the_policy_not_the_exit_code(scene: Scene) -> Result<()> {
    let script = "trap 'exit 0' TERM; while :; do sleep 0.1; done";
    let probe = json!({ "exec": { "command": ["false"] }, "periodSeconds": 1, "failureThreshold": 1 });
    let failing = || with(shell("main", script), json!({ "livenessProbe": probe }));
    let side =
        with(shell("side", "trap 'exit 0' TERM; sleep 1000 & wait"), json!({ "restartPolicy": "Always" }));
    let spec = |policy: &str| json!({ "restartPolicy": policy, "containers": [failing()], "initContainers": [side], "terminationGracePeriodSeconds": 30 });
    scene.pod("on-failure", spec("OnFailure")).await?;
    scene.pod("never", spec("Never")).await?;
    scene.until("on-failure", "restarted", SOON, |pod| restarts(pod, "main") >= 1).await?;
    let over = scene.until("never", "over", SOON, |pod| phase(pod) == "Succeeded").await?;
    ensure!(restarts(&over, "main") == 0 && restarts(&over, "side") == 0, "{:?}", over.status);
    Ok(())
}

/// One exit with the code of a rule, and the whole pod begins anew in its sandbox: same address, same volumes, init
/// containers first. What else ran is ended without its hook.
pub(super) async fn rule_restarts_all_containers(scene: Scene) -> Result<()> {
    let mounts = json!({ "volumeMounts": [{ "name": "d", "mountPath": "/d" }] });
    let noting = |name: &str, then: &str| {
        with(shell(name, &format!("echo {name} >> /d/runs; {then}")), mounts.clone())
    };
    let rule = json!({ "action": "RestartAllContainers", "exitCodes": { "operator": "In", "values": [42] } });
    let rules = json!({ "restartPolicy": "Never", "restartPolicyRules": [rule] });
    let hook = json!({ "lifecycle": { "preStop": { "exec": { "command": ["sh", "-c", "echo hook >> /d/runs"] } } } });
    let main =
        "until test -e /d/go; do sleep 0.1; done; test -e /d/again && sleep 100000; touch /d/again; exit 42";
    let spec = json!({
        "restartPolicy": "Never",
        "initContainers": [noting("first", "true"), with(noting("side", "sleep 100000"), json!({ "restartPolicy": "Always" }))],
        "containers": [with(noting("main", main), rules), with(noting("other", "sleep 100000"), hook)],
        "volumes": [{ "name": "d", "emptyDir": {} }],
    });
    let before = scene.ready_pod("all", spec).await?;
    ensure!(condition(&before, "AllContainersRestarting") == "False", "{:?}", before.status);
    let pods = scene.api::<Pod>();
    let marked = wait_for(&pods, "all", SOON, |pod: Option<&Pod>| {
        pod.is_some_and(|p| condition(p, "AllContainersRestarting") == "True")
    });
    let (marked, _) =
        tokio::try_join!(marked, scene.kubectl_out(&["exec", "all", "-c", "other", "--", "touch", "/d/go"]))?;
    ensure!(marked.is_some_and(|pod| phase(&pod) == "Running"), "a pod that begins anew is running");
    let all = ["first", "side", "main", "other"];
    let is_anew = move |pod: &Pod| is_ready(pod) && all.iter().all(|name| restarts(pod, name) == 1);
    let after = scene.until("all", "restarted", SOON, is_anew).await?;
    ensure!(condition(&after, "AllContainersRestarting") == "False", "{:?}", after.status);
    let last = |name: &str| container(&after, name)?.last_state.clone()?.terminated;
    for name in all {
        let end = last(name).map(|t| (t.reason.unwrap_or_default(), t.exit_code));
        ensure!(end == Some(("RestartingAllContainers".to_owned(), 137)), "the last end of {name}: {end:?}");
    }
    let address = |pod: &Pod| pod.status.as_ref().and_then(|s| s.pod_ip.clone());
    ensure!(address(&before) == address(&after), "the sandbox is the same");
    let runs = scene.kubectl_out(&["exec", "all", "-c", "other", "--", "cat", "/d/runs"]).await?;
    let mut runs: Vec<&str> = runs.lines().collect();
    ensure!(runs.len() == 8 && runs[4..6] == ["first", "side"], "init containers first: {runs:?}");
    runs.sort_unstable();
    ensure!(
        runs == ["first", "first", "main", "main", "other", "other", "side", "side"],
        "twice each, no hook: {runs:?}"
    );
    scene.event_naming("all", "Killing", "killing").await?;
    Ok(())
}
