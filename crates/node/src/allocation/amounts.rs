//! The amounts that are compared and added up: whole numbers, by resource.

use model::resources::ResourceList;
use model::{AllocatedPod, Quantity};

use crate::node_status::{CPU, EPHEMERAL_STORAGE, HUGE_PAGES_PREFIX, MEMORY};

/// What a pod requests of the resources that count.
pub(crate) fn requested(pod: &AllocatedPod) -> Vec<(String, i64)> {
    counted(&pod.requests())
}

fn counted(requests: &ResourceList) -> Vec<(String, i64)> {
    let counted = requests.iter().filter(|(name, _)| is_counted(name));
    counted.map(|(name, amount)| (name.to_owned(), number(name, amount))).collect()
}

/// CPU in thousandths, everything else in whole units.
pub(crate) fn number(resource: &str, amount: Quantity) -> i64 {
    if resource == CPU { amount.millis() } else { amount.units() }
}

fn is_counted(resource: &str) -> bool {
    matches!(resource, CPU | MEMORY | EPHEMERAL_STORAGE)
        || resource.starts_with(HUGE_PAGES_PREFIX)
        || resource.starts_with("attachable-volumes-")
        || resource.contains('/')
}
