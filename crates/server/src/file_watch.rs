//! An inotify watch for files that are replaced, so that a new certificate is in use at once.
//!
//! Folders are watched, not files: whoever replaces a file moves another one to its place, and what Kubernetes mounts
//! changes a link beside it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe;

/// Room for some of the events that are queued; what does not fit is read by the next call.
const EVENT_BYTES: usize = 4096;

/// A watch of some folders.
pub(crate) struct FileWatch {
    /// Like a pipe, inotify is read when it is readable. None where the kernel has none left.
    inotify: Option<pipe::Receiver>,
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
        let mut events = [0; EVENT_BYTES];
        loop {
            if inotify.readable().await.is_err() {
                return std::future::pending().await;
            }
            match inotify.try_read(&mut events) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(_) => return,
                Err(_) => return std::future::pending().await,
            }
        }
    }
}

fn watch(folders: &BTreeSet<&Path>) -> io::Result<pipe::Receiver> {
    let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    let changes = WatchFlags::CLOSE_WRITE | WatchFlags::CREATE | WatchFlags::MOVED_TO;
    for folder in folders {
        inotify::add_watch(&inotify, *folder, changes)?;
    }
    pipe::Receiver::from_file_unchecked(File::from(inotify))
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
