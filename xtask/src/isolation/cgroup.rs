//! The cgroup hierarchies of the machine, v1, v2 or both, and a child group for a cluster in each.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::mount::{MountFlags, mount};

/// One mounted hierarchy.
pub(super) struct Hierarchy {
    mount: PathBuf,
    /// The mount options that select v1 controllers; nothing for v2.
    v1: Option<String>,
}

/// Where the hierarchies are mounted.
pub(super) const ROOT: &str = "/sys/fs/cgroup";
/// The leaf for ordinary processes on cgroup v2, where a group with children may hold none.
const LEAF: &str = "init";

/// Every hierarchy in this mount namespace.
pub(super) fn hierarchies() -> Result<Vec<Hierarchy>> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("read the mounts")?;
    let found: Vec<Hierarchy> = mounts.lines().filter_map(Hierarchy::parse).collect();
    if found.is_empty() {
        bail!("no cgroup hierarchy is mounted below {ROOT}");
    }
    Ok(found)
}

impl Hierarchy {
    /// Reads a line of `/proc/self/mounts`.
    fn parse(line: &str) -> Option<Self> {
        const NEUTRAL: &[&str] =
            &["rw", "ro", "nosuid", "nodev", "noexec", "relatime", "xattr", "clone_children"];
        let mut fields = line.split(' ').skip(1);
        let (path, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
        let v1 = match kind {
            "cgroup2" => None,
            "cgroup" => {
                let mut chosen: Vec<&str> = options
                    .split(',')
                    .filter(|option| !NEUTRAL.contains(option) && !option.starts_with("release_agent="))
                    .collect();
                if chosen.iter().any(|option| option.starts_with("name=")) {
                    chosen.insert(0, "none");
                }
                Some(chosen.join(","))
            }
            _ => return None,
        };
        path.starts_with(ROOT).then(|| Self { mount: path.into(), v1 })
    }

    fn is_cpuset(&self) -> bool {
        self.v1.as_ref().is_some_and(|options| options.split(',').any(|option| option == "cpuset"))
    }

    /// Makes a child group that processes can join.
    fn create(&self, name: &str) -> Result<PathBuf> {
        let child = self.mount.join(name);
        let made = std::fs::create_dir(&child);
        made.with_context(|| format!("create the cgroup {}", child.display()))?;
        if self.is_cpuset() {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let value = std::fs::read(self.mount.join(file)).with_context(|| format!("read {file}"))?;
                std::fs::write(child.join(file), value).with_context(|| format!("set {file} of {name}"))?;
            }
        }
        if self.v1.is_none() {
            std::fs::create_dir(child.join(LEAF)).with_context(|| format!("create the leaf of {name}"))?;
        }
        Ok(child)
    }

    /// Offers all controllers to child groups. A controller that is busy elsewhere is left out.
    fn delegate(group: &Path) {
        let offered = std::fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
        for controller in offered.split_whitespace() {
            let _ = std::fs::write(group.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
}

/// The groups of a cluster, seen from the outer process.
pub(super) struct Groups {
    /// One a hierarchy.
    pub(super) roots: Vec<PathBuf>,
    /// Where processes go once the cgroup namespace is made: the leaf, on cgroup v2.
    pub(super) leaves: Vec<PathBuf>,
}

impl Groups {
    /// Has the processes of the groups run when others do not need the processors.
    pub(super) fn yield_to_others(&self) -> Result<()> {
        // An ordinary group has 1024 shares, or the weight 100.
        for (file, value) in [("cpu.shares", "512"), ("cpu.weight", "50")] {
            for path in self.roots.iter().map(|root| root.join(file)).filter(|path| path.exists()) {
                std::fs::write(&path, value).with_context(|| format!("write {}", path.display()))?;
            }
        }
        Ok(())
    }
}

/// Makes a group of this name in every hierarchy.
pub(super) fn create(name: &str) -> Result<Groups> {
    let mut groups = Groups { roots: Vec::new(), leaves: Vec::new() };
    for hierarchy in hierarchies()? {
        if hierarchy.v1.is_none() {
            Hierarchy::delegate(&hierarchy.mount);
        }
        let group = hierarchy.create(name)?;
        if hierarchy.v1.is_none() {
            groups.leaves.push(group.join(LEAF));
        }
        groups.roots.push(group);
    }
    Ok(groups)
}

/// Moves the calling process into these groups.
pub(super) fn join(groups: &[PathBuf]) -> Result<()> {
    for group in groups {
        let joined = std::fs::write(group.join("cgroup.procs"), "0");
        joined.with_context(|| format!("join the cgroup {}", group.display()))?;
    }
    Ok(())
}

/// Ends what still runs in the groups of this name and removes them. The kernel takes a moment to let go of a
/// group after its last process, and tells nobody when it is done.
pub(crate) fn remove(name: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    for hierarchy in hierarchies()? {
        let group = hierarchy.mount.join(name);
        while group.exists() {
            match remove_tree(&group) {
                Ok(()) => break,
                Err(_) if Instant::now() < deadline => {
                    kill_tree(&group);
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(error) => {
                    return Err(error).with_context(|| format!("remove the cgroup {}", group.display()));
                }
            }
        }
    }
    Ok(())
}

fn remove_tree(group: &Path) -> std::io::Result<()> {
    for child in children(group) {
        remove_tree(&child)?;
    }
    std::fs::remove_dir(group)
}

fn kill_tree(group: &Path) {
    children(group).iter().for_each(|child| kill_tree(child));
    let members = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    for pid in members.lines().filter_map(|line| rustix::process::Pid::from_raw(line.parse().ok()?)) {
        // It may have ended by itself since.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

fn children(group: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(group).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Mounts the hierarchies again, as they look from inside a new cgroup namespace.
pub(super) fn mount_inside(hierarchies: &[Hierarchy]) -> Result<()> {
    let only_v2 = hierarchies.iter().any(|hierarchy| hierarchy.mount == Path::new(ROOT));
    if !only_v2 {
        mount("tmpfs", ROOT, "tmpfs", MountFlags::empty(), Some(c"mode=755"))
            .context("mount the cgroup root")?;
    }
    for hierarchy in hierarchies {
        std::fs::create_dir_all(&hierarchy.mount).context("create a cgroup mount point")?;
        let kind = if hierarchy.v1.is_some() { "cgroup" } else { "cgroup2" };
        let options = hierarchy.v1.as_deref().map(std::ffi::CString::new).transpose()?;
        mount(kind, &hierarchy.mount, kind, MountFlags::empty(), options.as_deref())
            .with_context(|| format!("mount {}", hierarchy.mount.display()))?;
        link_each_controller(hierarchy);
        if hierarchy.v1.is_none() {
            Hierarchy::delegate(&hierarchy.mount);
        }
    }
    Ok(())
}

/// `cpu -> cpu,cpuacct`, as systemd makes it. Merely a convenience for readers.
fn link_each_controller(hierarchy: &Hierarchy) {
    let Some(name) = hierarchy.mount.file_name().and_then(|name| name.to_str()) else { return };
    if name.contains(',') {
        for controller in name.split(',') {
            let _ = std::os::unix::fs::symlink(name, Path::new(ROOT).join(controller));
        }
    }
}

/// Makes a group of this name below the root of this cgroup namespace and returns it, one path a hierarchy.
pub(crate) fn create_inside(name: &str) -> Result<Vec<PathBuf>> {
    hierarchies()?
        .iter()
        .map(|hierarchy| {
            let group = hierarchy.create(name)?;
            Ok(if hierarchy.v1.is_none() { group.join(LEAF) } else { group })
        })
        .collect()
}
