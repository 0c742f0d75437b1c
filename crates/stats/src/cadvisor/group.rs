//! One group, read for a page.

use std::time::UNIX_EPOCH;

use host::cgroup::stats::{
    CpuLimits, CpuThrottling, CpuTime, DeviceIo, GroupReader, InterfaceCounters, MemoryEvents, MemoryLimits,
    MemoryUsage, PressureSum, ProcessCounts, TaskCounts,
};
use host::disk_counters::DiskCounters;
use telemetry::metrics::LabelSet;

use super::disks::{FileSystem, device_name};
use super::tree::{Owner, Role};

/// The process whose network is the node's.
const FIRST_PROCESS: u32 = 1;

/// What was read of a group. A part is absent if its controller is.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) labels: LabelSet,
    pub(super) is_root: bool,
    /// When it was read.
    pub(super) millis: i64,
    pub(super) created_seconds: Option<f64>,
    pub(super) started_seconds: Option<f64>,
    pub(super) cpu: Option<CpuTime>,
    pub(super) cpu_limits: Option<CpuLimits>,
    /// Present only with a quota.
    pub(super) throttling: Option<CpuThrottling>,
    pub(super) memory: Option<MemoryUsage>,
    pub(super) memory_limits: Option<MemoryLimits>,
    pub(super) memory_events: MemoryEvents,
    pub(super) devices: Vec<Device>,
    pub(super) tasks: Option<TaskCounts>,
    pub(super) processes: Option<ProcessCounts>,
    pub(super) open_files_limit: Option<i64>,
    /// Of the root and of sandboxes; containers share their sandbox's.
    pub(super) interfaces: Vec<InterfaceCounters>,
    pub(super) pressure: Option<PressureSum>,
    /// Of the root only.
    pub(super) file_systems: Vec<FileSystem>,
}

/// Input and output of one device.
#[derive(Debug)]
pub(super) struct Device {
    /// Its path; empty for a device without one.
    pub(super) name: String,
    pub(super) io: DeviceIo,
}

impl Group {
    /// Reads a group and names it.
    pub(super) fn read(
        reader: &mut GroupReader,
        name: &str,
        owner: Option<(&Owner, &str)>,
        millis: i64,
        with_pressure: bool,
    ) -> Self {
        let is_root = name == "/";
        let mut group = Self { labels: labels(name, owner), is_root, millis, ..Self::default() };
        group.read_times(reader, name, owner);
        group.cpu = reader.cpu_time(name);
        if group.cpu.is_some() {
            let limits = reader.cpu_limits(name).unwrap_or_default();
            group.throttling = limits.quota_micros.and_then(|_| reader.cpu_throttling(name));
            group.cpu_limits = Some(limits);
        }
        group.memory = reader.memory(name);
        if group.memory.is_some() {
            group.memory_limits = reader.memory_limits(name);
            group.memory_events = reader.memory_events(name);
        }
        let devices = reader.io(name).unwrap_or_default();
        group.devices = devices.into_iter().map(|io| Device { name: String::new(), io }).collect();
        group.pressure = with_pressure.then(|| reader.pressure(name));
        group.read_processes(reader, name, owner.map(|(owner, _)| owner.role));
        group
    }

    /// Gives devices the names under which the kernel lists them.
    pub(super) fn name_devices(&mut self, counters: &[DiskCounters]) {
        for device in &mut self.devices {
            device.name = device_name(counters, device.io.major, device.io.minor);
        }
    }

    /// The runtime knows best when a container began; other groups began when they were made.
    fn read_times(&mut self, reader: &mut GroupReader, name: &str, owner: Option<(&Owner, &str)>) {
        let told = |seconds: i64| (seconds > 0).then_some(seconds as f64);
        let created = owner.and_then(|(owner, _)| told(owner.created_seconds));
        let started = owner.and_then(|(owner, _)| told(owner.started_seconds));
        if let (Some(created), Some(started)) = (created, started) {
            (self.created_seconds, self.started_seconds) = (Some(created), Some(started));
            return;
        }
        let made = reader.created(name).and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let made = made.map(|since| since.as_secs() as f64);
        self.created_seconds = created.or(made);
        self.started_seconds = started.or(made);
    }

    fn read_processes(&mut self, reader: &mut GroupReader, name: &str, role: Option<Role>) {
        let mut pids = Vec::new();
        if reader.processes(name, &mut pids) {
            self.processes = Some(reader.process_counts(&pids));
        }
        // The root of version 2 has no count of tasks; upstream counts its processes instead.
        let counted = TaskCounts { current: pids.len() as u64, limit: None };
        let tasks = reader.tasks(name);
        self.tasks = match reader.version() {
            2 => tasks.or(Some(counted)),
            _ => tasks.filter(|_| !self.is_root).or(self.is_root.then(TaskCounts::default)),
        };
        let first = match role {
            _ if self.is_root => Some(FIRST_PROCESS),
            Some(Role::Sandbox | Role::Container) => pids.into_iter().find(|pid| *pid > 0),
            Some(Role::Pod) | None => None,
        };
        let Some(first) = first else { return };
        self.open_files_limit = reader.open_files_limit(first);
        if self.is_root || role == Some(Role::Sandbox) {
            self.interfaces = reader.network(first).unwrap_or_default();
        }
    }
}

/// All groups have the same labels; most are empty for a group that is nobody's.
fn labels(group: &str, owner: Option<(&Owner, &str)>) -> LabelSet {
    let of = |value: fn(&Owner) -> &str| owner.map_or("", |(owner, _)| value(owner));
    LabelSet::new(&[
        ("container", of(|o| &o.container)),
        ("id", group),
        ("image", of(|o| &o.image)),
        ("name", owner.map_or("", |(_, id)| id)),
        ("namespace", of(|o| &o.namespace)),
        ("pod", of(|o| &o.pod)),
    ])
}
