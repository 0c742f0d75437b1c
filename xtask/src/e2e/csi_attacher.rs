//! The external-attacher of the CSI project beside a driver that has the service Controller: what a StatefulSet has written stays,
//! whatever of pod, kubelet, driver and node starts anew. For both kubelets.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::{CSIDriver, VolumeAttachment};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

use super::csi;
use super::disruption::identity;
use super::scene::{EVENTUALLY, SOON, Scene, is_ready, restarts, shell, with};
use crate::cluster::{CsiDriver, wait_for};
use crate::process::{Program, Service};

const PROGRAM: &str = "csi-stateful";
const DRIVER: &str = "stateful.csi.example";
/// The claim that the StatefulSet makes for its only pod, and the volume it is bound to.
const CLAIM: &str = "data-web-0";
const POD: &str = "web-0";

/// The programs of a driver: itself, what registers it, and what attaches its volumes.
struct Driver {
    driver: CsiDriver,
    registrar: Service,
    attacher: Service,
}

impl Driver {
    async fn start_with_object(scene: &Scene) -> Result<Self> {
        let object = json!({ "metadata": { "name": DRIVER }, "spec": { "attachRequired": true } });
        let object: CSIDriver = serde_json::from_value(object)?;
        let objects: Api<CSIDriver> = Api::all(scene.cluster.client.clone());
        objects.create(&PostParams::default(), &object).await.context("create the CSIDriver")?;
        let own = format!("--name={DRIVER}");
        let flags = [own.as_str(), "--node-id=here", "--controller", "--capability=stage"];
        let (driver, registrar) = CsiDriver::with_registrar(&scene.cluster, PROGRAM, DRIVER, &flags)?;
        let paths = &scene.cluster.paths;
        let args = [
            format!("--kubeconfig={}", paths.file("admin.kubeconfig").display()),
            format!("--csi-address={}", driver.socket().display()),
            "--retry-interval-start=100ms".to_owned(),
        ];
        let attacher = Program::new("csi-attacher", paths.peers.csi("csi-attacher"), args);
        let attacher = scene.cluster.guest(attacher);
        let this = Self { driver, registrar, attacher };
        this.start().await?;
        csi::until(scene, DRIVER, |entry| entry.is_some()).await?;
        Ok(this)
    }

    async fn start(&self) -> Result<()> {
        self.driver.start().await?;
        self.registrar.start().await?;
        self.attacher.start().await
    }

    /// Ends the driver. The attacher ends by itself when it is gone, and is started again with it.
    async fn kill(&self) -> Result<()> {
        self.attacher.kill().await?;
        self.driver.kill().await
    }

    async fn count(&self, call: &str) -> Result<u64> {
        let counted = self.driver.command(&format!("count {call}")).await?;
        counted.parse().with_context(|| format!("{call} was counted {counted:?} times"))
    }

    /// Makes a volume, as a provisioner would, and the object that is bound to the claim.
    async fn provision(&self, scene: &Scene) -> Result<String> {
        let handle = self.driver.command(&format!("create {CLAIM} {}", 1 << 20)).await?;
        let volume = json!({ "metadata": { "name": CLAIM }, "spec": {
            "capacity": { "storage": "1Mi" }, "accessModes": ["ReadWriteOnce"], "storageClassName": "",
            "claimRef": { "namespace": scene.namespace, "name": CLAIM },
            "persistentVolumeReclaimPolicy": "Retain",
            "csi": { "driver": DRIVER, "volumeHandle": handle, "fsType": "ext4" },
        } });
        let volume: PersistentVolume = serde_json::from_value(volume)?;
        volumes(scene).create(&PostParams::default(), &volume).await.context("create the volume")?;
        Ok(handle)
    }
}

fn volumes(scene: &Scene) -> Api<PersistentVolume> {
    Api::all(scene.cluster.client.clone())
}

/// One pod, which counts in its volume how often it was started.
async fn create_set(scene: &Scene) -> Result<()> {
    let script = "echo started >> /data/log; wc -l < /data/log; exec sleep 100000";
    let mounts = json!({ "volumeMounts": [{ "name": "data", "mountPath": "/data" }] });
    let set = json!({ "metadata": { "name": "web" }, "spec": {
        "serviceName": "web",
        "selector": { "matchLabels": { "app": "web" } },
        "template": {
            "metadata": { "labels": { "app": "web" } },
            "spec": { "containers": [with(shell("main", script), mounts)], "terminationGracePeriodSeconds": 1 },
        },
        "volumeClaimTemplates": [{ "metadata": { "name": "data" }, "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "",
            "resources": { "requests": { "storage": "1Mi" } },
        } }],
    } });
    scene.create::<StatefulSet>(set).await.map(drop)
}

/// Waits for another pod than this one, and until its volume says that it was started that often.
async fn next(scene: &Scene, before: Option<&Pod>, count: &str) -> Result<Pod> {
    let uid = before.map(|pod| pod.metadata.uid.clone());
    let is_next = |pod: &Pod| Some(&pod.metadata.uid) != uid.as_ref() && is_ready(pod);
    let pod = scene.until(POD, "there anew and ready", EVENTUALLY, is_next).await?;
    counts(scene, count).await?;
    Ok(pod)
}

async fn counts(scene: &Scene, count: &str) -> Result<()> {
    let said = scene.first_line(POD, "main").await?;
    ensure!(said.trim() == count, "it was started {said} times by what its volume says, and not {count}");
    Ok(())
}

/// Ends all that a loss of power ends, and starts the node again.
async fn lose_power(scene: &Scene, storage: &Driver) -> Result<()> {
    scene.cluster.kubelet.kill().await?;
    storage.kill().await?;
    storage.registrar.kill().await?;
    scene.cluster.containerd.lose_power().await?;
    scene.cluster.containerd.start().await?;
    storage.start().await?;
    scene.cluster.kubelet.start().await
}

/// The attach-detach controller asks, the external-attacher attaches, the kubelet stages and publishes, and back.
pub(super) async fn keeps_the_data_of_a_stateful_set(scene: Scene) -> Result<()> {
    let storage = Driver::start_with_object(&scene).await?;
    let handle = storage.provision(&scene).await?;
    create_set(&scene).await?;
    let first = next(&scene, None, "1").await?;
    let staged = storage.driver.command("last NodeStageVolume").await?;
    ensure!(staged.contains("\"attachment\":\"1\""), "the driver is told what attaching told: {staged}");

    scene.delete(POD).await?;
    let second = next(&scene, Some(&first), "2").await?;

    let published = storage.count("NodePublishVolume").await?;
    scene.cluster.kubelet.kill().await?;
    scene.cluster.kubelet.start().await?;
    // Both kubelets have what they find published again.
    let counted = storage.driver.counted("NodePublishVolume", published + 1);
    tokio::time::timeout(EVENTUALLY, counted).await.context("wait for the kubelet to publish again")??;
    let after = scene.until(POD, "ready", SOON, is_ready).await?;
    ensure!(identity(&after) == identity(&second), "the pod was restarted");

    storage.kill().await?;
    storage.start().await?;
    scene.delete(POD).await?;
    let third = next(&scene, Some(&second), "3").await?;

    let before = restarts(&third, "main");
    lose_power(&scene, &storage).await?;
    let is_back = |pod: &Pod| restarts(pod, "main") > before && is_ready(pod);
    let fourth = scene.until(POD, "restarted and ready", EVENTUALLY, is_back).await?;
    ensure!(fourth.metadata.uid == third.metadata.uid, "the pod is another one");
    counts(&scene, "4").await?;
    end(&scene, storage, &handle).await
}

/// Takes all of it away again, and fails if anything is left or the driver was asked for what CSI forbids.
async fn end(scene: &Scene, storage: Driver, handle: &str) -> Result<()> {
    let now = DeleteParams::default();
    scene.api::<StatefulSet>().delete("web", &now).await.context("delete the StatefulSet")?;
    scene.api::<Pod>().delete(POD, &now).await.context("delete the pod")?;
    scene.gone(POD).await?;
    let attachments: Api<VolumeAttachment> = Api::all(scene.cluster.client.clone());
    for attachment in attachments.list(&Default::default()).await?.items {
        let name = attachment.metadata.name.unwrap_or_default();
        let is_gone = |found: Option<&VolumeAttachment>| found.is_none();
        wait_for(&attachments, &name, EVENTUALLY, is_gone).await.context("wait for the detachment")?;
    }
    let told = storage.driver.command("volumes").await?;
    ensure!(told.is_empty(), "the driver still has {told}");
    scene.api::<PersistentVolumeClaim>().delete(CLAIM, &now).await.context("delete the claim")?;
    volumes(scene).delete(CLAIM, &now).await.context("delete the volume")?;
    // The attacher lets go of it.
    let is_gone = |found: Option<&PersistentVolume>| found.is_none();
    wait_for(&volumes(scene), CLAIM, SOON, is_gone).await.context("wait for the volume to be gone")?;
    storage.driver.command(&format!("delete {handle}")).await?;
    let wrong = storage.driver.command("wrong").await?;
    ensure!(wrong.is_empty(), "the driver was asked for what CSI forbids: {wrong}");
    for program in [&storage.attacher, &storage.registrar] {
        program.stop().await?;
    }
    storage.driver.stop().await?;
    let objects: Api<CSIDriver> = Api::all(scene.cluster.client.clone());
    objects.delete(DRIVER, &now).await.map(drop).context("delete the CSIDriver")
}
