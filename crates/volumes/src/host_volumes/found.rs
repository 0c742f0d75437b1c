//! What earlier processes have left of volumes that the kubelet mounts. Mount points are listed and not looked at.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use host::beneath::Root;
use model::PodUid;
use model::storage::{FoundPublication, FoundStage, FoundVolumes, HostPlugin, MounterName, VolumeMode};

use super::place::STAGED;
use crate::error::SetUpError;
use crate::found::{folders, names};

/// Looks below the kubelet's root directory.
pub(crate) fn find(
    base: &Root,
    mounts: &BTreeSet<PathBuf>,
    found: &mut FoundVolumes,
) -> Result<(), SetUpError> {
    for (pod, uid) in folders(base, Path::new("pods"))? {
        for plugin in HostPlugin::MOUNTING {
            let below = Path::new("volumes").join(plugin.folder());
            let Some((folder, names)) = names(&pod, &below)? else { continue };
            found.published.extend(names.into_iter().map(|name| FoundPublication {
                uid: PodUid::from(uid.as_str()),
                mounter: MounterName::Host(plugin),
                handle: name.clone(),
                is_ephemeral: false,
                mode: VolumeMode::Filesystem,
                is_mounted: mounts.contains(&folder.path().join(&name)),
                folder: name,
            }));
        }
    }
    if let Some((folder, names)) = names(base, Path::new(STAGED))? {
        found.staged.extend(names.into_iter().map(|name| FoundStage {
            mounter: MounterName::Host(HostPlugin::Local),
            is_mounted: mounts.contains(&folder.path().join(&name)),
            handle: name,
        }));
    }
    Ok(())
}
