//! Volumes that are mounted one by one, by drivers or by the kubelet itself: staged and published, and taken back.

use std::fmt::Display;
use std::sync::Arc;

use model::reason::event;
use model::storage::Mounter;
use model::{Pod, pod as pods};
use node::{EventObject, EventRecord, Failure, FailureKind, Outcome, StorageAction};
use plugins::csi::Certainty;
use volumes::{
    CsiError, CsiVolumes, GroupConflict, HostPublication, HostVolumeError, HostVolumes, Publication,
};

use super::api::Api;
use super::objects::ObjectPort;
use super::volume_growth::Growing;

/// Those who mount volumes, as effects use them.
pub(crate) struct Storage {
    pub(crate) csi: Arc<CsiVolumes<ObjectPort>>,
    pub(crate) host: HostVolumes,
    pub(crate) api: Arc<Api>,
}

impl Storage {
    pub(crate) async fn carry_out(&self, action: StorageAction) -> Outcome {
        let (csi, host) = (&self.csi, &self.host);
        match action {
            StorageAction::Stage { volume, mounter, publish_context, fs_group } => {
                match (mounter, volume.as_csi()) {
                    (Mounter::Csi(driver), Some(volume)) => {
                        of_driver(csi.stage(volume, &driver, &publish_context, fs_group).await)
                    }
                    (Mounter::Csi(_), None) => of_host(Err(HostVolumeError::OtherKind)),
                    (Mounter::Host(_), _) => of_host(host.stage(&volume).await),
                }
            }
            StorageAction::Unstage { volume: _, handle, mounter } => match mounter {
                Mounter::Csi(driver) => of_driver(csi.unstage(&handle, &driver).await),
                Mounter::Host(plugin) => of_host(host.unstage(plugin, &handle).await),
            },
            StorageAction::Publish {
                pod,
                name: _,
                volume,
                mounter,
                publish_context,
                is_read_only,
                is_again,
            } => match (mounter, volume.as_csi()) {
                (Mounter::Csi(driver), Some(volume)) => {
                    let publication = Publication {
                        pod: &pod,
                        volume,
                        driver: &driver,
                        publish_context: &publish_context,
                        is_read_only,
                        is_again,
                    };
                    of_driver(csi.publish(&publication).await)
                }
                (Mounter::Csi(_), None) => of_host(Err(HostVolumeError::OtherKind)),
                (Mounter::Host(_), _) => {
                    let publication = HostPublication { pod: &pod, volume: &volume, is_read_only };
                    let published = host.publish(publication).await;
                    of_host(published.map(|conflict| self.tell(&pod, conflict)))
                }
            },
            StorageAction::Unpublish { uid, key: _, folder, handle, mode: _, mounter } => match mounter {
                Mounter::Csi(driver) => of_driver(csi.unpublish(&uid, &folder, &handle, &driver).await),
                Mounter::Host(plugin) => of_host(host.unpublish(&uid, &folder, plugin).await),
            },
            StorageAction::Grow { volume, driver, uid, claim, claim_uid, growth } => match volume.as_csi() {
                Some(volume) => {
                    let growing = Growing { volume, driver: &driver, uid: &uid, growth: &growth };
                    self.grow(&growing, &claim, &claim_uid).await
                }
                None => of_host(Err(HostVolumeError::OtherKind)),
            },
        }
    }

    /// Tells a pod that the files of its volume are another group's.
    fn tell(&self, pod: &Pod, conflict: Option<GroupConflict>) {
        let Some(conflict) = conflict else { return };
        self.api.record(EventRecord {
            about: EventObject::Pod { key: pods::key(pod), uid: pods::uid(pod), field_path: None },
            is_warning: true,
            reason: event::ALREADY_MOUNTED_VOLUME.into(),
            message: conflict.to_string(),
        });
    }
}

fn of_driver(result: Result<(), CsiError>) -> Outcome {
    ended(result.map_err(|error| (error.certainty(), error)))
}

fn of_host(result: Result<(), HostVolumeError>) -> Outcome {
    ended(result.map_err(|error| (error.certainty(), error)))
}

fn ended(result: Result<(), (Option<Certainty>, impl Display)>) -> Outcome {
    let Err((certainty, error)) = result else { return Outcome::Done };
    Outcome::Failed(Failure { kind: kind_of_call(certainty), message: error.to_string() })
}

/// `None` for a call that was not made.
pub(super) fn kind_of_call(certainty: Option<Certainty>) -> FailureKind {
    match certainty {
        None => FailureKind::NotBegun,
        Some(Certainty::Final) => FailureKind::Other,
        Some(Certainty::Uncertain) => FailureKind::Uncertain,
        Some(Certainty::Busy) => FailureKind::Busy,
    }
}
