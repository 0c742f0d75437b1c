//! Whether the node is one of those the pod wants: `nodeSelector` and required node affinity.

use model::Pod;

use model::reason::Refusal;

use super::{AdmissionContext, OS, OS_LABEL, Rejection};
use crate::node_selector::{self, Labelled};

pub(super) fn check(pod: &Pod, ctx: &AdmissionContext<'_>) -> Result<(), Rejection> {
    if is_match(pod, ctx) {
        return Ok(());
    }
    Err(Rejection::predicate(Refusal::NodeAffinity, "node(s) didn't match Pod's node affinity/selector"))
}

fn is_match(pod: &Pod, ctx: &AdmissionContext<'_>) -> bool {
    let Some(spec) = pod.spec.as_ref() else { return true };
    let mut selector = spec.node_selector.iter().flatten();
    if !selector.all(|(name, value)| ctx.label(name) == Some(value)) {
        return false;
    }
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    match affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()) {
        None => true,
        Some(required) => node_selector::is_any_met(&required.node_selector_terms, ctx),
    }
}

impl Labelled for AdmissionContext<'_> {
    /// Which operating system this is, the node knows better than its object.
    fn label(&self, name: &str) -> Option<&str> {
        if name == OS_LABEL { Some(OS) } else { self.labels.get(name).map(String::as_str) }
    }

    fn name(&self) -> &str {
        &self.settings.node_name
    }
}
