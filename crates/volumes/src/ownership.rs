//! `fsGroup`: a volume's files belong to a group that all containers of the pod are in
//! (<https://kubernetes.io/docs/tasks/configure-pod-container/security-context/>).
//!
//! `fsGroupChangePolicy` has an effect on volumes of others only, as upstream documents: the content of those made here is made
//! for the pod, so there is never an old tree whose walk could be spared.

use host::beneath::{BeneathError, Root};
use model::Pod;

/// What the group may do with the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupAccess {
    ReadOnly,
    ReadWrite,
}

impl GroupAccess {
    fn mode(self) -> u32 {
        match self {
            Self::ReadOnly => 0o440,
            Self::ReadWrite => 0o660,
        }
    }
}

/// `fsGroupChangePolicy`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChangePolicy {
    /// Everything is gone through each time.
    Always,
    /// Only when the volume's root is not as it should be.
    OnRootMismatch,
}

impl ChangePolicy {
    pub(crate) fn of(pod: &Pod) -> Self {
        let context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
        match context.and_then(|context| context.fs_group_change_policy.as_deref()) {
            Some("OnRootMismatch") => Self::OnRootMismatch,
            _ => Self::Always,
        }
    }
}

const SET_GID: u32 = 0o2000;
const FOLDER_EXECUTE: u32 = 0o110;

/// Hands everything in the volume to the group and adds what the group needs to the modes.
/// Folders pass the group on to what is made in them.
pub(crate) fn apply(volume: &Root, group: u32, access: GroupAccess) -> Result<(), BeneathError> {
    let wanted = access.mode();
    volume.walk(&mut |entry| {
        entry.chown(None, Some(group))?;
        let extra = if entry.is_dir() { SET_GID | FOLDER_EXECUTE } else { 0 };
        entry.chmod((entry.stat.st_mode & 0o7777) | wanted | extra)
    })
}

/// The same for a volume that is not made here, which may be large, and may not let its files be handed on: upstream goes on
/// then, and so does this.
pub(crate) fn apply_to_foreign(volume: &Root, group: u32, policy: ChangePolicy) -> Result<(), BeneathError> {
    let wanted = GroupAccess::ReadWrite.mode();
    if policy == ChangePolicy::OnRootMismatch {
        let (root, needed) = (volume.stat_self()?, wanted | SET_GID | FOLDER_EXECUTE);
        if root.st_gid == group && root.st_mode & needed == needed {
            return Ok(());
        }
    }
    let mut failed = 0_u64;
    let mut first = None;
    volume.walk(&mut |entry| {
        let extra = if entry.is_dir() { SET_GID | FOLDER_EXECUTE } else { 0 };
        let changed = entry
            .chown(None, Some(group))
            .and_then(|()| entry.chmod((entry.stat.st_mode & 0o7777) | wanted | extra));
        if let Err(error) = changed {
            failed += 1;
            first.get_or_insert(error);
        }
        Ok(())
    })?;
    if let Some(error) = first {
        tracing::warn!(
            path = %volume.path().display(),
            count = failed,
            err = %error,
            "Failed to hand files of a volume to the group of its pod; containers may not be able to write them"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    #[test]
    fn a_root_that_is_right_spares_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let volume = Root::open(folder.path()).unwrap();
        let group = || fs::metadata(&file).unwrap().gid();
        apply_to_foreign(&volume, 7, ChangePolicy::OnRootMismatch).unwrap();
        assert_eq!(group(), 7, "the root was not right");
        std::os::unix::fs::chown(&file, None, Some(0)).unwrap();
        apply_to_foreign(&volume, 7, ChangePolicy::OnRootMismatch).unwrap();
        assert_eq!(group(), 0, "the root is right");
        apply_to_foreign(&volume, 7, ChangePolicy::Always).unwrap();
        assert_eq!(group(), 7);
        for wrong in [0o700, 0o2750, 0o770] {
            std::os::unix::fs::chown(&file, None, Some(0)).unwrap();
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(wrong)).unwrap();
            apply_to_foreign(&volume, 7, ChangePolicy::OnRootMismatch).unwrap();
            assert_eq!(group(), 7, "{wrong:o}");
        }
    }
}
