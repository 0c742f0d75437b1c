//! What the node has, and what of it pods may have.

use std::collections::BTreeMap;

use model::Quantity;

use crate::machine::Machine;
use crate::settings::CapacitySettings;

pub(crate) const CPU: &str = "cpu";
pub(crate) const MEMORY: &str = "memory";
pub(crate) const EPHEMERAL_STORAGE: &str = "ephemeral-storage";
pub(crate) const PODS: &str = "pods";
pub(crate) const HUGE_PAGES_PREFIX: &str = "hugepages-";

/// The machine's resources under a configuration.
#[derive(Clone, Copy, Debug)]
pub struct Resources<'a> {
    /// What of them is for pods.
    pub settings: &'a CapacitySettings,
    /// What there is of them.
    pub machine: &'a Machine,
    /// Size of the file system that holds the root directory, bytes; `None` while it is not known.
    pub storage_bytes: Option<u64>,
}

impl Resources<'_> {
    /// What the node has, by resource name.
    pub fn capacity(self) -> BTreeMap<String, Quantity> {
        let cpus = Quantity::from_millis(i64::try_from(self.machine.cpus * 1000).unwrap_or(i64::MAX));
        let mut all = BTreeMap::from([
            (CPU.to_owned(), cpus),
            (MEMORY.to_owned(), quantity(self.machine.memory_bytes)),
            (PODS.to_owned(), Quantity::from_units(i64::from(self.max_pods()))),
        ]);
        if let Some(bytes) = self.storage_bytes.filter(|_| self.settings.is_local_storage_isolated) {
            all.insert(EPHEMERAL_STORAGE.to_owned(), quantity(bytes));
        }
        for (page, bytes) in &self.machine.huge_pages {
            all.insert(format!("{HUGE_PAGES_PREFIX}{}", quantity(*page).to_binary_api().0), quantity(*bytes));
        }
        all
    }

    /// What of it pods may use: less what is reserved, and memory less the huge pages.
    pub fn allocatable(self) -> BTreeMap<String, Quantity> {
        let mut all: BTreeMap<String, Quantity> = self
            .capacity()
            .into_iter()
            .map(|(name, capacity)| {
                let left = self.unreserved(&name, capacity);
                (name, left)
            })
            .collect();
        if let Some(memory) = all.get_mut(MEMORY) {
            for bytes in self.machine.huge_pages.values() {
                *memory = memory.minus(quantity(*bytes)).max(Quantity::ZERO);
            }
        }
        all
    }

    /// What is reserved beyond what there is: the resource, what is reserved of it, and what there is.
    pub fn over_reserved(self) -> Vec<(String, Quantity, Quantity)> {
        let all = self.capacity().into_iter();
        all.map(|(name, capacity)| {
            let reserved = self.reserved(&name);
            (name, reserved, capacity)
        })
        .filter(|(_, reserved, capacity)| reserved > capacity)
        .collect()
    }

    /// Pods at most: `maxPods`, or fewer by `podsPerCore`.
    fn max_pods(self) -> u32 {
        match self.settings.pods_per_core {
            0 => self.settings.max_pods,
            n => {
                let cpus = u32::try_from(self.machine.cpus).unwrap_or(u32::MAX);
                self.settings.max_pods.min(n.saturating_mul(cpus))
            }
        }
    }

    /// What is left of an amount when the reservation is taken off.
    pub(super) fn unreserved(self, resource: &str, amount: Quantity) -> Quantity {
        amount.minus(self.reserved(resource)).max(Quantity::ZERO)
    }

    /// How much is kept from pods, all reservations together.
    pub(super) fn reserved(self, resource: &str) -> Quantity {
        [&self.settings.kube_reserved, &self.settings.system_reserved]
            .into_iter()
            .filter_map(|reservation| reservation.get(resource).copied())
            .chain(self.kept_free(resource))
            .fold(Quantity::ZERO, Quantity::plus)
    }

    /// How much hard eviction keeps free.
    fn kept_free(self, resource: &str) -> Option<Quantity> {
        let capacity = match resource {
            MEMORY => self.machine.memory_bytes,
            EPHEMERAL_STORAGE => self.storage_bytes?,
            _ => return None,
        };
        self.settings.kept_free.get(resource).map(|limit| quantity(limit.of(capacity)))
    }
}

fn quantity(units: u64) -> Quantity {
    Quantity::from_units(i64::try_from(units).unwrap_or(i64::MAX))
}
