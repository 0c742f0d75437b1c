//! Where a volume is on the node: a folder that is its mount point.

use std::path::{Path, PathBuf};

use host::beneath::{Links, Root};
use host::mount;
use model::PodUid;
use model::storage::HostPlugin;

use super::HostVolumeError;
use crate::error::{SetUpError, plain_name};
use crate::layout::{OWN_MODE, PodLayout, volume_below};

/// Where disks are mounted for the node, below the root.
pub(super) const STAGED: &str = "plugins/kubernetes.io/local-volume/mounts";

/// A volume's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// What holds it, which is there.
    base: PathBuf,
    /// The mount point, below that.
    below: PathBuf,
}

impl Place {
    /// Where a disk is mounted for the node: `<root>/plugins/kubernetes.io/local-volume/mounts/<volume>`.
    pub(super) fn staged(root: &Path, folder: &str) -> Result<Self, SetUpError> {
        let below = Path::new(STAGED).join(plain_name("volume name", folder)?);
        Ok(Self { base: root.to_owned(), below })
    }

    /// Where a volume is for a pod: `<pod>/volumes/<plugin>/<folder>`.
    pub(super) fn published(
        root: &Path,
        uid: &PodUid,
        plugin: HostPlugin,
        folder: &str,
    ) -> Result<Self, SetUpError> {
        let base = PodLayout::new(root, uid)?.dir();
        Ok(Self { base, below: volume_below(plugin.folder(), folder)? })
    }

    /// The mount point.
    pub(super) fn path(&self) -> PathBuf {
        self.base.join(&self.below)
    }

    /// Whether something is mounted there.
    pub(super) fn is_mounted(&self) -> Result<bool, SetUpError> {
        Ok(mount::is_mount_point(&self.path())?)
    }

    /// Makes the folder, unless something is mounted there. Returns whether something is.
    pub(super) fn make_unless_mounted(&self) -> Result<bool, SetUpError> {
        let is_mounted = self.is_mounted()?;
        if !is_mounted {
            Root::open(&self.base)?.make_dirs(&self.below, OWN_MODE)?;
        }
        Ok(is_mounted)
    }

    /// Unmounts what is mounted there, and removes the folder, which has to be empty then. What is not there is fine.
    pub(super) fn unmount(&self) -> Result<(), HostVolumeError> {
        if self.is_mounted()? {
            mount::unmount(&self.path()).map_err(SetUpError::from)?;
            if self.is_mounted()? {
                return Err(HostVolumeError::StillMounted { path: self.path() });
            }
        }
        Ok(self.remove()?)
    }

    /// Removes the folder.
    pub(super) fn remove(&self) -> Result<(), SetUpError> {
        let (parent, name) = (self.below.parent(), self.below.file_name());
        let (Some(parent), Some(name)) = (parent, name) else { return Ok(()) };
        match Root::open(&self.base).and_then(|base| base.open_dir(parent, Links::Refuse)) {
            Err(error) if error.is_not_found() => Ok(()),
            other => Ok(other?.remove_one(Path::new(name))?),
        }
    }
}
