//! The cgroups of single pods.

use host::cgroup::{CgroupLimits, Group, HugePageLimit, PodAmounts, PodCgroupPolicy};
use model::{AllocatedPod, Pod, PodUid, QosClass, Quantity, pod};
use node::{Failure, FailureKind, Outcome};

use super::{DriverError, NodeCgroups};
use crate::executor::failure;

impl NodeCgroups {
    /// The pod's cgroup as CRI wants it; empty when pods have none of their own.
    pub(crate) fn parent(&self, pod: &Pod) -> Result<String, Failure> {
        if !self.config.pods.cgroups_per_qos {
            return Ok(String::new());
        }
        self.tree
            .pod_cgroup_parent(&pod::uid(pod), QosClass::of(pod))
            .map_err(|error| Failure { kind: FailureKind::Other, message: model::chain(&error) })
    }

    /// Makes the pod's cgroup, and reads what it has.
    pub(crate) async fn ensure_pod(&self, pod: AllocatedPod) -> Outcome {
        if !self.config.pods.cgroups_per_qos {
            return Outcome::Done;
        }
        let qos = QosClass::of(&pod);
        let period = self.config.pods.cpu_cfs_quota_period;
        let policy = PodCgroupPolicy {
            enforce_cpu_quota: period.is_some(),
            cpu_period_us: period.map_or(100_000, |p| u64::try_from(p.as_micros()).unwrap_or(100_000)),
            pids_max: self.config.pods.pids_limit,
        };
        let mut limits = CgroupLimits::of_pod(qos, &amounts(&pod), policy);
        self.protect_memory(&mut limits, &pod, qos);
        let group = Group::Pod { uid: pod::uid(&pod), qos };
        match self.driver.ensure_and_observe(group, limits).await {
            Ok(has) => Outcome::Cgroup(has),
            Err(error) => failure::other(model::chain(&error)),
        }
    }

    /// Reads what the cgroups of pods have.
    pub(crate) async fn read_pods(&self, pods: Vec<(PodUid, QosClass)>) -> Outcome {
        match self.driver.observe_pods(pods).await {
            Ok(found) => Outcome::PodCgroups(found),
            Err(error) => failure::other(model::chain(&error)),
        }
    }

    /// Adds what the kernel is to do about the pod's memory before it runs out (feature gate `MemoryQoS`).
    fn protect_memory(&self, limits: &mut CgroupLimits, pod: &AllocatedPod, qos: QosClass) {
        let pods = &self.config.pods;
        if self.tree.mounts().version() != 2 || !self.config.gates.enabled("MemoryQoS") {
            return;
        }
        if pods.reserves_memory {
            let request = pod.requests().get("memory").unwrap_or_default().units();
            let request = u64::try_from(request).ok().filter(|bytes| *bytes > 0);
            match qos {
                QosClass::Guaranteed => limits.memory_min_bytes = request,
                QosClass::Burstable | QosClass::BestEffort => limits.memory_low_bytes = request,
            }
        }
        limits.memory_high_bytes =
            pods.memory_throttling_factor.and_then(|factor| runtime::container::pod_memory_high(pod, factor));
    }

    /// Removes the pod's cgroup, in whichever class it is.
    pub(crate) async fn remove_pod(&self, uid: PodUid) -> Outcome {
        if !self.config.pods.cgroups_per_qos {
            return Outcome::Done;
        }
        outcome(self.driver.remove_pod(&uid).await)
    }
}

pub(super) fn outcome(result: Result<(), DriverError>) -> Outcome {
    match result {
        Ok(()) => Outcome::Done,
        Err(error) => failure::other(model::chain(&error)),
    }
}

fn amounts(pod: &AllocatedPod) -> PodAmounts {
    let requests = pod.requests();
    let limits = pod.declared_limits();
    let positive = |n: i64| u64::try_from(n).unwrap_or(0);
    let huge_pages = limits.iter().filter_map(|(name, amount)| {
        let size: Quantity = name.strip_prefix("hugepages-")?.parse().ok()?;
        Some(HugePageLimit { page_bytes: positive(size.units()), limit_bytes: positive(amount.units()) })
    });
    PodAmounts {
        cpu_request_millis: positive(requests.get("cpu").unwrap_or_default().millis()),
        cpu_limit_millis: limits.get("cpu").map(|q| positive(q.millis())),
        memory_limit_bytes: limits.get("memory").map(|q| positive(q.units())),
        huge_pages: huge_pages.collect(),
    }
}
