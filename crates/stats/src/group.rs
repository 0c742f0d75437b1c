//! One control group as the summary shows it.

use std::time::Duration;

use host::cgroup::stats::{GroupReader, InterfaceCounters, MemoryUsage, Pressure, PressureSum, Stall};
use jiff::Timestamp;
use model::Now;

use crate::Clock;
use crate::document::{
    CpuStats, InterfaceStats, IoStats, MemoryStats, NetworkStats, PsiData, PsiStats, SwapStats, Time,
};
use crate::limits::{Limits, OwnLimits};
use crate::rate::Rates;

/// The interface whose counters stand for the pod's, as upstream has it.
const DEFAULT_INTERFACE: &str = "eth0";

/// What a group uses. A controller that is not there leaves its part out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct GroupStats {
    pub(crate) cpu: Option<CpuStats>,
    pub(crate) memory: Option<MemoryStats>,
    pub(crate) swap: Option<SwapStats>,
    pub(crate) io: Option<IoStats>,
}

/// The most a group can use, where that is not the group's own limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MachineLimits {
    pub(crate) memory_bytes: u64,
    pub(crate) swap_bytes: u64,
}

/// How much is read of a group. Each file of the kernel costs as much as the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// What the page of resource metrics shows: neither pressure nor how much memory is left.
    Resource,
    /// What the summary shows.
    Summary,
}

/// Reads groups and remembers what their rates follow from, and what they may use.
pub(crate) struct Groups {
    pub(crate) reader: GroupReader,
    pub(crate) rates: Rates,
    pub(crate) limits: Limits,
    /// Both clocks. Called for each group: a round of hundreds of groups takes a while.
    pub(crate) clock: Clock,
    pub(crate) detail: Detail,
}

impl Groups {
    /// Reads a group; `created_at` is when it was made. `machine` has the limits of the root group, which has none of
    /// its own. `None` if the group is not there.
    pub(crate) fn read(
        &mut self,
        group: &str,
        created_at: Timestamp,
        machine: Option<MachineLimits>,
    ) -> Option<GroupStats> {
        let usage_nanos = self.reader.cpu_usage_nanos(group);
        let now = (self.clock)();
        let time = Time(now.wall);
        let is_whole = self.detail == Detail::Summary;
        let pressure = if is_whole { self.reader.pressure(group) } else { PressureSum::default() };
        let cpu = usage_nanos.map(|usage_nanos| CpuStats {
            time,
            usage_nano_cores: self.rate(group, usage_nanos, created_at, now),
            usage_core_nano_seconds: Some(usage_nanos),
            psi: Some(psi(pressure.cpu)),
        });
        let mut stats = GroupStats { cpu, ..GroupStats::default() };
        if let Some(memory) = self.reader.memory(group) {
            let limits = match machine {
                Some(MachineLimits { memory_bytes, swap_bytes }) => {
                    OwnLimits { memory_bytes: Some(memory_bytes), swap_bytes: Some(swap_bytes) }
                }
                None => self.limits_of(group, &memory, now),
            };
            stats.memory = Some(MemoryStats {
                time,
                available_bytes: limits
                    .memory_bytes
                    .map(|limit| limit.saturating_sub(memory.working_set_bytes)),
                usage_bytes: Some(memory.usage_bytes),
                working_set_bytes: Some(memory.working_set_bytes),
                rss_bytes: Some(memory.rss_bytes),
                page_faults: Some(memory.page_faults),
                major_page_faults: Some(memory.major_page_faults),
                psi: Some(psi(pressure.memory)),
            });
            stats.swap = Some(SwapStats {
                time,
                swap_available_bytes: limits.swap_bytes.map(|limit| limit.saturating_sub(memory.swap_bytes)),
                swap_usage_bytes: Some(memory.swap_bytes),
            });
        }
        if stats.cpu.is_none() && stats.memory.is_none() {
            return None;
        }
        stats.io = Some(IoStats { time, psi: Some(psi(pressure.io)) });
        Some(stats)
    }

    /// What the group itself may use; `memory` was just read.
    fn limits_of(&mut self, group: &str, memory: &MemoryUsage, now: Now) -> OwnLimits {
        let Self { reader, limits, detail, .. } = self;
        let mut read = |is_memory_wanted: bool| OwnLimits {
            memory_bytes: is_memory_wanted.then(|| reader.memory_limit(group)).flatten(),
            swap_bytes: reader.swap_limit(group),
        };
        match memory.least_limits {
            // The next one to ask may want both.
            Some(least) => limits.of(group, least, now.mono, || read(true)),
            None => read(*detail == Detail::Summary),
        }
    }

    /// Ends a round in which every group was read: those that were not are forgotten.
    pub(crate) fn end_round(&mut self) {
        self.rates.end_round();
        self.limits.end_round();
    }

    /// The rate that follows from a counter of processor time.
    pub(crate) fn rate(&mut self, key: &str, nanos: u64, created_at: Timestamp, now: Now) -> Option<u64> {
        let age = Duration::try_from(now.wall.duration_since(created_at)).ok();
        self.rates.sample(key, nanos, age, now.mono)
    }

    /// How many processes the group itself has.
    pub(crate) fn processes(&mut self, group: &str, pids: &mut Vec<u32>) -> Option<u64> {
        self.reader.processes(group, pids).then_some(pids.len() as u64)
    }

    /// The network of the group's processes.
    pub(crate) fn network(&mut self, group: &str) -> Option<NetworkStats> {
        let pid = self.reader.first_process(group)?;
        self.network_of(pid)
    }

    /// The network that a process is in.
    pub(crate) fn network_of(&mut self, pid: u32) -> Option<NetworkStats> {
        let counters = self.reader.network(pid)?;
        let interfaces: Vec<InterfaceStats> = counters.into_iter().map(interface).collect();
        let default = interfaces.iter().find(|i| i.name == DEFAULT_INTERFACE).cloned().unwrap_or_default();
        Some(NetworkStats { time: Time((self.clock)().wall), default, interfaces })
    }

    /// When the group was made.
    pub(crate) fn created(&mut self, group: &str) -> Timestamp {
        let created = self.reader.created(group).and_then(|time| Timestamp::try_from(time).ok());
        created.unwrap_or_default()
    }
}

fn interface(counters: InterfaceCounters) -> InterfaceStats {
    InterfaceStats {
        name: counters.name,
        rx_bytes: Some(counters.received_bytes),
        rx_errors: Some(counters.receive_errors),
        tx_bytes: Some(counters.sent_bytes),
        tx_errors: Some(counters.send_errors),
    }
}

/// Upstream shows zeros where the kernel does not tell.
fn psi(pressure: Option<Pressure>) -> PsiStats {
    let pressure = pressure.unwrap_or_default();
    let data = |stall: Stall| PsiData {
        total: stall.total_micros,
        avg10: stall.avg10,
        avg60: stall.avg60,
        avg300: stall.avg300,
    };
    PsiStats { full: data(pressure.full), some: data(pressure.some) }
}
