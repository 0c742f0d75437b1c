//! Cheap samples of what is in use: a few small files, no walk over the disk. The eviction
//! signals and the summary API are computed from these.

use std::io;
use std::path::{Path, PathBuf};

use crate::cgroup::CgroupMounts;
use crate::text::{self, FileError, keyed_number};

/// Memory of the whole node, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeMemory {
    /// `MemTotal` without the pool set aside for huge pages.
    pub capacity: u64,
    /// In use, page cache included.
    pub usage: u64,
    /// In use and not easily given back: usage less inactive page cache.
    pub working_set: u64,
}

impl NodeMemory {
    /// The eviction signal `memory.available`.
    pub fn available(&self) -> u64 {
        self.capacity.saturating_sub(self.working_set)
    }
}

/// Reads the root group's memory, from `/proc/meminfo` where the root group does not account for
/// it (version 2).
pub fn node_memory(mounts: &CgroupMounts) -> Result<NodeMemory, FileError> {
    let meminfo_path = Path::new("/proc/meminfo");
    let meminfo = text::read(meminfo_path)?;
    let kib = |key| keyed_number(&meminfo, key).map(|v| v * 1024);
    let total = kib("MemTotal").ok_or(FileError::content(meminfo_path, "MemTotal"))?;
    let huge = kib("HugePages_Total").unwrap_or(0) / 1024 * kib("Hugepagesize").unwrap_or(0);
    let root = mounts.root_of("memory").unwrap_or(Path::new("/sys/fs/cgroup"));
    let usage = match group_memory(root, mounts.version()) {
        Ok(usage) => usage,
        Err(error) if error.is_not_found() => {
            let usage = total.saturating_sub(kib("MemFree").unwrap_or(0));
            let inactive = kib("Inactive(file)").unwrap_or(0);
            GroupMemory { usage, working_set: usage.saturating_sub(inactive), limit: None }
        }
        Err(error) => return Err(error),
    };
    Ok(NodeMemory {
        capacity: total.saturating_sub(huge),
        usage: usage.usage,
        working_set: usage.working_set,
    })
}

/// Memory of one control group, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupMemory {
    /// In use, page cache included.
    pub usage: u64,
    /// Usage less inactive page cache.
    pub working_set: u64,
    /// The limit, if there is one.
    pub limit: Option<u64>,
}

/// Reads a group's memory; `dir` is its directory in the memory hierarchy.
pub fn group_memory(dir: &Path, version: u8) -> Result<GroupMemory, FileError> {
    let is_v1 = version == 1;
    let usage = text::read_number(dir.join(if is_v1 { "memory.usage_in_bytes" } else { "memory.current" }))?;
    let stat = text::read(dir.join("memory.stat"))?;
    let inactive =
        keyed_number(&stat, if is_v1 { "total_inactive_file" } else { "inactive_file" }).unwrap_or(0);
    let limit = text::read_number(dir.join(if is_v1 { "memory.limit_in_bytes" } else { "memory.max" })).ok();
    // Version 1 writes "no limit" as the largest page-aligned number.
    let limit = limit.filter(|l| *l < 1 << 62);
    Ok(GroupMemory { usage, working_set: usage.saturating_sub(inactive), limit })
}

/// CPU time a group has used since it was made, nanoseconds. `dir` is its directory in the
/// `cpuacct` hierarchy (version 1) or the unified one.
pub fn group_cpu_nanos(dir: &Path, version: u8) -> Result<u64, FileError> {
    if version == 1 {
        return text::read_number(dir.join("cpuacct.usage"));
    }
    let path = dir.join("cpu.stat");
    let micros = keyed_number(&text::read(&path)?, "usage_usec");
    micros.map(|us| us.saturating_mul(1000)).ok_or(FileError::content(&path, "usage_usec"))
}

/// How many tasks a group has. `dir` is its directory in the `pids` hierarchy.
pub fn group_pids(dir: &Path) -> Result<u64, FileError> {
    text::read_number(dir.join("pids.current"))
}

/// Room on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSystemUsage {
    /// Size, bytes.
    pub capacity: u64,
    /// Free for ordinary users, bytes.
    pub available: u64,
    /// In use, bytes.
    pub used: u64,
    /// Inodes in all; 0 where the file system makes them as needed.
    pub inodes: u64,
    /// Inodes free.
    pub inodes_free: u64,
    /// Identifies the file system while it is mounted.
    pub device: u64,
}

/// A file system that could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("read file system usage of {}", path.display())]
pub struct FileSystemError {
    path: PathBuf,
    source: io::Error,
}

/// Asks the file system that holds `path`. May block for as long as a network file system does.
pub fn file_system(path: &Path) -> Result<FileSystemUsage, FileSystemError> {
    let fail = |e: rustix::io::Errno| FileSystemError { path: path.to_owned(), source: e.into() };
    let fs = rustix::fs::statvfs(path).map_err(fail)?;
    let device = rustix::fs::stat(path).map_err(fail)?.st_dev;
    Ok(FileSystemUsage {
        capacity: fs.f_blocks.saturating_mul(fs.f_frsize),
        available: fs.f_bavail.saturating_mul(fs.f_frsize),
        used: fs.f_blocks.saturating_sub(fs.f_bfree).saturating_mul(fs.f_frsize),
        inodes: fs.f_files,
        inodes_free: fs.f_ffree,
        device,
    })
}

/// How many tasks exist, threads included: the second half of `/proc/loadavg`'s fourth field.
pub fn running_tasks() -> Result<u64, FileError> {
    let path = Path::new("/proc/loadavg");
    let text = text::read(path)?;
    let field = text.split_whitespace().nth(3).and_then(|f| f.split_once('/'));
    field.and_then(|(_, all)| all.parse().ok()).ok_or(FileError::content(path, "a count of tasks"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_node_uses_something() {
        let mounts = CgroupMounts::detect().unwrap();
        let memory = node_memory(&mounts).unwrap();
        assert!(memory.capacity > memory.available() && memory.available() > 0);
        assert!(memory.working_set <= memory.usage);
        assert!(running_tasks().unwrap() > 1);
        let root = file_system(Path::new("/")).unwrap();
        assert!(root.capacity >= root.used && root.capacity > root.available);
        assert!(file_system(Path::new("/no/such/place")).unwrap_err().to_string().contains("/no/such/place"));
    }

    #[test]
    fn groups_of_both_versions() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        assert!(group_memory(dir.path(), 1).unwrap_err().is_not_found());
        put("memory.usage_in_bytes", "1000\n");
        put("memory.stat", "inactive_file 1\ntotal_inactive_file 400\n");
        put("memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(
            group_memory(dir.path(), 1).unwrap(),
            GroupMemory { usage: 1000, working_set: 600, limit: None }
        );
        put("memory.current", "1000\n");
        put("memory.max", "2000\n");
        let v2 = group_memory(dir.path(), 2).unwrap();
        assert_eq!(v2, GroupMemory { usage: 1000, working_set: 999, limit: Some(2000) });
        put("cpu.stat", "usage_usec 7\nuser_usec 3\n");
        put("cpuacct.usage", "12\n");
        assert_eq!(
            (group_cpu_nanos(dir.path(), 2).unwrap(), group_cpu_nanos(dir.path(), 1).unwrap()),
            (7000, 12)
        );
        put("cpu.stat", "odd\n");
        assert!(group_cpu_nanos(dir.path(), 2).is_err());
    }
}
