//! `emptyDir`: a fresh folder for the pod's life, on disk or in memory. It also backs every kind
//! of volume that consists of files.

use std::path::Path;

use host::beneath::{Links, Root};
use host::mount::{self, TmpfsOptions};
use k8s_openapi::api::core::v1::EmptyDirVolumeSource;
use model::downward::PodFacts;
use model::{Pod, Quantity};

use super::PodContext;
use crate::error::SetUpError;
use crate::layout::{OWN_MODE, ready_below, volume_below};
use crate::ownership::{self, GroupAccess};
use crate::timing::Operation;

/// The containers' users are not known here, so all may write.
const MODE: u32 = 0o777;
/// Mode of the folder with all volumes of a kind.
const KIND_MODE: u32 = 0o755;
/// A tmpfs is open to all and sticky, as the kernel makes it and upstream leaves it.
const MEMORY_MODE: u32 = 0o1777;
const READY: &str = "ready";

/// Where the content is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Medium {
    Disk,
    Memory { size_bytes: Option<u64> },
}

/// Understands the source; `None` (no source of any kind) is an emptyDir on disk.
pub(crate) fn plan(
    source: Option<&EmptyDirVolumeSource>,
    pod: &Pod,
    facts: &PodFacts,
) -> Result<Medium, SetUpError> {
    let Some(source) = source else { return Ok(Medium::Disk) };
    match source.medium.as_deref().unwrap_or_default() {
        "" => Ok(Medium::Disk),
        "Memory" => {
            let limit = source.size_limit.as_ref().and_then(Quantity::from_api);
            Ok(in_memory(pod, facts, limit))
        }
        medium if medium == "HugePages" || medium.starts_with("HugePages-") => {
            Err(SetUpError::Unsupported { plugin: "kubernetes.io/empty-dir with medium HugePages" })
        }
        other => Err(SetUpError::Invalid { what: "storage medium", value: other.to_owned() }),
    }
}

/// A tmpfs bounded by the smallest of the wanted limit, the pod's memory and the node's.
pub(crate) fn in_memory(pod: &Pod, facts: &PodFacts, limit: Option<Quantity>) -> Medium {
    let node = facts.allocatable.get("memory").copied();
    let own = model::resources::declared_limits(pod).get("memory");
    let bounds = [node, own, limit];
    let smallest = bounds.into_iter().flatten().filter(|q| *q > Quantity::ZERO).min();
    Medium::Memory { size_bytes: smallest.and_then(|q| u64::try_from(q.units()).ok()) }
}

/// Makes the volume's folder unless it is there already, and opens it. `plugin` is the folder
/// name of the kind of volume it is or backs.
pub(crate) fn set_up(
    context: &PodContext<'_>,
    plugin: &str,
    name: &str,
    medium: &Medium,
) -> Result<Root, SetUpError> {
    let below = volume_below(plugin, name)?;
    let path = context.folder.path().join(&below);
    let mounted = context.mounts.iter().rfind(|m| m.mount_point == path);
    let ready = ready_below(plugin, name)?;
    let is_ready = context.folder.open_handle(&ready.join(READY), Links::Refuse).is_ok();
    let is_made = is_ready
        && match medium {
            Medium::Disk => true,
            Medium::Memory { .. } => mounted.is_some_and(|m| m.fs_type == "tmpfs"),
        };
    if is_made && let Ok(volume) = context.folder.open_dir(&below, Links::Refuse) {
        return Ok(volume);
    }
    let volume = make(context, &below, &path, medium, mounted.is_some_and(|m| m.fs_type == "tmpfs"))?;
    if let Some(group) = context.fs_group {
        context.timing.run(plugin, Operation::ApplyGroup, || {
            ownership::apply(&volume, group, GroupAccess::ReadWrite)
        })?;
    }
    let marker = context.folder.make_dirs(&ready, OWN_MODE)?;
    if marker.stat(Path::new(READY)).is_err() {
        marker.create_file(Path::new(READY), b"", 0o644)?;
    }
    Ok(volume)
}

fn make(
    context: &PodContext<'_>,
    below: &Path,
    path: &Path,
    medium: &Medium,
    is_mounted: bool,
) -> Result<Root, SetUpError> {
    // Only the volume is open to all; its kind's folder is what the usual umask makes of that, as upstream's.
    if let Some(parent) = below.parent() {
        context.folder.make_dirs(parent, KIND_MODE)?;
    }
    let volume = context.folder.make_dirs(below, MODE)?;
    volume.set_mode(MODE)?;
    let Medium::Memory { size_bytes } = medium else { return Ok(volume) };
    if !is_mounted {
        mount::tmpfs(path, TmpfsOptions { size_bytes: *size_bytes, is_noswap: true })?;
    }
    // What was opened before lies under the mount.
    let volume = context.folder.open_dir(below, Links::Refuse)?;
    volume.set_mode(MEMORY_MODE)?;
    Ok(volume)
}
