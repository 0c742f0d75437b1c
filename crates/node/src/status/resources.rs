//! What the pod as a whole has been given (`status.resources`, `status.allocatedResources`,
//! KEP-5419).

use k8s_openapi::api::core::v1::{PodStatus, ResourceRequirements};
use model::Pod;
use model::resources::{ResourceList, declared_limits, pod_level, pod_limits, pod_requests};

/// Fills in both fields of a status whose phase is set. Before a pod runs, its resources are
/// all it effectively asks for; from then on what its cgroup enforces, cpu and memory, beside
/// what the pod as a whole asked for.
pub(super) fn fill(pod: &Pod, status: &mut PodStatus) {
    let requests = pod_requests(pod);
    status.allocated_resources = some(&requests);
    let (requests, limits) = if status.phase.as_deref() == Some("Running") {
        let own = pod_level(pod);
        let own_requests = ResourceList::from_api(own.and_then(|r| r.requests.as_ref()));
        let own_limits = ResourceList::from_api(own.and_then(|r| r.limits.as_ref()));
        let is_enforced = |name: &str| matches!(name, "cpu" | "memory");
        (
            requests.only(|name| is_enforced(name) || own_requests.get(name).is_some()),
            declared_limits(pod).only(|name| is_enforced(name) || own_limits.get(name).is_some()),
        )
    } else {
        (requests, pod_limits(pod))
    };
    let claims = pod.spec.as_ref().and_then(|s| s.resources.as_ref()).and_then(|r| r.claims.clone());
    status.resources =
        Some(ResourceRequirements { claims, requests: some(&requests), limits: some(&limits) });
}

fn some(
    list: &ResourceList,
) -> Option<std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>> {
    Some(list.to_api()).filter(|map| !map.is_empty())
}
