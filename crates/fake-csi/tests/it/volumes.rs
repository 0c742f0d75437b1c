//! Volumes of this driver, asked for by the kubelet's client, in a mount namespace of the test's own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use host::mount;
use host::testing::in_mount_namespace;
use plugins::csi::{self, Certainty, PublishRequest, StageRequest, VolumeUse};

use super::{command, serve, text};

/// A folder that ends with the test, and what is in it.
struct Node {
    _folder: tempfile::TempDir,
    options: fake_csi::Options,
    staging: PathBuf,
    target: PathBuf,
}

fn node() -> Node {
    let folder = tempfile::tempdir().unwrap();
    let (staging, target) = (folder.path().join("staging"), folder.path().join("pod/mount"));
    fs::create_dir_all(&staging).unwrap();
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    Node { options: serve(folder.path()), staging, target, _folder: folder }
}

fn usage() -> VolumeUse {
    VolumeUse {
        access_mode: "ReadWriteOnce".to_owned(),
        knows_single_writers: false,
        fs_type: "xfs".to_owned(),
        mount_options: vec!["noatime".to_owned()],
        group: None,
    }
}

fn map(key: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_owned(), value.to_owned())])
}

impl Node {
    fn endpoint(&self) -> &str {
        text(&self.options.socket)
    }

    async fn stage(&self) -> Result<(), plugins::CallError> {
        let request = StageRequest {
            handle: "vol/1".to_owned(),
            staging_path: text(&self.staging).to_owned(),
            volume_use: usage(),
            publish_context: map("device", "sda"),
            secrets: map("key", "hunter2"),
            attributes: map("a", "b"),
        };
        csi::node_stage_volume(self.endpoint(), request).await
    }

    async fn publish(&self, is_read_only: bool) -> Result<(), plugins::CallError> {
        let request = PublishRequest {
            handle: "vol/1".to_owned(),
            staging_path: text(&self.staging).to_owned(),
            target_path: text(&self.target).to_owned(),
            volume_use: usage(),
            is_read_only,
            publish_context: BTreeMap::new(),
            secrets: map("key", "marker-1"),
            attributes: BTreeMap::new(),
        };
        csi::node_publish_volume(self.endpoint(), request).await
    }

    async fn unpublish(&self) -> Result<(), plugins::CallError> {
        csi::node_unpublish_volume(self.endpoint(), "vol/1", text(&self.target)).await
    }

    async fn unstage(&self) -> Result<(), plugins::CallError> {
        csi::node_unstage_volume(self.endpoint(), "vol/1", text(&self.staging)).await
    }
}

/// Threads made here share the namespace.
fn with_mounts<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    in_mount_namespace(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap().block_on(test());
    });
}

fn is_mounted(path: &Path) -> bool {
    path.exists() && mount::is_mount_point(&fs::canonicalize(path).unwrap()).unwrap()
}

#[test]
fn a_volume_is_staged_published_and_taken_back() {
    with_mounts(|| async {
        let node = node();
        let capabilities = csi::node_get_capabilities(node.endpoint()).await.unwrap();
        assert!(capabilities.stages && !capabilities.mounts_with_group);
        for _ in 0..2 {
            node.stage().await.unwrap();
            node.publish(false).await.unwrap();
        }
        fs::write(node.target.join("file"), "x").unwrap();
        assert_eq!(fs::read_to_string(node.staging.join("file")).unwrap(), "x");
        let target = text(&node.target);
        let usage = csi::node_get_volume_stats(node.endpoint(), "vol/1", target).await.unwrap().unwrap();
        assert_eq!((usage.bytes.total, usage.inodes.used), (1 << 30, 2));
        assert_eq!(usage.bytes.available, usage.bytes.total - usage.bytes.used);
        for (volume, path, code) in [("vol/2", target, "NotFound"), ("vol/1", "", "InvalidArgument")] {
            let error = csi::node_get_volume_stats(node.endpoint(), volume, path).await.unwrap_err();
            assert_eq!(error.source.code(), code);
        }
        let last = command(&node.options, "last NodeStageVolume").await;
        for part in [
            "\"device\":\"sda\"",
            "\"key\":\"hidden\"",
            "\"mode\":\"SINGLE_NODE_WRITER\"",
            "\"fsType\":\"xfs\"",
        ] {
            assert!(last.contains(part), "{last}");
        }
        assert!(command(&node.options, "last NodePublishVolume").await.contains("\"key\":\"marker-1\""));
        for _ in 0..2 {
            node.unpublish().await.unwrap();
            node.unstage().await.unwrap();
        }
        assert!(!node.target.exists() && !is_mounted(&node.staging));
        assert_eq!(command(&node.options, "volumes").await, "ok");
        assert_eq!(command(&node.options, "wrong").await, "ok");
        let calls = command(&node.options, "calls vol/1").await;
        assert!(calls.starts_with("ok NodeStageVolume:vol/1 NodePublishVolume:vol/1 Node"), "{calls}");
        node.stage().await.unwrap();
        node.publish(true).await.unwrap();
        assert_eq!(fs::read_to_string(node.target.join("file")).unwrap(), "x", "what was written is kept");
        assert!(fs::write(node.target.join("file"), "y").is_err());
    });
}

#[test]
fn what_csi_forbids_is_refused_and_told() {
    with_mounts(|| async {
        let node = node();
        let error = node.publish(false).await.unwrap_err();
        assert_eq!(error.source.certainty(), Certainty::Final);
        node.stage().await.unwrap();
        node.publish(false).await.unwrap();
        node.unstage().await.unwrap_err();
        node.publish(true).await.unwrap_err();
        assert_eq!(command(&node.options, "wrong").await.split("; ").count(), 3);
        node.unpublish().await.unwrap();
        node.unstage().await.unwrap();
    });
}

#[test]
fn calls_that_are_late_or_said_to_fail_are_carried_out() {
    with_mounts(|| async {
        let node = node();
        command(&node.options, "fail-after NodeStageVolume DeadlineExceeded").await;
        let error = node.stage().await.unwrap_err();
        assert_eq!(error.source.certainty(), Certainty::Uncertain);
        assert!(is_mounted(&node.staging));
        command(&node.options, "release NodeStageVolume").await;
        command(&node.options, "twice NodePublishVolume").await;
        node.publish(false).await.unwrap();
        command(&node.options, "fail NodeUnpublishVolume Aborted").await;
        let error = node.unpublish().await.unwrap_err();
        assert_eq!(error.source.certainty(), Certainty::Busy);
        assert!(is_mounted(&node.target));
        command(&node.options, "late NodeUnpublishVolume").await;
        let asked = async { node.unpublish().await.unwrap() };
        let released = async {
            command(&node.options, "counted NodeUnpublishVolume 2").await;
            // While it is not answered, another call is one too many.
            let error = node.unpublish().await.unwrap_err();
            assert_eq!(error.source.certainty(), Certainty::Busy);
            assert_eq!(command(&node.options, "release NodeUnpublishVolume").await, "ok");
        };
        tokio::join!(asked, released);
        assert!(!node.target.exists());
        node.unstage().await.unwrap();
    });
}
