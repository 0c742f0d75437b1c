//! Pods that cannot run, and how the user learns why.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::json;

use super::scene::{EVENTUALLY, SOON, Scene, ended, is_ready, phase, shell, waiting, with};

pub(super) async fn missing_image_is_reported_and_retried(scene: Scene) -> Result<()> {
    let container = json!({ "name": "main", "image": "registry.invalid/no/such:image" });
    scene.pod("missing", json!({ "containers": [container] })).await?;
    scene.until("missing", "failing to pull", SOON, |pod| waiting(pod, "main") == "ErrImagePull").await?;
    let pod = scene
        .until("missing", "in pull back-off", EVENTUALLY, |pod| waiting(pod, "main") == "ImagePullBackOff")
        .await?;
    ensure!(phase(&pod) == "Pending", "the pod is Pending, not {}", phase(&pod));
    scene.event("missing", "Failed", SOON).await?;
    scene.event("missing", "BackOff", SOON).await?;
    Ok(())
}

pub(super) async fn image_that_may_not_be_pulled(scene: Scene) -> Result<()> {
    let container =
        json!({ "name": "main", "image": "registry.invalid/no/such:image", "imagePullPolicy": "Never" });
    scene.pod("never", json!({ "containers": [container] })).await?;
    scene.until("never", "refused", SOON, |pod| waiting(pod, "main") == "ErrImageNeverPull").await?;
    let container = json!({ "name": "main", "image": "Not a Name" });
    scene.pod("invalid", json!({ "containers": [container] })).await?;
    scene.until("invalid", "refused", SOON, |pod| waiting(pod, "main") == "InvalidImageName").await?;
    Ok(())
}

pub(super) async fn missing_command_is_a_start_error(scene: Scene) -> Result<()> {
    let container = with(shell("main", ""), json!({ "command": ["/no/such/program"] }));
    scene.pod("once", json!({ "restartPolicy": "Never", "containers": [container] })).await?;
    let pod = scene.until("once", "failed", SOON, |pod| phase(pod) == "Failed").await?;
    ensure!(ended(&pod, "main") == Some(("StartError", 128)), "{:?}", ended(&pod, "main"));
    let terminated =
        super::scene::container(&pod, "main").and_then(|status| status.state.clone()?.terminated);
    let started = terminated.and_then(|ended| ended.started_at).map(|time| time.0.as_second());
    ensure!(started == Some(0), "it never ran, which upstream writes as the epoch: {started:?}");
    scene.pod("again", json!({ "containers": [container] })).await?;
    let reported = |pod: &_| {
        matches!(waiting(pod, "main"), "RunContainerError" | "CrashLoopBackOff")
            && ended(pod, "main").is_some_and(|(reason, _)| reason == "StartError")
    };
    scene.until("again", "reported", SOON, reported).await?;
    scene.event("again", "Failed", SOON).await?;
    Ok(())
}

pub(super) async fn missing_config_map_is_reported_and_recovers(scene: Scene) -> Result<()> {
    let from = json!({ "envFrom": [{ "configMapRef": { "name": "later" } }] });
    scene.pod("waits", json!({ "containers": [with(shell("main", "sleep 1000"), from)] })).await?;
    scene
        .until("waits", "reported", SOON, |pod| waiting(pod, "main") == "CreateContainerConfigError")
        .await?;
    let message = scene.event("waits", "Failed", SOON).await?;
    ensure!(message.contains("later"), "the event names the ConfigMap: {message}");
    scene.create::<ConfigMap>(json!({ "metadata": { "name": "later" }, "data": { "a": "b" } })).await?;
    scene.until("waits", "ready", EVENTUALLY, is_ready).await?;
    Ok(())
}

pub(super) async fn missing_secret_volume_is_mounted_once_created(scene: Scene) -> Result<()> {
    let mounts = json!({ "volumeMounts": [{ "name": "later", "mountPath": "/later" }] });
    let volumes = json!([{ "name": "later", "secret": { "secretName": "later" } }]);
    let spec = json!({
        "restartPolicy": "Never", "containers": [with(shell("main", "cat /later/key"), mounts)], "volumes": volumes,
    });
    scene.pod("waits", spec).await?;
    let message = scene.event("waits", "FailedMount", SOON).await?;
    ensure!(message.contains("later"), "the event names the volume: {message}");
    scene.until("waits", "waiting", SOON, |pod| waiting(pod, "main") == "ContainerCreating").await?;
    scene
        .create::<Secret>(json!({ "metadata": { "name": "later" }, "stringData": { "key": "xyzzy\n" } }))
        .await?;
    scene.until("waits", "finished", EVENTUALLY, |pod| phase(pod) == "Succeeded").await?;
    ensure!(scene.log("waits", None).await? == "xyzzy\n", "the secret is there");
    Ok(())
}

/// Each volume that fails is told, and after two minutes and three seconds all of them in the words people look
/// for. In v1.37 upstream's kubelet has those words in its log only, when it is a time limit that ends its wait.
pub(super) async fn every_missing_volume_is_told(scene: Scene) -> Result<()> {
    let mount = |name: &str| json!({ "name": name, "mountPath": format!("/{name}") });
    let container =
        with(shell("main", "true"), json!({ "volumeMounts": [mount("one"), mount("two"), mount("there")] }));
    let volumes = json!([
        { "name": "one", "configMap": { "name": "no-map" } },
        { "name": "two", "secret": { "secretName": "no-secret" } },
        { "name": "there", "emptyDir": {} },
    ]);
    scene.pod("waits", json!({ "containers": [container], "volumes": volumes })).await?;
    for volume in ["one", "two"] {
        let prefix = format!("MountVolume.SetUp failed for volume \"{volume}\" : ");
        scene.event_naming("waits", "FailedMount", &prefix).await?;
    }
    let prefix = "Unable to attach or mount volumes: unmounted volumes=[one two], unattached volumes=[]";
    scene.event_with("waits", "FailedMount", prefix, EVENTUALLY).await?;
    Ok(())
}

/// No kubelet has a plugin for that kind any more. Volumes that no container has are not made, whatever they are.
pub(super) async fn volume_without_a_plugin_is_told(scene: Scene) -> Result<()> {
    let mount = |name: &str| json!({ "name": name, "mountPath": format!("/{name}") });
    let mounts = json!({ "volumeMounts": [mount("there"), mount("old")] });
    let volumes = json!([
        { "name": "there", "emptyDir": {} },
        { "name": "old", "quobyte": { "registry": "registry:7861", "volume": "v" } },
    ]);
    let spec = json!({ "containers": [with(shell("main", "true"), mounts)], "volumes": volumes });
    scene.pod("waits", spec).await?;
    let message = scene.event("waits", "FailedMount", SOON).await?;
    let wanted = ": failed to get Plugin from volumeSpec for volume \"old\" err=no volume plugin matched";
    ensure!(message.starts_with("Unable to attach or mount volumes: unmounted volumes=["), "{message}");
    ensure!(message.contains("old], unattached volumes=[], failed to process volumes=[old]: "), "{message}");
    ensure!(message.ends_with(wanted), "{message}");
    let unused = json!([
        { "name": "old", "quobyte": { "registry": "registry:7861", "volume": "v" } },
        { "name": "none", "configMap": { "name": "no-such-map" } },
    ]);
    let container = shell("main", "sleep 1000");
    scene.ready_pod("runs", json!({ "containers": [container], "volumes": unused })).await?;
    Ok(())
}

pub(super) async fn pod_that_does_not_fit_is_rejected(scene: Scene) -> Result<()> {
    let greedy = json!({ "resources": { "requests": { "cpu": "1000" } } });
    scene.pod("greedy", json!({ "containers": [with(shell("main", "true"), greedy)] })).await?;
    let pod = scene.until("greedy", "rejected", SOON, |pod| phase(pod) == "Failed").await?;
    let reason = pod.status.and_then(|status| status.reason);
    ensure!(reason.as_deref() == Some("OutOfcpu"), "the reason is {reason:?}");

    let elsewhere = json!({ "containers": [shell("main", "true")], "nodeSelector": { "no-such": "label" } });
    scene.pod("elsewhere", elsewhere).await?;
    let pod = scene.until("elsewhere", "rejected", SOON, |pod| phase(pod) == "Failed").await?;
    let reason = pod.status.and_then(|status| status.reason);
    ensure!(reason.as_deref() == Some("NodeAffinity"), "the reason is {reason:?}");
    Ok(())
}

/// Whoever looks at a pod that waits learns from it or its events what it waits for.
pub(super) async fn every_wait_is_explained(scene: Scene) -> Result<()> {
    let of_secret = |key: &str| json!({ "env": [{ "name": "A", "valueFrom": { "secretKeyRef": { "name": "keyless", "key": key } } }] });
    scene
        .create::<Secret>(json!({ "metadata": { "name": "keyless" }, "stringData": { "a": "xyzzy" } }))
        .await?;
    let from_nowhere = json!({ "envFrom": [{ "secretRef": { "name": "no-secret" } }] });
    let missing_image = json!({ "image": "registry.invalid/no/such:image" });
    // Waits that the pod's status tells: name, what is different, reason, and what has to be named.
    let told = [
        ("no-secret", from_nowhere, "CreateContainerConfigError", "no-secret"),
        ("no-key", of_secret("no-such-key"), "CreateContainerConfigError", "no-such-key"),
        ("no-image", missing_image, "ErrImagePull", "registry.invalid/no/such:image"),
    ];
    for (name, fields, ..) in &told {
        scene.pod(name, json!({ "containers": [with(shell("main", "true"), fields.clone())] })).await?;
    }
    // Waits that its events tell: name, volume, and what has to be named.
    let all = [
        ("no-map-volume", json!({ "name": "data", "configMap": { "name": "no-map" } }), "no-map"),
        (
            "no-key-volume",
            json!({ "name": "data", "secret": { "secretName": "keyless", "items": [{ "key": "no-such-key", "path": "x" }] } }),
            "no-such-key",
        ),
        (
            "no-folder",
            json!({ "name": "data", "hostPath": { "path": "/no/such/folder", "type": "Directory" } }),
            "/no/such/folder",
        ),
    ];
    for (name, volume, _) in &all {
        let mounts = json!({ "volumeMounts": [{ "name": "data", "mountPath": "/data" }] });
        scene
            .pod(name, json!({ "containers": [with(shell("main", "true"), mounts)], "volumes": [volume] }))
            .await?;
    }
    for (name, _, reason, named) in told {
        let pod = scene.until(name, "explained", SOON, |pod| waiting(pod, "main") == reason).await?;
        let state =
            super::scene::container(&pod, "main").and_then(|status| status.state.as_ref()?.waiting.as_ref());
        let message = state.and_then(|state| state.message.as_deref()).unwrap_or_default();
        ensure!(message.contains(named) && !message.contains("xyzzy"), "{name}: its status says {message:?}");
        scene.event_naming(name, "Failed", named).await?;
    }
    for (name, _, named) in all {
        let message = scene.event_naming(name, "FailedMount", named).await?;
        ensure!(message.contains("data"), "{name}: its event names the volume: {message:?}");
        let pod =
            scene.until(name, "waiting", SOON, |pod| waiting(pod, "main") == "ContainerCreating").await?;
        ensure!(phase(&pod) == "Pending", "{name} is {}", phase(&pod));
    }
    Ok(())
}
