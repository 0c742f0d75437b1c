//! What differs between two statuses: whether that is worth a write, and which events tell of it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeCondition, NodeStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use model::Quantity;
use model::reason::event;

use super::conditions::{PRESSURES, READY};

/// Whether anything but a heartbeat differs. Compares what is meant rather than how it is
/// written: the API server rewrites amounts (`1000` to `1k`) and drops empty lists.
pub(crate) fn has_changed(old: &NodeStatus, new: &NodeStatus) -> bool {
    are_amounts_changed(old.capacity.as_ref(), new.capacity.as_ref())
        || are_amounts_changed(old.allocatable.as_ref(), new.allocatable.as_ref())
        || are_conditions_changed(list(&old.conditions), list(&new.conditions))
        || list(&old.addresses) != list(&new.addresses)
        || list(&old.images) != list(&new.images)
        || list(&old.runtime_handlers) != list(&new.runtime_handlers)
        || list(&old.declared_features) != list(&new.declared_features)
        || list(&old.volumes_in_use) != list(&new.volumes_in_use)
        || list(&old.volumes_attached) != list(&new.volumes_attached)
        || old.node_info != new.node_info
        || old.daemon_endpoints != new.daemon_endpoints
        || old.features != new.features
        || old.config != new.config
        || old.phase != new.phase
}

fn list<T>(field: &Option<Vec<T>>) -> &[T] {
    field.as_deref().unwrap_or_default()
}

type Amounts = BTreeMap<String, ApiQuantity>;

fn are_amounts_changed(old: Option<&Amounts>, new: Option<&Amounts>) -> bool {
    let none = Amounts::new();
    let (old, new) = (old.unwrap_or(&none), new.unwrap_or(&none));
    old.len() != new.len()
        || old.iter().zip(new).any(|((old_name, old), (new_name, new))| {
            old_name != new_name || (old != new && Quantity::from_api(old) != Quantity::from_api(new))
        })
}

fn are_conditions_changed(old: &[NodeCondition], new: &[NodeCondition]) -> bool {
    old.len() != new.len()
        || new.iter().any(|new| match find(old, &new.type_) {
            None => true,
            Some(old) => {
                (&old.status, &old.reason, &old.message, &old.last_transition_time)
                    != (&new.status, &new.reason, &new.message, &new.last_transition_time)
            }
        })
}

fn find<'a>(conditions: &'a [NodeCondition], kind: &str) -> Option<&'a NodeCondition> {
    conditions.iter().find(|c| c.type_ == kind)
}

/// The events (all of type `Normal`) that tell of a change of the node's conditions, as reason and
/// message. A condition of shortage is news when it appears, readiness only when it changes.
pub(crate) fn transition_events(
    old: &NodeStatus,
    new: &NodeStatus,
    name: &str,
) -> Vec<(&'static str, String)> {
    let (old, new) = (list(&old.conditions), list(&new.conditions));
    let mut reasons = Vec::new();
    for pressure in &PRESSURES {
        let Some(now) = find(new, pressure.condition) else { continue };
        if find(old, pressure.condition).is_none_or(|before| before.status != now.status) {
            reasons.push(pressure.event(&now.status));
        }
    }
    if let (Some(before), Some(now)) = (find(old, READY), find(new, READY))
        && before.status != now.status
    {
        reasons.push(if now.status == "True" { "NodeReady" } else { "NodeNotReady" });
    }
    reasons.into_iter().map(|reason| (reason, format!("Node {name} status is now: {reason}"))).collect()
}

/// The event (of type `Normal`) that tells whether pods may come to the node now.
pub(crate) fn schedulable_event(is_unschedulable: bool, name: &str) -> (&'static str, String) {
    let reason = if is_unschedulable { event::NODE_NOT_SCHEDULABLE } else { event::NODE_SCHEDULABLE };
    (reason, format!("Node {name} status is now: {reason}"))
}

/// The event of type `Warning` that tells of a reboot between the two statuses, as reason and
/// message.
pub(crate) fn reboot_event(old: &NodeStatus, new: &NodeStatus, name: &str) -> Option<(&'static str, String)> {
    let before = old.node_info.as_ref().map(|info| info.boot_id.as_str()).filter(|id| !id.is_empty())?;
    let now = new.node_info.as_ref().map(|info| info.boot_id.as_str())?;
    (before != now).then(|| (event::REBOOTED, format!("Node {name} has been rebooted, boot id: {now}")))
}
