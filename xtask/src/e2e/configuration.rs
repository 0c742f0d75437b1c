//! Changes of configuration that reach running pods.

use anyhow::Result;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::scene::{EVENTUALLY, SOON, Scene, phase, shell, with};

pub(super) async fn update_reaches_the_volume(scene: Scene) -> Result<()> {
    scene.create::<ConfigMap>(json!({ "metadata": { "name": "map" }, "data": { "key": "old\n" } })).await?;
    let mounts = json!([{ "name": "map", "mountPath": "/map" }]);
    let script = "cat /map/key; until grep -q new /map/key; do sleep 0.5; done; cat /map/key";
    let container = with(shell("main", script), json!({ "volumeMounts": mounts }));
    let volumes = json!([{ "name": "map", "configMap": { "name": "map" } }]);
    scene
        .pod("reader", json!({ "restartPolicy": "Never", "containers": [container], "volumes": volumes }))
        .await?;
    scene.until("reader", "running", SOON, |pod| phase(pod) == "Running").await?;
    // A change may be there before a container that was started has read anything.
    let first = scene.first_line("reader", "main").await?;
    anyhow::ensure!(first.trim() == "old", "the first content: {first:?}");
    let change = json!({ "data": { "key": "new\n" } });
    scene.api::<ConfigMap>().patch("map", &PatchParams::default(), &Patch::Merge(&change)).await?;
    scene.until("reader", "finished", EVENTUALLY, |pod| phase(pod) == "Succeeded").await?;
    let log = scene.log("reader", None).await?;
    anyhow::ensure!(log == "old\nnew\n", "first the old, then the new content: {log:?}");
    Ok(())
}
