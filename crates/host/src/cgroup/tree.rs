//! The groups themselves: `kubepods`, `kubepods/burstable`, `kubepods/besteffort` and
//! `pod<uid>` below the one of its class (Guaranteed pods directly below `kubepods`).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use model::{PodUid, QosClass};

use super::CgroupError;
use super::kill::{children, kill_all, remove_tree};
use super::limits::{self, CgroupLimits, MIN_CPU_SHARES, write_knob};
use super::mounts::CgroupMounts;

const KUBEPODS: &str = "kubepods";
const POD_PREFIX: &str = "pod";
/// What the kubelet's own work needs of either version.
const REQUIRED: [&str; 3] = ["cpu", "memory", "pids"];
/// Of version 1 upstream's kubelet wants this too; kernels without it run version 2.
const REQUIRED_OF_V1: &str = "cpuset";

/// A pod's control group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodCgroup {
    /// Whose.
    pub uid: PodUid,
    /// Decides under which parent it is.
    pub qos: QosClass,
    /// What it is limited to.
    pub limits: CgroupLimits,
}

/// The node's pod groups below `cgroupRoot`. Holds no state but where things are.
#[derive(Clone, Debug)]
pub struct CgroupTree {
    mounts: CgroupMounts,
    /// `cgroupRoot` relative to the hierarchies' roots.
    root: PathBuf,
    page_sizes: Vec<u64>,
}

impl CgroupTree {
    /// A tree below `cgroup_root` (`/` by default), which must exist in every hierarchy.
    pub fn new(mounts: CgroupMounts, cgroup_root: &str) -> Result<Self, CgroupError> {
        let root = relative(cgroup_root)?;
        let of_version = (mounts.version() == 1).then_some(REQUIRED_OF_V1);
        for controller in REQUIRED.into_iter().chain(of_version) {
            let Some(dir) = mounts.root_of(controller) else {
                let path = mounts.roots().first().map(|p| p.to_path_buf()).unwrap_or_default();
                return Err(CgroupError::NoController { controller: controller.to_owned(), path });
            };
            let path = dir.join(&root);
            if !path.is_dir() {
                return Err(CgroupError::NoRoot { path });
            }
        }
        Ok(Self { mounts, root, page_sizes: crate::machine::huge_page_sizes() })
    }

    /// Makes `kubepods` and its QoS children, or adopts what is there. Limits are set by
    /// [`CgroupTree::set_node_limits`] and [`CgroupTree::set_burstable_shares`].
    pub fn ensure_node(&self) -> Result<(), CgroupError> {
        for name in [self.kubepods(), self.qos(QosClass::Burstable), self.qos(QosClass::BestEffort)] {
            self.create(&name)?;
        }
        let lowest = CgroupLimits { cpu_shares: Some(MIN_CPU_SHARES), ..CgroupLimits::default() };
        self.apply(&self.qos(QosClass::BestEffort), &lowest)?;
        self.reset_memory_protection()
    }

    /// Limits all pods together. Lowering memory below what pods use fails on version 1 until
    /// evictions have freed it; try again a minute later.
    pub fn set_node_limits(&self, limits: &CgroupLimits) -> Result<(), CgroupError> {
        self.apply(&self.kubepods(), limits)
    }

    /// Sets the weight of all Burstable pods together: the shares of the sum of their requests.
    pub fn set_burstable_shares(&self, shares: u64) -> Result<(), CgroupError> {
        let limits = CgroupLimits { cpu_shares: Some(shares), ..CgroupLimits::default() };
        self.apply(&self.qos(QosClass::Burstable), &limits)
    }

    /// Limits a group outside of `kubepods` that must exist already (`kubeReservedCgroup`,
    /// `systemReservedCgroup`).
    pub fn set_existing(&self, name: &str, limits: &CgroupLimits) -> Result<(), CgroupError> {
        let name = relative(name)?;
        for controller in REQUIRED {
            match self.mounts.root_of(controller).map(|root| root.join(&name)) {
                Some(path) if !path.is_dir() => return Err(CgroupError::NoRoot { path }),
                _ => {}
            }
        }
        self.apply(&name, limits)
    }

    /// The pod's group in the form CRI's `cgroup_parent` takes.
    pub fn pod_cgroup_parent(&self, uid: &PodUid, qos: QosClass) -> String {
        Path::new("/").join(self.qos(qos)).join(format!("{POD_PREFIX}{uid}")).to_string_lossy().into_owned()
    }

    /// Makes the pod's group in every hierarchy if it is not there, and sets its limits.
    pub fn ensure_pod(&self, pod: &PodCgroup) -> Result<(), CgroupError> {
        let name = self.pod(&pod.uid, pod.qos)?;
        self.create(&name)?;
        self.apply(&name, &pod.limits)
    }

    /// Kills what is left in the pod's group and removes it from every hierarchy. A group that is
    /// not there is fine.
    pub fn remove_pod(&self, uid: &PodUid, qos: QosClass) -> Result<(), CgroupError> {
        let name = self.pod(uid, qos)?;
        let dirs: Vec<PathBuf> =
            self.mounts.roots().iter().map(|root| root.join(&name)).filter(|dir| dir.exists()).collect();
        if dirs.is_empty() {
            return Ok(());
        }
        kill_all(&name, &dirs)?;
        dirs.iter().try_for_each(|dir| remove_tree(dir))
    }

    /// The pods that have a group in at least one hierarchy.
    pub fn pods(&self) -> Result<Vec<(PodUid, QosClass)>, CgroupError> {
        let mut found = BTreeMap::new();
        for root in self.mounts.roots() {
            for qos in [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort] {
                for dir in children(&root.join(self.qos(qos)))? {
                    let name = dir.file_name().and_then(|n| n.to_str()).unwrap_or_default();
                    if let Some(uid) = name.strip_prefix(POD_PREFIX).filter(|uid| !uid.is_empty()) {
                        found.insert((PodUid::from(uid), qos), ());
                    }
                }
            }
        }
        Ok(found.into_keys().collect())
    }

    /// The directory of a pod's group in the hierarchy of a controller, for reading usage.
    pub fn pod_dir(&self, uid: &PodUid, qos: QosClass, controller: &str) -> Option<PathBuf> {
        Some(self.mounts.root_of(controller)?.join(self.pod(uid, qos).ok()?))
    }

    /// The directory of `kubepods` in the hierarchy of a controller.
    pub fn kubepods_dir(&self, controller: &str) -> Option<PathBuf> {
        Some(self.mounts.root_of(controller)?.join(self.kubepods()))
    }

    /// Where the hierarchies are.
    pub fn mounts(&self) -> &CgroupMounts {
        &self.mounts
    }

    fn kubepods(&self) -> PathBuf {
        self.root.join(KUBEPODS)
    }

    fn qos(&self, qos: QosClass) -> PathBuf {
        match qos {
            QosClass::Guaranteed => self.kubepods(),
            QosClass::Burstable => self.kubepods().join("burstable"),
            QosClass::BestEffort => self.kubepods().join("besteffort"),
        }
    }

    fn pod(&self, uid: &PodUid, qos: QosClass) -> Result<PathBuf, CgroupError> {
        let uid = uid.as_str();
        if uid.is_empty() || uid.contains(['/', '\0']) {
            return Err(CgroupError::BadName { name: uid.to_owned() });
        }
        Ok(self.qos(qos).join(format!("{POD_PREFIX}{uid}")))
    }

    fn apply(&self, name: &Path, limits: &CgroupLimits) -> Result<(), CgroupError> {
        limits::apply(&self.mounts, name, limits, &self.page_sizes)
    }

    fn create(&self, name: &Path) -> Result<(), CgroupError> {
        match &self.mounts {
            CgroupMounts::V1 { hierarchies, .. } => {
                for hierarchy in hierarchies {
                    create_v1(&hierarchy.dir, name, hierarchy.has("cpuset"))?;
                }
                Ok(())
            }
            CgroupMounts::V2 { root, controllers } => create_v2(root, name, controllers),
        }
    }

    /// An earlier kubelet with the MemoryQoS feature may have left guarantees behind.
    fn reset_memory_protection(&self) -> Result<(), CgroupError> {
        if self.mounts.version() == 1 {
            return Ok(());
        }
        for (name, file) in [
            (self.kubepods(), "memory.min"),
            (self.kubepods(), "memory.low"),
            (self.qos(QosClass::Burstable), "memory.low"),
        ] {
            if let Some(root) = self.mounts.root_of("memory") {
                write_knob(&root.join(name).join(file), "0")?;
            }
        }
        Ok(())
    }
}

/// Cuts the leading slash off and refuses anything but plain names.
fn relative(name: &str) -> Result<PathBuf, CgroupError> {
    let path = Path::new(name.trim_start_matches('/'));
    if path.components().all(|c| matches!(c, Component::Normal(_))) {
        Ok(path.to_owned())
    } else {
        Err(CgroupError::BadName { name: name.to_owned() })
    }
}

fn create_v1(hierarchy: &Path, name: &Path, is_cpuset: bool) -> Result<(), CgroupError> {
    let mut dir = hierarchy.to_owned();
    for part in name.components() {
        let parent = dir.clone();
        dir.push(part);
        make_dir(&dir)?;
        if is_cpuset {
            // A version 1 cpuset starts empty, and no process can enter an empty one.
            inherit(&parent, &dir, "cpuset.cpus")?;
            inherit(&parent, &dir, "cpuset.mems")?;
        }
    }
    Ok(())
}

fn create_v2(root: &Path, name: &Path, controllers: &[String]) -> Result<(), CgroupError> {
    let mut dir = root.to_owned();
    enable(&dir, controllers)?;
    for part in name.components() {
        dir.push(part);
        make_dir(&dir)?;
        // Also at the last level: the runtime's container groups below need the controllers.
        enable(&dir, controllers)?;
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
        write_knob(&path, &inherited)?;
    }
    Ok(())
}
