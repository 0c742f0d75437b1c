//! Whole calls on real files and mounts, in a mount namespace of the test's own.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use host::mount;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Container, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use model::downward::PodFacts;
use model::mount::MountPropagation;
use model::storage::PublishedVolume;
use model::{AllocatedPod, ImageRef, Pod, PodUid, Quantity};
use serde_json::{Value, json};
use telemetry::metrics::{Endpoint, Exposition, Metrics};

use super::*;

static NOT_PUBLISHED: BTreeMap<String, PublishedVolume> = BTreeMap::new();
static NO_IMAGES: BTreeMap<String, ImageRef> = BTreeMap::new();

pub(crate) fn mount_inputs(
    environment: &BTreeMap<String, String>,
    has_recursive_read_only_mounts: bool,
) -> MountInputs<'_> {
    MountInputs { environment, images: &NO_IMAGES, published: &NOT_PUBLISHED, has_recursive_read_only_mounts }
}

/// An API with whatever a test puts there.
#[derive(Debug, Default)]
pub(crate) struct Api {
    maps: Mutex<BTreeMap<String, Arc<ConfigMap>>>,
    secrets: Mutex<BTreeMap<String, Arc<Secret>>>,
    token_seconds: Mutex<Option<i64>>,
    tokens_issued: Mutex<u32>,
    /// By name, and of those of signer `s/t` also by the only label.
    bundles: Mutex<BTreeMap<String, String>>,
    /// What there is for the pods' certificate sources, by volume and place.
    certificates: Mutex<BTreeMap<(String, usize), String>>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Shared(Arc<Api>);

impl Shared {
    pub(crate) fn set_secret(&self, name: &str, secret: Secret) {
        self.0.secrets.lock().unwrap().insert(name.to_owned(), Arc::new(secret));
    }

    /// How long tokens hold; `None`: there are none.
    pub(crate) fn token_seconds(&self) -> std::sync::MutexGuard<'_, Option<i64>> {
        self.0.token_seconds.lock().unwrap()
    }
}

impl Objects for Shared {
    fn config_map(
        &self,
        _: &str,
        name: &str,
    ) -> impl Future<Output = Result<Arc<ConfigMap>, ObjectError>> + Send {
        let found = self.0.maps.lock().unwrap().get(name).cloned();
        let error = ObjectError::NotFound { kind: "configmap", name: name.to_owned() };
        std::future::ready(found.ok_or(error))
    }

    fn secret(&self, _: &str, name: &str) -> impl Future<Output = Result<Arc<Secret>, ObjectError>> + Send {
        let found = self.0.secrets.lock().unwrap().get(name).cloned();
        let error = ObjectError::NotFound { kind: "secret", name: name.to_owned() };
        std::future::ready(found.ok_or(error))
    }

    fn service_account_token(
        &self,
        spec: &TokenSpec,
    ) -> impl Future<Output = Result<Token, ObjectError>> + Send {
        let seconds = *self.0.token_seconds.lock().unwrap();
        let mut issued = self.0.tokens_issued.lock().unwrap();
        *issued += u32::from(seconds.is_some());
        let token = format!("token {issued} for {}", spec.audience.as_deref().unwrap_or("api"));
        let unavailable = ObjectError::Unavailable("no route to host".to_owned());
        std::future::ready(seconds.ok_or(unavailable).map(|seconds| Token {
            token,
            expires_at: Timestamp::now() + SignedDuration::from_secs(seconds),
        }))
    }

    fn trust_bundle(&self, name: &str) -> impl Future<Output = Result<String, TrustBundleError>> + Send {
        let found = self.0.bundles.lock().unwrap().get(name).cloned();
        std::future::ready(found.ok_or_else(|| TrustBundleError::Absent(format!("no bundle {name}"))))
    }

    fn trust_bundles_of(
        &self,
        signer: &str,
        selector: Option<&LabelSelector>,
    ) -> impl Future<Output = Result<String, TrustBundleError>> + Send {
        let labels = selector.and_then(|selector| selector.match_labels.clone()).unwrap_or_default();
        let name = format!("{signer}:{}", labels.into_values().collect::<String>());
        let found = self.0.bundles.lock().unwrap().get(&name).cloned();
        std::future::ready(match signer {
            "away" => Err(TrustBundleError::Unavailable("not yet".to_owned())),
            _ => found.ok_or_else(|| TrustBundleError::Absent(format!("no bundle of {signer}"))),
        })
    }

    fn pod_certificate(&self, source: &CertificateSource<'_>) -> Result<PodCredential, PodCertificateError> {
        let CertificateSource { volume, index, projection, .. } = *source;
        let found = self.0.certificates.lock().unwrap().get(&(volume.to_owned(), index)).cloned();
        let name = found.ok_or_else(|| PodCertificateError("not issued yet".to_owned()))?;
        let (key, chain) = (format!("{} {name}\n", projection.key_type), format!("chain of {name}\n"));
        Ok(PodCredential { key, chain })
    }

    fn forget_pod_certificates(&self, _: &PodUid) {
        self.0.certificates.lock().unwrap().clear();
    }
}

const ALL: VolumeSettings = VolumeSettings { honours_file_users: true, honours_folder_modes: true };

struct World {
    dir: tempfile::TempDir,
    api: Shared,
    volumes: Volumes<Shared>,
    metrics: Arc<Metrics>,
    facts: PodFacts,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let api = Shared::default();
        let metrics = Arc::default();
        let volumes = Volumes::new(dir.path(), api.clone(), Arc::clone(&metrics), ALL);
        let allocatable = BTreeMap::from([("memory".to_owned(), Quantity::from_units(512 << 20))]);
        Self { dir, api, volumes, metrics, facts: PodFacts { allocatable, ..PodFacts::default() } }
    }

    fn set_map(&self, name: &str, data: serde_json::Value) {
        let map = serde_json::from_value(json!({ "metadata": { "name": name }, "data": data })).unwrap();
        self.api.0.maps.lock().unwrap().insert(name.to_owned(), Arc::new(map));
    }

    fn set_secret(&self, name: &str, key: &str, value: &str) {
        let data = BTreeMap::from([(key.to_owned(), k8s_openapi::ByteString(value.as_bytes().to_vec()))]);
        let secret = Secret { data: Some(data), ..Secret::default() };
        self.api.0.secrets.lock().unwrap().insert(name.to_owned(), Arc::new(secret));
    }

    async fn sync(&self, pod: &AllocatedPod) -> Synced {
        self.volumes.sync(pod, &self.facts).await.unwrap()
    }

    async fn sync_error(&self, pod: &AllocatedPod) -> String {
        self.volumes.sync(pod, &self.facts).await.unwrap_err().to_string()
    }

    fn pod_dir(&self) -> PathBuf {
        self.dir.path().join("pods/u1")
    }

    fn volume(&self, plugin: &str, name: &str) -> PathBuf {
        self.pod_dir().join(format!("volumes/kubernetes.io~{plugin}/{name}"))
    }
}

/// A pod whose container has all the volumes.
pub(crate) fn pod(volumes: serde_json::Value, extra: serde_json::Value) -> AllocatedPod {
    let names = volumes.as_array().into_iter().flatten().map(|volume| volume["name"].as_str().unwrap());
    let mounts: Vec<_> =
        names.map(|name| json!({ "name": name, "mountPath": format!("/of/{name}") })).collect();
    let mut pod = json!({
        "metadata": { "name": "p", "namespace": "ns", "uid": "u1", "labels": { "app": "x" } },
        "spec": { "containers": [{ "name": "c", "volumeMounts": mounts }], "volumes": volumes },
    });
    for (key, value) in extra.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    serde_json::from_value(pod).unwrap()
}

pub(crate) fn container(mounts: serde_json::Value) -> Container {
    serde_json::from_value(json!({ "name": "c", "volumeMounts": mounts })).unwrap()
}

/// Runs a test in a mount namespace, on a runtime whose threads are in it too.
fn run<F: Future<Output = ()>>(test: impl FnOnce(World) -> F + Send + 'static) {
    host::testing::in_mount_namespace(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move { test(World::new()).await });
    });
}

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn every_kind_is_made_kept_and_taken_down() {
    run(|world| async move {
        world.set_map("cm", json!({ "k": "v", "l": "w" }));
        world.set_secret("s", "password", "hunter2");
        *world.api.0.token_seconds.lock().unwrap() = Some(3600);
        let pod = pod(
            json!([
                { "name": "disk", "emptyDir": {} },
                { "name": "mem", "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } },
                { "name": "none" },
                { "name": "host", "hostPath": { "path": "/tmp", "type": "Directory" } },
                { "name": "map", "configMap": { "name": "cm", "items": [{ "key": "k", "path": "a/b", "mode": 256 }] } },
                { "name": "secret", "secret": { "secretName": "s", "defaultMode": 256 } },
                { "name": "down", "downwardAPI": { "items": [
                    { "path": "labels", "fieldRef": { "fieldPath": "metadata.labels" } }] } },
                { "name": "all", "projected": { "sources": [
                    { "serviceAccountToken": { "path": "token" } },
                    { "configMap": { "name": "cm" } },
                    { "secret": { "name": "s" } }] } },
            ]),
            json!({}),
        );
        let synced = world.sync(&pod).await;
        let after = synced.refresh_after.unwrap();
        assert!(after > Duration::from_secs(2800) && after <= Duration::from_secs(2880), "{after:?}");

        let read = |plugin, name, file| fs::read_to_string(world.volume(plugin, name).join(file)).unwrap();
        assert_eq!(read("configmap", "map", "a/b"), "v");
        assert_eq!(mode(world.volume("configmap", "map").join("a/b")), 0o400);
        assert!(!world.volume("configmap", "map").join("l").exists());
        assert_eq!(read("secret", "secret", "password"), "hunter2");
        assert_eq!(mode(world.volume("secret", "secret").join("password")), 0o400);
        assert_eq!(read("downward-api", "down", "labels"), "app=\"x\"");
        assert_eq!(read("projected", "all", "token"), "token 1 for api");
        assert_eq!(mode(world.volume("projected", "all").join("token")), 0o644);
        assert_eq!(
            (read("projected", "all", "l"), read("projected", "all", "password")),
            ("w".into(), "hunter2".into())
        );
        for (name, wanted) in [("disk", 0o777), ("mem", 0o1777), ("none", 0o777)] {
            assert_eq!(mode(world.volume("empty-dir", name)), wanted, "{name}");
        }
        for (path, wanted) in [("", 0o750), ("volumes", 0o750), ("volumes/kubernetes.io~empty-dir", 0o755)] {
            assert_eq!(mode(world.pod_dir().join(path)), wanted, "{path}");
        }
        for marker in ["disk", "mem", "none", "wrapped_map", "wrapped_secret", "wrapped_down", "wrapped_all"]
        {
            assert!(
                world.pod_dir().join(format!("plugins/kubernetes.io~empty-dir/{marker}/ready")).exists(),
                "{marker}"
            );
        }
        let mounts = mount::mounts_below(&world.pod_dir()).unwrap();
        assert_eq!(mounts.len(), 4);
        let options =
            |name: &str| &mounts.iter().find(|m| m.mount_point.ends_with(name)).unwrap().super_options;
        assert!(options("mem").contains("size=1024k"), "{}", options("mem"));
        assert!(options("secret").contains("size=524288k"), "{}", options("secret"));

        // Again: nothing is made anew, what containers wrote stays.
        fs::write(world.volume("empty-dir", "mem").join("f"), "kept").unwrap();
        world.sync(&pod).await;
        assert_eq!(read("empty-dir", "mem", "f"), "kept");
        assert_eq!(mount::mounts_below(&world.pod_dir()).unwrap().len(), 4);
        assert_eq!(*world.api.0.tokens_issued.lock().unwrap(), 1);

        assert_eq!(world.volumes.pods_on_disk().unwrap(), [PodUid::from("u1")]);
        world.volumes.tear_down(&PodUid::from("u1")).await.unwrap();
        world.volumes.tear_down(&PodUid::from("u1")).await.unwrap();
        assert_eq!(fs::read_dir(world.pod_dir().join("volumes/kubernetes.io~empty-dir")).unwrap().count(), 0);
        world.volumes.remove_folder(&PodUid::from("u1")).await.unwrap();
        world.volumes.remove_folder(&PodUid::from("u1")).await.unwrap();
        assert!(!world.pod_dir().exists());
        assert!(mount::mounts_below(world.dir.path()).unwrap().is_empty());
        assert!(world.volumes.pods_on_disk().unwrap().is_empty());
    });
}

#[test]
fn what_is_done_with_volumes_is_timed_by_kind() {
    run(|world| async move {
        world.set_secret("s", "k", "1");
        let volumes = json!([
            { "name": "disk", "emptyDir": {} },
            { "name": "host", "hostPath": { "path": "/tmp" } },
            { "name": "secret", "secret": { "secretName": "s" } },
            { "name": "map", "configMap": { "name": "missing" } },
            { "name": "claim", "persistentVolumeClaim": { "claimName": "c" } },
        ]);
        let pod = pod(volumes, json!({ "securityContext": { "fsGroup": 1000 } }));
        world.sync_error(&pod).await;
        assert_eq!(
            plugin_names(&pod, &NOT_PUBLISHED),
            [
                "kubernetes.io/empty-dir",
                "kubernetes.io/host-path",
                "kubernetes.io/secret",
                "kubernetes.io/configmap",
                "N/A"
            ]
        );
        world.volumes.tear_down(&PodUid::from("u1")).await.unwrap();
        let mut page = Exposition::new();
        world.metrics.write(Endpoint::Main, &mut page).unwrap();
        let page = page.into_text();
        let counts: Vec<_> = page
            .lines()
            .filter_map(|line| line.strip_prefix("storage_operation_duration_seconds_count"))
            .collect();
        let line = |operation: &str, status: &str, plugin: &str, count: u32| {
            format!(
                "{{migrated=\"false\",operation_name=\"{operation}\",status=\"{status}\",\
                 volume_plugin=\"kubernetes.io/{plugin}\"}} {count}"
            )
        };
        assert_eq!(
            counts,
            [
                line("volume_apply_access_control", "success", "empty-dir", 1),
                // A secret's folder and then its files.
                line("volume_apply_access_control", "success", "secret", 2),
                line("volume_mount", "fail-unknown", "configmap", 1),
                line("volume_mount", "success", "empty-dir", 1),
                line("volume_mount", "success", "host-path", 1),
                line("volume_mount", "success", "secret", 1),
                line("volume_unmount", "success", "empty-dir", 1),
                line("volume_unmount", "success", "secret", 1),
            ]
        );
    });
}

#[test]
fn another_kubelet_instance_adopts_what_is_there() {
    run(|world| async move {
        world.set_secret("s", "k", "1");
        let pod = pod(
            json!([{ "name": "e", "emptyDir": {} }, { "name": "s", "secret": { "secretName": "s" } }]),
            json!({}),
        );
        world.sync(&pod).await;
        fs::write(world.volume("empty-dir", "e").join("data"), "kept").unwrap();
        let second = Volumes::new(world.dir.path(), world.api.clone(), Arc::default(), ALL);
        world.set_secret("s", "k", "2");
        second.sync(&pod, &world.facts).await.unwrap();
        assert_eq!(fs::read_to_string(world.volume("empty-dir", "e").join("data")).unwrap(), "kept");
        assert_eq!(fs::read_to_string(world.volume("secret", "s").join("k")).unwrap(), "2");
        assert_eq!(mount::mounts_below(&world.pod_dir()).unwrap().len(), 1);
        // Damage: the marker without its folder, the folder without its marker.
        fs::remove_dir_all(world.volume("empty-dir", "e")).unwrap();
        fs::remove_dir_all(world.pod_dir().join("plugins")).unwrap();
        second.sync(&pod, &world.facts).await.unwrap();
        assert_eq!(mode(world.volume("empty-dir", "e")), 0o777);
        assert_eq!(mount::mounts_below(&world.pod_dir()).unwrap().len(), 1);
    });
}

#[test]
fn no_room_for_the_pods_folders_is_no_volumes_fault() {
    run(|world| async move {
        let pods = world.pod_dir().parent().unwrap().to_owned();
        let _ = fs::remove_dir_all(&pods);
        fs::write(&pods, "in the way").unwrap();
        let pod = pod(json!([{ "name": "e", "emptyDir": {} }, { "name": "f", "emptyDir": {} }]), json!({}));
        let error = world.volumes.sync(&pod, &world.facts).await.unwrap_err();
        assert_eq!(error.all().len(), 1);
        assert!(error.to_string().starts_with("error making pod data directories: "), "{error}");
    });
}

#[test]
fn failures_read_like_upstreams_events() {
    run(|world| async move {
        world.set_map("cm", json!({ "k": "v" }));
        world.set_secret("s", "k", "v");
        for (volume, message) in [
            (json!({ "configMap": { "name": "y" } }), "configmap \"y\" not found"),
            (json!({ "secret": { "secretName": "y" } }), "secret \"y\" not found"),
            (
                json!({ "configMap": { "name": "cm", "items": [{ "key": "z", "path": "z" }] } }),
                "configmap references non-existent config key: z",
            ),
            (
                json!({ "secret": { "secretName": "s", "items": [{ "key": "z", "path": "z" }] } }),
                "references non-existent secret key: z",
            ),
            (
                json!({ "configMap": { "name": "cm", "items": [{ "key": "k", "path": "../z" }] } }),
                "invalid path: must not contain '..': ../z",
            ),
            (
                json!({ "projected": { "sources": [{ "configMap": { "name": "a" } }, { "secret": { "name": "b" } }] } }),
                "[configmap \"a\" not found, secret \"b\" not found]",
            ),
            (
                json!({ "projected": { "sources": [{ "serviceAccountToken": { "path": "t" } }] } }),
                "failed to fetch token: no route to host",
            ),
            (
                json!({ "hostPath": { "path": "/no/such/path", "type": "Directory" } }),
                "hostPath type check failed, /no/such/path is not a directory, unable to determine its type: \
                 path \"/no/such/path\" does not exist",
            ),
            (
                json!({ "gitRepo": { "repository": "/etc" } }),
                "git-repo volume plugin has been disabled; if necessary, it may be re-enabled by enabling the \
                 feature-gate `GitRepoVolumeDriver`",
            ),
            (json!({ "emptyDir": { "medium": "Tape" } }), "storage medium \"Tape\" is not valid"),
        ] {
            let mut volume = volume;
            volume["name"] = json!("x");
            let pod = pod(json!([volume, { "name": "fine" }]), json!({}));
            let wanted = format!("MountVolume.SetUp failed for volume \"x\" : {message}");
            assert_eq!(world.sync_error(&pod).await, wanted);
            assert!(world.volume("empty-dir", "fine").exists(), "others are made all the same");
        }
        let both = pod(
            json!([{ "name": "a", "configMap": { "name": "a" } }, { "name": "b", "configMap": { "name": "b" } }]),
            json!({}),
        );
        let error = world.volumes.sync(&both, &world.facts).await.unwrap_err();
        assert_eq!(error.all().len(), 2);
        for (volume, message) in [
            (
                json!({ "iscsi": { "targetPortal": "s", "iqn": "q", "lun": 0 } }),
                "volume plugin \"kubernetes.io/iscsi\" is not supported",
            ),
            (json!({ "quobyte": { "registry": "r", "volume": "v" } }), "no volume plugin matched"),
        ] {
            let mut volume = volume;
            volume["name"] = json!("x");
            let pod = pod(json!([volume]), json!({}));
            let error = world.volumes.sync(&pod, &world.facts).await.unwrap_err();
            let wanted = format!("failed to get Plugin from volumeSpec for volume \"x\" err={message}");
            assert_eq!(error.to_string(), wanted);
            assert!(error.is_before_mounting());
        }
    });
}

#[test]
fn volumes_that_no_container_has_are_not_made() {
    run(|world| async move {
        let volumes =
            json!([{ "name": "e", "emptyDir": {} }, { "name": "m", "configMap": { "name": "none" } }]);
        let mounts = json!([{ "name": "e", "mountPath": "/e" }]);
        let pod = pod(volumes, json!({ "containers": [{ "name": "c", "volumeMounts": mounts }] }));
        world.sync(&pod).await;
        assert!(world.volume("empty-dir", "e").exists());
        assert!(!world.volume("configmap", "m").exists());
    });
}

#[test]
fn optional_objects_may_be_missing_and_appear_later() {
    run(|world| async move {
        let pod = pod(
            json!([
                { "name": "m", "configMap": { "name": "cm", "optional": true, "items": [{ "key": "k", "path": "p" }] } },
                { "name": "s", "secret": { "secretName": "s", "optional": true } },
            ]),
            json!({}),
        );
        world.sync(&pod).await;
        assert!(!world.volume("configmap", "m").join("p").exists());
        world.set_map("cm", json!({ "k": "v" }));
        world.set_secret("s", "k", "v");
        world.sync(&pod).await;
        assert_eq!(fs::read_to_string(world.volume("configmap", "m").join("p")).unwrap(), "v");
        assert_eq!(fs::read_to_string(world.volume("secret", "s").join("k")).unwrap(), "v");
        // Deleted again: an optional one empties the volume.
        world.api.0.maps.lock().unwrap().clear();
        world.sync(&pod).await;
        assert!(!world.volume("configmap", "m").join("p").exists());
    });
}

#[test]
fn fs_group_and_users_own_what_they_should() {
    run(|world| async move {
        world.set_secret("s", "k", "v");
        *world.api.0.token_seconds.lock().unwrap() = Some(3600);
        let volumes = json!([
            { "name": "e", "emptyDir": {} },
            { "name": "s", "secret": { "secretName": "s", "defaultMode": 256 } },
            { "name": "t", "projected": { "sources": [{ "serviceAccountToken": { "path": "token", "audience": "a" } }] } },
        ]);
        let owned = pod(volumes.clone(), json!({ "securityContext": { "fsGroup": 4321, "runAsUser": 77 } }));
        world.sync(&owned).await;
        let meta = |path: PathBuf| fs::metadata(path).unwrap();
        let dir = meta(world.volume("empty-dir", "e"));
        assert_eq!((dir.gid(), dir.mode() & 0o7777), (4321, 0o2777));
        let file = meta(world.volume("secret", "s").join("k"));
        assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777), (0, 4321, 0o440));
        let token = meta(world.volume("projected", "t").join("token"));
        assert_eq!((token.uid(), token.gid(), token.mode() & 0o7777), (77, 4321, 0o640));
        world.volumes.tear_down(&PodUid::from("u1")).await.unwrap();

        // A user that only some containers name is nobody's.
        let mixed = pod(
            volumes,
            json!({ "containers": [
                { "name": "a", "securityContext": { "runAsUser": 5 } },
                { "name": "b", "volumeMounts": [{ "name": "t", "mountPath": "/t" }] },
            ] }),
        );
        world.sync(&mixed).await;
        let token = meta(world.volume("projected", "t").join("token"));
        assert_eq!((token.uid(), token.mode() & 0o7777), (0, 0o644));
    });
}

#[test]
fn tokens_are_replaced_when_due_and_kept_when_that_fails() {
    run(|world| async move {
        // Asked for an hour, given a minute: due at once, and good for now.
        *world.api.0.token_seconds.lock().unwrap() = Some(60);
        let pod = pod(
            json!([{ "name": "t", "projected": { "sources": [{ "serviceAccountToken": { "path": "token" } }] } }]),
            json!({}),
        );
        let read = || fs::read_to_string(world.volume("projected", "t").join("token")).unwrap();
        assert_eq!(world.sync(&pod).await.refresh_after, Some(Duration::from_secs(1)));
        assert_eq!(read(), "token 1 for api");
        world.sync(&pod).await;
        assert_eq!(read(), "token 2 for api");
        *world.api.0.token_seconds.lock().unwrap() = None;
        assert_eq!(world.sync(&pod).await.refresh_after, Some(Duration::from_secs(60)));
        assert_eq!(read(), "token 2 for api");
    });
}

/// Whose files are, and which bits an emptyDir has, is the pod's to say.
#[test]
fn owners_and_modes_that_are_asked_for() {
    run(|world| async move {
        world.set_map("cm", json!({ "a": "1", "b": "2" }));
        world.set_secret("s", "k", "v");
        *world.api.0.token_seconds.lock().unwrap() = Some(3600);
        let items = json!([{ "key": "a", "path": "a", "user": 7 }, { "key": "b", "path": "b" }]);
        let labels = json!({ "path": "labels", "fieldRef": { "fieldPath": "metadata.labels" }, "user": 9 });
        let pod = pod(
            json!([
                { "name": "map", "configMap": { "name": "cm", "defaultUser": 5, "items": items } },
                { "name": "all", "projected": { "defaultUser": 6, "sources": [
                    { "secret": { "name": "s" } },
                    { "downwardAPI": { "items": [labels] } },
                    { "serviceAccountToken": { "path": "token", "user": 8 } },
                ] } },
                { "name": "disk", "emptyDir": { "mode": 0o1770 } },
                { "name": "mem", "emptyDir": { "mode": 0o700, "medium": "Memory" } },
            ]),
            json!({}),
        );
        world.sync(&pod).await;
        let owner = |plugin, name, file| fs::metadata(world.volume(plugin, name).join(file)).unwrap().uid();
        assert_eq!([owner("configmap", "map", "a"), owner("configmap", "map", "b")], [7, 5]);
        let projected = ["k", "labels", "token"].map(|file| owner("projected", "all", file));
        assert_eq!(projected, [6, 9, 8]);
        assert_eq!(mode(world.volume("projected", "all").join("token")), 0o600, "its owner's alone");
        assert_eq!(mode(world.volume("empty-dir", "disk")), 0o1770);
        assert_eq!(mode(world.volume("empty-dir", "mem")), 0o1777, "upstream asks nobody");

        // With the gates off nobody but root owns anything, and a folder is open to all.
        let off =
            Volumes::new(world.dir.path(), world.api.clone(), Arc::default(), VolumeSettings::default());
        world.set_map("cm", json!({ "a": "3", "b": "4" }));
        fs::remove_dir_all(world.volume("empty-dir", "disk")).unwrap();
        off.sync(&pod, &world.facts).await.unwrap();
        assert_eq!([owner("configmap", "map", "a"), owner("configmap", "map", "b")], [0, 0]);
        assert_eq!(mode(world.volume("empty-dir", "disk")), 0o777);
    });
}

/// Of whatever size this kernel has. A file system of huge pages takes none as long as it is empty.
#[test]
fn empty_dirs_of_huge_pages() {
    let Some(size) = host::machine::huge_page_sizes().first().copied() else { return };
    run(move |world| async move {
        let text = Quantity::from_units(i64::try_from(size).unwrap()).to_binary_api().0;
        let request = json!({ format!("hugepages-{text}"): text });
        let mounts = ["any", "sized"].map(|name| json!({ "name": name, "mountPath": format!("/{name}") }));
        let containers =
            json!([{ "name": "c", "resources": { "requests": request }, "volumeMounts": mounts }]);
        let volumes = json!([
            { "name": "any", "emptyDir": { "medium": "HugePages" } },
            { "name": "sized", "emptyDir": { "medium": format!("HugePages-{text}") } },
        ]);
        let pod = pod(volumes, json!({ "containers": containers }));
        world.sync(&pod).await;
        world.sync(&pod).await;
        let mounts = mount::mounts_below(&world.pod_dir()).unwrap();
        let types: Vec<_> = mounts.iter().map(|m| m.fs_type.as_str()).collect();
        assert_eq!(types, ["hugetlbfs", "hugetlbfs"], "each is mounted once");
        world.volumes.tear_down(&PodUid::from("u1")).await.unwrap();
        assert!(mount::mounts_below(&world.pod_dir()).unwrap().is_empty());
    });
}

#[test]
fn mounts_follow_the_spec() {
    run(|world| async move {
        world.set_map("cm", json!({ "k": "v" }));
        let pod = pod(
            json!([
                { "name": "e", "emptyDir": {} },
                { "name": "m", "configMap": { "name": "cm" } },
                { "name": "h", "hostPath": { "path": "/opt" } },
            ]),
            json!({}),
        );
        world.sync(&pod).await;
        let env = BTreeMap::from([("NAME".to_owned(), "pod-7".to_owned())]);
        let container = container(json!([
            { "name": "e", "mountPath": "/e", "mountPropagation": "Bidirectional", "bindMountOptions": ["noexec"] },
            { "name": "m", "mountPath": "m" },
            { "name": "h", "mountPath": "/h", "readOnly": true, "recursiveReadOnly": "IfPossible" },
            { "name": "e", "mountPath": "/s", "subPathExpr": "logs/$(NAME)" },
            { "name": "m", "mountPath": "/etc/k", "subPath": "k" },
        ]));
        let mounts = world.volumes.mounts(&pod, &container, &mount_inputs(&env, true)).await.unwrap();
        let summary: Vec<_> = mounts
            .iter()
            .map(|m| (m.container_path.as_str(), m.is_read_only, m.is_recursive_read_only, m.propagation))
            .collect();
        let private = MountPropagation::Private;
        assert_eq!(
            summary,
            [
                ("/e", false, false, MountPropagation::Bidirectional),
                ("/m", true, false, private),
                ("/h", true, true, private),
                ("/s", false, false, private),
                ("/etc/k", true, false, private),
            ]
        );
        assert_eq!(world.volumes.empty_dir(&pod, "e"), Some(world.volume("empty-dir", "e")));
        assert_eq!((world.volumes.empty_dir(&pod, "m"), world.volumes.empty_dir(&pod, "h")), (None, None));
        let relabelled: Vec<_> = mounts.iter().map(|m| m.is_relabelled).collect();
        assert_eq!(relabelled, [true, true, false, true, true], "all but the host's own");
        assert_eq!(
            (&mounts[0].bind_options[..], &mounts[1].bind_options[..]),
            (&["noexec".to_owned()][..], &[][..])
        );
        assert_eq!(mounts[0].host_path, world.volume("empty-dir", "e"));
        assert_eq!(mounts[2].host_path, Path::new("/opt"));
        assert_eq!(mounts[3].host_path, world.pod_dir().join("volume-subpaths/e/c/3"));
        fs::write(mounts[3].host_path.join("f"), "x").unwrap();
        assert!(world.volume("empty-dir", "e").join("logs/pod-7/f").exists());
        assert_eq!(mode(world.volume("empty-dir", "e").join("logs/pod-7")), 0o777);
        assert_eq!(fs::read_to_string(&mounts[4].host_path).unwrap(), "v");

        // Asked again (the container restarts): the same mounts, none twice.
        let count = mount::mounts_below(&world.pod_dir()).unwrap().len();
        let again = world.volumes.mounts(&pod, &container, &mount_inputs(&env, true)).await.unwrap();
        assert_eq!(again, mounts);
        assert_eq!(mount::mounts_below(&world.pod_dir()).unwrap().len(), count);

        // The file behind a subPath was replaced by an update: a restart sees the new one.
        world.set_map("cm", json!({ "k": "new" }));
        world.sync(&pod).await;
        let renewed = world.volumes.mounts(&pod, &container, &mount_inputs(&env, true)).await.unwrap();
        assert_eq!(fs::read_to_string(&renewed[4].host_path).unwrap(), "new");
        world.volumes.tear_down(&PodUid::from("u1")).await.unwrap();
        world.volumes.remove_folder(&PodUid::from("u1")).await.unwrap();
        assert!(!world.pod_dir().exists());
        assert!(Path::new("/opt").exists());
    });
}

#[test]
fn certificates_of_authorities_are_files() {
    run(|world| async move {
        let set = |name: &str, text: &str| {
            world.api.0.bundles.lock().unwrap().insert(name.to_owned(), text.to_owned());
        };
        set("one", "first\n");
        set("s/t:x", "second\n");
        let sources = json!([
            { "clusterTrustBundle": { "name": "one", "path": "one.pem" } },
            { "clusterTrustBundle": { "signerName": "s/t", "labelSelector": { "matchLabels": { "l": "x" } }, "path": "d/t.pem" } },
            { "clusterTrustBundle": { "name": "nope", "path": "none.pem", "optional": true } },
            { "clusterTrustBundle": { "signerName": "nobody", "path": "none-of.pem", "optional": true } },
        ]);
        let volumes = json!([{ "name": "p", "projected": { "sources": sources, "defaultMode": 0o644 } }]);
        world.sync(&pod(volumes.clone(), json!({}))).await;
        let volume = world.volume("projected", "p");
        let read = |path: &str| fs::read_to_string(volume.join(path)).unwrap();
        let all = ["one.pem", "d/t.pem", "none.pem", "none-of.pem"];
        assert_eq!(all.map(read), ["first\n", "second\n", "", ""]);
        assert_eq!(mode(volume.join("one.pem")), 0o644);
        set("one", "changed\n");
        world.sync(&pod(volumes.clone(), json!({}))).await;
        assert_eq!(fs::read_to_string(volume.join("one.pem")).unwrap(), "changed\n");
        world.volumes.tear_down(&PodUid::from("u1")).await.unwrap();
        // As a token, where it is known whom it is for.
        world.sync(&pod(volumes, json!({ "securityContext": { "fsGroup": 7 } }))).await;
        assert_eq!(mode(volume.join("one.pem")), 0o640);
        world.volumes.tear_down(&PodUid::from("u1")).await.unwrap();

        for (source, message) in [
            (json!({ "name": "nope", "path": "x" }), "no bundle nope"),
            (json!({ "signerName": "nobody", "path": "x" }), "no bundle of nobody"),
            (json!({ "signerName": "away", "path": "x", "optional": true }), "not yet"),
            (
                json!({ "path": "x" }),
                "ClusterTrustBundle projection requires either name or signerName to be set",
            ),
        ] {
            let volumes =
                json!([{ "name": "p", "projected": { "sources": [{ "clusterTrustBundle": source }] } }]);
            let error = world.volumes.sync(&pod(volumes, json!({})), &world.facts).await.unwrap_err();
            assert_eq!(error.to_string(), format!("MountVolume.SetUp failed for volume \"p\" : {message}"));
        }
    });
}

#[test]
fn certificates_of_the_pod_are_files_with_its_key() {
    run(|world| async move {
        let issue = |index: usize, name: &str| {
            let place = ("p".to_owned(), index);
            world.api.0.certificates.lock().unwrap().insert(place, name.to_owned());
        };
        let source = |mut paths: Value| {
            paths["signerName"] = json!("s/t");
            paths["keyType"] = json!("ED25519");
            json!({ "podCertificate": paths })
        };
        let sources = json!([
            source(json!({ "credentialBundlePath": "all/of.pem" })),
            source(json!({ "keyPath": "key.pem", "certificateChainPath": "chain.pem" })),
        ]);
        let volumes = json!([{ "name": "p", "projected": { "sources": sources, "defaultMode": 0o644 } }]);
        issue(0, "one");
        let error = world.volumes.sync(&pod(volumes.clone(), json!({})), &world.facts).await.unwrap_err();
        assert_eq!(error.to_string(), "MountVolume.SetUp failed for volume \"p\" : not issued yet");
        issue(1, "two");
        world.sync(&pod(volumes.clone(), json!({}))).await;
        let volume = world.volume("projected", "p");
        let read = |path: &str| fs::read_to_string(volume.join(path)).unwrap();
        assert_eq!(
            ["all/of.pem", "key.pem", "chain.pem"].map(read),
            ["ED25519 one\nchain of one\n", "ED25519 two\n", "chain of two\n"]
        );
        assert_eq!(mode(volume.join("key.pem")), 0o644);
        issue(0, "three");
        world.sync(&pod(volumes.clone(), json!({}))).await;
        assert_eq!(read("all/of.pem"), "ED25519 three\nchain of three\n");
        world.volumes.tear_down(&PodUid::from("u1")).await.unwrap();
        assert!(world.api.0.certificates.lock().unwrap().is_empty(), "they are forgotten");
        // As a token, where it is known whom it is for.
        issue(0, "one");
        issue(1, "two");
        world.sync(&pod(volumes, json!({ "securityContext": { "fsGroup": 7 } }))).await;
        assert_eq!(mode(volume.join("key.pem")), 0o640);
        world.volumes.tear_down(&PodUid::from("u1")).await.unwrap();
    });
}

#[test]
fn images_are_mounted_by_the_runtime() {
    run(|world| async move {
        let pod =
            pod(json!([{ "name": "i", "image": { "reference": "data:1" } }, { "name": "e" }]), json!({}));
        world.sync(&pod).await;
        assert!(!world.pod_dir().join("volumes/kubernetes.io~image").exists());
        assert!(world.volumes.measurable(&pod, &NOT_PUBLISHED).iter().all(|volume| volume.name == "e"));
        let container = container(json!([
            { "name": "i", "mountPath": "/i", "subPathExpr": "$(DIR)/x" },
            { "name": "e", "mountPath": "/e" },
            { "name": "i", "mountPath": "/all", "readOnly": true, "recursiveReadOnly": "Enabled" },
        ]));
        let environment = BTreeMap::from([("DIR".to_owned(), "sub".to_owned())]);
        let images = BTreeMap::from([("i".to_owned(), ImageRef::from("sha256:1"))]);
        let inputs = MountInputs { images: &images, ..mount_inputs(&environment, true) };
        let mounts = world.volumes.mounts(&pod, &container, &inputs).await.unwrap();
        let part = mounts[0].image.as_ref().unwrap();
        assert_eq!((part.image.as_str(), &*part.reference, &*part.sub_path), ("sha256:1", "data:1", "sub/x"));
        let summary: Vec<_> = mounts
            .iter()
            .map(|m| (m.image.is_some(), m.is_read_only, m.is_recursive_read_only, m.is_relabelled))
            .collect();
        assert_eq!(
            summary,
            [(true, true, false, false), (false, false, false, true), (true, true, true, false)]
        );
        assert_eq!(mounts[2].image.as_ref().unwrap().sub_path, "");
        assert_eq!(
            (mounts[0].host_path.as_path(), mounts[2].host_path.as_path()),
            (Path::new(""), Path::new(""))
        );

        let error =
            world.volumes.mounts(&pod, &container, &mount_inputs(&environment, true)).await.unwrap_err();
        assert_eq!(error.to_string(), "image of volume \"i\" is not there");
        world.volumes.tear_down(&PodUid::from("u1")).await.unwrap();
    });
}

#[test]
fn refused_mounts_say_why() {
    run(|world| async move {
        let pod = pod(json!([{ "name": "e" }]), json!({}));
        world.sync(&pod).await;
        for (mount, message) in [
            (json!({ "name": "z" }), "cannot find volume \"z\" to mount into container \"c\""),
            (json!({ "name": "e", "subPath": "/etc" }), "error SubPath `/etc` must not be an absolute path"),
            (
                json!({ "name": "e", "subPath": "a/../.." }),
                "unable to provision SubPath `a/../..`: must not contain '..'",
            ),
            (
                json!({ "name": "e", "subPathExpr": "$(UP)/x" }),
                "error SubPath `/etc/x` must not be an absolute path",
            ),
            (json!({ "name": "e", "subPathExpr": "$(NO)" }), "missing value for NO"),
            (json!({ "name": "e", "mountPropagation": "Loud" }), "invalid MountPropagation mode: \"Loud\""),
            (
                json!({ "name": "e", "recursiveReadOnly": "Enabled", "readOnly": true }),
                "failed to resolve recursive read-only mode: volume \"e\" requested recursive read-only mode, but it is \
                 not supported by the runtime",
            ),
        ] {
            let mut mount = mount;
            mount["mountPath"] = json!("/x");
            let env = BTreeMap::from([("UP".to_owned(), "/etc".to_owned())]);
            let error = world
                .volumes
                .mounts(&pod, &container(json!([mount])), &mount_inputs(&env, false))
                .await
                .unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    });
}

/// CVE-2017-1002101.
#[test]
fn sub_paths_cannot_leave_the_volume() {
    run(|world| async move {
        let outside = world.dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("secret"), "s").unwrap();
        let pod = pod(json!([{ "name": "e" }]), json!({}));
        world.sync(&pod).await;
        let volume = world.volume("empty-dir", "e");
        symlink(&outside, volume.join("absolute")).unwrap();
        symlink("../../../../../outside", volume.join("relative")).unwrap();
        symlink("/proc/self/root", volume.join("magic")).unwrap();
        symlink("/no/such/place", volume.join("dangling")).unwrap();
        fs::create_dir(volume.join("inside")).unwrap();
        symlink("inside", volume.join("fine")).unwrap();
        for bad in [
            "absolute",
            "absolute/secret",
            "absolute/new",
            "relative",
            "relative/new",
            "magic/etc",
            "dangling",
            "dangling/x",
        ] {
            let container = container(json!([{ "name": "e", "mountPath": "/x", "subPath": bad }]));
            let error = world
                .volumes
                .mounts(&pod, &container, &mount_inputs(&BTreeMap::new(), false))
                .await
                .unwrap_err();
            let terse = "failed to prepare subPath for volumeMount \"e\" of container \"c\"";
            assert_eq!(error.to_string(), terse, "{bad}");
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert!(!Path::new("/no/such").exists());
        let container = container(json!([{ "name": "e", "mountPath": "/x", "subPath": "fine/deep" }]));
        let mounts =
            world.volumes.mounts(&pod, &container, &mount_inputs(&BTreeMap::new(), false)).await.unwrap();
        fs::write(mounts[0].host_path.join("f"), "").unwrap();
        assert!(volume.join("inside/deep/f").exists());

        // The part is swapped for a link after the mount was made: what is mounted stays.
        fs::rename(volume.join("inside"), volume.join("moved")).unwrap();
        symlink(&outside, volume.join("inside")).unwrap();
        assert!(mounts[0].host_path.join("f").exists());
        assert!(
            world.volumes.mounts(&pod, &container, &mount_inputs(&BTreeMap::new(), false)).await.is_err()
        );
    });
}

/// CVE-2021-25741: a container swaps a folder of its volume for a link again and again while the part below it is
/// prepared. Whatever is mounted in the end is the volume's, and nothing is made outside.
#[test]
fn sub_paths_swapped_meanwhile_cannot_leave_the_volume() {
    run(|world| async move {
        let outside = world.dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("secret"), "s").unwrap();
        let pod = pod(json!([{ "name": "e" }]), json!({}));
        world.sync(&pod).await;
        let volume = world.volume("empty-dir", "e");
        let (folder, link) = (volume.join("part"), volume.join("link"));
        fs::create_dir(&folder).unwrap();
        symlink(&outside, &link).unwrap();
        let is_over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let swapping = std::thread::spawn({
            let is_over = is_over.clone();
            move || {
                use rustix::fs::{CWD, RenameFlags, renameat_with};
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    renameat_with(CWD, &folder, CWD, &link, RenameFlags::EXCHANGE).unwrap();
                }
            }
        });
        let mut is_mounted = 0;
        for i in 0..300 {
            let path = format!("part/deep-{i}");
            let container = container(json!([{ "name": "e", "mountPath": "/x", "subPath": path }]));
            // It is refused whenever the link was there in the wrong moment.
            if let Ok(mounts) =
                world.volumes.mounts(&pod, &container, &mount_inputs(&BTreeMap::new(), false)).await
            {
                is_mounted += 1;
                fs::write(mounts[0].host_path.join("written"), "").unwrap();
            }
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        swapping.join().unwrap();
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert!(is_mounted > 0);
    });
}

/// CVE-2017-1002102.
#[test]
fn names_from_pods_cannot_escape_the_pod_folder() {
    run(|world| async move {
        for name in ["..", "../../x", "a/b", ""] {
            let pod = pod(json!([{ "name": name, "emptyDir": {} }]), json!({}));
            let error = world.sync_error(&pod).await;
            assert!(error.ends_with(&format!("volume name {name:?} is not valid")), "{error}");
        }
        for uid in ["..", ".", "a/../..", ""] {
            let mut pod = Pod::clone(&pod(json!([]), json!({})));
            pod.metadata.uid = Some(uid.to_owned());
            let pod = AllocatedPod::granted(Arc::new(pod));
            assert!(world.volumes.sync(&pod, &world.facts).await.is_err(), "{uid}");
            assert!(world.volumes.tear_down(&PodUid::from(uid)).await.is_err(), "{uid}");
            assert!(world.volumes.remove_folder(&PodUid::from(uid)).await.is_err(), "{uid}");
        }
        // The pod's folder itself is a link: nothing is made behind it.
        let outside = world.dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::create_dir_all(world.dir.path().join("pods")).unwrap();
        fs::remove_dir_all(world.pod_dir()).ok();
        symlink(&outside, world.pod_dir()).unwrap();
        assert!(world.volumes.sync(&pod(json!([{ "name": "e" }]), json!({})), &world.facts).await.is_err());
        world.volumes.tear_down(&PodUid::from("u1")).await.unwrap();
        world.volumes.remove_folder(&PodUid::from("u1")).await.unwrap();
        assert!(!world.pod_dir().is_symlink());
        assert!(outside.exists() && fs::read_dir(&outside).unwrap().next().is_none());
    });
}

#[test]
fn tear_down_never_deletes_through_mounts() {
    run(|world| async move {
        let precious = world.dir.path().join("precious");
        fs::create_dir(&precious).unwrap();
        fs::write(precious.join("data"), "x").unwrap();
        world.sync(&pod(json!([{ "name": "e" }]), json!({}))).await;
        let inside = world.volume("empty-dir", "e").join("mounted here");
        fs::create_dir(&inside).unwrap();
        mount::bind(&precious, &inside, mount::BindOptions::default()).unwrap();
        symlink(&precious, world.volume("empty-dir", "e").join("link")).unwrap();
        // Busy: refuse rather than detach what is not ours.
        let held = fs::File::open(inside.join("data")).unwrap();
        let error = world.volumes.tear_down(&PodUid::from("u1")).await.unwrap_err().to_string();
        assert!(error.starts_with("UnmountVolume.TearDown failed for pod u1 : unmount "), "{error}");
        assert!(precious.join("data").exists() && world.pod_dir().exists());
        let error = world.volumes.remove_folder(&PodUid::from("u1")).await.unwrap_err().to_string();
        assert!(error.contains(" unmount "), "{error}");
        drop(held);
        world.volumes.tear_down(&PodUid::from("u1")).await.unwrap();
        assert!(precious.join("data").exists() && !inside.exists());
    });
}

/// Until the pod's object is gone, people read there what became of it.
#[test]
fn what_containers_have_left_outlives_the_volumes() {
    run(|world| async move {
        world.set_secret("s", "k", "v");
        let volumes =
            json!([{ "name": "e", "emptyDir": {} }, { "name": "s", "secret": { "secretName": "s" } }]);
        world.sync(&pod(volumes, json!({}))).await;
        let left = [world.pod_dir().join("etc-hosts"), world.pod_dir().join("containers/main/0a1b")];
        fs::create_dir_all(left[1].parent().unwrap()).unwrap();
        left.iter().for_each(|path| fs::write(path, "last words").unwrap());
        world.volumes.tear_down(&PodUid::from("u1")).await.unwrap();
        assert!(left.iter().all(|path| fs::read_to_string(path).unwrap() == "last words"));
        assert!(!world.volume("empty-dir", "e").exists() && !world.volume("secret", "s").exists());
        assert_eq!(fs::read_dir(world.pod_dir().join("plugins/kubernetes.io~empty-dir")).unwrap().count(), 0);
        assert_eq!(world.volumes.pods_on_disk().unwrap(), [PodUid::from("u1")]);
        world.volumes.remove_folder(&PodUid::from("u1")).await.unwrap();
        assert!(world.volumes.pods_on_disk().unwrap().is_empty());
    });
}

#[test]
fn a_stray_holder_of_a_secret_does_not_keep_the_pod() {
    run(|world| async move {
        world.set_secret("s", "k", "v");
        world.sync(&pod(json!([{ "name": "s", "secret": { "secretName": "s" } }]), json!({}))).await;
        let held = fs::File::open(world.volume("secret", "s").join("k")).unwrap();
        world.volumes.tear_down(&PodUid::from("u1")).await.unwrap();
        assert!(!world.volume("secret", "s").exists());
        drop(held);
    });
}

#[test]
fn volumes_inside_volumes_find_their_mount_points() {
    run(|world| async move {
        world.set_map("cm", json!({ "k": "v" }));
        let pod = pod(
            json!([{ "name": "m", "configMap": { "name": "cm" } }, { "name": "e" }]),
            json!({ "containers": [{ "name": "c", "volumeMounts": [
                { "name": "m", "mountPath": "/etc/app/" },
                { "name": "e", "mountPath": "/etc/app/run" },
                { "name": "e", "mountPath": "/etc/app/run/deep" },
                { "name": "e", "mountPath": "/etc/app/../../../x" },
                { "name": "e", "mountPath": "/etc/application" }] }] }),
        );
        world.sync(&pod).await;
        world.sync(&pod).await;
        let volume = world.volume("configmap", "m");
        assert!(volume.join("run").is_dir() && !volume.join("run/deep").exists());
        assert_eq!(fs::read_to_string(volume.join("k")).unwrap(), "v");
    });
}
