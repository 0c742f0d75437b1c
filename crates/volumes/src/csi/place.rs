//! Where a volume is on the node: a folder with the file that tells of it, and in it the mount.

use std::path::{Path, PathBuf};

use host::beneath::{BeneathError, Links, Root};
use host::mount;
use model::PodUid;
use sha2::{Digest as _, Sha256};

use super::data::{FILE, TEMPORARY, VolumeData};
use crate::error::{SetUpError, plain_name};
use crate::layout::{OWN_MODE, PodLayout, volume_below};

/// The folder name of the plugin in the folders of pods.
pub(crate) const PLUGIN: &str = "kubernetes.io~csi";
/// The mount in a folder of a pod.
pub(crate) const MOUNT: &str = "mount";
/// The folder of what is staged, below the root.
pub(super) const STAGED: &str = "plugins/kubernetes.io/csi";
/// The mount in a folder there.
pub(super) const GLOBAL_MOUNT: &str = "globalmount";

/// A volume's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// What holds it, which is there.
    base: PathBuf,
    /// Its folder, below that.
    below: PathBuf,
    /// The name of the mount in it.
    mount: &'static str,
}

/// What is at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Content {
    /// Whether a file tells of a volume.
    pub(super) has_data: bool,
    /// Whether it is mounted.
    pub(super) is_mounted: bool,
}

impl Place {
    /// Where a volume is staged: `<root>/plugins/kubernetes.io/csi/<driver>/<sha256 of the handle>/globalmount`.
    pub(super) fn staged(root: &Path, driver: &str, handle: &str) -> Result<Self, SetUpError> {
        let folder = golang::hex::encode(&Sha256::digest(handle));
        let below = Path::new(STAGED).join(plain_name("CSI driver", driver)?).join(folder);
        Ok(Self { base: root.to_owned(), below, mount: GLOBAL_MOUNT })
    }

    /// Where a volume is published: `<pod>/volumes/kubernetes.io~csi/<folder>/mount`.
    pub(crate) fn published(root: &Path, uid: &PodUid, folder: &str) -> Result<Self, SetUpError> {
        let base = PodLayout::new(root, uid)?.dir();
        Ok(Self { base, below: volume_below(PLUGIN, folder)?, mount: MOUNT })
    }

    /// Its folder.
    pub(super) fn folder(&self) -> PathBuf {
        self.base.join(&self.below)
    }

    /// Its mount.
    pub(crate) fn mount(&self) -> PathBuf {
        self.folder().join(self.mount)
    }

    /// Makes the folder, and the file in it.
    pub(super) fn make(&self, data: &VolumeData) -> Result<(), SetUpError> {
        let folder = Root::open(&self.base)?.make_dirs(&self.below, OWN_MODE)?;
        Ok(data.write(folder.path())?)
    }

    /// Makes the folder that is to become the mount. One that is mounted is left alone: its server may be gone.
    pub(super) fn make_mount_point(&self) -> Result<(), SetUpError> {
        if !mount::is_mount_point(&self.mount())? {
            Root::open(&self.base)?.make_dirs(&self.below.join(self.mount), OWN_MODE)?;
        }
        Ok(())
    }

    /// What is there.
    pub(super) fn content(&self) -> Result<Content, SetUpError> {
        let is_mounted = mount::is_mount_point(&self.mount())?;
        let has_data = match self.open()? {
            Some(folder) => folder.stat(Path::new(FILE)).is_ok(),
            None => false,
        };
        Ok(Content { has_data, is_mounted })
    }

    /// Removes what was made: the mount point, which has to be empty, then the file, then the folder. What is missing is
    /// fine. Nothing goes while something is mounted; says whether that is so.
    pub(super) fn remove(&self) -> Result<bool, SetUpError> {
        if mount::is_mount_point(&self.mount())? {
            return Ok(false);
        }
        let Some(folder) = self.open()? else { return Ok(true) };
        folder.remove_one(Path::new(self.mount))?;
        for name in [FILE, TEMPORARY] {
            folder.remove_one(Path::new(name))?;
        }
        let Some(name) = self.below.file_name() else { return Ok(true) };
        let parent = self.below.parent().unwrap_or(Path::new(""));
        Root::open(&self.base)?.open_dir(parent, Links::Refuse)?.remove_one(Path::new(name))?;
        Ok(true)
    }

    fn open(&self) -> Result<Option<Root>, BeneathError> {
        match Root::open(&self.base).and_then(|base| base.open_dir(&self.below, Links::Refuse)) {
            Err(error) if error.is_not_found() => Ok(None),
            other => other.map(Some),
        }
    }
}
