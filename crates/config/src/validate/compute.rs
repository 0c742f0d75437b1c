//! Rules about CPUs, memory and the policies that hand them out.

use std::collections::BTreeSet;

use super::error;
use crate::codec::Dict;
use crate::cpus::cpu_list;
use crate::document::KubeletConfiguration;
use crate::finding::Findings;
use crate::gates::FeatureGates;

/// NUMA nodes from which upstream warns of the cost of combining them.
const LEAST_NUMA_NODES: i64 = 8;

pub(super) fn check(document: &KubeletConfiguration, gates: &FeatureGates, findings: &mut Findings) {
    if let Err(reason) = cpu_list(&document.reserved_system_cpus) {
        error(findings, "reservedSystemCPUs", reason);
    }
    reserved_memory(document, findings);
    qos_reserved(&document.qos_reserved, findings);
    cpu_options(document, gates, findings);
    topology_options(document, gates, findings);
}

fn reserved_memory(document: &KubeletConfiguration, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for (index, reservation) in document.reserved_memory.items().iter().enumerate() {
        for (name, amount) in reservation.limits.iter() {
            let path = format!("reservedMemory[{index}].limits[{name}]");
            if name != "memory" && !name.starts_with("hugepages-") {
                error(findings, &path, "is not supported, want memory or hugepages-<size>");
            }
            if amount.0.parse::<model::Quantity>().is_ok_and(|amount| amount == model::Quantity::ZERO) {
                error(findings, &path, "may not be zero");
            }
            if !seen.insert((reservation.numa_node, name)) {
                error(findings, &path, format!("is a duplicate for NUMA node {}", reservation.numa_node));
            }
        }
    }
}

fn qos_reserved(reserved: &Dict<String>, findings: &mut Findings) {
    for (name, text) in reserved.iter() {
        let path = format!("qosReserved[{name}]");
        if name != "memory" {
            error(findings, &path, format!("cannot reserve {name:?}, only memory"));
            continue;
        }
        let percent = text.strip_suffix('%').map(|number| number.trim_end_matches('%').parse::<i64>());
        if !matches!(percent, Some(Ok(0..=100))) {
            error(findings, &path, format!("{text:?} must be a percentage from 0% to 100%"));
        }
    }
}

/// Go's spellings of a switch.
fn is_switch(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True" | "0" | "f" | "F" | "false" | "FALSE" | "False")
}

fn cpu_options(document: &KubeletConfiguration, gates: &FeatureGates, findings: &mut Findings) {
    const PATH: &str = "cpuManagerPolicyOptions";
    let options = &document.cpu_manager_policy_options;
    if document.cpu_manager_policy != "static" {
        if !options.is_empty() {
            error(findings, PATH, "can be set with cpuManagerPolicy static only");
        }
        return;
    }
    for (name, value) in options.iter() {
        let path = format!("{PATH}[{name}]");
        let gate = match name {
            "full-pcpus-only" | "strict-cpu-reservation" | "prefer-align-cpus-by-uncorecache" => None,
            "distribute-cpus-across-numa" => Some("CPUManagerPolicyBetaOptions"),
            "align-by-socket" | "distribute-cpus-across-cores" => Some("CPUManagerPolicyAlphaOptions"),
            _ => {
                error(findings, &path, "is no option of the CPU manager");
                continue;
            }
        };
        if let Some(gate) = gate.filter(|gate| !gates.enabled(gate)) {
            error(findings, &path, format!("requires feature gate {gate}"));
        } else if !is_switch(value) {
            error(findings, &path, format!("{value:?} must be true or false"));
        }
    }
    let is_on = |name: &str| {
        options.iter().any(|(known, value)| {
            known == name && is_switch(value) && matches!(value.as_bytes(), [b'1' | b't' | b'T', ..])
        })
    };
    for (first, second) in [
        ("full-pcpus-only", "distribute-cpus-across-cores"),
        ("distribute-cpus-across-numa", "distribute-cpus-across-cores"),
        ("prefer-align-cpus-by-uncorecache", "distribute-cpus-across-cores"),
        ("prefer-align-cpus-by-uncorecache", "distribute-cpus-across-numa"),
    ] {
        if is_on(first) && is_on(second) {
            error(findings, PATH, format!("{first} and {second} exclude each other"));
        }
    }
}

fn topology_options(document: &KubeletConfiguration, gates: &FeatureGates, findings: &mut Findings) {
    const PATH: &str = "topologyManagerPolicyOptions";
    let options = &document.topology_manager_policy_options;
    if options.0.is_some() && !gates.enabled("TopologyManagerPolicyOptions") {
        error(findings, PATH, "requires feature gate TopologyManagerPolicyOptions");
    }
    for (name, value) in options.iter() {
        let path = format!("{PATH}[{name}]");
        match name {
            "prefer-closest-numa-nodes" if is_switch(value) => {}
            "prefer-closest-numa-nodes" => error(findings, &path, format!("{value:?} must be true or false")),
            "max-allowable-numa-nodes" => {
                if value.parse::<i64>().map_or(true, |number| number < LEAST_NUMA_NODES) {
                    let message =
                        format!("{value:?} must be a number that is not less than {LEAST_NUMA_NODES}");
                    error(findings, &path, message);
                }
            }
            _ => error(findings, &path, "is no option of the topology manager"),
        }
    }
}
