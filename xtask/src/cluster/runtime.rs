//! containerd with runc and the CNI plugins, at its usual paths.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;

use super::Paths;
use crate::process::{Program, Service};
use crate::{images, isolation, workspace};

/// The socket, at its usual path.
pub(crate) const SOCKET: &str = "/run/containerd/containerd.sock";
/// `CAP_SYS_RESOURCE` as a bit of the capability sets in `/proc/self/status`.
const CAP_SYS_RESOURCE: u64 = 1 << 24;
/// Marks overlayfs in `statfs`.
const OVERLAYFS_MAGIC: i64 = 0x794c_7630;

/// The container runtime of the node.
pub(crate) struct Containerd {
    /// The daemon; containers survive its restart.
    pub(crate) service: Service,
    paths: Paths,
}

impl Containerd {
    /// Writes the configuration.
    pub(super) fn new(paths: &Paths) -> Result<Self> {
        Self::with(paths, "")
    }

    /// Writes the configuration with these tables added.
    pub(crate) fn with(paths: &Paths, additions: &str) -> Result<Self> {
        let network = paths.file("cni");
        workspace::create_dir(&network)?;
        workspace::write(&network.join("10-test.conflist"), network_configuration())?;
        let file = paths.file("containerd.toml");
        workspace::write(&file, configuration(paths, &network)? + additions)?;
        let args = ["-c".into(), file.into_os_string()];
        let mut program = Program::new("containerd", paths.peers.containerd("containerd"), args);
        // A group of its own: at the root there is the node.
        program.cgroups = isolation::create_cgroups("containerd")?;
        program.search = Some(paths.peers.runtime_folder().to_owned());
        Ok(Self { service: Service::new(program, &paths.logs), paths: paths.clone() })
    }

    /// Starts the daemon and loads the images.
    pub(crate) async fn start_fresh(&self) -> Result<()> {
        self.start().await?;
        self.ctr(&["images", "import", &self.paths.images.to_string_lossy()])
            .await
            .context("load the images")?;
        Ok(())
    }

    /// Starts the daemon and waits until it answers.
    pub(crate) async fn start(&self) -> Result<()> {
        self.service.start().await?;
        self.service.answers(Duration::from_secs(60), || self.ctr(&["version"])).await?;
        Ok(())
    }

    /// Stops the daemon, removes everything it and a kubelet have on disk, and starts it with nothing but the images.
    pub(crate) async fn reset(&self) -> Result<()> {
        self.service.stop().await?;
        remove_folders(&[
            "/var/lib/containerd",
            "/run/containerd",
            "/var/lib/kubelet",
            "/var/lib/cni",
            "/var/log/pods",
        ])?;
        self.start_fresh().await
    }

    /// Ends what a loss of power ends, beside the kubelet: the daemon, its shims and all that runs in containers, with what is
    /// mounted and what is kept in memory. Its disk stays.
    pub(crate) async fn lose_power(&self) -> Result<()> {
        self.service.kill().await?;
        let ended = shims_and_descendants()?;
        for pid in &ended {
            // It may have ended with another one.
            let _ = kill_process(*pid, Signal::KILL);
        }
        while ended.iter().any(|pid| Path::new(&format!("/proc/{pid}")).exists()) {
            // They are reaped by init, which tells nobody.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        unmount_below(&["/var/lib/kubelet", "/run/netns"])?;
        remove_folders(&["/run/containerd"])
    }

    /// Runs `ctr` in the namespace of the kubelet's containers and returns what it printed.
    pub(crate) async fn ctr(&self, args: &[&str]) -> Result<String> {
        let mut ctr = Command::new(self.paths.peers.containerd("ctr"));
        ctr.args(["--address", SOCKET, "--namespace", "k8s.io"]).args(args).kill_on_drop(true);
        let done = ctr.output().await.context("run ctr")?;
        anyhow::ensure!(
            done.status.success(),
            "ctr {}: {}",
            args[0],
            String::from_utf8_lossy(&done.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }
}

/// The shims, and all processes that they or these have started.
fn shims_and_descendants() -> Result<Vec<Pid>> {
    let mut parents: Vec<(Pid, Option<Pid>)> = Vec::new();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").context("list the processes")? {
        let name = entry.context("list the processes")?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw) else {
            continue;
        };
        // It may have ended meanwhile.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // `PID (NAME) STATE PARENT ...`, where the name may hold anything.
        let Some((start, rest)) = stat.rsplit_once(')') else { continue };
        if start.ends_with("(containerd-shim") {
            found.push(pid);
        }
        let parent =
            rest.split_whitespace().nth(1).and_then(|text| text.parse().ok()).and_then(Pid::from_raw);
        parents.push((pid, parent));
    }
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        next += 1;
        found.extend(parents.iter().filter(|(_, of)| *of == Some(parent)).map(|(pid, _)| *pid));
    }
    Ok(found)
}

/// Removes folders with all that is mounted in them.
pub(super) fn remove_folders(folders: &[&str]) -> Result<()> {
    unmount_below(folders)?;
    for folder in folders.iter().map(Path::new).filter(|folder| folder.exists()) {
        std::fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    Ok(())
}

/// Unmounts what is mounted below the folders, the last first.
fn unmount_below(folders: &[&str]) -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("read the mounts")?;
    let targets = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let below = |target: &&str| folders.iter().any(|folder| Path::new(target).starts_with(folder));
    let found: Vec<&str> = targets.filter(below).collect();
    for target in found.into_iter().rev() {
        let gone = rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH);
        gone.with_context(|| format!("unmount {target}"))?;
    }
    Ok(())
}

fn network_configuration() -> String {
    // A /20: more than 110 pods with room for addresses not yet released.
    let addresses = serde_json::json!({
        "type": "host-local",
        "ranges": [[{ "subnet": "10.88.0.0/20" }]],
        "routes": [{ "dst": "0.0.0.0/0" }],
    });
    let bridge = serde_json::json!({
        "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
        "ipam": addresses,
    });
    let ports = serde_json::json!({ "type": "portmap", "capabilities": { "portMappings": true }, "backend": "nftables" });
    serde_json::json!({ "cniVersion": "1.0.0", "name": "test", "plugins": [bridge, ports] }).to_string()
}

fn configuration(paths: &Paths, network: &Path) -> Result<String> {
    let programs = paths.peers.runtime_folder().display();
    let runc = paths.peers.containerd("runc");
    let (network, runc) = (network.display(), runc.display());
    let pause = images::PAUSE;
    // Without this capability no process may be given a better OOM score than its parent has.
    let restrict_oom_score = !has_capability(CAP_SYS_RESOURCE)?;
    let snapshotter = snapshotter(&paths.state)?;
    Ok(format!(
        r#"version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = {restrict_oom_score}
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["{programs}"]
    conf_dir = "{network}"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      BinaryName = "{runc}"
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "{snapshotter}"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{pause}"
"#
    ))
}

fn has_capability(bit: u64) -> Result<bool> {
    let status = std::fs::read_to_string("/proc/self/status").context("read the capabilities")?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set =
        line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).context("read the capabilities")?;
    Ok(set & bit != 0)
}

/// Overlayfs cannot lie on overlayfs, as when this runs in a container: copy instead.
fn snapshotter(state: &Path) -> Result<&'static str> {
    let kind = rustix::fs::statfs(state).context("look at the cache's file system")?.f_type;
    Ok(if kind == OVERLAYFS_MAGIC { "native" } else { "overlayfs" })
}
