//! Volumes that drivers make available on a node: what a PersistentVolume, or a volume of a pod, says of them, and how a
//! node finds them again (<https://kubernetes.io/docs/concepts/storage/persistent-volumes/>, KEP-596 for inline ones).

mod claim;
mod csi;
mod found;
mod usage;

use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeSpec, Volume};
use serde::{Deserialize, Serialize};

use crate::{PodKey, PodUid, pod};

pub use claim::{BoundClaim, ClaimAnswer, ClaimName, ClaimProblem};
pub use csi::{
    CsiCapabilities, CsiDriver, CsiDriverObject, CsiSource, CsiTokenRequest, FsGroupPolicy, SecretName,
    attachment_name,
};
pub use found::{FoundPublication, FoundStage, FoundVolumes};
pub use usage::{Amounts, UsageSource, VolumeUsage};

/// Upstream's name of the plugin that calls CSI drivers.
pub const CSI_PLUGIN: &str = "kubernetes.io/csi";

/// A volume's name on its node, under which `volumesInUse` and `volumesAttached` of the node have it as well:
/// `kubernetes.io/csi/<driver>^<handle>`. One that is a single pod's has the pod's uid in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VolumeName(Arc<str>);

impl VolumeName {
    /// That of a volume of a CSI driver which pods may share.
    pub fn csi(driver: &str, handle: &str) -> Self {
        Self(format!("{CSI_PLUGIN}/{driver}^{handle}").into())
    }

    /// That of a volume which lives and dies with one pod. `folder` is its name in the pod.
    pub fn of_pod(plugin: &str, uid: &PodUid, folder: &str) -> Self {
        Self(format!("{plugin}/{uid}-{folder}").into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// What a volume is, whoever uses it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// Its name on the node.
    pub name: VolumeName,
    /// Its folder in the folders of pods: the PersistentVolume's name, or the volume's name in its pod.
    pub folder: String,
    /// What makes it.
    pub source: VolumeSource,
    /// Whether it has a file system.
    pub mode: VolumeMode,
    /// `spec.accessModes`, in the order of the object.
    pub access_modes: Vec<String>,
    /// `spec.mountOptions`.
    pub mount_options: Vec<String>,
    /// `spec.capacity.storage`, in bytes.
    pub capacity: Option<u64>,
}

/// What makes a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeSource {
    /// A CSI driver.
    Csi(CsiSource),
}

/// `spec.volumeMode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum VolumeMode {
    /// A folder.
    #[default]
    Filesystem,
    /// A block device.
    Block,
}

impl VolumeMode {
    /// As the API has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Filesystem => "Filesystem",
            Self::Block => "Block",
        }
    }
}

/// A volume that this kubelet cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum SpecError {
    /// Nothing here makes volumes of that kind.
    #[error("volume plugin {plugin:?} is not supported")]
    NoPlugin {
        /// Upstream's name of the plugin.
        plugin: String,
    },
    /// It says nothing that is known.
    #[error("no volume plugin matched")]
    Unknown,
}

impl VolumeSpec {
    /// What a PersistentVolume says.
    ///
    /// # Errors
    /// It is of a kind that this kubelet cannot have.
    pub fn of_persistent(object: &PersistentVolume) -> Result<Self, SpecError> {
        let folder = object.metadata.name.clone().unwrap_or_default();
        let spec = object.spec.as_ref().ok_or(SpecError::Unknown)?;
        let Some(source) = &spec.csi else {
            return Err(plugin_of(spec)
                .map_or(SpecError::Unknown, |plugin| SpecError::NoPlugin { plugin: plugin.to_owned() }));
        };
        let source = CsiSource::of_persistent(source);
        let capacity = spec.capacity.as_ref().and_then(|capacity| capacity.get("storage"));
        let capacity = capacity.and_then(crate::Quantity::from_api);
        Ok(Self {
            name: VolumeName::csi(&source.driver, &source.handle),
            folder,
            source: VolumeSource::Csi(source),
            mode: match spec.volume_mode.as_deref() {
                Some("Block") => VolumeMode::Block,
                _ => VolumeMode::Filesystem,
            },
            access_modes: spec.access_modes.clone().unwrap_or_default(),
            mount_options: spec.mount_options.clone().unwrap_or_default(),
            capacity: capacity.and_then(|quantity| u64::try_from(quantity.units()).ok()),
        })
    }

    /// What a pod says of a volume that a CSI driver makes for it alone; `None` for one of another kind.
    pub fn of_inline(pod: &crate::Pod, volume: &Volume) -> Option<Self> {
        let (uid, PodKey { namespace, .. }) = (pod::uid(pod), pod::key(pod));
        let source = CsiSource::of_inline(&uid, &namespace, &volume.name, volume.csi.as_ref()?);
        Some(Self {
            name: VolumeName::of_pod(CSI_PLUGIN, &uid, &volume.name),
            folder: volume.name.clone(),
            source: VolumeSource::Csi(source),
            mode: VolumeMode::Filesystem,
            access_modes: vec!["ReadWriteOnce".to_owned()],
            mount_options: Vec::new(),
            capacity: None,
        })
    }

    /// Upstream's name of the plugin that makes it, as metrics have it: for CSI `kubernetes.io/csi:<driver>`.
    pub fn plugin(&self) -> String {
        match &self.source {
            VolumeSource::Csi(source) => format!("{CSI_PLUGIN}:{}", source.driver),
        }
    }

    /// Who can say what it takes.
    pub fn usage(&self) -> UsageSource {
        match &self.source {
            VolumeSource::Csi(source) => {
                UsageSource::Driver { name: source.driver.clone(), handle: source.handle.clone() }
            }
        }
    }

    /// The CSI driver that makes it.
    pub fn csi(&self) -> &CsiSource {
        let VolumeSource::Csi(source) = &self.source;
        source
    }
}

/// Whether a volume of a pod is made by a driver, for it alone or by a claim.
pub fn is_made_by_driver(volume: &Volume) -> bool {
    volume.csi.is_some() || volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some()
}

/// Upstream's name of the plugin that a PersistentVolume of another kind needs.
fn plugin_of(spec: &PersistentVolumeSpec) -> Option<&'static str> {
    macro_rules! named {
        ($($field:ident => $plugin:literal),* $(,)?) => {
            $(if spec.$field.is_some() { return Some($plugin); })*
        };
    }
    named! {
        local => "kubernetes.io/local-volume",
        nfs => "kubernetes.io/nfs",
        host_path => "kubernetes.io/host-path",
        iscsi => "kubernetes.io/iscsi",
        fc => "kubernetes.io/fc",
        flex_volume => "kubernetes.io/flexvolume",
        aws_elastic_block_store => "kubernetes.io/aws-ebs",
        azure_disk => "kubernetes.io/azure-disk",
        azure_file => "kubernetes.io/azure-file",
        cinder => "kubernetes.io/cinder",
        gce_persistent_disk => "kubernetes.io/gce-pd",
        portworx_volume => "kubernetes.io/portworx-volume",
        vsphere_volume => "kubernetes.io/vsphere-volume",
    }
    None
}

/// A volume as it is there for a pod: where containers mount it from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PublishedVolume {
    /// Its folder below `volumes/kubernetes.io~csi` of its pod.
    pub folder: String,
    /// Whether the pod may only ever read it.
    pub is_read_only: bool,
    /// Whether it has a file system.
    pub mode: VolumeMode,
    /// Upstream's name of the plugin that has made it, as metrics have it.
    pub plugin: String,
    /// Who can say what it takes.
    pub usage: UsageSource,
}

impl PublishedVolume {
    /// A volume that is there.
    pub fn of(spec: &VolumeSpec, is_read_only: bool) -> Self {
        Self {
            folder: spec.folder.clone(),
            is_read_only,
            mode: spec.mode,
            plugin: spec.plugin(),
            usage: spec.usage(),
        }
    }
}

#[cfg(test)]
mod tests;
