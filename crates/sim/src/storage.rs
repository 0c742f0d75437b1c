//! Volumes that are mounted one by one: what drivers and the kernel have done and what lies on the disk, the claims of the
//! cluster, and the controller that attaches volumes to the node. A driver goes on with a call that nobody waits for any more, and meanwhile says of others
//! about the same volume that it is busy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    AttachedVolume, CSIVolumeSource, Node, PersistentVolumeClaimVolumeSource, Volume, VolumeMount,
};
use model::storage::{
    BoundClaim, ClaimAnswer, ClaimName, ClaimProblem, ClaimSize, CsiDriverObject, CsiSource,
    FoundPublication, FoundStage, FoundVolumes, HostPlugin, HostSource, MounterName, ResizeStep, VolumeMode,
    VolumeName, VolumeSource, VolumeSpec, attachment_name,
};
use model::{Pod, PodUid, pod};
use node::{Action, ApiAction, ApiOutcome, EffectId, Failure, FailureKind, Input, Outcome, StorageAction};

use crate::api::is_terminal;
use crate::rng::SimRng;
use crate::specs::NODE;
use crate::world::{SimEvent, World};

/// How often the controller looks.
const CONTROLLER_PERIOD: Duration = Duration::from_secs(2);

/// Claims, and what makes their volumes: a driver, or the kubelet itself.
const CLAIMS: [(&str, &str); 7] = [
    ("claim-0", "a"),
    ("claim-1", "b"),
    ("claim-2", "c"),
    ("claim-3", "b"),
    ("claim-4", LOCAL),
    ("claim-5", HOST_PATH),
    ("claim-6", NFS),
];

/// A folder or a disk.
const LOCAL: &str = "local";
/// A path.
const HOST_PATH: &str = "path";
/// What a server exports.
const NFS: &str = "nfs";

/// Which driver makes inline volumes.
const INLINE: &str = "a";

/// A volume, by who mounts it and what that calls it. One that is mounted for each pod anew has the pod's uid in it.
type Handle = (MounterName, String);

/// Something that drivers make, and remove.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Whereabouts {
    /// What is staged.
    Node(Handle),
    /// What is published for a pod in a folder.
    Pod(PodUid, String),
}

/// The volumes of drivers.
#[derive(Debug, Default)]
pub(crate) struct Storage {
    /// What drivers have made for the node.
    staged: BTreeSet<Handle>,
    /// What drivers have made for pods, by pod and folder.
    published: BTreeMap<(PodUid, String), Handle>,
    /// What the disk tells of the former.
    stage_records: BTreeSet<Handle>,
    /// What the disk tells of the latter.
    publication_records: BTreeMap<(PodUid, String), FoundPublication>,
    /// When the claims are bound, in the order of [`CLAIMS`].
    bound_at: [Duration; CLAIMS.len()],
    /// When their volumes are grown by the controller, which the node has to follow; `None` for never.
    grown_at: [Option<Duration>; CLAIMS.len()],
    /// Those that the node has followed.
    grown: BTreeSet<Handle>,
    /// What is attached to the node, by the names that a Node object has for it.
    attached: BTreeMap<String, Handle>,
}

/// What the present process was told.
#[derive(Debug, Default)]
pub(crate) struct StorageKnowledge {
    staged: BTreeSet<Handle>,
    pub(crate) published: BTreeSet<(PodUid, String)>,
    /// What a call was to remove that may still go on.
    leaving: BTreeSet<Whereabouts>,
    in_use: BTreeSet<String>,
    attached: BTreeSet<String>,
    /// The version of the Node object that this is of.
    version: u64,
}

fn failed(kind: FailureKind, message: &str) -> Outcome {
    Outcome::Failed(Failure { kind, message: message.to_owned() })
}

/// What the cluster says of the drivers.
pub(crate) fn driver_objects() -> Input {
    let object = |attach_required, is_ephemeral, requires_republish| CsiDriverObject {
        is_there: true,
        attach_required,
        is_ephemeral,
        requires_republish,
        ..CsiDriverObject::default()
    };
    Input::CsiDrivers(BTreeMap::from([
        ("a".to_owned(), object(false, true, false)),
        ("b".to_owned(), object(true, false, false)),
        ("c".to_owned(), object(false, false, true)),
    ]))
}

fn handle_of(action: &StorageAction) -> Handle {
    match action {
        StorageAction::Stage { volume, .. } | StorageAction::Grow { volume, .. } => {
            (volume.mounter(), volume.handle().to_owned())
        }
        StorageAction::Publish { pod, volume, .. } => {
            handle_in(volume.mounter(), volume.handle(), &pod::uid(pod))
        }
        StorageAction::Unstage { handle, mounter, .. } => (mounter.name(), handle.clone()),
        StorageAction::Unpublish { uid, handle, mounter, .. } => handle_in(mounter.name(), handle, uid),
    }
}

fn handle_in(mounter: MounterName, handle: &str, uid: &PodUid) -> Handle {
    match mounter {
        MounterName::Host(plugin) if !plugin.stages() => (mounter, format!("{uid}/{handle}")),
        _ => (mounter, handle.to_owned()),
    }
}

/// Whether it is made ready for the node before it is for pods.
fn is_staged(volume: &VolumeSpec) -> bool {
    match volume.mounter() {
        MounterName::Csi(_) => !volume.is_ephemeral(),
        MounterName::Host(plugin) => plugin.stages(),
    }
}

/// Whether anything on the disk tells of it: a path of the node is there anyway.
fn leaves_a_record(mounter: &MounterName) -> bool {
    *mounter != MounterName::Host(HostPlugin::HostPath)
}

/// What a call makes or removes, and whether it makes it.
fn whereabouts(action: &StorageAction) -> Option<(Whereabouts, bool)> {
    Some(match action {
        StorageAction::Stage { .. } => (Whereabouts::Node(handle_of(action)), true),
        StorageAction::Unstage { .. } => (Whereabouts::Node(handle_of(action)), false),
        StorageAction::Publish { pod, volume, .. } => {
            (Whereabouts::Pod(pod::uid(pod), volume.folder.clone()), true)
        }
        StorageAction::Unpublish { uid, folder, .. } => {
            (Whereabouts::Pod(uid.clone(), folder.clone()), false)
        }
        StorageAction::Grow { .. } => return None,
    })
}

fn spec_of(claim: &str) -> Option<VolumeSpec> {
    let (name, driver) = CLAIMS.iter().find(|(name, _)| *name == claim)?;
    let (handle, folder) = (format!("{name}-handle"), format!("pv-{name}"));
    let csi = || CsiSource {
        driver: (*driver).to_owned(),
        handle: handle.clone(),
        fs_type: String::new(),
        read_only: false,
        attributes: BTreeMap::new(),
        stage_secret: None,
        publish_secret: None,
        expand_secret: None,
        is_ephemeral: false,
    };
    let path = || format!("/{name}");
    let (name, source) = match *driver {
        LOCAL => {
            let source = HostSource::Local { path: path(), fs_type: String::new() };
            (VolumeName::of_host(HostPlugin::Local, &folder), VolumeSource::Host(source))
        }
        HOST_PATH => {
            let source = HostSource::HostPath { path: path(), kind: String::new() };
            (VolumeName::of_host(HostPlugin::HostPath, &folder), VolumeSource::Host(source))
        }
        NFS => {
            let source = HostSource::Nfs { server: "server".to_owned(), path: path() };
            (VolumeName::of_host(HostPlugin::Nfs, &folder), VolumeSource::Host(source))
        }
        driver => (VolumeName::csi(driver, &handle), VolumeSource::Csi(csi())),
    };
    Some(VolumeSpec {
        name,
        folder,
        source,
        mode: VolumeMode::Filesystem,
        access_modes: vec!["ReadWriteMany".to_owned()],
        mount_options: Vec::new(),
        capacity: None,
        nodes: None,
        group: None,
    })
}

/// The folders in which the volumes are that the containers of a pod use, by the names of the volumes, each with its driver.
fn folders(pod: &Pod) -> BTreeMap<String, (String, &'static str)> {
    let folder = |volume: &Volume| {
        if volume.csi.is_some() {
            return Some((volume.name.clone(), INLINE));
        }
        let claim = &volume.persistent_volume_claim.as_ref()?.claim_name;
        let (name, driver) = CLAIMS.iter().find(|(name, _)| name == claim)?;
        Some((format!("pv-{name}"), *driver))
    };
    pod::used_volumes(pod).filter_map(|volume| Some((volume.name.clone(), folder(volume)?))).collect()
}

/// Gives a pod volumes that drivers make, and its containers some of them.
pub(crate) fn add_volumes(rng: &mut SimRng, made: &mut Pod) {
    if !rng.percent(30) {
        return;
    }
    let Some(spec) = &mut made.spec else { return };
    for n in 0..rng.number(1, 2) {
        let mut volume = Volume { name: format!("d{n}"), ..Volume::default() };
        if rng.percent(25) {
            volume.csi = Some(CSIVolumeSource { driver: INLINE.to_owned(), ..CSIVolumeSource::default() });
        } else {
            let claim_name = rng.pick(&CLAIMS).map_or("claim-0", |(name, _)| name).to_owned();
            let source = PersistentVolumeClaimVolumeSource { claim_name, read_only: None };
            volume.persistent_volume_claim = Some(source);
        }
        let containers = spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten());
        for container in containers.filter(|_| rng.percent(70)) {
            container.volume_mounts.get_or_insert_default().push(VolumeMount {
                name: volume.name.clone(),
                mount_path: format!("/{}", volume.name),
                ..VolumeMount::default()
            });
        }
        spec.volumes.get_or_insert_default().push(volume);
    }
}

impl Storage {
    /// Claims are bound at some time within this one.
    pub(crate) fn begin(&mut self, rng: &mut SimRng, within: Duration) {
        let most = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
        for at in &mut self.bound_at {
            *at = if rng.percent(60) { Duration::ZERO } else { rng.millis(0, most) };
        }
        for at in &mut self.grown_at {
            *at = rng.percent(40).then(|| rng.millis(0, most));
        }
    }

    /// A process has ended, and with it what is nowhere else.
    pub(crate) fn process_ended(&mut self) {
        self.published.retain(|_, (mounter, _)| leaves_a_record(mounter));
    }

    /// What a node agent that starts finds.
    pub(crate) fn found(&self) -> FoundVolumes {
        let published = self.publication_records.iter().map(|(place, record)| {
            let is_mounted = self.published.contains_key(place);
            FoundPublication { is_mounted, ..record.clone() }
        });
        let staged = self.stage_records.iter().map(|handle| FoundStage {
            mounter: handle.0.clone(),
            handle: handle.1.clone(),
            is_mounted: self.staged.contains(handle),
        });
        FoundVolumes { published: published.collect(), staged: staged.collect() }
    }

    /// Whether a pod has any volume of a driver.
    pub(crate) fn has_published(&self, uid: &PodUid) -> bool {
        self.published.keys().chain(self.publication_records.keys()).any(|(pod, _)| pod == uid)
    }

    /// What a claim and its volume say of its size.
    fn size(&self, claim: &str, at: Duration) -> (u64, ClaimSize) {
        // The kubelet itself grows nothing.
        let is_it =
            |(name, driver): &(&str, &str)| *name == claim && ![LOCAL, HOST_PATH, NFS].contains(driver);
        let grows = CLAIMS.iter().zip(&self.grown_at).find(|(claim, _)| is_it(claim));
        let has_grown = grows.and_then(|(_, grown_at)| *grown_at).is_some_and(|grown_at| grown_at <= at);
        let is_followed = self.grown.iter().any(|(_, handle)| *handle == format!("{claim}-handle"));
        let size = ClaimSize { requested: 1, capacity: 1, ..ClaimSize::default() };
        match (has_grown, is_followed) {
            (false, _) => (1, size),
            (true, false) => {
                (2, ClaimSize { requested: 2, allocated: Some(2), step: Some(ResizeStep::Node), ..size })
            }
            (true, true) => (2, ClaimSize { requested: 2, capacity: 2, allocated: Some(2), ..size }),
        }
    }

    fn is_bound(&self, claim: &str, at: Duration) -> bool {
        CLAIMS.iter().zip(&self.bound_at).any(|((name, _), bound_at)| *name == claim && *bound_at <= at)
    }
}

impl World {
    /// A call of a driver begins: what the disk tells of it is there before. Returns whether the driver takes it.
    pub(crate) fn begin_storage(&mut self, id: EffectId, action: &StorageAction) -> bool {
        let (mounter, handle) = handle_of(action);
        let is_taken = !self.is_busy((self.process.number, id), &(mounter.clone(), handle.clone()));
        match action {
            StorageAction::Stage { .. } => {
                self.storage.stage_records.insert((mounter, handle));
            }
            StorageAction::Publish { pod, volume, .. } => {
                let (uid, folder) = (pod::uid(pod), volume.folder.clone());
                if !leaves_a_record(&mounter) {
                    return is_taken;
                }
                self.host.folders.insert(uid.clone());
                let record = FoundPublication {
                    uid: uid.clone(),
                    folder: folder.clone(),
                    mounter,
                    handle: volume.handle().to_owned(),
                    is_ephemeral: volume.is_ephemeral(),
                    mode: VolumeMode::Filesystem,
                    is_mounted: false,
                };
                self.storage.publication_records.insert((uid, folder), record);
            }
            StorageAction::Unstage { .. } | StorageAction::Unpublish { .. } | StorageAction::Grow { .. } => {}
        }
        is_taken
    }

    /// A call of a driver fails without effect.
    pub(crate) fn fail_storage(&mut self, key: (u32, EffectId), action: &StorageAction) -> Outcome {
        if self.is_busy(key, &handle_of(action)) {
            return failed(FailureKind::Busy, "another call is under way");
        }
        let kinds = [FailureKind::Other, FailureKind::NotBegun, FailureKind::Uncertain, FailureKind::Busy];
        let kind = *self.rng.pick(&kinds).unwrap_or(&FailureKind::Other);
        let handle = handle_of(action);
        if matches!(kind, FailureKind::Other | FailureKind::NotBegun) {
            match action {
                StorageAction::Stage { .. } if !self.storage.staged.contains(&handle) => {
                    self.storage.stage_records.remove(&handle);
                }
                StorageAction::Publish { pod, volume, .. } => {
                    let place = (pod::uid(pod), volume.folder.clone());
                    if !self.storage.published.contains_key(&place) {
                        self.storage.publication_records.remove(&place);
                    }
                }
                _ => {}
            }
        }
        failed(kind, "refused by the driver")
    }

    /// What is said of a call that took effect, or will, and is reported as failed.
    pub(crate) fn late_failure(action: &Action) -> Outcome {
        let kind = match action {
            Action::Storage(_) => FailureKind::Uncertain,
            _ => FailureKind::Other,
        };
        failed(kind, "deadline exceeded")
    }

    /// A driver does what it is asked for.
    pub(crate) fn perform_on_storage(
        &mut self,
        key: (u32, EffectId),
        action: &StorageAction,
        is_foreign: bool,
    ) -> Outcome {
        let handle = handle_of(action);
        if !is_foreign && handle.0.driver().is_some_and(|driver| !self.has_driver(driver)) {
            return failed(FailureKind::Uncertain, "nobody is there");
        }
        if self.is_busy(key, &handle) {
            return failed(FailureKind::Busy, "another call is under way");
        }
        let storage = &mut self.storage;
        match action {
            StorageAction::Stage { .. } => {
                storage.staged.insert(handle);
            }
            StorageAction::Unstage { .. } => {
                if let Some((uid, folder)) =
                    storage.published.iter().find(|(_, of)| **of == handle).map(|(place, _)| place.clone())
                {
                    self.broke(format!("{handle:?} is unstaged while {uid} has it in {folder}"));
                    return Outcome::Done;
                }
                storage.staged.remove(&handle);
                storage.stage_records.remove(&handle);
            }
            StorageAction::Publish { pod, volume, .. } => {
                let place = (pod::uid(pod), volume.folder.clone());
                if is_staged(volume) && !storage.staged.contains(&handle) {
                    self.broke(format!("{handle:?} is published for {} and is not staged", place.0));
                    return Outcome::Done;
                }
                // Of another process, such a look has made nothing.
                if !is_foreign || leaves_a_record(&handle.0) {
                    storage.published.insert(place, handle);
                }
            }
            StorageAction::Unpublish { uid, folder, .. } => {
                let place = (uid.clone(), folder.clone());
                storage.published.remove(&place);
                storage.publication_records.remove(&place);
            }
            StorageAction::Grow { uid, volume, .. } => {
                // A pod that was killed with its node agent may have gone since.
                if !is_foreign && !storage.published.contains_key(&(uid.clone(), volume.folder.clone())) {
                    self.broke(format!("{handle:?} is grown where {uid} does not have it"));
                    return Outcome::Done;
                }
                storage.grown.insert(handle);
            }
        }
        Outcome::Done
    }

    /// Whether an earlier call about that volume goes on.
    fn is_busy(&self, own: (u32, EffectId), handle: &Handle) -> bool {
        self.in_flight.range(..own).any(|(_, pending)| {
            !pending.has_taken_effect
                && !pending.is_void
                && matches!(&pending.action, Action::Storage(other) if handle_of(other) == *handle)
        })
    }

    // ---- claims and attachments ----

    /// What the API server says of claims and attachments.
    pub(crate) fn perform_on_claims(&self, action: &ApiAction) -> Outcome {
        match action {
            ApiAction::ResolveClaim { claim: ClaimName { name, .. } } => {
                let answer = match spec_of(name).filter(|_| self.storage.is_bound(name, self.at)) {
                    Some(spec) => {
                        let (capacity, size) = self.storage.size(name, self.at);
                        let volume = Arc::new(VolumeSpec { capacity: Some(capacity), ..spec });
                        ClaimAnswer::Bound(BoundClaim { volume, owner: None, size })
                    }
                    None => ClaimAnswer::Unusable(ClaimProblem::NotBound),
                };
                Outcome::Api(ApiOutcome::Claim(answer))
            }
            ApiAction::ReadAttachment { name } => {
                let mut attached = self.storage.attached.values();
                let is_its = |(mounter, handle): &Handle| {
                    attachment_name(mounter.driver().unwrap_or_default(), handle, NODE) == *name
                };
                match attached.any(is_its) {
                    true => Outcome::Api(ApiOutcome::Attachment {
                        is_attached: true,
                        metadata: BTreeMap::from([("device".to_owned(), name.clone())]),
                        error: None,
                    }),
                    false => Outcome::Gone,
                }
            }
            _ => failed(FailureKind::Other, "that is about something else"),
        }
    }

    /// The controller attaches what pods want, and detaches what the node does not use.
    pub(crate) fn controller_looks(&mut self) {
        self.after(CONTROLLER_PERIOD, SimEvent::Controller);
        let mut wanted = BTreeMap::new();
        for pod in self.api.pods.values().filter(|p| !p.status.as_ref().is_some_and(is_terminal)) {
            let claims = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
            for claim in claims.filter_map(|volume| volume.persistent_volume_claim.as_ref()) {
                if let Some(spec) = spec_of(&claim.claim_name)
                    && is_attachable(&spec.mounter())
                    && self.storage.is_bound(&claim.claim_name, self.at)
                {
                    wanted.insert(spec.name.to_string(), (spec.mounter(), spec.handle().to_owned()));
                }
            }
        }
        let in_use = self.plugins.volumes_in_use();
        let before = self.storage.attached.len();
        let unused: Vec<String> = self.storage.attached.keys().cloned().collect();
        for name in unused.into_iter().filter(|name| !wanted.contains_key(name) && !in_use.contains(name)) {
            if let Some(handle) = self.storage.attached.remove(&name)
                && (self.storage.staged.contains(&handle) || self.is_under_way(&handle))
            {
                self.broke(format!("{name} is detached while it is in use"));
            }
        }
        let is_slow = !self.is_settling && self.rng.percent(50);
        let has_gone = before != self.storage.attached.len();
        if !is_slow {
            self.storage.attached.extend(wanted);
        }
        // The list may be lost for a moment although nothing was detached.
        let is_lost = self.rng.percent(self.faults.attachments_lost);
        let names = self.storage.attached.keys().filter(|_| !is_lost);
        let listed = names.map(|name| AttachedVolume { name: name.clone(), device_path: String::new() });
        if self.plugins.attached_are(listed.collect()) || has_gone {
            self.mark_changed();
            self.tell_of_node();
        }
    }

    /// Whether a call is under way that would make something of it.
    fn is_under_way(&self, handle: &Handle) -> bool {
        self.in_flight.values().any(|pending| {
            !pending.has_taken_effect
                && !pending.is_void
                && matches!(&pending.action, Action::Storage(action @ (StorageAction::Stage { .. } | StorageAction::Publish { .. }))
                    if handle_of(action) == *handle)
        })
    }

    // ---- rules ----

    /// Takes note of what the core is about to be told of a call.
    pub(crate) fn learn_storage(&mut self, action: &Action, outcome: &Outcome) {
        let knows = &mut self.process.knows.storage;
        if let Action::Storage(action) = action
            && let Some((removed, false)) = whereabouts(action)
        {
            match outcome {
                Outcome::Failed(Failure { kind: FailureKind::Uncertain | FailureKind::Busy, .. })
                | Outcome::Cancelled => drop(knows.leaving.insert(removed)),
                Outcome::Failed(Failure { kind: FailureKind::NotBegun, .. }) => {}
                _ => drop(knows.leaving.remove(&removed)),
            }
        }
        match (action, outcome) {
            (Action::Storage(action @ StorageAction::Stage { .. }), Outcome::Done) => {
                knows.staged.insert(handle_of(action));
            }
            (Action::Storage(StorageAction::Publish { pod, volume, .. }), Outcome::Done) => {
                knows.published.insert((pod::uid(pod), volume.folder.clone()));
            }
            (
                Action::Api(ApiAction::WriteNodeStatus { new, .. }),
                Outcome::Api(ApiOutcome::Written { .. }),
            ) => {
                knows.in_use = new.volumes_in_use.iter().flatten().cloned().collect();
            }
            (Action::Api(_), Outcome::Api(ApiOutcome::Registered(node))) => self.learn_node(node),
            // An answer may be older than what was heard meanwhile.
            (Action::Api(_), Outcome::Api(ApiOutcome::Node(node))) if version(node) >= knows.version => {
                self.learn_node(node);
            }
            _ => {}
        }
    }

    /// A version of the Node object is heard of. What it says of the node's own part while that is being written is older than
    /// the write, or of an earlier process.
    pub(crate) fn learn_node(&mut self, node: &Node) {
        let number = self.process.number;
        let mut own = self.in_flight.iter().filter(|((process, _), _)| *process == number);
        let is_being_written = own.any(|(_, pending)| {
            !pending.is_told && matches!(&pending.action, Action::Api(ApiAction::WriteNodeStatus { .. }))
        });
        let knows = &mut self.process.knows.storage;
        knows.version = version(node);
        let Some(status) = &node.status else { return };
        if !is_being_written {
            knows.in_use = status.volumes_in_use.iter().flatten().cloned().collect();
        }
        knows.attached = status.volumes_attached.iter().flatten().map(|volume| volume.name.clone()).collect();
    }

    /// Judges a call that the core starts.
    pub(crate) fn check_storage(&mut self, action: &StorageAction) -> Result<(), String> {
        let handle = handle_of(action);
        let number = self.process.number;
        let mut others = self.in_flight.iter().filter(|((process, _), pending)| {
            *process == number
                && !pending.is_told
                && matches!(&pending.action, Action::Storage(other) if handle_of(other) == handle)
        });
        let is_alone = others.next().is_none();
        if !is_alone {
            return Err(format!("beside another call about {handle:?} this is begun: {action:?}"));
        }
        self.check_is_announced(action, &handle)?;
        if let Some((made, true)) = whereabouts(action)
            && self.process.knows.storage.leaving.contains(&made)
        {
            return Err(format!("{made:?} is made while a call that removes it may still go on"));
        }
        let knows = &mut self.process.knows.storage;
        match action {
            StorageAction::Stage { .. } if knows.staged.contains(&handle) => {
                Err(format!("{handle:?} is staged twice"))
            }
            StorageAction::Stage { .. } => Ok(()),
            StorageAction::Unstage { .. } => {
                knows.staged.remove(&handle);
                let user = self.storage.published.iter().find(|(_, of)| **of == handle);
                match user {
                    Some(((uid, _), _)) => Err(format!("{handle:?} is unstaged and {uid} has it")),
                    None => Ok(()),
                }
            }
            StorageAction::Publish { pod, volume, .. } => {
                let uid = pod::uid(pod);
                if is_staged(volume) && !knows.staged.contains(&handle) {
                    return Err(format!("{handle:?} is published for {uid} before it is staged"));
                }
                match self.process.knows.is_ending(&uid) {
                    true => Err(format!("{handle:?} is published for {uid}, which is to end")),
                    false => Ok(()),
                }
            }
            StorageAction::Grow { uid, volume, .. } => {
                match knows.published.contains(&(uid.clone(), volume.folder.clone())) {
                    true => Ok(()),
                    false => Err(format!("{handle:?} is grown before it is published for {uid}")),
                }
            }
            StorageAction::Unpublish { uid, folder, .. } => {
                knows.published.remove(&(uid.clone(), folder.clone()));
                self.check_nothing_runs(uid, "a volume is unpublished")
            }
        }
    }

    /// What has to be attached is not staged before the API server knows that the node uses it, nor while a write is under way
    /// that takes it back. What comes late of earlier writes can only be put right.
    fn check_is_announced(&self, action: &StorageAction, handle: &Handle) -> Result<(), String> {
        let knows = &self.process.knows.storage;
        let name = VolumeName::csi(handle.0.driver().unwrap_or_default(), &handle.1).to_string();
        if !is_attachable(&handle.0) || !matches!(action, StorageAction::Stage { .. }) {
            return Ok(());
        }
        if !knows.in_use.contains(&name) {
            return Err(format!("{name} is not in volumesInUse, and is staged"));
        }
        if !knows.attached.contains(&name) {
            return Err(format!("{name} is not attached, and is staged"));
        }
        let number = self.process.number;
        let takes_back = |action: &Action| match action {
            Action::Api(ApiAction::WriteNodeStatus { new, .. }) => {
                !new.volumes_in_use.iter().flatten().any(|known| *known == name)
            }
            _ => false,
        };
        let mut own = self.in_flight.iter().filter(|((process, _), _)| *process == number);
        match own.any(|(_, pending)| !pending.is_told && takes_back(&pending.action)) {
            true => Err(format!("{name} is staged while a write takes it from volumesInUse")),
            false => Ok(()),
        }
    }

    /// What has to be attached stays in use until it is unstaged.
    pub(crate) fn check_in_use(&self, in_use: &[String]) -> Result<(), String> {
        let staged = self.storage.stage_records.iter().filter(|(mounter, _)| is_attachable(mounter));
        let names = staged.map(|(mounter, handle)| {
            VolumeName::csi(mounter.driver().unwrap_or_default(), handle).to_string()
        });
        match names.into_iter().find(|name| !in_use.contains(name)) {
            Some(name) => Err(format!("{name} is left out of volumesInUse, and may be staged")),
            None => Ok(()),
        }
    }

    /// A container starts with all that it mounts.
    pub(crate) fn check_has_volumes(
        &self,
        pod: &Pod,
        name: &str,
        given: &BTreeMap<String, model::storage::PublishedVolume>,
    ) -> Result<(), String> {
        let uid = pod::uid(pod);
        for (volume, (folder, _)) in folders(pod) {
            let is_given = given.get(&volume).is_some_and(|given| given.folder == folder);
            if !is_given || !self.process.knows.storage.published.contains(&(uid.clone(), folder)) {
                return Err(format!("{name} of {uid} is started without its volume {volume}"));
            }
        }
        Ok(())
    }

    /// What no pod has any more is gone, and what pods want is there.
    pub(crate) fn check_storage_remains(&self) -> Result<(), String> {
        let storage = &self.storage;
        for uid in storage.published.keys().chain(storage.publication_records.keys()).map(|(uid, _)| uid) {
            if self.wanted(uid).is_none() {
                return Err(format!("a volume of a driver is left of {uid}"));
            }
        }
        for handle in storage.staged.iter().chain(&storage.stage_records) {
            if !storage.published.values().any(|of| of == handle) {
                return Err(format!("{handle:?} is staged and nobody has it"));
            }
        }
        Ok(())
    }

    /// A pod that runs has its volumes.
    pub(crate) fn check_has_published(&self, pod: &Pod) -> Result<(), String> {
        let uid = pod::uid(pod);
        let lacks = |folder: &String| !self.storage.published.contains_key(&(uid.clone(), folder.clone()));
        match folders(pod).values().find(|(folder, _)| lacks(folder)) {
            Some((folder, _)) => Err(format!("{uid} lacks its volume {folder}")),
            None => self.check_has_grown(pod),
        }
    }

    /// The node has followed the growth of what it uses.
    fn check_has_grown(&self, pod: &Pod) -> Result<(), String> {
        for (folder, _) in folders(pod).into_values() {
            let Some(claim) = folder.strip_prefix("pv-") else { continue };
            if let (capacity, ClaimSize { step: Some(_), .. }) = self.storage.size(claim, self.at) {
                return Err(format!("{folder} has not grown to {capacity}"));
            }
        }
        Ok(())
    }
}

/// Whether the controller attaches volumes of a mounter.
fn is_attachable(mounter: &MounterName) -> bool {
    mounter.driver() == Some("b")
}

/// Versions of the Node object can be compared.
fn version(node: &Node) -> u64 {
    node.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}
