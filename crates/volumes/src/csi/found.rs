//! What earlier processes, this kubelet's or upstream's, have left of CSI volumes on the node.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use host::beneath::{Links, Root};
use host::mount;
use model::PodUid;
use model::storage::{FoundPublication, FoundStage, FoundVolumes, VolumeMode};
use tracing::warn;

use super::data::VolumeData;
use super::place::{GLOBAL_MOUNT, MOUNT, PLUGIN, STAGED};
use crate::error::{SetUpError, chain};

/// Looks below the kubelet's root directory. Blocking. Folders that tell nothing that can be read are logged, and left.
///
/// # Errors
/// The mount table or the folders cannot be read.
pub fn found_volumes(root: &Path) -> Result<FoundVolumes, SetUpError> {
    let root = std::fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
    let mounts: BTreeSet<PathBuf> = mount::mounts()?.into_iter().map(|entry| entry.mount_point).collect();
    let mut found = FoundVolumes::default();
    let base = Root::open(&root)?;
    for (pod, uid) in folders(&base, Path::new("pods"))? {
        for (folder, name) in folders(&pod, &Path::new("volumes").join(PLUGIN))? {
            let Some(data) = read(&folder) else { continue };
            found.published.push(FoundPublication {
                uid: PodUid::from(uid.as_str()),
                folder: name,
                driver: data.driver().to_owned(),
                handle: data.handle().to_owned(),
                is_ephemeral: data.is_ephemeral(),
                mode: VolumeMode::Filesystem,
                is_mounted: mounts.contains(&folder.path().join(MOUNT)),
            });
        }
    }
    for (driver, _) in folders(&base, Path::new(STAGED))? {
        for (folder, _) in folders(&driver, Path::new("."))? {
            let Some(data) = read(&folder) else { continue };
            found.staged.push(FoundStage {
                driver: data.driver().to_owned(),
                handle: data.handle().to_owned(),
                is_mounted: mounts.contains(&folder.path().join(GLOBAL_MOUNT)),
            });
        }
    }
    Ok(found)
}

/// What a folder tells. One without the file tells nothing: a process has ended before it wrote that, or after it removed it.
fn read(folder: &Root) -> Option<VolumeData> {
    VolumeData::read(folder).unwrap_or_else(|error| {
        warn!(
            path = %folder.path().display(),
            err = chain(&error),
            "Failed to read which CSI volume a folder is of; it is left as it is, check whether it is still mounted"
        );
        None
    })
}

/// The folders in a folder below, with their names, in order. One that is not there has none.
fn folders(base: &Root, below: &Path) -> Result<Vec<(Root, String)>, SetUpError> {
    let folder = match base.open_dir(below, Links::Refuse) {
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        other => other?,
    };
    let mut names: Vec<String> =
        folder.names()?.into_iter().filter_map(|name| name.into_os_string().into_string().ok()).collect();
    names.sort_unstable();
    let open = |name: String| Some((folder.open_dir(Path::new(&name), Links::Refuse).ok()?, name));
    Ok(names.into_iter().filter_map(open).collect())
}
