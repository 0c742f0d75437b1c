//! `VolumeCapability`: how a volume is to be used.

use crate::wire::csi::VolumeCapability;
use crate::wire::csi::volume_capability::access_mode::Mode;
use crate::wire::csi::volume_capability::{self, AccessType, MountVolume};

/// How a volume is to be used, as a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeUse {
    /// By whom: the first of `spec.accessModes`, as upstream takes it; `ReadWriteOnce` where there is none.
    pub access_mode: String,
    /// Whether the driver tells pods of one node apart (`SINGLE_NODE_MULTI_WRITER`).
    pub knows_single_writers: bool,
    /// The type of file system; empty for the driver's choice.
    pub fs_type: String,
    /// Options of the mount.
    pub mount_options: Vec<String>,
    /// The group that the driver is to give the files to (`VOLUME_MOUNT_GROUP`).
    pub group: Option<i64>,
}

impl VolumeUse {
    pub(super) fn wire(&self) -> VolumeCapability {
        let mount = MountVolume {
            fs_type: self.fs_type.clone(),
            mount_flags: self.mount_options.clone(),
            volume_mount_group: self.group.map(|group| group.to_string()).unwrap_or_default(),
        };
        let mode = mode(&self.access_mode, self.knows_single_writers).into();
        VolumeCapability {
            access_mode: Some(volume_capability::AccessMode { mode }),
            access_type: Some(AccessType::Mount(mount)),
        }
    }
}

/// Upstream's mapping. A driver that does not know single pods is told of one node.
fn mode(access_mode: &str, knows_single_writers: bool) -> Mode {
    match (access_mode, knows_single_writers) {
        ("ReadWriteOnce" | "ReadWriteOncePod", false) => Mode::SingleNodeWriter,
        ("ReadWriteOnce", true) => Mode::SingleNodeMultiWriter,
        ("ReadWriteOncePod", true) => Mode::SingleNodeSingleWriter,
        ("ReadOnlyMany", _) => Mode::MultiNodeReaderOnly,
        ("ReadWriteMany", _) => Mode::MultiNodeMultiWriter,
        _ => Mode::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_modes() {
        for (access_mode, plain, with_writers) in [
            ("ReadWriteOnce", Mode::SingleNodeWriter, Mode::SingleNodeMultiWriter),
            ("ReadWriteOncePod", Mode::SingleNodeWriter, Mode::SingleNodeSingleWriter),
            ("ReadOnlyMany", Mode::MultiNodeReaderOnly, Mode::MultiNodeReaderOnly),
            ("ReadWriteMany", Mode::MultiNodeMultiWriter, Mode::MultiNodeMultiWriter),
            ("Sometimes", Mode::Unknown, Mode::Unknown),
        ] {
            assert_eq!((mode(access_mode, false), mode(access_mode, true)), (plain, with_writers));
        }
    }
}
