//! The machine's own families. They change with a reboot, or a processor taken offline, and are read
//! once, as upstream reads them.

use std::collections::BTreeMap;

use host::cgroup::stats::MemoryLimits;
use host::machine::MachineFacts;
use host::topology::{self, CpuTopology, MemoryModules};
use telemetry::metrics::{Exposition, Kind, LabelSet};

/// What the machine is.
#[derive(Debug)]
pub(super) struct Machine {
    labels: LabelSet,
    cpus: u64,
    memory_bytes: u64,
    swap_bytes: u64,
    topology: Option<CpuTopology>,
    modules: BTreeMap<String, MemoryModules>,
    kernel_version: String,
    os_image: String,
}

impl Machine {
    /// Reads what the facts do not have.
    pub(super) fn read(facts: &MachineFacts) -> Self {
        let labels = LabelSet::new(&[
            ("boot_id", &facts.boot_id),
            ("machine_id", &facts.machine_id),
            ("system_uuid", &facts.system_uuid),
        ]);
        Self {
            labels,
            cpus: facts.cpus,
            memory_bytes: facts.memory_bytes,
            swap_bytes: facts.swap_bytes,
            topology: topology::cpu_topology().ok(),
            modules: topology::memory_modules(),
            kernel_version: facts.kernel_version.clone(),
            os_image: facts.os_image.clone(),
        }
    }

    /// The root group is limited by what there is.
    pub(super) fn memory_limits(&self, own: Option<MemoryLimits>) -> MemoryLimits {
        MemoryLimits {
            limit_bytes: Some(self.memory_bytes),
            swap_limit_bytes: Some(self.swap_bytes),
            reservation_bytes: own.and_then(|own| own.reservation_bytes),
        }
    }

    /// The family that names the versions of kernel and system. We are no cadvisor and link no Docker:
    /// upstream's kubelet, too, leaves these labels empty.
    pub(super) fn write_version(&self, page: &mut Exposition) {
        let name = "cadvisor_version_info";
        page.family(name, "Always 1; the labels name the versions of kernel and system.", Kind::Gauge);
        let labels = [
            ("cadvisorRevision", ""),
            ("cadvisorVersion", ""),
            ("dockerVersion", ""),
            ("kernelVersion", self.kernel_version.as_str()),
            ("osVersion", self.os_image.as_str()),
        ];
        page.sample(name, &labels, 1.0);
    }

    /// The families `machine_…`.
    pub(super) fn write(&self, page: &mut Exposition) {
        let topology = self.topology.unwrap_or_default();
        self.gauge(page, "machine_cpu_books", "CPU books.", topology.books);
        self.gauge(page, "machine_cpu_cores", "Logical CPUs that are online.", self.cpus);
        self.gauge(page, "machine_cpu_drawers", "CPU drawers.", topology.drawers);
        self.gauge(page, "machine_cpu_physical_cores", "CPU cores.", topology.physical_cores);
        self.gauge(page, "machine_cpu_sockets", "CPU sockets.", topology.sockets);
        self.modules(page, "machine_dimm_capacity_bytes", "Memory in modules of a type, in bytes.", |m| {
            m.capacity_bytes
        });
        self.modules(page, "machine_dimm_count", "Memory modules of a type.", |m| m.count);
        self.gauge(page, "machine_memory_bytes", "Memory, in bytes.", self.memory_bytes);
        // Persistent memory is told by a library of its maker's that upstream's kubelet is not built
        // with either.
        self.gauge(page, "machine_nvm_avg_power_budget_watts", "Power budget of persistent memory.", 0);
        let name = "machine_nvm_capacity";
        page.family(name, "Persistent memory in a mode, in bytes.", Kind::Gauge);
        for mode in ["app_direct_mode", "memory_mode"] {
            page.sample_in(name, &self.labels, &[("mode", mode)], 0.0, None);
        }
        let name = "machine_scrape_error";
        page.family(name, "1 if the machine could not be looked at, else 0.", Kind::Gauge);
        page.sample(name, &[], f64::from(u8::from(self.topology.is_none())));
        self.gauge(page, "machine_swap_bytes", "Swap, in bytes.", self.swap_bytes);
    }

    fn gauge(&self, page: &mut Exposition, name: &str, help: &str, value: u64) {
        page.family(name, help, Kind::Gauge);
        page.sample_in(name, &self.labels, &[], value as f64, None);
    }

    fn modules(&self, page: &mut Exposition, name: &str, help: &str, value: fn(&MemoryModules) -> u64) {
        if self.modules.is_empty() {
            return;
        }
        page.family(name, help, Kind::Gauge);
        for (kind, modules) in &self.modules {
            page.sample_in(name, &self.labels, &[("type", kind)], value(modules) as f64, None);
        }
    }
}
