//! Cheap samples of what the node as a whole uses: a few small files, no walk over the disk. The
//! eviction signals are computed from these; what a control group uses is in [`crate::cgroup::stats`].

use std::io;
use std::path::{Path, PathBuf};

use crate::cgroup::CgroupMounts;
use crate::cgroup::stats::GroupReader;
use crate::text::{self, FileError, keyed_number};

/// Memory of the whole node, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeMemory {
    /// `MemTotal`, the pool set aside for huge pages included.
    pub capacity: u64,
    /// In use, page cache included. The pool for huge pages is not.
    pub usage: u64,
    /// In use and not easily given back: usage less inactive page cache.
    pub working_set: u64,
}

impl NodeMemory {
    /// What is not in use, the pool for huge pages included.
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
    // The root group of version 2 has no total, unless a namespace makes it look like the root.
    let has_total = |root: &Path| mounts.version() == 1 || root.join("memory.current").exists();
    let is_counted = mounts.root_of("memory").is_some_and(has_total);
    let counted = is_counted.then(|| GroupReader::new(mounts).memory("/")).flatten();
    let (usage, working_set) = match counted {
        Some(memory) => (memory.usage_bytes, memory.working_set_bytes),
        None => {
            // Groups do not count the pool either, but free memory is without it.
            let usage = total.saturating_sub(kib("MemFree").unwrap_or(0)).saturating_sub(huge);
            (usage, usage.saturating_sub(kib("Inactive(file)").unwrap_or(0)))
        }
    };
    Ok(NodeMemory { capacity: total, usage, working_set })
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

impl FileSystemUsage {
    /// The device's major and minor number.
    pub fn device_numbers(&self) -> (u32, u32) {
        (rustix::fs::major(self.device), rustix::fs::minor(self.device))
    }
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
}
