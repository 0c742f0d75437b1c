//! Where things are below the kubelet's root directory. The names are a contract with upstream:
//! a node changes from one kubelet to the other under running pods.

use std::path::{Path, PathBuf};

use host::beneath::{Links, Root};
use model::{PodUid, VolumeKind};

use crate::error::{SetUpError, plain_name};

/// Mode of every folder that is the kubelet's own.
pub(crate) const OWN_MODE: u32 = 0o750;
pub(crate) const EMPTY_DIR: &str = "kubernetes.io~empty-dir";
pub(crate) const CONFIG_MAP: &str = "kubernetes.io~configmap";
pub(crate) const SECRET: &str = "kubernetes.io~secret";
pub(crate) const DOWNWARD_API: &str = "kubernetes.io~downward-api";
pub(crate) const PROJECTED: &str = "kubernetes.io~projected";
/// No such folders are made; the names tell of the plugins all the same.
const HOST_PATH: &str = "kubernetes.io~host-path";
const IMAGE: &str = "kubernetes.io~image";
pub(crate) const SUB_PATHS: &str = "volume-subpaths";

/// The plugin of a kind that is known and never made.
pub(crate) const GIT_REPO: &str = "kubernetes.io/git-repo";

/// The folder name of the plugin that makes volumes of this kind.
pub(crate) fn plugin_folder(kind: VolumeKind) -> Result<&'static str, SetUpError> {
    match kind {
        VolumeKind::HostPath => Ok(HOST_PATH),
        VolumeKind::ConfigMap => Ok(CONFIG_MAP),
        VolumeKind::Secret => Ok(SECRET),
        VolumeKind::DownwardApi => Ok(DOWNWARD_API),
        VolumeKind::Projected => Ok(PROJECTED),
        VolumeKind::EmptyDir => Ok(EMPTY_DIR),
        VolumeKind::Image => Ok(IMAGE),
        VolumeKind::Driver(plugin) => Err(SetUpError::NoPlugin { plugin }),
    }
}

/// One pod's folder.
#[derive(Clone, Debug)]
pub(crate) struct PodLayout {
    pods: PathBuf,
    uid: PathBuf,
}

impl PodLayout {
    /// The layout below a root directory free of symbolic links.
    pub(crate) fn new(root: &Path, uid: &PodUid) -> Result<Self, SetUpError> {
        Ok(Self { pods: pods_dir(root), uid: plain_name("pod uid", uid.as_str())? })
    }

    /// `<root>/pods`.
    pub(crate) fn pods(&self) -> &Path {
        &self.pods
    }

    /// The pod's folder name.
    pub(crate) fn uid(&self) -> &Path {
        &self.uid
    }

    /// `<root>/pods/<uid>`.
    pub(crate) fn dir(&self) -> PathBuf {
        self.pods.join(&self.uid)
    }

    /// Opens the pod's folder, making it and its standard sub-folders if needed.
    pub(crate) fn make(&self) -> Result<Root, SetUpError> {
        // The root directory itself is made at start; `pods` may have been removed since.
        let root = Root::open(self.pods.parent().unwrap_or(Path::new("/")))?;
        let pod = root.make_dirs(&Path::new("pods").join(&self.uid), OWN_MODE)?;
        pod.make_dirs(Path::new("volumes"), OWN_MODE)?;
        pod.make_dirs(Path::new("plugins"), OWN_MODE)?;
        Ok(pod)
    }

    /// Opens the pod's folder as it is.
    pub(crate) fn open(&self) -> Result<Root, SetUpError> {
        Ok(Root::open(&self.pods)?.open_dir(&self.uid, Links::Refuse)?)
    }

    /// `<pod>/volumes/<plugin>/<volume>`.
    pub(crate) fn volume(&self, plugin: &str, volume: &str) -> Result<PathBuf, SetUpError> {
        Ok(self.dir().join(volume_below(plugin, volume)?))
    }
}

/// `volumes/<plugin>/<volume>`, below the pod's folder.
pub(crate) fn volume_below(plugin: &str, volume: &str) -> Result<PathBuf, SetUpError> {
    Ok(Path::new("volumes").join(plugin).join(plain_name("volume name", volume)?))
}

/// `plugins/kubernetes.io~empty-dir/<volume>`, below the pod's folder: holds the marker `ready`.
/// The emptyDir that backs another kind of volume has a prefix.
pub(crate) fn ready_below(plugin: &str, volume: &str) -> Result<PathBuf, SetUpError> {
    let name = plain_name("volume name", volume)?;
    let name = if plugin == EMPTY_DIR { name } else { PathBuf::from(format!("wrapped_{volume}")) };
    Ok(Path::new("plugins").join(EMPTY_DIR).join(name))
}

/// `volume-subpaths/<volume>/<container>`, below the pod's folder.
pub(crate) fn sub_path_below(volume: &str, container: &str) -> Result<PathBuf, SetUpError> {
    let volume = plain_name("volume name", volume)?;
    Ok(Path::new(SUB_PATHS).join(volume).join(plain_name("container name", container)?))
}

/// `<root>/pods`.
pub(crate) fn pods_dir(root: &Path) -> PathBuf {
    root.join("pods")
}
