//! Pipes that are full and that nobody will read any more, without their writer being told.
//!
//! A writer learns that its reader has gone when nobody has the reading end open any more. containerd's shim keeps its
//! own copy of the end that it gave to a program as its input. When that program ends with input unread, the shim waits
//! for room in the pipe for ever, the runtime waits for the shim, and nobody hears how the program ended. Whatever is in
//! such a pipe is lost already: to read it away does what closing the shim's copy would have done.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

const PROC: &str = "/proc";
/// Room for one read, bytes; as much as fits into a pipe.
const PIECE: usize = 64 * 1024;
/// How many of them are read from one pipe at most. What waits behind a full pipe are the buffers of a shim and a runtime,
/// some 100 KiB; whoever sends for ever is stopped here.
const PIECES: usize = 16;
/// How long the writer may take to go on once it has room.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// A full pipe of which one process has both ends open, and nobody else has any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrphanedPipe {
    /// What the kernel calls it, `pipe:[…]`.
    name: PathBuf,
    /// Where its holder has the reading end.
    end: PathBuf,
}

/// Those of the processes that started what runs in a container, which is known by its id in the names of cgroups. None
/// where nothing can be seen.
///
/// An end may be on its way from one process to another while this looks: only a pipe that is found twice, with some
/// time between, is one for sure.
pub fn orphaned_pipes(container: &str) -> Vec<OrphanedPipe> {
    parents(Path::new(PROC), container).into_iter().flat_map(held_by).collect()
}

/// Those a process holds.
pub fn held_by(process: u32) -> Vec<OrphanedPipe> {
    let folder = Path::new(PROC).join(process.to_string());
    let mut found: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    let (mut readers, mut writers) = (BTreeMap::new(), BTreeMap::new());
    for (name, end) in pipes(&folder) {
        // The link's mode tells what its descriptor is open for.
        let Ok(mode) = fs::symlink_metadata(&end).map(|meta| meta.mode()) else { continue };
        let ends = if mode & 0o200 == 0 { &mut readers } else { &mut writers };
        ends.insert(name, end);
    }
    for (name, end) in readers {
        if writers.get(&name).is_some_and(|writer| is_full(writer)) {
            found.insert(name, end);
        }
    }
    if found.is_empty() {
        return Vec::new();
    }
    for other in processes(Path::new(PROC)).into_iter().filter(|other| *other != folder) {
        for (name, _) in pipes(&other) {
            found.remove(&name);
        }
    }
    found.into_iter().map(|(name, end)| OrphanedPipe { name, end }).collect()
}

impl OrphanedPipe {
    /// Reads away what is in it, and what its writer adds as long as that goes on. Returns how many bytes it was.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn drain(&self) -> io::Result<u64> {
        let mut file = open(&self.end, OpenOptions::new().read(true))?;
        // The number may mean something else by now.
        if fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))? != self.name {
            return Ok(0);
        }
        let mut piece = vec![0; PIECE];
        let mut drained = 0;
        for _ in 0..PIECES {
            poll(&mut [PollFd::new(&file, PollFlags::IN)], Some(&PAUSE))?;
            match file.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => drained += read as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(drained)
    }
}

fn open(end: &Path, how: &mut OpenOptions) -> io::Result<File> {
    how.custom_flags(libc::O_NONBLOCK).open(end)
}

fn is_full(end: &Path) -> bool {
    let Ok(file) = open(end, OpenOptions::new().write(true)) else { return false };
    let mut polled = [PollFd::new(&file, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok() && !polled[0].revents().contains(PollFlags::OUT)
}

/// The pipes a process has open: their names and the links to them.
fn pipes(process: &Path) -> Vec<(PathBuf, PathBuf)> {
    // A process that has ended has none.
    let Ok(entries) = fs::read_dir(process.join("fd")) else { return Vec::new() };
    let links = entries.flatten().filter_map(|entry| Some((fs::read_link(entry.path()).ok()?, entry.path())));
    links.filter(|(name, _)| name.as_os_str().as_encoded_bytes().starts_with(b"pipe:[")).collect()
}

fn processes(proc: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(proc) else { return Vec::new() };
    let is_number = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit))
    };
    entries.flatten().map(|entry| entry.path()).filter(is_number).collect()
}

/// The processes outside a container that have children in it.
fn parents(proc: &Path, container: &str) -> BTreeSet<u32> {
    let is_inside = |process: &Path| {
        fs::read_to_string(process.join("cgroup")).is_ok_and(|text| is_in_container(&text, container))
    };
    let parent = |process: PathBuf| {
        let status = fs::read_to_string(process.join("status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse::<u32>().ok()
    };
    let inside = processes(proc).into_iter().filter(|process| is_inside(process));
    // Orphans are children of the machine's first process, which writes to nobody's input.
    let parents = inside.filter_map(parent).filter(|parent| *parent > 1);
    parents.filter(|parent| !is_inside(&proc.join(parent.to_string()))).collect()
}

/// Runtimes name a container's cgroup by its id, or, with systemd, `cri-containerd-<id>.scope`.
fn is_in_container(cgroups: &str, container: &str) -> bool {
    let is_its = |name: &str| {
        let name = name.strip_suffix(".scope").unwrap_or(name);
        name.strip_suffix(container).is_some_and(|before| before.is_empty() || before.ends_with('-'))
    };
    !container.is_empty() && cgroups.lines().flat_map(|line| line.split('/').skip(1)).any(is_its)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_started_a_container_is_outside_of_it() {
        let proc = tempfile::tempdir().unwrap();
        for (process, cgroup, parent) in [
            ("1", "0::/init.scope", 0),
            ("10", "0::/system.slice/containerd.service", 1),
            ("20", "12:pids:/kubepods/pod1/aaaa\n0::/", 10),
            ("21", "12:pids:/kubepods/pod1/aaaa\n0::/", 20),
            ("22", "0::/kubepods.slice/cri-containerd-aaaa.scope/below", 1),
            ("30", "12:pids:/kubepods/pod1/bbbb", 11),
            ("31", "12:pids:/kubepods/pod1/bbbbaaaa\n0::/aaaab", 12),
            ("uptime", "0::/aaaa", 99),
        ] {
            let folder = proc.path().join(process);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("cgroup"), cgroup).unwrap();
            fs::write(folder.join("status"), format!("Name:\tx\nPPid:\t{parent}\nTracerPid:\t7\n")).unwrap();
        }
        for (cgroup, want) in [("aaaa", vec![10]), ("bbbb", vec![11]), ("cccc", vec![]), ("", vec![])] {
            assert_eq!(parents(proc.path(), cgroup), want.into_iter().collect(), "{cgroup}");
        }
        assert_eq!(parents(Path::new("/nowhere"), "aaaa"), BTreeSet::new());
    }
}
