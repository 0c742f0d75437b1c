//! Measures the node: what the machine is, what pods may use of it, and what runs short.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use config::{Config, EvictionSignal, FeatureGates, ThresholdValue};
use host::machine::MachineFacts;
use host::usage::{self, FileSystemUsage};
use model::Quantity;
use node::node_status::{ImageFacts, NodeFacts};
use runtime::RuntimeVersion;
use tracing::warn;

use super::adapters::Adapters;
use super::failure;

/// Measures again and again; keeps what does not change.
pub(crate) struct Measurer {
    base: NodeFacts,
    runtime: ArcSwap<RuntimeVersion>,
    images: ArcSwapOption<Vec<ImageFacts>>,
    are_images_stale: AtomicBool,
}

impl Measurer {
    /// A measurer for a machine, under a configuration.
    pub(crate) fn new(
        config: &Config,
        name: &str,
        hostname: &str,
        ips: &[IpAddr],
        machine: MachineFacts,
        runtime: RuntimeVersion,
    ) -> Self {
        let node = &config.node;
        let huge_pages = machine.huge_pages.iter().map(|h| (h.page_bytes, h.page_bytes * h.count)).collect();
        let max_pods = match node.pods_per_core {
            0 => node.max_pods,
            n => node.max_pods.min(n.saturating_mul(u32::try_from(machine.cpus).unwrap_or(u32::MAX))),
        };
        let base = NodeFacts {
            name: name.to_owned(),
            hostname: hostname.to_owned(),
            node_ips: ips.iter().map(IpAddr::to_string).collect(),
            provided_node_ips: config
                .identity
                .node_ips
                .iter()
                .filter(|ip| !ip.is_unspecified())
                .map(IpAddr::to_string)
                .collect(),
            is_cloud_provider_external: config.identity.external_cloud_provider,
            is_attach_by_controller: node.controller_attaches,
            provider_id: config.identity.provider_id.clone().unwrap_or_default(),
            labels: node.labels.clone(),
            taints: node.taints.clone(),
            kubelet_port: config.server.as_ref().map_or(10250, |s| s.address.port()),
            allowed_unsafe_sysctls: config.pods.allowed_unsafe_sysctls.clone(),
            cpu_millis: machine.cpus * 1000,
            memory_bytes: machine.memory_bytes,
            ephemeral_storage_bytes: None,
            is_local_storage_isolated: node.local_storage_isolation,
            huge_pages,
            max_pods,
            extended: BTreeMap::new(),
            is_in_user_namespace: Some(false),
            swap_bytes: machine.swap_bytes,
            kube_reserved: node.kube_reserved.clone(),
            system_reserved: node.system_reserved.clone(),
            hard_eviction: BTreeMap::new(),
            machine_id: machine.machine_id,
            system_uuid: machine.system_uuid,
            boot_id: machine.boot_id,
            kernel_version: machine.kernel_version,
            os_image: machine.os_image,
            architecture: machine.architecture.to_owned(),
            operating_system: "linux".to_owned(),
            runtime_name: String::new(),
            runtime_version: String::new(),
            kubelet_version: config::version::KUBELET_VERSION.to_owned(),
            declared_features: declared(&config.gates),
            images: Vec::new(),
            max_images: node.status_max_images.map(|n| i32::try_from(n).unwrap_or(i32::MAX)).or(Some(-1)),
            has_memory_pressure: false,
            has_disk_pressure: false,
            has_pid_pressure: false,
        };
        Self {
            base,
            runtime: ArcSwap::from_pointee(runtime),
            images: ArcSwapOption::empty(),
            // They are read when the runtime has said that it is well, so that no start waits for them.
            are_images_stale: AtomicBool::new(false),
        }
    }

    /// The runtime told its name and version.
    pub(crate) fn runtime_is(&self, version: &RuntimeVersion) {
        self.runtime.store(Arc::new(version.clone()));
        self.images_changed();
    }

    /// The list of images is to be read again.
    pub(crate) fn images_changed(&self) {
        self.are_images_stale.store(true, Ordering::Relaxed);
    }

    /// Measures now.
    pub(crate) async fn measure(&self, adapters: &Adapters) -> NodeFacts {
        let mut facts = self.base.clone();
        let runtime = self.runtime.load_full();
        facts.runtime_name.clone_from(&runtime.name);
        facts.runtime_version.clone_from(&runtime.version);
        if self.are_images_stale.swap(false, Ordering::Relaxed) {
            self.read_images(adapters).await;
        }
        if let Some(images) = self.images.load_full() {
            facts.images = images.as_ref().clone();
        }
        let root = adapters.config.paths.root.clone();
        let mounts = adapters.cgroups.mounts().clone();
        let sampled =
            tokio::task::spawn_blocking(move || Sample::take(&root, &mounts)).await.unwrap_or_default();
        sampled.apply(&adapters.config, &mut facts);
        adapters.facts.store(Arc::new(facts.clone()));
        facts
    }

    async fn read_images(&self, adapters: &Adapters) {
        match adapters.runtime.list_images().await {
            Ok(list) => {
                let facts = list.into_iter().map(|image| {
                    let names = image.digests.into_iter().chain(image.tags).collect();
                    ImageFacts { names, size_bytes: image.size_bytes }
                });
                self.images.store(Some(Arc::new(facts.collect())));
            }
            Err(error) => {
                self.images_changed();
                warn!(err = error.message(), "Cannot list images; the node goes on showing those it had");
            }
        }
    }
}

/// What changes from one moment to the next.
#[derive(Default)]
struct Sample {
    memory: Option<(u64, u64)>,
    disk: Option<FileSystemUsage>,
    tasks: Option<(u64, u64)>,
}

impl Sample {
    fn take(root: &std::path::Path, mounts: &host::cgroup::CgroupMounts) -> Self {
        let memory = usage::node_memory(mounts)
            .inspect_err(|e| warn!(err = failure::chain(e), "Cannot read memory usage"));
        let disk = usage::file_system(root).inspect_err(
            |e| warn!(path = %root.display(), err = failure::chain(e), "Cannot read disk usage"),
        );
        let tasks = usage::running_tasks().ok().zip(host::machine::max_pids().ok());
        Self { memory: memory.ok().map(|m| (m.available(), m.capacity)), disk: disk.ok(), tasks }
    }

    fn apply(&self, config: &Config, facts: &mut NodeFacts) {
        facts.ephemeral_storage_bytes = self.disk.map(|d| d.capacity);
        for threshold in config.node.eviction.thresholds.iter().filter(|t| t.grace.is_none()) {
            let (available, capacity, resource) = match threshold.signal {
                EvictionSignal::MemoryAvailable => {
                    (self.memory.map(|m| m.0), Some(facts.memory_bytes), Some("memory"))
                }
                EvictionSignal::NodeFsAvailable => {
                    (self.disk.map(|d| d.available), self.disk.map(|d| d.capacity), Some("ephemeral-storage"))
                }
                EvictionSignal::NodeFsInodesFree => {
                    (self.disk.map(|d| d.inodes_free), self.disk.map(|d| d.inodes), None)
                }
                EvictionSignal::PidAvailable => {
                    (self.tasks.map(|(used, max)| max.saturating_sub(used)), self.tasks.map(|t| t.1), None)
                }
                _ => continue,
            };
            let Some(capacity) = capacity else { continue };
            let limit = match &threshold.value {
                ThresholdValue::Amount(quantity) => u64::try_from(quantity.units()).unwrap_or(0),
                ThresholdValue::Share(share) => share_of(capacity, *share),
            };
            if let Some(resource) = resource {
                let amount = Quantity::from_units(i64::try_from(limit).unwrap_or(i64::MAX));
                facts.hard_eviction.insert(resource.to_owned(), amount);
            }
            let is_short = capacity > 0 && available.is_some_and(|a| a < limit);
            match threshold.signal {
                EvictionSignal::MemoryAvailable => facts.has_memory_pressure |= is_short,
                EvictionSignal::PidAvailable => facts.has_pid_pressure |= is_short,
                _ => facts.has_disk_pressure |= is_short,
            }
        }
    }
}

/// A share of an amount, rounded down.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)]
/// What the API server may count on here beyond what every kubelet of this version does, sorted
/// (KEP-5328).
fn declared(gates: &FeatureGates) -> Vec<String> {
    let features = ["ExtendWebSocketsToKubelet", "RestartAllContainersOnContainerExits"];
    features.into_iter().filter(|name| gates.enabled(name)).map(str::to_owned).collect()
}

fn share_of(amount: u64, share: f32) -> u64 {
    // Amounts of memory and disk are far below 2^53, and a share lies between 0 and 1.
    (amount as f64 * f64::from(share)) as u64
}
