//! What earlier processes have left on the node, as it is found at the start. Nothing but reads is started before that is
//! known.

use model::PodUid;
use serde::{Deserialize, Serialize};

/// All that was found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Restored {
    /// Pods of which there is something on disk or in the cgroup tree.
    pub pods: Vec<PodUid>,
}
