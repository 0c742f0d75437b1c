//! Pods from manifest files, and their mirrors in the API.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::List;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::scene::{EVENTUALLY, SOON, Scene, container, is_ready, pod, restarts, shell, with};
use crate::cluster::{Kind, MANIFESTS};
use crate::isolation::NODE;
use crate::workspace;

/// A manifest file that goes with the scenario.
pub(super) struct Manifest {
    path: PathBuf,
    namespace: String,
}

impl Manifest {
    /// A file that does not exist yet.
    pub(super) fn new(scene: &Scene, name: &str) -> Self {
        let folder = scene.cluster.paths.file(MANIFESTS);
        Self {
            path: folder.join(format!("{}-{name}.yaml", scene.namespace)),
            namespace: scene.namespace.clone(),
        }
    }

    /// Writes raw text beside the folder and moves it in, as careful people do.
    pub(super) fn write(&self, text: &str) -> Result<()> {
        let folder = self.path.parent().and_then(std::path::Path::parent).context("the state folder")?;
        let unfinished = folder.join(format!("{}.unfinished", self.namespace));
        workspace::write(&unfinished, text)?;
        std::fs::rename(&unfinished, &self.path).context("move a manifest")
    }

    /// Writes a pod.
    pub(super) fn write_pod(&self, name: &str, spec: Value) -> Result<()> {
        let mut document = pod(name, spec);
        document["metadata"]["namespace"] = json!(self.namespace);
        if let Some(spec) = document["spec"].as_object_mut() {
            spec.remove("nodeName");
        }
        self.write(&format!("{document:#}\n"))
    }

    /// Removes the file.
    pub(super) fn remove(&self) -> Result<()> {
        std::fs::remove_file(&self.path).with_context(|| format!("remove {}", self.path.display()))
    }
}

impl Drop for Manifest {
    fn drop(&mut self) {
        // Already removed in most scenarios.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The name of a static pod's mirror.
pub(super) fn mirror(name: &str) -> String {
    format!("{name}-{NODE}")
}

/// The value of an annotation.
pub(super) fn annotation(pod: &Pod, key: &str) -> Option<String> {
    pod.metadata.annotations.as_ref()?.get(key).cloned()
}

pub(super) async fn mirror_change_and_removal(scene: Scene) -> Result<()> {
    let file = Manifest::new(&scene, "web");
    let print = |word: &str| json!({ "containers": [shell("main", &format!("echo {word}; sleep 1000"))] });
    file.write_pod("web", print("first"))?;
    let name = mirror("web");
    let before = scene.until(&name, "ready", SOON, is_ready).await?;
    let hash = annotation(&before, "kubernetes.io/config.hash");
    ensure!(
        annotation(&before, "kubernetes.io/config.source").as_deref() == Some("file"),
        "its source is a file"
    );
    ensure!(hash.is_some() && annotation(&before, "kubernetes.io/config.mirror") == hash, "it is a mirror");
    let owner = before.metadata.owner_references.as_deref().unwrap_or_default();
    ensure!(
        owner.iter().any(|owner| owner.kind == "Node" && owner.name == NODE),
        "the node owns it: {owner:?}"
    );
    ensure!(scene.first_line(&name, "main").await? == "first", "it runs what the file says");

    file.write_pod("web", print("second"))?;
    scene
        .until(&name, "replaced", SOON, |pod| {
            annotation(pod, "kubernetes.io/config.hash") != hash && is_ready(pod)
        })
        .await?;
    ensure!(scene.first_line(&name, "main").await? == "second", "it runs what the file says now");

    let log = scene.follow(&name, "main").await?;
    file.remove()?;
    scene.gone(&name).await?;
    log.lines().await?;
    Ok(())
}

pub(super) async fn deleted_mirror_comes_back(scene: Scene) -> Result<()> {
    let file = Manifest::new(&scene, "stays");
    file.write_pod("stays", json!({ "containers": [shell("main", "echo started; sleep 1000")] }))?;
    let name = mirror("stays");
    let before = scene.until(&name, "ready", SOON, is_ready).await?;
    let id = |pod: &Pod| container(pod, "main").and_then(|status| status.container_id.clone());
    scene.kubectl_out(&["delete", "pod", &name, "--grace-period=0", "--force"]).await?;
    let uid = before.metadata.uid.clone();
    let after = scene
        .until(&name, "created again", EVENTUALLY, |pod| pod.metadata.uid != uid && is_ready(pod))
        .await?;
    ensure!(id(&before) == id(&after) && restarts(&after, "main") == 0, "its container was left alone");
    file.remove()?;
    scene.gone(&name).await
}

pub(super) async fn broken_manifest_beside_a_good_one(scene: Scene) -> Result<()> {
    // Broken in the ways people break them; the first is read before the good one, the others after.
    let texts =
        ["kind: Pod\nspec: [", "\0\u{1}\u{2}", "", "apiVersion: v1\nkind: Pod\nmetadata: {name: [1]}\n"];
    let broken: Vec<Manifest> = (0..texts.len())
        .map(|i| Manifest::new(&scene, if i == 0 { "a" } else { ["x", "y", "z"][i - 1] }))
        .collect();
    for (file, text) in broken.iter().zip(texts) {
        file.write(text)?;
    }
    let good = Manifest::new(&scene, "good");
    good.write_pod("good", json!({ "containers": [shell("main", "sleep 1000")] }))?;
    scene.until(&mirror("good"), "ready", SOON, is_ready).await?;
    // Mended, it runs.
    broken[0].write_pod("mended", json!({ "containers": [shell("main", "sleep 1000")] }))?;
    scene.until(&mirror("mended"), "ready", SOON, is_ready).await?;
    broken[0].remove()?;
    good.remove()?;
    scene.gone(&mirror("mended")).await?;
    scene.gone(&mirror("good")).await
}

pub(super) async fn reference_to_a_config_map_is_refused(scene: Scene) -> Result<()> {
    let refused = Manifest::new(&scene, "a-refused");
    let from = json!({ "envFrom": [{ "configMapRef": { "name": "map" } }] });
    refused.write_pod("refused", json!({ "containers": [with(shell("main", "sleep 1000"), from)] }))?;
    let good = Manifest::new(&scene, "z-good");
    good.write_pod("good", json!({ "containers": [shell("main", "sleep 1000")] }))?;
    scene.until(&mirror("good"), "ready", SOON, is_ready).await?;
    let pods = scene.api::<Pod>();
    ensure!(pods.get_opt(&mirror("refused")).await?.is_none(), "a static pod may not refer to API objects");
    // Without the reference it is taken.
    refused.write_pod("refused", json!({ "containers": [shell("main", "sleep 1000")] }))?;
    scene.until(&mirror("refused"), "ready", SOON, is_ready).await?;
    Ok(())
}

/// Standalone mode: the pod runs, the kubelet shows it, and the API server hears nothing of it.
pub(super) async fn run_without_an_api_server(scene: Scene) -> Result<()> {
    let file = Manifest::new(&scene, "alone");
    scene.cluster.kubelet.stop().await?;
    let binary = &scene.cluster.paths.kubelet;
    let alone = scene.cluster.other_kubelet("kubelet-standalone", binary, Kind::Standalone);
    alone.start().await?;
    file.write_pod("alone", json!({ "containers": [shell("main", "echo alone; sleep 1000")] }))?;
    let name = mirror("alone");
    let ready = shown(&scene, &name, "ready", |pod| pod.is_some_and(is_ready)).await?;
    let source = ready.as_ref().and_then(|pod| annotation(pod, "kubernetes.io/config.source"));
    ensure!(source.as_deref() == Some("file"), "its source is a file");
    let pods = scene.api::<Pod>().list(&ListParams::default()).await.context("list pods")?;
    ensure!(pods.items.is_empty(), "nobody is told of it");
    file.remove()?;
    shown(&scene, &name, "gone", |pod| pod.is_none()).await?;
    alone.stop().await?;
    scene.cluster.kubelet.start().await?;
    scene.cluster.node_ready(EVENTUALLY).await
}

/// Asks the kubelet for a pod until it is as expected: there is nothing to watch.
pub(super) async fn shown(
    scene: &Scene,
    name: &str,
    what: &str,
    is_expected: impl Fn(Option<&Pod>) -> bool,
) -> Result<Option<Pod>> {
    let path = format!("/api/v1/nodes/{NODE}/proxy/pods");
    let deadline = Instant::now() + EVENTUALLY;
    loop {
        // It does not serve yet, or says so.
        let answer = scene.kubectl_out(&["get", "--raw", &path]).await;
        let list: Option<List<Pod>> = answer.ok().and_then(|text| serde_json::from_str(&text).ok());
        if let Some(list) = list {
            let pod = list.items.into_iter().find(|pod| pod.metadata.name.as_deref() == Some(name));
            if is_expected(pod.as_ref()) {
                return Ok(pod);
            }
        }
        ensure!(Instant::now() < deadline, "pod {name} is not {what} in time");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
