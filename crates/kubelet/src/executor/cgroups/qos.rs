//! The cgroups of QoS classes follow the pods in them: how Burstable pods are weighed together, which memory the kernel
//! keeps for pods (`memoryReservationPolicy`), and which memory lower classes cannot have (`qosReserved`).

use config::Config;
use host::cgroup::{CgroupLimits, Group};
use model::{QosClass, Quantity};
use node::{Outcome, QosAmounts};

use super::NodeCgroups;
use super::pods::outcome;

impl NodeCgroups {
    /// Weighs and limits the classes by what their pods request together.
    pub(crate) async fn update_classes(&self, amounts: QosAmounts, memory_bytes: u64) -> Outcome {
        if !self.config.pods.cgroups_per_qos {
            return Outcome::Done;
        }
        let version = self.tree.mounts().version();
        for (group, limits) in limits(&self.config, memory_bytes, amounts, version) {
            let mut result = self.driver.set(group.clone(), limits.clone()).await;
            if result.is_err()
                && let Some(wanted) = limits.memory_limit_bytes
                && let Ok(used) = self.driver.memory_usage(group.clone()).await
                && used > wanted
            {
                // What is in use already cannot be had back; at least it becomes no more.
                let limits = CgroupLimits { memory_limit_bytes: Some(used), ..limits };
                result = self.driver.set(group, limits).await;
            }
            if result.is_err() {
                return outcome(result);
            }
        }
        if keeps_memory(&self.config, version) {
            self.metrics.memory_qos_node_min.set(amounts.guaranteed_memory_bytes as f64);
            self.metrics.memory_qos_node_low.set(amounts.burstable_memory_bytes as f64);
        }
        Outcome::Done
    }
}

/// Whether the kernel is told to keep for pods the memory they request.
pub(super) fn keeps_memory(config: &Config, cgroup_version: u8) -> bool {
    cgroup_version == 2 && config.pods.reserves_memory && config.gates.enabled("MemoryQoS")
}

/// The groups whose limits follow the pods, in the order in which they are set.
fn limits(
    config: &Config,
    memory_bytes: u64,
    amounts: QosAmounts,
    cgroup_version: u8,
) -> Vec<(Group, CgroupLimits)> {
    let QosAmounts { burstable_cpu_millis, burstable_memory_bytes, guaranteed_memory_bytes } = amounts;
    let keeps_memory = keeps_memory(config, cgroup_version);
    let mut all = Vec::new();
    if keeps_memory {
        // What is kept for a group can be no more than what is kept for those around it.
        let of_pods = CgroupLimits {
            memory_min_bytes: Some(guaranteed_memory_bytes.saturating_add(burstable_memory_bytes)),
            memory_low_bytes: Some(burstable_memory_bytes),
            ..CgroupLimits::default()
        };
        all.push((Group::Kubepods, of_pods));
    }
    let upper = upper_limits(config, memory_bytes, amounts);
    let burstable = CgroupLimits {
        cpu_shares: Some(model::cpu::cpu_shares(burstable_cpu_millis)),
        memory_low_bytes: keeps_memory.then_some(burstable_memory_bytes),
        memory_limit_bytes: upper.map(|upper| upper.burstable_bytes),
        ..CgroupLimits::default()
    };
    all.push((Group::Class(QosClass::Burstable), burstable));
    if let Some(upper) = upper {
        let best_effort =
            CgroupLimits { memory_limit_bytes: Some(upper.best_effort_bytes), ..CgroupLimits::default() };
        all.push((Group::Class(QosClass::BestEffort), best_effort));
    }
    all
}

/// What classes may use of the memory.
#[derive(Clone, Copy)]
struct UpperLimits {
    burstable_bytes: u64,
    best_effort_bytes: u64,
}

/// What pods can have, less the part that is held back for those above.
fn upper_limits(config: &Config, memory_bytes: u64, amounts: QosAmounts) -> Option<UpperLimits> {
    let percent = u64::from(config.pods.qos_reserved_memory_percent?);
    let reserved = [&config.node.kube_reserved, &config.node.system_reserved]
        .into_iter()
        .filter_map(|amounts| amounts.get("memory"))
        .fold(Quantity::ZERO, |sum, amount| sum.plus(*amount));
    let for_pods = memory_bytes.saturating_sub(u64::try_from(reserved.units()).unwrap_or(0));
    if for_pods == 0 {
        return None;
    }
    let held_back =
        |bytes: u64| u64::try_from(u128::from(bytes) * u128::from(percent) / 100).unwrap_or(u64::MAX);
    let burstable_bytes = for_pods.saturating_sub(held_back(amounts.guaranteed_memory_bytes));
    let best_effort_bytes = burstable_bytes.saturating_sub(held_back(amounts.burstable_memory_bytes));
    Some(UpperLimits { burstable_bytes, best_effort_bytes })
}

#[cfg(test)]
mod tests {
    use super::super::node::tests::config;
    use super::*;

    const MIB: u64 = 1 << 20;

    fn found(text: &str, version: u8) -> Vec<(Group, CgroupLimits)> {
        let amounts = QosAmounts {
            burstable_cpu_millis: 1000,
            burstable_memory_bytes: 200 * MIB,
            guaranteed_memory_bytes: 400 * MIB,
        };
        // 1 GiB is reserved.
        limits(&config(text), 2048 * MIB, amounts, version)
    }

    #[test]
    fn classes_weigh_what_is_requested() {
        let weight = CgroupLimits { cpu_shares: Some(1024), ..CgroupLimits::default() };
        let expected = [(Group::Class(QosClass::Burstable), weight)];
        assert_eq!(found("", 2), expected);
        assert_eq!(found("memoryReservationPolicy: TieredReservation\n", 1), expected);
        // Without the gate the field has no effect, as upstream.
        assert_eq!(found("qosReserved: {memory: 50%}\n", 2), expected);
    }

    #[test]
    fn requested_memory_is_kept_around_those_who_request_it() {
        let all = found("memoryReservationPolicy: TieredReservation\n", 2);
        let of_pods = CgroupLimits {
            memory_min_bytes: Some(600 * MIB),
            memory_low_bytes: Some(200 * MIB),
            ..CgroupLimits::default()
        };
        let burstable = CgroupLimits {
            cpu_shares: Some(1024),
            memory_low_bytes: Some(200 * MIB),
            ..CgroupLimits::default()
        };
        assert_eq!(all, [(Group::Kubepods, of_pods), (Group::Class(QosClass::Burstable), burstable)]);
    }

    #[test]
    fn lower_classes_do_not_get_what_is_held_back() {
        let limits_of = |percent: &str| {
            let all = found(
                &format!("featureGates: {{QOSReserved: true}}\nqosReserved: {{memory: {percent}}}\n"),
                1,
            );
            all.into_iter().map(|(_, limits)| limits.memory_limit_bytes.map(|b| b / MIB)).collect::<Vec<_>>()
        };
        assert_eq!(limits_of("0%"), [Some(1024), Some(1024)]);
        assert_eq!(limits_of("50%"), [Some(824), Some(724)]);
        assert_eq!(limits_of("100%"), [Some(624), Some(424)]);
    }
}
