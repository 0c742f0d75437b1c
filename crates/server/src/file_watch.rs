//! An inotify watch for files that are replaced, so that a new certificate is in use at once.
//!
//! Folders are watched, not files: whoever replaces a file moves another one to its place, and what Kubernetes mounts
//! changes a link beside it.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use host::inotify::{Inotify, WatchFlags};

/// A watch of some folders.
pub(crate) struct FileWatch {
    /// None where the kernel has none left.
    inotify: Option<Inotify>,
}

impl FileWatch {
    /// Of the folders in which these files are. Without events (no folder, no inotify left) there are simply none.
    pub(crate) fn of<'a>(files: impl Iterator<Item = &'a Path>) -> Self {
        let folders: BTreeSet<&Path> = files.filter_map(Path::parent).collect();
        let watching = if folders.is_empty() { Ok(None) } else { watch(&folders).map(Some) };
        let inotify = watching.unwrap_or_else(|error| {
            tracing::info!(
                error = &error as &dyn std::error::Error,
                "Failed to watch certificate directories; changes are noticed by polling only"
            );
            None
        });
        Self { inotify }
    }

    /// Ends when something has happened since the last call; never without events. Cancel-safe: events stay queued
    /// until they are read, without waiting, at the very end.
    pub(crate) async fn changed(&self) {
        let Some(inotify) = &self.inotify else { return std::future::pending().await };
        if inotify.some().await.is_err() {
            std::future::pending().await
        }
    }
}

fn watch(folders: &BTreeSet<&Path>) -> io::Result<Inotify> {
    let inotify = Inotify::new()?;
    let changes = WatchFlags::CLOSE_WRITE | WatchFlags::CREATE | WatchFlags::MOVED_TO;
    for folder in folders {
        inotify.watch(folder, changes)?;
    }
    Ok(inotify)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_is_replaced_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let (file, other) = (folder.path().join("tls.crt"), folder.path().join("other"));
        std::fs::write(&file, "old").unwrap();
        let watch = FileWatch::of([file.as_path(), file.as_path()].into_iter());
        assert!(futures::FutureExt::now_or_never(watch.changed()).is_none());
        std::fs::write(&other, "new").unwrap();
        watch.changed().await;
        std::fs::rename(&other, &file).unwrap();
        watch.changed().await;
    }

    #[tokio::test]
    async fn without_folders_there_are_no_events() {
        let watch = FileWatch::of(std::iter::empty());
        assert!(futures::FutureExt::now_or_never(watch.changed()).is_none());
        let watch = FileWatch::of([Path::new("/no/such/folder/file")].into_iter());
        assert!(futures::FutureExt::now_or_never(watch.changed()).is_none());
    }
}
