//! One mount of a container, as volumes prepare it and the runtime carries it out.

use std::path::PathBuf;

use crate::ImageRef;

/// A bind mount from the host into a container, or an image mounted there (CRI `Mount`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerMount {
    /// Absolute path on the host; empty for an image.
    pub host_path: PathBuf,
    /// The image that is mounted; `None` for what is on the host.
    pub image: Option<MountedImage>,
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

/// An image mounted into a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountedImage {
    /// The image, as the runtime knows it.
    pub image: ImageRef,
    /// The same as the pod asks for it.
    pub reference: String,
    /// The folder or file of it that is mounted, relative to its root; empty for all of it.
    pub sub_path: String,
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
