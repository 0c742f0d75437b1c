//! What a status that was written tells: that a pod was turned away, and which containers ended.

use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};
use telemetry::metrics::Metrics;

/// Reasons that are a label of their own; they are few, and what is not among them is counted as
/// `Other`, so that nobody can make labels up.
const REASONS: [&str; 21] = [
    "AppArmor",
    "Evicted",
    "InitContainerRestartPolicyForbidden",
    "InvalidNodeInfo",
    "NodeShutdown",
    "OutOfcpu",
    "OutOfephemeral-storage",
    "OutOfmemory",
    "OutOfpods",
    "PodFeatureUnsupported",
    "PodLevelResourcesNotSupported",
    "PodOSNotSupported",
    "PodOSSelectorNodeLabelDoesNotMatch",
    "SupplementalGroupsPolicyNotSupported",
    "SysctlForbidden",
    "TopologyAffinityError",
    "UnexpectedAdmissionError",
    "UnexpectedPredicateFailureType",
    "UnknownReason",
    "VolumeAttachmentLimitExceeded",
    "node(s) had taints that the pod didn't tolerate",
];

type List = fn(&PodStatus) -> &Option<Vec<ContainerStatus>>;

/// Counts what is new in a status.
pub(super) fn written(metrics: &Metrics, old: &PodStatus, new: &PodStatus) {
    let is_rejected = |s: &PodStatus| {
        s.phase.as_deref() == Some("Failed")
            && s.message.as_deref().is_some_and(|m| m.starts_with("Pod was rejected: "))
    };
    if is_rejected(new) && !is_rejected(old) {
        let reason = reason(new.reason.as_deref().unwrap_or_default());
        metrics.admission_rejections.with([reason]).increment();
    }
    let lists: [(&str, List); 3] = [
        ("init_container", |s| &s.init_container_statuses),
        ("container", |s| &s.container_statuses),
        ("ephemeral_container", |s| &s.ephemeral_container_statuses),
    ];
    for (kind, list) in lists {
        for container in list(new).iter().flatten() {
            let Some(end) = container.state.as_ref().and_then(|s| s.terminated.as_ref()) else { continue };
            let before = list(old).iter().flatten().find(|c| c.name == container.name);
            let was_over = before.is_some_and(|c| c.state.as_ref().is_some_and(|s| s.terminated.is_some()));
            if !was_over {
                let labels = [kind, &end.exit_code.to_string(), end.reason.as_deref().unwrap_or_default()];
                metrics.terminated_containers.with(labels).increment();
            }
        }
    }
}

fn reason(reason: &str) -> &'static str {
    match REASONS.into_iter().find(|known| *known == reason) {
        Some(known) => known,
        None if reason.starts_with("OutOf") => "OutOfExtendedResources",
        None => "Other",
    }
}
