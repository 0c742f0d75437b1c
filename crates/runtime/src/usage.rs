//! What containers and pods use, as far as the runtime says. Every amount may be missing: runtimes
//! report what they happen to know.

use std::path::PathBuf;

use jiff::Timestamp;
use model::{ContainerId, SandboxId};

use crate::client::Runtime;
use crate::error::RuntimeError;
use crate::lists::List;
use crate::observe::timestamp;
use crate::wire;

/// How long processes waited for a resource.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stall {
    /// Since the group was made, in the unit the runtime gives it.
    pub total: u64,
    /// Percent of the last ten seconds.
    pub avg10: f64,
    /// Percent of the last minute.
    pub avg60: f64,
    /// Percent of the last five minutes.
    pub avg300: f64,
}

/// Pressure on a resource.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// All processes waited.
    pub full: Stall,
    /// At least one waited.
    pub some: Stall,
}

/// Processor time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CpuUsage {
    /// When it was measured.
    pub at: Timestamp,
    /// Used since the start, core nanoseconds.
    pub core_nanos: Option<u64>,
    /// Used of late, billionths of a core.
    pub nano_cores: Option<u64>,
    /// Waiting for a processor.
    pub pressure: Option<Pressure>,
}

/// Memory, bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemoryUsage {
    /// When it was measured.
    pub at: Timestamp,
    /// What is left below the limit.
    pub available: Option<u64>,
    /// In use, page cache included.
    pub usage: Option<u64>,
    /// In use and not easily given back.
    pub working_set: Option<u64>,
    /// Anonymous memory.
    pub rss: Option<u64>,
    /// Page faults since the start.
    pub page_faults: Option<u64>,
    /// Those of them that had to read from a disk.
    pub major_page_faults: Option<u64>,
    /// Waiting for memory.
    pub pressure: Option<Pressure>,
}

/// Swap, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwapUsage {
    /// When it was measured.
    pub at: Timestamp,
    /// What is left below the limit.
    pub available: Option<u64>,
    /// In use.
    pub usage: Option<u64>,
}

/// Reading and writing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IoUsage {
    /// When it was measured.
    pub at: Timestamp,
    /// Waiting for it.
    pub pressure: Option<Pressure>,
}

/// A container's writable layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerUsage {
    /// When it was measured.
    pub at: Timestamp,
    /// The file system it is on, by a path in it.
    pub mountpoint: Option<PathBuf>,
    /// Bytes.
    pub used_bytes: Option<u64>,
    /// Inodes.
    pub inodes_used: Option<u64>,
}

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceUsage {
    /// Its name inside of the pod.
    pub name: String,
    /// Bytes received.
    pub rx_bytes: Option<u64>,
    /// Errors while receiving.
    pub rx_errors: Option<u64>,
    /// Bytes sent.
    pub tx_bytes: Option<u64>,
    /// Errors while sending.
    pub tx_errors: Option<u64>,
}

/// A pod's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkUsage {
    /// When it was measured.
    pub at: Timestamp,
    /// The interface of the default route.
    pub default: InterfaceUsage,
    /// All of them.
    pub interfaces: Vec<InterfaceUsage>,
}

/// A container.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerUsage {
    /// Which one.
    pub id: ContainerId,
    /// Processor time.
    pub cpu: Option<CpuUsage>,
    /// Memory.
    pub memory: Option<MemoryUsage>,
    /// Swap.
    pub swap: Option<SwapUsage>,
    /// Reading and writing.
    pub io: Option<IoUsage>,
    /// What it wrote into its own root file system.
    pub writable_layer: Option<LayerUsage>,
}

/// A pod with its containers.
#[derive(Clone, Debug, PartialEq)]
pub struct SandboxUsage {
    /// Which one.
    pub id: SandboxId,
    /// Processor time.
    pub cpu: Option<CpuUsage>,
    /// Memory.
    pub memory: Option<MemoryUsage>,
    /// Reading and writing.
    pub io: Option<IoUsage>,
    /// Network.
    pub network: Option<NetworkUsage>,
    /// How many processes it has.
    pub processes: Option<u64>,
    /// Its containers.
    pub containers: Vec<ContainerUsage>,
}

impl Runtime {
    /// What every container uses. This makes the runtime measure all of them: do not ask often.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub async fn container_usage(&self) -> Result<Vec<ContainerUsage>, RuntimeError> {
        let (mut client, mut other) = (self.runtime(), self.runtime());
        let chunks = self.request(wire::StreamContainerStatsRequest { filter: None });
        let list = List {
            calls: ("StreamContainerStats", "ListContainerStats"),
            object: "",
            has_chunks: &self.chunks().runtime,
            chunks: Box::pin(client.stream_container_stats(chunks)),
            whole: Box::pin(
                other.list_container_stats(self.request(wire::ListContainerStatsRequest { filter: None })),
            ),
        };
        let all = self.list(list, |chunk| chunk.container_stats, |whole| whole.stats).await?;
        Ok(all.into_iter().filter_map(container).collect())
    }

    /// What every pod uses; `None` when the runtime does not know this call.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub async fn sandbox_usage(&self) -> Result<Option<Vec<SandboxUsage>>, RuntimeError> {
        let (mut client, mut other) = (self.runtime(), self.runtime());
        let chunks = self.request(wire::StreamPodSandboxStatsRequest { filter: None });
        let whole = self.request(wire::ListPodSandboxStatsRequest { filter: None });
        let list = List {
            calls: ("StreamPodSandboxStats", "ListPodSandboxStats"),
            object: "",
            has_chunks: &self.chunks().runtime,
            chunks: Box::pin(client.stream_pod_sandbox_stats(chunks)),
            whole: Box::pin(other.list_pod_sandbox_stats(whole)),
        };
        match self.list(list, |chunk| chunk.pod_sandbox_stats, |whole| whole.stats).await {
            Ok(all) => Ok(Some(all.into_iter().filter_map(sandbox).collect())),
            Err(error) if error.is_unimplemented() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn container(stats: wire::ContainerStats) -> Option<ContainerUsage> {
    Some(ContainerUsage {
        id: ContainerId::from(stats.attributes?.id),
        cpu: stats.cpu.map(cpu),
        memory: stats.memory.map(memory),
        swap: stats.swap.map(|swap| SwapUsage {
            at: at(swap.timestamp),
            available: value(swap.swap_available_bytes),
            usage: value(swap.swap_usage_bytes),
        }),
        io: stats.io.map(io),
        writable_layer: stats.writable_layer.map(|layer| LayerUsage {
            at: at(layer.timestamp),
            mountpoint: layer.fs_id.map(|id| id.mountpoint.into()),
            used_bytes: value(layer.used_bytes),
            inodes_used: value(layer.inodes_used),
        }),
    })
}

fn sandbox(stats: wire::PodSandboxStats) -> Option<SandboxUsage> {
    let linux = stats.linux.unwrap_or_default();
    Some(SandboxUsage {
        id: stats.attributes?.id.into(),
        cpu: linux.cpu.map(cpu),
        memory: linux.memory.map(memory),
        io: linux.io.map(io),
        network: linux.network.map(|network| NetworkUsage {
            at: at(network.timestamp),
            default: network.default_interface.map(interface).unwrap_or_default(),
            interfaces: network.interfaces.into_iter().map(interface).collect(),
        }),
        processes: linux.process.and_then(|process| value(process.process_count)),
        containers: linux.containers.into_iter().filter_map(container).collect(),
    })
}

fn cpu(cpu: wire::CpuUsage) -> CpuUsage {
    CpuUsage {
        at: at(cpu.timestamp),
        core_nanos: value(cpu.usage_core_nano_seconds),
        nano_cores: value(cpu.usage_nano_cores),
        pressure: cpu.psi.map(pressure),
    }
}

fn memory(memory: wire::MemoryUsage) -> MemoryUsage {
    MemoryUsage {
        at: at(memory.timestamp),
        available: value(memory.available_bytes),
        usage: value(memory.usage_bytes),
        working_set: value(memory.working_set_bytes),
        rss: value(memory.rss_bytes),
        page_faults: value(memory.page_faults),
        major_page_faults: value(memory.major_page_faults),
        pressure: memory.psi.map(pressure),
    }
}

fn io(io: wire::IoUsage) -> IoUsage {
    IoUsage { at: at(io.timestamp), pressure: io.psi.map(pressure) }
}

fn interface(interface: wire::NetworkInterfaceUsage) -> InterfaceUsage {
    InterfaceUsage {
        name: interface.name,
        rx_bytes: value(interface.rx_bytes),
        rx_errors: value(interface.rx_errors),
        tx_bytes: value(interface.tx_bytes),
        tx_errors: value(interface.tx_errors),
    }
}

fn pressure(psi: wire::PsiStats) -> Pressure {
    Pressure { full: stall(psi.full), some: stall(psi.some) }
}

fn stall(data: Option<wire::PsiData>) -> Stall {
    let data = data.unwrap_or_default();
    Stall { total: data.total, avg10: data.avg10, avg60: data.avg60, avg300: data.avg300 }
}

fn value(value: Option<wire::UInt64Value>) -> Option<u64> {
    value.map(|v| v.value)
}

fn at(nanos: i64) -> Timestamp {
    timestamp(nanos).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_absent() {
        assert_eq!(container(wire::ContainerStats::default()), None);
        let attributes = Some(wire::ContainerAttributes { id: "c1".into(), ..Default::default() });
        let bare = container(wire::ContainerStats { attributes: attributes.clone(), ..Default::default() });
        let bare = bare.unwrap();
        assert!(bare.cpu.is_none() && bare.writable_layer.is_none() && bare.id.as_str() == "c1");

        let layer = wire::FilesystemUsage {
            timestamp: 1_500_000_000,
            fs_id: Some(wire::FilesystemIdentifier { mountpoint: "/images".into() }),
            used_bytes: Some(wire::UInt64Value { value: 7 }),
            inodes_used: None,
        };
        let stats = wire::ContainerStats { attributes, writable_layer: Some(layer), ..Default::default() };
        let expected = LayerUsage {
            at: "1970-01-01T00:00:01.5Z".parse().unwrap(),
            mountpoint: Some("/images".into()),
            used_bytes: Some(7),
            inodes_used: None,
        };
        assert_eq!(container(stats).unwrap().writable_layer, Some(expected));
    }

    #[test]
    fn a_pod_of_another_platform_has_nothing_for_us() {
        let attributes = Some(wire::PodSandboxAttributes { id: "s1".into(), ..Default::default() });
        let stats = wire::PodSandboxStats {
            attributes,
            windows: Some(wire::WindowsPodSandboxStats::default()),
            ..Default::default()
        };
        let usage = sandbox(stats).unwrap();
        assert!(usage.cpu.is_none() && usage.network.is_none() && usage.containers.is_empty());
    }
}
