//! What a node is and has, as plain values: the measured and the configured part of its status.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Taint;
use model::Quantity;
use serde::{Deserialize, Serialize};

/// Everything about the node that its registration and status show and that does not come from
/// the runtime's health. Filled in by whoever measures the machine; nothing here is looked up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// `metadata.name`; also the host name, for the label and the address of that kind.
    pub name: String,
    /// The node's addresses as reported, primary first; none where a cloud provider is to tell. `None` when they could not be
    /// found: then the addresses already reported stay.
    pub node_ips: Option<Vec<String>>,
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
    /// `podCIDR`: where the Node object says none; empty for none.
    pub pod_cidr: String,
    /// `allowedUnsafeSysctls`: names and patterns ending in `*`, which admission lets pods set.
    pub allowed_unsafe_sysctls: Vec<String>,

    /// Online CPUs, thousandths.
    pub cpu_millis: u64,
    /// Main memory, bytes.
    pub memory_bytes: u64,
    /// Size of the file system that holds the root directory, bytes; `None` while it is not known.
    pub ephemeral_storage_bytes: Option<u64>,
    /// `localStorageCapacityIsolation`: whether local storage is a resource of this node at all.
    pub is_local_storage_isolated: bool,
    /// Memory set aside for huge pages, bytes, by page size in bytes.
    pub huge_pages: BTreeMap<u64, u64>,
    /// Pods at most: `maxPods`, or fewer by `podsPerCore`.
    pub max_pods: u32,
    /// What device plugins offer, by resource name. One that is gone stays, with zero.
    pub extended: BTreeMap<String, ExtendedFacts>,
    /// Swap, bytes; 0 for none.
    pub swap_bytes: u64,
    /// `kubeReserved`, by resource name.
    pub kube_reserved: BTreeMap<String, Quantity>,
    /// `systemReserved`, by resource name.
    pub system_reserved: BTreeMap<String, Quantity>,
    /// What the hard eviction thresholds keep free: `memory` and `ephemeral-storage`, percentages
    /// already turned into bytes.
    pub hard_eviction: BTreeMap<String, Quantity>,

    /// `nodeInfo.machineID`.
    pub machine_id: String,
    /// `nodeInfo.systemUUID`.
    pub system_uuid: String,
    /// `nodeInfo.bootID`.
    pub boot_id: String,
    /// `nodeInfo.kernelVersion`.
    pub kernel_version: String,
    /// `nodeInfo.osImage`.
    pub os_image: String,
    /// `nodeInfo.architecture`, in Go's spelling (`amd64`).
    pub architecture: String,
    /// `nodeInfo.operatingSystem`, in Go's spelling (`linux`).
    pub operating_system: String,
    /// `nodeInfo.runningInUserNamespace`; `None` leaves it out.
    pub is_in_user_namespace: Option<bool>,
    /// Whether the kernel enforces AppArmor profiles.
    pub has_apparmor: bool,
    /// The runtime's name (`containerd`).
    pub runtime_name: String,
    /// The runtime's version; empty while it is not known.
    pub runtime_version: String,
    /// `nodeInfo.kubeletVersion`, with its `v`.
    pub kubelet_version: String,
    /// `status.declaredFeatures`, sorted.
    pub declared_features: Vec<String>,

    /// All images, in any order.
    pub images: Vec<ImageFacts>,
    /// `nodeStatusMaxImages`: how many of them status lists. `None` is the default of 50, a
    /// negative number is all.
    pub max_images: Option<i32>,
}

/// How much there is of a resource that a device plugin offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtendedFacts {
    /// All devices.
    pub capacity: u64,
    /// The healthy ones.
    pub allocatable: u64,
}

/// One image of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFacts {
    /// Digest references, then tags.
    pub names: Vec<String>,
    /// Size, bytes.
    pub size_bytes: u64,
}

pub(crate) const CPU: &str = "cpu";
pub(crate) const MEMORY: &str = "memory";
pub(crate) const EPHEMERAL_STORAGE: &str = "ephemeral-storage";
pub(crate) const PODS: &str = "pods";
pub(crate) const HUGE_PAGES_PREFIX: &str = "hugepages-";

impl NodeFacts {
    /// What the node has, by resource name.
    pub fn capacity(&self) -> BTreeMap<String, Quantity> {
        let mut all = self.machine_capacity();
        all.extend(self.extended.iter().map(|(name, e)| (name.clone(), quantity(e.capacity))));
        all
    }

    /// What of it pods may use: less what is reserved, and memory less the huge pages.
    pub fn allocatable(&self) -> BTreeMap<String, Quantity> {
        let mut all: BTreeMap<String, Quantity> = self
            .machine_capacity()
            .into_iter()
            .map(|(name, capacity)| {
                let left = self.unreserved(&name, capacity);
                (name, left)
            })
            .collect();
        if let Some(memory) = all.get_mut(MEMORY) {
            for bytes in self.huge_pages.values() {
                *memory = memory.minus(quantity(*bytes)).max(Quantity::ZERO);
            }
        }
        all.extend(self.extended.iter().map(|(name, e)| (name.clone(), quantity(e.allocatable))));
        all
    }

    /// What is reserved beyond what there is: the resource, what is reserved of it, and what there is.
    pub fn over_reserved(&self) -> Vec<(String, Quantity, Quantity)> {
        let all = self.machine_capacity().into_iter();
        all.map(|(name, capacity)| {
            let reserved = self.reserved(&name);
            (name, reserved, capacity)
        })
        .filter(|(_, reserved, capacity)| reserved > capacity)
        .collect()
    }

    fn machine_capacity(&self) -> BTreeMap<String, Quantity> {
        let cpu = Quantity::from_millis(i64::try_from(self.cpu_millis).unwrap_or(i64::MAX));
        let mut all = BTreeMap::from([
            (CPU.to_owned(), cpu),
            (MEMORY.to_owned(), quantity(self.memory_bytes)),
            (PODS.to_owned(), Quantity::from_units(i64::from(self.max_pods))),
        ]);
        if let Some(bytes) = self.ephemeral_storage_bytes.filter(|_| self.is_local_storage_isolated) {
            all.insert(EPHEMERAL_STORAGE.to_owned(), quantity(bytes));
        }
        for (page, bytes) in &self.huge_pages {
            all.insert(format!("{HUGE_PAGES_PREFIX}{}", quantity(*page).to_binary_api().0), quantity(*bytes));
        }
        all
    }

    /// What is left of an amount when the reservation is taken off.
    pub(super) fn unreserved(&self, resource: &str, amount: Quantity) -> Quantity {
        amount.minus(self.reserved(resource)).max(Quantity::ZERO)
    }

    /// How much is kept from pods, all reservations together.
    pub(super) fn reserved(&self, resource: &str) -> Quantity {
        [&self.kube_reserved, &self.system_reserved, &self.hard_eviction]
            .into_iter()
            .filter_map(|reservation| reservation.get(resource))
            .fold(Quantity::ZERO, |sum, amount| sum.plus(*amount))
    }
}

fn quantity(units: u64) -> Quantity {
    Quantity::from_units(i64::try_from(units).unwrap_or(i64::MAX))
}
