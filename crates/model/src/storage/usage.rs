//! What a volume takes, and who can say so.

use serde::{Deserialize, Serialize};

/// Who can say what a volume takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum UsageSource {
    /// The file system that it is mounted from (`statfs`).
    FileSystem,
    /// Its CSI driver (`NodeGetVolumeStats`).
    Driver {
        /// The driver's name.
        name: String,
        /// What the driver calls the volume.
        handle: String,
    },
}

/// What a driver says of a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VolumeUsage {
    /// Zero where the driver says nothing of them.
    pub bytes: Amounts,
    /// Likewise.
    pub inodes: Amounts,
}

/// What there is of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// In all.
    pub total: u64,
    /// That is taken.
    pub used: u64,
    /// That is left.
    pub available: u64,
}
