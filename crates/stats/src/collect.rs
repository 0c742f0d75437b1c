//! One round: reads everything there is to read about the node and its pods, and puts the summary
//! together. Blocking work, but short: files of the kernel and nothing that a pod could make slow.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use host::disk_usage::DiskUsage;
use model::{ContainerId, SandboxId};
use runtime::images::FilesystemUsage;
use runtime::usage::{ContainerUsage, SandboxUsage};

use crate::disk::{Measured, PodDisk};
use crate::document::{
    ContainerStats, FsStats, NodeStats, PodReference, PodStats, ProcessStats, RlimitStats, RuntimeStats,
    Summary, Time,
};
use crate::file_system::FileSystems;
use crate::from_runtime::{self, sum};
use crate::group::{Detail, GroupStats, Groups, MachineLimits};
use crate::targets::{ContainerTarget, NodeTarget, PodTarget, SystemRole};

/// The root of all control groups.
const ROOT: &str = "/";
/// Its network is the machine's.
const FIRST_PROCESS: u32 = 1;

/// What the runtime said.
#[derive(Clone, Debug, Default)]
pub(crate) struct FromRuntime {
    pub(crate) containers: HashMap<ContainerId, ContainerUsage>,
    /// Present where pods are measured by the runtime alone.
    pub(crate) sandboxes: Option<HashMap<SandboxId, SandboxUsage>>,
    /// The first file system of images.
    pub(crate) images: Option<FilesystemUsage>,
    /// The first file system of writable layers.
    pub(crate) layers: Option<FilesystemUsage>,
}

/// Reads, and remembers what rates follow from.
pub(crate) struct Collector {
    pub(crate) groups: Groups,
    pub(crate) node: NodeTarget,
    pids: Vec<u32>,
    descendants: Descendants,
}

/// The groups below those of pods, as they were found. They are looked for again when one is missing.
#[derive(Debug, Default)]
struct Descendants {
    /// With the number of the round that asked for them last.
    found: HashMap<String, (u64, Arc<[String]>)>,
    round: u64,
}

impl Descendants {
    /// Forgets what this round did not ask for.
    fn end_round(&mut self) {
        self.found.retain(|_, (round, _)| *round == self.round);
        self.round += 1;
    }
}

impl Collector {
    pub(crate) fn new(groups: Groups, node: NodeTarget) -> Self {
        Self { groups, node, pids: Vec::new(), descendants: Descendants::default() }
    }

    /// CPU and memory of everything.
    pub(crate) fn cpu_and_memory(
        &mut self,
        pods: &[PodTarget],
        runtime: &FromRuntime,
        detail: Detail,
    ) -> Summary {
        self.groups.detail = detail;
        let node = self.node_basics();
        let node = NodeStats { start_time: Time(self.groups.created(ROOT)), io: None, ..node };
        let node = NodeStats { system_containers: without_io(node.system_containers), ..node };
        let pods = pods.iter().map(|pod| {
            let stats = self.pod_basics(pod, runtime);
            PodStats { io: None, containers: without_io(stats.containers), ..stats }
        });
        let pods = pods.collect();
        self.groups.end_round();
        self.descendants.end_round();
        Summary { node, pods }
    }

    /// Everything.
    pub(crate) fn all(&mut self, pods: &[PodTarget], runtime: &FromRuntime, disk: &Measured) -> Summary {
        self.groups.detail = Detail::Summary;
        let now = (self.groups.clock)();
        let mut fs = FileSystems::new(now.wall);
        let mut of_runtime = |usage: &FilesystemUsage| FsStats {
            time: Time(usage.at),
            used_bytes: Some(usage.used_bytes),
            inodes_used: Some(usage.inodes_used),
            ..fs.room(&usage.mountpoint)
        };
        let image_fs = runtime.images.as_ref().map(&mut of_runtime);
        let layer_fs = runtime.layers.as_ref().map(&mut of_runtime);
        // On one file system both are one, whatever the folders are.
        let are_apart =
            runtime.images.as_ref().zip(runtime.layers.as_ref()).is_some_and(|(images, layers)| {
                images.mountpoint != layers.mountpoint
                    && fs.device(&images.mountpoint) != fs.device(&layers.mountpoint)
            });
        let container_fs = if are_apart && self.node.shows_layers_apart { layer_fs } else { image_fs };
        let node = NodeStats {
            start_time: Time(self.node.booted_at),
            network: self.groups.network_of(FIRST_PROCESS).filter(|n| !n.interfaces.is_empty()),
            fs: fs.whole(&self.node.root_dir),
            runtime: Some(RuntimeStats { image_fs, container_fs }),
            rlimit: Some(rlimit(Time(now.wall))),
            ..self.node_basics()
        };
        let pods = self.of_pods(pods, runtime, disk, &mut fs);
        self.groups.end_round();
        self.descendants.end_round();
        Summary { node, pods }
    }

    /// All that these pods use, which need not be all there are.
    pub(crate) fn some(
        &mut self,
        pods: &[PodTarget],
        runtime: &FromRuntime,
        disk: &Measured,
    ) -> Vec<PodStats> {
        self.groups.detail = Detail::Summary;
        let mut fs = FileSystems::new((self.groups.clock)().wall);
        self.of_pods(pods, runtime, disk, &mut fs)
    }

    fn of_pods(
        &mut self,
        pods: &[PodTarget],
        runtime: &FromRuntime,
        disk: &Measured,
        fs: &mut FileSystems,
    ) -> Vec<PodStats> {
        let root_dir = self.node.root_dir.clone();
        let pods = pods.iter().map(|pod| {
            let mut stats = self.pod_basics(pod, runtime);
            if runtime.sandboxes.is_none() {
                self.add_processes_and_network(pod, &mut stats);
            }
            let measured = disk.pods.get(&pod.uid).map(AsRef::as_ref);
            let mut disks = Disks { fs: &mut *fs, root_dir: &root_dir, disk: measured };
            disks.add(pod, runtime, &mut stats);
            stats.volume.extend(disk.drivers.get(&pod.uid).into_iter().flat_map(BTreeMap::values).cloned());
            stats
        });
        pods.collect()
    }

    /// What both summaries say of the node.
    fn node_basics(&mut self) -> NodeStats {
        let machine =
            MachineLimits { memory_bytes: self.node.memory_bytes, swap_bytes: self.node.swap_bytes };
        let booted = self.node.booted_at;
        let mut root = self.groups.read(ROOT, booted, Some(machine)).unwrap_or_default();
        if let Some(available) = root.memory.as_mut().and_then(|m| m.available_bytes.as_mut()) {
            // The group does not account for pages that are set aside, so they seem to be free.
            *available = available.saturating_sub(self.node.huge_page_bytes);
        }
        NodeStats {
            node_name: self.node.name.clone(),
            system_containers: self.system_containers(),
            cpu: root.cpu,
            memory: root.memory,
            io: root.io,
            swap: root.swap,
            ..NodeStats::default()
        }
    }

    fn system_containers(&mut self) -> Vec<ContainerStats> {
        let Self { groups, node, .. } = self;
        let found = node.system_groups.iter().filter_map(|system| {
            let created = groups.created(&system.group);
            let start_time = if system.role == SystemRole::Kubelet { node.kubelet_started } else { created };
            let is_root = system.group.trim_matches('/').is_empty();
            let machine = MachineLimits { memory_bytes: node.memory_bytes, swap_bytes: node.swap_bytes };
            let stats = groups.read(&system.group, created, is_root.then_some(machine))?;
            Some(container_stats(system.role.name(), Time(start_time), stats))
        });
        found.collect()
    }

    /// What both summaries say of a pod and its containers.
    fn pod_basics(&mut self, pod: &PodTarget, runtime: &FromRuntime) -> PodStats {
        let mut stats = PodStats {
            pod_ref: PodReference {
                name: pod.key.name.to_string(),
                namespace: pod.key.namespace.to_string(),
                uid: pod.uid.to_string(),
            },
            start_time: Time(pod.created_at),
            ..PodStats::default()
        };
        if let Some(sandboxes) = &runtime.sandboxes {
            let usage = sandboxes.get(&pod.sandbox);
            for container in &pod.containers {
                let told = usage.and_then(|u| u.containers.iter().find(|c| c.id == container.id));
                if let Some(told) = told {
                    let group = from_runtime::container(told, container, &mut self.groups);
                    stats.containers.push(of_container(container, group));
                }
            }
            if let Some(usage) = usage {
                from_runtime::pod(usage, pod, &mut self.groups, &mut stats);
            }
            return stats;
        }
        let groups_of_pod = self.groups_of(pod);
        for container in &pod.containers {
            let group = find(&groups_of_pod, container.id.as_str());
            let counted = group.and_then(|group| self.groups.read(group, container.created_at, None));
            let group = counted.unwrap_or_else(|| {
                let told = runtime.containers.get(&container.id);
                told.map(|usage| from_runtime::container(usage, container, &mut self.groups))
                    .unwrap_or_default()
            });
            stats.containers.push(of_container(container, group));
        }
        let own = pod.group.as_deref().and_then(|group| self.groups.read(group, pod.created_at, None));
        if let Some(own) = own {
            (stats.cpu, stats.memory, stats.swap, stats.io) = (own.cpu, own.memory, own.swap, own.io);
        }
        stats
    }

    fn add_processes_and_network(&mut self, pod: &PodTarget, stats: &mut PodStats) {
        let groups = self.groups_of(pod);
        let (mut processes, mut first) = (None, None);
        for container in &pod.containers {
            if let Some(group) = find(&groups, container.id.as_str()) {
                processes = sum(processes, self.groups.processes(group, &mut self.pids));
                first = first.or_else(|| self.pids.iter().copied().find(|pid| *pid > 0));
            }
        }
        stats.process_stats = processes.map(|n| ProcessStats { process_count: Some(n) });
        // All containers share the sandbox's network; a runtime may do without a process for the sandbox.
        stats.network = match first {
            Some(pid) => self.groups.network_of(pid),
            None => find(&groups, pod.sandbox.as_str()).and_then(|group| self.groups.network(group)),
        };
    }

    /// The groups in the pod's group: those of its sandbox and containers.
    fn groups_of(&mut self, pod: &PodTarget) -> Arc<[String]> {
        let Some(group) = pod.group.as_deref() else { return Arc::default() };
        let Descendants { found, round } = &mut self.descendants;
        if let Some((asked, groups)) = found.get_mut(group)
            && pod.containers.iter().all(|container| find(groups, container.id.as_str()).is_some())
        {
            *asked = *round;
            return Arc::clone(groups);
        }
        let groups: Arc<[String]> = self.groups.reader.children(group).into();
        found.insert(group.to_owned(), (*round, Arc::clone(&groups)));
        groups
    }
}

/// The group of a container. Runtimes name it after the id, with their own name before it and `.scope` after it where
/// systemd makes groups. CRI-O's monitor of the container may have a group beside it.
fn find<'a>(groups: &'a [String], id: &str) -> Option<&'a str> {
    let is_named = |group: &&String| {
        let before = group.strip_suffix(".scope").unwrap_or(group).strip_suffix(id);
        before.is_some_and(|before| !before.ends_with("conmon-"))
    };
    groups.iter().find(is_named).map(String::as_str)
}

fn of_container(container: &ContainerTarget, group: GroupStats) -> ContainerStats {
    container_stats(&container.name, Time(container.created_at), group)
}

fn container_stats(name: &str, start_time: Time, group: GroupStats) -> ContainerStats {
    ContainerStats {
        name: name.to_owned(),
        start_time,
        cpu: group.cpu,
        memory: group.memory,
        io: group.io,
        swap: group.swap,
        rootfs: None,
        logs: None,
    }
}

fn without_io(containers: Vec<ContainerStats>) -> Vec<ContainerStats> {
    containers.into_iter().map(|container| ContainerStats { io: None, ..container }).collect()
}

fn rlimit(time: Time) -> RlimitStats {
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    RlimitStats {
        time,
        maxpid: host::machine::max_pids().ok().map(number),
        curproc: host::usage::running_tasks().ok().map(number),
    }
}

/// Adds to a pod what it takes of disks.
struct Disks<'a> {
    fs: &'a mut FileSystems,
    root_dir: &'a Path,
    disk: Option<&'a PodDisk>,
}

impl Disks<'_> {
    fn add(&mut self, pod: &PodTarget, runtime: &FromRuntime, stats: &mut PodStats) {
        let node = self.fs.room(self.root_dir);
        for shown in &mut stats.containers {
            let Some(container) = pod.containers.iter().find(|c| c.name == shown.name) else { continue };
            let told = runtime.containers.get(&container.id);
            shown.rootfs = told.and_then(|usage| from_runtime::writable_layer(usage, self.fs));
            let logs = self.disk.and_then(|disk| Some((disk.at, disk.logs.get(&container.name)?)));
            shown.logs = Some(match logs {
                Some((at, logs)) => with_usage(FsStats { time: Time(at), ..node }, *logs),
                None => node,
            });
        }
        if let Some(disk) = self.disk {
            stats.volume = disk.volumes.iter().flatten().cloned().collect();
        }
        stats.ephemeral_storage = Some(self.ephemeral_storage(node, stats));
    }

    /// All that counts against the node's disk. Its parts are not shown before all of them were measured:
    /// what is too low is worse than nothing.
    fn ephemeral_storage(&self, node: FsStats, stats: &PodStats) -> FsStats {
        let Some(disk) = self.disk else { return node };
        let [ephemeral, _] = &disk.volumes;
        let layers = stats.containers.iter().filter_map(|c| c.rootfs);
        let volumes = ephemeral.iter().map(|v| v.fs);
        let logs = disk.logs.values().chain(&disk.pod_logs).chain(&disk.hosts_file);
        let measured = logs.map(|usage| with_usage(FsStats { time: Time(disk.at), ..node }, *usage));
        layers.chain(volumes).chain(measured).fold(node, |all, part| FsStats {
            time: all.time.max(part.time),
            used_bytes: sum(all.used_bytes, part.used_bytes),
            inodes_used: sum(all.inodes_used, part.inodes_used),
            ..all
        })
    }
}

fn with_usage(room: FsStats, usage: DiskUsage) -> FsStats {
    FsStats { used_bytes: Some(usage.bytes), inodes_used: Some(usage.inodes), ..room }
}

#[cfg(test)]
#[path = "collect_tests.rs"]
mod tests;
