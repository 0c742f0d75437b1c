//! CSI drivers: how they register, and what the Node and CSINode objects say of them.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSINodeDriver};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::disruption::go_kubelet;
use super::explain::until_waits;
use super::scene::{EVENTUALLY, SOON, Scene};
use crate::cluster::{self, CsiDriver, wait_for};
use crate::isolation::NODE;
use crate::process::Service;

const NODE_IDS: &str = "csi.volume.kubernetes.io/nodeid";
const DRIVER: &str = "one.csi.example";

fn nodes(scene: &Scene) -> Api<Node> {
    Api::all(scene.cluster.client.clone())
}

fn csi_nodes(scene: &Scene) -> Api<CSINode> {
    Api::all(scene.cluster.client.clone())
}

/// What the CSINode says of a driver.
fn entry<'a>(object: Option<&'a CSINode>, driver: &str) -> Option<&'a CSINodeDriver> {
    object?.spec.drivers.iter().find(|entry| entry.name == driver)
}

/// Watches the CSINode until it says this of a driver.
pub(super) async fn until(
    scene: &Scene,
    driver: &str,
    is_so: impl Fn(Option<&CSINodeDriver>) -> bool + Clone,
) -> Result<CSINode> {
    let condition = |object: Option<&CSINode>| object.is_some() && is_so(entry(object, driver));
    let object = wait_for(&csi_nodes(scene), NODE, SOON, condition).await;
    object.with_context(|| format!("wait for driver {driver} in the CSINode"))?.context("it is gone")
}

/// Watches the Node until its annotation says this, as JSON; empty for none.
async fn until_ids(scene: &Scene, ids: &'static str) -> Result<Node> {
    let is_so = |node: Option<&Node>| {
        let annotations = node.and_then(|node| node.metadata.annotations.as_ref());
        annotations.and_then(|all| all.get(NODE_IDS)).map_or("", String::as_str) == ids
    };
    let node = wait_for(&nodes(scene), NODE, SOON, is_so).await;
    node.with_context(|| format!("wait for {ids:?} on the Node"))?.context("it is gone")
}

/// Takes back what a driver leaves on the Node.
async fn without_labels(scene: &Scene, labels: &[&str]) -> Result<()> {
    let labels: serde_json::Map<String, Value> =
        labels.iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
    let patch = Patch::Strategic(json!({ "metadata": { "labels": labels } }));
    nodes(scene).patch(NODE, &PatchParams::default(), &patch).await.map(drop).context("remove labels")
}

/// A driver comes, is replaced by another version at the same socket, and goes; the kubelet starts anew meanwhile.
pub(super) async fn drivers_come_change_and_go(scene: Scene) -> Result<()> {
    let name = format!("--name={DRIVER}");
    let zone = "--topology=one.csi.example/zone=a";
    let flags = [name.as_str(), "--csi-version=1.0.0", "--node-id=first", "--max-volumes=7", zone];
    let first = CsiDriver::new(&scene.cluster, "csi-first", None, &flags)?;
    first.start().await?;
    let object = until(&scene, DRIVER, |entry| entry.is_some()).await?;
    let told = entry(Some(&object), DRIVER).context("its entry")?;
    let count = told.allocatable.as_ref().and_then(|room| room.count);
    ensure!((told.node_id.as_str(), count) == ("first", Some(7)), "it is told of as {told:?}");
    let keys = told.topology_keys.as_deref().unwrap_or_default();
    ensure!(keys == ["one.csi.example/zone"], "it is told of as {told:?}");
    let node = until_ids(&scene, r#"{"one.csi.example":"first"}"#).await?;
    let label = node.metadata.labels.as_ref().and_then(|all| all.get("one.csi.example/zone"));
    ensure!(label.map(String::as_str) == Some("a"), "its label is {label:?}");
    ensure!(first.said().await? == "registered", "it is told {:?}", first.said().await?);
    let path = first.registration().display().to_string();
    let page = scene.kubectl_out(&["get", "--raw", &format!("/api/v1/nodes/{NODE}/proxy/metrics")]).await?;
    for line in [
        format!("plugin_manager_total_plugins{{socket_path=\"{path}\",state=\"actual_state_of_world\"}} 1"),
        format!("plugin_manager_total_plugins{{socket_path=\"{path}\",state=\"desired_state_of_world\"}} 1"),
    ] {
        ensure!(page.lines().any(|known| known == line), "there is no {line}");
    }
    let call = format!("csi_operations_seconds_count{{driver_name=\"{DRIVER}\",grpc_status_code=\"OK\"");
    ensure!(page.lines().any(|line| line.starts_with(&call)), "there is no {call}");

    // The same socket, another version: nothing says that the first one is gone.
    let flags = [name.as_str(), "--csi-version=1.1.0", "--node-id=second", zone];
    let second = CsiDriver::new(&scene.cluster, "csi-second", Some(&first), &flags)?;
    second.start().await?;
    let is_second = |entry: Option<&CSINodeDriver>| {
        entry.is_some_and(|entry| entry.node_id == "second" && entry.allocatable.is_none())
    };
    until(&scene, DRIVER, is_second).await?;
    until_ids(&scene, r#"{"one.csi.example":"second"}"#).await?;
    ensure!(second.said().await? == "registered", "it is told {:?}", second.said().await?);
    first.kill().await?;

    // A kubelet that starts finds it, and leaves what is right.
    let before = until(&scene, DRIVER, is_second).await?.metadata.resource_version;
    scene.cluster.kubelet.restart().await?;
    second.counted("NotifyRegistrationStatus", 2).await?;
    let after = until(&scene, DRIVER, is_second).await?.metadata.resource_version;
    ensure!(before == after, "the CSINode was written");

    second.stop().await?;
    until(&scene, DRIVER, |entry| entry.is_none()).await?;
    let node = until_ids(&scene, "").await?;
    let label = node.metadata.labels.as_ref().and_then(|all| all.get("one.csi.example/zone"));
    ensure!(label.is_some(), "its label is gone");
    without_labels(&scene, &["one.csi.example/zone"]).await
}

/// A driver that does not answer holds up no other one, is told of, and registers once it answers. One that is refused hears
/// why, and whose label contradicts the Node's is.
pub(super) async fn one_that_is_not_had_holds_up_no_other(scene: Scene) -> Result<()> {
    let flags = ["--name=hung.csi.example", "--hang=GetInfo"];
    let hung = CsiDriver::new(&scene.cluster, "csi-hung", None, &flags)?;
    hung.start().await?;
    hung.counted("GetInfo", 1).await?;
    let good = CsiDriver::new(&scene.cluster, "csi-good", None, &["--name=good.csi.example", "--node-id=n"])?;
    good.start().await?;
    until(&scene, "good.csi.example", |entry| entry.is_some()).await?;
    ensure!(good.said().await? == "registered", "it is told {:?}", good.said().await?);
    let socket = hung.registration().display().to_string();
    let what = format!("the plugin at {socket} to be registered");
    until_waits(&scene, None, &what, "failed to get plugin info using RPC GetInfo").await?;
    hung.command("release GetInfo").await?;
    ensure!(hung.said().await? == "registered", "it is told {:?}", hung.said().await?);

    let device = CsiDriver::new(
        &scene.cluster,
        "csi-device",
        None,
        &["--name=example.com/gpu", "--kind=DevicePlugin"],
    )?;
    device.start().await?;
    let said = device.said().await?;
    ensure!(said.contains("does not support plugins of type DevicePlugin yet"), "it is told {said:?}");
    let socket = device.registration().display().to_string();
    until_waits(&scene, None, &format!("the plugin at {socket} to be registered"), "DevicePlugin").await?;

    let wrong = ["--name=wrong.csi.example", "--topology=kubernetes.io/hostname=elsewhere"];
    let wrong = CsiDriver::new(&scene.cluster, "csi-wrong", None, &wrong)?;
    wrong.start().await?;
    let said = wrong.said().await?;
    ensure!(said.contains("detected topology value collision"), "it is told {said:?}");
    // One that the API server does not have.
    let bad = ["--name=bad.csi.example", "--topology=not a label=x"];
    let bad = CsiDriver::new(&scene.cluster, "csi-bad", None, &bad)?;
    bad.start().await?;
    let said = bad.said().await?;
    ensure!(said.contains("error updating Node object with CSI driver node info"), "it is told {said:?}");
    until(&scene, "bad.csi.example", |entry| entry.is_none()).await?;
    for driver in [&hung, &good, &device, &wrong, &bad] {
        driver.stop().await?;
    }
    until(&scene, "good.csi.example", |entry| entry.is_none()).await?;
    until_ids(&scene, "").await.map(drop)
}

/// How many volumes a node can have is asked for as often as the CSIDriver object says.
pub(super) async fn room_is_asked_for_again(scene: Scene) -> Result<()> {
    let drivers: Api<CSIDriver> = Api::all(scene.cluster.client.clone());
    let object = json!({
        "metadata": { "name": DRIVER }, "spec": { "nodeAllocatableUpdatePeriodSeconds": 10 },
    });
    let object: CSIDriver = serde_json::from_value(object)?;
    drivers.create(&PostParams::default(), &object).await.context("create the CSIDriver")?;
    let name = format!("--name={DRIVER}");
    let driver = CsiDriver::new(&scene.cluster, "csi-room", None, &[name.as_str(), "--max-volumes=3"])?;
    driver.start().await?;
    let has_room = |room: i32| {
        move |entry: Option<&CSINodeDriver>| {
            entry.and_then(|entry| entry.allocatable.as_ref()?.count) == Some(room)
        }
    };
    until(&scene, DRIVER, has_room(3)).await?;
    driver.command("max-volumes 5").await?;
    until(&scene, DRIVER, has_room(5)).await?;
    driver.stop().await?;
    until(&scene, DRIVER, |entry| entry.is_none()).await?;
    drivers.delete(DRIVER, &DeleteParams::default()).await.map(drop).context("delete the CSIDriver")
}

/// Both kubelets make the same CSINode of a node without drivers. With one they cannot be compared by this driver: upstream's
/// gRPC calls the server it registers with by the escaped path of its socket, which the library that serves here refuses.
pub(super) async fn the_object_is_the_one_upstream_writes(scene: Scene) -> Result<()> {
    scene.cluster.kubelet.stop().await?;
    let go = go_kubelet(&scene);
    let upstream = written_by(&scene, &go).await?;
    go.stop().await?;
    let own = written_by(&scene, &scene.cluster.kubelet).await?;
    ensure!(upstream == own, "upstream writes {upstream:#}, and this kubelet {own:#}");
    Ok(())
}

/// The CSINode as a kubelet writes it where there is none, and what the Node says of drivers.
async fn written_by(scene: &Scene, kubelet: &Service) -> Result<Value> {
    let _ = csi_nodes(scene).delete(NODE, &DeleteParams::default()).await;
    kubelet.start().await?;
    let is_there = |object: Option<&CSINode>| object.is_some();
    wait_for(&csi_nodes(scene), NODE, EVENTUALLY, is_there).await.context("wait for the CSINode")?;
    wait_for(&nodes(scene), NODE, EVENTUALLY, cluster::is_ready).await.context("wait for the node")?;
    written(scene).await
}

async fn written(scene: &Scene) -> Result<Value> {
    let mut object = serde_json::to_value(csi_nodes(scene).get(NODE).await.context("get the CSINode")?)?;
    let metadata = object["metadata"].as_object_mut().context("its metadata")?;
    metadata.retain(|name, _| matches!(name.as_str(), "name" | "annotations" | "labels" | "ownerReferences"));
    let node = nodes(scene).get(NODE).await.context("get the Node")?;
    let ids = node.metadata.annotations.as_ref().and_then(|all| all.get(NODE_IDS));
    Ok(json!({ "csiNode": object, "ids": ids }))
}
