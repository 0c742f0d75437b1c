//! What objects say of volumes that the kubelet mounts itself
//! (<https://kubernetes.io/docs/concepts/storage/volumes/>).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{NFSVolumeSource, PersistentVolume, PersistentVolumeSpec};
use serde::{Deserialize, Serialize};

use super::HostPlugin;

/// Says in place of `spec.mountOptions` what to mount with, separated by commas.
const MOUNT_OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";

/// A volume that the kubelet mounts itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostSource {
    /// `local`
    Local {
        /// The folder or the block device.
        path: String,
        /// The file system that a device has, or is given.
        fs_type: String,
    },
    /// `hostPath`
    HostPath {
        /// The path.
        path: String,
        /// What has to be there (`type`); empty for anything.
        kind: String,
    },
    /// `nfs`
    Nfs {
        /// The server's name or address.
        server: String,
        /// What it exports.
        path: String,
    },
}

impl HostSource {
    /// What a PersistentVolume says; `None` for one of another kind.
    pub(super) fn of_persistent(spec: &PersistentVolumeSpec) -> Option<Self> {
        if let Some(source) = &spec.local {
            let fs_type = source.fs_type.clone().unwrap_or_else(|| "ext4".to_owned());
            return Some(Self::Local { path: source.path.clone(), fs_type });
        }
        if let Some(source) = &spec.nfs {
            return Some(Self::of_nfs(source));
        }
        let source = spec.host_path.as_ref()?;
        Some(Self::HostPath { path: source.path.clone(), kind: source.type_.clone().unwrap_or_default() })
    }

    pub(super) fn of_nfs(source: &NFSVolumeSource) -> Self {
        Self::Nfs { server: source.server.clone(), path: source.path.clone() }
    }

    /// What makes it.
    pub fn plugin(&self) -> HostPlugin {
        match self {
            Self::Local { .. } => HostPlugin::Local,
            Self::HostPath { .. } => HostPlugin::HostPath,
            Self::Nfs { .. } => HostPlugin::Nfs,
        }
    }
}

/// What a PersistentVolume is mounted with: each option once, in order, as upstream gives them to mount(8).
pub(super) fn mount_options(object: &PersistentVolume) -> Vec<String> {
    let annotation = object.metadata.annotations.as_ref().and_then(|all| all.get(MOUNT_OPTIONS));
    let options: BTreeSet<String> = match annotation {
        Some(options) => options.split(',').map(str::to_owned).collect(),
        None => object.spec.iter().flat_map(|spec| spec.mount_options.iter().flatten().cloned()).collect(),
    };
    options.into_iter().filter(|option| !option.is_empty()).collect()
}
