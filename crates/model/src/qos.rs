//! Quality-of-service classes (<https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/>).

use std::fmt;

use serde::Serialize;

use crate::{Pod, Quantity, resources};

/// A pod's class, derived from requests and limits alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum QosClass {
    /// Every container has cpu and memory limits equal to its requests.
    Guaranteed,
    /// Something is requested or limited.
    Burstable,
    /// Nothing is.
    BestEffort,
}

impl QosClass {
    /// The class of a pod: the one that its status names, which the API server has written when it took the pod, or
    /// else the one that follows from what it asks for.
    pub fn of(pod: &Pod) -> Self {
        Self::told(pod).unwrap_or_else(|| Self::from_amounts(pod))
    }

    /// The same where resources of the pod that name no amount count like any others, as they did without the feature gate
    /// `PodLevelResourcesFixKubeletQOSClass`.
    pub fn with_empty_resources(pod: &Pod) -> Self {
        let is_empty = pod.spec.as_ref().is_some_and(|spec| spec.resources.is_some())
            && resources::pod_level(pod).is_none();
        if is_empty { Self::told(pod).unwrap_or(Self::BestEffort) } else { Self::of(pod) }
    }

    fn told(pod: &Pod) -> Option<Self> {
        pod.status.as_ref().and_then(|status| Self::from_api(status.qos_class.as_deref()?))
    }

    /// Pod-level resources (KEP-2837) outrank the containers'; ephemeral containers do not count.
    fn from_amounts(pod: &Pod) -> Self {
        if let Some(own) = resources::pod_level(pod) {
            let limits = resources::ResourceList::from_api(own.limits.as_ref());
            return Self::of_amounts(&resources::requests_without_overhead(pod), &limits);
        }
        let Some(spec) = &pod.spec else { return Self::BestEffort };
        let all = spec.init_containers.iter().flatten().chain(&spec.containers);
        let mut classes =
            all.map(|c| Self::of_amounts(&resources::container_requests(c), &resources::container_limits(c)));
        let first = classes.next().unwrap_or(Self::BestEffort);
        // One container without any requests makes a pod of Guaranteed ones Burstable.
        if classes.all(|class| class == first) { first } else { Self::Burstable }
    }

    /// The word the API uses in `status.qosClass`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }

    /// The class of a word of the API.
    fn from_api(word: &str) -> Option<Self> {
        [Self::Guaranteed, Self::Burstable, Self::BestEffort].into_iter().find(|class| class.as_str() == word)
    }

    fn of_amounts(requests: &resources::ResourceList, limits: &resources::ResourceList) -> Self {
        let amounts = ["cpu", "memory"]
            .map(|name| (requests.get(name).unwrap_or_default(), limits.get(name).unwrap_or_default()));
        if amounts.iter().all(|(request, limit)| request.is_zero() && limit.is_zero()) {
            Self::BestEffort
        } else if amounts.iter().all(|(request, limit)| request == limit && *limit != Quantity::ZERO) {
            Self::Guaranteed
        } else {
            Self::Burstable
        }
    }
}

impl fmt::Display for QosClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_class_that_the_status_names_counts() {
        let container = json!({"name": "c", "resources": {"requests": {"cpu": "1"}}});
        for (told, want) in [
            (json!("Guaranteed"), QosClass::Guaranteed),
            (json!("BestEffort"), QosClass::BestEffort),
            (json!(""), QosClass::Burstable),
            (Value::Null, QosClass::Burstable),
        ] {
            let pod =
                json!({"metadata": {}, "spec": {"containers": [container]}, "status": {"qosClass": told}});
            let pod: Pod = serde_json::from_value(pod).unwrap();
            assert_eq!(QosClass::of(&pod), want, "{told}");
        }
    }

    #[test]
    fn empty_resources_of_a_pod_may_count() {
        let container = json!({"name": "c", "resources": {"requests": {"cpu": "1"}}});
        let of = |own: Value| {
            let spec = json!({"resources": own, "containers": [container]});
            let pod: Pod = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
            (QosClass::of(&pod), QosClass::with_empty_resources(&pod))
        };
        assert_eq!(of(json!({})), (QosClass::Burstable, QosClass::BestEffort));
        assert_eq!(of(Value::Null), (QosClass::Burstable, QosClass::Burstable));
        let full = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
        assert_eq!(of(full), (QosClass::Guaranteed, QosClass::Guaranteed));
    }

    /// Cases of upstream's `TestComputePodQOS`, and our own.
    #[test]
    fn classes() {
        let container = |requests: Value, limits: Value| json!({"name": "c", "resources": {"requests": requests, "limits": limits}});
        let full = || json!({"cpu": "100m", "memory": "100Mi"});
        let guaranteed = || container(full(), full());
        let bare = || json!({"name": "c"});
        for (case, spec, want) in [
            ("no containers", json!({"containers": []}), QosClass::BestEffort),
            ("guaranteed", json!({"containers": [guaranteed(), guaranteed()]}), QosClass::Guaranteed),
            ("limits alone", json!({"containers": [container(json!({}), full())]}), QosClass::Guaranteed),
            (
                "equal amounts in other words",
                json!({"containers": [container(json!({"cpu": "0.1", "memory": "102400Ki"}), full())]}),
                QosClass::Guaranteed,
            ),
            (
                "guaranteed with an extended resource",
                json!({"containers": [container(
                    json!({"cpu": "1", "memory": "1", "example.com/gpu": "1"}),
                    json!({"cpu": "1", "memory": "1", "example.com/gpu": "1"}),
                )]}),
                QosClass::Guaranteed,
            ),
            ("besteffort", json!({"containers": [bare(), bare()]}), QosClass::BestEffort),
            (
                "only an extended resource",
                json!({"containers": [container(json!({}), json!({"example.com/gpu": "1"}))]}),
                QosClass::BestEffort,
            ),
            (
                "zeros",
                json!({"containers": [container(json!({"cpu": "0"}), json!({"memory": "0"}))]}),
                QosClass::BestEffort,
            ),
            (
                "a request of zero is not a missing one",
                json!({"containers": [container(json!({"cpu": "0", "memory": "0"}), full())]}),
                QosClass::Burstable,
            ),
            ("guaranteed and besteffort", json!({"containers": [guaranteed(), bare()]}), QosClass::Burstable),
            (
                "cpu alone",
                json!({"containers": [container(json!({}), json!({"cpu": "1"}))]}),
                QosClass::Burstable,
            ),
            ("requests alone", json!({"containers": [container(full(), json!({}))]}), QosClass::Burstable),
            (
                "an init container counts",
                json!({"initContainers": [bare()], "containers": [guaranteed()]}),
                QosClass::Burstable,
            ),
            (
                "an ephemeral container does not",
                json!({"containers": [guaranteed()], "ephemeralContainers": [bare()]}),
                QosClass::Guaranteed,
            ),
            (
                "the pod's own resources decide",
                json!({"resources": {"requests": full(), "limits": full()}, "containers": [bare()]}),
                QosClass::Guaranteed,
            ),
            (
                "the pod's limits alone",
                json!({"resources": {"limits": full()}, "containers": [bare()]}),
                QosClass::Guaranteed,
            ),
            (
                "the pod's limits above its containers' requests",
                json!({"resources": {"limits": full()}, "containers": [container(json!({"cpu": "1m"}), json!({}))]}),
                QosClass::Burstable,
            ),
            (
                "empty resources of the pod count as none",
                json!({"resources": {}, "containers": [guaranteed()]}),
                QosClass::Guaranteed,
            ),
        ] {
            let pod: Pod = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
            assert_eq!(QosClass::of(&pod), want, "{case}");
        }
        assert_eq!(QosClass::of(&Pod::default()), QosClass::BestEffort);
    }
}
