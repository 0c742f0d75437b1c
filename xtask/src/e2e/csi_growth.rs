//! Growth of volumes of CSI drivers. The driver's resizer is this test.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimCondition, PersistentVolumeClaimStatus,
};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::csi_volumes::{Storage, claiming, place, volumes};
use super::scene::{EVENTUALLY, SOON, Scene};
use crate::cluster::wait_for;

/// Of a volume that has grown, and whose claim is told to wait for nodes.
async fn grow(scene: &Scene, name: &str, status: Value) -> Result<()> {
    let (params, size) = (PatchParams::default(), json!({ "storage": "2Mi" }));
    let patch = Patch::Merge(json!({ "spec": { "capacity": size } }));
    volumes(scene).patch(name, &params, &patch).await.context("grow the volume")?;
    let patch = Patch::Merge(json!({ "status": status }));
    let claims = scene.api::<PersistentVolumeClaim>();
    claims.patch_status(name, &params, &patch).await.map(drop).context("tell of it in the claim")
}

fn has_grown(claim: Option<&PersistentVolumeClaim>) -> bool {
    let status = claim.and_then(|claim| claim.status.as_ref());
    let size = status.and_then(|status| status.capacity.as_ref()?.get("storage"));
    // Others tell of the claim in conditions, too.
    let is_of_growth = |condition: &PersistentVolumeClaimCondition| condition.type_.contains("Resize");
    let is_pending = |status: &PersistentVolumeClaimStatus| {
        status.allocated_resource_statuses.as_ref().is_some_and(|all| !all.is_empty())
            || status.conditions.iter().flatten().any(is_of_growth)
    };
    size.is_some_and(|size| size.0 == "2Mi") && !status.is_some_and(is_pending)
}

async fn until_grown(scene: &Scene, name: &str, limit: Duration) -> Result<()> {
    let claims = scene.api::<PersistentVolumeClaim>();
    let Err(error) = wait_for(&claims, name, limit, has_grown).await else { return Ok(()) };
    let status = claims.get(name).await?.status;
    Err(error.context(format!("wait for the claim {name}, of which the status is {status:?}")))
}

/// Before a pod has it, and while it has it, with a resizer that says its steps.
pub(super) async fn is_followed_by_the_node(scene: Scene) -> Result<()> {
    let flags = ["--capability=stage", "--capability=expand"];
    let storage = Storage::start_for_both(&scene, "csi-growth", json!({}), &flags).await?;
    for name in ["before", "meanwhile"] {
        storage.claimed(&scene, name, json!({}), json!({})).await?;
    }
    let pending = json!({
        "conditions": [{ "type": "FileSystemResizePending", "status": "True" }],
        "allocatedResources": { "storage": "2Mi" },
        "allocatedResourceStatuses": { "storage": "NodeResizePending" },
    });
    grow(&scene, "before", pending.clone()).await?;
    let script = "exec sleep 100000";
    let pod = scene.ready_pod("starts", claiming("before", script)).await?;
    let asked = storage.last("NodeExpandVolume").await?;
    ensure!(asked["path"] == place(&pod, "before").join("mount").display().to_string(), "{asked}");
    ensure!(asked["size"] == 2 << 20 && asked["use"]["fsType"] == "ext4", "{asked}");
    ensure!(asked["from"].as_str().is_some_and(|from| from.ends_with("/globalmount")), "{asked}");
    until_grown(&scene, "before", SOON).await?;
    let told = "MountVolume.NodeExpandVolume succeeded for volume \"before\"";
    for about in ["starts", "before"] {
        scene.event_naming(about, "FileSystemResizeSuccessful", told).await?;
    }

    scene.ready_pod("runs", claiming("meanwhile", script)).await?;
    storage.driver.command("fail NodeExpandVolume Internal").await?;
    grow(&scene, "meanwhile", pending).await?;
    let told = "NodeExpandVolume.NodeExpandVolume failed for volume \"meanwhile\"";
    scene.event_with("runs", "VolumeResizeFailed", told, EVENTUALLY).await?;
    storage.driver.command("release NodeExpandVolume").await?;
    until_grown(&scene, "meanwhile", EVENTUALLY).await?;
    for pod in ["starts", "runs"] {
        scene.delete(pod).await?;
        scene.gone(pod).await?;
    }
    storage.end(&scene, &["before", "meanwhile"]).await
}
