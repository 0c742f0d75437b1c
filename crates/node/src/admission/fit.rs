//! Whether the node has room for the pod.

use std::collections::BTreeMap;

use model::AllocatedPod;
use model::reason::Refusal;

use super::{AdmissionContext, Rejection};
use crate::allocation::{Room, number, requested};
use crate::node_status::{CPU, EPHEMERAL_STORAGE, MEMORY, PODS};

pub(super) fn check(pod: &AllocatedPod, ctx: &AdmissionContext<'_>) -> Result<(), Rejection> {
    let allocatable = ctx.allocatable;
    // Fewer than `maxPods` where `podsPerCore` says so.
    let max_pods = allocatable.get(PODS).map_or(0, |amount| amount.units());
    let pods = Room { used: ctx.ledger.pods(), capacity: max_pods };
    if !pods.has(1) {
        return Err(shortage(PODS, 1, pods));
    }
    let wanted: BTreeMap<String, i64> = requested(pod)
        .into_iter()
        // A resource that this node does not know may be the cluster's, which is none of its business.
        .filter(|(name, amount)| *amount > 0 && (!is_extended(name) || allocatable.contains_key(name)))
        .collect();
    let first = [CPU, MEMORY, EPHEMERAL_STORAGE];
    let others = wanted.keys().map(String::as_str).filter(|name| !first.contains(name));
    for name in first.into_iter().chain(others) {
        let Some(amount) = wanted.get(name).copied() else { continue };
        let capacity = allocatable.get(name).map_or(0, |amount| number(name, *amount));
        let room = ctx.ledger.room(name, capacity);
        if !room.has(amount) {
            return Err(shortage(name, amount, room));
        }
    }
    Ok(())
}

fn shortage(resource: &str, requested: i64, Room { used, capacity }: Room) -> Rejection {
    Rejection {
        reason: Refusal::OutOf(resource.to_owned()),
        message: format!(
            "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
        ),
    }
}

/// Whether the name is outside Kubernetes' own name space, as a device plugin's is.
fn is_extended(resource: &str) -> bool {
    resource.contains('/') && !resource.contains("kubernetes.io/") && !resource.starts_with("requests.")
}
