//! Images mounted as volumes.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::explain;
use super::scene::{SOON, Scene, container, is_ready, phase, restarts, shell, waiting, with};
use super::static_pods::{Manifest, mirror};
use crate::cluster::Changes;
use crate::images::{AGNHOST, BUSYBOX};
use crate::isolation::NODE;

/// An image that no registry has.
const NOWHERE: &str = "127.0.0.1:1/no/such:image";

fn volume(name: &str, reference: &str, policy: &str) -> Value {
    json!({ "name": name, "image": { "reference": reference, "pullPolicy": policy } })
}

fn mounting(container: Value, volume: &str) -> Value {
    with(container, json!({ "volumeMounts": [{ "name": volume, "mountPath": "/v" }] }))
}

/// The message with which a container waits.
fn waiting_message<'a>(pod: &'a Pod, name: &str) -> &'a str {
    let state = container(pod, name).and_then(|status| status.state.as_ref()?.waiting.as_ref());
    state.and_then(|waiting| waiting.message.as_deref()).unwrap_or_default()
}

fn runs(pod: &Pod, name: &str) -> bool {
    container(pod, name).is_some_and(|status| status.state.as_ref().is_some_and(|s| s.running.is_some()))
}

/// In init containers and others, whole and in part, read-only, and again when a container is restarted.
pub(super) async fn show_what_is_in_them(scene: Scene) -> Result<()> {
    let mounts = json!([
        { "name": "tools", "mountPath": "/v" },
        { "name": "tools", "mountPath": "/part", "subPathExpr": "$(PART)" },
        { "name": "own", "mountPath": "/own", "readOnly": true },
    ]);
    let fields = json!({ "volumeMounts": mounts, "env": [{ "name": "PART", "value": "bin" }] });
    let init = with(shell("first", "test -x /v/bin/sh && test -x /part/sh"), fields.clone());
    let script = "test -x /v/bin/sh && test -x /part/sh || exit 2; [ -e /dir/x ] || { touch /dir/x; exit 1; }; \
        echo $(ls -d /own/agnhost | cut -d/ -f3) $(touch /v/new 2>/dev/null || echo read-only); exec sleep 100000";
    let mut mounts = mounts;
    mounts.as_array_mut().into_iter().for_each(|all| all.push(json!({ "name": "dir", "mountPath": "/dir" })));
    let fields = with(fields, json!({ "volumeMounts": mounts }));
    let containers = [with(shell("main", script), fields.clone()), with(shell("other", script), fields)];
    let volumes = [
        volume("tools", BUSYBOX, "IfNotPresent"),
        volume("own", AGNHOST, "Never"),
        json!({ "name": "dir", "emptyDir": {} }),
    ];
    let spec = json!({ "initContainers": [init], "containers": containers, "volumes": volumes });
    scene.pod("whole", spec).await?;
    let again = |pod: &Pod| is_ready(pod) && restarts(pod, "main") + restarts(pod, "other") > 0;
    scene.until("whole", "running again", SOON, again).await?;
    for name in ["main", "other"] {
        let line = scene.first_line("whole", name).await?;
        ensure!(line == "agnhost read-only", "{name} sees {line:?}");
    }
    for image in [BUSYBOX, AGNHOST] {
        let present =
            format!("Container image \"{image}\" already present on machine and can be accessed by the pod");
        scene.event_naming("whole", "Pulled", &present).await?;
    }
    Ok(())
}

/// Those who mount it wait, and the others run.
pub(super) async fn that_cannot_be_pulled_keep_back_who_mounts_them(scene: Scene) -> Result<()> {
    let containers = [mounting(shell("main", "sleep 1"), "data"), shell("other", "sleep 100000")];
    let volumes = [volume("data", NOWHERE, "IfNotPresent")];
    scene.pod("nowhere", json!({ "containers": containers, "volumes": volumes })).await?;
    let backs_off = |pod: &Pod| waiting(pod, "main") == "ImagePullBackOff" && runs(pod, "other");
    let pod = scene.until("nowhere", "backing off", SOON, backs_off).await?;
    let message = waiting_message(&pod, "main");
    let begins = format!("Back-off pulling image \"{NOWHERE}\": ErrImagePull: ");
    ensure!(message.starts_with(&begins), "the status says {message:?}");
    ensure!(phase(&pod) == "Pending", "{:?}", pod.status);
    for (reason, message) in [
        ("Pulling", format!("Pulling image \"{NOWHERE}\"")),
        ("Failed", format!("Failed to pull image \"{NOWHERE}\": ")),
        ("Failed", "Error: ErrImagePull".to_owned()),
        ("BackOff", format!("Back-off pulling image \"{NOWHERE}\"")),
        ("Failed", "Error: ImagePullBackOff".to_owned()),
    ] {
        scene.event_naming("nowhere", reason, &message).await?;
    }
    Ok(())
}

/// With policies of `Never`, bad names, and folders that are not there.
pub(super) async fn say_what_is_wrong_with_them(scene: Scene) -> Result<()> {
    let pod_with = |reference: &str, policy: &str| {
        let main = mounting(shell("main", "sleep 100000"), "data");
        json!({ "containers": [main], "volumes": [volume("data", reference, policy)] })
    };
    scene.pod("never", pod_with(NOWHERE, "Never")).await?;
    scene.pod("misnamed", pod_with("NO:SUCH:name", "IfNotPresent")).await?;
    let mut part = pod_with(BUSYBOX, "IfNotPresent");
    part["containers"][0]["volumeMounts"][0]["subPath"] = json!("no/such/folder");
    scene.pod("part", part).await?;
    for (name, reason, event, message) in [
        ("never", "ErrImageNeverPull", "ErrImageNeverPull", "is not present with pull policy of Never"),
        (
            "misnamed",
            "InvalidImageName",
            "InspectFailed",
            "Failed to apply default image tag \"NO:SUCH:name\"",
        ),
        ("part", "CreateContainerError", "Failed", "Error: "),
    ] {
        let is_refused = |pod: &Pod| waiting(pod, "main") == reason;
        let pod = scene.until(name, reason, SOON, is_refused).await?;
        scene.event_naming(name, event, message).await?;
        let shown = waiting_message(&pod, "main");
        ensure!(reason == "CreateContainerError" || shown.contains(message), "{name} says {shown:?}");
    }
    Ok(())
}

/// As upstream, it is pulled, and nobody waits for it.
pub(super) async fn that_nobody_mounts_hold_up_nobody(scene: Scene) -> Result<()> {
    let spec = json!({
        "containers": [shell("main", "sleep 100000")],
        "volumes": [volume("data", NOWHERE, "IfNotPresent")],
    });
    scene.ready_pod("unused", spec).await?;
    scene.event_naming("unused", "Failed", &format!("Failed to pull image \"{NOWHERE}\": ")).await?;
    Ok(())
}

/// `kubelet explain` names the volume, and what it names is counted.
pub(super) async fn that_are_missing_are_explained(scene: Scene) -> Result<()> {
    let main = mounting(shell("main", "sleep 100000"), "data");
    let volumes = [volume("data", NOWHERE, "IfNotPresent")];
    scene.pod("web", json!({ "containers": [main], "volumes": volumes })).await?;
    let wait = explain::until_waits(&scene, Some("web"), "the image of volume data", "127.0.0.1:1").await?;
    ensure!(wait["nextTry"].is_string(), "it says when it is tried again: {wait}");
    let spec = json!({
        "containers": [mounting(shell("main", "sleep 100000"), "data")],
        "volumes": [volume("data", BUSYBOX, "IfNotPresent")],
    });
    scene.ready_pod("fine", spec).await?;
    let page = scene.kubectl_out(&["get", "--raw", &format!("/api/v1/nodes/{NODE}/proxy/metrics")]).await?;
    for family in ["requested_total", "mounted_succeed_total"] {
        let begins = format!("kubelet_image_volume_{family} ");
        let count = page.lines().find_map(|line| line.strip_prefix(&begins)?.parse::<f64>().ok());
        ensure!(count.is_some_and(|count| count >= 1.0), "{begins}is {count:?}");
    }
    Ok(())
}

/// A static pod, asked for at the kubelet: an API server whose own gate is off keeps no such fields.
pub(super) async fn are_named_in_the_status_with_their_gate(scene: Scene) -> Result<()> {
    scene.cluster.kubelet.stop().await?;
    for (name, is_on) in [("image-names-off", false), ("image-names", true)] {
        let fields = json!({ "featureGates": { "ImageVolumeWithDigest": is_on } });
        let kubelet = scene.cluster.kubelet_changed(name, Changes { fields, ..Changes::default() })?;
        kubelet.start().await?;
        let file = Manifest::new(&scene, name);
        let main = mounting(shell("main", "sleep 100000"), "data");
        let volumes = [volume("data", BUSYBOX, "IfNotPresent")];
        file.write_pod(name, json!({ "containers": [main], "volumes": volumes }))?;
        let mirror = mirror(name);
        let pod = scene.until(&mirror, "ready", SOON, is_ready).await?;
        // The container runs in the same image.
        let id = container(&pod, "main").map(|status| status.image_id.clone()).unwrap_or_default();
        let pods = scene.kubectl_out(&["get", "--raw", &format!("/api/v1/nodes/{NODE}/proxy/pods")]).await?;
        let pods: Value = serde_json::from_str(&pods)?;
        let named =
            pods["items"].as_array().into_iter().flatten().find(|pod| pod["metadata"]["name"] == mirror);
        let status = named.map(|pod| pod["status"]["containerStatuses"][0]["volumeMounts"][0].clone());
        let reference = status.as_ref().and_then(|s| s["volumeStatus"]["image"]["imageRef"].as_str());
        ensure!(reference.is_some() == is_on, "with the gate at {is_on}: {status:?}");
        ensure!(reference.is_none_or(|text| text.starts_with("sha256:")), "{reference:?} beside {id:?}");
        file.remove()?;
        scene.gone(&mirror).await?;
        kubelet.stop().await?;
    }
    Ok(())
}
