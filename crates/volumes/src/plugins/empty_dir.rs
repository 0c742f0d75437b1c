//! `emptyDir`: a fresh folder for the pod's life, on disk or in memory. It also backs every kind
//! of volume that consists of files.

use std::path::Path;

use host::beneath::{FileSystemKind, Links, Root};
use host::mount::{self, TmpfsOptions};
use k8s_openapi::api::core::v1::EmptyDirVolumeSource;
use model::downward::PodFacts;
use model::{AllocatedPod, Quantity};

use super::huge_pages::HugePagesError;
use super::{PodContext, huge_pages};
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
/// A hugetlbfs is its owner's alone as the kernel makes it. Upstream leaves that, with which only root and the
/// group of `fsGroup` can use it.
const HUGE_PAGES_MODE: u32 = 0o755;
const READY: &str = "ready";

/// Where the content is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Medium {
    Disk,
    Memory { size_bytes: Option<u64> },
    HugePages { page_bytes: u64 },
}

impl Medium {
    /// The type of the file system that is mounted for it; `None` for a mere folder.
    fn file_system(&self) -> Option<FileSystemKind> {
        match self {
            Self::Disk => None,
            Self::Memory { .. } => Some(FileSystemKind::Tmpfs),
            Self::HugePages { .. } => Some(FileSystemKind::HugePages),
        }
    }
}

/// A volume that begins empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EmptyDir {
    pub(crate) medium: Medium,
    /// Permission bits that the pod asks for in place of the usual ones, with the feature gate
    /// `EmptyDirVolumeMode`. Upstream gives them to folders on disk only.
    pub(crate) mode: Option<u32>,
}

impl From<Medium> for EmptyDir {
    fn from(medium: Medium) -> Self {
        Self { medium, mode: None }
    }
}

/// Understands the source; `None` (no source of any kind) is an emptyDir on disk.
pub(crate) fn plan(
    source: Option<&EmptyDirVolumeSource>,
    pod: &AllocatedPod,
    facts: &PodFacts,
    honours_mode: bool,
) -> Result<EmptyDir, SetUpError> {
    let Some(source) = source else { return Ok(Medium::Disk.into()) };
    let mode = source.mode.filter(|_| honours_mode).and_then(|mode| u32::try_from(mode).ok());
    let mode = mode.map(|mode| mode & 0o1777);
    Ok(EmptyDir { medium: medium(source, pod, facts)?, mode })
}

fn medium(source: &EmptyDirVolumeSource, pod: &AllocatedPod, facts: &PodFacts) -> Result<Medium, SetUpError> {
    match source.medium.as_deref().unwrap_or_default() {
        "" => Ok(Medium::Disk),
        "Memory" => {
            let limit = source.size_limit.as_ref().and_then(Quantity::from_api);
            Ok(in_memory(pod, facts, limit))
        }
        medium if huge_pages::is_medium(medium) => {
            Ok(Medium::HugePages { page_bytes: huge_pages::page_bytes(medium, pod)? })
        }
        other => Err(SetUpError::Invalid { what: "storage medium", value: other.to_owned() }),
    }
}

/// A tmpfs bounded by the smallest of the wanted limit, the pod's memory and the node's.
pub(crate) fn in_memory(pod: &AllocatedPod, facts: &PodFacts, limit: Option<Quantity>) -> Medium {
    let node = facts.allocatable.get("memory").copied();
    let own = pod.declared_limits().get("memory");
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
    dir: &EmptyDir,
) -> Result<Root, SetUpError> {
    let medium = &dir.medium;
    let below = volume_below(plugin, name)?;
    let path = context.folder.path().join(&below);
    let mounted = match medium.file_system() {
        None => None,
        Some(kind) => context.folder.mounted(&below)?.filter(|mounted| mounted.kind == kind),
    };
    let is_mounted = mounted.is_some();
    let ready = ready_below(plugin, name)?;
    let is_ready = context.folder.open_handle(&ready.join(READY), Links::Refuse).is_ok();
    if let (Medium::HugePages { page_bytes: wanted }, Some(mounted)) = (medium, mounted)
        && mounted.block_bytes != *wanted
    {
        return Err(HugePagesError::Differs { path, mounted: mounted.block_bytes, wanted: *wanted }.into());
    }
    let is_made = is_ready && (medium.file_system().is_none() || is_mounted);
    if is_made && let Ok(volume) = context.folder.open_dir(&below, Links::Refuse) {
        return Ok(volume);
    }
    let volume = make(context, &below, &path, dir, is_mounted)?;
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
    dir: &EmptyDir,
    is_mounted: bool,
) -> Result<Root, SetUpError> {
    // Only the volume is open to all; its kind's folder is what the usual umask makes of that, as upstream's.
    if let Some(parent) = below.parent() {
        context.folder.make_dirs(parent, KIND_MODE)?;
    }
    let volume = context.folder.make_dirs(below, MODE)?;
    volume.set_mode(dir.mode.unwrap_or(MODE))?;
    let mode = match &dir.medium {
        Medium::Disk => return Ok(volume),
        Medium::Memory { size_bytes } => {
            if !is_mounted {
                mount::tmpfs(path, TmpfsOptions { size_bytes: *size_bytes, is_noswap: true })?;
            }
            MEMORY_MODE
        }
        Medium::HugePages { page_bytes } => {
            if !is_mounted {
                mount::hugetlbfs(path, *page_bytes)?;
            }
            HUGE_PAGES_MODE
        }
    };
    // What was opened before lies under the mount.
    let volume = context.folder.open_dir(below, Links::Refuse)?;
    volume.set_mode(mode)?;
    Ok(volume)
}
