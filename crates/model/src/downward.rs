//! What a pod can learn about itself: `fieldRef` and `resourceFieldRef`, for environment
//! variables and downward API volumes alike
//! (<https://kubernetes.io/docs/concepts/workloads/pods/downward-api/>).

use std::collections::BTreeMap;

use crate::Quantity;

/// Facts about a pod that its object does not hold (yet) and its fields can refer to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// `spec.nodeName`.
    pub node_name: String,
    /// The node's addresses, primary first (`status.hostIP`, `status.hostIPs`).
    pub host_ips: Vec<String>,
    /// The pod's addresses, primary first (`status.podIP`, `status.podIPs`).
    pub pod_ips: Vec<String>,
    /// The node's allocatable resources, which stand in for a limit the container lacks.
    pub allocatable: BTreeMap<String, Quantity>,
}
