//! Why a state file cannot be used.

/// A state file that upstream's kubelet would refuse as well.
#[derive(Debug, thiserror::Error)]
pub enum Damaged {
    /// It is no document of its kind: cut off, emptied, or another's.
    #[error("it is no document of its kind")]
    Document(#[from] serde_json::Error),
    /// Something in it was changed by somebody who does not know its checksum.
    #[error("its checksum is {found}, and that of its content {expected}")]
    Checksum {
        /// What it says.
        found: u64,
        /// What would be right.
        expected: u64,
    },
}
