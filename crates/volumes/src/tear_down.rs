//! Taking a pod's volumes down: unmount first, delete afterwards, never delete through a mount. The pod's folder goes later,
//! with what containers have left in it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use host::beneath::{Links, Root};
use host::mount::{self, MountEntry, MountError};
use model::PodUid;

use crate::csi::{self, VolumeData};
use crate::error::SetUpError;
use crate::layout::{PodLayout, SUB_PATHS};
use crate::timing::{Operation, Timing};

/// Where volumes are in a pod's folder, below those of their plugins.
const VOLUMES: &str = "volumes";
/// Where plugins note that a volume is ready, likewise.
const PLUGINS: &str = "plugins";

/// Unmounts everything below the pod's folder, then removes the volumes.
pub(crate) fn tear_down(layout: &PodLayout, timing: &Timing) -> Result<(), SetUpError> {
    remove_unmounted(layout, timing, |pods, took| {
        remove_volumes(pods, layout.uid(), took, timing)?;
        // Whatever is no folder goes later, with what should have been one.
        let Ok(pod) = pods.open_dir(layout.uid(), Links::Refuse) else { return Ok(()) };
        pod.remove_all(Path::new(SUB_PATHS))?;
        let Ok(plugins) = pod.open_dir(Path::new(PLUGINS), Links::Refuse) else { return Ok(()) };
        for folder in plugins.names()? {
            let Ok(plugin) = plugins.open_dir(&folder, Links::Refuse) else { continue };
            plugin.names()?.iter().try_for_each(|name| plugin.remove_all(name))?;
        }
        Ok(())
    })
}

/// Unmounts what may be mounted below the pod's folder all the same, then removes the folder.
pub(crate) fn remove_folder(layout: &PodLayout, timing: &Timing) -> Result<(), SetUpError> {
    remove_unmounted(layout, timing, |pods, took| {
        remove_volumes(pods, layout.uid(), took, timing)?;
        Ok(pods.remove_all(layout.uid())?)
    })
}

/// Unmounts everything below the pod's folder, then removes something there.
fn remove_unmounted(
    layout: &PodLayout,
    timing: &Timing,
    remove: impl FnOnce(&Root, &HashMap<Volume, Duration>) -> Result<(), SetUpError>,
) -> Result<(), SetUpError> {
    let dir = layout.dir();
    refuse_published(layout)?;
    // How long it took to unmount each volume that is a mount.
    let mut took = HashMap::<Volume, Duration>::new();
    for entry in mount::mounts_below(&dir)? {
        let begun = Instant::now();
        let unmounted = unmount(&dir, &entry);
        if let Some(volume) = Volume::at(&dir, &entry.mount_point) {
            if unmounted.is_err() {
                timing.note(&volume.plugin, Operation::Unmount, false, begun.elapsed());
            }
            *took.entry(volume).or_default() += begun.elapsed();
        }
        unmounted?;
    }
    let pods = match Root::open(layout.pods()) {
        Err(error) if error.is_not_found() => return Ok(()),
        other => other?,
    };
    // Neither crosses into another file system or mount, should one appear meanwhile.
    let removed = remove(&pods, &took);
    // The table is long on a node with many volumes: it is looked at once more only when it may be why.
    let Err(error) = removed else { return Ok(()) };
    match mount::mounts_below(&dir)?.into_iter().next() {
        Some(entry) => Err(MountError::StillMounted { path: entry.mount_point }.into()),
        None => Err(error),
    }
}

/// Nothing goes while a volume of a CSI driver is there: the driver has to take it back. A folder that tells of no volume, and
/// is not mounted, is litter.
fn refuse_published(layout: &PodLayout) -> Result<(), SetUpError> {
    let below = Path::new(VOLUMES).join(csi::PLUGIN);
    let folder = layout.dir().join(&below);
    if let Some(entry) = mount::mounts_below(&folder)?.into_iter().next() {
        return Err(MountError::StillMounted { path: entry.mount_point }.into());
    }
    let Ok(volumes) = layout.open().and_then(|pod| Ok(pod.open_dir(&below, Links::Refuse)?)) else {
        return Ok(());
    };
    for name in volumes.names()? {
        let Ok(volume) = volumes.open_dir(&name, Links::Refuse) else { continue };
        if let Ok(Some(_)) = VolumeData::read(&volume) {
            return Err(SetUpError::StillPublished { path: folder.join(name) });
        }
    }
    Ok(())
}

/// A volume's folder, `volumes/<plugin>/<name>` below that of its pod.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Volume {
    plugin: String,
    name: PathBuf,
}

impl Volume {
    /// The volume that is, or holds, a place.
    fn at(pod: &Path, place: &Path) -> Option<Self> {
        let below = place.strip_prefix(pod.join(VOLUMES)).ok()?;
        let mut parts = below.iter();
        Some(Self { plugin: parts.next()?.to_str()?.to_owned(), name: parts.next()?.into() })
    }
}

/// Removes the volumes one by one, to know how long each takes.
fn remove_volumes(
    pods: &Root,
    pod: &Path,
    unmounting: &HashMap<Volume, Duration>,
    timing: &Timing,
) -> Result<(), SetUpError> {
    // Whatever is no folder of volumes goes with the rest.
    let Ok(volumes) = pods.open_dir(&pod.join(VOLUMES), Links::Refuse) else { return Ok(()) };
    for folder in volumes.names()? {
        let Ok(plugin) = volumes.open_dir(&folder, Links::Refuse) else { continue };
        for name in plugin.names()? {
            let volume = Volume { plugin: folder.to_string_lossy().into_owned(), name };
            let begun = Instant::now();
            let removed = plugin.remove_all(&volume.name);
            let took = begun.elapsed() + unmounting.get(&volume).copied().unwrap_or_default();
            timing.note(&volume.plugin, Operation::Unmount, removed.is_ok(), took);
            removed?;
        }
    }
    Ok(())
}

/// A mount that is in use is an error, to be tried again, except for those whose content is ours
/// and ends with the pod: the memory behind an emptyDir or secret, and subPath binds. A stray
/// process holding one of these must not keep the pod from going.
fn unmount(pod: &Path, entry: &MountEntry) -> Result<(), SetUpError> {
    let below = entry.mount_point.strip_prefix(pod).unwrap_or(Path::new(""));
    let is_memory = matches!(entry.fs_type.as_str(), "tmpfs" | "hugetlbfs");
    let is_ours = below.starts_with(SUB_PATHS) || (below.starts_with(VOLUMES) && is_memory);
    match mount::unmount(&entry.mount_point) {
        Err(error) if is_ours => {
            tracing::warn!(mount = %entry.mount_point.display(), error = %crate::error::chain(&error), "Volume is busy; detaching its mount lazily");
            Ok(mount::detach(&entry.mount_point)?)
        }
        other => Ok(other?),
    }
}

/// The folders in `<root>/pods`.
pub(crate) fn pods_on_disk(pods: &Path) -> Result<Vec<PodUid>, SetUpError> {
    let root = match Root::open(pods) {
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        other => other?,
    };
    let is_folder = |name: &PathBuf| root.open_dir(name, Links::Refuse).is_ok();
    let names = root.names()?.into_iter().filter(is_folder);
    let mut uids: Vec<PodUid> = names.filter_map(|n| n.to_str().map(PodUid::from)).collect();
    uids.sort_unstable();
    Ok(uids)
}
