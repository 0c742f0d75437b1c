//! On real hierarchies, whichever version this machine has, below a group made for the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use model::{PodUid, QosClass};

use super::*;

/// A group of the test's own in every hierarchy, removed at the end.
struct Playground {
    mounts: CgroupMounts,
    name: String,
}

impl Playground {
    fn new(test: &str) -> Self {
        let mounts = CgroupMounts::detect().unwrap();
        let name = format!("ferrolet-test-{test}-{}", std::process::id());
        for root in mounts.roots() {
            fs::create_dir(root.join(&name)).unwrap();
        }
        if let CgroupMounts::V1 { .. } = &mounts {
            let root = mounts.root_of("cpuset").unwrap();
            for file in ["cpuset.cpus", "cpuset.mems"] {
                fs::write(root.join(&name).join(file), fs::read(root.join(file)).unwrap()).unwrap();
            }
        }
        Self { mounts, name }
    }

    fn tree(&self) -> CgroupTree {
        let driver = CgroupDriver::Cgroupfs;
        let tree = CgroupTree::new(self.mounts.clone(), driver, &format!("/{}", self.name)).unwrap();
        for class in [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort] {
            tree.ensure(&Group::Class(class), &CgroupLimits::default()).unwrap();
        }
        tree
    }

    fn interface_file(&self, controller: &str, below: &str, v1: &str, v2: &str) -> String {
        let file = if self.mounts.version() == 1 { v1 } else { v2 };
        let path = self.mounts.root_of(controller).unwrap().join(&self.name).join(below).join(file);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim().to_owned()
    }
}

impl Drop for Playground {
    fn drop(&mut self) {
        // After a failure something may still live in there.
        let dirs: Vec<PathBuf> = self.mounts.roots().iter().map(|root| root.join(&self.name)).collect();
        kill::kill_all(Path::new(&self.name), &dirs).ok();
        for root in self.mounts.roots() {
            kill::remove_tree(&root.join(&self.name)).ok();
        }
    }
}

fn sleeper(dirs: &[PathBuf]) -> Child {
    let child = Command::new("sleep")
        .arg("1000")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    for dir in dirs {
        fs::write(dir.join("cgroup.procs"), child.id().to_string()).unwrap();
    }
    child
}

fn group(uid: &str, qos: QosClass) -> Group {
    Group::Pod { uid: PodUid::from(uid), qos }
}

fn pod_limits() -> CgroupLimits {
    CgroupLimits {
        cpu_shares: Some(512),
        cpu_quota_us: Some(50_000),
        cpu_period_us: Some(100_000),
        memory_limit_bytes: Some(64 << 20),
        pids_max: Some(77),
        hugetlb: Some(vec![]),
        ..CgroupLimits::default()
    }
}

fn shares(shares: u64) -> CgroupLimits {
    CgroupLimits { cpu_shares: Some(shares), ..CgroupLimits::default() }
}

#[test]
fn node_and_pod_groups_come_and_go() {
    let ground = Playground::new("life");
    let tree = ground.tree();
    let node = CgroupLimits {
        cpu_shares: Some(2048),
        memory_limit_bytes: Some(1 << 30),
        pids_max: Some(1000),
        ..CgroupLimits::default()
    };
    assert!(!tree.holds(&Group::Kubepods, &node));
    tree.ensure(&Group::Kubepods, &node).unwrap();
    assert!(tree.holds(&Group::Kubepods, &node));
    tree.ensure(&Group::Class(QosClass::BestEffort), &shares(2)).unwrap();
    tree.set(&Group::Class(QosClass::Burstable), &shares(300)).unwrap();
    assert_eq!(
        ground.interface_file("memory", "kubepods", "memory.limit_in_bytes", "memory.max"),
        "1073741824"
    );
    assert_eq!(ground.interface_file("pids", "kubepods", "pids.max", "pids.max"), "1000");
    let weight = if ground.mounts.version() == 1 { ["2", "300"] } else { ["1", "12"] };
    assert_eq!(ground.interface_file("cpu", "kubepods/besteffort", "cpu.shares", "cpu.weight"), weight[0]);
    assert_eq!(ground.interface_file("cpu", "kubepods/burstable", "cpu.shares", "cpu.weight"), weight[1]);

    let (a, b) = (PodUid::from("aaaa-1"), PodUid::from("bbbb-2"));
    let (group_a, group_b) = (group("aaaa-1", QosClass::Guaranteed), group("bbbb-2", QosClass::BestEffort));
    assert!(!tree.holds(&group_a, &pod_limits()));
    tree.ensure(&group_a, &pod_limits()).unwrap();
    tree.ensure(&group_a, &pod_limits()).unwrap();
    assert!(tree.holds(&group_a, &pod_limits()));
    assert!(!tree.holds(&group_a, &CgroupLimits { cpu_quota_us: Some(60_000), ..pod_limits() }));
    tree.ensure(&group_b, &pod_limits()).unwrap();
    assert_eq!(
        ground.interface_file("memory", "kubepods/podaaaa-1", "memory.limit_in_bytes", "memory.max"),
        "67108864"
    );
    assert_eq!(ground.interface_file("pids", "kubepods/podaaaa-1", "pids.max", "pids.max"), "77");
    if ground.mounts.version() == 1 {
        assert_eq!(ground.interface_file("cpu", "kubepods/podaaaa-1", "cpu.cfs_quota_us", ""), "50000");
        assert!(!ground.interface_file("cpuset", "kubepods/podaaaa-1", "cpuset.cpus", "").is_empty());
    } else {
        assert_eq!(ground.interface_file("cpu", "kubepods/podaaaa-1", "", "cpu.max"), "50000 100000");
    }
    assert_eq!(
        tree.pod_cgroup_parent(&b, QosClass::BestEffort).unwrap(),
        format!("/{}/kubepods/besteffort/podbbbb-2", ground.name)
    );
    let both = [(a.clone(), QosClass::Guaranteed), (b.clone(), QosClass::BestEffort)];
    assert_eq!(tree.pods().unwrap(), both);

    tree.remove_pod(&a, QosClass::Guaranteed).unwrap();
    tree.remove_pod(&a, QosClass::Guaranteed).unwrap();
    assert_eq!(tree.pods().unwrap(), both[1..]);
    assert!(tree.has_pod(&b, QosClass::BestEffort).unwrap());
    tree.remove_pod(&b, QosClass::BestEffort).unwrap();
    assert!(!tree.has_pod(&b, QosClass::BestEffort).unwrap());
    assert!(tree.pods().unwrap().is_empty());
    assert!(matches!(tree.set(&group_a, &pod_limits()), Err(CgroupError::NoRoot { .. })));
}

/// Where systemd made the folders, the rest is done in them: here the test makes them.
#[test]
fn limits_are_completed_in_the_folders_of_slices() {
    let ground = Playground::new("slices");
    // A plain name is a slice's stem, so that the test's own group has to look like one.
    let root = format!("{}.slice", ground.name.replace('-', "_"));
    for dir in ground.mounts.roots() {
        fs::create_dir(dir.join(&root)).unwrap();
    }
    let ground = Playground { mounts: ground.mounts.clone(), name: root };
    let below = format!("/{}", ground.name.strip_suffix(".slice").unwrap());
    let tree = CgroupTree::new(ground.mounts.clone(), CgroupDriver::Systemd, &below).unwrap();
    let stem = below.trim_start_matches('/');
    let pod = group("aa-1", QosClass::Burstable);
    let limits = CgroupLimits { cpu_quota_us: Some(12_300), ..pod_limits() };
    tree.ensure(&pod, &limits).unwrap();
    assert!(tree.holds(&pod, &limits));
    let folder = format!(
        "{stem}-kubepods.slice/{stem}-kubepods-burstable.slice/{stem}-kubepods-burstable-podaa_1.slice"
    );
    let quota = ground.interface_file("cpu", &folder, "cpu.cfs_quota_us", "cpu.max");
    assert_eq!(quota.split(' ').next(), Some("13000"), "rounded as systemd rounds it");
    let uid = PodUid::from("aa-1");
    assert_eq!(tree.pods().unwrap(), [(uid.clone(), QosClass::Burstable)]);
    let parent = tree.pod_cgroup_parent(&uid, QosClass::Burstable).unwrap();
    assert_eq!(parent, format!("/{}/{folder}", ground.name));
    tree.remove_pod(&uid, QosClass::Burstable).unwrap();
    assert!(tree.pods().unwrap().is_empty());
}

#[test]
fn removal_kills_what_is_left_even_in_nested_and_frozen_groups() {
    let ground = Playground::new("kill");
    let tree = ground.tree();
    let uid = PodUid::from("victim");
    tree.ensure(&group("victim", QosClass::Burstable), &pod_limits()).unwrap();

    let inner = |root: &Path| root.join(&ground.name).join("kubepods/burstable/podvictim/container/deep");
    let mut dirs = Vec::new();
    for root in ["memory", "pids", "freezer", "cpu"].iter().filter_map(|c| ground.mounts.root_of(c)) {
        if !dirs.contains(&inner(root)) {
            fs::create_dir_all(inner(root)).unwrap();
            dirs.push(inner(root));
        }
    }
    let mut child = sleeper(&dirs);
    if let Some(freezer) = ground.mounts.root_of("freezer").filter(|_| ground.mounts.version() == 1) {
        fs::write(inner(freezer).join("freezer.state"), "FROZEN").unwrap();
    }
    tree.remove_pod(&uid, QosClass::Burstable).unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(tree.pods().unwrap().is_empty());
    assert!(dirs.iter().all(|d| !d.exists()));
}

#[test]
fn processes_are_moved_and_gathered() {
    let ground = Playground::new("processes");
    let group =
        |name: &str| ProcessGroup::new(ground.mounts.clone(), &format!("/{}/{name}", ground.name)).unwrap();
    let (from, into) = (group("from"), group("into"));
    let mut child = sleeper(&[]);
    from.enter(child.id()).unwrap();
    let held = |name: &str| {
        let dirs = ground.mounts.roots().into_iter().map(|root| root.join(&ground.name).join(name));
        let listed =
            dirs.filter(|dir| dir.exists()).map(|dir| fs::read_to_string(dir.join("cgroup.procs")).unwrap());
        listed.collect::<Vec<_>>()
    };
    let alone = format!("{}\n", child.id());
    assert!(held("from").iter().all(|pids| *pids == alone));
    assert_eq!(
        crate::machine::group_of_process(&child.id().to_string()).unwrap().as_deref(),
        Some(from.name())
    );
    assert_eq!(into.gather(from.name()).unwrap(), 1);
    assert!(held("into").iter().all(|pids| *pids == alone));
    assert!(held("from").iter().all(String::is_empty));
    assert_eq!(into.gather(from.name()).unwrap(), 0);
    child.kill().unwrap();
    child.wait().unwrap();
    // It is gone, which is no failure.
    from.enter(child.id()).unwrap();
    assert!(matches!(into.gather("/no-such-group-here"), Err(CgroupError::List { .. })));
    for bad in ["/", "", ".", "/../x", "/a/../b"] {
        let made = ProcessGroup::new(ground.mounts.clone(), bad);
        assert!(matches!(made, Err(CgroupError::BadName { .. })), "{bad:?}");
    }
}

#[test]
fn a_group_left_in_one_hierarchy_only_is_found_and_removed() {
    let ground = Playground::new("partial");
    let tree = ground.tree();
    let root = ground.mounts.roots()[0].join(&ground.name).join("kubepods");
    fs::create_dir(root.join("podleft-over")).unwrap();
    fs::create_dir(root.join("other")).unwrap();
    let uid = PodUid::from("left-over");
    assert_eq!(tree.pods().unwrap(), [(uid.clone(), QosClass::Guaranteed)]);
    tree.remove_pod(&uid, QosClass::Guaranteed).unwrap();
    assert!(tree.pods().unwrap().is_empty());
}

#[test]
fn names_from_outside_cannot_escape() {
    let ground = Playground::new("names");
    let tree = ground.tree();
    for uid in ["", "/../../x", "a/b"] {
        let result = tree.remove_pod(&PodUid::from(uid), QosClass::Burstable);
        assert!(matches!(result, Err(CgroupError::BadName { .. })), "{uid}");
    }
    for root in ["/../x", "a/../b"] {
        assert!(
            matches!(
                CgroupTree::new(ground.mounts.clone(), CgroupDriver::Cgroupfs, root),
                Err(CgroupError::BadName { .. })
            ),
            "{root}"
        );
    }
    let missing = CgroupTree::new(ground.mounts.clone(), CgroupDriver::Cgroupfs, "/no-such-group-here");
    assert!(matches!(missing, Err(CgroupError::NoRoot { .. })));
}

/// Small kernels are built without cpusets, and nothing here depends on them.
#[test]
fn version_2_does_without_cpusets() {
    let root = tempfile::tempdir().unwrap();
    let tree = |controllers: &[&str]| {
        let controllers = controllers.iter().map(|c| (*c).to_owned()).collect();
        let mounts = CgroupMounts::V2 { root: root.path().to_owned(), controllers };
        CgroupTree::new(mounts, CgroupDriver::Cgroupfs, "/").map(drop)
    };
    tree(&["cpu", "io", "memory", "pids"]).unwrap();
    let error = tree(&["cpuset", "cpu", "io", "pids"]).unwrap_err().to_string();
    assert!(error.starts_with("cgroup controller memory is not available"), "{error}");
}

#[test]
fn what_a_group_has_is_what_the_kernel_says() {
    let ground = Playground::new("has");
    let tree = ground.tree();
    let group = group("a", QosClass::Burstable);
    tree.ensure(&group, &shares(256)).unwrap();
    let unlimited = match ground.mounts.version() {
        1 => Some(
            ground
                .interface_file("memory", "kubepods/burstable/poda", "memory.limit_in_bytes", "")
                .parse()
                .unwrap(),
        ),
        _ => None,
    };
    let has = tree.observe(&group).unwrap();
    assert_eq!((has.cpu_limit_millis, has.memory_limit_bytes), (None, unlimited));
    assert!(unlimited.is_none_or(|bytes: u64| bytes > 1 << 62), "{unlimited:?}");
    tree.set(&group, &pod_limits()).unwrap();
    let has = tree.observe(&group).unwrap();
    assert_eq!((has.cpu_limit_millis, has.memory_limit_bytes), (Some(500), Some(64 << 20)));
}
