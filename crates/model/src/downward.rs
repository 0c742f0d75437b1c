//! What a pod can learn about itself: `fieldRef` and `resourceFieldRef`, for environment
//! variables and downward API volumes alike
//! (<https://kubernetes.io/docs/concepts/workloads/pods/downward-api/>).

use std::collections::BTreeMap;

use golang::quote::push_quoted;
use k8s_openapi::api::core::v1::{Container, ResourceFieldSelector};
use serde::{Deserialize, Serialize};

use crate::{AllocatedPod, Pod, Quantity, pod as pods, resources};

/// Facts about a pod that its object does not hold (yet) and its fields can refer to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodFacts {
    /// `spec.nodeName`.
    pub node_name: String,
    /// The node's addresses, primary first (`status.hostIP`, `status.hostIPs`).
    pub host_ips: Vec<String>,
    /// The pod's addresses, primary first (`status.podIP`, `status.podIPs`).
    pub pod_ips: Vec<String>,
    /// The node's allocatable resources, which stand in for a limit the container lacks.
    pub allocatable: BTreeMap<String, Quantity>,
}

/// Where a field reference stands, which decides what it may refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldUse {
    /// `env[].valueFrom.fieldRef`: everything but whole maps of labels and annotations.
    Env,
    /// A downward API volume item: metadata only.
    Volume,
}

/// Why a reference has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownwardError {
    /// No such field can be referred to.
    #[error("field {path:?} of a pod cannot be referred to")]
    UnsupportedField {
        /// The path as written.
        path: String,
    },
    /// `['key']` on a field that is no map, or with a key that is no qualified name.
    #[error("field {path:?} has a subscript that is not a valid label or annotation key")]
    InvalidSubscript {
        /// The path as written.
        path: String,
    },
    /// The pod has no such container.
    #[error("container {name:?} is not in the pod")]
    NoSuchContainer {
        /// The name as written.
        name: String,
    },
    /// The node has no address (yet): a cloud provider may still have to tell.
    #[error("host IP unknown")]
    NoHostIp,
    /// No such resource can be referred to.
    #[error("container resource {resource:?} cannot be referred to")]
    UnsupportedResource {
        /// The resource as written.
        resource: String,
    },
}

/// Whether `path` may stand in a reference of that use. The API server checks this for its pods;
/// a manifest from a file has not been through it.
pub fn is_allowed(path: &str, place: FieldUse) -> bool {
    match split_subscript(path) {
        Some((map, _)) => matches!(map, "metadata.labels" | "metadata.annotations"),
        None => match path {
            "metadata.name" | "metadata.namespace" | "metadata.uid" => true,
            "metadata.labels" | "metadata.annotations" => place == FieldUse::Volume,
            "spec.nodeName"
            | "spec.host"
            | "spec.serviceAccountName"
            | "status.hostIP"
            | "status.hostIPs"
            | "status.podIP"
            | "status.podIPs" => place == FieldUse::Env,
            _ => false,
        },
    }
}

/// The value of a pod's field. A label or annotation the pod lacks is empty, not an error.
pub fn field(pod: &Pod, facts: &PodFacts, path: &str) -> Result<String, DownwardError> {
    let meta = &pod.metadata;
    if let Some((map, key)) = split_subscript(path) {
        let (map, is_key_valid) = match map {
            "metadata.labels" => (&meta.labels, is_qualified_name(key)),
            // Annotation keys may have capitals in their prefix, labels may not.
            "metadata.annotations" => (&meta.annotations, is_qualified_name(&key.to_lowercase())),
            _ => (&None, false),
        };
        if !is_key_valid {
            return Err(DownwardError::InvalidSubscript { path: path.to_owned() });
        }
        return Ok(map.as_ref().and_then(|m| m.get(key)).cloned().unwrap_or_default());
    }
    let spec = pod.spec.as_ref();
    let first = |list: &[String]| list.first().cloned().unwrap_or_default();
    Ok(match path {
        "metadata.name" => meta.name.clone().unwrap_or_default(),
        "metadata.namespace" => meta.namespace.clone().unwrap_or_default(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "metadata.labels" => format_map(meta.labels.as_ref()),
        "metadata.annotations" => format_map(meta.annotations.as_ref()),
        // The second is what clients of old wrote for the first.
        "spec.nodeName" | "spec.host" => {
            spec.and_then(|s| s.node_name.clone()).unwrap_or_else(|| facts.node_name.clone())
        }
        "spec.serviceAccountName" => spec.and_then(|s| s.service_account_name.clone()).unwrap_or_default(),
        "status.hostIP" | "status.hostIPs" if facts.host_ips.is_empty() => {
            return Err(DownwardError::NoHostIp);
        }
        "status.hostIP" => first(&facts.host_ips),
        "status.hostIPs" => facts.host_ips.join(","),
        "status.podIP" => first(&facts.pod_ips),
        "status.podIPs" => facts.pod_ips.join(","),
        _ => return Err(DownwardError::UnsupportedField { path: path.to_owned() }),
    })
}

/// A container's request or limit in units of the selector's divisor, rounded up.
///
/// `default_container` is meant when the selector names none. A limit for cpu, memory or
/// ephemeral storage that the container lacks is the pod's (KEP-2837), or else the node's
/// allocatable amount. Upstream skips the pod's limit in volumes and all defaults for init
/// containers named by another; here the same reference has the same value everywhere.
pub fn resource(
    pod: &AllocatedPod,
    facts: &PodFacts,
    selector: &ResourceFieldSelector,
    default_container: &str,
) -> Result<String, DownwardError> {
    let name = selector.container_name.as_deref().filter(|n| !n.is_empty()).unwrap_or(default_container);
    let container =
        pods::container(pod, name).ok_or_else(|| DownwardError::NoSuchContainer { name: name.to_owned() })?;
    let unsupported = || DownwardError::UnsupportedResource { resource: selector.resource.clone() };
    let (side, resource) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let can_default = matches!(resource, "cpu" | "memory" | "ephemeral-storage");
    if !can_default && !resource.starts_with("hugepages-") {
        return Err(unsupported());
    }
    let amount = match side {
        "requests" => container_amount(&container.spec, Side::Requests, resource),
        "limits" => {
            let own = container_amount(&container.spec, Side::Limits, resource).filter(|q| !q.is_zero());
            own.or_else(|| default_limit(pod, facts, resource).filter(|_| can_default))
        }
        _ => return Err(unsupported()),
    };
    let divisor = selector.divisor.as_ref().and_then(Quantity::from_api).filter(|d| !d.is_zero());
    let divisor = divisor.unwrap_or(Quantity::from_units(1));
    // Upstream compares cpu in thousandths and everything else in whole units.
    let (amount, divisor) = match (resource, amount.unwrap_or_default()) {
        ("cpu", amount) => (amount.millis(), divisor.millis()),
        (_, amount) => (amount.units(), divisor.units()),
    };
    Ok(div_ceil(amount, divisor).to_string())
}

#[derive(Clone, Copy)]
enum Side {
    Requests,
    Limits,
}

fn container_amount(container: &Container, side: Side, resource: &str) -> Option<Quantity> {
    let resources = container.resources.as_ref()?;
    let list = match side {
        Side::Requests => resources.requests.as_ref(),
        Side::Limits => resources.limits.as_ref(),
    };
    list?.get(resource).and_then(Quantity::from_api)
}

fn default_limit(pod: &Pod, facts: &PodFacts, resource: &str) -> Option<Quantity> {
    let allocatable = facts.allocatable.get(resource).copied();
    let of_pod = resources::is_pod_level_resource(resource)
        .then(|| {
            pod.spec.as_ref()?.resources.as_ref()?.limits.as_ref()?.get(resource).and_then(Quantity::from_api)
        })
        .flatten();
    of_pod.filter(|q| !q.is_zero()).or(allocatable)
}

fn div_ceil(amount: i64, divisor: i64) -> i64 {
    match divisor {
        0 => amount,
        _ => amount.div_euclid(divisor).saturating_add(i64::from(amount.rem_euclid(divisor) != 0)),
    }
}

/// `path['key']` in its two parts. The key may itself hold brackets and quotes.
fn split_subscript(path: &str) -> Option<(&str, &str)> {
    path.strip_suffix("']")?.split_once("['").filter(|(map, _)| !map.is_empty())
}

/// One `key="value"` line each, in the order of the keys, without a final newline.
fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    let mut text = String::new();
    for (key, value) in map.into_iter().flatten() {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(key);
        text.push('=');
        push_quoted(&mut text, value);
    }
    text
}

/// An optional DNS prefix and slash, then up to 63 of `[A-Za-z0-9_.-]` that begin and end alphanumeric.
fn is_qualified_name(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let is_label = |label: &str| {
        let is_edge = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        is_edge(label.bytes().next())
            && is_edge(label.bytes().last())
            && label.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
    };
    let is_edge = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    prefix.is_none_or(|p| p.len() <= 253 && p.split('.').all(is_label))
        && name.len() <= 63
        && is_edge(name.bytes().next())
        && is_edge(name.bytes().last())
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c))
}

#[cfg(test)]
mod tests;
