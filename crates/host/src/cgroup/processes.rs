//! Groups for processes that are no pod's: the kubelet itself, and what the machine runs outside of any group.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::CgroupError;
use super::mounts::CgroupMounts;
use super::tree::create_around;

/// New processes may appear while others are moved; after so many rounds the next call goes on.
const ROUNDS: usize = 11;

/// A group in every hierarchy that processes are moved into. Groups that carry controllers for those below them cannot
/// hold processes in version 2, so this one is made without.
#[derive(Clone, Debug)]
pub struct ProcessGroup {
    mounts: CgroupMounts,
    /// Below the root.
    path: PathBuf,
    /// The same as the kernel tells it.
    name: String,
}

impl ProcessGroup {
    /// The group of that name, from the root of the hierarchies. It is made when it is needed.
    ///
    /// # Errors
    /// When that is no name of a group below the root.
    pub fn new(mounts: CgroupMounts, name: &str) -> Result<Self, CgroupError> {
        let bad = || CgroupError::BadName { name: name.to_owned() };
        let mut path = PathBuf::new();
        for part in Path::new(name).components() {
            match part {
                Component::RootDir | Component::CurDir => {}
                Component::Normal(part) => path.push(part),
                _ => return Err(bad()),
            }
        }
        if path.as_os_str().is_empty() {
            return Err(bad());
        }
        let name = format!("/{}", path.display());
        Ok(Self { mounts, path, name })
    }

    /// Its name, from the root of the hierarchies: `/system.slice/kubelet`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Moves a process into the group. One that has ended is fine.
    ///
    /// # Errors
    /// When the group cannot be made, or the kernel does not let the process in.
    pub fn enter(&self, pid: u32) -> Result<(), CgroupError> {
        create_around(&self.mounts, &self.path)?;
        let pid = pid.to_string();
        // The extra hierarchy of a hybrid system is others' business, and the group not in it.
        for dir in
            self.mounts.roots().into_iter().map(|root| root.join(&self.path)).filter(|dir| dir.exists())
        {
            let path = dir.join("cgroup.procs");
            match fs::write(&path, &pid) {
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
                    return Ok(());
                }
                Err(source) => return Err(CgroupError::Set { path, value: pid, source }),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Moves what is in the group `from` (`/` is the root) into this one, but for the first process and the kernel's
    /// own. How many were moved.
    ///
    /// # Errors
    /// When processes cannot be listed, or some of them cannot be moved; then all others have been.
    pub fn gather(&self, from: &str) -> Result<usize, CgroupError> {
        // In version 1, processes are looked up where every one of them is: a hierarchy of devices, as upstream's.
        let root = ["devices", "memory"].into_iter().find_map(|name| self.mounts.root_of(name));
        let Some(root) = root.or_else(|| self.mounts.roots().first().copied()) else {
            return Err(CgroupError::NotMounted);
        };
        let dir = root.join(from.trim_start_matches('/'));
        let mut moved = 0;
        let mut failed = None;
        for _ in 0..ROUNDS {
            let pids = movable(&dir)?;
            if pids.is_empty() {
                return Ok(moved);
            }
            failed = None;
            for pid in pids {
                match self.enter(pid) {
                    Ok(()) => moved += 1,
                    Err(error) => failed = Some(error),
                }
            }
        }
        failed.map_or(Ok(moved), Err)
    }
}

/// The processes of a group that may be moved.
fn movable(dir: &Path) -> Result<Vec<u32>, CgroupError> {
    let listed = fs::read_to_string(dir.join("cgroup.procs"))
        .map_err(|source| CgroupError::List { path: dir.to_owned(), source })?;
    let pids = listed.lines().filter_map(|line| line.parse().ok());
    // 0 stands for processes of an outer pid namespace, which are out of reach.
    Ok(pids.filter(|pid| *pid > 1 && !is_kernels(*pid)).collect())
}

/// Threads of the kernel have no program. Neither have processes that just end.
fn is_kernels(pid: u32) -> bool {
    let program = fs::read_link(format!("/proc/{pid}/exe"));
    program.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}
