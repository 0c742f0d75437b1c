//! What a pod and its containers have: `status.resources` and `status.allocatedResources`
//! (KEP-5419), and `resources` of a container's status (KEP-1287).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodStatus, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use model::{ContainerObservation, Quantity, cpu, pod};

use super::StatusInputs;

/// Below these the kernel takes the same value for any, so that what was given tells more: thousandths
/// of a processor, as limit and as request.
const MIN_CPU_LIMIT_MILLIS: i64 = 10;
const MIN_CPU_REQUEST_MILLIS: i64 = 2;

/// Fills in both fields of a status whose phase is set (KEP-5419). As long as a pod does not run, its resources are all it
/// effectively asks for; from then on what its cgroup has, beside what the pod as a whole asked for. What is not known of the
/// cgroup stays as it was said to be. Static pods never run by what upstream goes by, which is what their source says of them.
pub(super) fn fill(inputs: &StatusInputs<'_>, status: &mut PodStatus) {
    let StatusInputs { pod, cgroup, previous, .. } = *inputs;
    let (requests, own) = (pod.requests(), pod.own_resources().cloned().unwrap_or_default());
    status.allocated_resources = some(requests.to_api());
    let is_running = |status: &PodStatus| status.phase.as_deref() == Some("Running");
    if !is_running(status) || pod::is_static(pod) {
        let (requests, limits) = (some(requests.to_api()), some(pod.limits().to_api()));
        status.resources = Some(ResourceRequirements { claims: own.claims, requests, limits });
        return;
    }
    let said = previous.resources.as_ref().filter(|_| is_running(previous));
    let cgroup = cgroup.copied().unwrap_or_default();
    let mut has = Sides {
        requests: own.requests.unwrap_or_default(),
        limits: own.limits.unwrap_or_default(),
        said: [said.and_then(|said| said.requests.as_ref()), said.and_then(|said| said.limits.as_ref())],
    };
    has.put_cpu_request(cgroup.cpu_shares);
    if let Some(memory) = requests.get("memory") {
        has.requests.entry("memory".to_owned()).or_insert_with(|| memory.to_api());
    }
    has.put_cpu_limit(cgroup.cpu_limit_millis);
    has.put_memory_limit(cgroup.memory_limit_bytes);
    let (requests, limits) = (some(has.requests), some(has.limits));
    status.resources = Some(ResourceRequirements { claims: own.claims, requests, limits });
}

type Amounts = BTreeMap<String, ApiQuantity>;

/// Requests and limits of a pod as they are put together, and what was said of both before.
struct Sides<'a> {
    requests: Amounts,
    limits: Amounts,
    said: [Option<&'a Amounts>; 2],
}

impl Sides<'_> {
    /// A weight that is what the pod's request comes to tells less than the request.
    fn put_cpu_request(&mut self, shares: Option<u64>) {
        let Some((shares, read)) = shares.and_then(|shares| Some((shares, cpu::millis_of_shares(shares)?)))
        else {
            return keep("cpu", self.said[0], &mut self.requests);
        };
        let own = cpu_of(&self.requests);
        let of_own = cpu::shares_of_weight(cpu::cpu_weight(cpu::cpu_shares(u64::try_from(own).unwrap_or(0))));
        let read = i64::try_from(read).unwrap_or(i64::MAX);
        if read.max(own) > MIN_CPU_REQUEST_MILLIS && of_own != Some(shares) {
            self.requests.insert("cpu".to_owned(), millis(read));
        }
    }

    fn put_cpu_limit(&mut self, read: Option<u64>) {
        let Some(read) = read else { return keep("cpu", self.said[1], &mut self.limits) };
        let read = i64::try_from(read).unwrap_or(i64::MAX);
        if read.max(cpu_of(&self.limits)) > MIN_CPU_LIMIT_MILLIS {
            self.limits.insert("cpu".to_owned(), millis(read));
        }
    }

    fn put_memory_limit(&mut self, read: Option<u64>) {
        let Some(read) = read else { return keep("memory", self.said[1], &mut self.limits) };
        let read = Quantity::from_units(i64::try_from(read).unwrap_or(i64::MAX));
        self.limits.insert("memory".to_owned(), read.to_binary_api());
    }
}

/// What was said of a resource stays.
fn keep(name: &str, said: Option<&Amounts>, amounts: &mut Amounts) {
    if let Some(said) = said.and_then(|said| said.get(name)) {
        amounts.insert(name.to_owned(), said.clone());
    }
}

/// Thousandths of a processor; 0 for none.
fn cpu_of(amounts: &Amounts) -> i64 {
    amounts.get("cpu").and_then(Quantity::from_api).map_or(0, Quantity::millis)
}

/// What a container has: as the runtime tells while it runs, and otherwise as it was granted.
pub(super) fn of_container(spec: &Container, container: &ContainerObservation) -> ResourceRequirements {
    let mut resources = spec.resources.clone().unwrap_or_default();
    let Some(applied) = container.resources.as_ref().filter(|_| container.state.is_running()) else {
        return resources;
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

fn some(map: Amounts) -> Option<Amounts> {
    Some(map).filter(|map| !map.is_empty())
}
