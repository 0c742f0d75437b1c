//! Expansion: the file system of a volume is made as large as the volume has become.

use std::time::Instant;

use model::PodUid;
use model::storage::{CsiDriver, CsiVolume};
use plugins::csi::{self, ExpandRequest};
use plugins::{CallFailure, Code};

use super::{CsiError, CsiVolumes, Place, plugin_of, volume_use};
use crate::objects::Objects;
use crate::timing::Operation;

/// A volume that was not expanded, in upstream's texts.
#[derive(Debug, thiserror::Error)]
pub enum ExpandError {
    /// The driver expands nothing (it lacks the capability `EXPAND_VOLUME`).
    #[error("NodeExpand is not supported by the CSI driver {0}")]
    Unsupported(String),
    /// The driver was not called.
    #[error("expander.NodeExpand failed to get NodeExpandSecretRef: {0}")]
    Prepare(#[source] CsiError),
    /// The driver does not do it as long as the volume is in use.
    #[error("Expander.NodeExpand failed to expand the volume : {0}")]
    InUse(CallFailure),
    /// The volume cannot be of that size, now or later.
    #[error("Expander.NodeExpand failed to expand the volume {0}")]
    Infeasible(CallFailure),
    /// The driver was called and has not done it, as far as it says.
    #[error("Expander.NodeExpand failed to expand the volume : {0}")]
    Call(CallFailure),
}

impl From<CallFailure> for ExpandError {
    fn from(failure: CallFailure) -> Self {
        match &failure {
            CallFailure::Refused(status) => match status.code() {
                Code::FailedPrecondition => Self::InUse(failure),
                Code::InvalidArgument | Code::OutOfRange | Code::NotFound => Self::Infeasible(failure),
                _ => Self::Call(failure),
            },
            CallFailure::Connect(_) | CallFailure::Silent => Self::Call(failure),
        }
    }
}

impl<O: Objects> CsiVolumes<O> {
    /// Has a volume expanded to so many bytes (`NodeExpandVolume`), which is published for a pod.
    ///
    /// # Errors
    /// See [`ExpandError`].
    pub async fn expand(
        &self,
        volume: CsiVolume<'_>,
        driver: &CsiDriver,
        uid: &PodUid,
        size: u64,
    ) -> Result<(), ExpandError> {
        if !driver.capabilities.expands {
            return Err(ExpandError::Unsupported(driver.name.clone()));
        }
        let begun = Instant::now();
        let result = self.ask_to_expand(volume, driver, uid, size).await;
        let plugin = plugin_of(&driver.name);
        self.timing.note(&plugin, Operation::Resize, result.is_ok(), begun.elapsed());
        result
    }

    async fn ask_to_expand(
        &self,
        volume: CsiVolume<'_>,
        driver: &CsiDriver,
        uid: &PodUid,
        size: u64,
    ) -> Result<(), ExpandError> {
        let source = volume.csi();
        let prepare = |cause| {
            ExpandError::Prepare(CsiError::Prepare {
                during: "expander.NodeExpand failed to find the volume",
                cause,
            })
        };
        let secrets = self.secrets("NodeExpandSecretRef", source.expand_secret.as_ref()).await;
        let target = Place::published(&self.root, uid, &volume.folder).map_err(prepare)?;
        let staging = match driver.capabilities.stages {
            true => Some(Place::staged(&self.root, &source.driver, &source.handle).map_err(prepare)?),
            false => None,
        };
        let path = |place: Place| place.mount().to_string_lossy().into_owned();
        let request = ExpandRequest {
            handle: source.handle.clone(),
            path: path(target),
            staging_path: staging.map(path).unwrap_or_default(),
            volume_use: volume_use(volume, driver, None),
            size,
            secrets: secrets.map_err(ExpandError::Prepare)?,
        };
        let asked = csi::node_expand_volume(&driver.endpoint, request);
        self.call(driver, "NodeExpandVolume", asked).await.map_err(|error| error.source.into())
    }
}
