//! Eviction signals: what is measured to see whether the node runs out of something
//! (<https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#eviction-signals>).

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Signal {
    /// Memory of the node, bytes.
    Memory,
    /// Memory that pods may have together, bytes.
    PodsMemory,
    /// The file system with the root folder, bytes.
    NodeFs,
    /// The same, inodes.
    NodeFsInodes,
    /// The file system with images, bytes.
    ImageFs,
    /// The same, inodes.
    ImageFsInodes,
    /// The file system with containers' writable layers, bytes.
    ContainerFs,
    /// The same, inodes.
    ContainerFsInodes,
    /// Process ids.
    Pids,
}

impl Signal {
    const NAMES: [(&'static str, Self); 9] = [
        ("memory.available", Self::Memory),
        ("allocatableMemory.available", Self::PodsMemory),
        ("nodefs.available", Self::NodeFs),
        ("nodefs.inodesFree", Self::NodeFsInodes),
        ("imagefs.available", Self::ImageFs),
        ("imagefs.inodesFree", Self::ImageFsInodes),
        ("containerfs.available", Self::ContainerFs),
        ("containerfs.inodesFree", Self::ContainerFsInodes),
        ("pid.available", Self::Pids),
    ];

    /// Its name in documents, metrics and events.
    pub fn as_str(self) -> &'static str {
        Self::NAMES.iter().find(|(_, signal)| *signal == self).map_or("", |(name, _)| name)
    }

    /// All names.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::NAMES.iter().map(|(name, _)| *name)
    }

    /// The signal of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, signal)| *signal)
    }

    /// The resource that runs short, in the words of upstream's messages.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Memory | Self::PodsMemory => "memory",
            Self::NodeFs | Self::ImageFs | Self::ContainerFs => "ephemeral-storage",
            Self::NodeFsInodes | Self::ImageFsInodes | Self::ContainerFsInodes => "inodes",
            Self::Pids => "pids",
        }
    }

    /// Whether it is about a file system.
    pub fn is_of_disk(self) -> bool {
        match self {
            Self::NodeFs
            | Self::NodeFsInodes
            | Self::ImageFs
            | Self::ImageFsInodes
            | Self::ContainerFs
            | Self::ContainerFsInodes => true,
            Self::Memory | Self::PodsMemory | Self::Pids => false,
        }
    }

    /// Whether it counts bytes.
    pub fn is_in_bytes(self) -> bool {
        match self {
            Self::Memory | Self::PodsMemory | Self::NodeFs | Self::ImageFs | Self::ContainerFs => true,
            Self::NodeFsInodes | Self::ImageFsInodes | Self::ContainerFsInodes | Self::Pids => false,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_upstreams_and_are_read_back() {
        for (name, signal) in Signal::NAMES {
            assert_eq!((signal.as_str(), Signal::from_name(name)), (name, Some(signal)));
        }
        assert_eq!(Signal::from_name("memory"), None);
    }
}
