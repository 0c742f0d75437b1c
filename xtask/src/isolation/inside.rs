//! The init of a cluster's pid namespace: mounts, network, then the worker, and reaping until that ends.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change,
    unmount,
};
use rustix::process::{WaitOptions, wait};

use super::{NODE, NODE_IP, NODE_IPV6, cgroup};
use crate::{command, workspace};

/// Folders that belong to the cluster alone. Whole folders, so that no empty mount point is left on the machine.
const PRIVATE: &[&str] = &["/run", "/var/lib", "/var/log", "/tmp", "/usr/libexec"];

/// Kernel settings that a kubelet changes and that are not part of any namespace: it gets files to write to.
const KERNEL_SETTINGS: &[&str] = &[
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/vm/panic_on_oom",
    "/proc/sys/kernel/panic",
    "/proc/sys/kernel/panic_on_oops",
    "/proc/sys/kernel/keys/root_maxkeys",
    "/proc/sys/kernel/keys/root_maxbytes",
];

/// Where containers with a user namespace find a proc.
const WHOLE_PROC: &str = "/run/whole-proc";

/// Sets up the namespaces and runs the worker. Everything still running is killed when this returns.
pub(crate) fn inside(state: &Path) -> Result<ExitCode> {
    if std::process::id() != 1 {
        bail!("this task is for the first process of a pid namespace");
    }
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("make mounts private")?;
    rustix::system::sethostname(NODE.as_bytes()).context("set the host name")?;
    network()?;
    let hierarchies = cgroup::hierarchies()?;
    unmount("/sys", UnmountFlags::DETACH).context("unmount /sys")?;
    mount("sysfs", "/sys", "sysfs", MountFlags::empty(), None).context("mount /sys")?;
    cgroup::mount_inside(&hierarchies)?;
    files(state)?;
    mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC)
        .context("make mounts shared")?;

    let mut worker = Command::new("/proc/self/exe");
    worker.arg("worker").arg(state).stdin(Stdio::null());
    let worker = worker.spawn().context("start the worker")?.id();
    loop {
        let Some((pid, status)) = wait(WaitOptions::empty()).context("wait for processes")? else { continue };
        if u32::try_from(pid.as_raw_nonzero().get()).is_ok_and(|pid| pid == worker) {
            let code = status.exit_status().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
            return Ok(ExitCode::from(code));
        }
    }
}

/// A bridge with the node's address, kept up by a pair of virtual cables of which one end is plugged in.
fn network() -> Result<()> {
    let address = format!("{NODE_IP}/24");
    let gateway = "10.78.0.254";
    for step in [
        "link set lo up",
        "link add node0 type bridge",
        "link add cable0 type veth peer name cable1",
        "link set cable1 master node0",
        "link set cable0 up",
        "link set cable1 up",
        &format!("addr add {address} dev node0"),
        &format!("addr add {NODE_IPV6}/64 dev node0 nodad"),
        "link set node0 up",
        &format!("route add default via {gateway} dev node0"),
    ] {
        command::quiet(Command::new("ip").args(step.split(' '))).context("set up the network")?;
    }
    workspace::write(Path::new("/proc/sys/net/ipv4/ip_forward"), "1")?;
    workspace::write(Path::new("/proc/sys/net/ipv4/conf/all/route_localnet"), "1")
}

fn files(state: &Path) -> Result<()> {
    let cache = workspace::cache()?;
    let resolv = std::fs::canonicalize("/etc/resolv.conf").ok();
    for folder in PRIVATE {
        let own = state.join("fs").join(folder.trim_start_matches('/'));
        workspace::create_dir(&own)?;
        if let Ok(rest) = cache.strip_prefix(folder) {
            // The cache lies below: it must stay visible.
            let kept = own.join(rest);
            workspace::create_dir(&kept)?;
            bind_recursive(&cache, &kept)?;
        }
        bind_recursive(&own, Path::new(folder))?;
    }
    std::fs::set_permissions("/tmp", std::os::unix::fs::PermissionsExt::from_mode(0o1777))
        .context("open /tmp")?;
    workspace::create_dir(Path::new("/run/lock"))?;
    // The kernel lets a user namespace have a proc only where another one is to be seen as a whole, which the usual one is
    // no longer with files laid over its settings.
    workspace::create_dir(Path::new(WHOLE_PROC))?;
    mount("proc", WHOLE_PROC, "proc", MountFlags::empty(), None).context("mount another proc")?;
    // A name server that refuses at once: nothing outside can be reached from here.
    replace(state, resolv, "resolv.conf", "nameserver 127.0.0.1\n")?;
    let hosts = format!("127.0.0.1 localhost\n{NODE_IP} {NODE}\n");
    replace(state, Some("/etc/hosts".into()), "hosts", &hosts)?;
    for setting in KERNEL_SETTINGS.iter().map(Path::new).filter(|setting| setting.exists()) {
        let value =
            std::fs::read_to_string(setting).with_context(|| format!("read {}", setting.display()))?;
        let name = setting.file_name().unwrap_or_default().to_string_lossy();
        replace(state, Some(setting.into()), &name, &value)?;
    }
    Ok(())
}

/// Lays a file of the state folder over another one.
fn replace(state: &Path, target: Option<PathBuf>, name: &str, content: &str) -> Result<()> {
    let Some(target) = target else { return Ok(()) };
    if PRIVATE.iter().any(|folder| target.starts_with(folder)) {
        // `/etc/resolv.conf` is often a link into `/run`, which is our own by now.
        target.parent().map_or(Ok(()), workspace::create_dir)?;
        return workspace::write(&target, content);
    }
    let own = state.join("fs").join(name);
    workspace::write(&own, content)?;
    mount_bind(&own, &target).with_context(|| format!("replace {}", target.display()))
}

fn bind_recursive(from: &Path, to: &Path) -> Result<()> {
    mount_bind_recursive(from, to).with_context(|| format!("bind {} to {}", from.display(), to.display()))
}
