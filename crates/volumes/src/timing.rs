//! How long it takes to make volumes and to take them down, by kind of volume.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Volume;
use model::storage::{CSI_PLUGIN, PublishedVolume};
use model::{Pod, VolumeKind, pod as pods};
use telemetry::metrics::Metrics;

use crate::layout;

/// What is done with a volume, in upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// It is made, or brought up to date.
    Mount,
    /// It is taken down.
    Unmount,
    /// It is taken from the node, after the last pod.
    UnmountDevice,
    /// Its file system is made as large as it is.
    Resize,
    /// Its files are handed to the pod's group.
    ApplyGroup,
}

impl Operation {
    fn label(self) -> &'static str {
        match self {
            Self::Mount => "volume_mount",
            Self::Unmount => "volume_unmount",
            Self::UnmountDevice => "unmount_device",
            Self::Resize => "volume_fs_resize",
            Self::ApplyGroup => "volume_apply_access_control",
        }
    }
}

/// Takes the time.
#[derive(Clone, Debug)]
pub(crate) struct Timing(Arc<Metrics>);

impl Timing {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self(metrics)
    }

    /// Something was done, or not, with a volume whose plugin has this folder name.
    pub(crate) fn note(&self, folder: &str, operation: Operation, is_done: bool, took: Duration) {
        let status = if is_done { "success" } else { "fail-unknown" };
        // Nothing here was once another kind of volume.
        let labels = ["false", operation.label(), status, &plugin_of(folder)];
        self.0.storage_operations.with(labels).observe_duration(took);
    }

    /// Does something with a volume and notes it.
    pub(crate) fn run<T, E>(
        &self,
        folder: &str,
        operation: Operation,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let begun = Instant::now();
        let result = work();
        self.note(folder, operation, result.is_ok(), begun.elapsed());
        result
    }
}

/// `kubernetes.io/secret` for the folder `kubernetes.io~secret`.
fn plugin_of(folder: &str) -> String {
    folder.replacen('~', "/", 1)
}

/// The folder name of the plugin that makes a volume; `None` where there is no such plugin here.
pub(crate) fn folder(volume: &Volume) -> Option<&'static str> {
    layout::plugin_folder(VolumeKind::of(volume)).ok()
}

/// The plugins of the volumes that a pod uses as upstream names them, one for each volume; `N/A` where there is none, or where
/// it is not known yet which one a claim needs. `published`: what drivers have made for the pod.
pub fn plugin_names(pod: &Pod, published: &BTreeMap<String, PublishedVolume>) -> Vec<String> {
    let name = |volume: &Volume| match (published.get(&volume.name), &volume.csi) {
        (Some(made), _) => made.plugin.clone(),
        (None, Some(inline)) => format!("{CSI_PLUGIN}:{}", inline.driver),
        (None, None) => folder(volume).map_or_else(|| "N/A".to_owned(), plugin_of),
    };
    pods::used_volumes(pod).map(name).collect()
}
