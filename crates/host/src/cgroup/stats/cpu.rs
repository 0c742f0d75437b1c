//! CPU time, throttling and limits of a group.

use model::cpu::shares_of_weight;

use super::{Controller, GroupReader, pairs, parse};

/// Version 1 counts user and system time in ticks of the kernel's user interface, which is 100 Hz on
/// every architecture that Kubernetes runs on.
const NANOS_PER_TICK: u64 = 10_000_000;
const NANOS_PER_MICRO: u64 = 1_000;

/// CPU time used since the group was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// In all, nanoseconds.
    pub usage_nanos: u64,
    /// In user mode, nanoseconds (in steps of 10 ms on version 1).
    pub user_nanos: u64,
    /// In the kernel, nanoseconds (in steps of 10 ms on version 1).
    pub system_nanos: u64,
}

/// How a quota has held a group back since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuThrottling {
    /// Periods in which the group wanted to run.
    pub periods: u64,
    /// Periods in which it used up its quota.
    pub throttled_periods: u64,
    /// How long it had to wait, nanoseconds.
    pub throttled_nanos: u64,
    /// Periods in which it used what it had saved up.
    pub burst_periods: u64,
    /// How long it ran beyond its quota in them, nanoseconds.
    pub burst_nanos: u64,
}

/// A group's share of the CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuLimits {
    /// Its weight as version 1 shares (2 to 262144). Version 2 weights are converted as upstream
    /// converts them for metrics, which is linear and not what runtimes do when they set them.
    pub shares: Option<u64>,
    /// The period of the quota, microseconds.
    pub period_micros: Option<u64>,
    /// CPU time in each period, microseconds; `None` without a limit.
    pub quota_micros: Option<u64>,
}

impl GroupReader {
    /// CPU time used by the group and those below it.
    pub fn cpu_time(&mut self, group: &str) -> Option<CpuTime> {
        if self.is_v1() {
            let usage_nanos = self.number(Controller::CpuAcct, group, "cpuacct.usage")?;
            let mut time = CpuTime { usage_nanos, ..CpuTime::default() };
            for (key, ticks) in pairs(self.text(Controller::CpuAcct, group, "cpuacct.stat").unwrap_or("")) {
                match key {
                    "user" => time.user_nanos = ticks.saturating_mul(NANOS_PER_TICK),
                    "system" => time.system_nanos = ticks.saturating_mul(NANOS_PER_TICK),
                    _ => {}
                }
            }
            return Some(time);
        }
        self.cpu_stat(group).map(|(time, _)| time)
    }

    /// CPU time used by the group and those below it in all, nanoseconds.
    pub fn cpu_usage_nanos(&mut self, group: &str) -> Option<u64> {
        if self.is_v1() {
            return self.number(Controller::CpuAcct, group, "cpuacct.usage");
        }
        self.cpu_time(group).map(|time| time.usage_nanos)
    }

    /// Throttling of the group.
    pub fn cpu_throttling(&mut self, group: &str) -> Option<CpuThrottling> {
        self.cpu_stat(group).map(|(_, throttling)| throttling)
    }

    /// Weight and quota of the group.
    pub fn cpu_limits(&mut self, group: &str) -> Option<CpuLimits> {
        if self.is_v1() {
            let shares = self.number(Controller::Cpu, group, "cpu.shares");
            let period_micros = self.number(Controller::Cpu, group, "cpu.cfs_period_us");
            let quota_micros = self.number(Controller::Cpu, group, "cpu.cfs_quota_us");
            let limits = CpuLimits { shares, period_micros, quota_micros };
            return (limits != CpuLimits::default()).then_some(limits);
        }
        let weight = self.number(Controller::Cpu, group, "cpu.weight");
        let shares = weight.and_then(shares_of_weight);
        let max = self.text(Controller::Cpu, group, "cpu.max").and_then(|text| text.split_once(' '));
        let quota_micros = max.and_then(|(quota, _)| quota.parse().ok());
        let period_micros = max.and_then(|(_, period)| parse(period));
        let limits = CpuLimits { shares, period_micros, quota_micros };
        (limits != CpuLimits::default()).then_some(limits)
    }

    /// `cpu.stat`, which has only throttling in version 1, and in other units.
    fn cpu_stat(&mut self, group: &str) -> Option<(CpuTime, CpuThrottling)> {
        let (mut time, mut throttling) = (CpuTime::default(), CpuThrottling::default());
        for (key, value) in pairs(self.text(Controller::Cpu, group, "cpu.stat")?) {
            let micros = value.saturating_mul(NANOS_PER_MICRO);
            match key {
                "usage_usec" => time.usage_nanos = micros,
                "user_usec" => time.user_nanos = micros,
                "system_usec" => time.system_nanos = micros,
                "nr_periods" => throttling.periods = value,
                "nr_throttled" => throttling.throttled_periods = value,
                "nr_bursts" => throttling.burst_periods = value,
                "throttled_usec" => throttling.throttled_nanos = micros,
                "throttled_time" => throttling.throttled_nanos = value,
                "burst_usec" => throttling.burst_nanos = micros,
                "burst_time" => throttling.burst_nanos = value,
                _ => {}
            }
        }
        Some((time, throttling))
    }
}
