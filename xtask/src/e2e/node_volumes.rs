//! Volumes that the kubelet mounts itself: folders and disks of the node, paths of it, and what servers export.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};
use tokio::process::Command;

use super::disruption::identity;
use super::explain::until_waits;
use super::scene::{EVENTUALLY, SOON, Scene, is_ready, shell, with};
use crate::cluster::{KUBELET_ROOT, wait_for};

fn volumes(scene: &Scene) -> Api<PersistentVolume> {
    Api::all(scene.cluster.client.clone())
}

/// A volume, and a claim that has it, both of this name.
async fn claimed(scene: &Scene, name: &str, annotations: Value, spec: Value) -> Result<()> {
    let volume = with(
        json!({
            "capacity": { "storage": "1Mi" }, "accessModes": ["ReadWriteOnce"],
            "claimRef": { "namespace": scene.namespace, "name": name },
            "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "",
        }),
        spec,
    );
    let metadata = json!({ "name": name, "annotations": annotations });
    let object: PersistentVolume = serde_json::from_value(json!({ "metadata": metadata, "spec": volume }))?;
    volumes(scene).create(&PostParams::default(), &object).await.context("create the volume")?;
    let claim = json!({
        "metadata": { "name": name },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": name,
            "resources": { "requests": { "storage": "1Mi" } },
        },
    });
    scene.create::<PersistentVolumeClaim>(claim).await?;
    let is_bound = |claim: Option<&PersistentVolumeClaim>| {
        claim.and_then(|claim| claim.status.as_ref()?.phase.as_deref()) == Some("Bound")
    };
    wait_for(&scene.api::<PersistentVolumeClaim>(), name, SOON, is_bound).await.map(drop)
}

async fn remove(scene: &Scene, name: &str) -> Result<()> {
    let now = DeleteParams::default();
    scene.api::<PersistentVolumeClaim>().delete(name, &now).await.context("delete the claim")?;
    volumes(scene).delete(name, &now).await.map(drop).context("delete the volume")
}

/// A local volume that nodes with this operating system may have.
fn local(path: &Path, os: &str) -> Value {
    let expression = json!({ "key": "kubernetes.io/os", "operator": "In", "values": [os] });
    let terms = json!([{ "matchExpressions": [expression] }]);
    json!({ "local": { "path": path }, "nodeAffinity": { "required": { "nodeSelectorTerms": terms } } })
}

fn claiming(claim: &str, is_read_only: bool, script: &str) -> Value {
    let mounts = json!({ "volumeMounts": [{ "name": "v", "mountPath": "/v" }] });
    let source = json!({ "claimName": claim, "readOnly": is_read_only });
    let volume = json!({ "name": "v", "persistentVolumeClaim": source });
    json!({ "containers": [with(shell("main", script), mounts)], "volumes": [volume] })
}

/// Where the kubelet has a local volume for a pod.
fn place(pod: &Pod, volume: &str) -> PathBuf {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    PathBuf::from(format!("{KUBELET_ROOT}/pods/{uid}/volumes/kubernetes.io~local-volume/{volume}"))
}

/// What is mounted at a place: its options, one text for each mount.
fn mounted(place: &Path) -> Result<Vec<String>> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").context("read the mount table")?;
    let place = place.display().to_string();
    let fields = table.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let here = fields.filter(|fields| fields.get(4) == Some(&place.as_str()));
    Ok(here.filter_map(|fields| fields.get(5).map(|options| (*options).to_owned())).collect())
}

fn folder(scene: &Scene, name: &str) -> Result<PathBuf> {
    let path = scene.cluster.paths.file(&format!("{}-{name}", scene.namespace));
    std::fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
    Ok(path)
}

/// A folder is there for each pod, with its options, for its group and that of its annotation, and stays when they go.
pub(super) async fn of_folders_are_bound_for_each_pod(scene: Scene) -> Result<()> {
    let (disk, name) = (folder(&scene, "disk")?, "local-folder");
    let spec = with(local(&disk, "linux"), json!({ "mountOptions": ["noexec"] }));
    claimed(&scene, name, json!({ "pv.beta.kubernetes.io/gid": "777" }), spec).await?;
    let security = json!({ "securityContext": { "fsGroup": 4321, "runAsUser": 1000 } });
    let script = "echo kept > /v/file; stat -c %g /v/file; id -G; exec sleep 100000";
    let pod = scene.ready_pod("writes", with(claiming(name, false, script), security)).await?;
    ensure!(scene.first_line("writes", "main").await? == "4321", "its group has it");
    let groups = scene.log("writes", None).await?;
    let groups: Vec<&str> = groups.lines().nth(1).unwrap_or_default().split(' ').collect();
    ensure!(groups.contains(&"4321") && groups.contains(&"777"), "the groups are {groups:?}");
    let options = mounted(&place(&pod, name))?;
    ensure!(options.len() == 1 && options[0].contains("noexec"), "mounted with {options:?}");

    let script = "cat /v/file; touch /v/new 2>/dev/null || echo refused";
    let security = json!({ "restartPolicy": "Never", "securityContext": { "fsGroup": 99 } });
    let (_, log) = scene.finished_pod("reads", with(claiming(name, true, script), security)).await?;
    ensure!(log == "kept\nrefused\n", "{log:?}");
    let wanted = "The requested fsGroup is 99, but the volume local-folder has GID 4321.";
    scene.event_naming("reads", "AlreadyMountedVolume", wanted).await?;
    for pod in ["writes", "reads"] {
        scene.delete(pod).await?;
        scene.gone(pod).await?;
    }
    ensure!(mounted(&place(&pod, name))?.is_empty(), "it is unmounted");
    ensure!(std::fs::read_to_string(disk.join("file"))? == "kept\n", "what was written stays");
    remove(&scene, name).await
}

/// What this node may not have, and what is not there, is told until it is.
pub(super) async fn that_cannot_be_had_say_why(scene: Scene) -> Result<()> {
    let elsewhere = folder(&scene, "elsewhere")?;
    claimed(&scene, "elsewhere", json!({}), local(&elsewhere, "windows")).await?;
    scene.pod("misplaced", claiming("elsewhere", false, "true")).await?;
    let message =
        "MountVolume.NodeAffinity check failed for volume \"elsewhere\" : no matching NodeSelectorTerms";
    scene.event_naming("misplaced", "FailedMount", message).await?;

    let missing = scene.cluster.paths.file(&format!("{}-missing", scene.namespace));
    claimed(&scene, "missing", json!({}), local(&missing, "linux")).await?;
    scene.pod("waits", claiming("missing", false, "exec sleep 100000")).await?;
    let message = format!(
        "MountVolume.NewMounter initialization failed for volume \"missing\" : path {:?} does not exist",
        missing.display().to_string()
    );
    scene.event_naming("waits", "FailedMount", &message).await?;
    std::fs::create_dir(&missing)?;
    scene.until("waits", "ready", SOON, is_ready).await?;

    let options = json!({ "hostPath": { "path": elsewhere }, "mountOptions": ["noexec"] });
    claimed(&scene, "path-options", json!({}), options).await?;
    scene.pod("options", claiming("path-options", false, "true")).await?;
    let message = "MountVolume.MountOptionSupport check failed for volume \"path-options\" : mount options are not \
        supported for this volume type";
    scene.event_naming("options", "FailedMount", message).await?;
    // No kubelet has a plugin for that kind any more.
    let withdrawn = json!({ "quobyte": { "registry": "registry:7861", "volume": "v" } });
    claimed(&scene, "withdrawn", json!({}), withdrawn).await?;
    scene.pod("old", claiming("withdrawn", false, "true")).await?;
    let message = "failed to process volumes=[v]: failed to get Plugin from volumeSpec for volume \"withdrawn\" err=no \
        volume plugin matched";
    scene.event_with("old", "FailedMount", message, EVENTUALLY).await?;
    let pods =
        [("misplaced", "elsewhere"), ("waits", "missing"), ("options", "path-options"), ("old", "withdrawn")];
    for (pod, claim) in pods {
        scene.delete(pod).await?;
        scene.gone(pod).await?;
        remove(&scene, claim).await?;
    }
    Ok(())
}

/// A path of the node behind a claim is that path, with parts of it for containers, and stays.
pub(super) async fn that_are_paths_are_shown_as_they_are(scene: Scene) -> Result<()> {
    let path = folder(&scene, "path")?;
    let source = json!({ "hostPath": { "path": path, "type": "Directory" } });
    claimed(&scene, "host-path", json!({}), source).await?;
    let mut spec = claiming("host-path", false, "echo written > /part/file; cat /v/part/file");
    spec["restartPolicy"] = json!("Never");
    let part = json!({ "name": "v", "mountPath": "/part", "subPath": "part" });
    spec["containers"][0]["volumeMounts"].as_array_mut().context("its mounts")?.push(part);
    let (_, log) = scene.finished_pod("web", spec).await?;
    ensure!(log == "written\n", "{log:?}");
    scene.delete("web").await?;
    scene.gone("web").await?;
    ensure!(std::fs::read_to_string(path.join("part/file"))? == "written\n", "what was written stays");
    remove(&scene, "host-path").await
}

/// A disk that is a file, for as long as it is held.
struct Disk(PathBuf);

impl Disk {
    async fn new(scene: &Scene) -> Result<Self> {
        let file = scene.cluster.paths.file(&format!("{}-image", scene.namespace));
        std::fs::File::create(&file)?.set_len(16 << 20)?;
        let made = Command::new("losetup").args(["--find", "--show"]).arg(&file).output().await?;
        ensure!(made.status.success(), "losetup: {}", String::from_utf8_lossy(&made.stderr));
        Ok(Self(PathBuf::from(String::from_utf8(made.stdout)?.trim())))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

/// A disk gets a file system once, is mounted for the node and then for its pods, and a kubelet that is killed finds it so.
pub(super) async fn on_disks_outlive_a_kubelet_that_is_killed(scene: Scene) -> Result<()> {
    let (disk, name) = (Disk::new(&scene).await?, "local-disk");
    let global = PathBuf::from(format!("{KUBELET_ROOT}/plugins/kubernetes.io/local-volume/mounts/{name}"));
    claimed(&scene, name, json!({}), local(&disk.0, "linux")).await?;
    let script = "cat /v/file 2>/dev/null || echo new; echo kept > /v/file; exec sleep 100000";
    let before = scene.ready_pod("first", claiming(name, false, script)).await?;
    ensure!(scene.first_line("first", "main").await? == "new", "it was empty");
    scene.cluster.kubelet.kill().await?;
    scene.cluster.kubelet.start().await?;
    let second = scene.ready_pod("second", claiming(name, false, script)).await?;
    ensure!(scene.first_line("second", "main").await? == "kept", "both have the same disk");
    let after = scene.until("first", "ready", SOON, is_ready).await?;
    ensure!(identity(&before) == identity(&after), "the pod was restarted");
    for place in [&global, &place(&before, name), &place(&second, name)] {
        ensure!(mounted(place)?.len() == 1, "{} is mounted {:?}", place.display(), mounted(place)?);
    }
    // One goes while no kubelet looks.
    scene.cluster.kubelet.stop().await?;
    let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    scene.api::<Pod>().delete("first", &now).await.context("delete the pod")?;
    scene.cluster.kubelet.start().await?;
    until_unmounted(&place(&before, name)).await?;
    ensure!(mounted(&global)?.len() == 1, "the other pod has it");
    scene.delete("second").await?;
    scene.gone("second").await?;
    until_unmounted(&global).await?;
    remove(&scene, name).await
}

/// Waits until a mount point is gone; there is nothing to watch for what a kubelet does after a pod.
async fn until_unmounted(place: &Path) -> Result<()> {
    let gone = async {
        while place.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let gone = tokio::time::timeout(SOON, gone).await;
    gone.with_context(|| format!("{} is there after {SOON:?}", place.display()))
}

/// A server whose exports are folders, by a program that mount(8) calls for the file system `nfs`: it binds them.
struct Server {
    folder: PathBuf,
}

impl Server {
    /// Puts the program where mount(8) looks, for this node alone.
    async fn new(scene: &Scene) -> Result<Self> {
        let folder = folder(scene, "nfs")?;
        let own = Self { folder: folder.clone() };
        std::fs::create_dir(own.folder.join("export"))?;
        let script = format!(
            "#!/bin/sh\nD={}\necho \"$1 $4\" >> $D/calls\nwhile [ -e $D/dead ]; do sleep 0.1; done\n\
             mount --bind $D/export \"$2\" || exit 32\n\
             case \",$4,\" in *,ro,*) mount -o remount,bind,ro \"$2\";; esac\n",
            folder.display()
        );
        // The programs of the machine stay as they are.
        let layers = folder.join("layers");
        std::fs::create_dir(&layers)?;
        run(&["mount", "-t", "tmpfs", "tmpfs", &layers.display().to_string()]).await?;
        let (upper, work) = (layers.join("upper"), layers.join("work"));
        std::fs::create_dir(&upper)?;
        std::fs::create_dir(&work)?;
        let helper = upper.join("mount.nfs");
        std::fs::write(&helper, script)?;
        std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755))?;
        let options = format!("lowerdir={SBIN},upperdir={},workdir={}", upper.display(), work.display());
        run(&["mount", "-t", "overlay", "-o", &options, "overlay", SBIN]).await?;
        Ok(own)
    }

    fn calls(&self) -> Result<String> {
        std::fs::read_to_string(self.folder.join("calls")).context("read what was called")
    }

    async fn end(self) -> Result<()> {
        run(&["umount", "--lazy", SBIN]).await?;
        run(&["umount", "--lazy", &self.folder.join("layers").display().to_string()]).await
    }
}

/// Where mount(8) looks for programs that mount.
const SBIN: &str = "/usr/sbin";

async fn run(command: &[&str]) -> Result<()> {
    let [program, arguments @ ..] = command else { return Ok(()) };
    let done = Command::new(program).args(arguments).output().await?;
    ensure!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

/// What a server exports is mounted by mount(8), with upstream's options, for each pod, and a server that does not answer holds up
/// nobody else.
pub(super) async fn that_servers_export(scene: Scene) -> Result<()> {
    let server = Server::new(&scene).await?;
    std::fs::write(server.folder.join("export/file"), "exported\n")?;
    let nfs = json!({ "server": "fd00::7", "path": "/export", "readOnly": true });
    let script = "cat /v/file; touch /v/new 2>/dev/null || echo refused";
    let mut spec = claiming("", false, script);
    spec["volumes"] = json!([{ "name": "v", "nfs": nfs }]);
    spec["restartPolicy"] = json!("Never");
    let (pod, log) = scene.finished_pod("inline", spec).await?;
    ensure!(log == "exported\nrefused\n", "{log:?}");
    ensure!(server.calls()? == "[fd00::7]:/export ro\n", "{}", server.calls()?);
    scene.delete("inline").await?;
    scene.gone("inline").await?;
    let uid = pod.metadata.uid.unwrap_or_default();
    let place = PathBuf::from(format!("{KUBELET_ROOT}/pods/{uid}/volumes/kubernetes.io~nfs/v"));
    // The object of a pod that has ended goes at once.
    until_unmounted(&place).await?;

    std::fs::write(server.folder.join("dead"), "")?;
    let nfs = json!({ "nfs": { "server": "nfs.example", "path": "/export" }, "mountOptions": ["vers=4.2", "hard"] });
    claimed(&scene, "exported", json!({}), nfs).await?;
    let script = "cat /v/file; exec sleep 100000";
    scene.pod("claims", claiming("exported", false, script)).await?;
    until_waits(&scene, Some("claims"), "to be mounted for the pod by plugin kubernetes.io/nfs", "").await?;
    scene.ready_pod("other", json!({ "containers": [shell("main", "exec sleep 100000")] })).await?;
    scene.delete("other").await?;
    scene.gone("other").await?;
    std::fs::remove_file(server.folder.join("dead"))?;
    scene.until("claims", "ready", SOON, is_ready).await?;
    ensure!(server.calls()?.ends_with("nfs.example:/export rw,hard,vers=4.2\n"), "{}", server.calls()?);
    scene.delete("claims").await?;
    scene.gone("claims").await?;
    remove(&scene, "exported").await?;
    server.end().await
}
