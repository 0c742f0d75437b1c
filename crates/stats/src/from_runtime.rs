//! What the runtime measured, in the summary's terms. Used for what control groups do not tell (writable
//! layers, images), for pods without control groups here, and for everything about pods where the gate
//! `PodAndContainerStatsFromCRI` says so.

use model::Now;
use runtime::usage::{
    ContainerUsage, CpuUsage, InterfaceUsage, IoUsage, MemoryUsage, NetworkUsage, Pressure, SandboxUsage,
    Stall, SwapUsage,
};

use crate::document::{
    CpuStats, FsStats, InterfaceStats, IoStats, MemoryStats, NetworkStats, PodStats, ProcessStats, PsiData,
    PsiStats, SwapStats, Time,
};
use crate::file_system::FileSystems;
use crate::group::{GroupStats, Groups};
use crate::targets::{ContainerTarget, PodTarget};

/// A container. Runtimes rarely tell a rate, which then follows from two samples.
pub(crate) fn container(usage: &ContainerUsage, target: &ContainerTarget, groups: &mut Groups) -> GroupStats {
    let mut cpu = usage.cpu.as_ref().map(cpu_stats);
    if let Some(cpu) = &mut cpu
        && cpu.usage_nano_cores.is_none()
        && let Some(nanos) = cpu.usage_core_nano_seconds
    {
        let now: Now = (groups.clock)();
        cpu.usage_nano_cores = groups.rate(target.id.as_str(), nanos, target.created_at, now);
    }
    GroupStats {
        cpu,
        memory: usage.memory.as_ref().map(memory_stats),
        swap: usage.swap.as_ref().map(swap_stats),
        io: usage.io.as_ref().map(io_stats),
    }
}

/// A container's writable layer and the file system that is on.
pub(crate) fn writable_layer(usage: &ContainerUsage, fs: &mut FileSystems) -> Option<FsStats> {
    let layer = usage.writable_layer.as_ref()?;
    let room = layer.mountpoint.as_deref().map(|path| fs.room(path)).unwrap_or_default();
    Some(FsStats {
        time: Time(layer.at),
        used_bytes: layer.used_bytes,
        inodes_used: layer.inodes_used,
        ..room
    })
}

/// Fills in what the runtime tells of a pod as a whole.
pub(crate) fn pod(usage: &SandboxUsage, target: &PodTarget, groups: &mut Groups, stats: &mut PodStats) {
    stats.cpu = usage.cpu.as_ref().map(cpu_stats);
    if let Some(cpu) = &mut stats.cpu
        && cpu.usage_nano_cores.is_none()
        && let Some(nanos) = cpu.usage_core_nano_seconds
    {
        let now = (groups.clock)();
        cpu.usage_nano_cores = groups.rate(target.sandbox.as_str(), nanos, target.created_at, now);
    }
    stats.memory = usage.memory.as_ref().map(memory_stats);
    stats.io = usage.io.as_ref().map(io_stats);
    stats.network = usage.network.as_ref().map(network_stats);
    stats.process_stats = usage.processes.map(|n| ProcessStats { process_count: Some(n) });
    stats.swap = sum_of_swap(stats);
}

/// The runtime does not tell a pod's swap.
pub(crate) fn sum_of_swap(stats: &PodStats) -> Option<SwapStats> {
    let swaps = stats.containers.iter().filter_map(|c| c.swap);
    swaps.reduce(|a, b| SwapStats {
        time: a.time.max(b.time),
        swap_available_bytes: sum(a.swap_available_bytes, b.swap_available_bytes),
        swap_usage_bytes: sum(a.swap_usage_bytes, b.swap_usage_bytes),
    })
}

/// The sum of what is known.
pub(crate) fn sum(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.saturating_add(b)),
        (known, None) | (None, known) => known,
    }
}

fn cpu_stats(cpu: &CpuUsage) -> CpuStats {
    CpuStats {
        time: Time(cpu.at),
        usage_nano_cores: cpu.nano_cores,
        usage_core_nano_seconds: cpu.core_nanos,
        psi: cpu.pressure.map(psi),
    }
}

fn memory_stats(memory: &MemoryUsage) -> MemoryStats {
    MemoryStats {
        time: Time(memory.at),
        available_bytes: memory.available,
        usage_bytes: memory.usage,
        working_set_bytes: memory.working_set,
        rss_bytes: memory.rss,
        page_faults: memory.page_faults,
        major_page_faults: memory.major_page_faults,
        psi: memory.pressure.map(psi),
    }
}

fn swap_stats(swap: &SwapUsage) -> SwapStats {
    SwapStats { time: Time(swap.at), swap_available_bytes: swap.available, swap_usage_bytes: swap.usage }
}

fn io_stats(io: &IoUsage) -> IoStats {
    IoStats { time: Time(io.at), psi: io.pressure.map(psi) }
}

fn network_stats(network: &NetworkUsage) -> NetworkStats {
    NetworkStats {
        time: Time(network.at),
        default: interface(&network.default),
        interfaces: network.interfaces.iter().map(interface).collect(),
    }
}

fn interface(interface: &InterfaceUsage) -> InterfaceStats {
    InterfaceStats {
        name: interface.name.clone(),
        rx_bytes: interface.rx_bytes,
        rx_errors: interface.rx_errors,
        tx_bytes: interface.tx_bytes,
        tx_errors: interface.tx_errors,
    }
}

fn psi(pressure: Pressure) -> PsiStats {
    let data = |stall: Stall| PsiData {
        total: stall.total,
        avg10: stall.avg10,
        avg60: stall.avg60,
        avg300: stall.avg300,
    };
    PsiStats { full: data(pressure.full), some: data(pressure.some) }
}
