//! Control groups: `kubepods`, its QoS children and one group a pod, in version 1 (also hybrid) and version 2
//! hierarchies alike, named as the cgroupfs or the systemd driver names them.
//!
//! [`CgroupMounts`] knows where hierarchies are, [`Group`] says which group is meant, [`CgroupTree`] makes and removes
//! groups in all hierarchies, [`CgroupLimits`] turns resources into the kernel's numbers, and [`stats`] reads what groups
//! use. [`ProcessGroup`] is for processes that are no pod's. Nobody here talks to systemd: its units are the business of the crate `systemd`.

mod kill;
mod limits;
mod mounts;
mod names;
mod processes;
pub mod stats;
mod tree;

use std::io;
use std::path::PathBuf;

pub use limits::{
    CgroupLimits, DEFAULT_CPU_PERIOD_US, HugePageLimit, PodAmounts, PodCgroupPolicy, cpu_quota_us,
    huge_page_name,
};
pub use model::cpu::cpu_weight;
pub use mounts::{CgroupMounts, V1Hierarchy};
pub use names::{CgroupDriver, Group, Slice};
pub use processes::ProcessGroup;
pub use tree::CgroupTree;

use crate::text::FileError;

/// Why an operation on control groups failed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No cgroup file system is mounted.
    #[error("no cgroup hierarchy is mounted")]
    NotMounted,
    /// The mount table or the list of controllers could not be read.
    #[error("look for cgroup hierarchies")]
    Facts(#[source] FileError),
    /// A controller the kubelet cannot do without is not there.
    #[error("cgroup controller {controller} is not available below {}", path.display())]
    NoController {
        /// Its name.
        controller: String,
        /// Where it was wanted.
        path: PathBuf,
    },
    /// `cgroupRoot` names a group that does not exist.
    #[error("cgroup root {} does not exist", path.display())]
    NoRoot {
        /// The path looked for.
        path: PathBuf,
    },
    /// A name from outside cannot be that of a group.
    #[error("{name:?} cannot be part of a cgroup name")]
    BadName {
        /// The name.
        name: String,
    },
    /// A group could not be made.
    #[error("create cgroup {}", path.display())]
    Create {
        /// Its directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel did not take a value.
    #[error("write {value:?} to {}", path.display())]
    Set {
        /// The file.
        path: PathBuf,
        /// The value.
        value: String,
        /// Why.
        source: io::Error,
    },
    /// A group could not be listed.
    #[error("list cgroup {}", path.display())]
    List {
        /// Its directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Processes in a group did not die in time.
    #[error("{count} processes in cgroup {} survive SIGKILL", path.display())]
    Unkillable {
        /// The group, relative to the hierarchies' roots.
        path: PathBuf,
        /// How many.
        count: usize,
    },
    /// A group could not be removed.
    #[error("remove cgroup {}", path.display())]
    Remove {
        /// Its directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests;
