//! Quality-of-service classes (<https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/>).

use std::fmt;

use k8s_openapi::api::core::v1::{Container, ResourceRequirements};

use crate::{Pod, Quantity};

/// A pod's class, derived from requests and limits alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QosClass {
    /// Every container has cpu and memory limits equal to its requests.
    Guaranteed,
    /// Something is requested or limited.
    Burstable,
    /// Nothing is.
    BestEffort,
}

impl QosClass {
    /// The class of a pod. Pod-level resources (KEP-2837) outrank the containers'.
    pub fn of(pod: &Pod) -> Self {
        let Some(spec) = &pod.spec else { return Self::BestEffort };
        if let Some(resources) = &spec.resources
            && (!is_empty(resources.requests.as_ref()) || !is_empty(resources.limits.as_ref()))
        {
            return Self::of_requirements([resources].into_iter());
        }
        let init = spec.init_containers.iter().flatten();
        let all = spec.containers.iter().chain(init);
        let none = ResourceRequirements::default();
        let mut requirements = Vec::new();
        for container in all {
            requirements.push(container_requirements(container).unwrap_or(&none));
        }
        Self::of_requirements(requirements.into_iter())
    }

    /// The word the API uses in `status.qosClass`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }

    fn of_requirements<'a>(all: impl Iterator<Item = &'a ResourceRequirements>) -> Self {
        let (mut any, mut guaranteed) = (false, true);
        for requirements in all {
            for resource in ["cpu", "memory"] {
                let amount = |map: Option<&std::collections::BTreeMap<String, _>>| {
                    map.and_then(|m| m.get(resource)).and_then(Quantity::from_api).filter(|q| !q.is_zero())
                };
                let limit = amount(requirements.limits.as_ref());
                // The API server defaults a missing request to the limit; manifests read from
                // files have not been through it.
                let request = amount(requirements.requests.as_ref()).or(limit);
                any |= limit.is_some() || request.is_some();
                guaranteed &= limit.is_some() && limit == request;
            }
        }
        match (any, guaranteed) {
            (false, _) => Self::BestEffort,
            (true, true) => Self::Guaranteed,
            (true, false) => Self::Burstable,
        }
    }
}

impl fmt::Display for QosClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn is_empty<V>(map: Option<&std::collections::BTreeMap<String, V>>) -> bool {
    map.is_none_or(std::collections::BTreeMap::is_empty)
}

fn container_requirements(container: &Container) -> Option<&ResourceRequirements> {
    container.resources.as_ref()
}
