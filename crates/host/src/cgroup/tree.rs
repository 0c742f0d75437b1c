//! The groups themselves: `kubepods`, its QoS children and a group for each pod below the one of its class (Guaranteed
//! pods directly below `kubepods`).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use model::{CgroupObservation, PodUid, QosClass};

use super::CgroupError;
use super::kill::{children, kill_all, remove_tree};
use super::limits::{self, CgroupLimits, write_interface_file};
use super::mounts::CgroupMounts;
use super::names::{CgroupDriver, Group, Names, Slice};
use super::stats::GroupReader;

/// What the kubelet's own work needs of either version.
const REQUIRED: [&str; 3] = ["cpu", "memory", "pids"];
/// What the kubelet uses where the kernel has it.
const USED: [&str; 5] = ["cpu", "cpuset", "memory", "hugetlb", "pids"];
/// Of version 1 upstream's kubelet wants this too; kernels without it run version 2.
const REQUIRED_OF_V1: &str = "cpuset";

/// The node's pod groups below `cgroupRoot`. Holds no state but where things are.
///
/// With the systemd driver a group is systemd's: whoever uses this has its [slice](CgroupTree::slice) started before
/// [`CgroupTree::ensure`] and stopped before [`CgroupTree::remove_pod`]. What is done here then completes what systemd
/// leaves out: controllers it does not know, and limits it cannot express.
#[derive(Clone, Debug)]
pub struct CgroupTree {
    mounts: CgroupMounts,
    names: Names,
    page_sizes: Vec<u64>,
}

impl CgroupTree {
    /// A tree below `cgroup_root` (`/` by default), which must exist in every hierarchy.
    pub fn new(mounts: CgroupMounts, driver: CgroupDriver, cgroup_root: &str) -> Result<Self, CgroupError> {
        let names = Names::new(driver, cgroup_root)?;
        let of_version = (mounts.version() == 1).then_some(REQUIRED_OF_V1);
        for controller in REQUIRED.into_iter().chain(of_version) {
            let Some(dir) = mounts.root_of(controller) else {
                let path = mounts.roots().first().map(|p| p.to_path_buf()).unwrap_or_default();
                return Err(CgroupError::NoController { controller: controller.to_owned(), path });
            };
            let path = dir.join(names.root());
            if !path.is_dir() {
                return Err(CgroupError::NoRoot { path });
            }
        }
        Ok(Self { mounts, names, page_sizes: crate::machine::huge_page_sizes() })
    }

    /// Makes the group in every hierarchy if it is not there, and sets its limits.
    pub fn ensure(&self, group: &Group, limits: &CgroupLimits) -> Result<(), CgroupError> {
        let name = self.names.path(group)?;
        self.create(&name)?;
        self.apply(&name, limits)
    }

    /// Limits a group that must be there already. Lowering memory below what is in use fails on version 1 until
    /// evictions have freed it; try again a minute later.
    pub fn set(&self, group: &Group, limits: &CgroupLimits) -> Result<(), CgroupError> {
        let name = self.names.path(group)?;
        for controller in REQUIRED {
            match self.mounts.root_of(controller).map(|root| root.join(&name)) {
                Some(path) if !path.is_dir() => return Err(CgroupError::NoRoot { path }),
                _ => {}
            }
        }
        self.apply(&name, limits)
    }

    /// Whether the group is there in every hierarchy and has these limits, so that nothing is left to do.
    pub fn holds(&self, group: &Group, limits: &CgroupLimits) -> bool {
        let Ok(name) = self.names.path(group) else { return false };
        let is_there = match &self.mounts {
            CgroupMounts::V1 { hierarchies, .. } => hierarchies.iter().all(|h| h.dir.join(&name).is_dir()),
            CgroupMounts::V2 { root, controllers } => {
                let enabled = fs::read_to_string(root.join(&name).join("cgroup.controllers"));
                let needed = controllers.iter().filter(|c| USED.contains(&c.as_str()));
                enabled.is_ok_and(|list| {
                    needed.into_iter().all(|c| list.split_whitespace().any(|enabled| enabled == c))
                })
            }
        };
        is_there && limits::are_applied(&self.mounts, &name, &self.spelled(limits), &self.page_sizes)
    }

    /// The unit that stands for a group; `None` unless systemd makes groups.
    pub fn slice(&self, group: &Group) -> Result<Option<Slice>, CgroupError> {
        self.names.slice(group)
    }

    /// The pod's group in the form CRI's `cgroup_parent` takes: a path, from which a runtime that works with systemd
    /// takes the last name.
    pub fn pod_cgroup_parent(&self, uid: &PodUid, qos: QosClass) -> Result<String, CgroupError> {
        let name = self.names.path(&Group::Pod { uid: uid.clone(), qos })?;
        Ok(Path::new("/").join(name).to_string_lossy().into_owned())
    }

    /// Whether the pod's group is there in any hierarchy.
    pub fn has_pod(&self, uid: &PodUid, qos: QosClass) -> Result<bool, CgroupError> {
        let name = self.names.path(&Group::Pod { uid: uid.clone(), qos })?;
        Ok(!self.dirs(&name).is_empty())
    }

    /// Kills what is left in the pod's group.
    pub fn kill_pod(&self, uid: &PodUid, qos: QosClass) -> Result<(), CgroupError> {
        let name = self.names.path(&Group::Pod { uid: uid.clone(), qos })?;
        kill_all(&name, &self.dirs(&name))
    }

    /// Kills what is left in the pod's group and removes it from every hierarchy. A group that is
    /// not there is fine.
    pub fn remove_pod(&self, uid: &PodUid, qos: QosClass) -> Result<(), CgroupError> {
        let name = self.names.path(&Group::Pod { uid: uid.clone(), qos })?;
        let dirs = self.dirs(&name);
        kill_all(&name, &dirs)?;
        dirs.iter().try_for_each(|dir| remove_tree(dir))
    }

    /// The pods that have a group in at least one hierarchy.
    pub fn pods(&self) -> Result<Vec<(PodUid, QosClass)>, CgroupError> {
        let mut found = BTreeMap::new();
        for root in self.mounts.roots() {
            for qos in [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort] {
                for dir in children(&root.join(self.names.path(&Group::Class(qos))?))? {
                    let name = dir.file_name().and_then(|n| n.to_str()).unwrap_or_default();
                    if let Some(uid) = self.names.pod_of(qos, name) {
                        found.insert((uid, qos), ());
                    }
                }
            }
        }
        Ok(found.into_keys().collect())
    }

    /// The directory of a pod's group in the hierarchy of a controller, for reading usage.
    pub fn pod_dir(&self, uid: &PodUid, qos: QosClass, controller: &str) -> Option<PathBuf> {
        self.dir(&Group::Pod { uid: uid.clone(), qos }, controller)
    }

    /// The directory of `kubepods` in the hierarchy of a controller.
    pub fn kubepods_dir(&self, controller: &str) -> Option<PathBuf> {
        self.dir(&Group::Kubepods, controller)
    }

    /// What a group is limited to, as the kernel has it. Of memory it is the number in the file: without a limit version 1 has
    /// the largest one there is, which upstream shows as any other.
    pub fn observe(&self, group: &Group) -> Result<CgroupObservation, CgroupError> {
        let name = self.names.path(group)?;
        let name = name.to_str().unwrap_or_default();
        let mut reader = GroupReader::new(&self.mounts);
        let cpu = reader.cpu_limits(name).unwrap_or_default();
        let period = cpu.period_micros.filter(|period| *period > 0);
        // Version 1 writes -1 for no quota, which is no number here.
        let quota = cpu.quota_micros.filter(|quota| *quota < u64::MAX / 1000);
        let cpu_limit_millis = quota.zip(period).map(|(quota, period)| quota * 1000 / period);
        Ok(CgroupObservation {
            cpu_shares: cpu.shares,
            cpu_limit_millis: cpu_limit_millis.filter(|millis| *millis > 0),
            memory_limit_bytes: reader.written_memory_limit(name).filter(|bytes| *bytes > 0),
        })
    }

    /// Bytes of memory that a group has in use.
    pub fn memory_usage(&self, group: &Group) -> Result<u64, CgroupError> {
        let file = match self.mounts.version() {
            1 => "memory.usage_in_bytes",
            _ => "memory.current",
        };
        let path = self.dir(group, "memory").unwrap_or_default().join(file);
        crate::text::read_number(&path).map_err(CgroupError::Facts)
    }

    /// Where the hierarchies are.
    pub fn mounts(&self) -> &CgroupMounts {
        &self.mounts
    }

    /// Who makes the groups.
    pub fn driver(&self) -> CgroupDriver {
        self.names.driver()
    }

    fn dir(&self, group: &Group, controller: &str) -> Option<PathBuf> {
        Some(self.mounts.root_of(controller)?.join(self.names.path(group).ok()?))
    }

    /// A group's directories in the hierarchies in which it is.
    fn dirs(&self, name: &Path) -> Vec<PathBuf> {
        self.mounts.roots().iter().map(|root| root.join(name)).filter(|dir| dir.exists()).collect()
    }

    fn apply(&self, name: &Path, limits: &CgroupLimits) -> Result<(), CgroupError> {
        limits::apply(&self.mounts, name, &self.spelled(limits), &self.page_sizes)
    }

    fn spelled(&self, limits: &CgroupLimits) -> CgroupLimits {
        match self.names.driver() {
            CgroupDriver::Cgroupfs => limits.clone(),
            CgroupDriver::Systemd => limits.rounded_for_systemd(),
        }
    }

    fn create(&self, name: &Path) -> Result<(), CgroupError> {
        create_around(&self.mounts, name)?;
        match &self.mounts {
            // The runtime's container groups below need the controllers.
            CgroupMounts::V2 { root, controllers } => enable(&root.join(name), controllers),
            CgroupMounts::V1 { .. } => Ok(()),
        }
    }
}

/// Makes a group in every hierarchy, with controllers for itself and none for those below it.
pub(super) fn create_around(mounts: &CgroupMounts, name: &Path) -> Result<(), CgroupError> {
    match mounts {
        CgroupMounts::V1 { hierarchies, .. } => {
            for hierarchy in hierarchies {
                create_v1(&hierarchy.dir, name, hierarchy.has("cpuset"))?;
            }
            Ok(())
        }
        CgroupMounts::V2 { root, controllers } => create_v2(root, name, controllers),
    }
}

fn create_v1(hierarchy: &Path, name: &Path, is_cpuset: bool) -> Result<(), CgroupError> {
    if !is_cpuset {
        let path = hierarchy.join(name);
        // The parents are nearly always there, and each try to make one is a system call.
        return fs::create_dir_all(&path).map_err(|source| CgroupError::Create { path, source });
    }
    let mut dir = hierarchy.to_owned();
    for part in name.components() {
        let parent = dir.clone();
        dir.push(part);
        make_dir(&dir)?;
        // A version 1 cpuset starts empty, and no process can enter an empty one.
        inherit(&parent, &dir, "cpuset.cpus")?;
        inherit(&parent, &dir, "cpuset.mems")?;
    }
    Ok(())
}

fn create_v2(root: &Path, name: &Path, controllers: &[String]) -> Result<(), CgroupError> {
    let mut dir = root.to_owned();
    for part in name.components() {
        enable(&dir, controllers)?;
        dir.push(part);
        make_dir(&dir)?;
    }
    Ok(())
}

/// Passes controllers on to the groups below. One at a time, since one that cannot be passed on
/// would spoil the others; only those we need are worth an error.
fn enable(dir: &Path, controllers: &[String]) -> Result<(), CgroupError> {
    let path = dir.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&path).unwrap_or_default();
    for controller in controllers {
        if enabled.split_whitespace().any(|c| c == controller) {
            continue;
        }
        let value = format!("+{controller}");
        match fs::write(&path, &value) {
            Err(source) if REQUIRED.contains(&controller.as_str()) => {
                return Err(CgroupError::Set { path, value, source });
            }
            _ => {}
        }
    }
    Ok(())
}

fn make_dir(dir: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(dir) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(CgroupError::Create { path: dir.to_owned(), source })
        }
        _ => Ok(()),
    }
}

fn inherit(parent: &Path, dir: &Path, file: &str) -> Result<(), CgroupError> {
    let read = |path: PathBuf| fs::read_to_string(&path).map(|t| t.trim().to_owned());
    let path = dir.join(file);
    if read(path.clone()).is_ok_and(|own| own.is_empty()) {
        let inherited = read(parent.join(file)).unwrap_or_default();
        write_interface_file(&path, &inherited)?;
    }
    Ok(())
}
