//! Processes, threads and open files of a group.

use rustix::fs::{CWD, Dir, Mode, OFlags};

use super::{Controller, GroupReader, limited};

/// Tasks: processes and their threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskCounts {
    /// How many there are, groups below included.
    pub current: u64,
    /// How many there may be; `None` without a limit.
    pub limit: Option<u64>,
}

/// Processes of a group without those below it, and what they have open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessCounts {
    /// Processes.
    pub processes: u64,
    /// Descriptors in all of them.
    pub file_descriptors: u64,
    /// Descriptors that are sockets.
    pub sockets: u64,
}

impl GroupReader {
    /// How many tasks the group has. A root group has no count of its own.
    pub fn tasks(&mut self, group: &str) -> Option<TaskCounts> {
        let current = self.number(Controller::Pids, group, "pids.current")?;
        let limit = self.number(Controller::Pids, group, "pids.max").and_then(limited);
        Some(TaskCounts { current, limit })
    }

    /// The ids of the processes in the group itself, into `pids`. A process of an outer namespace is
    /// listed as 0. Whether the group could be read.
    pub fn processes(&mut self, group: &str, pids: &mut Vec<u32>) -> bool {
        pids.clear();
        let Some(text) = self.text(Controller::Cpu, group, "cgroup.procs") else { return false };
        pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
        true
    }

    /// One process of the group, or of a group below it where it has none itself.
    pub fn first_process(&mut self, group: &str) -> Option<u32> {
        let text = self.text(Controller::Cpu, group, "cgroup.procs").unwrap_or("");
        let own = text.lines().filter_map(|line| line.parse().ok()).find(|pid| *pid > 0);
        own.or_else(|| self.children(group).iter().find_map(|child| self.first_process(child)))
    }

    /// Counts processes and what they have open. Asks the kernel for each descriptor: the dearest of
    /// all questions here. `pids` is [`GroupReader::processes`]' answer; those that have ended since
    /// count, but have nothing open.
    pub fn process_counts(&mut self, pids: &[u32]) -> ProcessCounts {
        let processes = u64::try_from(pids.len()).unwrap_or(u64::MAX);
        let mut counts = ProcessCounts { processes, ..ProcessCounts::default() };
        for pid in pids.iter().filter(|pid| **pid > 0) {
            self.count_descriptors(*pid, &mut counts);
        }
        counts
    }

    /// How many files the process may have open at most, the soft limit; `-1` without a limit.
    pub fn open_files_limit(&mut self, pid: u32) -> Option<i64> {
        let text = self.process_text(pid, "limits")?;
        let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
        match line.split_ascii_whitespace().next()? {
            "unlimited" => Some(-1),
            soft => soft.parse().ok(),
        }
    }

    fn count_descriptors(&mut self, pid: u32, counts: &mut ProcessCounts) -> Option<()> {
        self.path.clear();
        self.path.push(&self.proc);
        self.path.push(pid.to_string());
        self.path.push("fd");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(CWD, &self.path, flags, Mode::empty()).ok()?;
        let mut link = Vec::new();
        for entry in Dir::read_from(&folder).ok()?.flatten() {
            if entry.file_name().to_bytes().first() == Some(&b'.') {
                continue;
            }
            counts.file_descriptors += 1;
            // The link's text tells a socket without waking whatever is behind the descriptor, as
            // following the link may.
            link.clear();
            if let Ok(text) = rustix::fs::readlinkat(&folder, entry.file_name(), std::mem::take(&mut link)) {
                counts.sockets += u64::from(text.as_bytes().starts_with(b"socket"));
                link = text.into_bytes();
            }
        }
        Some(())
    }
}
