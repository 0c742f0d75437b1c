//! File systems, each asked once in a round.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use host::usage::{self, FileSystemUsage};
use jiff::Timestamp;
use tracing::debug;

use crate::document::{FsStats, Time};

/// The file systems met in one round, by the path they were asked for under.
pub(crate) struct FileSystems {
    at: Timestamp,
    asked: HashMap<PathBuf, Option<FileSystemUsage>>,
}

impl FileSystems {
    /// None yet; `at` is the time of the round.
    pub(crate) fn new(at: Timestamp) -> Self {
        Self { at, asked: HashMap::new() }
    }

    /// Size and room of the file system that holds a path; nothing but the time if it cannot be asked.
    pub(crate) fn room(&mut self, path: &Path) -> FsStats {
        let mut stats = FsStats { time: Time(self.at), ..FsStats::default() };
        if let Some(usage) = self.usage(path) {
            stats.available_bytes = Some(usage.available);
            stats.capacity_bytes = Some(usage.capacity);
            stats.inodes_free = Some(usage.inodes_free);
            stats.inodes = Some(usage.inodes);
        }
        stats
    }

    /// The file system that holds a path, with everything on it; `None` if it cannot be asked.
    pub(crate) fn whole(&mut self, path: &Path) -> Option<FsStats> {
        let usage = self.usage(path)?;
        let used = usage.inodes.saturating_sub(usage.inodes_free);
        Some(FsStats { used_bytes: Some(usage.used), inodes_used: Some(used), ..self.room(path) })
    }

    /// Which file system holds a path; `None` if it cannot be asked.
    pub(crate) fn device(&mut self, path: &Path) -> Option<u64> {
        self.usage(path).map(|usage| usage.device)
    }

    fn usage(&mut self, path: &Path) -> Option<FileSystemUsage> {
        if let Some(known) = self.asked.get(path) {
            return *known;
        }
        let usage = usage::file_system(path)
            .inspect_err(
                |e| debug!(path = %path.display(), err = %e, "Failed to get file system usage (statfs)"),
            )
            .ok();
        self.asked.insert(path.to_owned(), usage);
        usage
    }
}
