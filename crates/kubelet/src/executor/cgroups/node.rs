//! The cgroups of the node as a whole: all pods together, the classes of pods, and what is reserved for others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use config::{Config, ReservedCgroup};
use host::cgroup::{CgroupLimits, Group, HugePageLimit};
use model::cpu::{MIN_CPU_SHARES, cpu_shares};
use model::{QosClass, Quantity};
use node::{EventObject, EventRecord};
use tracing::info;

use super::qos::keeps_memory;
use super::{Driver, DriverError, NodeCgroups};
use crate::executor::api::Api;

/// Limits that pods exceed cannot be set before evictions have made room; upstream tries again as often.
const RETRY: Duration = Duration::from_secs(60);

/// What the machine has, as far as its cgroups depend on it.
pub(crate) struct MachineLimits {
    /// The kernel's list of all CPUs; empty if it has none.
    pub(crate) cpus: String,
    /// How many tasks the kernel allows.
    pub(crate) max_pids: u64,
}

impl MachineLimits {
    /// All CPUs, as a limit that is none: systemd takes a controller away again that none of its units asks for. In
    /// version 1 a group has inherited them.
    fn cpus_for(&self, cgroup_version: u8) -> Option<String> {
        (cgroup_version == 2 && !self.cpus.is_empty()).then(|| self.cpus.clone())
    }
}

/// Makes the cgroups of all pods and of the classes, and limits those of others that are reserved. The limit of all pods
/// together is set at once if possible, and otherwise as soon as it is.
///
/// # Errors
///
/// When there is nobody to make cgroups, when one cannot be made, or when a reserved one cannot be limited: as upstream,
/// a node does not start without.
pub(crate) async fn prepare(
    cgroups: &NodeCgroups,
    api: &Arc<Api>,
    capacity: BTreeMap<String, Quantity>,
    machine: &MachineLimits,
) -> Result<(), PrepareError> {
    let NodeCgroups { config, driver, tree, .. } = cgroups;
    if config.pods.cgroups_per_qos {
        driver.check().await.map_err(PrepareError::Driver)?;
        let version = tree.mounts().version();
        for (group, limits) in [
            (Group::Kubepods, CgroupLimits::default()),
            (Group::Class(QosClass::Burstable), of_class(config, QosClass::Burstable, version)),
            (Group::Class(QosClass::BestEffort), of_class(config, QosClass::BestEffort, version)),
        ] {
            driver.ensure(group, limits).await.map_err(PrepareError::Driver)?;
        }
        let limits = of_all_pods(config, capacity, machine, version);
        if !enforce(api, driver, limits.clone()).await {
            let (api, driver) = (api.clone(), driver.clone());
            #[expect(clippy::disallowed_methods, reason = "ends when the limit is set, or with the process")]
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(RETRY).await;
                    if enforce(&api, &driver, limits.clone()).await {
                        break;
                    }
                }
            });
        }
    }
    for (what, reserved, amounts) in [
        ("system", &config.node.system_reserved_cgroup, &config.node.system_reserved),
        ("kube", &config.node.kube_reserved_cgroup, &config.node.kube_reserved),
    ] {
        if let Some(reserved) = reserved {
            let limits = of_reserved(config, reserved, amounts, machine, tree.mounts().version());
            limit_reserved(driver, api, what, &reserved.name, limits).await?;
        }
    }
    Ok(())
}

/// Why the node's cgroups are not as configured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    /// Those of pods.
    #[error("prepare the cgroups of pods")]
    Driver(#[source] DriverError),
    /// A group for processes that cannot be one.
    #[error("{field} has to name a cgroup below the root")]
    NoPlace {
        /// The field of the document.
        field: &'static str,
        /// Why.
        source: host::cgroup::CgroupError,
    },
    /// Those of others.
    #[error(
        "limit the cgroup reserved for {what}, {cgroup:?}: it has to be there before the kubelet starts, or \
         enforceNodeAllocatable must not name it"
    )]
    Reserved {
        /// `system` or `kube`.
        what: &'static str,
        /// As configured.
        cgroup: String,
        /// Why.
        source: DriverError,
    },
}

/// Sets the limit of all pods together, and says what came of it. Whether it is set.
async fn enforce(api: &Api, driver: &Driver, limits: CgroupLimits) -> bool {
    let result = driver.set(Group::Kubepods, limits).await;
    let (is_warning, reason, message) = match &result {
        Ok(()) => (
            false,
            model::reason::event::NODE_ALLOCATABLE_ENFORCED,
            "Updated Node Allocatable limit across pods".to_owned(),
        ),
        Err(error) => (
            true,
            model::reason::event::FAILED_NODE_ALLOCATABLE_ENFORCEMENT,
            format!("Failed to update Node Allocatable Limits [\"kubepods\"]: {}", model::chain(error)),
        ),
    };
    if is_warning {
        tracing::warn!(err = message, "Failed to enforce node allocatable limits, will retry every minute");
    }
    api.record(EventRecord { about: EventObject::Node, is_warning, reason: reason.into(), message });
    result.is_ok()
}

async fn limit_reserved(
    driver: &Driver,
    api: &Api,
    what: &'static str,
    cgroup: &str,
    limits: CgroupLimits,
) -> Result<(), PrepareError> {
    let cgroup = cgroup.to_owned();
    info!(v = 2, cgroup, ?limits, "Enforcing limits on cgroup reserved for {what}");
    let result = driver.set(Group::Existing(cgroup.clone()), limits).await;
    let (is_warning, reason, message) = match &result {
        Ok(()) => (
            false,
            model::reason::event::NODE_ALLOCATABLE_ENFORCED,
            format!("Updated limits on {what} reserved cgroup {cgroup}"),
        ),
        Err(error) => (
            true,
            model::reason::event::FAILED_NODE_ALLOCATABLE_ENFORCEMENT,
            format!("Failed to enforce {what} reserved limits on {cgroup:?}: {}", model::chain(error)),
        ),
    };
    api.record(EventRecord { about: EventObject::Node, is_warning, reason: reason.into(), message });
    result.map_err(|source| PrepareError::Reserved { what, cgroup, source })
}

/// What a class starts with. An earlier kubelet with another memory policy may have left guarantees behind; those of this
/// policy stay until they follow the pods again.
fn of_class(config: &Config, class: QosClass, cgroup_version: u8) -> CgroupLimits {
    let resets_memory = cgroup_version == 2 && !keeps_memory(config, cgroup_version);
    CgroupLimits {
        cpu_shares: (class == QosClass::BestEffort).then_some(MIN_CPU_SHARES),
        memory_low_bytes: (class == QosClass::Burstable && resets_memory).then_some(0),
        ..CgroupLimits::default()
    }
}

/// The limit of all pods together: the machine, less what is reserved if that is enforced, with the part kept for hard
/// eviction. The kernel's limit is the last resort.
fn of_all_pods(
    config: &Config,
    capacity: BTreeMap<String, Quantity>,
    machine: &MachineLimits,
    cgroup_version: u8,
) -> CgroupLimits {
    let mut amounts = capacity;
    let pids = Quantity::from_units(i64::try_from(machine.max_pids).unwrap_or(i64::MAX));
    amounts.insert("pid".to_owned(), pids);
    if config.node.enforce_pods {
        for (name, amount) in &mut amounts {
            for reserved in [&config.node.kube_reserved, &config.node.system_reserved] {
                if let Some(part) = reserved.get(name) {
                    *amount = amount.minus(*part).max(Quantity::ZERO);
                }
            }
        }
    }
    let resets_memory = cgroup_version == 2 && !keeps_memory(config, cgroup_version);
    CgroupLimits {
        cpus: machine.cpus_for(cgroup_version),
        memory_min_bytes: resets_memory.then_some(0),
        memory_low_bytes: resets_memory.then_some(0),
        ..of_amounts(&amounts)
    }
}

/// The limits of a group of others: what is reserved for it is what it gets, and memory is kept for it.
fn of_reserved(
    config: &Config,
    reserved: &ReservedCgroup,
    amounts: &BTreeMap<String, Quantity>,
    machine: &MachineLimits,
    cgroup_version: u8,
) -> CgroupLimits {
    let all = of_amounts(amounts);
    let cpus = machine.cpus_for(cgroup_version);
    if reserved.is_compressible_only {
        return CgroupLimits { cpu_shares: all.cpu_shares, cpus, ..CgroupLimits::default() };
    }
    let keeps_memory = cgroup_version == 2 && config.gates.enabled("MemoryQoS");
    CgroupLimits { memory_min_bytes: all.memory_limit_bytes.filter(|_| keeps_memory), cpus, ..all }
}

fn of_amounts(amounts: &BTreeMap<String, Quantity>) -> CgroupLimits {
    let positive = |n: i64| u64::try_from(n).unwrap_or(0);
    let huge_pages = amounts.iter().filter_map(|(name, amount)| {
        let size: Quantity = name.strip_prefix("hugepages-")?.parse().ok()?;
        Some(HugePageLimit { page_bytes: positive(size.units()), limit_bytes: positive(amount.units()) })
    });
    CgroupLimits {
        cpu_shares: amounts.get("cpu").map(|q| cpu_shares(positive(q.millis()))),
        memory_limit_bytes: amounts.get("memory").map(|q| positive(q.units())),
        pids_max: amounts.get("pid").map(|q| positive(q.units())),
        hugetlb: Some(huge_pages.collect()),
        ..CgroupLimits::default()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::executor::cgroups) fn config(text: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n\
                    containerRuntimeEndpoint: unix:///x\n\
                    kubeReserved: {cpu: 100m, memory: 1Gi, pid: \"500\"}\n\
                    systemReserved: {cpu: 400m}\n\
                    systemReservedCgroup: /system.slice\nkubeReservedCgroup: /kube.slice\n";
        std::fs::write(&file, format!("{head}{text}")).unwrap();
        let arguments = [format!("--config={}", file.display())];
        match config::load(&arguments) {
            Ok(config::Invocation::Run(loaded)) => loaded.config,
            Ok(_) => panic!("{text}"),
            Err(refused) => panic!("{text}: {refused:?}"),
        }
    }

    fn machine() -> MachineLimits {
        MachineLimits { cpus: "0-3".to_owned(), max_pids: 30_000 }
    }

    fn capacity() -> BTreeMap<String, Quantity> {
        let amounts = [("cpu", "4"), ("memory", "8Gi"), ("pods", "110"), ("hugepages-2Mi", "8Mi")];
        amounts.map(|(name, amount)| (name.to_owned(), amount.parse().unwrap())).into()
    }

    #[test]
    fn pods_together_get_what_is_not_reserved() {
        let pages = || Some(vec![HugePageLimit { page_bytes: 2 << 20, limit_bytes: 8 << 20 }]);
        let enforced = CgroupLimits {
            cpu_shares: Some(3584),
            memory_limit_bytes: Some(7 << 30),
            memory_min_bytes: Some(0),
            memory_low_bytes: Some(0),
            cpus: Some("0-3".to_owned()),
            pids_max: Some(29_500),
            hugetlb: pages(),
            ..CgroupLimits::default()
        };
        let open = CgroupLimits {
            cpu_shares: Some(4096),
            memory_limit_bytes: Some(8 << 30),
            pids_max: Some(30_000),
            ..enforced.clone()
        };
        let v1 =
            CgroupLimits { cpus: None, memory_min_bytes: None, memory_low_bytes: None, ..enforced.clone() };
        let kept = CgroupLimits { memory_min_bytes: None, memory_low_bytes: None, ..enforced.clone() };
        for (text, version, expected) in [
            ("", 2, &enforced),
            ("enforceNodeAllocatable: [none]\n", 2, &open),
            ("memoryReservationPolicy: TieredReservation\n", 2, &kept),
            ("", 1, &v1),
        ] {
            let config = config(text);
            assert_eq!(&of_all_pods(&config, capacity(), &machine(), version), expected, "{text}");
        }
    }

    #[test]
    fn others_get_what_is_reserved_for_them() {
        let config = config("enforceNodeAllocatable: [pods, system-reserved-compressible, kube-reserved]\n");
        let of = |reserved: &Option<ReservedCgroup>, amounts, version| {
            of_reserved(&config, reserved.as_ref().unwrap(), amounts, &machine(), version)
        };
        let node = &config.node;
        let system =
            CgroupLimits { cpu_shares: Some(409), cpus: Some("0-3".to_owned()), ..CgroupLimits::default() };
        assert_eq!(of(&node.system_reserved_cgroup, &node.system_reserved, 2), system);
        let kube = CgroupLimits {
            cpu_shares: Some(102),
            memory_limit_bytes: Some(1 << 30),
            memory_min_bytes: Some(1 << 30),
            cpus: Some("0-3".to_owned()),
            pids_max: Some(500),
            hugetlb: Some(vec![]),
            ..CgroupLimits::default()
        };
        assert_eq!(of(&node.kube_reserved_cgroup, &node.kube_reserved, 2), kube);
        let v1 = CgroupLimits { cpus: None, memory_min_bytes: None, ..kube };
        assert_eq!(of(&node.kube_reserved_cgroup, &node.kube_reserved, 1), v1);
    }
}
