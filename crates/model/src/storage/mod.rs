//! Volumes that are mounted one by one, by CSI drivers or by the kubelet: what a PersistentVolume, or a volume of a pod, says of
//! them, and how a node finds them again (<https://kubernetes.io/docs/concepts/storage/persistent-volumes/>, KEP-596 for inline
//! ones of drivers).

mod claim;
mod csi;
mod found;
mod growth;
mod host;
mod mounter;
mod usage;

use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{NodeSelector, PersistentVolume, PersistentVolumeSpec, Volume};
use serde::{Deserialize, Serialize};

use crate::{PodKey, PodUid, pod};

pub use claim::{BoundClaim, ClaimAnswer, ClaimName, ClaimProblem};
pub use csi::{
    CsiCapabilities, CsiDriver, CsiDriverObject, CsiSource, CsiTokenRequest, CsiVolume, FsGroupPolicy,
    SecretName, attachment_name,
};
pub use found::{FoundPublication, FoundStage, FoundVolumes};
pub use growth::{ClaimSize, Growth, ResizeStep};
pub use host::HostSource;
pub use mounter::{HostPlugin, Mounter, MounterName};
pub use usage::{Amounts, UsageSource, VolumeUsage};

/// Upstream's name of the plugin that calls CSI drivers.
pub const CSI_PLUGIN: &str = "kubernetes.io/csi";

/// Names the group to which the files of a PersistentVolume belong: its pods get it as a supplemental group.
const GROUP: &str = "pv.beta.kubernetes.io/gid";

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

    /// That of a volume which pods may share and the kubelet mounts. `folder` is the PersistentVolume's name.
    pub fn of_host(plugin: HostPlugin, folder: &str) -> Self {
        Self(format!("{}/{folder}", plugin.name()).into())
    }

    /// That of a volume which is one pod's alone. `folder` is its folder in that of the pod.
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// What it is mounted with: `spec.mountOptions`, and what stands for them.
    pub mount_options: Vec<String>,
    /// `spec.capacity.storage`, in bytes.
    pub capacity: Option<u64>,
    /// The nodes that may have it (`spec.nodeAffinity.required`); `None` for all.
    pub nodes: Option<NodeSelector>,
    /// The group that its pods need.
    pub group: Option<i64>,
}

/// What makes a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeSource {
    /// A CSI driver.
    Csi(CsiSource),
    /// The kubelet itself.
    Host(HostSource),
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
        let (source, name, mount_options) = match (&spec.csi, HostSource::of_persistent(spec)) {
            (Some(source), _) => {
                let source = CsiSource::of_persistent(source);
                let name = VolumeName::csi(&source.driver, &source.handle);
                (VolumeSource::Csi(source), name, spec.mount_options.clone().unwrap_or_default())
            }
            (None, Some(source)) => {
                let name = VolumeName::of_host(source.plugin(), &folder);
                (VolumeSource::Host(source), name, host::mount_options(object))
            }
            (None, None) => {
                return Err(plugin_of(spec)
                    .map_or(SpecError::Unknown, |plugin| SpecError::NoPlugin { plugin: plugin.to_owned() }));
            }
        };
        let capacity = spec.capacity.as_ref().and_then(|capacity| capacity.get("storage"));
        let capacity = capacity.and_then(crate::Quantity::from_api);
        let annotations = object.metadata.annotations.as_ref();
        Ok(Self {
            name,
            folder,
            source,
            mode: match spec.volume_mode.as_deref() {
                Some("Block") => VolumeMode::Block,
                _ => VolumeMode::Filesystem,
            },
            access_modes: spec.access_modes.clone().unwrap_or_default(),
            mount_options,
            capacity: capacity.and_then(|quantity| u64::try_from(quantity.units()).ok()),
            nodes: spec.node_affinity.as_ref().and_then(|affinity| affinity.required.clone()),
            group: annotations.and_then(|all| all.get(GROUP)?.parse().ok()),
        })
    }

    /// What a pod says itself of a volume that is mounted alone, and whether it may only be read; `None` for one of another kind.
    pub fn of_inline(pod: &crate::Pod, volume: &Volume) -> Option<(Self, bool)> {
        let (uid, PodKey { namespace, .. }) = (pod::uid(pod), pod::key(pod));
        let (source, plugin, is_read_only) = if let Some(source) = &volume.csi {
            let is_read_only = source.read_only.unwrap_or(false);
            let source = CsiSource::of_inline(&uid, &namespace, &volume.name, source);
            (VolumeSource::Csi(source), CSI_PLUGIN, is_read_only)
        } else {
            let source = volume.nfs.as_ref()?;
            let nfs = VolumeSource::Host(HostSource::of_nfs(source));
            (nfs, HostPlugin::Nfs.name(), source.read_only.unwrap_or(false))
        };
        let spec = Self {
            name: VolumeName::of_pod(plugin, &uid, &volume.name),
            folder: volume.name.clone(),
            source,
            mode: VolumeMode::Filesystem,
            access_modes: vec!["ReadWriteOnce".to_owned()],
            mount_options: Vec::new(),
            capacity: None,
            nodes: None,
            group: None,
        };
        Some((spec, is_read_only))
    }

    /// Upstream's name of the plugin that makes it, as metrics have it: for CSI `kubernetes.io/csi:<driver>`.
    pub fn plugin(&self) -> String {
        match &self.source {
            VolumeSource::Csi(source) => format!("{CSI_PLUGIN}:{}", source.driver),
            VolumeSource::Host(source) => source.plugin().name().to_owned(),
        }
    }

    /// Who can say what it takes.
    pub fn usage(&self) -> UsageSource {
        match &self.source {
            VolumeSource::Csi(source) => {
                UsageSource::Driver { name: source.driver.clone(), handle: source.handle.clone() }
            }
            VolumeSource::Host(_) => UsageSource::FileSystem,
        }
    }

    /// The same for one pod: what is mounted for each pod anew has another name for each.
    pub fn for_pod(self: &Arc<Self>, uid: &PodUid) -> Arc<Self> {
        match &self.source {
            VolumeSource::Host(source) if !source.plugin().stages() => {
                let name = VolumeName::of_pod(source.plugin().name(), uid, &self.folder);
                Arc::new(Self { name, ..Self::clone(self) })
            }
            VolumeSource::Csi(_) | VolumeSource::Host(_) => self.clone(),
        }
    }

    /// As a volume of a CSI driver; `None` for one of another kind.
    pub fn as_csi(&self) -> Option<CsiVolume<'_>> {
        match &self.source {
            VolumeSource::Csi(source) => Some(CsiVolume::new(self, source)),
            VolumeSource::Host(_) => None,
        }
    }

    /// Whether it is one pod's alone by its source: it is neither attached nor staged.
    pub fn is_ephemeral(&self) -> bool {
        self.as_csi().is_some_and(|volume| volume.csi().is_ephemeral)
    }

    /// Who mounts it.
    pub fn mounter(&self) -> MounterName {
        match &self.source {
            VolumeSource::Csi(source) => MounterName::Csi(source.driver.clone()),
            VolumeSource::Host(source) => MounterName::Host(source.plugin()),
        }
    }

    /// What its mounter calls it.
    pub fn handle(&self) -> &str {
        match &self.source {
            VolumeSource::Csi(source) => &source.handle,
            VolumeSource::Host(_) => &self.folder,
        }
    }
}

/// Whether a volume of a pod is mounted one by one, for it alone or by a claim, and not with the others of the pod.
pub fn is_mounted_alone(volume: &Volume) -> bool {
    let is_claimed = volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some();
    is_claimed || volume.csi.is_some() || volume.nfs.is_some()
}

/// Upstream's name of the plugin that a PersistentVolume of another kind needs.
fn plugin_of(spec: &PersistentVolumeSpec) -> Option<&'static str> {
    macro_rules! named {
        ($($field:ident => $plugin:literal),* $(,)?) => {
            $(if spec.$field.is_some() { return Some($plugin); })*
        };
    }
    named! {
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
    /// Its folder in that of the pod.
    pub folder: String,
    /// Where it is.
    pub place: PublishedPlace,
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
            place: PublishedPlace::of(&spec.source),
            is_read_only,
            mode: spec.mode,
            plugin: spec.plugin(),
            usage: spec.usage(),
        }
    }
}

/// Where a volume is for a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PublishedPlace {
    /// `volumes/kubernetes.io~csi/<folder>/mount` below the pod's folder.
    Csi,
    /// `volumes/<plugin>/<folder>` there.
    Mounted(HostPlugin),
    /// This path of the host.
    HostPath(String),
}

impl PublishedPlace {
    /// That of a volume.
    pub fn of(source: &VolumeSource) -> Self {
        match source {
            VolumeSource::Csi(_) => Self::Csi,
            VolumeSource::Host(HostSource::HostPath { path, .. }) => Self::HostPath(path.clone()),
            VolumeSource::Host(source) => Self::Mounted(source.plugin()),
        }
    }
}

#[cfg(test)]
mod tests;
