//! What the kernel counts for a control group, as structs with units in their names.
//!
//! Groups are named as everywhere outside of the kernel: by the path below the hierarchies' roots,
//! `/kubepods/burstable/pod…`, with `/` for the root. [`GroupReader`] finds the right hierarchy, file
//! and spelling for either version. A file, a controller or a whole group that is not there, or is
//! gone by the time it is read, is `None`: what is counted depends on the kernel, and groups end at
//! any time. Nothing is remembered between two calls but a buffer, and each call reads the files of
//! one question only, so ask what you need.

mod cpu;
mod hugetlb;
mod io;
mod memory;
mod network;
mod pressure;
mod tasks;

#[cfg(test)]
mod tests;

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{CWD, Mode, OFlags};

pub use cpu::{CpuLimits, CpuThrottling, CpuTime};
pub use hugetlb::HugePageUsage;
pub use io::{DeviceIo, IoCost, IoCounts};
pub use memory::{LeastLimits, MemoryEvents, MemoryLimits, MemoryUsage};
pub use network::InterfaceCounters;
pub use pressure::{Pressure, PressureSum, Stall};
pub use tasks::{ProcessCounts, TaskCounts};

use super::CgroupMounts;

/// Kernel files are a few hundred bytes, `memory.stat` some thousands; a list of processes may be
/// longer, and grows the buffer.
const BUFFER_BYTES: usize = 8 << 10;

/// Reads what the kernel counts, one group and question at a time. Cheap to make; kept for a whole
/// scrape so that the files of all groups go through one buffer.
#[derive(Debug)]
pub struct GroupReader {
    roots: Roots,
    proc: PathBuf,
    path: PathBuf,
    text: Vec<u8>,
}

/// The hierarchy in which each controller's files are.
#[derive(Debug)]
struct Roots {
    version: u8,
    cpu: Option<Arc<Root>>,
    cpuacct: Option<Arc<Root>>,
    memory: Option<Arc<Root>>,
    pids: Option<Arc<Root>>,
    io: Option<Arc<Root>>,
    hugetlb: Option<Arc<Root>>,
}

/// A hierarchy's root. Files are opened below the descriptor: most of what a small file of the kernel costs is the way
/// to it.
#[derive(Debug)]
struct Root {
    path: PathBuf,
    dir: OwnedFd,
}

impl Root {
    fn open(path: &Path) -> Option<Arc<Self>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(CWD, path, flags, Mode::empty()).ok()?;
        Some(Arc::new(Self { path: path.to_owned(), dir }))
    }
}

/// Whose files are meant.
#[derive(Clone, Copy, Debug)]
enum Controller {
    Cpu,
    CpuAcct,
    Memory,
    Pids,
    Io,
    HugeTlb,
}

impl GroupReader {
    /// A reader for the machine's hierarchies.
    pub fn new(mounts: &CgroupMounts) -> Self {
        Self::with_proc(mounts, "/proc")
    }

    /// A reader that looks for processes below another folder than `/proc`.
    pub fn with_proc(mounts: &CgroupMounts, proc: impl Into<PathBuf>) -> Self {
        let version = mounts.version();
        let whole = match mounts {
            CgroupMounts::V1 { .. } => None,
            // A controller that is not enabled has no files; there is no need to ask twice.
            CgroupMounts::V2 { root, .. } => Root::open(root),
        };
        let root_of = |name: &str| whole.clone().or_else(|| Root::open(mounts.root_of(name)?));
        let roots = Roots {
            version,
            cpu: root_of("cpu"),
            cpuacct: root_of("cpuacct"),
            memory: root_of("memory"),
            pids: root_of("pids"),
            io: root_of(if version == 1 { "blkio" } else { "io" }),
            hugetlb: root_of("hugetlb"),
        };
        Self { roots, proc: proc.into(), path: PathBuf::new(), text: Vec::with_capacity(BUFFER_BYTES) }
    }

    /// The cgroup version, 1 or 2.
    pub fn version(&self) -> u8 {
        self.roots.version
    }

    /// Whether the group exists.
    pub fn exists(&mut self, group: &str) -> bool {
        self.folder(group).is_some_and(|folder| folder.is_dir())
    }

    /// The names of the groups directly below one, in the kernel's order; none if it is missing.
    pub fn children(&mut self, group: &str) -> Vec<String> {
        let entries = self.folder(group).and_then(|folder| fs::read_dir(folder).ok());
        let folders = entries.into_iter().flatten().flatten();
        let folders = folders.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
        let parent = group.trim_end_matches('/');
        folders.filter_map(|e| Some(format!("{parent}/{}", e.file_name().to_str()?))).collect()
    }

    /// When the group was made, as nearly as the kernel tells: the least of its files' times. The time of
    /// a folder alone also changes when groups are made in it. Runtimes make a group in all hierarchies
    /// at once, so two stand for them; upstream asks each.
    pub fn created(&mut self, group: &str) -> Option<SystemTime> {
        let file = if self.is_v1() { "cgroup.clone_children" } else { "cgroup.events" };
        let Self { roots, path, .. } = self;
        let time = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
        let mut oldest: Option<SystemTime> = None;
        for root in [&roots.cpu, &roots.memory].into_iter().flatten() {
            join(path, group, "")?;
            let folder = root.path.join(&*path);
            let Some(made) = time(&folder) else { continue };
            let least = time(&folder.join(file)).map_or(made, |t| t.min(made));
            oldest = Some(oldest.map_or(least, |o| o.min(least)));
        }
        oldest
    }

    fn is_v1(&self) -> bool {
        self.roots.version == 1
    }

    /// The folder of a group.
    fn folder(&mut self, group: &str) -> Option<PathBuf> {
        join(&mut self.path, group, "")?;
        Some(self.roots.cpu.as_ref()?.path.join(&self.path))
    }

    fn open(&mut self, controller: Controller, group: &str, file: &str) -> Option<OwnedFd> {
        let root = match controller {
            Controller::Cpu => &self.roots.cpu,
            Controller::CpuAcct => &self.roots.cpuacct,
            Controller::Memory => &self.roots.memory,
            Controller::Pids => &self.roots.pids,
            Controller::Io => &self.roots.io,
            Controller::HugeTlb => &self.roots.hugetlb,
        };
        let root = root.as_ref()?;
        join(&mut self.path, group, file)?;
        open_at(&root.dir, &self.path)
    }

    /// The text of a group's file, until the next one is read.
    fn text(&mut self, controller: Controller, group: &str, file: &str) -> Option<&str> {
        let file = self.open(controller, group, file)?;
        self.slurp(&file)
    }

    /// The text of a process's file below `/proc`.
    fn process_text(&mut self, pid: u32, file: &str) -> Option<&str> {
        self.path.clear();
        self.path.push(&self.proc);
        self.path.push(pid.to_string());
        self.path.push(file);
        let file = open_at(CWD, &self.path)?;
        self.slurp(&file)
    }

    /// The single number in a group's file. `max`, "no limit", is the largest number.
    fn number(&mut self, controller: Controller, group: &str, file: &str) -> Option<u64> {
        let file = self.open(controller, group, file)?;
        // The kernel gives a single value in one piece, and no number is longer.
        let mut digits = [0; 32];
        let length = rustix::io::read(&file, &mut digits).ok()?;
        parse(std::str::from_utf8(digits.get(..length)?).ok()?)
    }

    fn slurp(&mut self, file: &OwnedFd) -> Option<&str> {
        self.text.clear();
        // Not `read_to_end`, which asks for a size first that such files do not have.
        loop {
            self.text.reserve(BUFFER_BYTES / 2);
            match rustix::io::read(file, rustix::buffer::spare_capacity(&mut self.text)) {
                Ok(0) => break,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return None,
            }
        }
        std::str::from_utf8(&self.text).ok().map(str::trim_end)
    }
}

fn open_at(dir: impl AsFd, path: &Path) -> Option<OwnedFd> {
    rustix::fs::openat(dir, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// The way from a hierarchy's root to a group and a file, unless the group's name would lead out of the hierarchy.
fn join(path: &mut PathBuf, group: &str, file: &str) -> Option<()> {
    if group.split('/').any(|part| part == "..") {
        return None;
    }
    path.clear();
    path.push(group.trim_matches('/'));
    if !file.is_empty() {
        path.push(file);
    }
    Some(())
}

/// A number as the kernel writes it. Version 1 writes -1 for a quota that is not set.
fn parse(text: &str) -> Option<u64> {
    match text.trim() {
        "max" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// A limit, unless it is so large that it means none: version 1 writes the largest page-aligned
/// number, version 2 `max`.
fn limited(limit: u64) -> Option<u64> {
    (limit < 1 << 62).then_some(limit)
}

/// The `key value` lines of a file.
fn pairs(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, parse(value)?))
    })
}
