//! Whole calls to the driver of tests, on real files and mounts, in a mount namespace of the test's own.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use fake_csi::{Capability, Driver, Options, Server};
use k8s_openapi::api::core::v1::Secret;
use model::storage::{
    CsiCapabilities, CsiDriverObject, CsiTokenRequest, FsGroupPolicy, MounterName, PublishedVolume,
    VolumeSpec,
};
use model::{Pod, PodUid};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use super::*;
use crate::tests::{Shared, container, mount_inputs, pod};
use crate::{MountInputs, VolumeSettings, Volumes, found_volumes};
use plugins::csi::Certainty;

struct World {
    dir: tempfile::TempDir,
    api: Shared,
    csi: CsiVolumes<Shared>,
    volumes: Volumes<Shared>,
    driver: CsiDriver,
    control: PathBuf,
}

fn run<F: Future<Output = ()>>(test: impl FnOnce(World) -> F + Send + 'static) {
    host::testing::in_mount_namespace(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap().block_on(async move { test(World::new()).await });
    });
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let options = Options {
            registration: path("reg.sock"),
            socket: path("csi.sock"),
            control: path("control.sock"),
            volumes: path("data"),
            driver: Driver {
                kind: "CSIPlugin".to_owned(),
                name: "d.example".to_owned(),
                versions: Vec::new(),
                node_id: "n".to_owned(),
                max_volumes: 0,
                topology: BTreeMap::new(),
                capabilities: vec![Capability::Stage, Capability::Expand],
                has_controller: false,
            },
            hung: Vec::new(),
        };
        tokio::spawn(Server::bind(options.clone()).unwrap().serve());
        let (api, metrics) = (Shared::default(), Arc::<Metrics>::default());
        let root = path("root");
        fs::create_dir(&root).unwrap();
        let driver = CsiDriver {
            name: "d.example".to_owned(),
            endpoint: options.socket.to_str().unwrap().to_owned(),
            capabilities: CsiCapabilities { stages: true, ..CsiCapabilities::default() },
            object: CsiDriverObject::default(),
        };
        Self {
            csi: CsiVolumes::new(&root, api.clone(), "n".to_owned(), metrics.clone()),
            volumes: Volumes::new(&root, api.clone(), metrics, VolumeSettings::default()),
            control: options.control,
            dir,
            api,
            driver,
        }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn staged(&self) -> PathBuf {
        let folder = golang::hex::encode(&<sha2::Sha256 as sha2::Digest>::digest("h"));
        self.root().join("plugins/kubernetes.io/csi/d.example").join(folder)
    }

    fn published(&self, uid: &str) -> PathBuf {
        self.root().join("pods").join(uid).join("volumes/kubernetes.io~csi/pv-1")
    }

    async fn command(&self, line: &str) -> String {
        let mut stream = UnixStream::connect(&self.control).await.unwrap();
        stream.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).await.unwrap();
        answer.trim_end().strip_prefix("ok").unwrap_or(&answer).trim().to_owned()
    }

    async fn last(&self, call: &str) -> Value {
        serde_json::from_str(&self.command(&format!("last {call}")).await).unwrap()
    }

    async fn stage(&self, volume: &VolumeSpec) -> Result<(), CsiError> {
        self.csi.stage(volume.as_csi().unwrap(), &self.driver, &BTreeMap::new(), None).await
    }

    async fn publish(&self, pod: &Pod, volume: &VolumeSpec) -> Result<(), CsiError> {
        self.publish_as(pod, volume, false, false).await
    }

    async fn publish_as(
        &self,
        pod: &Pod,
        volume: &VolumeSpec,
        is_read_only: bool,
        is_again: bool,
    ) -> Result<(), CsiError> {
        let publish_context = BTreeMap::from([("device".to_owned(), "sda".to_owned())]);
        let publication = Publication {
            pod,
            volume: volume.as_csi().unwrap(),
            driver: &self.driver,
            publish_context: &publish_context,
            is_read_only,
            is_again,
        };
        self.csi.publish(&publication).await
    }

    async fn expand(&self, volume: &VolumeSpec, size: u64) -> Result<(), ExpandError> {
        self.csi.expand(volume.as_csi().unwrap(), &self.driver, &PodUid::from("u1"), size).await
    }

    async fn unpublish(&self) -> Result<(), CsiError> {
        self.csi.unpublish(&PodUid::from("u1"), "pv-1", "h", &self.driver).await
    }

    async fn unstage(&self) -> Result<(), CsiError> {
        self.csi.unstage("h", &self.driver).await
    }

    fn set_secret(&self, name: &str, key: &str, value: &[u8]) {
        let data = BTreeMap::from([(key.to_owned(), k8s_openapi::ByteString(value.to_vec()))]);
        let secret = Secret { data: Some(data), ..Secret::default() };
        self.api.set_secret(name, secret);
    }
}

fn persistent(more: Value) -> VolumeSpec {
    let mut source = json!({ "driver": "d.example", "volumeHandle": "h", "fsType": "ext4" });
    source.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let spec = json!({ "accessModes": ["ReadWriteOnce"], "mountOptions": ["noatime"], "csi": source });
    let object = json!({ "metadata": { "name": "pv-1" }, "spec": spec });
    VolumeSpec::of_persistent(&serde_json::from_value(object).unwrap()).unwrap()
}

fn claiming(extra: Value) -> model::AllocatedPod {
    pod(json!([{ "name": "v", "persistentVolumeClaim": { "claimName": "c" } }]), extra)
}

fn entries(path: &Path) -> Vec<String> {
    let Ok(names) = fs::read_dir(path) else { return Vec::new() };
    let mut names: Vec<_> = names.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_volume_comes_and_goes_and_nothing_is_left() {
    run(|world| async move {
        let (pod, volume) = (claiming(json!({})), persistent(json!({ "volumeAttributes": { "a": "b" } })));
        world.stage(&volume).await.unwrap();
        assert_eq!(entries(&world.staged()), ["globalmount", "vol_data.json"]);
        world.publish(&pod, &volume).await.unwrap();
        assert_eq!(entries(&world.published("u1")), ["mount", "vol_data.json"]);
        assert_eq!(fs::metadata(world.published("u1")).unwrap().mode() & 0o7777, 0o750);
        fs::write(world.published("u1").join("mount/file"), "kept").unwrap();
        let asked = world.last("NodePublishVolume").await;
        assert_eq!(asked["publishContext"]["device"], "sda");
        assert_eq!(asked["attributes"], json!({ "a": "b" }));
        assert_eq!(asked["use"]["flags"], json!(["noatime"]));
        assert_eq!(asked["from"], world.staged().join("globalmount").to_str().unwrap());

        let found = found_volumes(&world.root()).unwrap();
        let [published] = &found.published[..] else { panic!("{found:?}") };
        assert_eq!((published.uid.as_str(), published.folder.as_str()), ("u1", "pv-1"));
        assert_eq!((published.handle.as_str(), published.is_mounted), ("h", true));
        let [staged] = &found.staged[..] else { panic!("{found:?}") };
        assert_eq!((&staged.mounter, staged.is_mounted), (&MounterName::Csi("d.example".into()), true));

        for _ in 0..2 {
            world.unpublish().await.unwrap();
            world.unstage().await.unwrap();
        }
        assert_eq!(world.command("count NodeUnpublishVolume").await, "1", "what is gone is not asked for");
        assert_eq!(world.command("count NodeUnstageVolume").await, "1");
        assert!(!world.published("u1").exists() && !world.staged().exists());
        assert_eq!(found_volumes(&world.root()).unwrap(), Default::default());
        assert_eq!(world.command("wrong").await, "");
        world.volumes.tear_down(&PodUid::from("u1")).await.unwrap();
        assert_eq!(fs::read_to_string(world.dir.path().join("data/volumes/h/file")).unwrap(), "kept");
    });
}

#[test]
fn what_was_not_done_leaves_nothing_and_what_may_have_been_stays_on_record() {
    run(|world| async move {
        let (pod, volume) = (claiming(json!({})), persistent(json!({})));
        world.command("fail NodeStageVolume Internal").await;
        let error = world.stage(&volume).await.unwrap_err();
        assert_eq!(error.certainty(), Some(Certainty::Final));
        assert_eq!(error.to_string(), "rpc error: code = Internal desc = told to fail");
        assert!(!world.staged().exists());
        world.command("fail NodeStageVolume Unavailable").await;
        let error = world.stage(&volume).await.unwrap_err();
        assert_eq!(error.certainty(), Some(Certainty::Uncertain));
        assert_eq!(entries(&world.staged()), ["globalmount", "vol_data.json"]);
        world.command("fail-after NodeStageVolume DeadlineExceeded").await;
        let error = world.stage(&volume).await.unwrap_err();
        assert_eq!(error.certainty(), Some(Certainty::Uncertain));
        assert!(found_volumes(&world.root()).unwrap().staged[0].is_mounted);
        world.command("fail NodeStageVolume Internal").await;
        world.stage(&volume).await.unwrap_err();
        assert!(
            found_volumes(&world.root()).unwrap().staged[0].is_mounted,
            "the mount of an earlier call stays on record"
        );
        world.command("release NodeStageVolume").await;
        world.stage(&volume).await.unwrap();

        world.command("fail NodePublishVolume Unavailable").await;
        let error = world.publish(&pod, &volume).await.unwrap_err();
        assert_eq!(error.certainty(), Some(Certainty::Uncertain));
        assert_eq!(entries(&world.published("u1")), ["vol_data.json"]);
        let refused = world.volumes.tear_down(&PodUid::from("u1")).await.unwrap_err();
        assert!(refused.to_string().contains("is still published"), "{refused}");
        world.command("fail NodePublishVolume Internal").await;
        world.publish_as(&pod, &volume, false, true).await.unwrap_err();
        assert_eq!(entries(&world.published("u1")), ["vol_data.json"], "it may be what was there before");
        world.publish(&pod, &volume).await.unwrap_err();
        assert!(!world.published("u1").exists());
        world.command("release NodePublishVolume").await;
        world.publish(&pod, &volume).await.unwrap();
        world.command("fail NodePublishVolume Internal").await;
        world.publish_as(&pod, &volume, false, true).await.unwrap_err();
        assert_eq!(entries(&world.published("u1")), ["mount", "vol_data.json"], "it was there before");

        world.command("fail NodeUnpublishVolume Aborted").await;
        let error = world.unpublish().await.unwrap_err();
        assert_eq!(error.certainty(), Some(Certainty::Busy));
        let text =
            "kubernetes.io/csi: Unmounter.TearDownAt failed: rpc error: code = Aborted desc = told to fail";
        assert_eq!(error.to_string(), text);
        let refused = world.volumes.tear_down(&PodUid::from("u1")).await.unwrap_err();
        assert!(refused.to_string().contains("still a mount point"), "{refused}");
        world.command("lie NodeUnpublishVolume").await;
        let error = world.unpublish().await.unwrap_err().to_string();
        assert!(error.contains("is still mounted although"), "{error}");
        assert_eq!(entries(&world.published("u1")), ["mount", "vol_data.json"]);
        world.command("release NodeUnpublishVolume").await;
        world.unpublish().await.unwrap();
        world.command("fail NodeUnstageVolume Internal").await;
        let error = world.unstage().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "kubernetes.io/csi: attacher.UnmountDevice failed: rpc error: code = Internal desc = told to fail"
        );
        world.command("release NodeUnstageVolume").await;
        world.unstage().await.unwrap();
        assert_eq!(world.command("wrong").await, "");
    });
}

/// After any call, and after what a process that was killed has left.
#[test]
fn a_process_that_was_killed_is_cleaned_up_after() {
    run(|world| async move {
        let (pod, volume) = (claiming(json!({})), persistent(json!({})));
        // Before the driver was called.
        let data = VolumeData::published(volume.as_csi().unwrap(), "n");
        let place = Place::published(&world.root(), &PodUid::from("u1"), "pv-1").unwrap();
        crate::layout::PodLayout::new(&world.root(), &PodUid::from("u1")).unwrap().make().unwrap();
        place.make(&data).unwrap();
        fs::write(world.published("u1").join(".vol_data.json.tmp"), "half").unwrap();
        world.unpublish().await.unwrap();
        assert!(!world.published("u1").exists());
        // After the file went.
        fs::create_dir_all(world.published("u1").join("mount")).unwrap();
        world.unpublish().await.unwrap();
        assert!(!world.published("u1").exists());
        // Files that are in nobody's mount are nobody's to delete.
        fs::create_dir_all(world.published("u1").join("mount")).unwrap();
        fs::write(world.published("u1").join("mount/precious"), "").unwrap();
        world.unpublish().await.unwrap_err();
        assert!(world.published("u1").join("mount/precious").exists());
        fs::remove_file(world.published("u1").join("mount/precious")).unwrap();
        // A folder that tells nothing is found by nobody, and goes with its pod.
        fs::write(world.published("u1").join("vol_data.json"), "").unwrap();
        assert_eq!(found_volumes(&world.root()).unwrap(), Default::default());
        world.volumes.tear_down(&PodUid::from("u1")).await.unwrap();
        assert!(!world.published("u1").exists());
        // What another process has mounted is taken over.
        world.stage(&volume).await.unwrap();
        world.publish(&pod, &volume).await.unwrap();
        world.stage(&volume).await.unwrap();
        world.publish(&pod, &volume).await.unwrap();
        world.unpublish().await.unwrap();
        world.unstage().await.unwrap();
        assert_eq!(world.command("wrong").await, "");
    });
}

#[test]
fn an_inline_volume_is_published_without_being_staged() {
    run(|mut world| async move {
        world.set_secret("s", "key", b"marker-publish");
        *world.api.token_seconds() = Some(3600);
        world.driver.object = CsiDriverObject {
            is_there: true,
            is_ephemeral: true,
            tells_pod_info: true,
            token_requests: vec![
                CsiTokenRequest { audience: String::new(), expiration_seconds: None },
                CsiTokenRequest { audience: "vault".to_owned(), expiration_seconds: Some(600) },
            ],
            ..CsiDriverObject::default()
        };
        let source = json!({
            "driver": "d.example", "volumeAttributes": { "a": "b" }, "nodePublishSecretRef": { "name": "s" },
        });
        let extra = json!({ "serviceAccountName": "robot" });
        let pod = pod(json!([{ "name": "v", "csi": source }]), extra);
        let volume = &pod.spec.as_ref().unwrap().volumes.as_ref().unwrap()[0];
        let (volume, _) = VolumeSpec::of_inline(&pod, volume).unwrap();
        world.publish(&pod, &volume).await.unwrap();
        let asked = world.last("NodePublishVolume").await;
        assert_eq!((&asked["from"], &asked["secrets"]["key"]), (&json!(""), &json!("marker-publish")));
        let attributes = &asked["attributes"];
        for (name, value) in [
            ("pod.name", json!("p")),
            ("pod.namespace", json!("ns")),
            ("pod.uid", json!("u1")),
            ("serviceAccount.name", json!("robot")),
            ("ephemeral", json!("true")),
            ("serviceAccount.tokens", json!(["", "vault"])),
        ] {
            assert_eq!(attributes[format!("csi.storage.k8s.io/{name}")], value, "{name}");
        }
        assert_eq!(attributes["a"], "b");
        let found = found_volumes(&world.root()).unwrap();
        assert!(found.staged.is_empty() && found.published[0].is_ephemeral);
        world.driver.object.has_tokens_in_secrets = true;
        world.publish_as(&pod, &volume, false, true).await.unwrap();
        let asked = world.last("NodePublishVolume").await;
        assert_eq!(asked["secrets"]["csi.storage.k8s.io/serviceAccount.tokens"], "hidden");
        assert!(asked["attributes"]["csi.storage.k8s.io/serviceAccount.tokens"].is_null());
        let handle = volume.handle().to_owned();
        world.csi.unpublish(&PodUid::from("u1"), "v", &handle, &world.driver).await.unwrap();
        assert!(!world.root().join("pods/u1/volumes/kubernetes.io~csi/v").exists());
    });
}

#[test]
fn without_its_secret_the_driver_is_not_called_and_errors_hide_what_is_in_it() {
    run(|world| async move {
        let secret = |name: &str| json!({ "name": name, "namespace": "ns" });
        let pod = claiming(json!({}));
        let volume =
            persistent(json!({ "nodeStageSecretRef": secret("s"), "nodePublishSecretRef": secret("p") }));
        let error = world.stage(&volume).await.unwrap_err();
        assert_eq!(error.certainty(), None);
        assert_eq!(
            error.to_string(),
            "fetching NodeStageSecretRef ns/s failed: kubernetes.io/csi: failed to find the secret s in the namespace ns \
             with error: secret \"s\" not found"
        );
        world.set_secret("s", "key", b"hunter2\xff");
        let error = world.stage(&volume).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        assert!(!world.staged().exists());
        world.set_secret("s", "key", b"marker-stage");
        world.stage(&volume).await.unwrap();
        assert_eq!(world.last("NodeStageVolume").await["secrets"]["key"], "marker-stage");
        assert_eq!(world.publish(&pod, &volume).await.unwrap_err().certainty(), None);
        assert_eq!(world.command("count NodePublishVolume").await, "0");
        assert!(!world.published("u1").exists());
        world.unstage().await.unwrap();
    });
}

#[test]
fn the_group_of_the_pod_gets_the_files() {
    run(|mut world| async move {
        let (pod, volume) =
            (claiming(json!({ "securityContext": { "fsGroup": 4321 } })), persistent(json!({})));
        world.stage(&volume).await.unwrap();
        fs::write(world.staged().join("globalmount/file"), "").unwrap();
        world.publish(&pod, &volume).await.unwrap();
        let owner = |path: &str| {
            let found = fs::metadata(world.published("u1").join("mount").join(path)).unwrap();
            (found.gid(), found.mode() & 0o7777)
        };
        assert_eq!((owner("").0, owner("").1 & 0o2770), (4321, 0o2770));
        assert_eq!((owner("file").0, owner("file").1 & 0o660), (4321, 0o660));
        assert_eq!(world.last("NodePublishVolume").await["use"]["group"], "");
        world.unpublish().await.unwrap();
        // A policy of none, and a volume that is only read.
        for is_read_only in [false, true] {
            fs::write(world.staged().join("globalmount/other"), "").unwrap();
            if !is_read_only {
                world.driver.object.fs_group_policy = FsGroupPolicy::None;
            }
            world.publish_as(&pod, &volume, is_read_only, false).await.unwrap();
            let found = fs::metadata(world.published("u1").join("mount/other")).unwrap();
            // The folder hands its group on.
            assert_eq!(found.mode() & 0o7777, 0o644, "nothing was changed");
            world.unpublish().await.unwrap();
            world.driver.object.fs_group_policy = FsGroupPolicy::File;
        }
        world.unstage().await.unwrap();
        assert_eq!(world.command("wrong").await, "");
    });
}

#[test]
fn containers_mount_it_or_parts_of_it() {
    run(|world| async move {
        let (pod, volume) = (claiming(json!({})), persistent(json!({})));
        world.stage(&volume).await.unwrap();
        world.publish(&pod, &volume).await.unwrap();
        let mounts = json!([
            { "name": "v", "mountPath": "/all" },
            { "name": "v", "mountPath": "/part", "subPath": "a/b" },
        ]);
        let environment = BTreeMap::new();
        let published = |is_read_only| {
            let volume = PublishedVolume::of(&persistent(json!({})), is_read_only);
            BTreeMap::from([("v".to_owned(), volume)])
        };
        let none = mount_inputs(&environment, true);
        let container = container(mounts);
        let missing = world.volumes.mounts(&pod, &container, &none).await.unwrap_err();
        assert!(missing.to_string().contains("cannot find volume \"v\""), "{missing}");
        let known = published(false);
        let inputs = MountInputs { published: &known, ..none };
        let made = world.volumes.mounts(&pod, &container, &inputs).await.unwrap();
        let root = fs::canonicalize(world.root()).unwrap();
        assert_eq!(made[0].host_path, root.join("pods/u1/volumes/kubernetes.io~csi/pv-1/mount"));
        assert_eq!(made[1].host_path, root.join("pods/u1/volume-subpaths/pv-1/c/1"));
        assert!(!made[0].is_read_only && made[0].is_relabelled);
        fs::write(made[1].host_path.join("file"), "x").unwrap();
        assert!(world.staged().join("globalmount/a/b/file").exists());
        let known = published(true);
        let inputs = MountInputs { published: &known, ..none };
        let made = world.volumes.mounts(&pod, &container, &inputs).await.unwrap();
        assert!(made[0].is_read_only && !made[0].is_relabelled);
        world.unpublish().await.unwrap();
        assert!(!root.join("pods/u1/volume-subpaths/pv-1").exists(), "its parts go first");
        world.unstage().await.unwrap();
        assert!(host::mount::mounts_below(&root).unwrap().is_empty());
    });
}

#[test]
fn a_driver_that_stages_nothing_is_not_asked_to() {
    run(|mut world| async move {
        world.driver.capabilities.stages = false;
        let volume = persistent(json!({}));
        world.stage(&volume).await.unwrap();
        assert_eq!(found_volumes(&world.root()).unwrap().staged.len(), 1);
        world.unstage().await.unwrap();
        assert!(!world.staged().exists());
        assert_eq!(world.command("calls").await, "");
    });
}

#[test]
fn a_published_volume_is_expanded_and_what_the_driver_says_of_it_is_told_apart() {
    run(|mut world| async move {
        world.set_secret("expand", "key", b"marker-expand");
        let secret = json!({ "namespace": "ns", "name": "expand" });
        let volume = persistent(json!({ "nodeExpandSecretRef": secret }));
        world.stage(&volume).await.unwrap();
        world.publish(&claiming(json!({})), &volume).await.unwrap();
        let unsupported = world.expand(&volume, 2048).await.unwrap_err();
        assert_eq!(unsupported.to_string(), "NodeExpand is not supported by the CSI driver d.example");
        assert_eq!(world.command("count NodeExpandVolume").await, "0");
        world.driver.capabilities.expands = true;
        world.expand(&volume, 2048).await.unwrap();
        let asked = world.last("NodeExpandVolume").await;
        assert_eq!((&asked["size"], &asked["secrets"]["key"]), (&json!(2048), &json!("marker-expand")));
        assert_eq!(asked["path"], world.published("u1").join("mount").to_str().unwrap());
        assert_eq!(asked["from"], world.staged().join("globalmount").to_str().unwrap());
        for (code, is_it) in [
            (
                "FailedPrecondition",
                (|error| matches!(error, ExpandError::InUse(_))) as fn(&ExpandError) -> bool,
            ),
            ("OutOfRange", |error| matches!(error, ExpandError::Infeasible(_))),
            ("Internal", |error| matches!(error, ExpandError::Call(_))),
        ] {
            world.command(&format!("fail NodeExpandVolume {code}")).await;
            let error = world.expand(&volume, 4096).await.unwrap_err();
            assert!(is_it(&error), "{error:?}");
        }
        assert_eq!(world.command("wrong").await, "");
    });
}
