//! The node's conditions, in upstream's words.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::NodeCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::NodeHealth;
use crate::pressure::Pressures;

pub(super) const READY: &str = "Ready";

/// One kind of shortage: its condition, and the words for having it and not having it.
pub(super) struct Pressure {
    pub(super) condition: &'static str,
    is_short: fn(Pressures) -> bool,
    short: Words,
    enough: Words,
}

struct Words {
    reason: &'static str,
    message: &'static str,
    event: &'static str,
}

/// In the order in which status shows them.
pub(super) const PRESSURES: [Pressure; 3] = [
    Pressure {
        condition: "MemoryPressure",
        is_short: |pressures| pressures.memory,
        short: Words {
            reason: "KubeletHasInsufficientMemory",
            message: "kubelet has insufficient memory available",
            event: "NodeHasInsufficientMemory",
        },
        enough: Words {
            reason: "KubeletHasSufficientMemory",
            message: "kubelet has sufficient memory available",
            event: "NodeHasSufficientMemory",
        },
    },
    Pressure {
        condition: "DiskPressure",
        is_short: |pressures| pressures.disk,
        short: Words {
            reason: "KubeletHasDiskPressure",
            message: "kubelet has disk pressure",
            event: "NodeHasDiskPressure",
        },
        enough: Words {
            reason: "KubeletHasNoDiskPressure",
            message: "kubelet has no disk pressure",
            event: "NodeHasNoDiskPressure",
        },
    },
    Pressure {
        condition: "PIDPressure",
        is_short: |pressures| pressures.pids,
        short: Words {
            reason: "KubeletHasInsufficientPID",
            message: "kubelet has insufficient PID available",
            event: "NodeHasInsufficientPID",
        },
        enough: Words {
            reason: "KubeletHasSufficientPID",
            message: "kubelet has sufficient PID available",
            event: "NodeHasSufficientPID",
        },
    },
];

impl Pressure {
    /// The event that tells of the condition's status.
    pub(super) fn event(&self, status: &str) -> &'static str {
        if status == "True" { self.short.event } else { self.enough.event }
    }
}

/// Brings the conditions up to date. Those of others, and the order of all, stay as they are.
pub(super) fn update(
    conditions: &mut Vec<NodeCondition>,
    health: &NodeHealth<'_>,
    missing_capacities: &[&str],
    now: Timestamp,
) {
    for pressure in &PRESSURES {
        let is_short = (pressure.is_short)(health.pressures);
        let words = if is_short { &pressure.short } else { &pressure.enough };
        set(conditions, pressure.condition, is_short, words.reason, words.message.to_owned(), now);
    }
    // Ready comes last in a new list, as version-skewed control planes once required.
    match not_ready(health, missing_capacities) {
        None => {
            set(conditions, READY, true, "KubeletReady", "kubelet is posting ready status".to_owned(), now)
        }
        Some(message) => set(conditions, READY, false, "KubeletNotReady", message, now),
    }
}

fn set(
    list: &mut Vec<NodeCondition>,
    kind: &str,
    is_met: bool,
    reason: &str,
    message: String,
    now: Timestamp,
) {
    let status = if is_met { "True" } else { "False" };
    let mut condition = NodeCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_heartbeat_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    };
    match list.iter_mut().find(|c| c.type_ == kind) {
        Some(old) => {
            if old.status == status {
                condition.last_transition_time = old.last_transition_time.take();
            }
            *old = condition;
        }
        None => list.push(condition),
    }
}

/// Everything that keeps the node from being ready, as one text.
fn not_ready(health: &NodeHealth<'_>, missing_capacities: &[&str]) -> Option<String> {
    let mut errors: Vec<&str> = health.runtime_errors.iter().map(String::as_str).collect();
    errors.extend(health.network_error);
    errors.extend(health.storage_error);
    if health.is_shutting_down {
        errors.push("node is shutting down");
    }
    let missing;
    if !missing_capacities.is_empty() {
        missing = format!("missing node capacity for resources: {}", missing_capacities.join(", "));
        errors.push(&missing);
    }
    aggregate(&errors)
}

/// Several errors as one text, the way upstream joins them: each only once, in brackets when there
/// are several.
fn aggregate(errors: &[&str]) -> Option<String> {
    let mut distinct: Vec<&str> = Vec::new();
    for error in errors {
        if !distinct.contains(error) {
            distinct.push(error);
        }
    }
    match distinct.as_slice() {
        [] => None,
        [only] => Some((*only).to_owned()),
        several => Some(format!("[{}]", several.join(", "))),
    }
}
