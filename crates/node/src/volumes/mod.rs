//! Volumes that are mounted one by one, by CSI drivers or by the kubelet itself: which of them pods want, and how far each is, on
//! the node and in each pod.
//!
//! A volume is the node's: it is attached and staged once, however many pods use it, and unstaged when the last of them is
//! gone. Its publication is one pod's, and is gone before the pod's end is told. A pod brings closer what it wants in each of
//! its rounds ([`Volumes::prepare`], [`Volumes::release`]), and what came of a call names the pods that have a round for it:
//! there is no other list of pods to be gone through. Only what no pod uses any more is the part's own to drive.
//!
//! A restart is nothing special: what an earlier process has left counts as made by a call of which nobody knows how it
//! ended. It is made again where a pod wants it, which CSI allows, and removed where none does.

mod advance;
mod attach;
mod claims;
mod growth;
mod node_volume;
mod placement;
mod presence;
mod size;
mod uses;
mod waits;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node as ApiNode, NodeStatus};
use model::storage::{
    CsiDriver, CsiDriverObject, FoundVolumes, Mounter, MounterName, PublishedVolume, VolumeName, VolumeSpec,
};
use model::{AllocatedPod, Now, Pod, PodKey, PodUid, pod};
use serde::{Deserialize, Serialize};

use crate::effect::{EventObject, Outcome, StorageAction, VolumeFailure};
use crate::outbox::Outbox;
use crate::pods::missing_volumes::Missing;
use crate::schedule::earliest;
use crate::tasks::Owner;
use claims::Claims;
use node_volume::{NodeVolume, Publication};
use size::VolumeSize;
use uses::{PodUses, Use, UseSource};

/// The volumes that are mounted one by one, and what pods want of them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Volumes {
    drivers: Arc<Drivers>,
    claims: Claims,
    volumes: BTreeMap<VolumeName, NodeVolume>,
    pods: BTreeMap<PodUid, PodUses>,
    /// Those that no pod uses.
    idle: BTreeSet<VolumeName>,
    /// Those that pods wait for and that are not attached to the node yet.
    attaching: BTreeSet<VolumeName>,
    /// Those that pods wait for and that this node may not have.
    misplaced: BTreeSet<VolumeName>,
    /// Whether others may be in use than was last said.
    is_use_new: bool,
}

/// The drivers of volumes, as far as calls of them depend on that.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Drivers {
    /// Those that can be called, by name.
    pub callable: BTreeMap<String, CsiDriver>,
    /// What the cluster says of drivers, whether or not they are here; `None` before that was listed.
    pub(crate) objects: Option<BTreeMap<String, CsiDriverObject>>,
}

/// What is looked at, and where effects go.
pub(crate) struct Surroundings<'a> {
    pub(crate) now: Now,
    pub(crate) node_name: &'a str,
    /// The Node object as the API server holds it.
    pub(crate) node: Option<&'a ApiNode>,
    /// The node's status as the API server was last told.
    pub(crate) reported: Option<&'a NodeStatus>,
    /// The same of a write that is under way, or of which nobody knows how it ended.
    pub(crate) reporting: Option<&'a NodeStatus>,
    pub(crate) out: &'a mut Outbox,
}

/// How far the volumes of a pod are.
#[derive(Debug, Default)]
pub(crate) struct Preparation {
    /// Those that are not there, by their names in the pod.
    pub(crate) missing: Missing,
    /// What is to be told of them.
    pub(crate) news: Vec<VolumeFailure>,
    /// What is to be told of their growth.
    pub(crate) growth: Vec<GrowthEvent>,
    /// When something about them happens by itself; monotonic.
    pub(crate) next: Option<Duration>,
}

/// An event about a pod, and about the claim if that is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GrowthEvent {
    pub(crate) claim: Option<EventObject>,
    pub(crate) is_warning: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Volumes {
    // ---- what is known ----

    /// An earlier process has left these. Returns the pods that they are in.
    pub(crate) fn found(&mut self, found: &FoundVolumes) -> Vec<PodUid> {
        self.is_use_new = true;
        for publication in &found.published {
            let (name, volume) = NodeVolume::published(publication);
            self.pods.entry(publication.uid.clone()).or_default().volumes.insert(name.clone());
            let volume = self.volumes.entry(name).or_insert(volume);
            volume.users.insert(publication.uid.clone(), Publication::found(publication));
        }
        for stage in &found.staged {
            let (name, volume) = NodeVolume::staged(stage);
            if !self.volumes.contains_key(&name) {
                self.idle.insert(name.clone());
                self.volumes.insert(name, volume);
            }
        }
        found.published.iter().map(|publication| publication.uid.clone()).collect()
    }

    /// These are the drivers now. Returns the pods that others concern than before.
    pub(crate) fn drivers_are(&mut self, drivers: &Arc<Drivers>) -> BTreeSet<PodUid> {
        if Arc::ptr_eq(&self.drivers, drivers) || self.drivers == *drivers {
            self.drivers = drivers.clone();
            return BTreeSet::new();
        }
        self.is_use_new = true;
        let before = std::mem::replace(&mut self.drivers, drivers.clone());
        let is_first = before.objects.is_none() != drivers.objects.is_none();
        let differs = |name: &String| {
            is_first
                || before.callable.get(name) != drivers.callable.get(name)
                || before.object(name) != drivers.object(name)
        };
        let mut pods = BTreeSet::new();
        let is_concerned = |volume: &&mut NodeVolume| match &volume.mounter {
            MounterName::Csi(driver) => differs(driver),
            MounterName::Host(_) => false,
        };
        for volume in self.volumes.values_mut().filter(is_concerned) {
            // What it could not do before it may be able to do now.
            volume.hurry();
            pods.extend(volume.users.keys().cloned());
        }
        pods
    }

    /// The Node object is another one. Returns the pods that wait for what it says.
    pub(crate) fn node_changed(&self) -> BTreeSet<PodUid> {
        let waiting = self.attaching.iter().chain(&self.misplaced);
        let waiting = waiting.filter_map(|name| self.volumes.get(name));
        waiting.flat_map(|volume| volume.users.keys().cloned()).collect()
    }

    // ---- what pods want ----

    /// Brings the volumes closer that the containers of a pod use.
    pub(crate) fn prepare(&mut self, pod: &AllocatedPod, around: &mut Surroundings<'_>) -> Preparation {
        let mut preparation = Preparation::default();
        if !uses::has_any(pod) {
            return preparation;
        }
        let uid = pod::uid(pod);
        self.note_uses(&uid, pod);
        let names: Vec<String> =
            self.pods.get(&uid).into_iter().flat_map(|p| p.wanted.keys().cloned()).collect();
        for name in names {
            self.advance(&uid, &name, pod, around, &mut preparation);
        }
        preparation
    }

    /// Takes note of what a pod says of its volumes.
    fn note_uses(&mut self, uid: &PodUid, pod: &Pod) {
        for volume in pod::used_volumes(pod) {
            let Some(source) = UseSource::of(pod, volume) else { continue };
            let known = self.pods.entry(uid.clone()).or_default();
            if known.wanted.contains_key(&volume.name) {
                continue;
            }
            known.wanted.insert(volume.name.clone(), Use::new(source));
            if let Some((spec, is_read_only)) = VolumeSpec::of_inline(pod, volume) {
                self.use_volume(uid, &volume.name, &Arc::new(spec), is_read_only);
            }
        }
    }

    /// It is known which volume a pod means.
    fn use_volume(&mut self, uid: &PodUid, name: &str, spec: &Arc<VolumeSpec>, is_read_only: bool) {
        let Some(known) = self.pods.get_mut(uid) else { return };
        let Some(wanted) = known.wanted.get_mut(name) else { return };
        self.is_use_new = true;
        wanted.volume = Some(spec.name.clone());
        known.volumes.insert(spec.name.clone());
        let volume = self.volumes.entry(spec.name.clone()).or_insert_with(|| NodeVolume::of(spec.clone()));
        volume.spec = Some(spec.clone());
        if self.idle.remove(&spec.name) {
            volume.retry = None;
        }
        let publication = volume.users.entry(uid.clone()).or_insert_with(|| Publication::wanted(spec));
        publication.is_read_only = is_read_only;
    }

    /// Takes from a pod, which has ended, what it has. Returns whether it has nothing any more, and when something happens by
    /// itself.
    pub(crate) fn release(
        &mut self,
        uid: &PodUid,
        key: &PodKey,
        around: &mut Surroundings<'_>,
    ) -> (bool, Option<Duration>) {
        let Some(known) = self.pods.get_mut(uid) else { return (true, None) };
        let wanted = std::mem::take(&mut known.wanted);
        let is_first = !wanted.is_empty();
        for wanted in wanted.into_values() {
            if let UseSource::Claim { name, .. } = wanted.source {
                self.claims.forget(&name, uid);
            }
        }
        let mut next = None;
        for name in known.volumes.clone() {
            let Some(volume) = self.volumes.get_mut(&name) else { continue };
            if let Some(publication) = volume.users.get_mut(uid).filter(|_| is_first) {
                // That it could not be published is over.
                publication.retry = None;
            }
            let (is_gone, at) = unpublish(&self.drivers, &name, volume, (uid, key), around);
            next = earliest(next, at);
            if is_gone {
                volume.users.remove(uid);
                volume.waiting.remove(uid);
                if volume.users.is_empty() {
                    volume.retry = None;
                    volume.size = VolumeSize::default();
                    self.idle.insert(name.clone());
                    self.attaching.remove(&name);
                    self.misplaced.remove(&name);
                    self.is_use_new = true;
                }
                if let Some(known) = self.pods.get_mut(uid) {
                    known.volumes.remove(&name);
                }
            }
        }
        let is_empty = self.pods.get(uid).is_none_or(|known| known.volumes.is_empty());
        if is_empty {
            self.pods.remove(uid);
        }
        (is_empty, next)
    }

    /// The volumes that are there for a pod, by their names in it.
    pub(crate) fn published(&self, uid: &PodUid) -> BTreeMap<String, PublishedVolume> {
        let Some(known) = self.pods.get(uid) else { return BTreeMap::new() };
        let published = |wanted: &Use| {
            let volume = self.volumes.get(wanted.volume.as_ref()?)?;
            let (publication, spec) = (volume.users.get(uid)?, volume.spec.as_ref()?);
            publication.presence.is_there().then(|| PublishedVolume::of(spec, publication.is_read_only))
        };
        known.wanted.iter().filter_map(|(name, wanted)| Some((name.clone(), published(wanted)?))).collect()
    }

    /// The groups to which files of a pod's volumes belong, but for those that it names itself: its processes need them.
    pub(crate) fn groups(&self, pod: &AllocatedPod) -> Vec<i64> {
        let uid = pod::uid(pod);
        let security = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
        let own = security.and_then(|security| security.supplemental_groups.as_deref()).unwrap_or_default();
        let names = self.pods.get(&uid).into_iter().flat_map(|known| &known.volumes);
        let volumes = names.filter_map(|name| self.volumes.get(name));
        let is_there = |volume: &&NodeVolume| {
            volume.users.get(&uid).is_some_and(|publication| publication.presence.is_there())
        };
        let groups = volumes.filter(is_there).filter_map(|volume| volume.spec.as_ref()?.group);
        let groups: BTreeSet<i64> = groups.filter(|group| !own.contains(group)).collect();
        groups.into_iter().collect()
    }

    // ---- what came of calls: each returns the pods that it concerns ----

    /// A claim was read, or was not.
    pub(crate) fn claim_read(
        &mut self,
        claim: &model::storage::ClaimName,
        outcome: Outcome,
        now: Now,
    ) -> BTreeSet<PodUid> {
        let answered = self.claims.finished(claim, outcome, now);
        if let Some(bound) = &answered.bound {
            for uid in &answered.pods {
                if !self.bind(uid, claim, bound) {
                    self.claims.refuse(claim, uid, answered.retry.as_ref(), now);
                }
            }
        }
        self.size_read(claim, &answered.pods, answered.bound.as_ref(), now);
        answered.pods
    }

    /// Gives a pod the volume of a claim. Returns whether it may have it.
    fn bind(
        &mut self,
        uid: &PodUid,
        claim: &model::storage::ClaimName,
        bound: &model::storage::BoundClaim,
    ) -> bool {
        let Some(known) = self.pods.get_mut(uid) else { return true };
        let (mut meant, mut is_refused) = (Vec::new(), false);
        for (volume, wanted) in &mut known.wanted {
            match &wanted.source {
                UseSource::Claim { name, is_read_only, is_own }
                    if name == claim && wanted.volume.is_none() =>
                {
                    wanted.is_refused = *is_own && bound.owner.as_ref() != Some(uid);
                    is_refused |= wanted.is_refused;
                    if !wanted.is_refused {
                        meant.push((volume.clone(), *is_read_only));
                    }
                }
                _ => {}
            }
        }
        for (name, is_read_only) in meant {
            self.use_volume(uid, &name, &bound.volume.for_pod(uid), is_read_only);
        }
        !is_refused
    }

    /// A call about a volume of the node has ended.
    pub(crate) fn volume_done(&mut self, name: &VolumeName, outcome: &Outcome, now: Now) -> BTreeSet<PodUid> {
        let Some(volume) = self.volumes.get_mut(name) else { return BTreeSet::new() };
        if volume.size.is_changing() {
            volume.size.grown(outcome, now);
            volume.is_called = false;
        } else if volume.stage.is_changing() {
            volume.staging_ended(outcome, now);
        } else {
            volume.attachment_read(outcome, now);
        }
        std::mem::take(&mut volume.waiting)
    }

    /// A call about a volume of a pod has ended.
    pub(crate) fn publication_done(
        &mut self,
        uid: &PodUid,
        name: &VolumeName,
        outcome: &Outcome,
        now: Now,
    ) -> BTreeSet<PodUid> {
        let Some(volume) = self.volumes.get_mut(name) else { return BTreeSet::new() };
        if let Some(publication) = volume.users.get_mut(uid) {
            publication.publishing_ended(&volume.mounter, outcome, now);
        }
        volume.is_called = false;
        let mut concerned = std::mem::take(&mut volume.waiting);
        concerned.insert(uid.clone());
        concerned
    }

    // ---- what no pod uses ----

    /// Unstages what no pod uses any more. `may_remove`: all pods are known that may use something.
    pub(crate) fn drive(&mut self, may_remove: bool, now: Now, out: &mut Outbox) {
        if !may_remove {
            return;
        }
        let (volumes, drivers, is_use_new) = (&mut self.volumes, &self.drivers, &mut self.is_use_new);
        self.idle.retain(|name| {
            let Some(volume) = volumes.get_mut(name) else { return false };
            if volume.stage.is_absent() {
                volumes.remove(name);
                *is_use_new = true;
                return false;
            }
            unstage(drivers, name, volume, now, out);
            true
        });
    }

    /// When [`Volumes::drive`] has something to do by itself; monotonic.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let idle = self.idle.iter().filter_map(|name| self.volumes.get(name));
        let waiting = idle.filter(|volume| !volume.is_called && self.drivers.can_call(&volume.mounter));
        waiting.filter_map(|volume| volume.retry.as_ref().map(|retry| retry.next_at)).min()
    }
}

impl Drivers {
    fn object(&self, driver: &str) -> Option<&CsiDriverObject> {
        self.objects.as_ref()?.get(driver)
    }

    /// Who is called for a volume; `None` as long as its driver is not there.
    fn mounter(&self, name: &MounterName) -> Option<Mounter> {
        match name {
            MounterName::Csi(driver) => self.callable.get(driver).cloned().map(Mounter::Csi),
            MounterName::Host(plugin) => Some(Mounter::Host(*plugin)),
        }
    }

    fn can_call(&self, name: &MounterName) -> bool {
        name.driver().is_none_or(|driver| self.callable.contains_key(driver))
    }
}

/// Takes a volume from a pod. Returns whether it is gone, and when that is tried again.
fn unpublish(
    drivers: &Drivers,
    name: &VolumeName,
    volume: &mut NodeVolume,
    (uid, key): (&PodUid, &PodKey),
    around: &mut Surroundings<'_>,
) -> (bool, Option<Duration>) {
    let (handle, mounter) = (volume.handle.clone(), drivers.mounter(&volume.mounter));
    let Some(publication) = volume.users.get_mut(uid) else { return (true, None) };
    if publication.presence.is_absent() {
        return (true, None);
    }
    let Some(mounter) = mounter else { return (false, None) };
    if volume.is_called {
        volume.waiting.insert(uid.clone());
        return (false, None);
    }
    if !NodeVolume::is_due(publication.retry.as_ref(), around.now) {
        return (false, publication.retry.as_ref().map(|retry| retry.next_at));
    }
    if publication.presence.remove() {
        volume.is_called = true;
        let action = StorageAction::Unpublish {
            uid: uid.clone(),
            key: key.clone(),
            folder: publication.folder.clone(),
            handle,
            mode: publication.mode,
            mounter,
        };
        around.out.start(Owner::Publication(uid.clone(), name.clone()), action);
    }
    (false, None)
}

/// Takes a volume from the node.
fn unstage(drivers: &Drivers, name: &VolumeName, volume: &mut NodeVolume, now: Now, out: &mut Outbox) {
    let Some(mounter) = drivers.mounter(&volume.mounter) else { return };
    let is_free = !volume.is_called && !volume.is_published();
    let owner = Owner::Volume(name.clone());
    if is_free
        && NodeVolume::is_due(volume.retry.as_ref(), now)
        && !out.is_open(&owner)
        && volume.stage.remove()
    {
        volume.is_called = true;
        let (volume, handle) = (name.clone(), volume.handle.clone());
        out.start(owner, StorageAction::Unstage { volume, handle, mounter });
    }
}

#[cfg(test)]
mod tests;
