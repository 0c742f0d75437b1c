//! `subPath`: a part of a volume as a container's mount.
//!
//! A container that writes to the volume can turn any part of the path into a symbolic link at
//! any time (CVE-2017-1002101, CVE-2021-25741), so the runtime is never given a path through the
//! volume. The part is opened once, in a way that cannot leave the volume, and what was opened is
//! bind mounted to a place only the kubelet can write to. That place is the container's source.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use host::beneath::{self, BeneathError, Links, Root};
use host::mount::{self, BindOptions};

use tracing::warn;

use crate::error::{SetUpError, plain_name};
use crate::layout::{OWN_MODE, PodLayout, SUB_PATHS, sub_path_below};

/// One subPath mount.
#[derive(Clone, Debug)]
pub(crate) struct SubPath {
    pub(crate) volume: String,
    pub(crate) container: String,
    /// Position in the container's `volumeMounts`; part of the place's name.
    pub(crate) index: usize,
    pub(crate) volume_path: PathBuf,
    /// The path in the volume.
    pub(crate) below: PathBuf,
}

/// Makes the bind mount, or finds it made, and returns where it is.
pub(crate) fn prepare(layout: &PodLayout, sub_path: &SubPath) -> Result<PathBuf, SetUpError> {
    let source = File::from(open_or_make(&sub_path.volume_path, &sub_path.below)?);
    let wanted = source.metadata().map_err(|source| BeneathError {
        operation: "stat",
        path: sub_path.volume_path.join(&sub_path.below),
        source,
    })?;
    let place =
        layout.open()?.make_dirs(&sub_path_below(&sub_path.volume, &sub_path.container)?, OWN_MODE)?;
    let name = PathBuf::from(sub_path.index.to_string());
    let target = place.path().join(&name);
    if mount::is_mount_point(&target)? {
        let is_same =
            place.stat(&name).is_ok_and(|there| (there.st_dev, there.st_ino) == (wanted.dev(), wanted.ino()));
        if is_same {
            return Ok(target);
        }
        // What the path means has changed since. The old part may be busy or its server gone;
        // it must not keep the container from starting.
        mount::detach(&target)?;
    }
    place.remove_all(&name)?;
    if wanted.is_dir() {
        place.make_dirs(&name, OWN_MODE)?;
    } else {
        // A file serves as mount point for anything that is no folder.
        place.create_file(&name, b"", 0o640)?;
    }
    mount::bind_fd(source.as_fd(), &target, BindOptions::default())?;
    Ok(target)
}

/// Takes away the bind mounts of a volume's parts. One that is busy is detached, as those of a whole pod are.
pub(crate) fn remove_all(layout: &PodLayout, volume: &str) -> Result<(), SetUpError> {
    let folder = Path::new(SUB_PATHS);
    let name = plain_name("volume name", volume)?;
    for entry in mount::mounts_below(&layout.dir().join(folder).join(&name))? {
        if let Err(error) = mount::unmount(&entry.mount_point) {
            warn!(
                mount = %entry.mount_point.display(),
                error = %crate::error::chain(&error),
                "Volume is busy; detaching its mount lazily"
            );
            mount::detach(&entry.mount_point)?;
        }
    }
    match layout.open().and_then(|pod| Ok(pod.open_dir(folder, Links::Refuse)?)) {
        Ok(parts) => Ok(parts.remove_all(&name)?),
        Err(SetUpError::Disk(error)) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Opens the part, making the folders that are missing with the volume's own mode, so that
/// `fsGroup` works for them too.
fn open_or_make(volume: &Path, below: &Path) -> Result<std::os::fd::OwnedFd, BeneathError> {
    match beneath::open_inside(volume, below) {
        Err(error) if error.is_not_found() => {}
        other => return other,
    }
    let parts: Vec<Component<'_>> = below.components().filter(|c| *c != Component::CurDir).collect();
    for existing in (0..parts.len()).rev() {
        let prefix: PathBuf = parts[..existing].iter().collect();
        let rest: PathBuf = parts[existing..].iter().collect();
        match beneath::open_inside(volume, &prefix) {
            Ok(handle) => {
                let mode = Root::open(volume)?.stat_self()?.st_mode & 0o7777;
                let folder = Root::from_handle(handle, &volume.join(&prefix));
                folder.make_dirs(&rest, mode)?;
                // Opened anew from the volume: had someone put a link there meanwhile, this tells.
                return beneath::open_inside(volume, below);
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Root::open(volume)?.open_handle(below, Links::Refuse)
}
