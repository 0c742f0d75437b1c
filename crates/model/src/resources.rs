//! What a pod effectively requests of its node and may use of it
//! (<https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers>,
//! KEP-753, KEP-2837).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use crate::pod::is_sidecar;
use crate::{Pod, Quantity};

/// Amounts by resource name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceList(BTreeMap<String, Quantity>);

impl ResourceList {
    /// The amount of a resource; `None` when it is not mentioned.
    pub fn get(&self, name: &str) -> Option<Quantity> {
        self.0.get(name).copied()
    }

    /// All amounts, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Quantity)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), *amount))
    }

    fn from_api(map: Option<&BTreeMap<String, ApiQuantity>>) -> Self {
        let parse = |(name, amount): (&String, &ApiQuantity)| Some((name.clone(), Quantity::from_api(amount)?));
        Self(map.into_iter().flatten().filter_map(parse).collect())
    }

    fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let sum = self.0.entry(name.clone()).or_default();
            *sum = sum.plus(*amount);
        }
    }

    fn raise_to(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let max = self.0.entry(name.clone()).or_default();
            *max = (*max).max(*amount);
        }
    }
}

/// Which side of a container's resources.
type Side = fn(&Container) -> ResourceList;

/// Effective requests: what the scheduler counts. Overhead is included.
pub fn pod_requests(pod: &Pod) -> ResourceList {
    let Some(spec) = &pod.spec else { return ResourceList::default() };
    let mut total = effective(spec, container_requests);
    if let Some(own) = &spec.resources {
        override_with(&mut total, &requests_of(own));
    }
    total.add(&ResourceList::from_api(spec.overhead.as_ref()));
    total
}

/// Effective limits: the sum of what containers are limited to; one without a limit adds nothing.
pub fn pod_limits(pod: &Pod) -> ResourceList {
    let Some(spec) = &pod.spec else { return ResourceList::default() };
    let mut total = effective(spec, container_limits);
    if let Some(own) = &spec.resources {
        override_with(&mut total, &ResourceList::from_api(own.limits.as_ref()));
    }
    // Overhead widens a limit and is none by itself.
    let overhead = ResourceList::from_api(spec.overhead.as_ref());
    for (name, amount) in &mut total.0 {
        *amount = amount.plus(overhead.get(name).unwrap_or_default());
    }
    total
}

/// The effective limits of cpu and memory that hold for the pod as a whole: those that every
/// container, or the pod itself, declares. Other resources as in [`pod_limits`].
pub fn declared_limits(pod: &Pod) -> ResourceList {
    let mut limits = pod_limits(pod);
    let Some(spec) = &pod.spec else { return limits };
    let own = spec.resources.as_ref().map(|r| ResourceList::from_api(r.limits.as_ref())).unwrap_or_default();
    let all = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    for name in ["cpu", "memory"] {
        let is_declared = all().all(|c| container_limits(c).get(name).is_some_and(|q| !q.is_zero()));
        if own.get(name).is_none() && !is_declared {
            limits.0.remove(name);
        }
    }
    limits
}

/// A container's requests; one that is missing is the limit.
pub fn container_requests(container: &Container) -> ResourceList {
    container.resources.as_ref().map(requests_of).unwrap_or_default()
}

/// A container's limits.
pub fn container_limits(container: &Container) -> ResourceList {
    ResourceList::from_api(container.resources.as_ref().and_then(|r| r.limits.as_ref()))
}

fn requests_of(resources: &ResourceRequirements) -> ResourceList {
    let mut requests = ResourceList::from_api(resources.limits.as_ref());
    requests.0.extend(ResourceList::from_api(resources.requests.as_ref()).0);
    requests
}

fn override_with(total: &mut ResourceList, own: &ResourceList) {
    total.0.extend(own.0.iter().map(|(name, amount)| (name.clone(), *amount)));
}

/// The larger of what runs together in the end and what any init container needs beside the
/// sidecars started before it.
fn effective(spec: &PodSpec, of: Side) -> ResourceList {
    let mut total = ResourceList::default();
    for container in &spec.containers {
        total.add(&of(container));
    }
    let mut sidecars = ResourceList::default();
    let mut peak = ResourceList::default();
    for container in spec.init_containers.iter().flatten() {
        let own = of(container);
        if is_sidecar(container) {
            total.add(&own);
            sidecars.add(&own);
            peak.raise_to(&sidecars);
        } else {
            let mut needed = own;
            needed.add(&sidecars);
            peak.raise_to(&needed);
        }
    }
    total.raise_to(&peak);
    total
}

/// Whether a pod as a whole may have a request or limit of this resource (KEP-2837).
pub fn is_pod_level_resource(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: &str) -> Pod {
        serde_json::from_str(&format!("{{\"spec\":{spec}}}")).unwrap()
    }

    #[test]
    fn effective_requests() {
        let cases = [
            (r#"{"containers":[]}"#, None),
            (r#"{"containers":[{"name":"a","resources":{"requests":{"cpu":"100m"}}},{"name":"b","resources":{"limits":{"cpu":"50m"}}}]}"#, Some(150)),
            // A large init container alone decides.
            (r#"{"containers":[{"name":"a","resources":{"requests":{"cpu":"100m"}}}],"initContainers":[{"name":"i","resources":{"requests":{"cpu":"500m"}}}]}"#, Some(500)),
            // Sidecars count beside the containers, and beside the init containers after them.
            (r#"{"containers":[{"name":"a","resources":{"requests":{"cpu":"100m"}}}],"initContainers":[{"name":"s","restartPolicy":"Always","resources":{"requests":{"cpu":"200m"}}},{"name":"i","resources":{"requests":{"cpu":"500m"}}}]}"#, Some(700)),
            (r#"{"containers":[{"name":"a","resources":{"requests":{"cpu":"100m"}}}],"overhead":{"cpu":"10m"}}"#, Some(110)),
            (r#"{"containers":[{"name":"a","resources":{"requests":{"cpu":"100m"}}}],"resources":{"requests":{"cpu":"1"}}}"#, Some(1000)),
        ];
        for (spec, millis) in cases {
            assert_eq!(pod_requests(&pod(spec)).get("cpu").map(Quantity::millis), millis, "{spec}");
        }
    }

    #[test]
    fn a_limit_holds_for_the_pod_only_when_all_containers_have_one() {
        let both = r#"{"containers":[{"name":"a","resources":{"limits":{"cpu":"1","memory":"1Gi"}}},{"name":"b","resources":{"limits":{"cpu":"1"}}}]}"#;
        let limits = declared_limits(&pod(both));
        assert_eq!((limits.get("cpu").map(Quantity::units), limits.get("memory")), (Some(2), None));
    }
}
