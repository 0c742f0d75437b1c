//! A second node, on a runtime without containers that can do what containerd cannot: lists in chunks, options of bind mounts.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::scene::{SOON, Scene, phase, pod, shell, with};
use crate::cluster::{FakeRuntime, SECOND, is_ready, wait_for};
use crate::process::Service;
use crate::workspace;

/// The node, ready.
async fn started(scene: &Scene, name: &'static str, fields: Value) -> Result<(Service, FakeRuntime)> {
    let (kubelet, runtime) = scene.cluster.second_node(name, &fields)?;
    runtime.start().await?;
    kubelet.start().await?;
    let nodes: Api<Node> = Api::all(scene.cluster.client.clone());
    // Cancel-safe: both only watch.
    tokio::select! {
        ready = wait_for(&nodes, SECOND, SOON, is_ready) => ready.map(drop).context("wait for the second node")?,
        died = kubelet.died() => return Err(died),
    }
    Ok((kubelet, runtime))
}

/// Ends the node and whatever ran there.
async fn ended(scene: &Scene, kubelet: &Service, runtime: &FakeRuntime) -> Result<()> {
    kubelet.stop().await?;
    runtime.stop().await?;
    let nodes: Api<Node> = Api::all(scene.cluster.client.clone());
    nodes.delete(SECOND, &DeleteParams::default()).await.map(drop).context("delete the second node")
}

/// Whether a kubelet asks for whole lists or for chunks, the gate says.
pub(super) async fn lists_in_chunks_with_their_gate(scene: Scene) -> Result<()> {
    const WHOLE: [&str; 3] = ["ListPodSandbox", "ListContainers", "ListImages"];
    const CHUNKS: [&str; 3] = ["StreamPodSandboxes", "StreamContainers", "StreamImages"];
    for (name, is_on) in [("lists-whole", false), ("lists-in-chunks", true)] {
        let (kubelet, runtime) =
            started(&scene, name, json!({ "featureGates": { "CRIListStreaming": is_on } })).await?;
        let spec = json!({ "nodeName": SECOND, "containers": [shell("main", "sleep 100000")] });
        scene.pod(name, spec).await?;
        scene.until(name, "running", SOON, |pod| phase(pod) == "Running").await?;
        let (wanted, others) = if is_on { (CHUNKS, WHOLE) } else { (WHOLE, CHUNKS) };
        for call in wanted {
            // The images are listed in their own time.
            let asked = || async {
                ensure!(runtime.count(call).await? > 0, "there was no {call}");
                Ok(())
            };
            kubelet.answers(SOON, asked).await?;
        }
        for call in others {
            ensure!(runtime.count(call).await? == 0, "with CRIListStreaming {is_on} there was {call}");
        }
        ended(&scene, &kubelet, &runtime).await?;
    }
    Ok(())
}

/// A pod whose mounts have options is run with the gate, and refused without.
pub(super) async fn options_of_bind_mounts_with_their_gate(scene: Scene) -> Result<()> {
    let folder = scene.cluster.paths.file("manifests-second");
    workspace::create_dir(&folder)?;
    // From a file: the API server knows the field only with a gate of its own.
    let mount = json!({ "name": "data", "mountPath": "/data", "bindMountOptions": ["noexec", "nosuid"] });
    let container = with(shell("main", "sleep 100000"), json!({ "volumeMounts": [mount] }));
    let spec = json!({ "containers": [container], "volumes": [{ "name": "data", "emptyDir": {} }] });
    let mut manifest = pod("options", spec);
    manifest["metadata"]["namespace"] = json!(scene.namespace);
    if let Some(spec) = manifest["spec"].as_object_mut() {
        spec.remove("nodeName");
    }
    let file = folder.join("options.yaml");
    workspace::write(&file, manifest.to_string())?;
    let name = format!("options-{SECOND}");
    for (kubelet, is_on) in [("no-mount-options", false), ("mount-options", true)] {
        let gates = json!({ "VolumeBindMountOptions": is_on });
        let fields = json!({ "featureGates": gates, "staticPodPath": folder });
        let (kubelet, runtime) = started(&scene, kubelet, fields).await?;
        if is_on {
            // The mirror of the refused one may still be there.
            scene.until(&name, "running", SOON, |pod: &Pod| phase(pod) == "Running").await?;
            let options = runtime.mount_options(&format!("{}/{name}", scene.namespace), "/data").await?;
            ensure!(options == ["noexec", "nosuid"], "the options are {options:?}");
        } else {
            let pod = scene.until(&name, "refused", SOON, |pod: &Pod| phase(pod) == "Failed").await?;
            let message = pod.status.and_then(|status| status.message).unwrap_or_default();
            ensure!(message.contains("not available: VolumeBindMountOptions"), "it is refused: {message:?}");
            let calls = runtime.calls_of(&format!("{}/{name}", scene.namespace)).await?;
            ensure!(!calls.iter().any(|call| call.name == "RunPodSandbox"), "it is run");
        }
        kubelet.stop().await?;
        scene
            .api::<Pod>()
            .delete(&name, &DeleteParams::default().grace_period(0))
            .await
            .context("delete its mirror")?;
        ended(&scene, &kubelet, &runtime).await?;
    }
    Ok(())
}
