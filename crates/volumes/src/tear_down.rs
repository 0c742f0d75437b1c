//! Taking a pod's volumes down: unmount first, delete afterwards, never delete through a mount.

use std::path::{Path, PathBuf};

use host::beneath::Root;
use host::mount::{self, MountEntry, MountError};
use model::PodUid;

use crate::error::SetUpError;
use crate::layout::PodLayout;

/// Unmounts everything below the pod's folder, then removes the folder.
pub(crate) fn tear_down(layout: &PodLayout) -> Result<(), SetUpError> {
    let dir = layout.dir();
    for entry in mount::mounts_below(&dir)? {
        unmount(&dir, &entry)?;
    }
    if let Some(entry) = mount::mounts_below(&dir)?.into_iter().next() {
        return Err(MountError::StillMounted { path: entry.mount_point }.into());
    }
    let pods = match Root::open(layout.pods()) {
        Err(error) if error.is_not_found() => return Ok(()),
        other => other?,
    };
    // Does not cross into another file system or mount, should one appear meanwhile.
    Ok(pods.remove_all(layout.uid())?)
}

/// A mount that is in use is an error, to be tried again, except for those whose content is ours
/// and ends with the pod: the memory behind an emptyDir or secret, and subPath binds. A stray
/// process holding one of these must not keep the pod from going.
fn unmount(pod: &Path, entry: &MountEntry) -> Result<(), SetUpError> {
    let below = entry.mount_point.strip_prefix(pod).unwrap_or(Path::new(""));
    let is_ours =
        below.starts_with("volume-subpaths") || (below.starts_with("volumes") && entry.fs_type == "tmpfs");
    match mount::unmount(&entry.mount_point) {
        Err(error) if is_ours => {
            tracing::warn!(mount = %entry.mount_point.display(), error = %crate::error::chain(&error), "detaching a volume in use");
            Ok(mount::detach(&entry.mount_point)?)
        }
        other => Ok(other?),
    }
}

/// The folders in `<root>/pods`.
pub(crate) fn pods_on_disk(pods: &Path) -> Result<Vec<PodUid>, SetUpError> {
    let root = match Root::open(pods) {
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        other => other?,
    };
    let is_folder = |name: &PathBuf| root.open_dir(name, host::beneath::Links::Refuse).is_ok();
    let names = root.names()?.into_iter().filter(is_folder);
    let mut uids: Vec<PodUid> = names.filter_map(|n| n.to_str().map(PodUid::from)).collect();
    uids.sort_unstable();
    Ok(uids)
}
