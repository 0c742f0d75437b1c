//! What is written down for the next process on this node, whichever kubelet that is.

use std::fmt;
use std::sync::Arc;

use checkpoints::PodsState;
use serde::{Deserialize, Serialize};

use super::ActionKind;

/// A state file that is kept, in upstream's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum StateFile {
    /// What pods were granted.
    AllocatedPods,
    /// What of that is in effect for their containers.
    ActuatedPods,
}

impl StateFile {
    /// All that are kept.
    pub const ALL: [Self; 2] = [Self::AllocatedPods, Self::ActuatedPods];

    /// Its name in the kubelet's root folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::AllocatedPods => "allocated_pods_state",
            Self::ActuatedPods => "actuated_pods_state",
        }
    }
}

/// Which of several contents of a file is the newer one. Counted by each process from zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version(pub u64);

/// What is done to a state file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum CheckpointAction {
    /// Replace it, so that any process that comes next reads either the old or the new content. → `Done` once that is the new one
    Write(CheckpointWrite),
    /// Have the disk itself keep what it has. → `Done` once that outlives a power cut
    Sync(StateFile),
}

/// A new content of a state file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckpointWrite {
    /// Which.
    pub file: StateFile,
    /// All that is to be in it.
    pub content: Arc<PodsState>,
    /// Of the content.
    pub version: Version,
}

impl CheckpointAction {
    /// Which file it is about.
    pub fn file(&self) -> StateFile {
        match self {
            Self::Write(write) => write.file,
            Self::Sync(file) => *file,
        }
    }

    pub(super) fn kind(&self) -> ActionKind {
        match self {
            Self::Write(write) => ActionKind::WriteStateFile(write.file),
            Self::Sync(file) => ActionKind::SyncStateFile(*file),
        }
    }

    pub(super) fn details(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(write) => {
                write!(f, " version {} with {} pods", write.version.0, write.content.pods.len())
            }
            Self::Sync(_) => Ok(()),
        }
    }
}
