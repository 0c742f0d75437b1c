//! One volume of a pod on its way: claim, driver, attachment, stage, publication. Each round of the pod takes it as far as it
//! goes, and says what is in the way.

use std::collections::BTreeMap;
use std::time::Duration;

use model::storage::{CSI_PLUGIN, CsiDriver, Mounter, MounterName, VolumeMode, VolumeName};
use model::{AllocatedPod, PodUid};

use super::node_volume::{NodeVolume, Publication};
use super::placement;
use super::uses::{self, UseSource};
use super::{Drivers, GrowthEvent, Preparation, Surroundings, Volumes};
use crate::effect::{StorageAction, VolumeFailure, VolumeStage};
use crate::pods::backoff::Retry;
use crate::schedule::earliest;
use crate::tasks::Owner;

/// How often a volume is published again whose driver wants that (`requiresRepublish`): upstream does it whenever it looks at
/// a pod, which is about as often.
const REPUBLISH_PERIOD: Duration = Duration::from_secs(60);

/// How far a volume has come in a round.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) is_there: bool,
    pub(super) is_unattached: bool,
    /// This node may not have it.
    pub(super) is_misplaced: bool,
    pub(super) problem: Option<Problem>,
    /// When something happens by itself.
    pub(super) next: Option<Duration>,
    /// What is to be told of its growth.
    pub(super) told: Option<GrowthEvent>,
}

/// What is wrong.
#[derive(Debug)]
pub(super) struct Problem {
    stage: VolumeStage,
    message: String,
    failures: u32,
}

impl Progress {
    pub(super) fn failing(stage: VolumeStage, retry: &Retry) -> Self {
        let problem = Problem { stage, message: retry.error.clone(), failures: retry.failures };
        Self { problem: Some(problem), next: Some(retry.next_at), ..Self::default() }
    }

    /// What is not going to change by itself.
    fn refused(stage: VolumeStage, message: String) -> Self {
        Self { problem: Some(Problem { stage, message, failures: 1 }), ..Self::default() }
    }

    /// Under way, perhaps again.
    fn trying(retry: Option<&Retry>) -> Self {
        match retry {
            Some(retry) => Self { next: None, ..Self::failing(VolumeStage::Mounting, retry) },
            None => Self::default(),
        }
    }
}

impl Volumes {
    /// Takes a volume of a pod as far as it goes.
    pub(super) fn advance(
        &mut self,
        uid: &PodUid,
        name: &str,
        pod: &AllocatedPod,
        around: &mut Surroundings<'_>,
        preparation: &mut Preparation,
    ) {
        let progress = self.progress(uid, name, pod, around);
        let next = progress.next.filter(|at| *at > around.now.mono);
        preparation.next = earliest(preparation.next, next);
        preparation.growth.extend(progress.told);
        let known = self.pods.get_mut(uid).and_then(|known| known.wanted.get_mut(name));
        let Some(wanted) = known else { return };
        if !progress.is_there {
            preparation.missing.unmounted.push(name.to_owned());
        }
        if progress.is_unattached {
            preparation.missing.unattached.push(name.to_owned());
        }
        let Some(Problem { stage, message, failures }) = progress.problem else {
            if progress.is_there {
                wanted.is_well();
            }
            return;
        };
        if stage == VolumeStage::Processing {
            preparation.missing.unprocessed.push(name.to_owned());
        }
        if wanted.is_news(&message, failures) {
            preparation.news.push(VolumeFailure { volume: name.to_owned(), stage, message });
        }
    }

    fn progress(
        &mut self,
        uid: &PodUid,
        name: &str,
        pod: &AllocatedPod,
        around: &mut Surroundings<'_>,
    ) -> Progress {
        let Some(wanted) = self.pods.get(uid).and_then(|known| known.wanted.get(name)) else {
            return Progress::default();
        };
        let Some(volume_name) = wanted.volume.clone() else {
            let UseSource::Claim { name: claim, .. } = &wanted.source else { return Progress::default() };
            let retry = self.claims.ask(claim, uid, around.now, around.out);
            if wanted.is_refused {
                let next = retry.map(|retry| retry.next_at);
                return Progress {
                    next,
                    ..Progress::refused(VolumeStage::Processing, uses::not_own(claim, pod))
                };
            }
            return retry
                .map_or_else(Progress::default, |retry| Progress::failing(VolumeStage::Processing, retry));
        };
        let Some(volume) = self.volumes.get_mut(&volume_name) else { return Progress::default() };
        if let Some(refusal) = refusal_of_mode(pod, name, volume) {
            return Progress::refused(VolumeStage::Processing, refusal);
        }
        let turn = Turn { drivers: &self.drivers, name: &volume_name, uid, pod, pod_volume: name };
        let progress = turn.take(volume, around);
        if let Some(claim) = volume.size.rereads(around.now).filter(|_| turn.may_grow(volume)) {
            self.claims.ask(&claim, uid, around.now, around.out);
        }
        let waiting =
            [(&mut self.attaching, progress.is_unattached), (&mut self.misplaced, progress.is_misplaced)];
        for (names, is_one) in waiting {
            match is_one {
                true => names.insert(volume_name.clone()),
                false => names.remove(&volume_name),
            };
        }
        progress
    }
}

/// Why a volume cannot be used as its pod uses it.
fn refusal_of_mode(pod: &AllocatedPod, name: &str, volume: &NodeVolume) -> Option<String> {
    let mode = volume.spec.as_ref().map(|spec| spec.mode).unwrap_or_default();
    let (is_mounted, is_device) = uses::ways_of_use(pod, name);
    let said =
        |field: &str| format!("volume {name} has volumeMode {}, but is specified in {field}", mode.as_str());
    match mode {
        VolumeMode::Block if is_mounted => Some(said("volumeMounts")),
        VolumeMode::Filesystem if is_device => Some(said("volumeDevices")),
        // Devices cannot be had yet.
        VolumeMode::Block => {
            let plugin = volume.mounter.plugin();
            Some(format!("volume plugin {plugin:?} is not supported for block volumes"))
        }
        VolumeMode::Filesystem => None,
    }
}

/// A volume's turn in a round of a pod.
pub(super) struct Turn<'a> {
    drivers: &'a Drivers,
    pub(super) name: &'a VolumeName,
    pub(super) uid: &'a PodUid,
    pub(super) pod: &'a AllocatedPod,
    /// The volume's name in the pod.
    pod_volume: &'a str,
}

impl Turn<'_> {
    fn take(&self, volume: &mut NodeVolume, around: &mut Surroundings<'_>) -> Progress {
        let driver = volume.mounter.driver();
        if driver.is_some() && self.drivers.objects.is_none() {
            // What the cluster says of drivers was not listed yet.
            return Progress::default();
        }
        let is_unattached =
            !volume.stage.is_there() && volume.attach(self.name, self.drivers, around).is_some();
        if is_unattached {
            let next = volume.retry.as_ref().map(|retry| retry.next_at);
            volume.waiting.insert(self.uid.clone());
            return Progress { is_unattached, next, ..Progress::trying(volume.retry.as_ref()) };
        }
        if let Some(refusal) = self.refusal_of_placement(volume, around) {
            return refusal;
        }
        let mounter = match self.drivers.mounter(&volume.mounter) {
            Some(mounter) => mounter,
            None => return self.without_driver(volume),
        };
        if let Mounter::Csi(driver) = &mounter
            && let Some(error) = refusal_of_lifecycle(driver, volume.is_ephemeral)
        {
            return Progress::refused(VolumeStage::Mounting, set_up(volume, self.uid, &error));
        }
        match volume.may_be_published() {
            true => {
                let progress = self.publish(volume, &mounter, around);
                match &mounter {
                    Mounter::Csi(driver) if progress.is_there => self.grow(volume, driver, around, progress),
                    _ => progress,
                }
            }
            false => self.stage(volume, &mounter, around),
        }
    }

    /// Why a volume that is not there for the pod cannot be had by this node, or not like this.
    fn refusal_of_placement(&self, volume: &NodeVolume, around: &Surroundings<'_>) -> Option<Progress> {
        let spec = volume.spec.as_ref()?;
        if volume.users.get(self.uid).is_some_and(|user| user.presence.is_there()) {
            return None;
        }
        let failed = |step: &str, why: &str| {
            let message = format!("MountVolume.{step} check failed for volume {:?} : {why}", spec.folder);
            Progress::refused(VolumeStage::Mounting, message)
        };
        match placement::placement(spec, around.node) {
            // It is not known yet what the node is like.
            None => return Some(Progress { is_misplaced: true, ..Progress::default() }),
            Some(false) => {
                let refused = failed("NodeAffinity", "no matching NodeSelectorTerms");
                return Some(Progress { is_misplaced: true, ..refused });
            }
            Some(true) => {}
        }
        match &volume.mounter {
            MounterName::Host(plugin) if !plugin.takes_mount_options() && !spec.mount_options.is_empty() => {
                Some(failed("MountOptionSupport", "mount options are not supported for this volume type"))
            }
            _ => None,
        }
    }

    /// Whether a volume may have to grow that the pod has.
    fn may_grow(&self, volume: &NodeVolume) -> bool {
        let driver = volume.mounter.driver().and_then(|driver| self.drivers.callable.get(driver));
        let user = volume.users.get(self.uid).filter(|user| user.presence.is_there() && !user.is_read_only);
        driver.zip(user).is_some_and(|(driver, user)| driver.capabilities.expands || !user.is_handed_over)
    }

    fn without_driver(&self, volume: &NodeVolume) -> Progress {
        let is_there = volume.users.get(self.uid).is_some_and(|user| user.presence.is_there());
        if is_there {
            return Progress { is_there, ..Progress::default() };
        }
        let driver = volume.mounter.driver().unwrap_or_default();
        let missing = format!("driver name {driver} not found in the list of registered CSI drivers");
        let message = if volume.may_be_published() {
            set_up(volume, self.uid, &format!("mounter.SetUpAt failed to get CSI client: {missing}"))
        } else {
            let folder = volume.spec.as_ref().map_or("", |spec| spec.folder.as_str());
            format!(
                "MountVolume.MountDevice failed for volume {folder:?} : {CSI_PLUGIN}: attacher.MountDevice failed to create \
                 newCsiDriverClient: {missing}"
            )
        };
        Progress::refused(VolumeStage::Mounting, message)
    }

    /// Stages it; one that may still be on its way out goes first.
    fn stage(&self, volume: &mut NodeVolume, mounter: &Mounter, around: &mut Surroundings<'_>) -> Progress {
        let owner = Owner::Volume(self.name.clone());
        if volume.is_called || around.out.is_open(&owner) {
            volume.waiting.insert(self.uid.clone());
            return Progress::trying(volume.retry.as_ref());
        }
        if !NodeVolume::is_due(volume.retry.as_ref(), around.now)
            && let Some(retry) = &volume.retry
        {
            return Progress::failing(VolumeStage::Mounting, retry);
        }
        let Some(spec) = volume.spec.clone() else { return Progress::default() };
        volume.waiting.insert(self.uid.clone());
        if volume.stage.make() {
            volume.is_called = true;
            let security = self.pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
            let action = StorageAction::Stage {
                volume: spec,
                mounter: mounter.clone(),
                publish_context: context(volume),
                fs_group: security.and_then(|security| security.fs_group),
            };
            around.out.start(owner, action);
        } else if !volume.is_published() && volume.stage.remove() {
            volume.is_called = true;
            let (name, handle) = (self.name.clone(), volume.handle.clone());
            let mounter = mounter.clone();
            around.out.start(owner, StorageAction::Unstage { volume: name, handle, mounter });
        }
        Progress::trying(volume.retry.as_ref())
    }

    fn publish(&self, volume: &mut NodeVolume, mounter: &Mounter, around: &mut Surroundings<'_>) -> Progress {
        let (spec, context, is_busy) = (volume.spec.clone(), context(volume), volume.is_called);
        if volume.is_refused_to(self.uid) {
            volume.waiting.insert(self.uid.clone());
            let error = "volume uses the ReadWriteOncePod access mode and is already in use by another pod";
            let folder = spec.map(|spec| spec.folder.clone()).unwrap_or_default();
            let message = format!("MountVolume.SetUp failed for volume {folder:?} : {error}");
            return Progress::refused(VolumeStage::Mounting, message);
        }
        let Some(publication) = volume.users.get_mut(self.uid) else { return Progress::default() };
        let Some(spec) = spec else { return Progress::default() };
        let is_there = publication.presence.is_there();
        let again_at = republish_at(publication, mounter);
        let is_wanted = !is_there || again_at.is_some_and(|at| at <= around.now.mono);
        if !is_wanted || publication.presence.is_changing() {
            return Progress { is_there, next: again_at, ..Progress::trying(publication.retry.as_ref()) };
        }
        if is_busy {
            volume.waiting.insert(self.uid.clone());
            return Progress { is_there, ..Progress::trying(publication.retry.as_ref()) };
        }
        if !NodeVolume::is_due(publication.retry.as_ref(), around.now)
            && let Some(retry) = &publication.retry
        {
            return Progress { is_there, ..Progress::failing(VolumeStage::Mounting, retry) };
        }
        if publication.presence.make() {
            volume.is_called = true;
            let action = StorageAction::Publish {
                pod: self.pod.clone(),
                name: self.pod_volume.to_owned(),
                volume: spec,
                mounter: mounter.clone(),
                publish_context: context,
                is_read_only: publication.is_read_only,
                is_again: is_there,
            };
            around.out.start(Owner::Publication(self.uid.clone(), self.name.clone()), action);
        }
        Progress { is_there, ..Progress::trying(publication.retry.as_ref()) }
    }
}

fn context(volume: &NodeVolume) -> BTreeMap<String, String> {
    volume.publish_context.clone().unwrap_or_default()
}

/// When a driver is to be asked again for a volume that is there.
fn republish_at(publication: &Publication, mounter: &Mounter) -> Option<Duration> {
    let Mounter::Csi(driver) = mounter else { return None };
    let since = publication.presence.since().filter(|_| driver.object.requires_republish)?;
    Some(since.saturating_add(REPUBLISH_PERIOD))
}

/// Why a driver does not make such volumes, in upstream's words.
fn refusal_of_lifecycle(driver: &CsiDriver, is_ephemeral: bool) -> Option<String> {
    let (object, name) = (&driver.object, &driver.name);
    let (is_served, mode) = match is_ephemeral {
        true => (object.is_ephemeral, "Ephemeral"),
        false => (object.is_persistent, "Persistent"),
    };
    if is_served {
        return None;
    }
    let why = if object.is_there {
        let served = [(object.is_persistent, "\"Persistent\""), (object.is_ephemeral, "\"Ephemeral\"")];
        let served: Vec<&str> =
            served.iter().filter(|(is_served, _)| *is_served).map(|(_, name)| *name).collect();
        format!("volume mode {mode:?} not supported by driver {name} (only supports [{}])", served.join(" "))
    } else {
        format!("volume mode {mode:?} not supported by driver {name} (no CSIDriver object)")
    };
    Some(format!("mounter.SetupAt failed to check volume lifecycle mode: {why}"))
}

/// Upstream's words for a volume that cannot be published.
fn set_up(volume: &NodeVolume, uid: &PodUid, error: &str) -> String {
    let folder = volume.users.get(uid).map_or("", |user| user.folder.as_str());
    format!("MountVolume.SetUp failed for volume {folder:?} : {CSI_PLUGIN}: {error}")
}

#[cfg(test)]
mod tests {
    use model::storage::CsiDriverObject;

    use super::*;

    #[test]
    fn lifecycles() {
        let refused = |is_ephemeral, object: CsiDriverObject| {
            let driver = CsiDriver { name: "d".to_owned(), object, ..CsiDriver::default() };
            refusal_of_lifecycle(&driver, is_ephemeral)
        };
        let only = |is_ephemeral: bool| CsiDriverObject {
            is_there: true,
            is_ephemeral,
            is_persistent: !is_ephemeral,
            ..CsiDriverObject::default()
        };
        assert_eq!(refused(false, CsiDriverObject::default()), None);
        assert_eq!((refused(false, only(false)), refused(true, only(true))), (None, None));
        let text = |mode: &str, has: &str| {
            Some(format!(
                "mounter.SetupAt failed to check volume lifecycle mode: volume mode \"{mode}\" not supported by driver d \
                 ({has})"
            ))
        };
        assert_eq!(refused(true, CsiDriverObject::default()), text("Ephemeral", "no CSIDriver object"));
        assert_eq!(refused(true, only(false)), text("Ephemeral", "only supports [\"Persistent\"]"));
        assert_eq!(refused(false, only(true)), text("Persistent", "only supports [\"Ephemeral\"]"));
    }
}
