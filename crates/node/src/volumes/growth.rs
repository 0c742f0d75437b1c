//! Growth of volumes while pods have them: the node reads their claims again now and then, has the driver make the file system
//! as large as the volume has become, and lets the claim tell of it. A pod that starts waits for that; one that runs does not.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::reason::event;
use model::storage::{BoundClaim, ClaimName, CsiDriver, VolumeSpec};
use model::{Now, PodUid};

use super::advance::{Progress, Turn};
use super::node_volume::NodeVolume;
use super::{GrowthEvent, Surroundings, Volumes};
use crate::effect::{StorageAction, VolumeStage};
use crate::pods::backoff::Retry;
use crate::schedule::earliest;
use crate::tasks::Owner;

impl NodeVolume {
    /// Whether a pod that starts has to wait for it to grow.
    pub(super) fn has_to_grow(&self) -> bool {
        let is_wanted = || self.spec.as_ref().is_some_and(|spec| self.size.wanted(spec).is_some());
        self.size.is_changing() || is_wanted()
    }
}

impl Turn<'_> {
    /// Has a volume grown that is there for the pod.
    pub(super) fn grow(
        &self,
        volume: &mut NodeVolume,
        driver: &CsiDriver,
        around: &mut Surroundings<'_>,
        progress: Progress,
    ) -> Progress {
        let (Some(spec), Some(publication)) = (volume.spec.clone(), volume.users.get_mut(self.uid)) else {
            return progress;
        };
        let is_first = !publication.is_handed_over;
        if publication.is_read_only {
            // As upstream, which grows what a pod may write to.
            publication.is_handed_over = true;
            let told = (is_first && volume.has_to_grow()).then(|| read_only(volume, &spec));
            return Progress { told, ..progress };
        }
        if !driver.capabilities.expands {
            volume.size.settle_without_driver(&spec, is_first);
        }
        let mut progress = Progress { next: earliest(progress.next, volume.size.read_at()), ..progress };
        progress.told = self.news(volume, &spec, is_first);
        if !volume.has_to_grow() {
            if let Some(publication) = volume.users.get_mut(self.uid) {
                publication.is_handed_over = true;
            }
            return progress;
        }
        if volume.size.rereads(around.now).is_none() && volume.size.retry_is_due(around.now) {
            self.begin_growth(volume, &spec, driver, around);
        }
        volume.waiting.insert(self.uid.clone());
        match &volume.size.retry {
            _ if !is_first => progress,
            Some(retry) => {
                let message = format!(
                    "MountVolume.Setup failed while expanding volume for volume {:?} : {}",
                    spec.folder, retry.error
                );
                let failing = Retry { error: message, ..retry.clone() };
                Progress { told: progress.told, ..Progress::failing(VolumeStage::Mounting, &failing) }
            }
            None => Progress { is_there: false, ..progress },
        }
    }

    fn begin_growth(
        &self,
        volume: &mut NodeVolume,
        spec: &Arc<VolumeSpec>,
        driver: &CsiDriver,
        around: &mut Surroundings<'_>,
    ) {
        let owner = Owner::Volume(self.name.clone());
        if volume.is_called || around.out.is_open(&owner) {
            return;
        }
        let Some((claim, claim_uid, growth)) = volume.size.wanted(spec) else { return };
        volume.size.under_way = Some(growth.clone());
        volume.is_called = true;
        let action = StorageAction::Grow {
            volume: spec.clone(),
            driver: driver.clone(),
            uid: self.uid.clone(),
            claim,
            claim_uid,
            growth,
        };
        around.out.start(owner, action);
    }

    /// What came of it. Who starts is told why it does not, elsewhere.
    fn news(&self, volume: &mut NodeVolume, spec: &VolumeSpec, is_first: bool) -> Option<GrowthEvent> {
        let folder = &spec.folder;
        match volume.size.news.take()? {
            Ok(()) => {
                let node = self.pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
                Some(GrowthEvent {
                    claim: volume.size.about(),
                    is_warning: false,
                    reason: event::FILE_SYSTEM_RESIZE_SUCCESSFUL,
                    message: format!("MountVolume.NodeExpandVolume succeeded for volume {folder:?} {node}"),
                })
            }
            Err(_) if is_first => None,
            Err(error) => Some(GrowthEvent {
                claim: None,
                is_warning: true,
                reason: event::VOLUME_RESIZE_FAILED,
                message: format!("NodeExpandVolume.NodeExpandVolume failed for volume {folder:?} : {error}"),
            }),
        }
    }
}

/// Who may not write to a volume is told that it does not grow.
fn read_only(volume: &NodeVolume, spec: &VolumeSpec) -> GrowthEvent {
    let folder = &spec.folder;
    GrowthEvent {
        claim: volume.size.about(),
        is_warning: true,
        reason: event::FILE_SYSTEM_RESIZE_FAILED,
        message: format!(
            "MountVolume.NodeExpandVolume failed for volume {folder:?} requested read-only file system"
        ),
    }
}

impl Volumes {
    /// A claim was read again, or was not, of which pods have the volume already.
    pub(super) fn size_read(
        &mut self,
        claim: &ClaimName,
        pods: &BTreeSet<PodUid>,
        bound: Option<&BoundClaim>,
        now: Now,
    ) {
        for uid in pods {
            let Some(known) = self.pods.get(uid) else { continue };
            let uses = known.wanted.values().filter(|wanted| wanted.is_of(claim));
            for name in uses.filter_map(|wanted| wanted.volume.as_ref()) {
                let Some(volume) = self.volumes.get_mut(name) else { continue };
                match bound.filter(|bound| bound.volume.name == *name) {
                    Some(bound) => {
                        volume.spec = Some(bound.volume.clone());
                        volume.size.claim_says(claim, &bound.size, now);
                    }
                    None => {
                        volume.size.claim_unread(now);
                        self.claims.forget(claim, uid);
                    }
                }
            }
        }
    }
}
