//! Volumes that the kubelet mounts itself, one by one: folders and disks of the node (`local`), paths of it (`hostPath`) behind a
//! claim, and what servers export (`nfs`).
//!
//! Folders and mounts are upstream's, and the mount table is all that is remembered: each call may be repeated, and finds what
//! an earlier one, of whatever process, has made. Who calls when is decided elsewhere; what a caller has given up may still be
//! busy, and is waited for.

mod disk;
mod error;
mod found;
mod local;
mod mount;
mod nfs;
mod place;
mod program;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use model::storage::{HostPlugin, HostSource, VolumeSource, VolumeSpec};
use model::{Pod, PodUid, pod as pods};
use telemetry::metrics::Metrics;
use tokio::sync::OwnedMutexGuard;

pub use error::HostVolumeError;
pub(crate) use found::find;
pub use local::GroupConflict;

use crate::layout::PodLayout;
use crate::locks::Locks;
use crate::plugins::host_path::HostPath;
use crate::sub_path;
use crate::timing::{Operation, Timing};
use place::Place;

/// The volumes that the kubelet mounts below one root directory.
#[derive(Debug)]
pub struct HostVolumes {
    /// Free of symbolic links, so that it compares with the mount table.
    root: PathBuf,
    /// By the folder of a volume, for the node or in its pod.
    locks: Locks<PathBuf>,
    timing: Timing,
}

/// A volume for a pod.
#[derive(Clone, Copy, Debug)]
pub struct HostPublication<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The volume.
    pub volume: &'a VolumeSpec,
    /// Whether the pod may only ever read it.
    pub is_read_only: bool,
}

impl<'a> HostPublication<'a> {
    /// As mount(8) gets them: sorted, each once.
    fn mount_options(&self) -> Vec<&'a str> {
        let read_only = self.is_read_only.then_some("ro");
        let mut options: Vec<&str> =
            self.volume.mount_options.iter().map(String::as_str).chain(read_only).collect();
        options.sort_unstable();
        options.dedup();
        options
    }
}

impl HostVolumes {
    /// Volumes below the kubelet's root directory, which must exist. What is done with them is counted.
    pub fn new(root: &Path, metrics: Arc<Metrics>) -> Self {
        let root = std::fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
        Self { root, locks: Locks::default(), timing: Timing::new(metrics) }
    }

    /// Makes a volume ready for the node: a disk is mounted, after a file system was made on it if it has none. With a folder
    /// there is nothing to do.
    ///
    /// # Errors
    /// See [`HostVolumeError`].
    pub async fn stage(&self, volume: &VolumeSpec) -> Result<(), HostVolumeError> {
        match &volume.source {
            VolumeSource::Host(HostSource::Local { path, fs_type }) => {
                let place = Place::staged(&self.root, &volume.folder)?;
                let _guard = self.locks.lock(&place.path()).await;
                local::stage(&place, path, fs_type, &volume.mount_options).await
            }
            VolumeSource::Host(HostSource::HostPath { .. } | HostSource::Nfs { .. }) => Ok(()),
            VolumeSource::Csi(_) => Err(HostVolumeError::OtherKind),
        }
    }

    /// Takes a volume from the node. What is not there any more is fine.
    ///
    /// # Errors
    /// See [`HostVolumeError`].
    pub async fn unstage(&self, plugin: HostPlugin, folder: &str) -> Result<(), HostVolumeError> {
        if !plugin.stages() {
            return Ok(());
        }
        let begun = Instant::now();
        let place = Place::staged(&self.root, folder)?;
        let guard = self.locks.lock(&place.path()).await;
        let result = blocking(move || {
            let _guard = guard;
            place.unmount()
        });
        let result = result.await;
        self.timing.note(plugin.folder(), Operation::UnmountDevice, result.is_ok(), begun.elapsed());
        result
    }

    /// Makes a volume available to a pod, with its files handed to the group of the pod where that is done. Tells when another
    /// pod has them with another group.
    ///
    /// # Errors
    /// See [`HostVolumeError`].
    pub async fn publish(
        &self,
        publication: HostPublication<'_>,
    ) -> Result<Option<GroupConflict>, HostVolumeError> {
        let VolumeSource::Host(source) = &publication.volume.source else {
            return Err(HostVolumeError::OtherKind);
        };
        let begun = Instant::now();
        let result = match source {
            HostSource::Local { path, .. } => self.publish_local(publication, path).await,
            HostSource::HostPath { path, kind } => check(path.clone(), kind.clone()).await.map(|()| None),
            HostSource::Nfs { server, path } => {
                let export = nfs::Export { server, path };
                self.publish_nfs(publication, export).await.map(|()| None)
            }
        };
        let folder = source.plugin().folder();
        self.timing.note(folder, Operation::Mount, result.is_ok(), begun.elapsed());
        result
    }

    async fn publish_local(
        &self,
        publication: HostPublication<'_>,
        path: &str,
    ) -> Result<Option<GroupConflict>, HostVolumeError> {
        let (place, guard) = self.place_in(publication, HostPlugin::Local).await?;
        let volume = publication.volume;
        let staged = Place::staged(&self.root, &volume.folder)?;
        let local = local::Local { path, staged, place, pods: self.root.join("pods"), guard };
        local.publish(publication, &self.timing).await
    }

    async fn publish_nfs(
        &self,
        publication: HostPublication<'_>,
        export: nfs::Export<'_>,
    ) -> Result<(), HostVolumeError> {
        let (place, _guard) = self.place_in(publication, HostPlugin::Nfs).await?;
        nfs::mount(export, place, &publication.mount_options()).await
    }

    /// Where a volume is to be for a pod, whose folder is there then, and nobody else's until the guard goes.
    async fn place_in(
        &self,
        HostPublication { pod, volume, .. }: HostPublication<'_>,
        plugin: HostPlugin,
    ) -> Result<(Place, Arc<OwnedMutexGuard<()>>), HostVolumeError> {
        let uid = pods::uid(pod);
        let place = Place::published(&self.root, &uid, plugin, &volume.folder)?;
        let guard = Arc::new(self.locks.lock(&place.path()).await);
        let (layout, held) = (PodLayout::new(&self.root, &uid)?, Arc::clone(&guard));
        let made = blocking(move || {
            let _guard = held;
            Ok(layout.make().map(drop)?)
        });
        made.await?;
        Ok((place, guard))
    }

    /// Takes a volume from a pod, after the parts of it that were mounted for containers. What is not there any more is fine.
    ///
    /// # Errors
    /// See [`HostVolumeError`].
    pub async fn unpublish(
        &self,
        uid: &PodUid,
        folder: &str,
        plugin: HostPlugin,
    ) -> Result<(), HostVolumeError> {
        let begun = Instant::now();
        let place = Place::published(&self.root, uid, plugin, folder)?;
        let layout = PodLayout::new(&self.root, uid)?;
        let guard = Arc::new(self.locks.lock(&place.path()).await);
        let (parts, held, unmounted) = (folder.to_owned(), Arc::clone(&guard), place.clone());
        let result = async {
            blocking(move || {
                let _guard = held;
                Ok(sub_path::remove_all(&layout, &parts)?)
            })
            .await?;
            if plugin == HostPlugin::Nfs {
                nfs::unmount(&place).await?;
            }
            blocking(move || {
                let _guard = guard;
                unmounted.unmount()
            })
            .await
        };
        let result = result.await;
        self.timing.note(plugin.folder(), Operation::Unmount, result.is_ok(), begun.elapsed());
        result
    }
}

/// Makes a path of the node what a volume says that it is, or finds that it is that.
async fn check(path: String, kind: String) -> Result<(), HostVolumeError> {
    blocking(move || {
        let checked = HostPath::of(&path, &kind).and_then(|path| path.check());
        Ok(checked.map_err(crate::error::SetUpError::from)?)
    })
    .await
}

/// Work that blocks, on a thread that may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HostVolumeError> + Send + 'static,
) -> Result<T, HostVolumeError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(HostVolumeError::Interrupted))
}

#[cfg(test)]
mod tests;
