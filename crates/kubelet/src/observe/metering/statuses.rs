//! What a status that was written tells: that a pod was turned away, and which containers ended.

use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};
use model::reason::Refusal;
use telemetry::metrics::Metrics;

type List = fn(&PodStatus) -> &Option<Vec<ContainerStatus>>;

/// Counts what is new in a status.
pub(super) fn written(metrics: &Metrics, old: &PodStatus, new: &PodStatus) {
    let is_rejected = |s: &PodStatus| {
        s.phase.as_deref() == Some("Failed")
            && s.message.as_deref().is_some_and(|m| m.starts_with("Pod was rejected: "))
    };
    if is_rejected(new) && !is_rejected(old) {
        let reason = Refusal::parse(new.reason.as_deref().unwrap_or_default());
        let label = reason.map_or("Other", |reason| reason.metric_label());
        metrics.admission_rejections.with([label]).increment();
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
