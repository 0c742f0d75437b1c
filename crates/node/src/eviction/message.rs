//! What is said of an eviction: the message of status, condition and event, in upstream's words (`helpers.go`,
//! `evictionMessage`).

use std::fmt::Write as _;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use model::{AllocatedPod, Quantity};

use super::usage::{ContainerUsage, PodUsage};
use crate::pressure::{Breach, quantity};
use crate::settings::PodGates;

/// Why this pod goes, with the figures it was chosen by.
pub(super) fn message(
    breach: &Breach,
    pod: &AllocatedPod,
    usage: Option<&PodUsage>,
    gates: PodGates,
) -> String {
    let resource = breach.threshold.signal.resource();
    let mut text = format!(
        "The node was low on resource: {resource}. Threshold quantity: {}, available: {}. ",
        breach.threshold.limit.text(breach.amount.capacity),
        amount_text(breach, breach.amount.available),
    );
    let Some(usage) = usage else { return text };
    if resource == "memory"
        && gates.has_pod_level_resources
        && let Some(request) = pod.own_resources().and_then(|own| own.requests.as_ref()?.get(resource))
        && let Some(used) = usage.memory_bytes
    {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        exceeds(&mut text, "Pod", name, used, Quantity::from_api(request), resource);
    }
    for container in &usage.containers {
        let Some(used) = used(container, resource) else { continue };
        let Some(request) = request(pod, &container.name, resource) else { continue };
        if quantity(used) > request {
            exceeds(&mut text, "Container", &container.name, used, Some(request), resource);
        }
    }
    text
}

/// What there is of the signal, as it is written.
pub(super) fn amount_text(breach: &Breach, amount: u64) -> String {
    let amount = quantity(amount);
    let ApiQuantity(text) = match breach.threshold.signal.is_in_bytes() {
        true => amount.to_binary_api(),
        false => amount.to_decimal_api(),
    };
    text
}

fn exceeds(text: &mut String, what: &str, name: &str, used: u64, request: Option<Quantity>, resource: &str) {
    let (used, request) = (quantity(used).to_binary_api().0, request.unwrap_or_default().to_api().0);
    // Writing to a string does not fail.
    let _ = write!(
        text,
        "{what} {name} was using {used}, request is {request}, has larger consumption of {resource}. "
    );
}

/// What a container uses of the resource; `None` where that is not measured by container, or could not be.
fn used(container: &ContainerUsage, resource: &str) -> Option<u64> {
    match resource {
        "memory" => container.memory_bytes,
        "ephemeral-storage" => Some(container.layer?.bytes.saturating_add(container.logs?.bytes)),
        _ => None,
    }
}

/// What the regular or init container of that name requests, be it nothing; `None` when there is no such container.
fn request(pod: &AllocatedPod, name: &str, resource: &str) -> Option<Quantity> {
    let spec = pod.spec.as_ref()?;
    let found =
        spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|c| c.name == name)?;
    let requests = found.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    Some(requests.and_then(|all| Quantity::from_api(all.get(resource)?)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use model::{Pod, Signal};
    use serde_json::json;

    use super::super::usage::FilesUsage;
    use super::*;
    use crate::pressure::{Amount, Limit, Threshold};

    fn breach(signal: Signal, limit: Limit, available: u64, capacity: u64) -> Breach {
        let threshold = Threshold { signal, limit, grace: Duration::ZERO, reclaim: None };
        let amount = Amount { available, capacity };
        Breach { threshold, since: Duration::ZERO, amount, is_in_force: true }
    }

    fn pod(spec: serde_json::Value) -> AllocatedPod {
        let pod: Pod = serde_json::from_value(json!({ "metadata": { "name": "p" }, "spec": spec })).unwrap();
        AllocatedPod::granted(Arc::new(pod))
    }

    /// Upstream's `TestEvictionMessage` and `TestEvictionMessageWithResourceResize`, and the forms of its amounts.
    #[test]
    fn is_upstreams() {
        let requests = |amount: &str| json!({ "requests": { "memory": amount } });
        let spec = json!({
            "initContainers": [{ "name": "init", "resources": requests("80Mi") }],
            "containers": [{ "name": "over", "resources": requests("100Mi") }, { "name": "below", "resources": requests("1Gi") },
                           { "name": "free" }],
        });
        let container = |name: &str, mib: u64| ContainerUsage {
            name: name.to_owned(),
            memory_bytes: Some(mib << 20),
            layer: Some(FilesUsage { bytes: mib << 20, inodes: 1 }),
            logs: Some(FilesUsage { bytes: 1 << 10, inodes: 1 }),
        };
        let usage = PodUsage {
            memory_bytes: Some(900 << 20),
            containers: vec![
                container("over", 200),
                container("below", 500),
                container("free", 1),
                container("init", 150),
                container("debug", 400),
            ],
            ..PodUsage::default()
        };
        let gates = PodGates::default();
        let limit = Limit::Amount("1500Mi".parse().unwrap());
        let memory = breach(Signal::Memory, limit, 1 << 30, 4 << 30);
        let low = "The node was low on resource: memory. Threshold quantity: 1500Mi, available: 1Gi. ";
        assert_eq!(message(&memory, &pod(spec.clone()), None, gates), low);
        assert_eq!(
            message(&memory, &pod(spec.clone()), Some(&usage), gates),
            format!(
                "{low}Container over was using 200Mi, request is 100Mi, has larger consumption of memory. \
                 Container free was using 1Mi, request is 0, has larger consumption of memory. \
                 Container init was using 150Mi, request is 80Mi, has larger consumption of memory. "
            )
        );
        let mut whole = spec.clone();
        whole["resources"] = requests("300Mi");
        assert!(message(&memory, &pod(whole), Some(&usage), gates).starts_with(&format!(
            "{low}Pod p was using 900Mi, request is 300Mi, has larger consumption of memory. Container over "
        )));
        let disk = breach(Signal::NodeFs, Limit::Share(0.5), 1000, 8192);
        let text = message(&disk, &pod(spec.clone()), Some(&usage), gates);
        let begin = "The node was low on resource: ephemeral-storage. Threshold quantity: 4Ki, available: 1000. Container \
                     over was using 204801Ki, request is 0, has larger consumption of ephemeral-storage. ";
        assert!(text.starts_with(begin), "{text}");
        let inodes = breach(Signal::NodeFsInodes, Limit::Share(0.5), 4096, 16384);
        assert_eq!(
            message(&inodes, &pod(spec), Some(&usage), gates),
            "The node was low on resource: inodes. Threshold quantity: 8Ki, available: 4096. "
        );
    }
}
