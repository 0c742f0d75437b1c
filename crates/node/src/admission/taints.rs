//! Whether the pod tolerates the node's taints.

use k8s_openapi::api::core::v1::{Taint, Toleration};
use model::Pod;

use super::Rejection;

/// Only `NoExecute` concerns a node: the other effects are about scheduling.
pub(super) fn check(pod: &Pod, taints: &[Taint]) -> Result<(), Rejection> {
    let untolerated = taints.iter().filter(|taint| taint.effect == "NoExecute").any(|taint| {
        !is_tolerated(pod, &taint.key, taint.value.as_deref().unwrap_or_default(), &taint.effect)
    });
    if untolerated {
        return Err(Rejection::predicate(
            "TaintToleration",
            "node(s) had taints that the pod didn't tolerate",
        ));
    }
    Ok(())
}

/// Whether the pod would be scheduled to a node that is short of memory.
pub(super) fn tolerates_memory_pressure(pod: &Pod) -> bool {
    is_tolerated(pod, "node.kubernetes.io/memory-pressure", "", "NoSchedule")
}

fn is_tolerated(pod: &Pod, key: &str, value: &str, effect: &str) -> bool {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    tolerations.iter().any(|toleration| tolerates(toleration, key, value, effect))
}

/// An empty effect stands for all, and so does an empty key. The operators `Lt` and `Gt` belong to
/// an alpha feature (KEP-5471) that is off.
fn tolerates(toleration: &Toleration, key: &str, value: &str, effect: &str) -> bool {
    let is_for = |field: &Option<String>, actual: &str| {
        let wanted = field.as_deref().unwrap_or_default();
        wanted.is_empty() || wanted == actual
    };
    is_for(&toleration.effect, effect)
        && is_for(&toleration.key, key)
        && match toleration.operator.as_deref().unwrap_or_default() {
            "" | "Equal" => toleration.value.as_deref().unwrap_or_default() == value,
            "Exists" => true,
            _ => false,
        }
}
