//! Facts and settings of this node that every sandbox and container spec depends on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use model::Quantity;

/// What the kernel does about memory before it runs out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemoryQos {
    /// `memoryThrottlingFactor`: how far between request and limit; `None` is never.
    pub throttling_factor: Option<f64>,
    /// `memoryReservationPolicy: TieredReservation`: whether the kernel keeps the memory a container requests.
    pub reserves_requests: bool,
    /// What pods can have of the node's memory, bytes: the limit of those without one.
    pub allocatable_bytes: u64,
}

/// Facts and settings of this node. Gathered once at start.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeSettings {
    /// Whether cgroups are the unified (v2) hierarchy.
    pub has_cgroup_v2: bool,
    /// The node's memory, bytes; the OOM score is relative to it.
    pub memory_capacity_bytes: u64,
    /// The kernel's huge page sizes as cgroup files spell them: `2MB`, `1GB`.
    pub hugepage_sizes: Vec<String>,
    /// `cpuCFSQuota`: whether CPU limits are enforced.
    pub enforces_cpu_quota: bool,
    /// `cpuCFSQuotaPeriod`.
    pub cpu_quota_period: Duration,
    /// `singleProcessOOMKill`: whether the kernel kills one process and not the whole container.
    pub kills_single_process: bool,
    /// Whether the memory cgroup can limit swap.
    pub has_swap_control: bool,
    /// `memorySwap.swapBehavior`: how much swap pods share, bytes; `None` is `NoSwap`.
    pub swap_bytes_for_pods: Option<u64>,
    /// Feature gate `MemoryQoS`; `None` is off.
    pub memory_qos: Option<MemoryQos>,
    /// `seccompDefault`: whether `RuntimeDefault` applies where a pod names no profile.
    pub seccomp_default: bool,
    /// `<root>/seccomp`, below which localhost profiles lie.
    pub seccomp_root: PathBuf,
    /// `defaultPodSysctls`: sysctls of pods that set no others, named with dots.
    pub default_sysctls: BTreeMap<String, String>,
    /// Feature gate `ContainerStopSignals`: whether `lifecycle.stopSignal` is honoured.
    pub honours_stop_signals: bool,
    /// Whether SELinux is in force, so that what containers are given has to be labelled for them.
    pub has_selinux: bool,
    /// Paths that exist on this machine and are masked besides the fixed ones
    /// ([`crate::container::thermal_paths`]).
    pub masked_paths: Vec<String>,
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self {
            has_cgroup_v2: true,
            memory_capacity_bytes: 0,
            hugepage_sizes: Vec::new(),
            enforces_cpu_quota: true,
            cpu_quota_period: Duration::from_millis(100),
            kills_single_process: false,
            has_swap_control: false,
            swap_bytes_for_pods: None,
            memory_qos: None,
            seccomp_default: false,
            seccomp_root: PathBuf::from("/var/lib/kubelet/seccomp"),
            default_sysctls: BTreeMap::new(),
            honours_stop_signals: false,
            has_selinux: false,
            masked_paths: Vec::new(),
        }
    }
}

/// What a pod as a whole requests and may use, without its overhead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PodTotals {
    /// CPU requested; `None` when no container requests any.
    pub cpu_request: Option<Quantity>,
    /// CPU limit; zero for none.
    pub cpu_limit: Quantity,
    /// Memory limit; zero for none.
    pub memory_limit: Quantity,
    /// Whether the pod has CPUs of its own, which a quota would only hurt.
    pub has_exclusive_cpus: bool,
}
