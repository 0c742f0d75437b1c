//! The part of the configuration that decisions depend on.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;
use model::Quantity;
use serde::{Deserialize, Serialize};

use crate::dead_containers::DeadContainers;
pub use crate::image_gc::policy::ImageGcPolicy;
pub use crate::pods::backoff::Delays;
pub use crate::pods::rules::RestartRules;
use crate::pressure::{Limit, Threshold};

/// Fixed for the life of the process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// The node's name.
    pub node_name: String,
    /// Whether a pod's IPv6 address comes before its IPv4 one (`--node-ip`).
    pub is_ipv6_first: bool,
    /// Whether to make the Node object (`registerNode`). Its status is written in any case, once there is one.
    pub is_registering: bool,
    /// Whether there is an API server to report to.
    pub has_api: bool,
    /// What the Node object is made with.
    pub object: ObjectSettings,
    /// How much of the machine is for pods.
    pub capacity: CapacitySettings,
    /// `podCIDR`: where the Node object says none; empty for none.
    pub pod_cidr: String,
    /// `allowedUnsafeSysctls`: names and patterns ending in `*`, which admission lets pods set.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// What feature gates say about pods.
    pub gates: PodGates,
    /// Whether the memory that QoS classes request together matters for their cgroups (`memoryReservationPolicy`,
    /// `qosReserved`).
    pub limits_qos_memory: bool,
    /// How often it is read again what pods' cgroups have (`syncFrequency`).
    pub resync_interval: Duration,
    /// Whether what was started and ready is neither after a restart, until its probes say so
    /// (`ChangeContainerStatusOnKubeletRestart`).
    pub forgets_readiness: bool,
    /// How long a container that keeps ending waits to be started again.
    pub restart_delays: Delays,
    /// Which restart rules of containers are obeyed.
    pub restart_rules: RestartRules,
    /// How often node status is computed (`nodeStatusUpdateFrequency`).
    pub node_status_update_every: Duration,
    /// How often an unchanged node status is written all the same (`nodeStatusReportFrequency`).
    pub node_status_report_every: Duration,
    /// Below which amounts the node is short of something.
    pub thresholds: Vec<Threshold>,
    /// Whether memory set aside for huge pages is no free memory to thresholds (`HugepageAwareEviction`).
    pub leaves_huge_pages_out: bool,
    /// How long a shortage is shown after it is over (`evictionPressureTransitionPeriod`).
    pub pressure_transition: Duration,
    /// The grace that a pod gets at most when it goes for a soft threshold, seconds (`evictionMaxPodGracePeriod`).
    pub max_eviction_grace_seconds: u64,
    /// When images are removed that nobody uses.
    pub image_gc: ImageGcPolicy,
    /// What chance follows from, so that the nodes of a cluster do not all write at the same time.
    pub seed: u64,
    /// Which dead containers stay.
    pub dead_containers: DeadContainers,
    /// Sources whose first complete list must be in before anything unknown is removed.
    pub sources: Vec<crate::Source>,
}

/// What the Node object is made with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ObjectSettings {
    /// Addresses given by configuration (`--node-ip`), which an external cloud provider is told by
    /// annotation. Without the unspecified ones (`0.0.0.0`, `::`).
    pub provided_node_ips: Vec<String>,
    /// `--cloud-provider=external`: addresses are somebody else's, and the node is tainted until
    /// that somebody has seen it.
    pub is_cloud_provider_external: bool,
    /// `enableControllerAttachDetach`.
    pub is_attach_by_controller: bool,
    /// `spec.providerID`; empty for none.
    pub provider_id: String,
    /// `--node-labels`. They win over the ones every node gets.
    pub labels: BTreeMap<String, String>,
    /// `registerWithTaints`.
    pub taints: Vec<Taint>,
    /// Port of the main API (`status.daemonEndpoints`).
    pub kubelet_port: u16,
    /// `nodeInfo.kubeletVersion`, with its `v`.
    pub kubelet_version: String,
    /// `status.declaredFeatures`, sorted.
    pub declared_features: Vec<String>,
    /// `nodeStatusMaxImages`: how many images status lists. `None` is the default of 50, a
    /// negative number is all.
    pub max_images: Option<i32>,
}

/// How much of the machine is for pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CapacitySettings {
    /// `localStorageCapacityIsolation`: whether local storage is a resource of this node at all.
    pub is_local_storage_isolated: bool,
    /// `maxPods`.
    pub max_pods: u32,
    /// `podsPerCore`: fewer than `maxPods` on a machine with few CPUs; 0 for no such limit.
    pub pods_per_core: u32,
    /// `kubeReserved`, by resource name.
    pub kube_reserved: BTreeMap<String, Quantity>,
    /// `systemReserved`, by resource name.
    pub system_reserved: BTreeMap<String, Quantity>,
    /// What the hard eviction thresholds keep free, of `memory` and `ephemeral-storage`.
    pub kept_free: BTreeMap<String, Limit>,
}

#[cfg(test)]
impl Settings {
    /// The default for a node called `node`. Tests change what they are about.
    pub(crate) fn for_tests() -> Self {
        Self { node_name: "node".to_owned(), ..Self::default() }
    }
}

/// Upstream's defaults, for a node without a name, with an API server that it is not to register with, and without sources.
impl Default for Settings {
    fn default() -> Self {
        Self {
            node_name: String::new(),
            is_ipv6_first: false,
            is_registering: false,
            has_api: true,
            object: ObjectSettings::default(),
            capacity: CapacitySettings { max_pods: 110, ..CapacitySettings::default() },
            pod_cidr: String::new(),
            allowed_unsafe_sysctls: Vec::new(),
            gates: PodGates::default(),
            limits_qos_memory: false,
            resync_interval: Duration::from_secs(60),
            forgets_readiness: false,
            restart_delays: Delays::USUAL,
            restart_rules: RestartRules { of_containers: true, of_pods: true },
            node_status_update_every: Duration::from_secs(10),
            node_status_report_every: Duration::from_secs(300),
            thresholds: Vec::new(),
            leaves_huge_pages_out: false,
            pressure_transition: Duration::from_secs(300),
            max_eviction_grace_seconds: 0,
            image_gc: ImageGcPolicy::default(),
            seed: 0,
            dead_containers: DeadContainers::default(),
            sources: Vec::new(),
        }
    }
}

/// What feature gates say about pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodGates {
    /// Whether a whole pod may have resources (`PodLevelResources`).
    pub has_pod_level_resources: bool,
    /// Whether that is a part of what is granted and may change (`InPlacePodLevelResourcesVerticalScaling`).
    pub grants_pod_level_resources: bool,
    /// Whether the limits of volumes in memory are (`InPlacePodVerticalScalingMemoryBackedVolumes`).
    pub grants_volume_limits: bool,
    /// Whether tolerations may compare numbers (`TaintTolerationComparisonOperators`).
    pub compares_tolerations: bool,
    /// Whether a status names the images of volumes (`ImageVolumeWithDigest`).
    pub names_volume_images: bool,
}

/// As v1.37 has them.
impl Default for PodGates {
    fn default() -> Self {
        Self {
            has_pod_level_resources: true,
            grants_pod_level_resources: true,
            grants_volume_limits: false,
            compares_tolerations: false,
            names_volume_images: false,
        }
    }
}

/// Time between full relists while the runtime's event stream is up: only a safety net, so slow.
pub(crate) const RELIST_WITH_EVENTS: Duration = Duration::from_secs(10);
/// Time between full relists without an event stream: upstream's PLEG period, since then the
/// relist is the only way to learn of an exit.
pub(crate) const RELIST_WITHOUT_EVENTS: Duration = Duration::from_secs(1);
/// How often upstream collects dead containers.
pub(crate) const CONTAINER_GC_PERIOD: Duration = Duration::from_secs(60);
/// How long the logs of a pod outlive it: the period in which upstream looks for such logs.
pub(crate) const LOG_RETENTION: Duration = Duration::from_secs(60);
/// Time between two removals of such logs. Many pods that went together, or that an earlier kubelet left, are no reason to
/// hold up those that start.
pub(crate) const BETWEEN_REMOVALS: Duration = Duration::from_millis(20);
/// Without an answer to `Status` for this long the node is not ready (upstream's runtime sync
/// threshold).
pub(crate) const RUNTIME_SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// Without a successful relist for this long the node is not ready (upstream's PLEG threshold).
pub(crate) const RELIST_SILENCE_LIMIT: Duration = Duration::from_secs(180);
