//! Upstream's state files of what pods were granted and what is in effect for them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::disruption::{go_kubelet, identity, unchanged};
use super::node_object::told_of;
use super::scene::{SOON, Scene, container, is_ready, shell, with};
use crate::cluster::KUBELET_ROOT;
use crate::isolation::NODE;
use crate::workspace;

const ALLOCATED: &str = "allocated_pods_state";
const ACTUATED: &str = "actuated_pods_state";

fn path(file: &str) -> PathBuf {
    Path::new(KUBELET_ROOT).join(file)
}

/// What a file says of each pod.
fn entries(file: &str) -> Result<Value> {
    let text = std::fs::read_to_string(path(file)).with_context(|| format!("read {file}"))?;
    let sealed: Value = serde_json::from_str(&text).with_context(|| format!("read {text:?}"))?;
    let data = sealed["data"].as_str().context("the data is a text")?;
    let mut data: Value = serde_json::from_str(data).with_context(|| format!("read {data:?}"))?;
    Ok(data["entries"].take())
}

fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}

fn requesting(cpu: &str, memory: &str) -> Value {
    let resources = json!({ "requests": { "cpu": cpu, "memory": memory }, "limits": { "memory": memory } });
    with(shell("main", "sleep 100000"), json!({ "resources": resources }))
}

/// Both files have the pods that run, in canonical amounts, and one that is gone goes with the next write.
pub(super) async fn say_what_pods_have(scene: Scene) -> Result<()> {
    let first = shell("first", "true");
    let spec = json!({ "initContainers": [first], "containers": [requesting("0.5", "64Mi")] });
    let plain = scene.ready_pod("plain", spec).await?;
    let whole = json!({ "limits": { "cpu": "1", "memory": "128Mi" } });
    let side = with(shell("side", "sleep 100000"), json!({}));
    let spec = json!({ "containers": [requesting("0.1", "32Mi"), side], "resources": whole });
    let paired = scene.ready_pod("paired", spec).await?;
    let own = |cpu: &str, memory: &str| json!({ "requests": { "cpu": cpu, "memory": memory }, "limits": { "memory": memory } });
    let expected = json!({ "first": {}, "main": own("500m", "64Mi") });
    for file in [ALLOCATED, ACTUATED] {
        let entry = entries(file)?[uid(&plain)].take();
        ensure!(
            entry["ContainerResources"] == expected && entry["PodLevelResources"].is_null(),
            "{file} has {entry}"
        );
    }
    let whole = paired.spec.as_ref().map(|spec| json!(spec.resources)).unwrap_or_default();
    let granted = json!({ "main": own("100m", "32Mi"), "side": {} });
    let mut in_effect = granted.clone();
    in_effect["main"]["limits"]["cpu"] = json!("1");
    in_effect["side"]["limits"] = json!({ "cpu": "1", "memory": "128Mi" });
    for (file, expected) in [(ALLOCATED, granted), (ACTUATED, in_effect)] {
        let entry = entries(file)?[uid(&paired)].take();
        ensure!(
            entry["ContainerResources"] == expected && entry["PodLevelResources"] == whole,
            "{file} has {entry}, expected {expected} and {whole}"
        );
    }
    scene.delete("plain").await?;
    scene.gone("plain").await?;
    let next = scene.ready_pod("next", json!({ "containers": [shell("main", "sleep 100000")] })).await?;
    let all = entries(ALLOCATED)?;
    ensure!(all.get(uid(&next)).is_some() && all.get(uid(&plain)).is_none(), "{ALLOCATED} has {all}");
    Ok(())
}

/// A pod that was let in and has nothing in the runtime: only the file knows, after SIGKILL, what it was granted. Upstream's
/// kubelet makes the resize, which comes to the same for the one that is killed.
pub(super) async fn outlive_sigkill(scene: Scene) -> Result<()> {
    let volumes = json!([{ "name": "late", "configMap": { "name": "late" } }]);
    let mounts = json!({ "volumeMounts": [{ "name": "late", "mountPath": "/late" }] });
    let main = with(requesting("100m", "32Mi"), mounts);
    let pod = scene.pod("waits", json!({ "containers": [main], "volumes": volumes })).await?;
    scene.event("waits", "FailedMount", SOON).await?;
    scene.cluster.kubelet.kill().await?;
    let entry = entries(ALLOCATED)?[uid(&pod)].take();
    ensure!(entry["ContainerResources"]["main"]["requests"]["cpu"] == "100m", "{ALLOCATED} has {entry}");

    let wish = json!({ "requests": { "cpu": "150m", "memory": "32Mi" }, "limits": { "memory": "32Mi" } });
    let patch = json!({ "spec": { "containers": [{ "name": "main", "resources": wish }] } });
    let (pods, params) = (scene.api::<Pod>(), PatchParams::default());
    let patched = pods.patch_subresource("resize", "waits", &params, &Patch::Strategic(&patch)).await;
    patched.context("ask for a resize while nobody is there to make it")?;
    scene.cluster.kubelet.start().await?;
    scene.create::<ConfigMap>(json!({ "metadata": { "name": "late" }, "data": { "key": "value" } })).await?;
    let pod = scene.until("waits", "ready", SOON, is_ready).await?;
    let has = container(&pod, "main").and_then(|status| status.allocated_resources.clone()?.remove("cpu"));
    ensure!(has == Some(Quantity("100m".to_owned())), "it goes on with what it was granted, not {has:?}");
    let entry = entries(ALLOCATED)?[uid(&pod)].take();
    ensure!(entry["ContainerResources"]["main"]["requests"]["cpu"] == "100m", "{ALLOCATED} has {entry}");
    Ok(())
}

/// A container that is to be restarted when its resources change runs on under either kubelet: each finds in the files of the
/// other that they have not.
pub(super) async fn are_read_by_the_other_kubelet(scene: Scene) -> Result<()> {
    let policy = |name: &str| json!({ "resourceName": name, "restartPolicy": "RestartContainer" });
    let policies = json!({ "resizePolicy": [policy("cpu"), policy("memory")] });
    let spec = || json!({ "containers": [with(requesting("0.1", "32Mi"), policies.clone())] });
    let own = scene.ready_pod("own", spec()).await?;
    scene.cluster.kubelet.stop().await?;
    let go = go_kubelet(&scene);
    go.start().await?;
    let others = scene.ready_pod("others", spec()).await?;
    let before = vec![("own".to_owned(), identity(&own)), ("others".to_owned(), identity(&others))];
    unchanged(&scene, before.clone()).await?;
    let by_go = [ALLOCATED, ACTUATED].map(entries);
    go.stop().await?;
    scene.cluster.kubelet.start().await?;
    unchanged(&scene, before).await?;
    for (file, by_go) in [ALLOCATED, ACTUATED].into_iter().zip(by_go) {
        let (by_go, now) = (by_go?, entries(file)?);
        for pod in [&own, &others] {
            let (theirs, ours) = (&by_go[uid(pod)], &now[uid(pod)]);
            ensure!(
                !theirs.is_null() && theirs == ours,
                "{file}: upstream has {theirs}, this kubelet {ours}"
            );
        }
    }
    let log = std::fs::read_to_string(go.log()).context("read the Go kubelet's log")?;
    ensure!(!log.contains("Missing actuated resource record"), "upstream's kubelet misses an entry");
    Ok(())
}

/// Upstream's kubelet does not start with one.
pub(super) async fn damaged_one_is_set_aside(scene: Scene) -> Result<()> {
    const DAMAGE: &str = "{\"data\":";
    let spec = json!({ "containers": [requesting("0.1", "32Mi")] });
    let before = scene.ready_pod("stays", spec).await?;
    scene.cluster.kubelet.stop().await?;
    workspace::write(&path(ALLOCATED), DAMAGE)?;
    scene.cluster.kubelet.start().await?;
    // Cancel-safe: both only watch.
    tokio::select! {
        result = unchanged(&scene, vec![("stays".to_owned(), identity(&before))]) => result,
        died = scene.cluster.kubelet.died() => Err(died),
    }?;
    let entry = entries(ALLOCATED)?[uid(&before)].take();
    ensure!(entry["ContainerResources"]["main"]["requests"]["cpu"] == "100m", "{ALLOCATED} has {entry}");
    let aside = path(&format!("{ALLOCATED}.damaged"));
    let kept = std::fs::read_to_string(&aside).context("read what was set aside")?;
    ensure!(kept == DAMAGE, "it was set aside as it was: {kept:?}");
    std::fs::remove_file(&aside).context("remove what was set aside")?;
    let events: Api<Event> = Api::namespaced(scene.cluster.client.clone(), "default");
    let event = told_of(&events, NODE, "StateFileDamaged", ALLOCATED).await?;
    let message = event.message.unwrap_or_default();
    ensure!(message.contains(".damaged"), "it says where the file is: {message}");
    Ok(())
}
