//! What the node's stats are about: the node as it was found and configured, and the pods as the core
//! published them last.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use config::Config;
use host::cgroup::CgroupTree;
use host::machine::{self, MachineFacts};
use jiff::Timestamp;
use model::storage::{ClaimName, UsageSource};
use model::{PodObservation, QosClass};
use node::{Drivers, PodView, View};
use runtime::{Runtime, podfiles};
use server::ports::SummaryParts;
use stats::{
    AskDriver, ContainerTarget, DiskTask, Measure, NodeTarget, PodTarget, PvcReference, Settings, Stats,
    SystemGroup, SystemRole, VolumeTarget,
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

    fn targets(&self, view: &View) -> Arc<Vec<PodTarget>> {
        Arc::new(view.pods.values().filter_map(|pod| self.target(pod, &view.drivers)).collect())
    }

    /// A pod that has running containers.
    fn target(&self, view: &PodView, drivers: &Drivers) -> Option<PodTarget> {
        let observed: &PodObservation = view.observed.as_ref()?;
        let sandbox = observed.ready_sandbox().or(observed.sandboxes.first())?;
        let running =
            observed.containers.iter().filter(|c| c.state.is_running() && c.sandbox_id == sandbox.id);
        let containers: Vec<ContainerTarget> = running
            .map(|c| ContainerTarget { id: c.id.clone(), name: c.name.clone(), created_at: c.created_at })
            .collect();
        if containers.is_empty() {
            return None;
        }
        let config = &self.config;
        let group = view.pod.as_ref().filter(|_| config.pods.cgroups_per_qos).and_then(|pod| {
            let dir = self.cgroups.pod_dir(&view.uid, QosClass::of(pod), "memory")?;
            group_of(&self.cgroups, dir)
        });
        let volumes = view.pod.as_ref().map(|pod| self.volumes.measurable(pod, &view.published));
        let volumes = volumes.into_iter().flatten().filter_map(|volume| volume_target(volume, drivers));
        Some(PodTarget {
            uid: view.uid.clone(),
            key: view.key.clone(),
            group,
            sandbox: sandbox.id.clone(),
            created_at: sandbox.created_at,
            containers,
            volumes: volumes.collect(),
            log_dir: podfiles::pod_log_dir(&config.paths.pod_logs, &view.key, &view.uid),
            hosts_file: pod_dir(config, &view.uid).join("etc-hosts"),
        })
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
