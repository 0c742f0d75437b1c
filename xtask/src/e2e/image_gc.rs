//! Garbage collection of images: a disk that is too full is freed of what nobody uses.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Event, Node};
use kube::Api;
use serde_json::json;

use super::node_object::told_of;
use super::scene::{EVENTUALLY, Scene, shell, with};
use crate::cluster::{Changes, wait_for};
use crate::images::{self, AGNHOST, BUSYBOX, PAUSE};
use crate::isolation::NODE;

/// An image that no pod asks for.
const UNUSED: &str = "images.invalid/of/no-use:1";
/// Upstream's kubelet looks every five minutes, and its status lists the images half a minute later.
const COLLECTED: Duration = Duration::from_secs(350);

/// An image that no pod uses goes. One of a container, one of a volume and one that the runtime has pinned stay.
pub(super) async fn makes_room_and_leaves_what_is_used(scene: Scene) -> Result<()> {
    let containerd = &scene.cluster.containerd;
    let archive = scene.cluster.paths.file("unused.tar");
    images::build_useless(&archive, UNUSED)?;
    containerd.ctr(&["images", "import", &archive.to_string_lossy()]).await.context("load an image")?;
    let nodes: Api<Node> = Api::all(scene.cluster.client.clone());
    wait_for(&nodes, NODE, EVENTUALLY, is_listed).await.context("wait until the image is shown")?;
    let mounts = json!({ "volumeMounts": [{ "name": "programs", "mountPath": "/v" }] });
    let volume = json!({ "name": "programs", "image": { "reference": AGNHOST, "pullPolicy": "Never" } });
    let containers = [with(shell("main", "exec sleep 100000"), mounts)];
    scene.ready_pod("user", json!({ "containers": containers, "volumes": [volume] })).await?;

    scene.cluster.kubelet.stop().await?;
    // Others have the most of the disk, and write to it: a percent of it cannot be freed, and all goes that may.
    let high = used_percent(Path::new("/var/lib/containerd"))?.saturating_sub(3).clamp(1, 99);
    let fields = json!({
        "imageGCHighThresholdPercent": high,
        "imageGCLowThresholdPercent": high - 1,
        "imageMinimumGCAge": "1s",
    });
    let kubelet = scene.cluster.kubelet_changed("collecting", Changes { fields, ..Changes::default() })?;
    kubelet.start().await?;
    let is_collected = |node: Option<&Node>| node.is_some() && !is_listed(node);
    wait_for(&nodes, NODE, COLLECTED, is_collected).await.context("wait until the image is gone")?;
    let names = containerd.ctr(&["images", "list", "-q"]).await?;
    let has = |image: &str| names.lines().any(|name| name == image);
    ensure!(!has(UNUSED), "the unused image is still there:\n{names}");
    for image in [BUSYBOX, AGNHOST, PAUSE] {
        ensure!(has(image), "{image} is used and was removed:\n{names}");
    }
    let path = format!("/api/v1/nodes/{NODE}/proxy/metrics");
    let page = scene.kubectl_out(&["get", "--raw", &path]).await?;
    let counter = "kubelet_image_garbage_collected_total{reason=\"space\"} ";
    ensure!(page.lines().any(|line| line.starts_with(counter)), "no image was counted");
    let events: Api<Event> = Api::namespaced(scene.cluster.client.clone(), "default");
    let part = "Failed to free sufficient space by deleting unused images (freed ";
    told_of(&events, NODE, "FreeDiskSpaceFailed", part).await?;
    kubelet.stop().await
}

/// Whether the node's status has the image that nobody uses.
fn is_listed(node: Option<&Node>) -> bool {
    let images = node.and_then(|node| node.status.as_ref()?.images.as_ref()).into_iter().flatten();
    images.flat_map(|image| image.names.iter().flatten()).any(|name| name == UNUSED)
}

/// By upstream's arithmetic.
fn used_percent(path: &Path) -> Result<u64> {
    let disk = rustix::fs::statvfs(path).with_context(|| format!("measure {}", path.display()))?;
    ensure!(disk.f_blocks > 0, "{} is on no disk", path.display());
    Ok(100 - disk.f_bavail * 100 / disk.f_blocks)
}
