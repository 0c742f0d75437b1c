//! Volumes of drivers: staged and published, and taken back.

use std::sync::Arc;

use node::{Failure, FailureKind, Outcome, StorageAction};
use plugins::csi::Certainty;
use volumes::{CsiError, CsiVolumes, Publication};

use super::objects::ObjectPort;

/// Drivers of volumes as effects use them.
pub(crate) struct Storage {
    pub(crate) csi: Arc<CsiVolumes<ObjectPort>>,
}

impl Storage {
    pub(crate) async fn carry_out(&self, action: StorageAction) -> Outcome {
        let csi = &self.csi;
        ended(match action {
            StorageAction::Stage { volume, driver, publish_context, fs_group } => {
                csi.stage(&volume, &driver, &publish_context, fs_group).await
            }
            StorageAction::Unstage { volume: _, handle, driver } => csi.unstage(&handle, &driver).await,
            StorageAction::Publish {
                pod,
                name: _,
                volume,
                driver,
                publish_context,
                is_read_only,
                is_again,
            } => {
                let publication = Publication {
                    pod: &pod,
                    volume: &volume,
                    driver: &driver,
                    publish_context: &publish_context,
                    is_read_only,
                    is_again,
                };
                csi.publish(&publication).await
            }
            StorageAction::Unpublish { uid, key: _, folder, handle, mode: _, driver } => {
                csi.unpublish(&uid, &folder, &handle, &driver).await
            }
        })
    }
}

fn ended(result: Result<(), CsiError>) -> Outcome {
    let Err(error) = result else { return Outcome::Done };
    let kind = match error.certainty() {
        None => FailureKind::NotBegun,
        Some(Certainty::Final) => FailureKind::Other,
        Some(Certainty::Uncertain) => FailureKind::Uncertain,
        Some(Certainty::Busy) => FailureKind::Busy,
    };
    Outcome::Failed(Failure { kind, message: error.to_string() })
}
