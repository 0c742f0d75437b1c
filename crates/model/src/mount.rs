//! One mount of a container, as volumes prepare it and the runtime carries it out.

use std::path::PathBuf;

/// A bind mount from the host into a container (CRI `Mount`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerMount {
    /// Absolute path on the host.
    pub host_path: PathBuf,
    /// Absolute path in the container.
    pub container_path: String,
    /// Whether writes are refused.
    pub is_read_only: bool,
    /// Whether the mounts below it are read-only too (`recursiveReadOnly`).
    pub is_recursive_read_only: bool,
    /// Whether the source is the kubelet's own and, on a node with SELinux, is labelled for the container.
    pub is_relabelled: bool,
    /// Further options of the bind mount: `noexec`, `nodev`, `nosuid`. That a pod may ask for them, is the API
    /// server's to decide (`VolumeBindMountOptions`).
    pub bind_options: Vec<String>,
    /// How mounts travel between host and container.
    pub propagation: MountPropagation,
}

/// `volumeMounts[].mountPropagation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MountPropagation {
    /// Mounts made on either side stay there (`None`, the default).
    #[default]
    Private,
    /// Mounts made on the host appear in the container.
    HostToContainer,
    /// Mounts made on either side appear on the other.
    Bidirectional,
}
