//! Node selectors: whether a node is one of those that terms name
//! (<https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#node-affinity>).

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};

/// A node as selectors see it.
pub(crate) trait Labelled {
    /// A label's value.
    fn label(&self, name: &str) -> Option<&str>;

    /// The node's name; empty where it counts for nothing.
    fn name(&self) -> &str;
}

/// Whether any of the terms is met; none is met where there are none.
pub(crate) fn is_any_met(terms: &[NodeSelectorTerm], node: &impl Labelled) -> bool {
    terms.iter().any(|term| is_term_met(term, node))
}

/// An empty term names no node.
fn is_term_met(term: &NodeSelectorTerm, node: &impl Labelled) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let is_empty = expressions.is_empty() && fields.is_empty();
    !is_empty
        && expressions.iter().all(|r| is_expression_met(r, node.label(&r.key)))
        && fields.iter().all(|r| is_field_met(r, node.name()))
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
