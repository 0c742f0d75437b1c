//! Whether the node is one of those the pod wants: `nodeSelector` and required node affinity.

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};
use model::Pod;

use model::reason::Refusal;

use super::{AdmissionContext, OS, OS_LABEL, Rejection};

pub(super) fn check(pod: &Pod, ctx: &AdmissionContext<'_>) -> Result<(), Rejection> {
    if is_match(pod, ctx) {
        return Ok(());
    }
    Err(Rejection::predicate(Refusal::NodeAffinity, "node(s) didn't match Pod's node affinity/selector"))
}

fn is_match(pod: &Pod, ctx: &AdmissionContext<'_>) -> bool {
    let Some(spec) = pod.spec.as_ref() else { return true };
    let mut selector = spec.node_selector.iter().flatten();
    if !selector.all(|(name, value)| label(ctx, name) == Some(value)) {
        return false;
    }
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    match affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()) {
        None => true,
        Some(required) => required.node_selector_terms.iter().any(|term| is_term_met(term, ctx)),
    }
}

/// A label's value. Which operating system this is, the node knows better than its object.
fn label<'a>(ctx: &AdmissionContext<'a>, name: &str) -> Option<&'a str> {
    if name == OS_LABEL { Some(OS) } else { ctx.labels.get(name).map(String::as_str) }
}

/// An empty term names no node.
fn is_term_met(term: &NodeSelectorTerm, ctx: &AdmissionContext<'_>) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let is_empty = expressions.is_empty() && fields.is_empty();
    !is_empty
        && expressions.iter().all(|r| is_expression_met(r, label(ctx, &r.key)))
        && fields.iter().all(|r| is_field_met(r, &ctx.settings.node_name))
}

/// A requirement that makes no sense is not met.
fn is_expression_met(requirement: &NodeSelectorRequirement, actual: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let has = |actual: &str| values.iter().any(|value| value == actual);
    match requirement.operator.as_str() {
        "In" => actual.is_some_and(has),
        "NotIn" => !values.is_empty() && !actual.is_some_and(has),
        "Exists" => values.is_empty() && actual.is_some(),
        "DoesNotExist" => values.is_empty() && actual.is_none(),
        "Gt" => numbers(values, actual).is_some_and(|(actual, bound)| actual > bound),
        "Lt" => numbers(values, actual).is_some_and(|(actual, bound)| actual < bound),
        _ => false,
    }
}

fn numbers(values: &[String], actual: Option<&str>) -> Option<(i64, i64)> {
    let [bound] = values else { return None };
    Some((actual?.parse().ok()?, bound.parse().ok()?))
}

/// `metadata.name` is the only field there is; every other is empty.
fn is_field_met(requirement: &NodeSelectorRequirement, node_name: &str) -> bool {
    let Some([value]) = requirement.values.as_deref() else { return false };
    let actual = if requirement.key == "metadata.name" { node_name } else { "" };
    match requirement.operator.as_str() {
        "In" => actual == value,
        "NotIn" => actual != value,
        _ => false,
    }
}
