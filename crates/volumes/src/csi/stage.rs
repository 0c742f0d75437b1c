//! Staging: a volume is made ready for all pods of the node, and taken from it when none is left.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::storage::{CsiDriver, CsiVolume};
use plugins::CallError;
use plugins::csi::{self, Certainty, StageRequest};

use super::data::VolumeData;
use super::{CsiError, CsiVolumes, Guard, Place, blocking, plugin_of, volume_use};
use crate::error::chain;
use crate::objects::Objects;
use crate::timing::Operation;

impl<O: Objects> CsiVolumes<O> {
    /// Has a volume staged (`NodeStageVolume`). One that is staged already is the driver's to recognize. When the driver says
    /// that it has not done it, nothing is left on disk. A driver that stages no volumes is not called.
    ///
    /// # Errors
    /// See [`CsiError`].
    pub async fn stage(
        &self,
        volume: CsiVolume<'_>,
        driver: &CsiDriver,
        publish_context: &BTreeMap<String, String>,
        fs_group: Option<i64>,
    ) -> Result<(), CsiError> {
        let source = volume.csi();
        let prepare =
            |cause| CsiError::Prepare { during: "attacher.MountDevice failed to create dir", cause };
        let place = Place::staged(&self.root, &source.driver, &source.handle).map_err(prepare)?;
        let secret = source.stage_secret.as_ref().filter(|_| driver.capabilities.stages);
        let secrets = self.secrets("NodeStageSecretRef", secret).await?;
        let guard = Arc::new(self.locks.lock(&place.folder()).await);
        let (made, data) = (place.clone(), VolumeData::staged(source));
        let make = move || made.make(&data).and_then(|()| made.make_mount_point()).map_err(prepare);
        blocking(&guard, make).await?;
        if !driver.capabilities.stages {
            return Ok(());
        }
        let request = StageRequest {
            handle: source.handle.clone(),
            staging_path: place.mount().to_string_lossy().into_owned(),
            volume_use: volume_use(volume, driver, fs_group),
            publish_context: publish_context.clone(),
            secrets,
            attributes: source.attributes.clone(),
        };
        let asked = csi::node_stage_volume(&driver.endpoint, request);
        match self.call(driver, "NodeStageVolume", asked).await {
            Ok(()) => Ok(()),
            Err(CallError { source: cause, .. }) => {
                if cause.certainty() == Certainty::Final {
                    give_up(&guard, place).await?;
                }
                Err(CsiError::Call { during: "", cause })
            }
        }
    }

    /// Has a volume unstaged (`NodeUnstageVolume`), and removes what was made for it. What is not there any more is fine: the
    /// driver is not called when nothing on disk tells of the volume.
    ///
    /// # Errors
    /// See [`CsiError`].
    pub async fn unstage(&self, handle: &str, driver: &CsiDriver) -> Result<(), CsiError> {
        let clean_up = |cause| CsiError::CleanUp { during: "failed to clean up global mount", cause };
        let place = Place::staged(&self.root, &driver.name, handle).map_err(clean_up)?;
        let guard = Arc::new(self.locks.lock(&place.folder()).await);
        let looked = place.clone();
        let content = blocking(&guard, move || looked.content().map_err(clean_up)).await?;
        let begun = std::time::Instant::now();
        let result = async {
            if driver.capabilities.stages && (content.has_data || content.is_mounted) {
                let path = place.mount().to_string_lossy().into_owned();
                let asked = csi::node_unstage_volume(&driver.endpoint, handle, &path);
                let during = "kubernetes.io/csi: attacher.UnmountDevice failed: ";
                let answer = self.call(driver, "NodeUnstageVolume", asked).await;
                answer.map_err(|error| CsiError::Call { during, cause: error.source })?;
            }
            let path = place.mount();
            blocking(&guard, move || match place.remove().map_err(clean_up)? {
                true => Ok(()),
                false => Err(CsiError::StillMounted { path }),
            })
            .await
        };
        let result = result.await;
        let plugin = plugin_of(&driver.name);
        self.timing.note(&plugin, Operation::UnmountDevice, result.is_ok(), begun.elapsed());
        result
    }
}

/// Removes what was made for a call that was not carried out. A mount of an earlier call stays, with what tells of it.
pub(super) async fn give_up(guard: &Guard, place: Place) -> Result<(), CsiError> {
    let remove = move || {
        if let Err(error) = place.remove() {
            tracing::warn!(
                path = %place.folder().display(),
                err = chain(&error),
                "Failed to remove the folder of a CSI volume that was not mounted, will retry with the volume"
            );
        }
        Ok(())
    };
    blocking(guard, remove).await
}
