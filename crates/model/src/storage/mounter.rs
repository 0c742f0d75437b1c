//! Who mounts volumes: CSI drivers, and the kubelet itself with the kernel and the programs of the node.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::CsiDriver;

/// A plugin of upstream's that needs no driver: the kubelet mounts its volumes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HostPlugin {
    /// A disk or a folder of one node (`local`).
    Local,
    /// A path of a node (`hostPath`).
    HostPath,
    /// What a server exports (`nfs`).
    Nfs,
}

impl HostPlugin {
    /// Those that mount something in the folders of pods.
    pub const MOUNTING: [Self; 2] = [Self::Local, Self::Nfs];

    /// Upstream's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "kubernetes.io/local-volume",
            Self::HostPath => "kubernetes.io/host-path",
            Self::Nfs => "kubernetes.io/nfs",
        }
    }

    /// Its folder in those of pods.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Local => "kubernetes.io~local-volume",
            Self::HostPath => "kubernetes.io~host-path",
            Self::Nfs => "kubernetes.io~nfs",
        }
    }

    /// Whether a volume is made ready for the node before it is for pods, which then share it. Others are mounted for each pod
    /// anew.
    pub fn stages(self) -> bool {
        match self {
            Self::Local => true,
            Self::HostPath | Self::Nfs => false,
        }
    }

    /// Whether `mountOptions` mean anything to it.
    pub fn takes_mount_options(self) -> bool {
        match self {
            Self::Local | Self::Nfs => true,
            Self::HostPath => false,
        }
    }
}

/// Who mounts a volume, by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum MounterName {
    /// The CSI driver of that name.
    Csi(String),
    /// The kubelet itself.
    Host(HostPlugin),
}

impl MounterName {
    /// The CSI driver's name.
    pub fn driver(&self) -> Option<&str> {
        match self {
            Self::Csi(driver) => Some(driver),
            Self::Host(_) => None,
        }
    }

    /// Upstream's name of the plugin.
    pub fn plugin(&self) -> &'static str {
        match self {
            Self::Csi(_) => super::CSI_PLUGIN,
            Self::Host(plugin) => plugin.name(),
        }
    }
}

impl fmt::Display for MounterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Csi(driver) => write!(f, "CSI driver {driver}"),
            Self::Host(plugin) => write!(f, "plugin {}", plugin.name()),
        }
    }
}

/// Who mounts a volume, as it is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mounter {
    /// A CSI driver.
    Csi(CsiDriver),
    /// The kubelet itself.
    Host(HostPlugin),
}

impl Mounter {
    /// Its name.
    pub fn name(&self) -> MounterName {
        match self {
            Self::Csi(driver) => MounterName::Csi(driver.name.clone()),
            Self::Host(plugin) => MounterName::Host(*plugin),
        }
    }
}
