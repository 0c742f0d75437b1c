//! Where the kernel's cgroup hierarchies are mounted: one for all controllers (version 2) or one
//! for each (version 1, also in the hybrid form with an extra, empty version 2 mount).

use std::path::{Path, PathBuf};

use super::CgroupError;
use crate::mount::{self, MountEntry};
use crate::text;

const ROOT: &str = "/sys/fs/cgroup";

/// The cgroup version in force and its mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CgroupMounts {
    /// One hierarchy for each controller or group of controllers.
    V1 {
        /// The mounts, `name=` hierarchies included.
        hierarchies: Vec<V1Hierarchy>,
        /// The additional version 2 mount of a hybrid system. It has no controllers, but runtimes
        /// may have made groups in it.
        unified: Option<PathBuf>,
    },
    /// The unified hierarchy.
    V2 {
        /// Its mount point.
        root: PathBuf,
        /// The controllers available at the mount point.
        controllers: Vec<String>,
    },
}

/// One version 1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct V1Hierarchy {
    /// Mount point.
    pub dir: PathBuf,
    /// Its controllers (`cpu`, `cpuacct`), or `name=…` for one without.
    pub controllers: Vec<String>,
}

impl V1Hierarchy {
    /// Whether this hierarchy carries that controller.
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }
}

impl CgroupMounts {
    /// Looks at the mount table.
    pub fn detect() -> Result<Self, CgroupError> {
        let table = mount::mounts().map_err(CgroupError::Facts)?;
        let mounts = Self::from_table(&table).ok_or(CgroupError::NotMounted)?;
        let Self::V2 { root, .. } = mounts else { return Ok(mounts) };
        let available = text::read(root.join("cgroup.controllers")).map_err(CgroupError::Facts)?;
        let controllers = available.split_whitespace().map(str::to_owned).collect();
        Ok(Self::V2 { root, controllers })
    }

    /// 1 or 2.
    pub fn version(&self) -> u8 {
        match self {
            Self::V1 { .. } => 1,
            Self::V2 { .. } => 2,
        }
    }

    /// The mount points, each once.
    pub fn roots(&self) -> Vec<&Path> {
        match self {
            Self::V1 { hierarchies, unified } => {
                hierarchies.iter().map(|h| h.dir.as_path()).chain(unified.as_deref()).collect()
            }
            Self::V2 { root, .. } => vec![root],
        }
    }

    /// The directory under which a controller's files are found.
    pub fn root_of(&self, controller: &str) -> Option<&Path> {
        match self {
            Self::V1 { hierarchies, .. } => {
                hierarchies.iter().find(|h| h.has(controller)).map(|h| h.dir.as_path())
            }
            Self::V2 { root, controllers } => controllers.iter().any(|c| c == controller).then_some(root),
        }
    }

    /// Whether groups can be kept from swapping, which kernels can be built or started without.
    pub fn can_limit_swap(&self) -> bool {
        match self {
            Self::V1 { .. } => {
                self.root_of("memory").is_some_and(|root| root.join("memory.memsw.limit_in_bytes").exists())
            }
            // The root group has no limits: only our own can tell.
            Self::V2 { root, .. } => text::read("/proc/self/cgroup")
                .ok()
                .and_then(|table| own_group(&table).map(|group| root.join(group).join("memory.swap.max")))
                .is_some_and(|file| file.exists()),
        }
    }

    fn from_table(table: &[MountEntry]) -> Option<Self> {
        if table.iter().any(|m| m.fs_type == "cgroup2" && m.mount_point == Path::new(ROOT)) {
            return Some(Self::V2 { root: PathBuf::from(ROOT), controllers: Vec::new() });
        }
        let mut hierarchies: Vec<V1Hierarchy> = Vec::new();
        for entry in table.iter().filter(|m| m.fs_type == "cgroup") {
            let controllers = controllers(&entry.super_options);
            // A hierarchy may be mounted in several places (bind mounts into chroots); the
            // first, normally the one below /sys/fs/cgroup, is as good as any.
            if !controllers.is_empty() && !hierarchies.iter().any(|h| h.controllers == controllers) {
                hierarchies.push(V1Hierarchy { dir: entry.mount_point.clone(), controllers });
            }
        }
        let unified = table.iter().find(|m| m.fs_type == "cgroup2").map(|m| m.mount_point.clone());
        match (hierarchies.is_empty(), unified) {
            (false, unified) => Some(Self::V1 { hierarchies, unified }),
            (true, Some(root)) => Some(Self::V2 { root, controllers: Vec::new() }),
            (true, None) => None,
        }
    }
}

/// This process' group in the unified hierarchy, relative to its root.
fn own_group(table: &str) -> Option<&str> {
    table.lines().find_map(|line| line.strip_prefix("0::/"))
}

fn controllers(super_options: &str) -> Vec<String> {
    let is_option = |o: &&str| {
        matches!(*o, "rw" | "ro" | "xattr" | "clone_children" | "noprefix" | "cpuset_v2_mode")
            || o.starts_with("release_agent=")
    };
    super_options.split(',').filter(|o| !o.is_empty() && !is_option(o)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(mount_point: &str, fs_type: &str, super_options: &str) -> MountEntry {
        MountEntry {
            device: String::new(),
            mount_point: mount_point.into(),
            root: "/".into(),
            fs_type: fs_type.to_owned(),
            source: fs_type.to_owned(),
            options: "rw".to_owned(),
            super_options: super_options.to_owned(),
            is_shared: false,
        }
    }

    #[test]
    fn finds_the_own_group() {
        assert_eq!(own_group("0::/system.slice/kubelet.service\n"), Some("system.slice/kubelet.service"));
        assert_eq!(own_group("0::/\n"), Some(""));
        assert_eq!(own_group("3:memory:/a\n"), None);
    }

    #[test]
    fn tells_the_versions_apart() {
        let hybrid = [
            entry("/sys/fs/cgroup", "tmpfs", "rw"),
            entry("/sys/fs/cgroup/cpu,cpuacct", "cgroup", "rw,cpu,cpuacct"),
            entry("/sys/fs/cgroup/systemd", "cgroup", "rw,xattr,release_agent=/x,name=systemd"),
            entry("/chroot/cpu", "cgroup", "rw,cpu,cpuacct"),
            entry("/sys/fs/cgroup/unified", "cgroup2", "rw"),
        ];
        let mounts = CgroupMounts::from_table(&hybrid).unwrap();
        assert_eq!(mounts.version(), 1);
        assert_eq!(mounts.root_of("cpuacct"), Some(Path::new("/sys/fs/cgroup/cpu,cpuacct")));
        assert_eq!(mounts.root_of("memory"), None);
        assert_eq!(mounts.roots().len(), 3);

        let v2 = [entry("/sys/fs/cgroup", "cgroup2", "rw,nsdelegate"), entry("/x", "cgroup", "rw,name=old")];
        assert_eq!(CgroupMounts::from_table(&v2).unwrap().version(), 2);
        assert_eq!(CgroupMounts::from_table(&[entry("/", "ext4", "rw")]), None);
    }
}
