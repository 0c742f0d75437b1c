//! Why a volume is not there. These texts end up in `FailedMount` events and container statuses,
//! so unlike elsewhere a message tells its whole chain.

use std::path::PathBuf;

use host::FileError;
use host::beneath::BeneathError;
use host::mount::MountError;
pub(crate) use model::chain;
use model::downward::DownwardError;

use crate::csi::DataError;
use crate::objects::{ObjectError, PodCertificateError, TrustBundleError};
use crate::payload::PathError;
use crate::plugins::host_path::HostPathError;
use crate::plugins::huge_pages::HugePagesError;

/// A failed operation on a pod's volumes.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A volume could not be made or updated. The text is that of upstream's event.
    #[error("{}", set_up_text(volume, cause))]
    SetUp {
        /// `volumes[].name`.
        volume: String,
        /// Why.
        cause: SetUpError,
        /// Further volumes of the pod that failed in the same attempt.
        also: Vec<VolumeError>,
    },
    /// There is no place for the pod's volumes. The text is that of upstream's event.
    #[error("error making pod data directories: {}", chain(cause))]
    Folders {
        /// Why.
        cause: SetUpError,
    },
    /// A volume could not be mounted into a container.
    #[error("{}", chain(cause))]
    Mount {
        /// `volumeMounts[].name`.
        volume: String,
        /// Why.
        cause: MountFailure,
    },
    /// A pod's volumes could not be taken down.
    #[error("UnmountVolume.TearDown failed for pod {uid} : {}", chain(cause))]
    TearDown {
        /// Whose.
        uid: String,
        /// Why.
        cause: SetUpError,
    },
    /// The pods on disk could not be listed.
    #[error("list pods on disk: {}", chain(cause))]
    List {
        /// Why.
        cause: SetUpError,
    },
}

impl VolumeError {
    /// This failure and all others of the same attempt, one event each.
    pub fn all(&self) -> Vec<&Self> {
        let also = match self {
            Self::SetUp { also, .. } => also.as_slice(),
            _ => &[],
        };
        std::iter::once(self).chain(also).collect()
    }

    /// Whether it was not even found out how the volume is made.
    pub fn is_before_mounting(&self) -> bool {
        matches!(self, Self::SetUp { cause: SetUpError::NoPlugin { .. }, .. })
    }
}

/// What upstream says of it, by how far it came.
fn set_up_text(volume: &str, cause: &SetUpError) -> String {
    match cause {
        SetUpError::NoPlugin { .. } => {
            format!("failed to get Plugin from volumeSpec for volume {volume:?} err={cause}")
        }
        _ => format!("MountVolume.SetUp failed for volume {volume:?} : {}", chain(cause)),
    }
}

/// Kinds that the API has and no kubelet makes any more.
const WITHDRAWN: [&str; 8] = [
    "kubernetes.io/cephfs",
    "kubernetes.io/flocker",
    "kubernetes.io/glusterfs",
    "kubernetes.io/photon-pd",
    "kubernetes.io/quobyte",
    "kubernetes.io/rbd",
    "kubernetes.io/scaleio",
    "kubernetes.io/storageos",
];

fn no_plugin_text(plugin: &str) -> String {
    match WITHDRAWN.contains(&plugin) {
        true => "no volume plugin matched".to_owned(),
        false => format!("volume plugin {plugin:?} is not supported"),
    }
}

/// Why a volume could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// An object it consists of is not to be had.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// A config map lacks a key.
    #[error("configmap references non-existent config key: {key}")]
    NoConfigKey {
        /// The key.
        key: String,
    },
    /// A secret lacks a key.
    #[error("references non-existent secret key: {key}")]
    NoSecretKey {
        /// The key.
        key: String,
    },
    /// A token could not be had.
    #[error("failed to fetch token")]
    Token(#[source] ObjectError),
    /// Certificates of authorities could not be had.
    #[error(transparent)]
    TrustBundle(#[from] TrustBundleError),
    /// It is not said which. The text is upstream's.
    #[error("ClusterTrustBundle projection requires either name or signerName to be set")]
    NoTrustBundle,
    /// The pod has no certificate.
    #[error(transparent)]
    PodCertificate(#[from] PodCertificateError),
    /// A field of the pod cannot be projected.
    #[error(transparent)]
    Downward(#[from] DownwardError),
    /// A path in the volume is not allowed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A path on the host is not what the pod says.
    #[error(transparent)]
    HostPath(#[from] HostPathError),
    /// Memory in huge pages is not to be had.
    #[error(transparent)]
    HugePages(#[from] HugePagesError),
    /// Nothing here makes volumes of that kind.
    #[error("{}", no_plugin_text(plugin))]
    NoPlugin {
        /// Upstream's name of the plugin.
        plugin: &'static str,
    },
    /// Cloning repositories of a pod's choice on the host was given up. The text is upstream's.
    #[error(
        "git-repo volume plugin has been disabled; if necessary, it may be re-enabled by enabling the feature-gate \
         `GitRepoVolumeDriver`"
    )]
    GitRepoDisabled,
    /// A value of the pod makes no sense.
    #[error("{what} {value:?} is not valid")]
    Invalid {
        /// What is wrong.
        what: &'static str,
        /// Its value.
        value: String,
    },
    /// Several sources of one volume failed.
    #[error("[{}]", .0.iter().map(|e| chain(e)).collect::<Vec<_>>().join(", "))]
    Several(Vec<SetUpError>),
    /// Files or folders could not be made.
    #[error(transparent)]
    Disk(#[from] BeneathError),
    /// A mount could not be made or undone.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// What a folder says of its CSI volume could not be written or read.
    #[error(transparent)]
    CsiData(#[from] DataError),
    /// A driver has to take a volume back before its pod's folder can go.
    #[error("CSI volume {} is still published", path.display())]
    StillPublished {
        /// Its folder in that of the pod.
        path: PathBuf,
    },
    /// The mount table could not be read.
    #[error("list mounts")]
    Table(#[from] FileError),
    /// The blocking work panicked or the runtime shut down.
    #[error("the work was interrupted")]
    Interrupted,
}

impl SetUpError {
    /// One error for all that happened; none if the list is empty.
    pub(crate) fn of_all(mut errors: Vec<Self>) -> Result<(), Self> {
        match errors.pop() {
            None => Ok(()),
            Some(only) if errors.is_empty() => Err(only),
            Some(last) => {
                errors.push(last);
                Err(Self::Several(errors))
            }
        }
    }
}

/// Why a volume could not be mounted into a container.
#[derive(Debug, thiserror::Error)]
pub enum MountFailure {
    /// The pod has no such volume.
    #[error("cannot find volume {volume:?} to mount into container {container:?}")]
    NoVolume {
        /// `volumeMounts[].name`.
        volume: String,
        /// The container's name.
        container: String,
    },
    /// The image of a volume is not there.
    #[error("image of volume {volume:?} is not there")]
    NoImage {
        /// `volumeMounts[].name`.
        volume: String,
    },
    /// `subPath` starts at the root.
    #[error("error SubPath `{0}` must not be an absolute path")]
    AbsoluteSubPath(String),
    /// `subPath` goes up.
    #[error("unable to provision SubPath `{0}`: must not contain '..'")]
    BackstepSubPath(String),
    /// `subPathExpr` names variables that are empty or missing.
    #[error("missing value for {0}")]
    NoValue(String),
    /// Preparing the subPath failed. The text is terse on purpose: details could tell the pod's
    /// author about the host's file system. They are in `detail`, for the log.
    #[error("failed to prepare subPath for volumeMount {volume:?} of container {container:?}")]
    SubPath {
        /// `volumeMounts[].name`.
        volume: String,
        /// The container's name.
        container: String,
        /// What happened.
        detail: String,
    },
    /// `mountPropagation` is no known word.
    #[error("invalid MountPropagation mode: {0:?}")]
    Propagation(String),
    /// `recursiveReadOnly` cannot be had like this.
    #[error(
        "failed to resolve recursive read-only mode: volume {volume:?} requested recursive read-only mode, but {why}"
    )]
    RecursiveReadOnly {
        /// `volumeMounts[].name`.
        volume: String,
        /// What stands against it.
        why: String,
    },
    /// The volume itself cannot be found on the host.
    #[error(transparent)]
    Volume(SetUpError),
    /// The blocking work panicked or the runtime shut down.
    #[error("preparing mounts was interrupted")]
    Interrupted,
}

/// A name from a pod that has to be a single plain path component.
pub(crate) fn plain_name(what: &'static str, name: &str) -> Result<PathBuf, SetUpError> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) || name.len() > 255 {
        return Err(SetUpError::Invalid { what, value: name.to_owned() });
    }
    Ok(PathBuf::from(name))
}
