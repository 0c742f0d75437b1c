//! A container's limits as the kernel takes them, from requests and limits as users write them
//! (<https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/>).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use model::pod::{ContainerKind, ContainerRef};
use model::{AllocatedPod, Pod, QosClass, Quantity, pod};

use super::{CpuSet, memory};
use crate::node_settings::NodeSettings;
use crate::wire::{HugepageLimit, LinuxContainerResources};

const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;
const SHARES_PER_CPU: i64 = 1024;
const MIN_QUOTA_MICROS: i64 = 1000;

const OOM_GUARANTEED: i64 = -997;
const OOM_BEST_EFFORT: i64 = 1000;

/// Limits as CRI has them.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerLimits(pub(crate) LinuxContainerResources);

/// All limits of a container.
pub fn limits(
    pod: &AllocatedPod,
    container: &ContainerRef<'_>,
    cpuset: &CpuSet,
    node: &NodeSettings,
) -> ContainerLimits {
    let own = container.spec.resources.as_ref();
    let whole = pod.spec.as_ref().and_then(|s| s.resources.as_ref());
    // A container without a limit shares the pod's.
    let limit = |name| {
        let of = |r: Option<&ResourceRequirements>| amount(r.and_then(|r| r.limits.as_ref()), name);
        of(own).filter(|q| !q.is_zero()).or_else(|| of(whole)).unwrap_or(Quantity::ZERO)
    };
    let (cpu_limit, memory_limit) = (limit("cpu"), limit("memory"));
    let cpu_request = amount(own.and_then(|r| r.requests.as_ref()), "cpu").or(Some(cpu_limit));
    let mut resources = linux_resources(cpu_request, cpu_limit, memory_limit, cpuset.is_exclusive, node);
    resources.oom_score_adj = oom_score_adj(pod, container, node.memory_capacity_bytes);
    resources.hugepage_limits = hugepages(own, whole, node);
    resources.cpuset_cpus = cpuset.cpus.clone();
    resources.cpuset_mems = cpuset.memory_nodes.clone();
    memory::add(&mut resources, pod, container, node);
    ContainerLimits(resources)
}

/// CPU and memory. A limit of zero is none; a missing request is the limit.
pub(crate) fn linux_resources(
    cpu_request: Option<Quantity>,
    cpu_limit: Quantity,
    memory_limit: Quantity,
    has_exclusive_cpus: bool,
    node: &NodeSettings,
) -> LinuxContainerResources {
    let mut resources = LinuxContainerResources {
        cpu_shares: cpu_shares(cpu_request.unwrap_or(cpu_limit)),
        memory_limit_in_bytes: memory_limit.units(),
        ..Default::default()
    };
    if node.enforces_cpu_quota {
        let period = i64::try_from(node.cpu_quota_period.as_micros()).unwrap_or(i64::MAX);
        resources.cpu_period = period;
        resources.cpu_quota = if has_exclusive_cpus { -1 } else { cpu_quota(cpu_limit, period) };
    }
    if node.has_cgroup_v2 && !node.kills_single_process {
        resources.unified.insert("memory.oom.group".to_owned(), "1".to_owned());
    }
    resources
}

fn cpu_shares(request: Quantity) -> i64 {
    request.millis().saturating_mul(SHARES_PER_CPU).div_euclid(1000).clamp(MIN_SHARES, MAX_SHARES)
}

/// Microseconds a period; zero for no limit.
fn cpu_quota(limit: Quantity, period_micros: i64) -> i64 {
    if limit.is_zero() {
        return 0;
    }
    (limit.millis().saturating_mul(period_micros) / 1000).max(MIN_QUOTA_MICROS)
}

/// How readily the kernel kills the container's processes when the node is out of memory: the
/// more of the node a container requested, the less.
pub(crate) fn oom_score_adj(
    pod: &AllocatedPod,
    container: &ContainerRef<'_>,
    memory_capacity_bytes: u64,
) -> i64 {
    if is_node_critical(pod) {
        return OOM_GUARANTEED;
    }
    match QosClass::of(pod) {
        QosClass::Guaranteed => return OOM_GUARANTEED,
        QosClass::BestEffort => return OOM_BEST_EFFORT,
        QosClass::Burstable => {}
    }
    let share = remaining_memory_share(pod);
    let mut request = memory_request(&container.spec).saturating_add(share);
    if container.kind == ContainerKind::Sidecar {
        // A sidecar must not die before those it serves.
        let regular = pod.spec.iter().flat_map(|s| &s.containers).map(memory_request).min();
        request = request.max(regular.unwrap_or(0).saturating_add(share));
    }
    let capacity = i128::from(memory_capacity_bytes.max(1));
    let score = 1000 - i128::from(request) * 1000 / capacity;
    // Above Guaranteed (-997 + 1000 for one that uses the whole node), below BestEffort.
    i64::try_from(score).unwrap_or(0).clamp(1000 + OOM_GUARANTEED, OOM_BEST_EFFORT - 1)
}

fn is_node_critical(pod: &Pod) -> bool {
    let class = pod.spec.as_ref().and_then(|s| s.priority_class_name.as_deref());
    pod::is_critical(pod) && class == Some("system-node-critical")
}

/// What the pod as a whole requests beyond its containers, divided among them.
fn remaining_memory_share(pod: &AllocatedPod) -> i64 {
    let Some(spec) = &pod.spec else { return 0 };
    let whole = spec.resources.as_ref().and_then(|r| amount(r.requests.as_ref(), "memory"));
    let Some(whole) = whole.filter(|q| !q.is_zero()) else { return 0 };
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let count = i64::try_from(spec.containers.len() + init.len()).unwrap_or(i64::MAX).max(1);
    let regular: i64 = spec.containers.iter().map(memory_request).sum();
    // Sidecars run beside everything that starts after them; other init containers alone.
    let (mut sidecars, mut peak) = (0, 0);
    for container in init {
        if pod::is_sidecar(container) {
            sidecars += memory_request(container);
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars + memory_request(container));
        }
    }
    (whole.units() - peak.max(regular + sidecars)).max(0) / count
}

fn memory_request(container: &Container) -> i64 {
    let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
    amount(requests, "memory").unwrap_or(Quantity::ZERO).units()
}

/// Every page size the kernel has, zero unless requested: without a limit a container could use
/// all there are.
fn hugepages(
    own: Option<&ResourceRequirements>,
    whole: Option<&ResourceRequirements>,
    node: &NodeSettings,
) -> Vec<HugepageLimit> {
    let mut wanted = BTreeMap::new();
    for requirements in [whole, own].into_iter().flatten() {
        for (name, value) in requirements.limits.iter().flatten() {
            let size = name.strip_prefix("hugepages-").and_then(|size| size.parse::<Quantity>().ok());
            if let Some((size, value)) = size.zip(Quantity::from_api(value)) {
                wanted.insert(cgroup_page_size(size.units()), value.units());
            }
        }
    }
    node.hugepage_sizes
        .iter()
        .map(|size| HugepageLimit {
            page_size: size.clone(),
            limit: wanted.get(size).and_then(|limit| u64::try_from(*limit).ok()).unwrap_or(0),
        })
        .collect()
}

/// `2MB` for 2 Mi: how cgroup files spell page sizes.
fn cgroup_page_size(bytes: i64) -> String {
    let mut amount = bytes;
    for unit in ["B", "KB", "MB", "GB", "TB"] {
        if amount % 1024 != 0 || amount == 0 || unit == "TB" {
            return format!("{amount}{unit}");
        }
        amount /= 1024;
    }
    format!("{amount}PB")
}

pub(super) fn amount(map: Option<&BTreeMap<String, ApiQuantity>>, name: &str) -> Option<Quantity> {
    map.and_then(|m| m.get(name)).and_then(Quantity::from_api)
}
