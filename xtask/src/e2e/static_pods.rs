//! Pods from manifest files, and their mirrors in the API.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::List;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::disruption::ReportPipe;
use super::scene::{EVENTUALLY, SOON, Scene, container, is_ready, phase, pod, restarts, shell, with};
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

/// "mirror pod termination should satisfy grace period when static pod is updated" of upstream's suite: as long as the
/// old pod runs, its mirror says so.
pub(super) async fn mirror_of_an_edited_pod_stays_until_it_has_ended(scene: Scene) -> Result<()> {
    let mut reports = ReportPipe::new(&scene)?;
    let file = Manifest::new(&scene, "edited");
    let mounts = json!({ "volumeMounts": [{ "name": "reports", "mountPath": "/reports" }] });
    let spec = |word: &str| {
        let script = format!(
            "trap 'echo ending {word} > /reports/pipe; until test -e /reports/go; do sleep 0.1; done; exit 0' TERM; \
             echo begin {word} > /reports/pipe; while :; do sleep 0.1; done"
        );
        let main = with(shell("main", &script), mounts.clone());
        json!({ "containers": [main], "volumes": reports.volumes(), "terminationGracePeriodSeconds": 100 })
    };
    let (first, second) = (spec("first"), spec("second"));
    file.write_pod("edited", first)?;
    let name = mirror("edited");
    ensure!(reports.next().await? == "begin first", "it begins");
    let before = scene.until(&name, "ready", SOON, is_ready).await?;
    file.write_pod("edited", second)?;
    ensure!(reports.next().await? == "ending first", "it is told to end");
    let now = scene.api::<Pod>().get(&name).await?;
    ensure!(now.metadata.uid == before.metadata.uid, "the mirror is still the old pod's");
    ensure!(now.metadata.deletion_timestamp.is_none() && phase(&now) == "Running", "and says that it runs");
    workspace::write(&reports.folder().join("go"), "")?;
    ensure!(reports.next().await? == "begin second", "the new one begins after the end of the old one");
    let uid = before.metadata.uid;
    scene.until(&name, "replaced", SOON, |pod| pod.metadata.uid != uid && is_ready(pod)).await?;
    file.remove()?;
    scene.gone(&name).await
}

/// "should successfully recreate when file is removed and recreated" of upstream's suite: however quickly.
pub(super) async fn removed_and_recreated_file_restarts_its_pod(scene: Scene) -> Result<()> {
    let file = Manifest::new(&scene, "again");
    let spec = json!({ "containers": [shell("main", "echo begin; sleep 100000")] });
    file.write_pod("again", spec.clone())?;
    let name = mirror("again");
    scene.until(&name, "ready", SOON, is_ready).await?;
    file.remove()?;
    file.write_pod("again", spec)?;
    let once = |pod: &Pod| restarts(pod, "main") == 1 && is_ready(pod);
    scene.until(&name, "running with one restart", EVENTUALLY, once).await?;
    file.remove()?;
    scene.gone(&name).await
}

/// What administrators do in the folder: rewriting, editors' files, a backup beside the manifest (kubernetes/kubeadm#2823),
/// renaming. Whatever becomes of the pod, no two of it ever run at once.
pub(super) async fn backup_rewriting_and_renaming(scene: Scene) -> Result<()> {
    let lives = scene.cluster.paths.file(&scene.namespace);
    workspace::create_dir(&lives)?;
    let spec = |value: &str| {
        let script = "say() { echo $V $1 >> /lives/log; }; trap 'say end; exit 0' TERM; say begin; touch /tmp/up; \
                      while :; do sleep 0.1; done";
        // The signal that stops it does not come before it can be heard.
        let pre_stop =
            json!({ "exec": { "command": ["sh", "-c", "until [ -e /tmp/up ]; do sleep 0.1; done"] } });
        let own = json!({
            "env": [{ "name": "V", "value": value }],
            "volumeMounts": [{ "name": "lives", "mountPath": "/lives" }],
            "lifecycle": { "preStop": pre_stop },
        });
        let volumes = json!([{ "name": "lives", "hostPath": { "path": lives } }]);
        json!({ "containers": [with(shell("main", script), own)], "volumes": volumes, "terminationGracePeriodSeconds": 30 })
    };
    let log = || std::fs::read_to_string(lives.join("log")).unwrap_or_default();
    let file = Manifest::new(&scene, "copied");
    file.write_pod("copied", spec("one"))?;
    let name = mirror("copied");
    let before = scene.until(&name, "ready", SOON, is_ready).await?;
    // Rewritten as it is, and what an editor leaves.
    let text = std::fs::read_to_string(&file.path).context("read the manifest")?;
    std::fs::write(&file.path, &text).context("write the manifest again")?;
    let folder = file.path.parent().context("the folder")?.to_owned();
    std::fs::write(folder.join(format!(".{}.swp", scene.namespace)), "").context("an editor's file")?;
    std::fs::write(folder.join("4913"), "").context("an editor's file")?;
    std::fs::remove_file(folder.join("4913")).context("remove an editor's file")?;
    later_pod(&scene, "later").await?;
    let now = scene.api::<Pod>().get(&name).await?;
    let id = |pod: &Pod| container(pod, "main").and_then(|status| status.container_id.clone());
    ensure!(id(&now) == id(&before) && log() == "one begin\n", "nothing of that is a change: {:?}", log());
    // A backup, and then the change.
    let backup = Manifest { path: with_suffix(&file.path, ".backup"), namespace: file.namespace.clone() };
    std::fs::copy(&file.path, &backup.path).context("copy the manifest")?;
    file.write_pod("copied", spec("two"))?;
    later_pod(&scene, "still-later").await?;
    scene.until(&name, "ready, with either manifest", EVENTUALLY, is_ready).await?;
    backup.remove()?;
    let is_two = |pod: &Pod| {
        let spec = pod.spec.as_ref().and_then(|spec| spec.containers.first()?.env.clone());
        spec.is_some_and(|env| env[0].value.as_deref() == Some("two")) && is_ready(pod)
    };
    let two = scene.until(&name, "the changed one", EVENTUALLY, is_two).await?;
    // Renamed, it is another pod: the file's name is part of what it is.
    let renamed = Manifest::new(&scene, "renamed");
    std::fs::rename(&file.path, &renamed.path).context("rename the manifest")?;
    let hash = annotation(&two, "kubernetes.io/config.hash");
    let is_other = |pod: &Pod| annotation(pod, "kubernetes.io/config.hash") != hash && is_ready(pod);
    scene.until(&name, "replaced after the renaming", EVENTUALLY, is_other).await?;
    renamed.remove()?;
    scene.gone(&name).await?;
    let _ = std::fs::remove_file(folder.join(format!(".{}.swp", scene.namespace)));
    let words: Vec<String> =
        log().lines().map(|line| line.split(' ').nth(1).unwrap_or_default().to_owned()).collect();
    let takes_turns = words.chunks(2).all(|life| life == ["begin", "end"]);
    ensure!(takes_turns, "each life ends before the next begins: {:?}", log());
    Ok(())
}

/// What was written before it has been seen by the time this runs.
async fn later_pod(scene: &Scene, name: &str) -> Result<()> {
    let file = Manifest::new(scene, name);
    file.write_pod(name, json!({ "containers": [shell("main", "sleep 1000")] }))?;
    scene.until(&mirror(name), "ready", SOON, is_ready).await?;
    file.remove()?;
    scene.gone(&mirror(name)).await
}

fn with_suffix(path: &std::path::Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// After a restart of the kubelet the mirror of a pod with probes says what it said before.
pub(super) async fn kubelet_restart_leaves_their_status_alone(scene: Scene) -> Result<()> {
    let file = Manifest::new(&scene, "probed");
    let probe = json!({ "exec": { "command": ["true"] }, "periodSeconds": 10 });
    let probes = json!({ "startupProbe": probe, "readinessProbe": probe, "livenessProbe": probe });
    file.write_pod("probed", json!({ "containers": [with(shell("main", "sleep 100000"), probes)] }))?;
    let name = mirror("probed");
    let before = scene.until(&name, "ready", SOON, is_ready).await?;
    let since = |pod: &Pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        let started = pod.status.as_ref().and_then(|status| status.start_time.clone());
        let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
        (started, ready.map(|ready| (ready.status, ready.last_transition_time)))
    };
    scene.cluster.kubelet.restart().await?;
    // The kubelet knows the mirror by now: both come from the same watch.
    scene.ready_pod("new", json!({ "containers": [shell("main", "sleep 1000")] })).await?;
    let after = scene.api::<Pod>().get(&name).await?;
    ensure!(since(&after) == since(&before), "from {:?} to {:?}", since(&before), since(&after));
    ensure!(restarts(&after, "main") == 0, "and it was left alone");
    file.remove()?;
    scene.gone(&name).await
}

/// A pod whose manifest was removed while no kubelet ran is ended by the next one, which says why.
pub(super) async fn removed_without_a_kubelet_is_told(scene: Scene) -> Result<()> {
    let file = Manifest::new(&scene, "left");
    file.write_pod("left", json!({ "containers": [shell("main", "sleep 100000")] }))?;
    let name = mirror("left");
    scene.until(&name, "ready", SOON, is_ready).await?;
    let kubelet = &scene.cluster.kubelet;
    kubelet.stop().await?;
    let read = || std::fs::read_to_string(kubelet.log()).context("read the log");
    let before = read()?.len();
    file.remove()?;
    kubelet.start().await?;
    scene.gone(&name).await?;
    // The mirror may go before the runtime has told of the pod.
    let told = async || {
        let log = read()?;
        let is_told = log[before..].lines().any(|line| line.contains("orphaned pod") && line.contains(&name));
        ensure!(is_told, "no line says why it is ended");
        Ok(())
    };
    kubelet.answers(SOON, told).await
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
    // Without an API server there are no RuntimeClasses: whichever is named, the default handler runs the pod.
    let spec = json!({ "runtimeClassName": "any", "containers": [shell("main", "echo alone; sleep 1000")] });
    file.write_pod("alone", spec)?;
    let name = mirror("alone");
    let ready = shown(&scene, &name, "ready", |pod| pod.is_some_and(is_ready)).await?;
    let source = ready.as_ref().and_then(|pod| annotation(pod, "kubernetes.io/config.source"));
    ensure!(source.as_deref() == Some("file"), "its source is a file");
    let pods = scene.api::<Pod>().list(&ListParams::default()).await.context("list pods")?;
    ensure!(pods.items.is_empty(), "reports to nobody");
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
