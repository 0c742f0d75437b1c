//! What volumes of CSI drivers take, as the drivers say.

use std::time::Instant;

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use super::csi_volumes::{Storage, claiming, place};
use super::scene::{EVENTUALLY, Scene};
use super::stats::{AGAIN, get, summary};

/// In the summary and in metrics, with the claim.
pub(super) async fn of_claims_is_told_by_their_driver(scene: Scene) -> Result<()> {
    let flags = ["--capability=stage", "--capability=stats"];
    let storage = Storage::start_for_both(&scene, "csi-usage", json!({}), &flags).await?;
    storage.claimed(&scene, "told", json!({}), json!({})).await?;
    let script = "dd if=/dev/zero of=/v/file bs=1024 count=1024 2>/dev/null; echo ready; exec sleep 100000";
    let pod = scene.ready_pod("measured", claiming("told", script)).await?;
    ensure!(scene.first_line("measured", "main").await? == "ready", "the file is written");
    let volume = until_told(&scene, |volume| volume["usedBytes"].as_u64() >= Some(1 << 20)).await?;
    let claim = json!({ "name": "told", "namespace": scene.namespace });
    ensure!(volume["pvcRef"] == claim && volume["capacityBytes"] == 1 << 30, "{volume}");
    ensure!(volume["inodes"] == 1000 && volume["inodesUsed"] == 2, "{volume}");
    let asked = storage.last("NodeGetVolumeStats").await?;
    ensure!(asked["path"] == place(&pod, "told").join("mount").display().to_string(), "{asked}");
    let page = get(&scene, "metrics").await?;
    let labels = format!("namespace=\"{}\",persistentvolumeclaim=\"told\"", scene.namespace);
    let plugin = format!("kubernetes.io/csi:{}", storage.name);
    for line in [
        format!("kubelet_volume_stats_capacity_bytes{{{labels}}} 1.073741824e+09"),
        format!("kubelet_volume_stats_inodes_used{{{labels}}} 2"),
        format!(
            "kubelet_volume_metric_collection_duration_seconds_count{{metric_source=\"{}\"}}",
            storage.name
        ),
        format!("volume_manager_total_volumes{{plugin_name=\"{plugin}\",state=\"actual_state_of_world\"}} 1"),
        format!(
            "driver_name=\"{}\",grpc_status_code=\"OK\",method_name=\"/csi.v1.Node/NodeGetVolumeStats\"",
            storage.name
        ),
    ] {
        ensure!(page.contains(&line), "{line} is missing");
    }
    scene.delete("measured").await?;
    scene.gone("measured").await?;
    storage.end(&scene, &["told"]).await
}

/// Reads the summary until the volume is in it as wanted: nothing tells when drivers have been asked.
async fn until_told(scene: &Scene, is_wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    let started = Instant::now();
    loop {
        let (_, pod) = summary(scene, "stats/summary").await?;
        let volumes = pod["volume"].as_array().into_iter().flatten();
        match volumes.into_iter().find(|volume| volume["name"] == "v") {
            Some(volume) if is_wanted(volume) => return Ok(volume.clone()),
            found if started.elapsed() > EVENTUALLY => bail!("{found:?} after {EVENTUALLY:?}: {pod}"),
            _ => tokio::time::sleep(AGAIN).await,
        }
    }
}
