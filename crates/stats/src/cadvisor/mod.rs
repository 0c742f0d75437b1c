//! The page `/metrics/cadvisor`: one sample for each control group and thing the kernel counts.
//!
//! Upstream links cadvisor for it, which measures all groups every few seconds whether anybody asks or
//! not. Here nothing happens between scrapes. A scrape finds the groups ([`tree`]), reads each of them
//! once ([`group`]), and then writes family by family, which the format demands, from one table
//! ([`families`]). [`disks`] has what only the root group shows of file systems, [`machine`] the
//! machine's own families, [`from_runtime`] the page made by the runtime instead
//! (`PodAndContainerStatsFromCRI`).
//!
//! # What differs from upstream on purpose
//!
//! * Values are those of the moment of the scrape; upstream's are up to 15 s old.
//! * Labels of containers come from what the kubelet knows. Upstream's cadvisor asks containerd or CRI-O
//!   itself, and finds them at their default sockets only.
//! * `container_fs_…_seconds_total` are seconds, and there for every disk. Upstream shows a billionth of
//!   the milliseconds, and zero for NVMe.
//! * `container_oom_events_total` is the kernel's own count of the group. Upstream counts messages in the
//!   kernel's log, from its own start on.
//! * File systems of NFS servers are left out: one that is gone would hold up the page.
//! * What only a debugging build of the BFQ scheduler tells (waiting times of groups) is left out.
//! * Where two samples would have the same labels there is one; upstream drops the family or page.
//!
//! Whose a group is, is told by the caller ([`Owners`]). A group that is gone, or a controller that is
//! not there, leaves out its samples and nothing else.

mod disks;
mod families;
mod from_runtime;
mod group;
mod machine;
mod tree;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicUsize, Ordering};

use host::cgroup::CgroupMounts;
use host::cgroup::stats::GroupReader;
use host::machine::MachineFacts;
use telemetry::metrics::{Exposition, Kind};

use disks::Disks;
use families::{FAMILIES, Samples};
use group::Group;
use machine::Machine;

pub use tree::{Owner, Owners, Role};

/// What the page is to cover.
#[derive(Clone, Debug)]
pub struct CadvisorSettings {
    /// Groups whose names begin like one of these are shown, beside the root and groups of containers:
    /// `kubepods`, the kubelet's own group, those named for the runtime and the system.
    pub prefixes: Vec<String>,
    /// Whether pressure is shown (gate `KubeletPSI`), where the kernel tells.
    pub with_pressure: bool,
}

/// Makes the page. Holds what does not change while the process lives.
#[derive(Debug)]
pub struct Cadvisor {
    mounts: CgroupMounts,
    settings: CadvisorSettings,
    machine: Machine,
    disks: Disks,
    /// How long the page was last time.
    length: AtomicUsize,
}

impl Cadvisor {
    /// Looks at the machine once: its processors, memory and file systems are shown as they are now.
    pub fn new(mounts: CgroupMounts, facts: &MachineFacts, settings: CadvisorSettings) -> Self {
        let (machine, disks) = (Machine::read(facts), Disks::find());
        Self { mounts, settings, machine, disks, length: AtomicUsize::new(0) }
    }

    /// The page. Blocks on files of the kernel. `now_millis` is asked for the time as each group is
    /// read.
    pub fn page(&self, owners: &Owners, now_millis: &dyn Fn() -> i64) -> String {
        let mut page = self.begin();
        let mut reader = GroupReader::new(&self.mounts);
        self.write_containers(&mut reader, owners, now_millis, &mut page);
        self.machine.write(&mut page);
        self.end(page)
    }

    /// The page with the runtime's metrics in place of those of control groups.
    pub fn page_from_runtime(
        &self,
        descriptors: &[runtime::MetricDescriptor],
        samples: &[runtime::MetricSample],
    ) -> String {
        let mut page = self.begin();
        from_runtime::write(descriptors, samples, &mut page);
        self.machine.write(&mut page);
        self.end(page)
    }

    fn write_containers(
        &self,
        reader: &mut GroupReader,
        owners: &Owners,
        now_millis: &dyn Fn() -> i64,
        page: &mut Exposition,
    ) {
        let with_pressure = self.settings.with_pressure && reader.has_pressure();
        let names = tree::groups(reader, &self.settings.prefixes);
        let counters = self.disks.counters();
        let (is_any, mut groups) = (!names.is_empty(), Vec::with_capacity(names.len()));
        for name in names {
            let owner = owners.of(&name);
            let mut group = Group::read(reader, &name, owner, now_millis(), with_pressure);
            group.name_devices(&counters);
            if group.is_root {
                group.memory_limits = Some(self.machine.memory_limits(group.memory_limits));
                group.file_systems = self.disks.file_systems(&counters);
            }
            groups.push(group);
        }
        self.machine.write_version(page);
        for family in FAMILIES.iter().copied().flatten() {
            let mut samples = Samples::new(family, page);
            for group in &groups {
                samples.write(group);
            }
        }
        page.family("container_scrape_error", "1 if no control group could be found, else 0.", Kind::Gauge);
        page.sample("container_scrape_error", &[], f64::from(u8::from(!is_any)));
    }

    /// A little more room than last time, so that the text is not moved while it grows.
    fn begin(&self) -> Exposition {
        let length = self.length.load(Ordering::Relaxed);
        Exposition::with_capacity(length + length / 16)
    }

    fn end(&self, page: Exposition) -> String {
        let text = page.into_text();
        self.length.store(text.len(), Ordering::Relaxed);
        text
    }
}
