//! The kubelet's folders: those it needs, and what an earlier process has left in them.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use anyhow::Context as _;
use config::Config;
use host::cgroup::CgroupTree;
use model::PodUid;
use model::storage::FoundVolumes;
use tracing::warn;
use volumes::Volumes;

use super::watchers::PLUGINS;
use crate::executor::objects::ObjectPort;
use crate::http_api::ports;

/// Makes the folders that are not there.
pub(super) fn make(config: &Config) -> anyhow::Result<()> {
    let root = &config.paths.root;
    let make = |path: &Path, mode: u32| {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(path)
            .with_context(|| format!("make folder {}", path.display()))
    };
    for name in ["", "pods", "plugins", PLUGINS] {
        make(&root.join(name), 0o750)?;
    }
    // Its files hold the memory of processes.
    make(&root.join(ports::CHECKPOINTS), 0o700)?;
    make(&config.paths.pod_logs, 0o750)?;
    make(Path::new("/var/log/containers"), 0o755)?;
    if let Err(error) = host::mount::make_recursively_shared(root) {
        warn!(
            path = %root.display(),
            err = model::chain(&error),
            "Failed to make the root directory a shared mount; mounts below it do not propagate to containers"
        );
    }
    Ok(())
}

/// Pods of which an earlier process left a folder, a cgroup or logs.
pub(super) fn found_on_host(
    volumes: &Volumes<ObjectPort>,
    cgroups: &CgroupTree,
    pod_logs: &Path,
) -> Vec<PodUid> {
    let mut found = volumes.pods_on_disk().unwrap_or_else(|error| {
        warn!(err = model::chain(&error), "Failed to list pod directories");
        Vec::new()
    });
    match cgroups.pods() {
        Ok(pods) => found.extend(pods.into_iter().map(|(uid, _)| uid)),
        Err(error) => warn!(err = model::chain(&error), "Failed to list pod cgroups"),
    }
    found.extend(pods_with_logs(pod_logs));
    found.sort();
    found.dedup();
    found
}

/// Volumes of drivers that an earlier process has left, of pods and of the node.
pub(super) fn found_volumes(root: &Path) -> FoundVolumes {
    volumes::found_volumes(root).unwrap_or_else(|error| {
        warn!(
            err = model::chain(&error),
            "Failed to list volumes of CSI drivers; those of pods that are gone stay mounted until the kubelet starts anew"
        );
        FoundVolumes::default()
    })
}

/// The uids in the names of log folders, `<namespace>_<name>_<uid>`.
fn pods_with_logs(root: &Path) -> Vec<PodUid> {
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    let uid = |name: &str| name.rsplit_once('_').map(|(_, uid)| PodUid::from(uid));
    entries.flatten().filter_map(|entry| uid(entry.file_name().to_str()?)).collect()
}
