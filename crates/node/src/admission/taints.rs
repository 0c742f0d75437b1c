//! Whether the pod tolerates the node's taints.

use std::cmp::Ordering;

use k8s_openapi::api::core::v1::{Taint, Toleration};
use model::Pod;
use model::reason::Refusal;

use super::Rejection;
use crate::settings::PodGates;

/// A taint as a toleration is held against it.
#[derive(Clone, Copy)]
struct TaintFields<'a> {
    key: &'a str,
    value: &'a str,
    effect: &'a str,
}

/// Only `NoExecute` concerns a node: the other effects are about scheduling.
pub(super) fn check(pod: &Pod, taints: &[Taint], gates: PodGates) -> Result<(), Rejection> {
    let untolerated = taints.iter().filter(|taint| taint.effect == "NoExecute").any(|taint| {
        let value = taint.value.as_deref().unwrap_or_default();
        !is_tolerated(pod, TaintFields { key: &taint.key, value, effect: &taint.effect }, gates)
    });
    if untolerated {
        return Err(Rejection::predicate(
            Refusal::TaintToleration,
            "node(s) had taints that the pod didn't tolerate",
        ));
    }
    Ok(())
}

/// Whether the pod would be scheduled to a node that is short of memory.
pub(super) fn tolerates_memory_pressure(pod: &Pod, gates: PodGates) -> bool {
    let taint = TaintFields { key: "node.kubernetes.io/memory-pressure", value: "", effect: "NoSchedule" };
    is_tolerated(pod, taint, gates)
}

fn is_tolerated(pod: &Pod, taint: TaintFields<'_>, gates: PodGates) -> bool {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    tolerations.iter().any(|toleration| tolerates(toleration, taint, gates))
}

/// An empty effect stands for all, and so does an empty key.
fn tolerates(toleration: &Toleration, taint: TaintFields<'_>, gates: PodGates) -> bool {
    let is_for = |field: &Option<String>, actual: &str| {
        let wanted = field.as_deref().unwrap_or_default();
        wanted.is_empty() || wanted == actual
    };
    let value = toleration.value.as_deref().unwrap_or_default();
    is_for(&toleration.effect, taint.effect)
        && is_for(&toleration.key, taint.key)
        && match toleration.operator.as_deref().unwrap_or_default() {
            "" | "Equal" => value == taint.value,
            "Exists" => true,
            // KEP-5471.
            "Lt" if gates.compares_tolerations => compare(taint.value, value).is_some_and(Ordering::is_lt),
            "Gt" if gates.compares_tolerations => compare(taint.value, value).is_some_and(Ordering::is_gt),
            _ => false,
        }
}

/// Two whole numbers; `None` unless both are, written as the API writes them.
fn compare(one: &str, other: &str) -> Option<Ordering> {
    Some(integer(one)?.cmp(&integer(other)?))
}

fn integer(text: &str) -> Option<i64> {
    let number: i64 = text.parse().ok()?;
    // No plus, no leading zeros, no negative zero.
    (number.to_string() == text).then_some(number)
}
