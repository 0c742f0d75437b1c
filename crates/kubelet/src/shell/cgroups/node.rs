//! The cgroups of the node as a whole: all pods together, the classes of pods, and what is reserved for others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use config::{Config, ReservedCgroup};
use host::cgroup::{CgroupLimits, Group, HugePageLimit, MIN_CPU_SHARES, cpu_shares};
use model::{QosClass, Quantity};
use node::node_status::NodeFacts;
use node::{EventObject, EventRecord};
use tracing::info;

use super::{Driver, DriverError};
use crate::shell::adapters::Adapters;
use crate::shell::failure;

/// Limits that pods exceed cannot be set before evictions have made room; upstream tries again as often.
const RETRY: Duration = Duration::from_secs(60);

/// What the machine has, as far as its cgroups depend on it.
pub(crate) struct Machine {
    /// The kernel's list of all CPUs; empty if it has none.
    pub(crate) cpus: String,
    /// How many tasks the kernel allows.
    pub(crate) max_pids: u64,
}

/// Makes the cgroups of all pods and of the classes, and limits those of others that are reserved. The limit of all pods
/// together is set at once if possible, and otherwise as soon as it is.
///
/// # Errors
///
/// When there is nobody to make cgroups, when one cannot be made, or when a reserved one cannot be limited: as upstream,
/// a node does not start without.
pub(crate) async fn prepare(
    adapters: &Arc<Adapters>,
    facts: &NodeFacts,
    machine: &Machine,
) -> Result<(), PrepareError> {
    let (config, driver) = (&adapters.config, &adapters.cgroup_driver);
    if config.pods.cgroups_per_qos {
        driver.check().await.map_err(PrepareError::Driver)?;
        let version = adapters.cgroups.mounts().version();
        for (group, limits) in [
            (Group::Kubepods, CgroupLimits::default()),
            (Group::Class(QosClass::Burstable), of_class(QosClass::Burstable, version)),
            (Group::Class(QosClass::BestEffort), of_class(QosClass::BestEffort, version)),
        ] {
            driver.ensure(group, limits).await.map_err(PrepareError::Driver)?;
        }
        let limits = of_all_pods(config, facts, machine, version);
        if !enforce(adapters, driver, limits.clone()).await {
            let (adapters, driver) = (adapters.clone(), driver.clone());
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(RETRY).await;
                    if enforce(&adapters, &driver, limits.clone()).await {
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
            limit_reserved(adapters, what, reserved, amounts).await?;
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
async fn enforce(adapters: &Adapters, driver: &Driver, limits: CgroupLimits) -> bool {
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
            format!("Failed to update Node Allocatable Limits [\"kubepods\"]: {}", failure::chain(error)),
        ),
    };
    if is_warning {
        tracing::warn!(err = message, "The limit of all pods together is not set; trying again every minute");
    }
    adapters.api.record(EventRecord { about: EventObject::Node, is_warning, reason, message });
    result.is_ok()
}

async fn limit_reserved(
    adapters: &Adapters,
    what: &'static str,
    reserved: &ReservedCgroup,
    amounts: &BTreeMap<String, Quantity>,
) -> Result<(), PrepareError> {
    let cgroup = reserved.name.clone();
    let limits = of_reserved(amounts, reserved.is_compressible_only);
    info!(v = 2, cgroup, ?limits, "Limiting the cgroup reserved for {what}");
    let result = adapters.cgroup_driver.set(Group::Existing(cgroup.clone()), limits).await;
    let (is_warning, reason, message) = match &result {
        Ok(()) => (
            false,
            model::reason::event::NODE_ALLOCATABLE_ENFORCED,
            format!("Updated limits on {what} reserved cgroup {cgroup}"),
        ),
        Err(error) => (
            true,
            model::reason::event::FAILED_NODE_ALLOCATABLE_ENFORCEMENT,
            format!("Failed to enforce {what} reserved limits on {cgroup:?}: {}", failure::chain(error)),
        ),
    };
    adapters.api.record(EventRecord { about: EventObject::Node, is_warning, reason, message });
    result.map_err(|source| PrepareError::Reserved { what, cgroup, source })
}

/// What a class starts with. An earlier kubelet with another memory policy may have left guarantees behind.
fn of_class(class: QosClass, cgroup_version: u8) -> CgroupLimits {
    CgroupLimits {
        cpu_shares: (class == QosClass::BestEffort).then_some(MIN_CPU_SHARES),
        memory_low_bytes: (class == QosClass::Burstable && cgroup_version == 2).then_some(0),
        ..CgroupLimits::default()
    }
}

/// The limit of all pods together: the machine, less what is reserved if that is enforced, with the part kept for hard
/// eviction. The kernel's limit is the last resort.
fn of_all_pods(config: &Config, facts: &NodeFacts, machine: &Machine, cgroup_version: u8) -> CgroupLimits {
    let mut amounts = facts.capacity();
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
    let is_v2 = cgroup_version == 2;
    CgroupLimits {
        // systemd takes a controller away again that none of its units asks for.
        cpus: Some(machine.cpus.clone()).filter(|cpus| is_v2 && !cpus.is_empty()),
        memory_min_bytes: is_v2.then_some(0),
        memory_low_bytes: is_v2.then_some(0),
        ..of_amounts(&amounts)
    }
}

fn of_reserved(amounts: &BTreeMap<String, Quantity>, is_compressible_only: bool) -> CgroupLimits {
    let all = of_amounts(amounts);
    if is_compressible_only {
        return CgroupLimits { cpu_shares: all.cpu_shares, ..CgroupLimits::default() };
    }
    all
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
