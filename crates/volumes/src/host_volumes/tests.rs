//! Volumes on real folders, disks and mounts, in a mount namespace of the test's own.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::time::Duration;

use model::storage::FoundVolumes;
use plugins::csi::Certainty;
use serde_json::{Value, json};

use super::*;
use crate::tests::{Shared, pod};
use crate::{VolumeSettings, Volumes, found_volumes};

struct World {
    dir: tempfile::TempDir,
    host: HostVolumes,
    volumes: Volumes<Shared>,
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
        let root = dir.path().join("kubelet");
        fs::create_dir(&root).unwrap();
        let metrics = Arc::new(Metrics::default());
        let volumes = Volumes::new(&root, Shared::default(), metrics.clone(), VolumeSettings::default());
        Self { host: HostVolumes::new(&root, metrics), volumes, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn of_pod(&self, uid: &str) -> PathBuf {
        self.path(&format!("kubelet/pods/{uid}/volumes/kubernetes.io~local-volume/pv-1"))
    }

    fn found(&self) -> FoundVolumes {
        found_volumes(&self.path("kubelet")).unwrap()
    }

    async fn publish(
        &self,
        pod: &Pod,
        volume: &VolumeSpec,
        is_read_only: bool,
    ) -> Result<Option<GroupConflict>, HostVolumeError> {
        self.host.publish(HostPublication { pod, volume, is_read_only }).await
    }

    async fn unpublish(&self, uid: &str) -> Result<(), HostVolumeError> {
        self.host.unpublish(&PodUid::from(uid), "pv-1", HostPlugin::Local).await
    }
}

fn volume(spec: &Value) -> VolumeSpec {
    let object = json!({ "metadata": { "name": "pv-1" }, "spec": spec });
    VolumeSpec::of_persistent(&serde_json::from_value(object).unwrap()).unwrap()
}

fn local(path: &Path, options: &[&str]) -> VolumeSpec {
    volume(&json!({ "local": { "path": path }, "mountOptions": options }))
}

fn claiming(uid: &str, group: Option<i64>) -> Pod {
    let volumes = json!([{ "name": "v", "persistentVolumeClaim": { "claimName": "c" } }]);
    let mut pod = Pod::clone(&pod(volumes, json!({ "securityContext": { "fsGroup": group } })));
    pod.metadata.uid = Some(uid.to_owned());
    pod
}

fn options_at(path: &Path) -> String {
    host::mount::mounts_below(path).unwrap().remove(0).options
}

#[test]
fn a_folder_is_bound_for_each_pod_and_stays_when_they_go() {
    run(|world| async move {
        let disk = world.path("disk");
        fs::create_dir(&disk).unwrap();
        fs::write(disk.join("file"), "kept").unwrap();
        let volume = local(&disk, &["noexec"]);
        let (one, two) = (claiming("u1", Some(4321)), claiming("u2", Some(99)));
        world.host.stage(&volume).await.unwrap();
        assert_eq!(world.publish(&one, &volume, false).await.unwrap(), None);
        assert_eq!(fs::read_to_string(world.of_pod("u1").join("file")).unwrap(), "kept");
        assert_eq!(fs::metadata(disk.join("file")).unwrap().gid(), 4321, "its files are the group's");
        assert!(options_at(&world.of_pod("u1")).contains("noexec"));

        let conflict = world.publish(&two, &volume, true).await.unwrap().unwrap();
        assert_eq!(
            conflict.to_string(),
            "The requested fsGroup is 99, but the volume pv-1 has GID 4321. The volume may not be shareable."
        );
        assert_eq!(fs::metadata(disk.join("file")).unwrap().gid(), 4321);
        assert!(fs::write(world.of_pod("u2").join("file"), "").is_err(), "it is only to be read");
        fs::write(world.of_pod("u1").join("file"), "new").unwrap();

        // The next process finds both, and mounts neither a second time.
        let found = world.found();
        assert!(found.published.iter().all(|published| published.is_mounted), "{found:?}");
        assert_eq!((found.published.len(), found.staged.len()), (2, 0));
        let next = HostVolumes::new(&world.path("kubelet"), Arc::new(Metrics::default()));
        let again = HostPublication { pod: &two, volume: &volume, is_read_only: true };
        assert_eq!(next.publish(again).await.unwrap(), None);
        assert_eq!(host::mount::mounts_below(&world.path("kubelet")).unwrap().len(), 2);

        world.volumes.tear_down(&PodUid::from("u1")).await.unwrap_err();
        for _ in 0..2 {
            world.unpublish("u1").await.unwrap();
            world.unpublish("u2").await.unwrap();
            world.host.unstage(HostPlugin::Local, "pv-1").await.unwrap();
        }
        assert_eq!(world.found(), FoundVolumes::default());
        world.volumes.tear_down(&PodUid::from("u1")).await.unwrap();
        assert_eq!(fs::read_to_string(disk.join("file")).unwrap(), "new");
    });
}

/// A process that ends between the two steps of a bind mount leaves one that can be written.
#[test]
fn a_mount_that_was_left_half_made_gets_its_options_and_group() {
    run(|world| async move {
        let disk = world.path("disk");
        fs::create_dir(&disk).unwrap();
        let (volume, pod) = (local(&disk, &[]), claiming("u1", Some(7)));
        fs::create_dir_all(world.of_pod("u1")).unwrap();
        host::mount::bind(&disk, &world.of_pod("u1"), host::mount::BindOptions::default()).unwrap();
        world.publish(&pod, &volume, false).await.unwrap();
        assert_eq!(fs::metadata(&disk).unwrap().gid(), 7);
        world.publish(&pod, &volume, true).await.unwrap();
        assert!(fs::write(world.of_pod("u1").join("file"), "").is_err());
        world.unpublish("u1").await.unwrap();
    });
}

#[test]
fn what_is_no_folder_and_no_disk_is_refused_and_leaves_nothing() {
    run(|world| async move {
        let pod = claiming("u1", None);
        for (name, message) in
            [("none", "path {} does not exist"), ("file", "only directory and block device are supported")]
        {
            fs::write(world.path("file"), "").unwrap();
            let path = world.path(name);
            let volume = local(&path, &[]);
            let wanted = message.replace("{}", &format!("{path:?}"));
            for error in [
                world.host.stage(&volume).await.unwrap_err(),
                world.publish(&pod, &volume, false).await.unwrap_err(),
            ] {
                assert_eq!((error.to_string(), error.certainty()), (wanted.clone(), None));
            }
        }
        assert_eq!(world.found(), FoundVolumes::default());
    });
}

#[test]
fn a_path_of_the_node_has_to_be_what_its_volume_says() {
    run(|world| async move {
        let path = world.path("folder");
        let of = |kind: &str| volume(&json!({ "hostPath": { "path": path, "type": kind } }));
        let pod = claiming("u1", None);
        let refused = world.publish(&pod, &of("Directory"), false).await.unwrap_err().to_string();
        assert!(refused.starts_with("hostPath type check failed"), "{refused}");
        world.publish(&pod, &of("DirectoryOrCreate"), false).await.unwrap();
        assert!(path.is_dir());
        world.host.unpublish(&PodUid::from("u1"), "pv-1", HostPlugin::HostPath).await.unwrap();
        assert!(path.is_dir());
    });
}

/// A disk that is a file, for as long as it is held.
struct Disk(String);

impl Disk {
    fn new(file: &Path) -> Self {
        fs::File::create(file).unwrap().set_len(16 << 20).unwrap();
        let made = Command::new("losetup").args(["--find", "--show"]).arg(file).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Self(String::from_utf8(made.stdout).unwrap().trim().to_owned())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

#[test]
fn a_disk_gets_a_file_system_once_and_is_mounted_for_the_node_first() {
    run(|world| async move {
        let disk = Disk::new(&world.path("image"));
        let (volume, pod) = (local(Path::new(&disk.0), &["noatime"]), claiming("u1", None));
        let read_only = local(Path::new(&disk.0), &["ro"]);
        let refused = world.host.stage(&read_only).await.unwrap_err().to_string();
        assert!(refused.starts_with("cannot mount unformatted disk"), "{refused}");
        assert_eq!(world.found(), FoundVolumes::default());
        for round in ["one", "two"] {
            for _ in 0..2 {
                world.host.stage(&volume).await.unwrap();
                world.publish(&pod, &volume, false).await.unwrap();
            }
            let found = world.found();
            assert!(found.staged[0].is_mounted && found.published[0].is_mounted, "{found:?}");
            assert_eq!(host::mount::mounts_below(&world.path("kubelet")).unwrap().len(), 2);
            assert!(options_at(&world.of_pod("u1")).contains("noatime"));
            let file = world.of_pod("u1").join("file");
            if round == "two" {
                assert_eq!(fs::read_to_string(&file).unwrap(), "one", "it was formatted again");
            }
            fs::write(&file, round).unwrap();
            world.unpublish("u1").await.unwrap();
            world.host.unstage(HostPlugin::Local, "pv-1").await.unwrap();
            assert_eq!(world.found(), FoundVolumes::default());
        }
    });
}

#[test]
fn a_program_that_does_not_end_in_its_time_may_still_do_what_it_was_to_do() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let slow = super::program::run_within(Duration::ZERO, "sleep", &["100000"]).await.unwrap_err();
        let error = HostVolumeError::of_program("mount", slow);
        assert_eq!(error.to_string(), "mount has not ended: no answer within 0ns");
        assert_eq!(error.certainty(), Some(Certainty::Uncertain));
        let missing = super::program::run_within(Duration::MAX, "no-such-program", &[]).await.unwrap_err();
        let error = HostVolumeError::of_program("no-such-program", missing);
        assert!(error.to_string().starts_with("exec: \"no-such-program\": "), "{error}");
    });
}
