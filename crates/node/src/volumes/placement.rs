//! Which nodes may have a volume (`spec.nodeAffinity` of a PersistentVolume).

use k8s_openapi::api::core::v1::Node as ApiNode;
use model::storage::VolumeSpec;

use crate::node_selector::{self, Labelled};

/// A node by its labels. Its name counts for nothing, as upstream has it.
struct Labels<'a>(&'a ApiNode);

impl Labelled for Labels<'_> {
    fn label(&self, name: &str) -> Option<&str> {
        self.0.metadata.labels.as_ref()?.get(name).map(String::as_str)
    }

    fn name(&self) -> &str {
        ""
    }
}

/// Whether this node may have a volume; `None` as long as the Node object was not seen and it matters.
pub(super) fn placement(volume: &VolumeSpec, node: Option<&ApiNode>) -> Option<bool> {
    let Some(required) = &volume.nodes else { return Some(true) };
    node.map(|node| node_selector::is_any_met(&required.node_selector_terms, &Labels(node)))
}
