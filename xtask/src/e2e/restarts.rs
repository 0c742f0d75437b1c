//! Restart policies and back-off.

use anyhow::{Result, ensure};
use serde_json::json;

use super::scene::{EVENTUALLY, SOON, Scene, ended, phase, restarts, shell, waiting, with};

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
