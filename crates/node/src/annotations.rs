//! Which annotations decisions depend on. All others may be cut from what the core is given.

use model::pod;

use crate::admission::apparmor;
use crate::csi;
use crate::node_status;

/// Whether the core reads what an annotation of this name says.
pub fn reads_annotation(name: &str) -> bool {
    let names = [
        pod::ANNOTATION_CONFIG_SOURCE,
        pod::ANNOTATION_CONFIG_HASH,
        pod::ANNOTATION_CONFIG_SEEN,
        pod::ANNOTATION_CONFIG_MIRROR,
        node_status::PROVIDED_IP_ANNOTATION,
        csi::NODE_ID_ANNOTATION,
        csi::MIGRATED_ANNOTATION,
    ];
    names.contains(&name) || name.starts_with(apparmor::ANNOTATION)
}
