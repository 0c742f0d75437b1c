//! From pod resources to the numbers the kernel takes, and the files they are written to.

use std::path::Path;

use model::QosClass;
use model::cpu::{MIN_CPU_SHARES, cpu_shares, cpu_weight};

use super::CgroupError;
use super::mounts::CgroupMounts;

/// The default CFS period, microseconds.
pub const DEFAULT_CPU_PERIOD_US: u64 = 100_000;
/// The smallest CFS quota the kernel takes, microseconds.
const MIN_CPU_QUOTA_US: i64 = 1000;

/// What a control group is limited to. `None` leaves the kernel's value alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupLimits {
    /// Relative weight on the version 1 scale, 2 to 262144.
    pub cpu_shares: Option<u64>,
    /// Microseconds of CPU time a period; -1 is unlimited.
    pub cpu_quota_us: Option<i64>,
    /// The length of a period, microseconds.
    pub cpu_period_us: Option<u64>,
    /// Bytes.
    pub memory_limit_bytes: Option<u64>,
    /// Bytes that are never taken away again (version 2 only, as the next two).
    pub memory_min_bytes: Option<u64>,
    /// Bytes that are taken away last.
    pub memory_low_bytes: Option<u64>,
    /// Bytes above which the group is slowed down.
    pub memory_high_bytes: Option<u64>,
    /// CPUs the group may run on, as the kernel lists them: `0-3,8`.
    pub cpus: Option<String>,
    /// Tasks.
    pub pids_max: Option<u64>,
    /// Bytes of huge pages, by page size. Sizes of the machine that are missing here are limited
    /// to nothing; `None` leaves all of them alone.
    pub hugetlb: Option<Vec<HugePageLimit>>,
}

/// How many bytes of huge pages of one size may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HugePageLimit {
    /// Page size, bytes.
    pub page_bytes: u64,
    /// Limit, bytes.
    pub limit_bytes: u64,
}

/// A pod's effective resources, as far as its control group depends on them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodAmounts {
    /// Effective CPU request, thousandths of a core.
    pub cpu_request_millis: u64,
    /// Effective CPU limit, if every container (or the pod itself) declares one.
    pub cpu_limit_millis: Option<u64>,
    /// Effective memory limit, if every container (or the pod itself) declares one, bytes.
    pub memory_limit_bytes: Option<u64>,
    /// Effective huge page requests.
    pub huge_pages: Vec<HugePageLimit>,
}

/// The node's settings that shape pod control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodCgroupPolicy {
    /// `cpuCFSQuota`; also false for a pod with exclusive CPUs.
    pub enforce_cpu_quota: bool,
    /// `cpuCFSQuotaPeriod`, microseconds.
    pub cpu_period_us: u64,
    /// `podPidsLimit`, if positive.
    pub pids_max: Option<u64>,
}

impl CgroupLimits {
    /// The limits of a pod's control group: all of them for Guaranteed pods, those declared by
    /// all containers for Burstable ones, none but the smallest weight for BestEffort ones.
    pub fn of_pod(qos: QosClass, amounts: &PodAmounts, policy: PodCgroupPolicy) -> Self {
        let mut limits =
            Self { hugetlb: Some(amounts.huge_pages.clone()), pids_max: policy.pids_max, ..Self::default() };
        if qos == QosClass::BestEffort {
            limits.cpu_shares = Some(MIN_CPU_SHARES);
            return limits;
        }
        limits.cpu_shares = Some(cpu_shares(amounts.cpu_request_millis));
        if let Some(millis) = amounts.cpu_limit_millis {
            let quota =
                if policy.enforce_cpu_quota { cpu_quota_us(millis, policy.cpu_period_us) } else { -1 };
            limits.cpu_quota_us = Some(quota);
            limits.cpu_period_us = Some(policy.cpu_period_us);
        }
        limits.memory_limit_bytes = amounts.memory_limit_bytes;
        limits
    }
}

/// CFS quota for a limit in thousandths of a core; unlimited without one.
pub fn cpu_quota_us(millis: u64, period_us: u64) -> i64 {
    if millis == 0 {
        return -1;
    }
    let quota = u128::from(millis) * u128::from(period_us) / 1000;
    i64::try_from(quota).unwrap_or(i64::MAX).max(MIN_CPU_QUOTA_US)
}

/// The size as it appears in hugetlb file names: `2MB`, `1GB`.
pub fn huge_page_name(page_bytes: u64) -> String {
    match page_bytes {
        b if b >= 1 << 30 && b.is_multiple_of(1 << 30) => format!("{}GB", b >> 30),
        b if b >= 1 << 20 && b.is_multiple_of(1 << 20) => format!("{}MB", b >> 20),
        b => format!("{}KB", b >> 10),
    }
}

/// systemd counts CPU time in hundredths of a CPU.
const SYSTEMD_QUOTA_STEP_US: u64 = 10_000;
const SECOND_US: u64 = 1_000_000;

impl CgroupLimits {
    /// The CPU quota as CPU time a second, microseconds, as systemd takes it: a whole number of hundredths of a CPU,
    /// rounded up so that a container inside can have what it was promised. `u64::MAX` is unlimited; `None` leaves
    /// the quota alone.
    pub fn cpu_quota_per_sec_us(&self) -> Option<u64> {
        let quota = match (self.cpu_quota_us, self.cpu_period_us) {
            (None | Some(0), None) => return None,
            (quota, _) => quota.and_then(|q| u64::try_from(q).ok()).filter(|q| *q > 0),
        };
        let Some(quota) = quota else { return Some(u64::MAX) };
        let period = self.cpu_period_us.filter(|p| *p > 0).unwrap_or(DEFAULT_CPU_PERIOD_US);
        let exact = u128::from(quota) * u128::from(SECOND_US) / u128::from(period);
        let exact = u64::try_from(exact).unwrap_or(u64::MAX);
        Some(exact.checked_next_multiple_of(SYSTEMD_QUOTA_STEP_US).unwrap_or(u64::MAX))
    }

    /// These limits with the quota that systemd makes of theirs, so that what is written to files and what systemd
    /// writes there again later are the same.
    #[must_use]
    pub fn rounded_for_systemd(&self) -> Self {
        let mut rounded = self.clone();
        let period = self.cpu_period_us.filter(|p| *p > 0).unwrap_or(DEFAULT_CPU_PERIOD_US);
        if let Some(per_sec) = self.cpu_quota_per_sec_us().filter(|us| *us < u64::MAX) {
            let quota = u128::from(per_sec) * u128::from(period) / u128::from(SECOND_US);
            rounded.cpu_quota_us = Some(i64::try_from(quota).unwrap_or(i64::MAX));
        }
        rounded
    }
}

/// What an interface file of a controller is to have (cgroups(7)).
struct InterfaceFile {
    controller: &'static str,
    name: String,
    value: String,
}

fn interface_file(controller: &'static str, name: impl Into<String>, value: impl ToString) -> InterfaceFile {
    InterfaceFile { controller, name: name.into(), value: value.to_string() }
}

/// What the limits are in the files of a version, without the quota of version 1.
fn interface_files(version: u8, limits: &CgroupLimits, page_sizes: &[u64]) -> Vec<InterfaceFile> {
    let is_v2 = version == 2;
    let mut all = Vec::new();
    if let Some(shares) = limits.cpu_shares {
        let (file, value) = if is_v2 { ("cpu.weight", cpu_weight(shares)) } else { ("cpu.shares", shares) };
        all.push(interface_file("cpu", file, value));
    }
    if let Some(bytes) = limits.memory_limit_bytes {
        all.push(interface_file("memory", if is_v2 { "memory.max" } else { "memory.limit_in_bytes" }, bytes));
    }
    for (file, bytes) in [
        ("memory.min", limits.memory_min_bytes),
        ("memory.low", limits.memory_low_bytes),
        ("memory.high", limits.memory_high_bytes),
    ] {
        all.extend(bytes.filter(|_| is_v2).map(|bytes| interface_file("memory", file, bytes)));
    }
    all.extend(limits.pids_max.map(|max| interface_file("pids", "pids.max", max)));
    all.extend(limits.cpus.as_ref().map(|cpus| interface_file("cpuset", "cpuset.cpus", cpus)));
    if let Some(wanted) = &limits.hugetlb {
        for &page_bytes in page_sizes {
            let limit = wanted.iter().find(|h| h.page_bytes == page_bytes).map_or(0, |h| h.limit_bytes);
            let suffix = if is_v2 { "max" } else { "limit_in_bytes" };
            all.push(interface_file(
                "hugetlb",
                format!("hugetlb.{}.{suffix}", huge_page_name(page_bytes)),
                limit,
            ));
        }
    }
    if let (true, Some(quota)) = (is_v2, limits.cpu_quota_us) {
        let period = limits.cpu_period_us.unwrap_or(DEFAULT_CPU_PERIOD_US);
        let quota = if quota < 0 { "max".to_owned() } else { quota.to_string() };
        all.push(interface_file("cpu", "cpu.max", format!("{quota} {period}")));
    }
    all
}

/// Writes the limits of the group `name` (relative to the hierarchies' roots).
pub(super) fn apply(
    mounts: &CgroupMounts,
    name: &Path,
    limits: &CgroupLimits,
    page_sizes: &[u64],
) -> Result<(), CgroupError> {
    let set = |file: &InterfaceFile| match mounts.root_of(file.controller) {
        Some(root) => write_interface_file(&root.join(name).join(&file.name), &file.value),
        // Without hugetlb or cpuset there is nothing to limit. The others are checked at start.
        None => Ok(()),
    };
    interface_files(mounts.version(), limits, page_sizes).iter().try_for_each(set)?;
    if mounts.version() == 2 { Ok(()) } else { apply_quota_v1(limits, &set) }
}

/// Whether the group `name` has these limits already.
pub(super) fn are_applied(
    mounts: &CgroupMounts,
    name: &Path,
    limits: &CgroupLimits,
    page_sizes: &[u64],
) -> bool {
    let mut all = interface_files(mounts.version(), limits, page_sizes);
    if mounts.version() == 1 {
        all.extend(limits.cpu_quota_us.map(|quota| interface_file("cpu", "cpu.cfs_quota_us", quota)));
        all.extend(limits.cpu_period_us.map(|period| interface_file("cpu", "cpu.cfs_period_us", period)));
    }
    all.iter().all(|file| match mounts.root_of(file.controller) {
        Some(root) => has_value(&root.join(name).join(&file.name), &file.value),
        None => true,
    })
}

fn apply_quota_v1(
    limits: &CgroupLimits,
    set: &dyn Fn(&InterfaceFile) -> Result<(), CgroupError>,
) -> Result<(), CgroupError> {
    let quota = |q: i64| set(&interface_file("cpu", "cpu.cfs_quota_us", q));
    let period = |p: u64| set(&interface_file("cpu", "cpu.cfs_period_us", p));
    match (limits.cpu_quota_us, limits.cpu_period_us) {
        // Either order can pass through a ratio above the parent's, which the kernel refuses;
        // then the other order works.
        (Some(q), Some(p)) => {
            period(p).and_then(|()| quota(q)).or_else(|_| quota(q).and_then(|()| period(p)))
        }
        (Some(q), None) => quota(q),
        (None, Some(p)) => period(p),
        (None, None) => Ok(()),
    }
}

fn has_value(path: &Path, value: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|old| old.trim_end() == value)
}

/// Writes a value unless it is there already: adopting a node full of pods then costs reads only.
pub(super) fn write_interface_file(path: &Path, value: &str) -> Result<(), CgroupError> {
    if has_value(path, value) {
        return Ok(());
    }
    std::fs::write(path, value).map_err(|source| CgroupError::Set {
        path: path.to_owned(),
        value: value.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: PodCgroupPolicy =
        PodCgroupPolicy { enforce_cpu_quota: true, cpu_period_us: DEFAULT_CPU_PERIOD_US, pids_max: None };

    #[test]
    fn shares_weights_and_quotas() {
        for (millis, shares, weight) in
            [(0, 2, 1), (1, 2, 1), (100, 102, 4), (1000, 1024, 39), (u64::MAX, 262_144, 10_000)]
        {
            assert_eq!((cpu_shares(millis), cpu_weight(cpu_shares(millis))), (shares, weight), "{millis}");
        }
        for (millis, quota) in [(0, -1), (1, 1000), (10, 1000), (250, 25_000), (3000, 300_000)] {
            assert_eq!(cpu_quota_us(millis, 100_000), quota, "{millis}");
        }
        assert_eq!(cpu_quota_us(u64::MAX, u64::MAX), i64::MAX);
    }

    #[test]
    fn quotas_are_rounded_up_to_what_systemd_can_say() {
        const MAX: u64 = u64::MAX;
        for (quota, period, per_sec, rounded) in [
            (None, None, None, None),
            (Some(0), None, None, Some(0)),
            (Some(-1), Some(100_000), Some(MAX), Some(-1)),
            (Some(-1), None, Some(MAX), Some(-1)),
            (None, Some(100_000), Some(MAX), None),
            (Some(20_000), Some(100_000), Some(200_000), Some(20_000)),
            (Some(12_300), Some(100_000), Some(130_000), Some(13_000)),
            (Some(1000), None, Some(10_000), Some(1000)),
            (Some(1001), None, Some(20_000), Some(2000)),
            (Some(1500), Some(10_000), Some(150_000), Some(1500)),
            (Some(i64::MAX), Some(1), Some(MAX), Some(i64::MAX)),
        ] {
            let limits =
                CgroupLimits { cpu_quota_us: quota, cpu_period_us: period, ..CgroupLimits::default() };
            assert_eq!(limits.cpu_quota_per_sec_us(), per_sec, "{quota:?} {period:?}");
            assert_eq!(limits.rounded_for_systemd().cpu_quota_us, rounded, "{quota:?} {period:?}");
        }
    }

    #[test]
    fn limits_become_files() {
        let limits = CgroupLimits {
            cpu_shares: Some(1024),
            cpu_quota_us: Some(-1),
            memory_limit_bytes: Some(64),
            memory_min_bytes: Some(1),
            memory_low_bytes: Some(2),
            memory_high_bytes: Some(3),
            cpus: Some("0-3".to_owned()),
            pids_max: Some(77),
            hugetlb: Some(vec![HugePageLimit { page_bytes: 2 << 20, limit_bytes: 4 << 20 }]),
            ..CgroupLimits::default()
        };
        let files = |version| {
            let all = interface_files(version, &limits, &[2 << 20, 1 << 30]);
            all.iter().map(|k| format!("{}/{}={}", k.controller, k.name, k.value)).collect::<Vec<_>>()
        };
        let v1 = [
            "cpu/cpu.shares=1024",
            "memory/memory.limit_in_bytes=64",
            "pids/pids.max=77",
            "cpuset/cpuset.cpus=0-3",
            "hugetlb/hugetlb.2MB.limit_in_bytes=4194304",
            "hugetlb/hugetlb.1GB.limit_in_bytes=0",
        ];
        assert_eq!(files(1), v1);
        let v2 = [
            "cpu/cpu.weight=39",
            "memory/memory.max=64",
            "memory/memory.min=1",
            "memory/memory.low=2",
            "memory/memory.high=3",
            "pids/pids.max=77",
            "cpuset/cpuset.cpus=0-3",
            "hugetlb/hugetlb.2MB.max=4194304",
            "hugetlb/hugetlb.1GB.max=0",
            "cpu/cpu.max=max 100000",
        ];
        assert_eq!(files(2), v2);
    }

    #[test]
    fn page_sizes_have_names() {
        for (bytes, name) in [(2 << 20, "2MB"), (1 << 30, "1GB"), (64 << 10, "64KB"), (512 << 20, "512MB")] {
            assert_eq!(huge_page_name(bytes), name);
        }
    }

    #[test]
    fn limits_follow_the_class() {
        let amounts = PodAmounts {
            cpu_request_millis: 500,
            cpu_limit_millis: Some(500),
            memory_limit_bytes: Some(64 << 20),
            huge_pages: vec![],
        };
        let all = CgroupLimits {
            cpu_shares: Some(512),
            cpu_quota_us: Some(50_000),
            cpu_period_us: Some(100_000),
            memory_limit_bytes: Some(64 << 20),
            hugetlb: Some(vec![]),
            ..CgroupLimits::default()
        };
        assert_eq!(CgroupLimits::of_pod(QosClass::Guaranteed, &amounts, POLICY), all);

        let unlimited = PodCgroupPolicy { enforce_cpu_quota: false, pids_max: Some(99), ..POLICY };
        let loose = CgroupLimits::of_pod(QosClass::Guaranteed, &amounts, unlimited);
        assert_eq!((loose.cpu_quota_us, loose.pids_max), (Some(-1), Some(99)));

        let partly = PodAmounts { cpu_limit_millis: None, memory_limit_bytes: None, ..amounts.clone() };
        let burstable = CgroupLimits::of_pod(QosClass::Burstable, &partly, POLICY);
        assert_eq!((burstable.cpu_shares, burstable.cpu_quota_us), (Some(512), None));
        assert_eq!(burstable.memory_limit_bytes, None);

        let best_effort = CgroupLimits::of_pod(QosClass::BestEffort, &amounts, POLICY);
        assert_eq!((best_effort.cpu_shares, best_effort.memory_limit_bytes), (Some(2), None));
    }
}
