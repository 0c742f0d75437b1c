//! What pods and the node wait for at volumes that are mounted one by one: each volume by its name, with its step and who is to act.

use model::PodUid;
use model::storage::MounterName;

use super::Volumes;
use super::uses::{Use, UseSource};
use crate::pods::backoff::Retry;
use crate::wait::{Found, VolumeStep, WaitOn};

impl Volumes {
    /// Finds what a pod waits for that is to run.
    pub(crate) fn find_preparation(&self, uid: &PodUid, found: &mut Found) {
        let Some(known) = self.pods.get(uid) else { return };
        for (name, wanted) in &known.wanted {
            if let Some((step, retry)) = self.missing_step(uid, wanted) {
                found.retrying(WaitOn::DriverVolume { volume: name.clone(), step }, retry);
            }
        }
    }

    fn missing_step(&self, uid: &PodUid, wanted: &Use) -> Option<(VolumeStep, Option<&Retry>)> {
        let Some(name) = &wanted.volume else {
            let UseSource::Claim { name: claim, .. } = &wanted.source else { return None };
            return Some((VolumeStep::Claim(claim.to_string()), self.claims.retry(claim)));
        };
        let volume = self.volumes.get(name)?;
        let publication = volume.users.get(uid)?;
        if publication.presence.is_there() {
            let driver =
                volume.mounter.driver().filter(|_| !publication.is_handed_over && volume.has_to_grow())?;
            return Some((VolumeStep::Grow(driver.to_owned()), volume.size.retry.as_ref()));
        }
        if self.misplaced.contains(name) {
            return Some((VolumeStep::Placement, None));
        }
        let mounter = &volume.mounter;
        Some(match mounter {
            MounterName::Csi(driver) if !volume.may_be_published() && self.attaching.contains(name) => {
                (VolumeStep::Attach(driver.clone()), volume.retry.as_ref())
            }
            MounterName::Csi(driver) if !self.drivers.can_call(mounter) => {
                (VolumeStep::Driver(driver.clone()), None)
            }
            _ if !volume.may_be_published() => (VolumeStep::Stage(mounter.clone()), volume.retry.as_ref()),
            _ => (VolumeStep::Publish(mounter.clone()), publication.retry.as_ref()),
        })
    }

    /// Finds what a pod still has that has ended.
    pub(crate) fn find_removal(&self, uid: &PodUid, found: &mut Found) {
        let names = self.pods.get(uid).into_iter().flat_map(|known| &known.volumes);
        for volume in names.filter_map(|name| self.volumes.get(name)) {
            let Some(publication) = volume.users.get(uid) else { continue };
            let step = self.removal(&volume.mounter, VolumeStep::Unpublish);
            let on = WaitOn::DriverVolume { volume: publication.folder.clone(), step };
            found.retrying(on, publication.retry.as_ref());
        }
    }

    fn removal(&self, mounter: &MounterName, step: fn(MounterName) -> VolumeStep) -> VolumeStep {
        match mounter {
            MounterName::Csi(driver) if !self.drivers.can_call(mounter) => VolumeStep::Driver(driver.clone()),
            _ => step(mounter.clone()),
        }
    }

    /// Finds what is still on the node though no pod uses it.
    pub(crate) fn find_unused(&self, found: &mut Found) {
        for (name, volume) in self.idle.iter().filter_map(|name| Some((name, self.volumes.get(name)?))) {
            let step = self.removal(&volume.mounter, VolumeStep::Unstage);
            found.retrying(WaitOn::DriverVolume { volume: name.to_string(), step }, volume.retry.as_ref());
        }
    }
}
