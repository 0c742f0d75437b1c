//! Volumes of CSI drivers: a pod's own, and claimed ones that are not attached.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::api::storage::v1::{CSIDriver, VolumeAttachment};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::{Value, json};

use super::csi;
use super::disruption::{go_kubelet, identity};
use super::explain::until_waits;
use super::scene::{EVENTUALLY, SOON, Scene, is_ready, phase, shell, with};
use crate::cluster::{CsiDriver, KUBELET_ROOT, wait_for};
use crate::isolation::NODE;
use crate::process::Service;

/// A driver with its CSIDriver object.
pub(super) struct Storage {
    pub(super) name: String,
    pub(super) driver: CsiDriver,
    /// What registers it, where that is another program.
    registrar: Option<Service>,
}

impl Storage {
    /// Starts a driver, and returns once the node has it. Its volumes are not attached.
    pub(super) async fn start(
        scene: &Scene,
        program: &'static str,
        object: Value,
        flags: &[&str],
    ) -> Result<Self> {
        let name = Self::create(scene, program, object).await?;
        let own = format!("--name={name}");
        let flags: Vec<&str> = [own.as_str()].into_iter().chain(flags.iter().copied()).collect();
        let driver = CsiDriver::new(&scene.cluster, program, None, &flags)?;
        let this = Self { driver, name, registrar: None };
        this.driver.start().await?;
        this.registered(scene).await?;
        Ok(this)
    }

    /// The same with a driver that either kubelet can register.
    pub(super) async fn start_for_both(
        scene: &Scene,
        program: &'static str,
        object: Value,
        flags: &[&str],
    ) -> Result<Self> {
        let name = Self::create(scene, program, object).await?;
        let own = format!("--name={name}");
        let flags: Vec<&str> = [own.as_str()].into_iter().chain(flags.iter().copied()).collect();
        let (driver, registrar) = CsiDriver::with_registrar(&scene.cluster, program, &name, &flags)?;
        driver.start().await?;
        registrar.start().await?;
        let this = Self { name, driver, registrar: Some(registrar) };
        this.registered(scene).await?;
        Ok(this)
    }

    /// Ends what registers the driver, and returns once the node has it no more.
    async fn unregister(&mut self, scene: &Scene) -> Result<()> {
        if let Some(registrar) = self.registrar.take() {
            registrar.stop().await?;
        }
        csi::until(scene, &self.name, |entry| entry.is_none()).await.map(drop)
    }

    /// Creates the CSIDriver object, and returns its name.
    async fn create(scene: &Scene, program: &str, object: Value) -> Result<String> {
        let name = format!("{program}.csi.example");
        let object =
            json!({ "metadata": { "name": name }, "spec": with(json!({ "attachRequired": false }), object) });
        let object: CSIDriver = serde_json::from_value(object)?;
        let objects: Api<CSIDriver> = Api::all(scene.cluster.client.clone());
        objects.create(&PostParams::default(), &object).await.context("create the CSIDriver")?;
        Ok(name)
    }

    pub(super) async fn registered(&self, scene: &Scene) -> Result<()> {
        csi::until(scene, &self.name, |entry| entry.is_some()).await.map(drop)
    }

    /// A volume of the driver, for a claim of this name. Returns the ways in which it can be accessed.
    pub(super) async fn volume(
        &self,
        scene: &Scene,
        name: &str,
        claim: &str,
        source: Value,
        spec: Value,
    ) -> Result<Value> {
        let source = with(json!({ "driver": self.name, "volumeHandle": name, "fsType": "ext4" }), source);
        let reference = json!({ "namespace": scene.namespace, "name": claim });
        let volume = with(
            json!({
                "capacity": { "storage": "1Mi" }, "accessModes": ["ReadWriteOnce"], "claimRef": reference,
                "csi": source, "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "",
            }),
            spec,
        );
        let modes = volume["accessModes"].clone();
        let object: PersistentVolume =
            serde_json::from_value(json!({ "metadata": { "name": name }, "spec": volume }))?;
        volumes(scene).create(&PostParams::default(), &object).await.context("create the volume")?;
        Ok(modes)
    }

    /// A volume of the driver, and a claim that has it, both of this name.
    pub(super) async fn claimed(&self, scene: &Scene, name: &str, source: Value, spec: Value) -> Result<()> {
        let modes = self.volume(scene, name, name, source, spec).await?;
        let claim = json!({
            "metadata": { "name": name },
            "spec": {
                "accessModes": modes, "storageClassName": "", "volumeName": name,
                "resources": { "requests": { "storage": "1Mi" } },
            },
        });
        scene.create::<PersistentVolumeClaim>(claim).await?;
        let is_bound = |claim: Option<&PersistentVolumeClaim>| {
            claim.and_then(|claim| claim.status.as_ref()?.phase.as_deref()) == Some("Bound")
        };
        wait_for(&scene.api::<PersistentVolumeClaim>(), name, SOON, is_bound).await.map(drop)
    }

    /// Waits until the driver was called that often.
    pub(super) async fn counted(&self, call: &str, number: u64) -> Result<()> {
        let counted = self.driver.counted(call, number);
        match tokio::time::timeout(SOON, counted).await {
            Ok(counted) => counted,
            Err(_) => bail!("{call} was not made {number} times; {}", self.calls().await?),
        }
    }

    pub(super) async fn calls(&self) -> Result<String> {
        self.driver.command("calls").await
    }

    /// The last request of a kind.
    pub(super) async fn last(&self, call: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.driver.command(&format!("last {call}")).await?)?)
    }

    /// Waits until the driver has nothing staged or published, fails if it was asked for what CSI forbids or anything is left,
    /// and takes the driver away.
    pub(super) async fn end(mut self, scene: &Scene, claims: &[&str]) -> Result<()> {
        let left = format!("{KUBELET_ROOT}/plugins/kubernetes.io/csi/{}", self.name);
        let folder = PathBuf::from(&left);
        until_gone(&folder).await?;
        let told = self.driver.command("volumes").await?;
        ensure!(told.is_empty(), "the driver still has {told}");
        let wrong = self.driver.command("wrong").await?;
        ensure!(wrong.is_empty(), "the driver was asked for what CSI forbids: {wrong}");
        let mounted = mounted(self.driver.volumes())?;
        ensure!(mounted.is_empty(), "still mounted: {mounted:?}");
        self.driver.stop().await?;
        self.unregister(scene).await?;
        let now = DeleteParams::default();
        for claim in claims {
            scene.api::<PersistentVolumeClaim>().delete(claim, &now).await.context("delete the claim")?;
        }
        forget(scene, claims).await?;
        let objects: Api<CSIDriver> = Api::all(scene.cluster.client.clone());
        objects.delete(&self.name, &now).await.map(drop).context("delete the CSIDriver")
    }
}

/// Deletes volumes.
pub(super) async fn forget(scene: &Scene, names: &[&str]) -> Result<()> {
    for name in names {
        volumes(scene).delete(name, &DeleteParams::default()).await.context("delete the volume")?;
    }
    Ok(())
}

pub(super) fn volumes(scene: &Scene) -> Api<PersistentVolume> {
    Api::all(scene.cluster.client.clone())
}

/// Places at which a part of this folder is mounted.
fn mounted(folder: &Path) -> Result<Vec<String>> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").context("read the mount table")?;
    let folder = folder.display().to_string();
    let is_its = |line: &&str| {
        line.split(' ').nth(3).is_some_and(|root| folder.ends_with(root) || root.contains(&folder))
    };
    Ok(table.lines().filter(is_its).map(str::to_owned).collect())
}

/// Waits until a folder has no folders any more; there is nothing to watch for what a kubelet does after a pod.
async fn until_gone(folder: &Path) -> Result<()> {
    let gone = async {
        while std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let gone = tokio::time::timeout(SOON, gone).await;
    gone.with_context(|| format!("{} is not empty after {SOON:?}", folder.display()))
}

/// A pod whose only container runs a script with the volume at `/v`.
pub(super) fn using(volume: Value, script: &str) -> Value {
    let mounts = json!({ "volumeMounts": [{ "name": "v", "mountPath": "/v" }] });
    let volume = with(json!({ "name": "v" }), volume);
    json!({ "containers": [with(shell("main", script), mounts)], "volumes": [volume] })
}

pub(super) fn claiming(claim: &str, script: &str) -> Value {
    using(json!({ "persistentVolumeClaim": { "claimName": claim } }), script)
}

pub(super) fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// Where the volume is in a pod's folder.
pub(super) fn place(pod: &Pod, folder: &str) -> PathBuf {
    PathBuf::from(format!("{KUBELET_ROOT}/pods/{}/volumes/kubernetes.io~csi/{folder}", uid(pod)))
}

/// Inline: published with what the pod says, its secret and tokens, and taken back before the pod is gone.
pub(super) async fn live_with_their_pods(scene: Scene) -> Result<()> {
    let object = json!({
        "volumeLifecycleModes": ["Ephemeral"], "podInfoOnMount": true,
        "tokenRequests": [{ "audience": "vault", "expirationSeconds": 3600 }],
    });
    let storage = Storage::start(&scene, "csi-inline", object, &["--capability=stage"]).await?;
    let secret = json!({ "metadata": { "name": "hidden" }, "stringData": { "key": "marker-inline" } });
    scene.create::<Secret>(secret).await?;
    let source = json!({ "csi": {
        "driver": storage.name, "volumeAttributes": { "size": "small" },
        "nodePublishSecretRef": { "name": "hidden" },
    } });
    let script = "echo kept > /v/file; cat /v/file; exec sleep 100000";
    let pod = scene.ready_pod("inline", using(source, script)).await?;
    ensure!(scene.first_line("inline", "main").await? == "kept", "the volume keeps what is written");
    let asked = storage.last("NodePublishVolume").await?;
    let attributes = &asked["attributes"];
    let of_pod = |name: &str| &attributes[format!("csi.storage.k8s.io/{name}")];
    ensure!(of_pod("pod.uid") == uid(&pod) && of_pod("pod.namespace") == scene.namespace.as_str(), "{asked}");
    ensure!(of_pod("ephemeral") == "true" && of_pod("serviceAccount.tokens")[0] == "vault", "{asked}");
    ensure!(attributes["size"] == "small" && asked["secrets"]["key"] == "marker-inline", "{asked}");
    ensure!(asked["path"] == place(&pod, "v").join("mount").display().to_string(), "{asked}");
    let told = std::fs::read_to_string(place(&pod, "v").join("vol_data.json"))?;
    ensure!(told.contains("\"volumeLifecycleMode\":\"Ephemeral\""), "{told}");
    scene.delete("inline").await?;
    scene.gone("inline").await?;
    // Before the object went.
    let calls = storage.calls().await?;
    let names: Vec<&str> = calls.split(' ').filter_map(|call| call.split(':').next()).collect();
    ensure!(names == ["NodePublishVolume", "NodeUnpublishVolume"], "{calls}");
    storage.end(&scene, &[]).await
}

/// What one pod has written the next one reads, whatever becomes of the kubelet.
pub(super) async fn are_claimed_and_keep_what_is_written(scene: Scene) -> Result<()> {
    let storage = Storage::start(&scene, "csi-claimed", json!({}), &["--capability=stage"]).await?;
    let secret = json!({ "metadata": { "name": "hidden" }, "stringData": { "key": "marker-stage" } });
    scene.create::<Secret>(secret).await?;
    let source = json!({
        "nodeStageSecretRef": { "name": "hidden", "namespace": scene.namespace },
        "volumeAttributes": { "size": "large" },
    });
    storage.claimed(&scene, "claimed", source, json!({ "mountOptions": ["noatime"] })).await?;
    let write = "echo written > /v/file; mkdir -p /v/part; echo part > /v/part/file";
    let (pod, _) = scene
        .finished_pod("first", with(claiming("claimed", write), json!({ "restartPolicy": "Never" })))
        .await?;
    ensure!(phase(&pod) == "Succeeded", "{:?}", pod.status);
    let staged = storage.last("NodeStageVolume").await?;
    ensure!(
        staged["secrets"]["key"] == "marker-stage" && staged["attributes"]["size"] == "large",
        "{staged}"
    );
    ensure!(staged["use"]["flags"] == json!(["noatime"]) && staged["use"]["fsType"] == "ext4", "{staged}");
    scene.delete("first").await?;
    scene.gone("first").await?;
    storage.counted("NodeUnstageVolume", 1).await?;

    let script = "cat /v/file /part/file; exec sleep 100000";
    let mut spec = claiming("claimed", script);
    let part = json!({ "name": "v", "mountPath": "/part", "subPath": "part" });
    spec["containers"][0]["volumeMounts"].as_array_mut().context("its mounts")?.push(part);
    let pod = scene.ready_pod("second", spec).await?;
    ensure!(scene.first_line("second", "main").await? == "written", "what was written is there");
    let published = storage.driver.command("count NodePublishVolume").await?;
    scene.cluster.kubelet.restart().await?;
    storage.registered(&scene).await?;
    // It is published again, as upstream does, and the container goes on.
    let again = published.parse::<u64>()? + 1;
    storage.counted("NodePublishVolume", again).await?;
    let after = scene.until("second", "ready", SOON, is_ready).await?;
    ensure!(identity(&pod) == identity(&after), "the pod was restarted");
    scene.delete("second").await?;
    scene.gone("second").await?;
    storage.end(&scene, &["claimed"]).await
}

/// Two pods, one stage, which goes with the last of them.
pub(super) async fn are_staged_once_for_all_pods(scene: Scene) -> Result<()> {
    let storage = Storage::start(&scene, "csi-shared", json!({}), &["--capability=stage"]).await?;
    storage.claimed(&scene, "shared", json!({}), json!({})).await?;
    let script = "exec sleep 100000";
    scene.pod("one", claiming("shared", script)).await?;
    scene.pod("two", claiming("shared", script)).await?;
    for pod in ["one", "two"] {
        scene.until(pod, "ready", SOON, is_ready).await?;
    }
    scene.delete("one").await?;
    scene.gone("one").await?;
    ensure!(storage.driver.command("count NodeUnstageVolume").await? == "0", "{}", storage.calls().await?);
    // A third one comes while it is there.
    scene.ready_pod("three", claiming("shared", script)).await?;
    for pod in ["two", "three"] {
        scene.delete(pod).await?;
        scene.gone(pod).await?;
    }
    storage.counted("NodeUnstageVolume", 1).await?;
    let staged = storage.driver.command("count NodeStageVolume").await?;
    ensure!(staged == "1", "it was staged {staged} times: {}", storage.calls().await?);
    storage.end(&scene, &["shared"]).await
}

/// Read-only volumes refuse writes, and files belong to the group of the pod unless the driver's policy says otherwise.
pub(super) async fn that_are_only_read_and_those_of_a_group(scene: Scene) -> Result<()> {
    let storage = Storage::start(&scene, "csi-grouped", json!({}), &["--capability=stage"]).await?;
    storage.claimed(&scene, "grouped", json!({}), json!({})).await?;
    let once = json!({ "restartPolicy": "Never", "securityContext": { "fsGroup": 4321, "runAsUser": 1000 } });
    let script = "echo mine > /v/file && stat -c %g /v /v/file";
    let (_, log) = scene.finished_pod("writes", with(claiming("grouped", script), once.clone())).await?;
    ensure!(log == "4321\n4321\n", "the group has it: {log:?}");
    scene.delete("writes").await?;
    scene.gone("writes").await?;
    let claim = json!({ "persistentVolumeClaim": { "claimName": "grouped", "readOnly": true } });
    let script = "cat /v/file; touch /v/new 2>/dev/null || echo refused";
    let (_, log) = scene.finished_pod("reads", with(using(claim, script), once)).await?;
    ensure!(log == "mine\nrefused\n", "it is only read: {log:?}");
    let asked = storage.last("NodePublishVolume").await?;
    ensure!(asked["readOnly"] == true, "{asked}");
    scene.delete("reads").await?;
    scene.gone("reads").await?;
    storage.end(&scene, &["grouped"]).await?;

    let none = json!({ "fsGroupPolicy": "None" });
    let storage = Storage::start(&scene, "csi-groupless", none, &["--capability=stage"]).await?;
    storage.claimed(&scene, "groupless", json!({}), json!({})).await?;
    let once = json!({ "restartPolicy": "Never", "securityContext": { "fsGroup": 4321 } });
    let (_, log) =
        scene.finished_pod("none", with(claiming("groupless", "stat -c %g /v"), once.clone())).await?;
    ensure!(log == "0\n", "nobody has given it to the group: {log:?}");
    scene.delete("none").await?;
    scene.gone("none").await?;
    storage.end(&scene, &["groupless"]).await?;

    // A driver that does it itself is told the group.
    let flags = ["--capability=stage", "--capability=group"];
    let storage = Storage::start(&scene, "csi-own-group", json!({}), &flags).await?;
    storage.claimed(&scene, "own-group", json!({}), json!({})).await?;
    let (_, log) = scene.finished_pod("own", with(claiming("own-group", "stat -c %g /v"), once)).await?;
    ensure!(log == "4321\n", "the driver has given it to the group: {log:?}");
    let asked = storage.last("NodeStageVolume").await?;
    ensure!(asked["use"]["group"] == "4321", "{asked}");
    scene.delete("own").await?;
    scene.gone("own").await?;
    storage.end(&scene, &["own-group"]).await
}

/// Each call fails in turn: events and explanations name it, and it is made again until it succeeds.
pub(super) async fn whose_driver_fails_are_told_and_tried_again(scene: Scene) -> Result<()> {
    let storage = Storage::start(&scene, "csi-failing", json!({}), &["--capability=stage"]).await?;
    storage.claimed(&scene, "failing", json!({}), json!({})).await?;
    let said = "rpc error: code = Internal desc = told to fail";
    storage.driver.command("fail NodeStageVolume").await?;
    storage.driver.command("fail NodePublishVolume Unavailable").await?;
    scene.pod("web", claiming("failing", "exec sleep 100000")).await?;
    let message = format!("MountVolume.MountDevice failed for volume \"failing\" : {said}");
    scene.event_naming("web", "FailedMount", &message).await?;
    until_waits(&scene, Some("web"), "to be made ready for the node by CSI driver", said).await?;
    storage.driver.command("release NodeStageVolume").await?;
    let said = "rpc error: code = Unavailable desc = told to fail";
    let message = format!("MountVolume.SetUp failed for volume \"failing\" : {said}");
    scene.event_naming("web", "FailedMount", &message).await?;
    until_waits(&scene, Some("web"), "to be mounted for the pod by CSI driver", said).await?;
    storage.driver.command("release NodePublishVolume").await?;
    scene.until("web", "ready", EVENTUALLY, is_ready).await?;
    storage.driver.command("fail NodeUnpublishVolume").await?;
    storage.driver.command("fail NodeUnstageVolume").await?;
    scene.delete("web").await?;
    let said = "Unmounter.TearDownAt failed: rpc error: code = Internal desc = told to fail";
    until_waits(&scene, Some("web"), "to be unmounted for the pod by CSI driver", said).await?;
    storage.driver.command("release NodeUnpublishVolume").await?;
    scene.gone("web").await?;
    let said = "attacher.UnmountDevice failed: rpc error: code = Internal desc = told to fail";
    until_waits(&scene, None, "to be taken from the node by CSI driver", said).await?;
    storage.driver.command("release NodeUnstageVolume").await?;
    storage.end(&scene, &["failing"]).await
}

/// A call that is not answered holds up its own pod, which is deleted meanwhile; what the driver has done all the same is taken
/// back.
pub(super) async fn whose_driver_hangs_hold_up_their_pods_only(scene: Scene) -> Result<()> {
    let storage = Storage::start(&scene, "csi-hanging", json!({}), &["--capability=stage"]).await?;
    for name in ["hanging", "free"] {
        storage.claimed(&scene, name, json!({}), json!({})).await?;
    }
    storage.driver.command("late NodePublishVolume").await?;
    scene.pod("hung", claiming("hanging", "exec sleep 100000")).await?;
    storage.counted("NodePublishVolume", 1).await?;
    until_waits(&scene, Some("hung"), "to be mounted for the pod by CSI driver", "").await?;
    storage.driver.command("release NodePublishVolume").await?;
    scene.until("hung", "ready", SOON, is_ready).await?;
    storage.driver.command("late NodeUnpublishVolume").await?;
    scene.delete("hung").await?;
    storage.counted("NodeUnpublishVolume", 1).await?;
    // Others come meanwhile.
    scene.ready_pod("other", claiming("free", "exec sleep 100000")).await?;
    until_waits(&scene, Some("hung"), "to be unmounted for the pod by CSI driver", "").await?;
    storage.driver.command("release NodeUnpublishVolume").await?;
    scene.gone("hung").await?;
    scene.delete("other").await?;
    scene.gone("other").await?;
    storage.end(&scene, &["hanging", "free"]).await
}

/// A driver that is gone holds up its own pods, who say so, and they come and go once it is back.
pub(super) async fn whose_driver_is_gone_are_waited_for(scene: Scene) -> Result<()> {
    let storage = Storage::start(&scene, "csi-gone", json!({}), &["--capability=stage"]).await?;
    storage.claimed(&scene, "gone", json!({}), json!({})).await?;
    scene.ready_pod("ends", claiming("gone", "exec sleep 100000")).await?;
    storage.driver.stop().await?;
    csi::until(&scene, &storage.name, |entry| entry.is_none()).await?;
    scene.delete("ends").await?;
    let needs = format!("which needs CSI driver {} to register", storage.name);
    until_waits(&scene, Some("ends"), &needs, "").await?;
    scene.pod("starts", claiming("gone", "exec sleep 100000")).await?;
    let missing = format!("driver name {} not found in the list of registered CSI drivers", storage.name);
    scene.event_naming("starts", "FailedMount", &missing).await?;
    until_waits(&scene, Some("starts"), &needs, "").await?;
    // Pods of others come and go.
    scene.ready_pod("other", json!({ "containers": [shell("main", "exec sleep 100000")] })).await?;
    scene.delete("other").await?;
    scene.gone("other").await?;
    storage.driver.start().await?;
    scene.gone("ends").await?;
    scene.until("starts", "ready", SOON, is_ready).await?;
    scene.delete("starts").await?;
    scene.gone("starts").await?;
    storage.end(&scene, &["gone"]).await
}

/// Killed while each call is under way, a kubelet's successor finds what there is and goes on.
pub(super) async fn outlive_a_kubelet_that_is_killed(scene: Scene) -> Result<()> {
    let storage = Storage::start(&scene, "csi-killed", json!({}), &["--capability=stage"]).await?;
    storage.claimed(&scene, "killed", json!({}), json!({})).await?;
    let again = async |call: &str| -> Result<()> {
        storage.driver.command(&format!("late {call}")).await?;
        Ok(())
    };
    let killed = async |call: &str| -> Result<()> {
        storage.counted(call, 1).await?;
        scene.cluster.kubelet.kill().await?;
        storage.driver.command(&format!("release {call}")).await?;
        scene.cluster.kubelet.start().await
    };
    again("NodeStageVolume").await?;
    again("NodePublishVolume").await?;
    scene.pod("web", claiming("killed", "exec sleep 100000")).await?;
    killed("NodeStageVolume").await?;
    killed("NodePublishVolume").await?;
    scene.until("web", "ready", EVENTUALLY, is_ready).await?;
    again("NodeUnpublishVolume").await?;
    again("NodeUnstageVolume").await?;
    scene.delete("web").await?;
    killed("NodeUnpublishVolume").await?;
    scene.gone("web").await?;
    killed("NodeUnstageVolume").await?;
    storage.registered(&scene).await?;
    storage.end(&scene, &["killed"]).await
}

/// A pod that nobody knows of any more when the kubelet starts has left its volumes.
pub(super) async fn of_pods_that_went_while_the_kubelet_was_away_are_taken_back(scene: Scene) -> Result<()> {
    let storage = Storage::start(&scene, "csi-orphaned", json!({}), &["--capability=stage"]).await?;
    storage.claimed(&scene, "orphaned", json!({}), json!({})).await?;
    let pod = scene.ready_pod("web", claiming("orphaned", "exec sleep 100000")).await?;
    scene.cluster.kubelet.stop().await?;
    let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    scene.api::<Pod>().delete("web", &now).await.context("delete the pod")?;
    ensure!(place(&pod, "orphaned").join("vol_data.json").exists(), "nothing has told of the volume");
    scene.cluster.kubelet.start().await?;
    until_gone(&place(&pod, "orphaned")).await?;
    storage.counted("NodeUnstageVolume", 1).await?;
    storage.end(&scene, &["orphaned"]).await
}

/// Waits for the attachment of a volume, and returns its name.
async fn attachment_of(attachments: &Api<VolumeAttachment>, volume: &str) -> Result<String> {
    let found = watcher(attachments.clone(), watcher::Config::default()).default_backoff().applied_objects();
    let names = found.filter_map(|object| {
        let object = object.ok().filter(|object: &VolumeAttachment| {
            object.spec.source.persistent_volume_name.as_deref() == Some(volume)
        });
        std::future::ready(object.and_then(|object| object.metadata.name))
    });
    match tokio::time::timeout(SOON, std::pin::pin!(names).next()).await {
        Ok(Some(name)) => Ok(name),
        _ => bail!("there is no VolumeAttachment of {volume}"),
    }
}

fn volumes_in_use(node: Option<&Node>) -> Vec<String> {
    node.and_then(|node| node.status.as_ref()?.volumes_in_use.clone()).unwrap_or_default()
}

/// Attached by the cluster's controller before the driver hears of it, with what its attachment says, and detached when it is
/// taken from the node. The driver's attacher is this test.
pub(super) async fn are_attached_before_anything_else(scene: Scene) -> Result<()> {
    let object = json!({ "attachRequired": true });
    let storage = Storage::start(&scene, "csi-attached", object, &["--capability=stage"]).await?;
    storage.claimed(&scene, "attached", json!({}), json!({})).await?;
    scene.pod("web", claiming("attached", "exec sleep 100000")).await?;
    let waits = format!("of driver {} to be attached to the node", storage.name);
    until_waits(&scene, Some("web"), &waits, "").await?;
    let attachments: Api<VolumeAttachment> = Api::all(scene.cluster.client.clone());
    let name = attachment_of(&attachments, "attached").await?;
    let nodes: Api<Node> = Api::all(scene.cluster.client.clone());
    let unique = format!("kubernetes.io/csi/{}^attached", storage.name);
    let is_in_use = |node: Option<&Node>| volumes_in_use(node).contains(&unique);
    wait_for(&nodes, NODE, SOON, is_in_use).await.context("wait for volumesInUse")?;
    ensure!(storage.calls().await?.is_empty(), "nobody has attached it yet: {}", storage.calls().await?);
    let status = json!({ "status": { "attached": true, "attachmentMetadata": { "device": "sda" } } });
    let patch = Patch::Merge(status);
    attachments.patch_status(&name, &PatchParams::default(), &patch).await.context("attach the volume")?;
    scene.until("web", "ready", EVENTUALLY, is_ready).await?;
    for call in ["NodeStageVolume", "NodePublishVolume"] {
        let asked = storage.last(call).await?;
        ensure!(asked["publishContext"]["device"] == "sda", "{call}: {asked}");
    }
    scene.delete("web").await?;
    scene.gone("web").await?;
    storage.counted("NodeUnstageVolume", 1).await?;
    let is_free = |node: Option<&Node>| !volumes_in_use(node).contains(&unique);
    wait_for(&nodes, NODE, SOON, is_free).await.context("wait for volumesInUse")?;
    let is_gone = |found: Option<&VolumeAttachment>| found.is_none();
    wait_for(&attachments, &name, EVENTUALLY, is_gone).await.context("wait for the detachment")?;
    storage.end(&scene, &["attached"]).await
}

/// Both kubelets find what the other has mounted, have it published again just the same, and take it back.
pub(super) async fn change_hands_between_kubelets(scene: Scene) -> Result<()> {
    let mut storage =
        Storage::start_for_both(&scene, "csi-handed", json!({}), &["--capability=stage"]).await?;
    for claim in ["theirs", "ours"] {
        storage.claimed(&scene, claim, json!({}), json!({ "mountOptions": ["noatime"] })).await?;
    }
    let pod = |claim: &str| {
        let pod = claiming(claim, "exec sleep 100000");
        with(pod, json!({ "securityContext": { "fsGroup": 4321 } }))
    };
    scene.cluster.kubelet.stop().await?;
    let go = go_kubelet(&scene);
    go.start().await?;
    let theirs = scene.ready_pod("theirs", pod("theirs")).await?;
    go.stop().await?;
    let told = |pod: &Pod, folder: &str| std::fs::read_to_string(place(pod, folder).join("vol_data.json"));
    let written = told(&theirs, "theirs")?;
    scene.cluster.kubelet.start().await?;
    storage.counted("NodePublishVolume", 2).await?;
    ensure!(told(&theirs, "theirs")? == written, "{written} became {}", told(&theirs, "theirs")?);
    let after = scene.until("theirs", "ready", SOON, is_ready).await?;
    ensure!(identity(&theirs) == identity(&after), "the pod was restarted");
    let ours = scene.ready_pod("ours", pod("ours")).await?;
    scene.delete("theirs").await?;
    scene.gone("theirs").await?;
    storage.counted("NodeUnstageVolume", 1).await?;
    scene.cluster.kubelet.stop().await?;
    let written = told(&ours, "ours")?;
    let published = storage.driver.command("count NodePublishVolume").await?.parse::<u64>()?;
    go.start().await?;
    storage.counted("NodePublishVolume", published + 1).await?;
    ensure!(told(&ours, "ours")? == written, "{written} became {}", told(&ours, "ours")?);
    scene.delete("ours").await?;
    scene.gone("ours").await?;
    storage.counted("NodeUnstageVolume", 2).await?;
    // A kubelet that starts without ever having seen a driver leaves it in the CSINode.
    storage.unregister(&scene).await?;
    go.stop().await?;
    scene.cluster.kubelet.start().await?;
    storage.end(&scene, &["theirs", "ours"]).await
}
