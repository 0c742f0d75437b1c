//! The start of the node: a state, so that nobody acts on half of what is known.

use serde::{Deserialize, Serialize};

/// How far the start is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Startup {
    /// What earlier processes have left on the node is not known yet: pods may be heard of, and the runtime may be asked
    /// what it holds, but nothing is changed.
    #[default]
    Restoring,
    /// It is known. All is done that is to be done.
    Restored,
}

impl Startup {
    pub(crate) fn is_over(self) -> bool {
        self == Self::Restored
    }
}
