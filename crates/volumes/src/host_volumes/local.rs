//! `local`: a folder of the node that is bind mounted for each pod, or a disk of it that is mounted for the node first.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::beneath::Root;
use tokio::sync::OwnedMutexGuard;

use super::place::Place;
use super::{HostPublication, HostVolumeError, blocking, disk, mount};
use crate::error::{SetUpError, chain};
use crate::ownership::{self, ChangePolicy};
use crate::timing::{Operation, Timing};

/// Two pods want the files of a volume to belong to different groups. The text is upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "The requested fsGroup is {wanted}, but the volume {volume} has GID {found}. The volume may not be shareable."
)]
pub struct GroupConflict {
    /// The PersistentVolume's name.
    pub volume: String,
    /// The group of the pod.
    pub wanted: u32,
    /// The group of the files, which stays.
    pub found: u32,
}

/// What is at the path of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Folder,
    Disk,
}

/// Looks at the path of a volume.
async fn look(path: &str) -> Result<Found, HostVolumeError> {
    if path.split('/').any(|part| part == "..") {
        return Err(HostVolumeError::Backstep { path: path.to_owned() });
    }
    let path = path.to_owned();
    blocking(move || match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(HostVolumeError::NoPath { path }),
        Err(source) => Err(HostVolumeError::Look { path, source }),
        Ok(found) if found.is_dir() => Ok(Found::Folder),
        Ok(found) if found.file_type().is_block_device() => Ok(Found::Disk),
        Ok(_) => Err(HostVolumeError::Kind),
    })
    .await
}

/// Mounts a disk for the node, unless it is; a folder needs nothing.
pub(super) async fn stage(
    place: &Place,
    path: &str,
    fs_type: &str,
    options: &[String],
) -> Result<(), HostVolumeError> {
    if look(path).await? == Found::Folder {
        return Ok(());
    }
    let made = place.clone();
    if blocking(move || Ok(made.make_unless_mounted()?)).await? {
        return Ok(());
    }
    let mounted = disk::format_and_mount(path, &place.path(), fs_type, options).await;
    if mounted.is_err() {
        give_up(place).await;
    }
    mounted
}

/// A volume on its way to a pod.
pub(super) struct Local<'a> {
    /// The path that it says.
    pub(super) path: &'a str,
    /// Where a disk is mounted for the node.
    pub(super) staged: Place,
    /// Where it is for the pod.
    pub(super) place: Place,
    /// Where the folders of pods are.
    pub(super) pods: PathBuf,
    pub(super) guard: Arc<OwnedMutexGuard<()>>,
}

impl Local<'_> {
    /// Makes the bind mount, or finds it made, and hands the files to the group of the pod where no other pod has them.
    pub(super) async fn publish(
        self,
        publication: HostPublication<'_>,
        timing: &Timing,
    ) -> Result<Option<GroupConflict>, HostVolumeError> {
        let source = match look(self.path).await? {
            Found::Folder => PathBuf::from(self.path),
            Found::Disk => self.staged.path(),
        };
        let (text, path) = (source.to_string_lossy().into_owned(), self.place.path());
        let options = publication.mount_options();
        let (made, pods, looked) = (self.place.clone(), self.pods.clone(), source.clone());
        let held = Arc::clone(&self.guard);
        let (is_mounted, is_shared) = blocking(move || {
            let _guard = held;
            let is_shared = has_other_pod(&looked, &pods, &made.path())?;
            Ok((made.make_unless_mounted()?, is_shared))
        })
        .await?;
        let bound = match is_mounted {
            // Whoever has mounted it may have ended before its second step.
            true => mount::remount(&text, &path, &options).await,
            false => mount::bind(&text, &path, &options).await,
        };
        if bound.is_err() && !is_mounted {
            give_up(&self.place).await;
        }
        bound?;
        let Some(group) = crate::plugins::fs_group(publication.pod)? else { return Ok(None) };
        if is_shared && is_mounted {
            return Ok(None);
        }
        if is_shared {
            return conflict(source, group, publication.volume.folder.clone()).await;
        }
        if !publication.is_read_only {
            // What was mounted before was handed on, unless its process ended before that.
            let policy = match is_mounted {
                true => ChangePolicy::OnRootMismatch,
                false => ChangePolicy::of(publication.pod),
            };
            self.apply_group(group, policy, timing).await?;
        }
        Ok(None)
    }

    async fn apply_group(
        self,
        group: u32,
        policy: ChangePolicy,
        timing: &Timing,
    ) -> Result<(), HostVolumeError> {
        let timing = timing.clone();
        blocking(move || {
            let _guard = self.guard;
            let apply = || ownership::apply_to_foreign(&Root::open(&self.place.path())?, group, policy);
            let folder = model::storage::HostPlugin::Local.folder();
            Ok(timing.run(folder, Operation::ApplyGroup, apply).map_err(SetUpError::from)?)
        })
        .await
    }
}

/// Whether a volume is mounted for another pod.
fn has_other_pod(source: &Path, pods: &Path, own: &Path) -> Result<bool, HostVolumeError> {
    let look = |source| HostVolumeError::Look { path: own.display().to_string(), source };
    let source = fs::canonicalize(source).map_err(look)?;
    let others = host::mount::others_of(&source).map_err(SetUpError::from)?;
    Ok(others.iter().any(|entry| entry.mount_point.starts_with(pods) && entry.mount_point != own))
}

/// What is to be told where another pod has the volume already, which keeps its group.
async fn conflict(
    source: PathBuf,
    wanted: u32,
    volume: String,
) -> Result<Option<GroupConflict>, HostVolumeError> {
    blocking(move || {
        let found = fs::metadata(&source);
        let found = found
            .map_err(|error| HostVolumeError::Look { path: source.display().to_string(), source: error })?;
        let conflict = GroupConflict { volume, wanted, found: found.gid() };
        Ok((conflict.found != wanted).then_some(conflict))
    })
    .await
}

/// Removes what was made for a mount that failed.
async fn give_up(place: &Place) {
    let place = place.clone();
    let path = place.path();
    if let Err(error) = blocking(move || place.unmount()).await {
        tracing::warn!(
            path = %path.display(),
            err = chain(&error),
            "Failed to remove the folder of a volume that was not mounted, will retry with the volume"
        );
    }
}
