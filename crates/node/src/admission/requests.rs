//! What a pod as a whole requests of its node.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Container;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use model::{Pod, Quantity, pod};

use crate::node_status::{CPU, HUGE_PAGES_PREFIX, MEMORY};

/// Amounts by resource name.
pub(super) type Amounts = BTreeMap<String, Quantity>;

/// The most the pod requests at any time of its life, with its overhead: its containers and
/// sidecars together, or an init container beside the sidecars that precede it. An amount stated
/// for the pod as a whole (KEP-2837) stands for that sum.
pub(super) fn effective(pod: &Pod) -> Amounts {
    let mut total = Amounts::new();
    let Some(spec) = pod.spec.as_ref() else { return total };
    for container in &spec.containers {
        add(&mut total, container_requests(container));
    }
    let mut sidecars = Amounts::new();
    let mut starting = Amounts::new();
    for container in spec.init_containers.iter().flatten() {
        if pod::is_sidecar(container) {
            add(&mut total, container_requests(container));
            add(&mut sidecars, container_requests(container));
            raise(&mut starting, &sidecars);
        } else {
            let mut now = sidecars.clone();
            add(&mut now, container_requests(container));
            raise(&mut starting, &now);
        }
    }
    raise(&mut total, &starting);
    if let Some(requests) = spec.resources.as_ref().and_then(|r| r.requests.as_ref()) {
        let stated = requests.iter().filter(|(name, _)| is_pod_level(name));
        total.extend(stated.filter_map(|(name, amount)| Some((name.clone(), Quantity::from_api(amount)?))));
    }
    add(&mut total, spec.overhead.as_ref());
    total
}

fn container_requests(container: &Container) -> Option<&BTreeMap<String, ApiQuantity>> {
    container.resources.as_ref()?.requests.as_ref()
}

fn add(total: &mut Amounts, amounts: Option<&BTreeMap<String, ApiQuantity>>) {
    for (name, amount) in amounts.into_iter().flatten() {
        let Some(amount) = Quantity::from_api(amount) else { continue };
        let sum = total.entry(name.clone()).or_default();
        *sum = sum.plus(amount);
    }
}

/// Whether an amount of this resource can be stated for a pod as a whole.
fn is_pod_level(resource: &str) -> bool {
    matches!(resource, CPU | MEMORY) || resource.starts_with(HUGE_PAGES_PREFIX)
}

/// Raises each amount to the other's.
fn raise(total: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let most = total.entry(name.clone()).or_default();
        *most = (*most).max(*amount);
    }
}
