//! Measures the node: what the machine is, what pods may use of it, and what runs short.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use config::{Config, EvictionSignal, FeatureGates};
use host::machine::MachineFacts;
use model::{Quantity, RuntimeFeatures};
use node::Input;
use node::node_status::{ImageFacts, NodeFacts};
use node::pressure::{Observations, Signal};
use runtime::RuntimeVersion;
use tracing::{debug, error, warn};

use super::addresses::AddressChoice;
use super::signals::{self, Places, Sample};
use crate::executor::adapters::Adapters;
use crate::executor::failure::FailureLog;
use crate::http_api::usage;

/// For the runtime's answer: a runtime that hangs is no reason not to see what runs short.
const RUNTIME_PATIENCE: Duration = Duration::from_secs(1);

/// Measures again and again; keeps what does not change.
pub(crate) struct Measurer {
    base: NodeFacts,
    runtime: ArcSwap<RuntimeVersion>,
    images: ArcSwapOption<Vec<ImageFacts>>,
    image_folder: ArcSwapOption<PathBuf>,
    choice: AddressChoice,
    /// The addresses as last looked for; none where they could not be found.
    addresses: ArcSwapOption<Vec<IpAddr>>,
    /// Why they could not be found, so that the log tells of it once.
    address_failures: FailureLog,
    /// The same of images.
    image_failures: FailureLog,
}

/// What the node is, and what it has left.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    /// What the node is and has.
    pub(crate) facts: NodeFacts,
    /// What there is left of it.
    pub(crate) observations: Observations,
}

impl Measured {
    /// As the core is told of it. What is left comes first: a node that starts while it is short of something says so from
    /// the start.
    pub(crate) fn inputs(self) -> [Input; 2] {
        [Input::Observations(self.observations), Input::NodeFacts(Box::new(self.facts))]
    }
}

impl Measurer {
    /// A measurer for a machine, under a configuration. What the runtime supports is what it said at the start; upstream
    /// does not declare anew what an updated runtime supports, either.
    pub(crate) fn new(
        config: &Config,
        name: &str,
        machine: MachineFacts,
        runtime: RuntimeVersion,
        features: RuntimeFeatures,
    ) -> Self {
        let node = &config.node;
        let huge_pages = machine.huge_pages.iter().map(|h| (h.page_bytes, h.page_bytes * h.count)).collect();
        let base = NodeFacts {
            name: name.to_owned(),
            node_ips: None,
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
            pod_cidr: node.pod_cidr.clone().unwrap_or_default(),
            allowed_unsafe_sysctls: config.pods.allowed_unsafe_sysctls.clone(),
            cpu_millis: machine.cpus * 1000,
            memory_bytes: machine.memory_bytes,
            ephemeral_storage_bytes: None,
            is_local_storage_isolated: node.local_storage_isolation,
            huge_pages,
            max_pods: max_pods(node, machine.cpus),
            extended: BTreeMap::new(),
            is_in_user_namespace: config
                .gates
                .enabled("KubeletInUserNamespace")
                .then(host::process::is_in_user_namespace),
            has_apparmor: machine.has_apparmor,
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
            declared_features: declared(&config.gates, features),
            images: Vec::new(),
            max_images: node.status_max_images.map(|n| i32::try_from(n).unwrap_or(i32::MAX)).or(Some(-1)),
        };
        Self {
            base,
            runtime: ArcSwap::from_pointee(runtime),
            images: ArcSwapOption::empty(),
            image_folder: ArcSwapOption::empty(),
            choice: AddressChoice::new(config, name),
            addresses: ArcSwapOption::empty(),
            address_failures: FailureLog::default(),
            image_failures: FailureLog::default(),
        }
    }

    /// Looks for the node's addresses, which may change. Returns whether they did.
    pub(crate) async fn find_addresses(&self) -> bool {
        const ACTION: &str = "find addresses";
        let found = match self.choice.find().await {
            Ok(found) => {
                self.address_failures.succeeded(|| ACTION.to_owned());
                Some(Arc::new(found))
            }
            Err(error) => {
                let message = model::chain(&error);
                if self.address_failures.is_new(ACTION, &message) {
                    error!(err = message, "Failed to set node addresses; keeping those last reported");
                }
                None
            }
        };
        let before = self.addresses.swap(found.clone());
        before != found
    }

    /// The node's addresses as last found; none where there was none to be found.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        self.addresses.load().as_deref().cloned().unwrap_or_default()
    }

    /// The runtime told its name and version.
    pub(crate) fn runtime_is(&self, version: &RuntimeVersion) {
        self.runtime.store(Arc::new(version.clone()));
        self.image_folder.store(None);
    }

    /// Measures now.
    pub(crate) async fn measure(&self, adapters: &Adapters) -> Measured {
        let mut facts = self.base.clone();
        let runtime = self.runtime.load_full();
        facts.runtime_name.clone_from(&runtime.name);
        facts.runtime_version.clone_from(&runtime.version);
        if let Some(images) = self.images.load_full() {
            facts.images = images.as_ref().clone();
        }
        facts.node_ips =
            self.addresses.load().as_deref().map(|found| found.iter().map(IpAddr::to_string).collect());
        let places = Places {
            root: adapters.config.paths.root.clone(),
            images: self.image_folder(adapters).await,
            cgroups: adapters.cgroups.mounts().clone(),
            pods: usage::pods_group(adapters),
        };
        let sample = tokio::task::spawn_blocking(move || Sample::take(&places)).await.unwrap_or_default();
        facts.ephemeral_storage_bytes = sample.disk_bytes;
        facts.hard_eviction = hard_eviction(&adapters.config, &facts);
        let mut observations = sample.observations;
        leave_huge_pages_out(&adapters.config, &facts, &mut observations);
        Measured { facts, observations }
    }

    /// Where the images lie. The runtime is asked once each time it comes up.
    async fn image_folder(&self, adapters: &Adapters) -> Option<PathBuf> {
        if let Some(folder) = self.image_folder.load_full() {
            return Some(folder.as_ref().clone());
        }
        let asked = tokio::time::timeout(RUNTIME_PATIENCE, adapters.runtime.image_fs());
        // Cancel-safe: the question is simply asked again.
        let told =
            asked.await.inspect_err(|_| debug!("Runtime does not report its image file system")).ok()?;
        let told = told.inspect_err(|error| debug!(err = error.message(), "Failed to get image file system"));
        let folder = told.ok()?.images.into_iter().next()?.mountpoint;
        self.image_folder.store(Some(Arc::new(folder.clone())));
        Some(folder)
    }

    /// Asks the runtime for the images. Returns whether they are others than before.
    pub(crate) async fn read_images(&self, adapters: &Adapters) -> bool {
        const ACTION: &str = "list images";
        match adapters.runtime.list_images().await {
            Ok(list) => {
                self.image_failures.succeeded(|| ACTION.to_owned());
                let facts = list.into_iter().map(|image| {
                    let names = image.digests.into_iter().chain(image.tags).collect();
                    ImageFacts { names, size_bytes: image.size_bytes }
                });
                let found = Some(Arc::new(facts.collect()));
                let before = self.images.swap(found.clone());
                before != found
            }
            Err(error) => {
                if self.image_failures.is_new(ACTION, error.message()) {
                    warn!(
                        err = error.message(),
                        "Failed to list images; the node status keeps the previous ones"
                    );
                }
                false
            }
        }
    }
}

/// How many pods the node takes, by itself and by its cores.
fn max_pods(node: &config::Node, cpus: u64) -> u32 {
    match node.pods_per_core {
        0 => node.max_pods,
        n => node.max_pods.min(n.saturating_mul(u32::try_from(cpus).unwrap_or(u32::MAX))),
    }
}

/// What hard thresholds keep from pods, by resource.
fn hard_eviction(config: &Config, facts: &NodeFacts) -> BTreeMap<String, Quantity> {
    if config.node.eviction.is_allocatable {
        return BTreeMap::new();
    }
    let hard = config.node.eviction.thresholds.iter().filter(|threshold| threshold.grace.is_none());
    hard.filter_map(|threshold| {
        let (resource, capacity) = match threshold.signal {
            EvictionSignal::MemoryAvailable => ("memory", facts.memory_bytes),
            EvictionSignal::NodeFsAvailable => ("ephemeral-storage", facts.ephemeral_storage_bytes?),
            _ => return None,
        };
        let kept = signals::limit(&threshold.value).of(capacity);
        Some((resource.to_owned(), Quantity::from_units(i64::try_from(kept).unwrap_or(i64::MAX))))
    })
    .collect()
}

/// What the API server may count on here beyond what every kubelet of this version does, sorted
/// (KEP-5328).
fn declared(gates: &FeatureGates, runtime: RuntimeFeatures) -> Vec<String> {
    let features = [
        ("ExtendWebSocketsToKubelet", true),
        ("RestartAllContainersOnContainerExits", true),
        ("UserNamespacesHostNetworkSupport", runtime.has_users_on_host_network),
        ("VolumeBindMountOptions", runtime.has_mount_options),
    ];
    let features = features.into_iter().filter(|(name, is_supported)| *is_supported && gates.enabled(name));
    features.map(|(name, _)| name.to_owned()).collect()
}

/// Whether what the node declares depends on what the runtime can do.
pub(crate) fn declares_by_runtime(gates: &FeatureGates) -> bool {
    let all = RuntimeFeatures {
        has_supplemental_groups_policy: true,
        has_users_on_host_network: true,
        has_mount_options: true,
    };
    declared(gates, all) != declared(gates, RuntimeFeatures::default())
}

/// Huge pages count as free although nobody but those who ask for them gets them.
fn leave_huge_pages_out(config: &Config, facts: &NodeFacts, observations: &mut Observations) {
    if config.gates.enabled("HugepageAwareEviction")
        && let Some(memory) = observations.get_mut(&Signal::Memory)
    {
        let pool: u64 = facts.huge_pages.values().sum();
        memory.available = memory.available.saturating_sub(pool);
        memory.capacity = memory.capacity.saturating_sub(pool);
    }
}

#[cfg(test)]
mod tests {
    use node::pressure::Observation;

    use super::*;

    fn config(text: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n\
                    containerRuntimeEndpoint: unix:///x\n";
        std::fs::write(&file, format!("{head}{text}")).unwrap();
        let args = [format!("--config={}", file.display())];
        match config::load(&args) {
            Ok(config::Invocation::Run(loaded)) => loaded.config,
            _ => panic!("{text}"),
        }
    }

    #[test]
    fn huge_pages_are_not_free_memory() {
        let available = |gates: &str| {
            let memory = Observation { available: 300 << 20, capacity: 1 << 30 };
            let mut observations = Observations::default();
            observations.insert(Signal::Memory, memory);
            let facts =
                NodeFacts { huge_pages: BTreeMap::from([(2 << 20, 256 << 20)]), ..NodeFacts::default() };
            leave_huge_pages_out(&config(gates), &facts, &mut observations);
            observations[&Signal::Memory].available >> 20
        };
        assert_eq!(available(""), 44);
        assert_eq!(available("featureGates: {HugepageAwareEviction: false}\n"), 300);
    }

    #[test]
    fn features_of_the_runtime_are_declared_with_their_gates() {
        let all = RuntimeFeatures {
            has_supplemental_groups_policy: true,
            has_users_on_host_network: true,
            has_mount_options: true,
        };
        let usual = ["ExtendWebSocketsToKubelet", "RestartAllContainersOnContainerExits"];
        let none = RuntimeFeatures::default();
        for (name, features) in [
            ("UserNamespacesHostNetworkSupport", RuntimeFeatures { has_users_on_host_network: true, ..none }),
            ("VolumeBindMountOptions", RuntimeFeatures { has_mount_options: true, ..none }),
        ] {
            let config = config(&format!("featureGates: {{{name}: true}}"));
            assert_eq!(declared(&config.gates, features), [usual.as_slice(), &[name]].concat());
            assert_eq!(declared(&config.gates, none), usual, "without the runtime");
        }
        assert_eq!(declared(&config("").gates, all), usual, "without gates");
    }
}
