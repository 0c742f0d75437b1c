//! What is read of the node again and again, as it was last.

use model::ImageRef;
use serde::{Deserialize, Serialize};

use crate::pressure::{Sample, Signal};

/// The last reading of each kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Readings {
    /// The node's addresses as reported, primary first; none where a cloud provider is to tell. `None` when they could not be
    /// found: then the addresses already reported stay.
    pub addresses: Option<Vec<String>>,
    /// The runtime's name (`containerd`).
    pub runtime_name: String,
    /// The runtime's version; empty while it is not known.
    pub runtime_version: String,
    /// The volumes that must not be detached from the node.
    pub volumes_in_use: Vec<String>,
    /// All images, in any order.
    pub images: Vec<NodeImage>,
    /// What the node has left; `None` before it was measured.
    pub sample: Option<Sample>,
}

/// One image of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeImage {
    /// Its id.
    pub id: ImageRef,
    /// Digest references, then tags.
    pub names: Vec<String>,
    /// Size, bytes.
    pub size_bytes: u64,
    /// Whether the runtime wants it to stay.
    pub is_pinned: bool,
}

impl Readings {
    /// Size of the file system that holds the root directory, bytes; `None` while it is not known.
    pub fn storage_bytes(&self) -> Option<u64> {
        self.sample.as_ref().and_then(|sample| sample.capacity(Signal::NodeFs))
    }
}
