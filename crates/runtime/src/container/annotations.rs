//! What a later kubelet must know of a container whose pod object may be gone.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Container;
use model::Pod;

use super::ContainerInputs;
use crate::labels;

pub(super) fn of(pod: &Pod, container: &Container, inputs: &ContainerInputs) -> BTreeMap<String, String> {
    let mut all = inputs.annotations.clone();
    let mut set = |name: &str, value: String| {
        all.insert(name.to_owned(), value);
    };
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    set(labels::CONTAINER_HASH, format!("{:x}", model::hash::container_hash(container)));
    set(labels::CONTAINER_RESTART_COUNT, inputs.attempt.to_string());
    set(labels::TERMINATION_MESSAGE_PATH, text(&container.termination_message_path));
    set(labels::TERMINATION_MESSAGE_POLICY, text(&container.termination_message_policy));
    if let Some(seconds) = pod.metadata.deletion_grace_period_seconds {
        set(labels::POD_DELETION_GRACE, seconds.to_string());
    }
    if let Some(seconds) = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds) {
        set(labels::POD_TERMINATION_GRACE, seconds.to_string());
    }
    // Neither can fail to serialize; should that ever change, the annotation is what is missing.
    if let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref())
        && let Ok(json) = serde_json::to_string(hook)
    {
        set(labels::PRE_STOP_HANDLER, json);
    }
    if let Some(ports) = container.ports.as_ref().filter(|ports| !ports.is_empty())
        && let Ok(json) = serde_json::to_string(ports)
    {
        set(labels::CONTAINER_PORTS, json);
    }
    all
}
