//! `fsGroup`: a volume's files belong to a group that all containers of the pod are in
//! (<https://kubernetes.io/docs/tasks/configure-pod-container/security-context/>).
//!
//! `fsGroupChangePolicy` has no effect on the volumes made here, as upstream documents: their
//! content is made for the pod, so there is never an old tree whose walk could be spared.

use host::beneath::{BeneathError, Root};

/// What the group may do with the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupAccess {
    ReadOnly,
    ReadWrite,
}

const SET_GID: u32 = 0o2000;
const FOLDER_EXECUTE: u32 = 0o110;

/// Hands everything in the volume to the group and adds what the group needs to the modes.
/// Folders pass the group on to what is made in them.
pub(crate) fn apply(volume: &Root, group: u32, access: GroupAccess) -> Result<(), BeneathError> {
    let wanted = match access {
        GroupAccess::ReadOnly => 0o440,
        GroupAccess::ReadWrite => 0o660,
    };
    volume.walk(&mut |entry| {
        entry.chown(None, Some(group))?;
        let extra = if entry.is_dir() { SET_GID | FOLDER_EXECUTE } else { 0 };
        entry.chmod((entry.stat.st_mode & 0o7777) | wanted | extra)
    })
}
