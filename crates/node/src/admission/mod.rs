//! Whether a pod that was assigned to this node may run on it.
//!
//! The scheduler has asked most of these questions already. They are asked again because static
//! pods and hand-bound ones never met it, and because the node may have changed since. Rules, order
//! and texts are upstream's (`pkg/kubelet/lifecycle`); a rejected pod fails for good.
//!
//! One deliberate difference: upstream evicts lesser pods to make room for a critical one. Here
//! nothing is preempted, so a critical pod is refused for want of room like any other, with the
//! resource named.

mod affinity;
pub(crate) mod apparmor;
mod features;
mod fit;
mod ports;
mod sysctls;
mod taints;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Taint;
use model::reason::Refusal;
use model::{AllocatedPod, Pod, QosClass, Quantity, pod};
use serde::{Deserialize, Serialize};

pub(crate) use features::missing_for_update;

use crate::allocation::Ledger;
use crate::machine::Machine;
use crate::pressure::Pressures;
use crate::settings::Settings;

/// The operating system this is built for, in the API's word.
const OS: &str = "linux";
const OS_LABEL: &str = "kubernetes.io/os";

/// The node as a pod finds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdmissionContext<'a> {
    /// The configuration.
    pub(crate) settings: &'a Settings,
    /// The machine.
    pub(crate) machine: &'a Machine,
    /// What pods may have of it, by resource name.
    pub(crate) allocatable: &'a BTreeMap<String, Quantity>,
    /// The Node object's labels.
    pub(crate) labels: &'a BTreeMap<String, String>,
    /// The Node object's taints.
    pub(crate) taints: &'a [Taint],
    /// Whether the runtime knows strict groups (`supplementalGroupsPolicy`).
    pub(crate) has_strict_groups: bool,
    /// Whether the pod comes from a file or URL.
    pub(crate) is_static: bool,
    /// What pods have.
    pub(crate) ledger: &'a Ledger,
    /// What the node is short of.
    pub(crate) pressures: Pressures,
}

/// Why a pod is not let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// The pod's `status.reason`.
    pub reason: Refusal,
    /// Text for people, without the prefix `Pod was rejected: `.
    pub message: String,
}

impl Rejection {
    fn new(reason: Refusal, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    fn predicate(reason: Refusal, description: &str) -> Self {
        let message = format!("Predicate {reason} failed: {description}");
        Self { reason, message }
    }
}

/// Decides about one pod, by what it would be granted. Of several reasons against it the first counts, in upstream's order.
pub(crate) fn admit(pod: &AllocatedPod, ctx: &AdmissionContext<'_>) -> Result<(), Rejection> {
    check_pressure(pod, ctx)?;
    sysctls::check(pod, ctx)?;
    check_os(pod)?;
    if has_strict_groups(pod) && !ctx.has_strict_groups {
        return Err(Rejection::new(
            Refusal::SupplementalGroupsPolicyNotSupported,
            "SupplementalGroupsPolicy=Strict is not supported in this node",
        ));
    }
    let shortage = fit::check(pod, ctx);
    if !pod::is_critical(pod) {
        // A critical pod's shortage could be mended, so what cannot be mended is named first.
        shortage.clone()?;
    }
    affinity::check(pod, ctx)?;
    check_node_name(pod, &ctx.settings.node_name)?;
    ports::check(pod, ctx.ledger)?;
    if !ctx.is_static {
        taints::check(pod, ctx.taints, ctx.settings.gates)?;
    }
    shortage?;
    apparmor::check(pod, ctx.machine.has_apparmor)?;
    features::check(pod, ctx)
}

/// Whether the pod's processes get no other groups than it names, which is the runtime's doing.
pub(crate) fn has_strict_groups(pod: &Pod) -> bool {
    let context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    context.and_then(|context| context.supplemental_groups_policy.as_deref()) == Some("Strict")
}

/// A node that runs short takes no new pods, except critical ones; short of memory alone, it
/// takes also those that said how much they need or that tolerate the shortage.
fn check_pressure(pod: &Pod, ctx: &AdmissionContext<'_>) -> Result<(), Rejection> {
    let pressures = ctx.pressures;
    let conditions: Vec<&str> = [
        (pressures.memory, "MemoryPressure"),
        (pressures.disk, "DiskPressure"),
        (pressures.pids, "PIDPressure"),
    ]
    .into_iter()
    .filter_map(|(has, name)| has.then_some(name))
    .collect();
    if conditions.is_empty() || pod::is_critical(pod) {
        return Ok(());
    }
    let is_memory_alone = conditions == ["MemoryPressure"];
    let has_requests = QosClass::of(pod) != QosClass::BestEffort;
    if is_memory_alone && (has_requests || taints::tolerates_memory_pressure(pod, ctx.settings.gates)) {
        return Ok(());
    }
    Err(Rejection::new(Refusal::Evicted, format!("The node had condition: [{}]. ", conditions.join(" "))))
}

fn check_os(pod: &Pod) -> Result<(), Rejection> {
    let label = pod.metadata.labels.as_ref().and_then(|labels| labels.get(OS_LABEL));
    if label.is_some_and(|os| os != OS) {
        return Err(Rejection::new(
            Refusal::PodOsSelectorNodeLabelDoesNotMatch,
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
        ));
    }
    if pod.spec.as_ref().and_then(|spec| spec.os.as_ref()).is_some_and(|os| os.name != OS) {
        return Err(Rejection::new(
            Refusal::PodOsNotSupported,
            "Failed to admit pod as the OS field doesn't match node OS",
        ));
    }
    Ok(())
}

fn check_node_name(pod: &Pod, node_name: &str) -> Result<(), Rejection> {
    let wanted = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
    if wanted.is_empty() || wanted == node_name {
        return Ok(());
    }
    Err(Rejection::predicate(Refusal::NodeName, "node(s) didn't match the requested node name"))
}
