//! What earlier processes, this kubelet's or upstream's, have left of CSI volumes on the node.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use host::beneath::Root;
use model::PodUid;
use model::storage::{FoundPublication, FoundStage, FoundVolumes, MounterName, VolumeMode};
use tracing::warn;

use super::data::VolumeData;
use super::place::{GLOBAL_MOUNT, MOUNT, PLUGIN, STAGED};
use crate::error::{SetUpError, chain};
use crate::found::folders;

/// Looks below the kubelet's root directory. Folders that tell nothing that can be read are logged, and left.
pub(crate) fn find(
    base: &Root,
    mounts: &BTreeSet<PathBuf>,
    found: &mut FoundVolumes,
) -> Result<(), SetUpError> {
    for (pod, uid) in folders(base, Path::new("pods"))? {
        for (folder, name) in folders(&pod, &Path::new("volumes").join(PLUGIN))? {
            let Some(data) = read(&folder) else { continue };
            found.published.push(FoundPublication {
                uid: PodUid::from(uid.as_str()),
                folder: name,
                mounter: MounterName::Csi(data.driver().to_owned()),
                handle: data.handle().to_owned(),
                is_ephemeral: data.is_ephemeral(),
                mode: VolumeMode::Filesystem,
                is_mounted: mounts.contains(&folder.path().join(MOUNT)),
            });
        }
    }
    for (driver, _) in folders(base, Path::new(STAGED))? {
        for (folder, _) in folders(&driver, Path::new("."))? {
            let Some(data) = read(&folder) else { continue };
            found.staged.push(FoundStage {
                mounter: MounterName::Csi(data.driver().to_owned()),
                handle: data.handle().to_owned(),
                is_mounted: mounts.contains(&folder.path().join(GLOBAL_MOUNT)),
            });
        }
    }
    Ok(())
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
