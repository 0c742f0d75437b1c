//! Whether the node has room for the pod.

use std::collections::BTreeMap;

use model::reason::Refusal;
use model::resources::{self, ResourceList};
use model::{Pod, Quantity};

use super::{AdmissionContext, Rejection};
use crate::node_status::{CPU, EPHEMERAL_STORAGE, HUGE_PAGES_PREFIX, MEMORY, PODS};

pub(super) fn check(pod: &Pod, ctx: &AdmissionContext<'_>) -> Result<(), Rejection> {
    let pods = ctx.occupied.pods();
    let allocatable = ctx.facts.allocatable();
    // Fewer than `maxPods` where `podsPerCore` says so.
    let max_pods = allocatable.get(PODS).map_or(0, |amount| amount.units());
    if pods >= max_pods {
        return Err(shortage(PODS, 1, pods, max_pods));
    }
    let wanted = amounts(&resources::pod_requests(pod))
        // A resource that this node does not know may be the cluster's, which is none of its business.
        .filter(|(name, amount)| *amount > 0 && (!is_extended(name) || allocatable.contains_key(name)))
        .collect::<BTreeMap<_, _>>();
    if wanted.is_empty() {
        return Ok(());
    }
    let first = [CPU, MEMORY, EPHEMERAL_STORAGE];
    let others = wanted.keys().map(String::as_str).filter(|name| !first.contains(name));
    for name in first.into_iter().chain(others) {
        let Some(requested) = wanted.get(name).copied() else { continue };
        let used = ctx.occupied.used(name);
        let capacity = allocatable.get(name).map_or(0, |amount| number(name, *amount));
        if requested > capacity.saturating_sub(used) {
            return Err(shortage(name, requested, used, capacity));
        }
    }
    Ok(())
}

fn shortage(resource: &str, requested: i64, used: i64, capacity: i64) -> Rejection {
    Rejection {
        reason: Refusal::OutOf(resource.to_owned()),
        message: format!(
            "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
        ),
    }
}

/// The amounts that count, as the whole numbers in which each is compared.
pub(super) fn amounts(requests: &ResourceList) -> impl Iterator<Item = (String, i64)> + use<'_> {
    requests
        .iter()
        .filter(|(name, _)| is_counted(name))
        .map(|(name, amount)| (name.to_owned(), number(name, amount)))
}

/// CPU in thousandths, everything else in whole units.
fn number(resource: &str, amount: Quantity) -> i64 {
    if resource == CPU { amount.millis() } else { amount.units() }
}

fn is_counted(resource: &str) -> bool {
    matches!(resource, CPU | MEMORY | EPHEMERAL_STORAGE)
        || resource.starts_with(HUGE_PAGES_PREFIX)
        || resource.starts_with("attachable-volumes-")
        || resource.contains('/')
}

/// Whether the name is outside Kubernetes' own name space, as a device plugin's is.
fn is_extended(resource: &str) -> bool {
    resource.contains('/') && !resource.contains("kubernetes.io/") && !resource.starts_with("requests.")
}
