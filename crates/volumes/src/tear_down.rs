//! Taking a pod's volumes down: unmount first, delete afterwards, never delete through a mount. The pod's folder goes later,
//! with what containers have left in it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use host::beneath::{FileSystemKind, Links, Root};
use host::mount::{self, MountEntry, MountError};
use model::PodUid;
use model::storage::HostPlugin;

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
    remove_unmounted(layout, timing, |pods, unmounted| {
        remove_volumes(pods, layout.uid(), unmounted, timing)?;
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
    remove_unmounted(layout, timing, |pods, unmounted| {
        remove_volumes(pods, layout.uid(), unmounted, timing)?;
        Ok(pods.remove_all(layout.uid())?)
    })
}

/// Unmounts everything below the pod's folder, then removes something there.
///
/// The mount table is as long as the node has volumes, and the kernel writes all of it for each reader. So it is not read where
/// all that is mounted are file systems in memory, at the volumes' folders; should there be more, its removal fails.
fn remove_unmounted(
    layout: &PodLayout,
    timing: &Timing,
    remove: impl Fn(&Root, &Unmounted) -> Result<(), SetUpError>,
) -> Result<(), SetUpError> {
    refuse_published(layout)?;
    refuse_mounted(layout)?;
    let pods = match Root::open(layout.pods()) {
        Err(error) if error.is_not_found() => return Ok(()),
        other => other?,
    };
    let dir = layout.dir();
    let mut unmounted = Unmounted::default();
    // Removal crosses into no other file system or mount.
    if unmounted.take_memory(&pods, layout)? && remove(&pods, &unmounted).is_ok() {
        return Ok(());
    }
    unmounted.take_all(&dir, timing)?;
    unmounted.is_complete = true;
    // Should a mount appear meanwhile, what lies behind it is safe.
    let Err(error) = remove(&pods, &unmounted) else { return Ok(()) };
    match mount::mounts_below(&dir)?.into_iter().next() {
        Some(entry) => Err(MountError::StillMounted { path: entry.mount_point }.into()),
        None => Err(error),
    }
}

/// Nothing goes while a volume of a CSI driver is there: the driver has to take it back. A folder that tells of no volume, and
/// is not mounted, is litter.
fn refuse_published(layout: &PodLayout) -> Result<(), SetUpError> {
    let below = Path::new(VOLUMES).join(csi::PLUGIN);
    let Ok(volumes) = layout.open().and_then(|pod| Ok(pod.open_dir(&below, Links::Refuse)?)) else {
        return Ok(());
    };
    let folder = layout.dir().join(&below);
    if let Some(entry) = mount::mounts_below(&folder)?.into_iter().next() {
        return Err(MountError::StillMounted { path: entry.mount_point }.into());
    }
    for name in volumes.names()? {
        let Ok(volume) = volumes.open_dir(&name, Links::Refuse) else { continue };
        if let Ok(Some(_)) = VolumeData::read(&volume) {
            return Err(SetUpError::StillPublished { path: folder.join(name) });
        }
    }
    Ok(())
}

/// Nor does anything go while a volume is mounted that was mounted by itself: nobody looks at it meanwhile.
fn refuse_mounted(layout: &PodLayout) -> Result<(), SetUpError> {
    for plugin in HostPlugin::MOUNTING {
        let below = Path::new(VOLUMES).join(plugin.folder());
        if layout.open().and_then(|pod| Ok(pod.open_dir(&below, Links::Refuse)?)).is_err() {
            continue;
        }
        if let Some(entry) = mount::mounts_below(&layout.dir().join(&below))?.into_iter().next() {
            return Err(MountError::StillMounted { path: entry.mount_point }.into());
        }
    }
    Ok(())
}

/// What was unmounted of a pod.
#[derive(Debug, Default)]
struct Unmounted {
    /// How long it took for each volume that was a mount.
    took: HashMap<Volume, Duration>,
    /// Whether nothing is left by the mount table: that something cannot be removed has another cause.
    is_complete: bool,
}

impl Unmounted {
    /// Unmounts the file systems in memory that are volumes. Returns whether that may be all there is.
    fn take_memory(&mut self, pods: &Root, layout: &PodLayout) -> Result<bool, SetUpError> {
        let Ok(pod) = pods.open_dir(layout.uid(), Links::Refuse) else { return Ok(true) };
        if pod.stat(Path::new(SUB_PATHS)).is_ok() {
            return Ok(false);
        }
        let Ok(volumes) = pod.open_dir(Path::new(VOLUMES), Links::Refuse) else { return Ok(true) };
        for folder in volumes.names()? {
            let Ok(plugin) = volumes.open_dir(&folder, Links::Refuse) else { continue };
            for name in plugin.names()? {
                // What cannot be looked at is no mount of ours.
                match plugin.mounted(&name).ok().flatten().map(|mounted| mounted.kind) {
                    None => {}
                    Some(FileSystemKind::Tmpfs | FileSystemKind::HugePages) => {
                        let begun = Instant::now();
                        if mount::unmount(&layout.dir().join(VOLUMES).join(&folder).join(&name)).is_err() {
                            // Something holds it, perhaps a mount inside.
                            return Ok(false);
                        }
                        let plugin = folder.to_string_lossy().into_owned();
                        self.took.insert(Volume { plugin, name }, begun.elapsed());
                    }
                    Some(FileSystemKind::Other) => return Ok(false),
                }
            }
        }
        Ok(true)
    }

    /// Unmounts whatever the mount table has below a pod's folder.
    fn take_all(&mut self, dir: &Path, timing: &Timing) -> Result<(), SetUpError> {
        for entry in mount::mounts_below(dir)? {
            let begun = Instant::now();
            let unmounted = unmount(dir, &entry);
            if let Some(volume) = Volume::at(dir, &entry.mount_point) {
                if unmounted.is_err() {
                    timing.note(&volume.plugin, Operation::Unmount, false, begun.elapsed());
                }
                *self.took.entry(volume).or_default() += begun.elapsed();
            }
            unmounted?;
        }
        Ok(())
    }
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
fn remove_volumes(pods: &Root, pod: &Path, unmounted: &Unmounted, timing: &Timing) -> Result<(), SetUpError> {
    // Whatever is no folder of volumes goes with the rest.
    let Ok(volumes) = pods.open_dir(&pod.join(VOLUMES), Links::Refuse) else { return Ok(()) };
    for folder in volumes.names()? {
        let Ok(plugin) = volumes.open_dir(&folder, Links::Refuse) else { continue };
        for name in plugin.names()? {
            let volume = Volume { plugin: folder.to_string_lossy().into_owned(), name };
            let begun = Instant::now();
            let removed = plugin.remove_all(&volume.name);
            let took = begun.elapsed() + unmounted.took.get(&volume).copied().unwrap_or_default();
            if removed.is_ok() || unmounted.is_complete {
                timing.note(&volume.plugin, Operation::Unmount, removed.is_ok(), took);
            }
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
