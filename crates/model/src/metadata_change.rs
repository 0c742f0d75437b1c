//! A change of an object's metadata.

use std::collections::BTreeMap;

use serde::Serialize;

/// What is to change in the metadata of a Node object, along with its status or alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MetadataChange {
    /// Labels to set.
    pub labels: BTreeMap<String, String>,
    /// Annotations to set; `None` removes one.
    pub annotations: BTreeMap<String, Option<String>>,
}

impl MetadataChange {
    /// Whether nothing is to change.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.annotations.is_empty()
    }
}
