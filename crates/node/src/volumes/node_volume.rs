//! A volume on the node: how far it is there, and for which pods.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::storage::{FoundPublication, FoundStage, MounterName, VolumeMode, VolumeName, VolumeSpec};
use model::{Now, PodUid};
use serde::{Deserialize, Serialize};

use super::presence::Presence;
use super::size::VolumeSize;
use crate::effect::{FailureKind, Outcome};
use crate::pods::backoff::{Pauses, Retry};

/// One volume.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NodeVolume {
    /// What it is; `None` as long as it was only found on the disk.
    pub(super) spec: Option<Arc<VolumeSpec>>,
    pub(super) mounter: MounterName,
    pub(super) handle: String,
    /// It lives and dies with its pod, and is not staged.
    pub(super) is_ephemeral: bool,
    pub(super) stage: Presence,
    /// What the driver has to be told of its attachment to the node; `None` as long as that was not read.
    pub(super) publish_context: Option<BTreeMap<String, String>>,
    /// Why it could not be attached, staged or unstaged, and when that is tried again.
    pub(super) retry: Option<Retry>,
    pub(super) users: BTreeMap<PodUid, Publication>,
    pub(super) size: VolumeSize,
    /// A call about it is under way, for the node or for a pod: there is one at a time (CSI, "Concurrency").
    pub(super) is_called: bool,
    /// The pods that go on when it has ended.
    pub(super) waiting: BTreeSet<PodUid>,
}

/// A volume in one pod.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Publication {
    /// The volume's folder in that of the pod.
    pub(super) folder: String,
    pub(super) mode: VolumeMode,
    pub(super) is_read_only: bool,
    pub(super) presence: Presence,
    /// It was as large as it should be when it came: containers may have been started with it.
    pub(super) is_handed_over: bool,
    /// Why it could not be published or unpublished, and when that is tried again.
    pub(super) retry: Option<Retry>,
}

impl NodeVolume {
    /// One that an object tells of.
    pub(super) fn of(spec: Arc<VolumeSpec>) -> Self {
        Self {
            mounter: spec.mounter(),
            handle: spec.handle().to_owned(),
            is_ephemeral: spec.is_ephemeral(),
            stage: Presence::Absent,
            publish_context: None,
            retry: None,
            users: BTreeMap::new(),
            size: VolumeSize::default(),
            is_called: false,
            waiting: BTreeSet::new(),
            spec: Some(spec),
        }
    }

    /// One that was found in a pod: what it was staged by is there too.
    pub(super) fn published(found: &FoundPublication) -> (VolumeName, Self) {
        let mut volume = Self::found(&found.mounter, &found.handle);
        volume.is_ephemeral = found.is_ephemeral;
        if volume.is_staged() {
            return (name_of(&found.mounter, &found.handle), volume);
        }
        volume.stage = Presence::Absent;
        (VolumeName::of_pod(found.mounter.plugin(), &found.uid, &found.folder), volume)
    }

    /// One that was found to be staged.
    pub(super) fn staged(found: &FoundStage) -> (VolumeName, Self) {
        (name_of(&found.mounter, &found.handle), Self::found(&found.mounter, &found.handle))
    }

    fn found(mounter: &MounterName, handle: &str) -> Self {
        Self {
            spec: None,
            mounter: mounter.clone(),
            handle: handle.to_owned(),
            is_ephemeral: false,
            stage: Presence::Uncertain,
            publish_context: None,
            retry: None,
            users: BTreeMap::new(),
            size: VolumeSize::default(),
            is_called: false,
            waiting: BTreeSet::new(),
        }
    }

    /// Whether it is made ready for the node before it is for pods.
    pub(super) fn is_staged(&self) -> bool {
        match self.mounter {
            MounterName::Csi(_) => !self.is_ephemeral,
            MounterName::Host(plugin) => plugin.stages(),
        }
    }

    /// What comes next can be a publication.
    pub(super) fn may_be_published(&self) -> bool {
        self.stage.is_there() || !self.is_staged()
    }

    /// Whether it is there for any pod, or may be.
    pub(super) fn is_published(&self) -> bool {
        self.users.values().any(|publication| !publication.presence.is_absent())
    }

    /// Whether it is one pod's alone (`ReadWriteOncePod` and nothing else) and another one has it, or may have.
    pub(super) fn is_refused_to(&self, uid: &PodUid) -> bool {
        let modes = self.spec.as_ref().map(|spec| spec.access_modes.as_slice()).unwrap_or_default();
        let has = |other: &Publication| !other.presence.is_absent();
        modes == ["ReadWriteOncePod"] && self.users.iter().any(|(user, other)| user != uid && has(other))
    }

    /// Whether something may be tried now.
    pub(super) fn is_due(retry: Option<&Retry>, now: Now) -> bool {
        retry.is_none_or(|retry| retry.next_at <= now.mono)
    }

    /// Whatever has failed is tried again at once.
    pub(super) fn hurry(&mut self) {
        let publications = self.users.values_mut().map(|publication| &mut publication.retry);
        for retry in publications.chain([&mut self.retry]).flatten() {
            retry.next_at = Duration::ZERO;
        }
    }

    /// A call about it has ended.
    pub(super) fn staging_ended(&mut self, outcome: &Outcome, now: Now) {
        let folder = self.spec.as_ref().map_or(self.handle.as_str(), |spec| spec.folder.as_str());
        let what = match self.stage {
            Presence::Making(_) if is_not_begun(&self.mounter, outcome) => new_mounter(folder),
            Presence::Making(_) => format!("MountVolume.MountDevice failed for volume {folder:?} "),
            _ => format!("UnmountDevice failed for volume {folder:?} "),
        };
        self.retry = retry_after(self.retry.as_ref(), &what, outcome, now);
        self.stage.ended(outcome, now.mono);
        self.is_called = false;
    }
}

impl Publication {
    /// One that is wanted.
    pub(super) fn wanted(spec: &VolumeSpec) -> Self {
        Self {
            folder: spec.folder.clone(),
            mode: spec.mode,
            is_read_only: false,
            presence: Presence::Absent,
            is_handed_over: false,
            retry: None,
        }
    }

    /// One that was found on the disk.
    pub(super) fn found(found: &FoundPublication) -> Self {
        Self {
            folder: found.folder.clone(),
            mode: found.mode,
            is_read_only: false,
            presence: Presence::Uncertain,
            is_handed_over: false,
            retry: None,
        }
    }

    /// A call about it has ended.
    pub(super) fn publishing_ended(&mut self, mounter: &MounterName, outcome: &Outcome, now: Now) {
        let folder = &self.folder;
        let what = match self.presence {
            Presence::Making(_) if is_not_begun(mounter, outcome) => new_mounter(folder),
            Presence::Making(_) => format!("MountVolume.SetUp failed for volume {folder:?} "),
            _ => format!("UnmountVolume.TearDown failed for volume {folder:?} "),
        };
        self.retry = retry_after(self.retry.as_ref(), &what, outcome, now);
        self.presence.ended(outcome, now.mono);
    }
}

/// The name of a volume that pods may share.
fn name_of(mounter: &MounterName, handle: &str) -> VolumeName {
    match mounter {
        MounterName::Csi(driver) => VolumeName::csi(driver, handle),
        MounterName::Host(plugin) => VolumeName::of_host(*plugin, handle),
    }
}

/// Whether the kubelet itself found out before it mounted anything that it cannot.
fn is_not_begun(mounter: &MounterName, outcome: &Outcome) -> bool {
    matches!(mounter, MounterName::Host(_))
        && matches!(outcome, Outcome::Failed(failure) if failure.kind == FailureKind::NotBegun)
}

/// Upstream's words for that.
fn new_mounter(folder: &str) -> String {
    format!("MountVolume.NewMounter initialization failed for volume {folder:?} ")
}

/// What is to be tried again, in upstream's words.
fn retry_after(before: Option<&Retry>, what: &str, outcome: &Outcome, now: Now) -> Option<Retry> {
    let message = match outcome {
        Outcome::Failed(failure) => match (failure.kind, failure.message.as_str()) {
            (FailureKind::Busy, "") => "another operation is under way",
            (_, message) => message,
        },
        Outcome::Cancelled => "the call was given up",
        _ => return None,
    };
    Some(Retry::after(before, format!("{what}: {message}"), Pauses::VOLUMES, now))
}
