//! `--lock-file` and `--exit-on-lock-contention`: one kubelet at a time, where a bootstrap kubelet
//! gives way to the one that opens the file after it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use host::inotify::{Inotify, WatchFlags};
use rustix::fs::{FlockOperation, flock};
use tracing::info;

/// A lock that cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Somebody else's interest in a file nobody named.
    #[error("cannot exit on lock file contention: no lock file specified (set --lock-file)")]
    NoFile,
    /// It cannot be opened or locked.
    #[error("unable to acquire file lock on {path:?}")]
    Acquire { path: PathBuf, source: io::Error },
    /// It cannot be watched.
    #[error("unable to watch lock file {path:?}")]
    Watch { path: PathBuf, source: io::Error },
}

/// The lock, held until this is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
    contention: Option<Inotify>,
}

impl Lock {
    /// Locks the file, which is made if need be, and waits for whoever has it.
    pub(crate) async fn acquire(path: &Path, is_watching: bool) -> Result<Self, LockError> {
        info!(path = %path.display(), "Acquiring file lock");
        let at = path.to_owned();
        // Waits in the kernel. A kubelet that is told to end meanwhile leaves the thread behind, and
        // the end of the process ends it.
        let locked = tokio::task::spawn_blocking(move || lock(&at)).await.map_err(io::Error::other);
        let locked = locked.and_then(|result| result);
        let file = locked.map_err(|source| LockError::Acquire { path: path.to_owned(), source })?;
        let watch = |source| LockError::Watch { path: path.to_owned(), source };
        let contention = if is_watching { Some(watched(path).map_err(watch)?) } else { None };
        Ok(Self { _file: file, contention })
    }

    /// Ends when somebody else opens the file or takes it away; never, unless it is watched.
    pub(crate) async fn contended(&self) {
        let Some(inotify) = &self.contention else { return std::future::pending().await };
        // An inotify that fails says nothing any more: upstream ends then, too.
        let _ = inotify.some().await;
    }
}

fn lock(path: &Path) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    loop {
        match flock(&file, FlockOperation::LockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn watched(path: &Path) -> io::Result<Inotify> {
    let inotify = Inotify::new()?;
    inotify.watch(path, WatchFlags::OPEN | WatchFlags::DELETE_SELF)?;
    Ok(inotify)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_waits_for_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = Lock::acquire(&path, false).await.unwrap();
        let second = tokio::spawn(async move { Lock::acquire(&path, false).await });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        second.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn whoever_opens_or_removes_the_file_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        for is_removed in [false, true] {
            let path = folder.path().join("lock");
            let lock = Lock::acquire(&path, true).await.unwrap();
            if is_removed {
                std::fs::remove_file(&path).unwrap();
                // The inode lives as long as it is open; only then is it gone.
                drop(lock._file);
                let rest = Lock { _file: File::open("/dev/null").unwrap(), contention: lock.contention };
                rest.contended().await;
            } else {
                File::open(&path).unwrap();
                lock.contended().await;
            }
        }
    }

    #[tokio::test]
    async fn errors_name_the_file() {
        let error = Lock::acquire(Path::new("/no/such/lock"), true).await.unwrap_err();
        assert_eq!(error.to_string(), r#"unable to acquire file lock on "/no/such/lock""#);
    }
}
