//! What a pod and its containers have been given: `status.resources` and `status.allocatedResources`
//! (KEP-5419), and `resources` of a container's status (KEP-1287).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodStatus, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use model::resources::ResourceList;
use model::{AllocatedPod, ContainerObservation, Quantity};

/// Below these the kernel takes the same value for any, so that what was given tells more: thousandths
/// of a processor, as limit and as request.
const MIN_CPU_LIMIT_MILLIS: i64 = 10;
const MIN_CPU_REQUEST_MILLIS: i64 = 2;

/// Fills in both fields of a status whose phase is set. Before a pod runs, its resources are
/// all it effectively asks for; from then on what its cgroup enforces, cpu and memory, beside
/// what the pod as a whole asked for.
pub(super) fn fill(pod: &AllocatedPod, status: &mut PodStatus) {
    let requests = pod.requests();
    status.allocated_resources = some(requests.to_api());
    let (requests, limits) = if status.phase.as_deref() == Some("Running") {
        let own = pod.own_resources();
        let own_requests = ResourceList::from_api(own.and_then(|r| r.requests.as_ref()));
        let own_limits = ResourceList::from_api(own.and_then(|r| r.limits.as_ref()));
        let is_enforced = |name: &str| matches!(name, "cpu" | "memory");
        let requests = requests.only(|name| is_enforced(name) || own_requests.get(name).is_some());
        let limits = pod.declared_limits().only(|name| is_enforced(name) || own_limits.get(name).is_some());
        (enforced(&requests, false), enforced(&limits, true))
    } else {
        (requests.to_api(), pod.limits().to_api())
    };
    let claims = pod.spec.as_ref().and_then(|s| s.resources.as_ref()).and_then(|r| r.claims.clone());
    status.resources = Some(ResourceRequirements { claims, requests: some(requests), limits: some(limits) });
}

/// Amounts as they can be read off a cgroup: thousandths of a processor, and a limit in bytes.
fn enforced(list: &ResourceList, is_limit: bool) -> BTreeMap<String, ApiQuantity> {
    let mut all = list.to_api();
    if let Some(cpu) = list.get("cpu") {
        all.insert("cpu".to_owned(), millis(cpu.millis()));
    }
    if let Some(memory) = list.get("memory").filter(|_| is_limit) {
        all.insert("memory".to_owned(), Quantity::from_units(memory.units()).to_binary_api());
    }
    all
}

/// What a container has: as the runtime tells while it runs, and otherwise as it was granted.
pub(super) fn of_container(spec: &Container, container: &ContainerObservation) -> ResourceRequirements {
    let mut resources = spec.resources.clone().unwrap_or_default();
    let Some(applied) = container.resources.as_ref().filter(|_| container.state.is_running()) else {
        return resources;
    };
    let cpu_of = |side: &BTreeMap<String, ApiQuantity>| {
        side.get("cpu").and_then(Quantity::from_api).map_or(0, Quantity::millis)
    };
    if let Some(limits) = &mut resources.limits {
        if applied.cpu_period > 0 && applied.cpu_quota > 0 {
            let limit = applied.cpu_quota.saturating_mul(1000) / applied.cpu_period;
            if limit > 0 && limit.max(cpu_of(limits)) > MIN_CPU_LIMIT_MILLIS {
                limits.insert("cpu".to_owned(), millis(limit));
            }
        }
        if applied.memory_limit_bytes > 0 {
            let limit = Quantity::from_units(applied.memory_limit_bytes).to_binary_api();
            limits.insert("memory".to_owned(), limit);
        }
    }
    if let Some(requests) = &mut resources.requests
        && applied.cpu_shares > 1
    {
        // 1024 shares are a processor.
        let request = (applied.cpu_shares.saturating_mul(1000) + 1023) / 1024;
        if request.max(cpu_of(requests)) > MIN_CPU_REQUEST_MILLIS {
            requests.insert("cpu".to_owned(), millis(request));
        }
    }
    resources
}

fn millis(amount: i64) -> ApiQuantity {
    Quantity::from_millis(amount).to_decimal_api()
}

fn some(map: BTreeMap<String, ApiQuantity>) -> Option<BTreeMap<String, ApiQuantity>> {
    Some(map).filter(|map| !map.is_empty())
}
