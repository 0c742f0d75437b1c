//! The Node object: what is in it, which events tell of it, and what the runtime hears of it.

use anyhow::{Context, Result, ensure};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Event, Node};
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::{Value, json};

use super::disruption::go_kubelet;
use super::scene::{EVENTUALLY, SOON, Scene};
use crate::cluster::{is_ready, wait_for};
use crate::images::BUSYBOX;
use crate::isolation::NODE;
use crate::process::Service;

/// Both kubelets register the node anew, and write the same object but for times: each amount in the same text.
pub(super) async fn is_the_one_upstream_writes(scene: Scene) -> Result<()> {
    scene.cluster.kubelet.stop().await?;
    let go = go_kubelet(&scene);
    let upstream = registered_by(&scene, &go).await?;
    go.stop().await?;
    let own = registered_by(&scene, &scene.cluster.kubelet).await?;
    let mut differences = Vec::new();
    compare("", &upstream, &own, &mut differences);
    ensure!(differences.is_empty(), "the objects differ:\n    {}", differences.join("\n    "));
    Ok(())
}

/// The object as a kubelet makes it, without what is another's or a time.
async fn registered_by(scene: &Scene, kubelet: &Service) -> Result<Value> {
    let nodes = nodes(scene);
    nodes.delete(NODE, &DeleteParams::default()).await.context("delete the node")?;
    kubelet.start().await?;
    let complete = |node: Option<&Node>| {
        let status = node.and_then(|node| node.status.as_ref());
        is_ready(node)
            && status.is_some_and(|status| status.images.as_ref().is_some_and(|all| !all.is_empty()))
    };
    let node = wait_for(&nodes, NODE, EVENTUALLY, complete).await.context("wait for the node's status")?;
    let mut node = serde_json::to_value(node.context("the node is gone")?)?;
    let metadata = node["metadata"].as_object_mut().context("the node's metadata")?;
    metadata.retain(|name, _| matches!(name.as_str(), "name" | "labels" | "annotations"));
    // What controllers add when they have seen the node.
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove("node.alpha.kubernetes.io/ttl");
    }
    if let Some(spec) = node["spec"].as_object_mut() {
        spec.remove("taints");
    }
    let status = node["status"].as_object_mut().context("the node's status")?;
    // Not all of upstream's features are there yet.
    status.remove("declaredFeatures");
    for condition in
        status["conditions"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut)
    {
        condition.retain(|name, _| !name.ends_with("Time"));
    }
    // The order of images of one size is anybody's.
    if let Some(images) = status["images"].as_array_mut() {
        images.sort_by_key(Value::to_string);
    }
    if let Some(handlers) = status.get_mut("runtimeHandlers").and_then(Value::as_array_mut) {
        handlers.sort_by_key(Value::to_string);
    }
    Ok(node)
}

fn compare(path: &str, upstream: &Value, own: &Value, differences: &mut Vec<String>) {
    match (upstream, own) {
        (Value::Object(upstream), Value::Object(own)) => {
            let mut names: Vec<&String> = upstream.keys().chain(own.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let of = |object: &serde_json::Map<String, Value>| {
                    object.get(name).cloned().unwrap_or(Value::Null)
                };
                compare(&format!("{path}/{name}"), &of(upstream), &of(own), differences);
            }
        }
        (upstream, own) if upstream != own => {
            differences.push(format!("{path}: upstream writes {upstream}, this kubelet {own}"));
        }
        _ => {}
    }
}

/// What happens to the node itself is told by events: its start, whether pods may come, and that the machine was booted.
pub(super) async fn tells_what_happens_to_it(scene: Scene) -> Result<()> {
    scene.cluster.kubelet.stop().await?;
    // As an earlier boot left it.
    let nodes = nodes(&scene);
    let boot = json!({ "status": { "nodeInfo": { "bootID": "an-earlier-one" } } });
    nodes
        .patch_status(NODE, &PatchParams::default(), &Patch::Strategic(&boot))
        .await
        .context("change the boot id")?;
    let events: Api<Event> = Api::namespaced(scene.cluster.client.clone(), "default");
    for event in events.list(&Default::default()).await?.items {
        // The count of an old one would go up without its being a new one.
        events.delete(&event.metadata.name.unwrap_or_default(), &DeleteParams::default()).await?;
    }
    scene.cluster.kubelet.start().await?;
    for (reason, kind) in [
        ("Starting", "Normal"),
        ("NodeHasSufficientMemory", "Normal"),
        ("NodeHasNoDiskPressure", "Normal"),
        ("NodeHasSufficientPID", "Normal"),
        ("Rebooted", "Warning"),
    ] {
        let event = told(&events, reason).await?;
        ensure!(event.type_.as_deref() == Some(kind), "{reason} is of type {:?}", event.type_);
    }
    if std::path::Path::new("/sys/fs/cgroup/memory").exists() {
        told(&events, "CgroupV1").await?;
    }
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").context("read the boot id")?;
    let boot = boot.trim();
    let message = told(&events, "Rebooted").await?.message.unwrap_or_default();
    ensure!(message == format!("Node {NODE} has been rebooted, boot id: {boot}"), "{message:?}");
    for (is_closed, reason) in [(true, "NodeNotSchedulable"), (false, "NodeSchedulable")] {
        let spec = json!({ "spec": { "unschedulable": is_closed } });
        nodes
            .patch(NODE, &PatchParams::default(), &Patch::Strategic(&spec))
            .await
            .context("cordon the node")?;
        let message = told(&events, reason).await?.message.unwrap_or_default();
        ensure!(message == format!("Node {NODE} status is now: {reason}"), "{message:?}");
    }
    Ok(())
}

/// Watches until there is an event of this reason about the node.
async fn told(events: &Api<Event>, reason: &str) -> Result<Event> {
    told_of(events, NODE, reason, "").await
}

/// The same about any node, and for an event whose message has this in it.
pub(super) async fn told_of(events: &Api<Event>, node: &str, reason: &str, part: &str) -> Result<Event> {
    let fields = format!("involvedObject.kind=Node,involvedObject.name={node},reason={reason}");
    let stream = watcher(events.clone(), watcher::Config::default().fields(&fields));
    let mut found = std::pin::pin!(stream.default_backoff().applied_objects().filter_map(|event| {
        let event = event.ok();
        let is_meant = |event: &Event| event.message.as_ref().is_some_and(|text| text.contains(part));
        std::future::ready(event.filter(is_meant))
    }));
    let first = tokio::time::timeout(SOON, found.next()).await;
    first.with_context(|| format!("no event {reason} about {node}"))?.context("the watch ended")
}

/// Ranges of addresses that the control plane gives the node are handed to the runtime.
pub(super) async fn pod_ranges_reach_the_runtime(scene: Scene) -> Result<()> {
    let spec = json!({ "spec": { "podCIDR": "10.88.0.0/20", "podCIDRs": ["10.88.0.0/20"] } });
    nodes(&scene)
        .patch(NODE, &PatchParams::default(), &Patch::Strategic(&spec))
        .await
        .context("give it a range")?;
    let call = "kubelet_runtime_operations_total{operation_type=\"update_runtime_config\"} ";
    let path = format!("/api/v1/nodes/{NODE}/proxy/metrics");
    let counted = async {
        loop {
            let page = scene.kubectl_out(&["get", "--raw", &path]).await?;
            if page.lines().any(|line| line.starts_with(call)) {
                return anyhow::Ok(());
            }
            // Nothing tells of a call.
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(SOON, counted).await.context("the runtime is not told")?
}

const OTHERS_IMAGE: &str = "images.invalid/brought/by-others:1";

/// Others load and remove images, too, and nothing tells the kubelet of it.
pub(super) async fn shows_images_that_others_bring(scene: Scene) -> Result<()> {
    let is_shown = |node: Option<&Node>| {
        let images = node.and_then(|node| node.status.as_ref()?.images.as_ref()).into_iter().flatten();
        images.flat_map(|image| image.names.iter().flatten()).any(|known| known == OTHERS_IMAGE)
    };
    let is_gone = |node: Option<&Node>| !is_shown(node);
    let containerd = &scene.cluster.containerd;
    containerd.ctr(&["images", "tag", BUSYBOX, OTHERS_IMAGE]).await?;
    wait_for(&nodes(&scene), NODE, EVENTUALLY, is_shown).await.context("wait for the image")?;
    containerd.ctr(&["images", "remove", OTHERS_IMAGE]).await?;
    wait_for(&nodes(&scene), NODE, EVENTUALLY, is_gone).await.context("wait until it is gone")?;
    Ok(())
}

fn nodes(scene: &Scene) -> Api<Node> {
    Api::all(scene.cluster.client.clone())
}
