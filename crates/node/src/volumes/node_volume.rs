//! A volume on the node: how far it is there, and for which pods.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::storage::{FoundPublication, FoundStage, VolumeMode, VolumeName, VolumeSpec};
use model::{Now, PodUid};
use serde::{Deserialize, Serialize};

use super::presence::Presence;
use crate::effect::{FailureKind, Outcome};
use crate::pods::backoff::{Pauses, Retry};

/// One volume.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NodeVolume {
    /// What it is; `None` as long as it was only found on the disk.
    pub(super) spec: Option<Arc<VolumeSpec>>,
    pub(super) driver: String,
    pub(super) handle: String,
    /// It lives and dies with its pod, and is not staged.
    pub(super) is_ephemeral: bool,
    pub(super) stage: Presence,
    /// What the driver has to be told of its attachment to the node; `None` as long as that was not read.
    pub(super) publish_context: Option<BTreeMap<String, String>>,
    /// Why it could not be attached, staged or unstaged, and when that is tried again.
    pub(super) retry: Option<Retry>,
    pub(super) users: BTreeMap<PodUid, Publication>,
}

/// A volume in one pod.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Publication {
    /// The volume's folder in that of the pod.
    pub(super) folder: String,
    pub(super) mode: VolumeMode,
    pub(super) is_read_only: bool,
    pub(super) presence: Presence,
    /// Why it could not be published or unpublished, and when that is tried again.
    pub(super) retry: Option<Retry>,
}

impl NodeVolume {
    /// One that an object tells of.
    pub(super) fn of(spec: Arc<VolumeSpec>) -> Self {
        let source = spec.csi();
        Self {
            driver: source.driver.clone(),
            handle: source.handle.clone(),
            is_ephemeral: source.is_ephemeral,
            stage: Presence::Absent,
            publish_context: None,
            retry: None,
            users: BTreeMap::new(),
            spec: Some(spec),
        }
    }

    /// One that was found in a pod: what it was staged by is there too.
    pub(super) fn published(found: &FoundPublication) -> (VolumeName, Self) {
        let stage = if found.is_ephemeral { Presence::Absent } else { Presence::FOUND };
        let name = match found.is_ephemeral {
            true => VolumeName::of_pod(model::storage::CSI_PLUGIN, &found.uid, &found.folder),
            false => VolumeName::csi(&found.driver, &found.handle),
        };
        (name, Self { is_ephemeral: found.is_ephemeral, ..Self::found(&found.driver, &found.handle, stage) })
    }

    /// One that was found to be staged.
    pub(super) fn staged(found: &FoundStage) -> (VolumeName, Self) {
        let name = VolumeName::csi(&found.driver, &found.handle);
        (name, Self::found(&found.driver, &found.handle, Presence::FOUND))
    }

    fn found(driver: &str, handle: &str, stage: Presence) -> Self {
        Self {
            spec: None,
            driver: driver.to_owned(),
            handle: handle.to_owned(),
            is_ephemeral: false,
            stage,
            publish_context: None,
            retry: None,
            users: BTreeMap::new(),
        }
    }

    /// Whether a call about its publications is under way: none about the volume itself goes beside it.
    pub(super) fn is_being_published(&self) -> bool {
        self.users.values().any(|publication| publication.presence.is_changing())
    }

    /// Whether it is there for any pod, or may be.
    pub(super) fn is_published(&self) -> bool {
        self.users.values().any(|publication| !publication.presence.is_absent())
    }

    /// Whether something may be tried now.
    pub(super) fn is_due(retry: Option<&Retry>, now: Now) -> bool {
        retry.is_none_or(|retry| retry.next_at <= now.mono)
    }

    /// A call about it has ended.
    pub(super) fn staging_ended(&mut self, outcome: &Outcome, now: Now) {
        let folder = self.spec.as_ref().map_or(self.handle.as_str(), |spec| spec.folder.as_str());
        let what = match self.stage {
            Presence::Making(_) => format!("MountVolume.MountDevice failed for volume {folder:?} "),
            _ => format!("UnmountDevice failed for volume {folder:?} "),
        };
        self.retry = retry_after(self.retry.as_ref(), &what, outcome, now);
        self.stage.ended(outcome, now.mono);
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
            retry: None,
        }
    }

    /// One that was found on the disk.
    pub(super) fn found(found: &FoundPublication) -> Self {
        Self {
            folder: found.folder.clone(),
            mode: found.mode,
            is_read_only: false,
            presence: Presence::FOUND,
            retry: None,
        }
    }

    /// A call about it has ended.
    pub(super) fn publishing_ended(&mut self, outcome: &Outcome, now: Now) {
        let folder = &self.folder;
        let what = match self.presence {
            Presence::Making(_) => format!("MountVolume.SetUp failed for volume {folder:?} "),
            _ => format!("UnmountVolume.TearDown failed for volume {folder:?} "),
        };
        self.retry = retry_after(self.retry.as_ref(), &what, outcome, now);
        self.presence.ended(outcome, now.mono);
    }
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
