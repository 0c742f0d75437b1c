//! Volumes of CSI drivers: folders, the files that tell of them, secrets and tokens, the driver's calls, and `fsGroup`.
//!
//! Each call here is one call of the driver with what has to be on disk before and after it. All of them may be repeated, and
//! after a crash at any point the next one finds what there is: the file `vol_data.json` is written before the driver is
//! called, and goes after the driver has taken its mount back and only then. Nothing is unmounted here, nor is anything
//! deleted that is mounted or has content: both are the driver's.
//!
//! Folders, files and their content are upstream's, which goes on where this kubelet ends and the other way round. Who calls
//! when, and for whom, is decided elsewhere: one call for a volume at a time is the caller's promise. What a caller has given
//! up may still be busy on the disk, and is waited for.

mod attributes;
mod data;
mod error;
mod expand;
mod found;
mod place;
mod publish;
mod stage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use model::storage::{CsiDriver, CsiVolume, SecretName, VolumeUsage};
use plugins::CallError;
use plugins::csi::{self, VolumeUse};
use telemetry::metrics::Metrics;
use tokio::sync::OwnedMutexGuard;

pub use data::DataError;
pub use error::CsiError;
pub use expand::ExpandError;
pub use publish::Publication;

pub(crate) use data::VolumeData;
pub(crate) use found::find;
pub(crate) use place::{MOUNT, PLUGIN, Place};

use crate::locks::Locks;
use crate::objects::Objects;
use crate::timing::Timing;
use crate::tokens::TokenCache;

/// What a pod's access mode is where its volume says nothing.
const DEFAULT_ACCESS_MODE: &str = "ReadWriteOnce";

/// The volumes of CSI drivers below one root directory.
#[derive(Debug)]
pub struct CsiVolumes<O> {
    objects: O,
    /// Free of symbolic links, so that it compares with the mount table.
    root: PathBuf,
    node_name: String,
    tokens: TokenCache,
    /// By the folder of a volume, for the node or in its pod.
    locks: Locks<PathBuf>,
    timing: Timing,
    metrics: Arc<Metrics>,
}

/// One piece of work on a folder at a time.
type Guard = Arc<OwnedMutexGuard<()>>;

impl<O: Objects> CsiVolumes<O> {
    /// Volumes below the kubelet's root directory, which must exist. What is done with them is counted.
    pub fn new(root: &Path, objects: O, node_name: String, metrics: Arc<Metrics>) -> Self {
        let root = std::fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
        let timing = Timing::new(Arc::clone(&metrics));
        Self {
            objects,
            root,
            node_name,
            tokens: TokenCache::default(),
            locks: Locks::default(),
            timing,
            metrics,
        }
    }

    /// What is in a secret; nothing where none is named. `of` is what names it.
    async fn secrets(
        &self,
        of: &'static str,
        name: Option<&SecretName>,
    ) -> Result<BTreeMap<String, String>, CsiError> {
        let Some(name) = name else { return Ok(BTreeMap::new()) };
        let failed = |cause: String| CsiError::Secret { of, name: name.clone(), cause };
        let secret = self.objects.secret(&name.namespace, &name.name).await;
        let secret = secret.map_err(|error| failed(error.to_string()))?;
        let mut values = BTreeMap::new();
        for (key, value) in secret.data.iter().flatten() {
            let text = String::from_utf8(value.0.clone());
            // Not what is in it.
            let text = text.map_err(|_| failed(format!("its key {key:?} is not valid UTF-8")))?;
            values.insert(key.clone(), text);
        }
        Ok(values)
    }

    /// What a volume takes that is published at a path (`NodeGetVolumeStats`); `None` when the driver does not say.
    ///
    /// # Errors
    /// The driver cannot be reached, does not answer, or refuses.
    pub async fn usage(
        &self,
        driver: &CsiDriver,
        handle: &str,
        path: &Path,
    ) -> Result<Option<VolumeUsage>, CallError> {
        let path = path.to_string_lossy();
        let asked = csi::node_get_volume_stats(&driver.endpoint, handle, &path);
        self.call(driver, "NodeGetVolumeStats", asked).await
    }

    /// Calls a driver, and counts it.
    async fn call<T>(
        &self,
        driver: &CsiDriver,
        call: &'static str,
        work: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let begun = Instant::now();
        let answer = work.await;
        let code = answer.as_ref().map_or_else(|error| error.source.code(), |_| "OK".to_owned());
        let method = format!("/csi.v1.Node/{call}");
        let labels = [driver.name.as_str(), code.as_str(), method.as_str(), "false"];
        self.metrics.csi_operations.with(labels).observe_duration(begun.elapsed());
        answer
    }
}

/// How a volume is to be used.
fn volume_use(volume: CsiVolume<'_>, driver: &CsiDriver, fs_group: Option<i64>) -> VolumeUse {
    VolumeUse {
        access_mode: volume.access_modes.first().map_or_else(|| DEFAULT_ACCESS_MODE.to_owned(), Clone::clone),
        knows_single_writers: driver.capabilities.knows_single_writers,
        fs_type: volume.csi().fs_type.clone(),
        mount_options: volume.mount_options.clone(),
        group: fs_group.filter(|_| driver.capabilities.mounts_with_group),
    }
}

/// The folder name of upstream's plugin for a driver.
fn plugin_of(driver: &str) -> String {
    format!("{PLUGIN}:{driver}")
}

/// Work that blocks, on a thread that may. The folder it is about is nobody else's until it ends, whether anybody waits for
/// that or not.
async fn blocking<T: Send + 'static>(
    guard: &Guard,
    work: impl FnOnce() -> Result<T, CsiError> + Send + 'static,
) -> Result<T, CsiError> {
    let guard = Arc::clone(guard);
    let done = tokio::task::spawn_blocking(move || {
        let _guard = guard;
        work()
    });
    done.await.unwrap_or(Err(CsiError::Interrupted))
}

#[cfg(test)]
mod tests;
