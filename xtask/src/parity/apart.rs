//! Runs the comparison in a mount namespace of its own: on their way to the start of a node both kubelets make folders,
//! some below `/var/lib/kubelet` whatever they are told, and the machine may have a kubelet.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind, mount_bind_recursive, mount_change,
};
use serde::{Deserialize, Serialize};

use super::{Outcome, Programs};
use crate::peers::Peers;
use crate::workspace;

/// Where the kubelet's folder is.
const PARENT: &str = "/var/lib";
/// The kubelet's folder in it.
const HIDDEN: &str = "kubelet";

/// What to compare.
#[derive(Serialize, Deserialize)]
struct Order {
    peers: Peers,
    kubelet: PathBuf,
    filter: Vec<String>,
}

/// Compares what upstream's kubelet and this one make of the cases whose name contains one of the filters.
pub(crate) fn run(peers: &Peers, kubelet: &Path, filter: &[String]) -> Result<Outcome> {
    let order = Order { peers: peers.clone(), kubelet: kubelet.to_owned(), filter: filter.to_vec() };
    if !rustix::process::geteuid().is_root() {
        // Nor may anything be written there.
        return order.compare();
    }
    let folder = tempfile::tempdir().context("make a folder for the comparison")?;
    let file = |name: &str| folder.path().join(name);
    workspace::write(&file("order.json"), serde_json::to_vec(&order).context("write the order")?)?;
    let mut inside = Command::new("unshare");
    inside.arg("--mount").arg(std::env::current_exe().context("find this program")?);
    let status = inside.arg("compare").arg(folder.path()).status().context("start unshare")?;
    if !status.success() {
        bail!("the comparison ended with {status}");
    }
    let outcome = std::fs::read(file("outcome.json")).context("read what the comparison found")?;
    serde_json::from_slice(&outcome).context("read what the comparison found")
}

/// Does so in the new namespace.
pub(crate) fn inside(folder: &Path) -> Result<ExitCode> {
    let order = std::fs::read(folder.join("order.json")).context("read the order")?;
    let order: Order = serde_json::from_slice(&order).context("read the order")?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("make mounts private")?;
    hide(&folder.join("before"))?;
    let outcome = serde_json::to_vec(&order.compare()?).context("write the outcome")?;
    workspace::write(&folder.join("outcome.json"), outcome)?;
    Ok(ExitCode::SUCCESS)
}

impl Order {
    fn compare(&self) -> Result<Outcome> {
        let go = self.peers.kubernetes("kubelet");
        let programs = Programs {
            judge: self.peers.config_judge(),
            manifest_judge: self.peers.manifest_judge(),
            state_judge: self.peers.state_judge(),
            go: &go,
            ours: &self.kubelet,
        };
        super::run(programs, &self.filter)
    }
}

/// Lays a folder in memory over the parent, in which all is as it was but for the kubelet's folder. That one alone could
/// only be hidden where there is one.
fn hide(before: &Path) -> Result<()> {
    workspace::create_dir(before)?;
    mount_bind_recursive(PARENT, before).with_context(|| format!("bind {PARENT}"))?;
    mount("tmpfs", PARENT, "tmpfs", MountFlags::empty(), None).with_context(|| format!("cover {PARENT}"))?;
    let entries = std::fs::read_dir(before).with_context(|| format!("list {}", before.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_name() == HIDDEN {
            continue;
        }
        let (from, to) = (entry.path(), Path::new(PARENT).join(entry.file_name()));
        let kind = entry.file_type()?;
        let shown = if kind.is_symlink() {
            std::fs::read_link(&from).and_then(|target| std::os::unix::fs::symlink(target, &to))
        } else if kind.is_dir() {
            std::fs::create_dir(&to).and_then(|()| Ok(mount_bind_recursive(&from, &to)?))
        } else {
            std::fs::File::create(&to).and_then(|_| Ok(mount_bind(&from, &to)?))
        };
        shown.with_context(|| format!("show {}", to.display()))?;
    }
    Ok(())
}
