//! What a pod effectively requests of its node and may use of it
//! (<https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers>,
//! KEP-753, KEP-2837). Others ask an [`AllocatedPod`](crate::AllocatedPod) for these amounts: which of them were granted, a
//! plain pod does not tell.

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

    /// The API's form; amounts that cannot be parsed are left out, for the API server validates.
    pub fn from_api(map: Option<&BTreeMap<String, ApiQuantity>>) -> Self {
        let parse =
            |(name, amount): (&String, &ApiQuantity)| Some((name.clone(), Quantity::from_api(amount)?));
        Self(map.into_iter().flatten().filter_map(parse).collect())
    }

    /// The API's form, each amount in the notation it was read in.
    pub fn to_api(&self) -> BTreeMap<String, ApiQuantity> {
        self.0.iter().map(|(name, amount)| (name.clone(), amount.to_api())).collect()
    }

    /// Only the resources that `keep` names.
    #[must_use]
    pub fn only(mut self, keep: impl Fn(&str) -> bool) -> Self {
        self.0.retain(|name, _| keep(name));
        self
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
pub(crate) fn pod_requests(pod: &Pod) -> ResourceList {
    let mut total = requests_without_overhead(pod);
    total.add(&ResourceList::from_api(pod.spec.as_ref().and_then(|s| s.overhead.as_ref())));
    total
}

/// Effective requests of what the pod itself runs. A request that the pod as a whole lacks is
/// its containers', and only without one of those its own limit.
pub(crate) fn requests_without_overhead(pod: &Pod) -> ResourceList {
    let Some(spec) = &pod.spec else { return ResourceList::default() };
    let mut total = effective(spec, container_requests);
    if let Some(own) = pod_level(pod) {
        for (name, amount) in ResourceList::from_api(own.limits.as_ref()).0 {
            if is_pod_level_resource(&name) {
                total.0.entry(name).or_insert(amount);
            }
        }
        override_with(&mut total, &ResourceList::from_api(own.requests.as_ref()));
    }
    total
}

/// Effective limits: the sum of what containers are limited to; one without a limit adds nothing.
pub(crate) fn pod_limits(pod: &Pod) -> ResourceList {
    let Some(spec) = &pod.spec else { return ResourceList::default() };
    let mut total = effective(spec, container_limits);
    if let Some(own) = pod_level(pod) {
        override_with(&mut total, &ResourceList::from_api(own.limits.as_ref()));
    }
    // Overhead widens a limit and is none by itself.
    let overhead = ResourceList::from_api(spec.overhead.as_ref());
    for (name, amount) in total.0.iter_mut().filter(|(_, amount)| !amount.is_zero()) {
        *amount = amount.plus(overhead.get(name).unwrap_or_default());
    }
    total
}

/// Whether a pod asks for resources as a whole (KEP-2837), beside what its containers ask for.
pub fn has_pod_level(pod: &Pod) -> bool {
    pod_level(pod).is_some()
}

/// The pod's own requirements, when it has a request or limit that may stand there (KEP-2837).
pub(crate) fn pod_level(pod: &Pod) -> Option<&ResourceRequirements> {
    let own = pod.spec.as_ref()?.resources.as_ref()?;
    let mut names = own.requests.iter().chain(&own.limits).flat_map(BTreeMap::keys);
    names.any(|name| is_pod_level_resource(name)).then_some(own)
}

/// The effective limits of cpu and memory that hold for the pod as a whole: those that every
/// container, or the pod itself, declares. Other resources as in [`pod_limits`].
pub(crate) fn declared_limits(pod: &Pod) -> ResourceList {
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
pub(crate) fn container_requests(container: &Container) -> ResourceList {
    container.resources.as_ref().map(requests_of).unwrap_or_default()
}

/// A container's limits.
pub(crate) fn container_limits(container: &Container) -> ResourceList {
    ResourceList::from_api(container.resources.as_ref().and_then(|r| r.limits.as_ref()))
}

fn requests_of(resources: &ResourceRequirements) -> ResourceList {
    let mut requests = ResourceList::from_api(resources.limits.as_ref());
    requests.0.extend(ResourceList::from_api(resources.requests.as_ref()).0);
    requests
}

fn override_with(total: &mut ResourceList, own: &ResourceList) {
    let own = own.0.iter().filter(|(name, _)| is_pod_level_resource(name));
    total.0.extend(own.map(|(name, amount)| (name.clone(), *amount)));
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
pub(crate) fn is_pod_level_resource(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

#[cfg(test)]
mod tests;
