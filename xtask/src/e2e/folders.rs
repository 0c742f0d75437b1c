//! The folders that a kubelet makes.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::json;

use super::disruption::go_kubelet;
use super::scene::{SOON, Scene, shell, with};
use crate::cluster::KUBELET_ROOT;
use crate::process::Service;

/// Folders of features that are not there yet.
const NOT_YET: &[&str] = &["/device-plugins", "/pod-resources", "/volumeplugins"];

/// Each kubelet begins with nothing and runs the same pod: the folders of both have the same modes, and nothing is mounted
/// that the other does not mount.
pub(super) async fn are_upstreams(scene: Scene) -> Result<()> {
    scene.create::<ConfigMap>(json!({ "metadata": { "name": "map" }, "data": { "key": "value" } })).await?;
    scene
        .create::<Secret>(json!({ "metadata": { "name": "hidden" }, "stringData": { "key": "value" } }))
        .await?;
    scene.cluster.kubelet.stop().await?;
    let go = go_kubelet(&scene);
    let upstream = made_by(&scene, &go, "of-go").await?;
    go.stop().await?;
    let own = made_by(&scene, &scene.cluster.kubelet, "of-own").await?;
    let mut differences = Vec::new();
    for (path, wanted) in &upstream {
        let is_expected = !NOT_YET.iter().any(|part| path.starts_with(part));
        if own.get(path) != Some(wanted) && is_expected {
            differences.push(format!("{path}: upstream {wanted}, this kubelet {:?}", own.get(path)));
        }
    }
    for path in own.keys().filter(|path| !upstream.contains_key(*path)) {
        differences.push(format!("{path}: this kubelet's alone"));
    }
    ensure!(differences.is_empty(), "the folders differ:\n    {}", differences.join("\n    "));
    Ok(())
}

/// Until its object is gone, people read in a pod's folder what became of it; its volumes are gone before.
pub(super) async fn outlive_the_end_of_their_pod(scene: Scene) -> Result<()> {
    let volumes =
        json!([{ "name": "disk", "emptyDir": {} }, { "name": "memory", "emptyDir": { "medium": "Memory" } }]);
    let mounts =
        json!([{ "name": "disk", "mountPath": "/disk" }, { "name": "memory", "mountPath": "/memory" }]);
    let script = "echo data > /disk/file; echo last words > /dev/termination-log";
    let main = with(shell("main", script), json!({ "volumeMounts": mounts }));
    let spec = json!({ "restartPolicy": "Never", "volumes": volumes, "containers": [main] });
    let (pod, _) = scene.finished_pod("ended", spec).await?;
    let folder = Path::new(KUBELET_ROOT).join("pods").join(pod.metadata.uid.context("the pod's uid")?);
    let disk = folder.join("volumes/kubernetes.io~empty-dir/disk");
    until(|| !disk.exists()).await.context("its volume stays")?;
    let hosts = std::fs::read_to_string(folder.join("etc-hosts")).context("read its hosts file")?;
    ensure!(hosts.starts_with("# Kubernetes-managed hosts file"), "its hosts file is {hosts:?}");
    let messages = std::fs::read_dir(folder.join("containers/main")).context("list its messages")?;
    let texts: Vec<String> =
        messages.flatten().flat_map(|file| std::fs::read_to_string(file.path())).collect();
    ensure!(texts == ["last words\n"], "its termination messages are {texts:?}");
    scene.delete("ended").await?;
    scene.gone("ended").await?;
    until(|| !folder.exists()).await.context("its folder stays")
}

/// Waits for what nothing tells of.
async fn until(is_so: impl Fn() -> bool) -> Result<()> {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(SOON, waiting).await.context("it never comes to that")
}

/// The folders below the root folder and those of logs, with mode and number of mounts, once a pod of all kinds runs.
async fn made_by(scene: &Scene, kubelet: &Service, name: &str) -> Result<BTreeMap<String, String>> {
    scene.cluster.containerd.reset().await?;
    kubelet.start().await?;
    let volumes = json!([
        { "name": "map", "configMap": { "name": "map" } },
        { "name": "hidden", "secret": { "secretName": "hidden" } },
        { "name": "fields", "downwardAPI": { "items": [{ "path": "labels", "fieldRef": { "fieldPath": "metadata.labels" } }] } },
        { "name": "disk", "emptyDir": {} },
        { "name": "memory", "emptyDir": { "medium": "Memory" } },
    ]);
    let mounts = json!([
        { "name": "map", "mountPath": "/map" },
        { "name": "hidden", "mountPath": "/hidden" },
        { "name": "fields", "mountPath": "/fields" },
        { "name": "disk", "mountPath": "/disk", "subPath": "below" },
        { "name": "memory", "mountPath": "/memory" },
    ]);
    let main = with(shell("main", "sleep 100000"), json!({ "volumeMounts": mounts }));
    let pod = scene.ready_pod(name, json!({ "containers": [main], "volumes": volumes })).await?;
    let uid = pod.metadata.uid.context("the pod's uid")?;
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("read the mounts")?;
    let mut found = BTreeMap::new();
    let mut list = |root: &str, shown: &str| -> Result<()> {
        walk(Path::new(root), &mut |path: &Path, mode: u32| {
            let place = path.to_string_lossy();
            let count = mounts.lines().filter(|line| line.split(' ').nth(1) == Some(place.as_ref())).count();
            if let Some(name) = general(&place[root.len()..], &uid, name) {
                found.insert(format!("{shown}{name}"), format!("mode {mode:o}, mounted {count} times"));
            }
        })
    };
    list(KUBELET_ROOT, "")?;
    list("/var/log/pods", "/var/log/pods")?;
    list("/var/log/containers", "/var/log/containers")?;
    scene.delete(name).await?;
    scene.gone(name).await?;
    Ok(found)
}

/// A folder's name without what differs from pod to pod; `None` for other pods' folders, what is inside of volumes, and names
/// that are made up.
fn general(path: &str, uid: &str, pod: &str) -> Option<String> {
    let is_in_pod = path.contains(uid);
    let is_others = !is_in_pod && (path.starts_with("/pods/") || path.contains('_'));
    let is_made_up = path.split('/').any(|part| part.starts_with(".."));
    // Names of projected volumes with tokens end in chance.
    let is_token = path.contains("kube-api-access-");
    if is_others || is_made_up || is_token {
        return None;
    }
    Some(path.replace(uid, "UID").replace(pod, "POD"))
}

fn walk(folder: &Path, see: &mut impl FnMut(&Path, u32)) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    let mode = std::fs::metadata(folder).with_context(|| format!("look at {}", folder.display()))?;
    see(folder, mode.permissions().mode() & 0o7777);
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), see)?;
        }
    }
    Ok(())
}
