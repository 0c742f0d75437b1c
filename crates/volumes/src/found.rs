//! What earlier processes, this kubelet's or upstream's, have left on the node of volumes that are mounted one by one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use host::beneath::{Links, Root};
use host::mount;
use model::storage::FoundVolumes;

use crate::error::SetUpError;
use crate::{csi, host_volumes};

/// Looks below the kubelet's root directory. Blocking, but looks at nothing that is mounted: its server may be gone.
///
/// # Errors
/// The mount table or the folders cannot be read.
pub fn found_volumes(root: &Path) -> Result<FoundVolumes, SetUpError> {
    let root = std::fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
    let mounts: BTreeSet<PathBuf> = mount::mounts()?.into_iter().map(|entry| entry.mount_point).collect();
    let base = Root::open(&root)?;
    let mut found = FoundVolumes::default();
    csi::find(&base, &mounts, &mut found)?;
    host_volumes::find(&base, &mounts, &mut found)?;
    Ok(found)
}

/// The folders in a folder below, with their names, in order. One that is not there has none.
pub(crate) fn folders(base: &Root, below: &Path) -> Result<Vec<(Root, String)>, SetUpError> {
    let Some((folder, names)) = names(base, below)? else { return Ok(Vec::new()) };
    let open = |name: String| Some((folder.open_dir(Path::new(&name), Links::Refuse).ok()?, name));
    Ok(names.into_iter().filter_map(open).collect())
}

/// A folder below, and the names in it, in order; `None` when it is not there.
pub(crate) fn names(base: &Root, below: &Path) -> Result<Option<(Root, Vec<String>)>, SetUpError> {
    let folder = match base.open_dir(below, Links::Refuse) {
        Err(error) if error.is_not_found() => return Ok(None),
        other => other?,
    };
    let mut names: Vec<String> =
        folder.names()?.into_iter().filter_map(|name| name.into_os_string().into_string().ok()).collect();
    names.sort_unstable();
    Ok(Some((folder, names)))
}
