//! What a container may swap, and from where on its memory use is slowed down: values of cgroup v2
//! (<https://kep.k8s.io/2400>, <https://kep.k8s.io/2570>).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use model::pod::ContainerRef;
use model::resources::ResourceList;
use model::{AllocatedPod, QosClass, Quantity, pod};

use super::resources::amount;
use crate::node_settings::NodeSettings;
use crate::wire::LinuxContainerResources;

/// Adds them to a container's limits, of which the memory limit is known already.
pub(super) fn add(
    resources: &mut LinuxContainerResources,
    pod: &AllocatedPod,
    container: &ContainerRef<'_>,
    node: &NodeSettings,
) {
    let own = Own::of(container);
    if node.has_swap_control {
        if node.has_cgroup_v2 {
            let swap = swap_bytes(pod, own, node).to_string();
            resources.unified.insert("memory.swap.max".to_owned(), swap);
        } else {
            // Version 1 limits memory and swap together.
            resources.memory_swap_limit_in_bytes = resources.memory_limit_in_bytes;
        }
    }
    if node.has_cgroup_v2 {
        protect(&mut resources.unified, pod, own, node);
    }
}

/// What a container itself asks for, bytes.
#[derive(Clone, Copy)]
struct Own {
    request: i64,
    limit: i64,
}

impl Own {
    fn of(container: &ContainerRef<'_>) -> Self {
        let own = container.spec.resources.as_ref();
        let memory = |of: Option<&BTreeMap<_, _>>| amount(of, "memory").unwrap_or(Quantity::ZERO).units();
        Self {
            request: memory(own.and_then(|r| r.requests.as_ref())),
            limit: memory(own.and_then(|r| r.limits.as_ref())),
        }
    }
}

/// Containers of Burstable pods get of the swap what they request of the memory, all others none.
fn swap_bytes(pod: &AllocatedPod, own: Own, node: &NodeSettings) -> u64 {
    let Some(swap) = node.swap_bytes_for_pods else { return 0 };
    let is_fit = QosClass::of(pod) == QosClass::Burstable
        && !pod::is_critical(pod)
        // Neither without both nor with both the same.
        && own.request != own.limit;
    let request = u64::try_from(own.request).unwrap_or(0);
    if !is_fit || request > node.memory_capacity_bytes || node.memory_capacity_bytes == 0 {
        return 0;
    }
    // As upstream calculates it, so that a take-over changes nothing.
    (request as f64 / node.memory_capacity_bytes as f64 * swap as f64) as u64
}

/// `memory.min`, `memory.low` and `memory.high`. Each is set in any case that a container may have it from
/// another configuration.
fn protect(unified: &mut BTreeMap<String, String>, pod: &AllocatedPod, own: Own, node: &NodeSettings) {
    let mut set = |name: &str, value: String| unified.insert(name.to_owned(), value);
    let Some(qos) = &node.memory_qos else {
        set("memory.high", "max".to_owned());
        return;
    };
    if qos.reserves_requests && own.request != 0 {
        // Never taken away from Guaranteed pods, and from others last.
        let is_guaranteed = QosClass::of(pod) == QosClass::Guaranteed;
        set(if is_guaranteed { "memory.min" } else { "memory.low" }, own.request.to_string());
    } else {
        set("memory.min", "0".to_owned());
        set("memory.low", "0".to_owned());
    }
    if let Some(factor) = qos.throttling_factor
        && let Some(high) = high_bytes(pod, own, factor, qos.allocatable_bytes)
    {
        set("memory.high", high.to_string());
    }
}

/// From how many bytes of memory on a pod as a whole is slowed down: so far between its request and its limit. Only pods
/// with requirements of their own are; with others, it is up to the single containers.
pub fn pod_memory_high(pod: &AllocatedPod, factor: f64) -> Option<u64> {
    pod.own_resources()?;
    let amount = |list: &ResourceList| list.get("memory").unwrap_or(Quantity::ZERO).units();
    // Only a limit that holds for the whole pod counts.
    let limit = amount(&pod.declared_limits());
    let request = amount(&pod.requests());
    if limit == 0 || request == limit {
        return None;
    }
    between(request, limit as f64, factor)
}

/// So far between request and limit, or between request and what pods can have of the node; whole
/// pages. A container that can use no more than it requests is not slowed down.
fn high_bytes(pod: &AllocatedPod, own: Own, factor: f64, allocatable_bytes: u64) -> Option<u64> {
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let pod_limit =
        |r: &ResourceRequirements| amount(r.limits.as_ref(), "memory").is_some_and(|q| !q.is_zero());
    if own.limit == 0 && of_pod.is_some_and(pod_limit) {
        // The pod's own cgroup takes care of it.
        return None;
    }
    if own.request == own.limit && own.request != 0 {
        return None;
    }
    let end = if own.limit != 0 { own.limit as f64 } else { allocatable_bytes as f64 };
    between(own.request, end, factor)
}

/// Whole pages between a request and an upper end; `None` when that is no more than the request.
fn between(request: i64, end: f64, factor: f64) -> Option<u64> {
    let page = rustix::param::page_size() as f64;
    let high = request as f64 + (end - request as f64) * factor;
    let high = ((high / page).floor() * page) as i64;
    if high > request { u64::try_from(high).ok() } else { None }
}
