//! Init containers and sidecars.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::scene::{SOON, Scene, condition, container, ended, phase, shell, with};

fn shared(container: Value) -> Value {
    with(container, json!({ "volumeMounts": [{ "name": "shared", "mountPath": "/shared" }] }))
}

fn sidecar(container: Value) -> Value {
    let probe = json!({ "exec": { "command": ["test", "-e", "/shared/sidecar"] }, "periodSeconds": 1 });
    with(shared(container), json!({ "restartPolicy": "Always", "startupProbe": probe }))
}

fn volumes() -> Value {
    json!([{ "name": "shared", "emptyDir": {} }])
}

pub(super) async fn containers_run_in_order(scene: Scene) -> Result<()> {
    let append = |name: &str| shared(shell(name, &format!("sleep 0.3; echo {name} >> /shared/order")));
    let spec = json!({
        "restartPolicy": "Never",
        "initContainers": [append("one"), append("two"), append("three")],
        "containers": [shared(shell("main", "cat /shared/order"))],
        "volumes": volumes(),
    });
    let (pod, log) = scene.finished_pod("ordered", spec).await?;
    ensure!(log == "one\ntwo\nthree\n", "one after another: {log:?}");
    ensure!(condition(&pod, "Initialized") == "True", "the pod is initialized");
    ensure!(ended(&pod, "one") == Some(("Completed", 0)), "the first is completed");
    Ok(())
}

pub(super) async fn failure_fails_the_pod(scene: Scene) -> Result<()> {
    let spec = json!({
        "restartPolicy": "Never",
        "initContainers": [shell("bad", "exit 5"), shell("never", "true")],
        "containers": [shell("main", "true")],
    });
    scene.pod("failed", spec).await?;
    let pod = scene.until("failed", "failed", SOON, |pod| phase(pod) == "Failed").await?;
    ensure!(ended(&pod, "bad") == Some(("Error", 5)), "the init container failed");
    for later in ["never", "main"] {
        let ran = container(&pod, later).and_then(|status| status.container_id.as_ref());
        ensure!(ran.is_none(), "{later} never ran");
    }
    Ok(())
}

pub(super) async fn sidecar_starts_before_and_does_not_hold_up_the_end(scene: Scene) -> Result<()> {
    let helper = sidecar(shell("helper", "sleep 1; touch /shared/sidecar; sleep 1000"));
    let spec = json!({
        "restartPolicy": "Never",
        "initContainers": [helper, shared(shell("after", "ls /shared > /shared/seen"))],
        "containers": [shared(shell("main", "cat /shared/seen"))],
        "volumes": volumes(),
    });
    scene.pod("job", spec).await?;
    let pod =
        scene.until("job", "finished", SOON, |pod| matches!(phase(pod), "Succeeded" | "Failed")).await?;
    ensure!(phase(&pod) == "Succeeded", "the sidecar's end does not count: {:?}", pod.status);
    let log = scene.log("job", Some("main")).await?;
    ensure!(log.contains("sidecar"), "the sidecar had started before the next init container: {log:?}");
    Ok(())
}

pub(super) async fn sidecar_ends_last(scene: Scene) -> Result<()> {
    let helper = "trap 'cat /shared/end; exit 0' TERM; touch /shared/sidecar; echo started; while :; do sleep 0.1; done";
    let main = "trap 'sleep 1; echo main ended > /shared/end; exit 0' TERM; echo started; while :; do sleep 0.1; done";
    let spec = json!({
        "initContainers": [sidecar(shell("helper", helper))],
        "containers": [shared(shell("main", main))],
        "volumes": volumes(),
        "terminationGracePeriodSeconds": 30,
    });
    scene.ready_pod("pair", spec).await?;
    // A signal that comes before the trap is lost.
    scene.first_line("pair", "main").await?;
    let log = scene.follow("pair", "helper").await?;
    scene.delete("pair").await?;
    scene.gone("pair").await?;
    let lines = log.lines().await?;
    ensure!(
        lines == ["started", "main ended"],
        "the sidecar was stopped after the main container: {lines:?}"
    );
    Ok(())
}

/// A sidecar's preStop hook runs when the pod's end begins, its signal comes when everything before it has ended.
pub(super) async fn sidecars_hooks_run_at_the_start_of_the_end(scene: Scene) -> Result<()> {
    let proxy = "trap 'echo proxy TERM; exit 0' TERM; echo started; while :; do sleep 0.1; done";
    let proxy_with = |hook: &str| {
        let hook = json!({ "preStop": { "exec": { "command": ["sh", "-c", hook] } } });
        with(shared(shell("proxy", proxy)), json!({ "restartPolicy": "Always", "lifecycle": hook }))
    };
    // The main container ends after the hook has begun, and the hook after the main container has ended.
    let waits = "echo hook begins > /proc/1/fd/1; touch /shared/hook; \
                 until test -e /shared/ended; do sleep 0.1; done; echo hook ends > /proc/1/fd/1";
    let main = "trap 'until test -e /shared/hook; do sleep 0.1; done; touch /shared/ended; exit 0' TERM; \
                echo started; while :; do sleep 0.1; done";
    let spec = json!({
        "initContainers": [proxy_with(waits)],
        "containers": [shared(shell("main", main))],
        "volumes": volumes(),
        "terminationGracePeriodSeconds": 50,
    });
    scene.ready_pod("hooked", spec).await?;
    // A hook that takes longer than the application: the signal waits for it.
    let slow = json!({
        "initContainers": [proxy_with("echo hook begins > /proc/1/fd/1; sleep 4; echo hook ends > /proc/1/fd/1")],
        "containers": [shell("main", "trap 'exit 0' TERM; echo started; while :; do sleep 0.1; done")],
        "volumes": volumes(),
        "terminationGracePeriodSeconds": 50,
    });
    scene.ready_pod("slow", slow).await?;
    for pod in ["hooked", "slow"] {
        scene.first_line(pod, "main").await?;
        let log = scene.follow(pod, "proxy").await?;
        scene.delete(pod).await?;
        scene.gone(pod).await?;
        let lines = log.lines().await?;
        ensure!(lines == ["started", "hook begins", "hook ends", "proxy TERM"], "{pod}: {lines:?}");
    }
    Ok(())
}
