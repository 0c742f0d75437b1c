//! A pod's way from its creation to its end.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams};
use serde_json::json;

use super::scene::{SOON, Scene, container, ended, phase, shell, waiting, with};

pub(super) async fn pod_runs_and_is_deleted_gracefully(scene: Scene) -> Result<()> {
    let script = "trap 'echo asked to end; exit 0' TERM; echo started; sleep 1000 & wait";
    let spec = json!({ "containers": [shell("main", script)], "terminationGracePeriodSeconds": 60 });
    let pod = scene.ready_pod("graceful", spec).await?;
    ensure!(phase(&pod) == "Running", "a ready pod is Running, not {}", phase(&pod));
    let status = pod.status.unwrap_or_default();
    ensure!(
        status.pod_ip.is_some_and(|ip| ip.starts_with("10.88.")),
        "the pod has an address of the pod network"
    );
    ensure!(status.host_ip.as_deref() == Some(crate::isolation::NODE_IP), "the host's address is the node's");
    ensure!(status.start_time.is_some(), "the pod has a start time");

    let log = scene.follow("graceful", "main").await?;
    scene.delete("graceful").await?;
    scene.gone("graceful").await?;
    let lines = log.lines().await?;
    ensure!(lines == ["started", "asked to end"], "the container was asked to end: {lines:?}");
    scene.event("graceful", "Killing", SOON).await?;
    Ok(())
}

pub(super) async fn pre_stop_hook_runs_first(scene: Scene) -> Result<()> {
    let script = "trap 'echo asked to end; exit 0' TERM; echo started; sleep 1000 & wait";
    let hook = json!({ "preStop": { "exec": { "command": ["sh", "-c", "echo hook > /proc/1/fd/1"] } } });
    let container = with(shell("main", script), json!({ "lifecycle": hook }));
    scene
        .ready_pod("hook", json!({ "containers": [container], "terminationGracePeriodSeconds": 60 }))
        .await?;
    let log = scene.follow("hook", "main").await?;
    scene.delete("hook").await?;
    scene.gone("hook").await?;
    let lines = log.lines().await?;
    ensure!(lines == ["started", "hook", "asked to end"], "the hook runs before the signal: {lines:?}");

    // A hook that never ends is waited for as long as the grace period lasts, and ends with its container.
    let script = "trap 'echo asked to end' TERM; echo started; while :; do sleep 0.1; done";
    let endless = "while :; do echo hook > /proc/1/fd/1; sleep 0.2; done";
    let hook = json!({ "preStop": { "exec": { "command": ["sh", "-c", endless] } } });
    let container = with(shell("main", script), json!({ "lifecycle": hook }));
    let spec = json!({ "containers": [container], "terminationGracePeriodSeconds": 3 });
    scene.ready_pod("endless", spec).await?;
    let log = scene.follow("endless", "main").await?;
    scene.delete("endless").await?;
    scene.gone("endless").await?;
    let lines = log.lines().await?;
    let asked = lines.iter().position(|line| line == "asked to end");
    ensure!(asked.is_some_and(|at| lines[at..].iter().any(|line| line == "hook")), "it goes on: {lines:?}");
    Ok(())
}

pub(super) async fn post_start_hook_runs(scene: Scene) -> Result<()> {
    let hook = json!({ "postStart": { "exec": { "command": ["sh", "-c", "echo hook > /hook/ran"] } } });
    let mounts = json!([{ "name": "hook", "mountPath": "/hook" }]);
    let script = "until test -e /hook/ran; do sleep 0.1; done; cat /hook/ran";
    let container = with(shell("main", script), json!({ "lifecycle": hook, "volumeMounts": mounts }));
    let volumes = json!([{ "name": "hook", "emptyDir": {} }]);
    let spec = json!({ "restartPolicy": "Never", "containers": [container], "volumes": volumes });
    let (pod, log) = scene.finished_pod("hook", spec).await?;
    ensure!(phase(&pod) == "Succeeded" && log == "hook\n", "the hook ran: {log:?}");

    let failing = json!({ "postStart": { "exec": { "command": ["sh", "-c", "exit 3"] } } });
    let container = with(shell("main", "sleep 1000"), json!({ "lifecycle": failing }));
    scene.pod("failing", json!({ "restartPolicy": "Never", "containers": [container] })).await?;
    scene.until("failing", "failed", SOON, |pod| phase(pod) == "Failed").await?;
    scene.event("failing", "FailedPostStartHook", SOON).await?;
    Ok(())
}

/// Service meshes hold the application back by a postStart hook. Until it is through, its container is one that is
/// being made, and so are the next ones.
pub(super) async fn post_start_hook_holds_the_next_container_back(scene: Scene) -> Result<()> {
    let mounts = json!([{ "name": "shared", "mountPath": "/shared" }]);
    let hook = "until test -e /shared/go; do sleep 0.1; done; touch /shared/hook-done";
    let hook = json!({ "postStart": { "exec": { "command": ["sh", "-c", hook] } } });
    let mesh =
        with(shell("mesh", "echo up; sleep 1000"), json!({ "lifecycle": hook, "volumeMounts": mounts }));
    let app = with(
        shell("app", "ls /shared/hook-done > /shared/seen 2>&1; sleep 1000"),
        json!({ "volumeMounts": mounts }),
    );
    let volumes = json!([{ "name": "shared", "emptyDir": {} }]);
    scene.pod("holds", json!({ "containers": [mesh, app], "volumes": volumes })).await?;
    scene.event("holds", "Started", SOON).await?;
    // The event comes before the status, if there is one: the hook lasts until it is told to end.
    let refused = scene.kubectl_with(b"", &["logs", "holds", "--container=mesh"]).await?;
    let why = "container \"mesh\" in pod \"holds\" is waiting to start: ContainerCreating";
    ensure!(refused.code != 0 && refused.err.contains(why), "no log yet: {refused:?}");
    let pod = scene.until("holds", "known", SOON, |pod| container(pod, "mesh").is_some()).await?;
    ensure!(phase(&pod) == "Pending", "it is being started: {}", phase(&pod));
    for name in ["mesh", "app"] {
        let status = container(&pod, name).cloned().unwrap_or_default();
        ensure!(waiting(&pod, name) == "ContainerCreating", "{name} is being made: {:?}", status.state);
        ensure!(!status.ready && status.started != Some(true), "{name} is neither ready nor started");
    }
    scene.kubectl_out(&["exec", "holds", "--container=mesh", "--", "touch", "/shared/go"]).await?;
    scene.until("holds", "ready", SOON, super::scene::is_ready).await?;
    let seen = scene.kubectl_out(&["exec", "holds", "--container=app", "--", "cat", "/shared/seen"]).await?;
    ensure!(seen == "/shared/hook-done\n", "the application began after the hook: {seen:?}");
    Ok(())
}

/// A hook that fails takes its own container with it, and nobody is told what it printed.
pub(super) async fn failed_post_start_hook_tells_no_secret(scene: Scene) -> Result<()> {
    let hook =
        json!({ "postStart": { "exec": { "command": ["sh", "-c", "echo pretend-password; exit 1"] } } });
    let failing = with(shell("hook", "sleep 1000"), json!({ "lifecycle": hook }));
    scene.pod("failing", json!({ "containers": [failing, shell("app", "sleep 1000")] })).await?;
    let message = scene.event("failing", "FailedPostStartHook", SOON).await?;
    ensure!(message == "PostStartHook failed", "upstream's words, and no more: {message:?}");
    scene.event_naming("failing", "Killing", "FailedPostStartHook").await?;
    let runs = |pod: &Pod| {
        let app = container(pod, "app").and_then(|status| status.state.clone()).unwrap_or_default();
        app.running.is_some() && super::scene::restarts(pod, "hook") >= 1
    };
    scene.until("failing", "running beside it, and the container tried again", SOON, runs).await?;
    let events = scene.events("failing").await?;
    ensure!(!events.iter().any(|event| event.contains("pretend-password")), "{events:?}");
    Ok(())
}

pub(super) async fn finished_pods_report_exit_code_and_message(scene: Scene) -> Result<()> {
    let never = |script| json!({ "restartPolicy": "Never", "containers": [shell("main", script)] });
    let (pod, _) = scene.finished_pod("good", never("echo all done > /dev/termination-log")).await?;
    ensure!(phase(&pod) == "Succeeded" && ended(&pod, "main") == Some(("Completed", 0)), "{:?}", pod.status);
    ensure!(message(&pod).as_deref() == Some("all done\n"), "the message is kept: {:?}", message(&pod));

    let (pod, _) = scene.finished_pod("bad", never("exit 42")).await?;
    ensure!(phase(&pod) == "Failed" && ended(&pod, "main") == Some(("Error", 42)), "{:?}", pod.status);

    let fallback = json!({ "terminationMessagePolicy": "FallbackToLogsOnError" });
    let container = with(shell("main", "echo last words; exit 1"), fallback);
    let (pod, _) =
        scene.finished_pod("talks", json!({ "restartPolicy": "Never", "containers": [container] })).await?;
    ensure!(message(&pod).as_deref() == Some("last words\n"), "the log is the message: {:?}", message(&pod));
    Ok(())
}

fn message(pod: &Pod) -> Option<String> {
    container(pod, "main")?.state.as_ref()?.terminated.as_ref()?.message.clone()
}

pub(super) async fn deadline_ends_a_pod(scene: Scene) -> Result<()> {
    let spec = json!({ "activeDeadlineSeconds": 2, "containers": [shell("main", "sleep 1000")] });
    scene.pod("late", spec).await?;
    let pod = scene.until("late", "failed", SOON, |pod| phase(pod) == "Failed").await?;
    let reason = pod.status.and_then(|status| status.reason);
    ensure!(reason.as_deref() == Some("DeadlineExceeded"), "the reason is the deadline, not {reason:?}");
    scene.event("late", "DeadlineExceeded", SOON).await?;
    Ok(())
}

pub(super) async fn forced_deletion_removes_the_container(scene: Scene) -> Result<()> {
    let spec = json!({
        "containers": [shell("main", "echo started; trap '' TERM; while :; do sleep 1; done")],
        "terminationGracePeriodSeconds": 600,
    });
    scene.ready_pod("forced", spec).await?;
    let log = scene.follow("forced", "main").await?;
    let pods: Api<Pod> = scene.api();
    pods.delete("forced", &DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() }).await?;
    scene.gone("forced").await?;
    // The log ends only with the container.
    log.lines().await?;
    Ok(())
}
