//! The machine, and what earlier processes have left on it, as it is found at the start. Nothing but reads is started before that is
//! known.

use std::collections::BTreeMap;

use checkpoints::PodsState;
use model::PodUid;
use model::storage::FoundVolumes;
use serde::{Deserialize, Serialize};

use crate::effect::StateFile;
use crate::machine::Machine;

/// All that was found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Restored {
    /// The machine the process runs on.
    pub machine: Machine,
    /// Pods of which there is something on disk or in the cgroup tree.
    pub pods: Vec<PodUid>,
    /// Volumes of drivers, for pods and for the node.
    pub volumes: FoundVolumes,
    /// The state files that were there.
    pub files: BTreeMap<StateFile, Result<PodsState, DamagedFile>>,
}

/// A state file that cannot be used. It was set aside, and the node goes on from what the runtime and the API server show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedFile {
    /// What is the matter with it, for people.
    pub error: String,
    /// Where it is now; `None` when it cannot be moved.
    pub kept_as: Option<String>,
}
