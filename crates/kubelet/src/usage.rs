//! What the node's stats are about: the node as it was found and configured, and the pods as the core
//! published them last.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use config::Config;
use host::cgroup::CgroupTree;
use host::machine::{self, MachineFacts};
use jiff::Timestamp;
use model::storage::{ClaimName, UsageSource};
use model::{Pod, PodObservation, PodUid, QosClass};
use node::{Drivers, FilesUsage, PodToMeasure, PodUsage, PodUsages, PodView, View};
use runtime::{Runtime, podfiles};
use server::ports::SummaryParts;
use stats::{
    AskDriver, ContainerTarget, DiskTask, FsStats, Measure, MemoryStats, NodeTarget, PodStats, PodTarget,
    PvcReference, Settings, Stats, StatsError, SystemGroup, SystemRole, VolumeTarget,
};
use telemetry::metrics::{Exposition, Metrics};
use tracing::info;
use volumes::{CsiVolumes, MeasurableVolume, Volumes};

use crate::driver::Clock;
use crate::executor::objects::ObjectPort;
use crate::executor::pod_dir;

/// Answers scrapers.
pub(crate) struct Usage {
    stats: Stats,
    config: Arc<Config>,
    cgroups: CgroupTree,
    volumes: Arc<Volumes<ObjectPort>>,
}

impl Usage {
    /// The stats of this node, and the task that measures its disks.
    pub(crate) fn new(
        config: &Arc<Config>,
        runtime: &Runtime,
        cgroups: &CgroupTree,
        volumes: &Arc<Volumes<ObjectPort>>,
        csi: &Arc<CsiVolumes<ObjectPort>>,
        node: NodeTarget,
        metrics: Arc<Metrics>,
    ) -> (Self, DiskTask) {
        let settings = Settings {
            node,
            pods_from_runtime: config.gates.enabled("PodAndContainerStatsFromCRI"),
            volume_interval: config.pods.volume_stats_interval,
            ask_driver: ask_driver(csi),
            metrics,
        };
        let clock = Clock::start();
        let (stats, task) =
            Stats::new(cgroups.mounts(), runtime.clone(), settings, Arc::new(move || clock.now()));
        let (config, cgroups, volumes) = (config.clone(), cgroups.clone(), volumes.clone());
        (Self { stats, config, cgroups, volumes }, task)
    }

    /// The summary, as JSON.
    pub(crate) async fn summary(&self, view: &View, parts: SummaryParts) -> Result<Bytes, String> {
        let pods = self.targets(view);
        let summary = match parts {
            SummaryParts::All => self.stats.summary(pods).await,
            SummaryParts::CpuAndMemory => self.stats.cpu_and_memory(pods).await,
        };
        let summary = summary.map_err(|e| model::chain(&e))?;
        serde_json::to_vec(&*summary).map(Bytes::from).map_err(|e| format!("write the summary: {e}"))
    }

    /// Writes the page `/metrics/resource`.
    pub(crate) async fn resource_metrics(&self, view: &View, page: &mut Exposition) {
        self.stats.resource_metrics(self.targets(view), page).await;
    }

    /// Writes the metrics of logs and claims.
    pub(crate) fn disk_metrics(&self, view: &View, page: &mut Exposition) {
        self.stats.disk_metrics(self.targets(view), page);
    }

    /// What these pods use at this moment: of volumes those that lie on the node's own disk.
    ///
    /// # Errors
    /// If they are measured by the runtime, and it does not answer.
    pub(crate) async fn of_pods(
        &self,
        pods: &[PodToMeasure],
        with_files: bool,
    ) -> Result<PodUsages, StatsError> {
        let targets = pods.iter().filter_map(|PodToMeasure { pod, observed }| {
            let volumes = self.volumes.measurable(pod, &BTreeMap::new()).into_iter();
            let volumes = volumes.filter(|volume| volume.is_local_ephemeral);
            let volumes = volumes.filter_map(|volume| volume_target(volume, &Drivers::default()));
            self.target_of(Some(pod), observed, volumes.collect())
        });
        let stats = self.stats.of_pods(Arc::new(targets.collect()), with_files).await?;
        Ok(stats.into_iter().map(|pod| (PodUid::from(pod.pod_ref.uid.as_str()), pod_usage(&pod))).collect())
    }

    fn targets(&self, view: &View) -> Arc<Vec<PodTarget>> {
        Arc::new(view.pods.values().filter_map(|pod| self.target(pod, &view.drivers)).collect())
    }

    /// A pod that has running containers.
    fn target(&self, view: &PodView, drivers: &Drivers) -> Option<PodTarget> {
        let volumes = view.pod.as_ref().map(|pod| self.volumes.measurable(pod, &view.published));
        let volumes = volumes.into_iter().flatten().filter_map(|volume| volume_target(volume, drivers));
        let target = self.target_of(view.pod.as_ref(), view.observed.as_ref()?, volumes.collect())?;
        (!target.containers.is_empty()).then_some(target)
    }

    /// A pod that has a sandbox.
    fn target_of(
        &self,
        pod: Option<&Arc<Pod>>,
        observed: &PodObservation,
        volumes: Vec<VolumeTarget>,
    ) -> Option<PodTarget> {
        let sandbox = observed.ready_sandbox().or(observed.sandboxes.first())?;
        let running =
            observed.containers.iter().filter(|c| c.state.is_running() && c.sandbox_id == sandbox.id);
        let containers: Vec<ContainerTarget> = running
            .map(|c| ContainerTarget { id: c.id.clone(), name: c.name.clone(), created_at: c.created_at })
            .collect();
        let config = &self.config;
        let group = pod.filter(|_| config.pods.cgroups_per_qos).and_then(|pod| {
            let dir = self.cgroups.pod_dir(&observed.uid, QosClass::of(pod), "memory")?;
            group_of(&self.cgroups, dir)
        });
        Some(PodTarget {
            uid: observed.uid.clone(),
            key: observed.key.clone(),
            group,
            sandbox: sandbox.id.clone(),
            created_at: sandbox.created_at,
            containers,
            volumes,
            log_dir: podfiles::pod_log_dir(&config.paths.pod_logs, &observed.key, &observed.uid),
            hosts_file: pod_dir(config, &observed.uid).join("etc-hosts"),
        })
    }
}

/// The figures by which pods are compared.
fn pod_usage(pod: &PodStats) -> PodUsage {
    let files = |fs: &FsStats| {
        (fs.used_bytes.is_some() || fs.inodes_used.is_some())
            .then(|| FilesUsage { bytes: fs.used_bytes.unwrap_or(0), inodes: fs.inodes_used.unwrap_or(0) })
    };
    let working_set = |memory: Option<&MemoryStats>| memory.and_then(|memory| memory.working_set_bytes);
    let containers = pod.containers.iter().map(|container| node::ContainerUsage {
        name: container.name.clone(),
        memory_bytes: working_set(container.memory.as_ref()),
        layer: container.rootfs.as_ref().and_then(files),
        logs: container.logs.as_ref().and_then(files),
    });
    let volumes = pod.volume.iter().filter_map(|volume| Some((volume.name.clone(), files(&volume.fs)?)));
    PodUsage {
        memory_bytes: working_set(pod.memory.as_ref()),
        processes: pod.process_stats.and_then(|processes| processes.process_count),
        containers: containers.collect(),
        volumes: volumes.collect(),
    }
}

/// How a volume is measured. One whose driver is not here, or cannot tell, is not.
fn volume_target(volume: MeasurableVolume, drivers: &Drivers) -> Option<VolumeTarget> {
    let measure = match volume.usage {
        None => Measure::Files,
        Some(UsageSource::FileSystem) => Measure::FileSystem,
        Some(UsageSource::Driver { name, handle }) => {
            let driver = drivers.callable.get(&name).filter(|driver| driver.capabilities.tells_stats)?;
            Measure::Driver { driver: driver.clone(), handle }
        }
    };
    let reference = |claim: ClaimName| PvcReference { name: claim.name, namespace: claim.namespace };
    Some(VolumeTarget {
        name: volume.name,
        path: volume.path,
        measure,
        is_local_ephemeral: volume.is_local_ephemeral,
        claim: volume.claim.map(reference),
    })
}

/// The way to ask drivers.
fn ask_driver(csi: &Arc<CsiVolumes<ObjectPort>>) -> AskDriver {
    let csi = csi.clone();
    Arc::new(move |driver, handle, path| {
        let csi = csi.clone();
        Box::pin(async move {
            let usage = csi.usage(&driver, &handle, &path).await.map_err(|error| model::chain(&error))?;
            usage.ok_or_else(|| "failed to get usage from response. usage is nil".to_owned())
        })
    })
}

pub(crate) fn node(config: &Config, cgroups: &CgroupTree, name: &str, machine: &MachineFacts) -> NodeTarget {
    let is_set_aside = config.gates.enabled("HugepageAwareEviction");
    let huge_pages = machine.huge_pages.iter().filter(|_| is_set_aside).map(|h| h.page_bytes * h.count);
    let booted = machine::boot_time_seconds();
    let booted =
        booted.inspect_err(|e| info!(v = 2, err = model::chain(e), "Failed to get boot time of the machine"));
    let seconds = booted.ok().and_then(|seconds| i64::try_from(seconds).ok()).unwrap_or_default();
    NodeTarget {
        name: name.to_owned(),
        memory_bytes: machine.memory_bytes,
        huge_page_bytes: huge_pages.sum(),
        swap_bytes: machine.swap_bytes,
        root_dir: config.paths.root.clone(),
        booted_at: Timestamp::from_second(seconds).unwrap_or_default(),
        kubelet_started: Timestamp::now(),
        shows_layers_apart: config.gates.enabled("KubeletSeparateDiskGC"),
        system_groups: system_groups(config, cgroups),
    }
}

/// The groups that there are. Those of the runtime and of the system have to be named by somebody; where this
/// process runs, it knows.
pub(crate) fn system_groups(config: &Config, cgroups: &CgroupTree) -> Vec<SystemGroup> {
    let named = |name: &str| Some(name.to_owned()).filter(|name| !name.is_empty());
    let own = || machine::group_of_process("self").ok().flatten();
    let document = config.document();
    let groups = [
        (SystemRole::Kubelet, named(&document.kubelet_cgroups).or_else(own)),
        (SystemRole::Runtime, config.runtime.cgroup.clone()),
        (SystemRole::Misc, named(&document.system_cgroups)),
        (SystemRole::Pods, pods_group(config, cgroups)),
    ];
    let groups = groups.into_iter();
    groups.filter_map(|(role, group)| Some(SystemGroup { role, group: group? })).collect()
}

/// The group of all pods, if they have one.
pub(crate) fn pods_group(config: &Config, cgroups: &CgroupTree) -> Option<String> {
    let dir = config.pods.cgroups_per_qos.then(|| cgroups.kubepods_dir("memory"));
    group_of(cgroups, dir.flatten()?)
}

/// The name of a group whose directory in the memory hierarchy is known.
pub(crate) fn group_of(cgroups: &CgroupTree, dir: PathBuf) -> Option<String> {
    let root = cgroups.mounts().root_of("memory")?;
    Some(format!("/{}", dir.strip_prefix(root).ok()?.to_str()?))
}
