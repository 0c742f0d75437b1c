//! Waiting for something to happen in a log file's folder.
//!
//! One inotify instance serves all readers. The kernel allows a user 128 of them by default, for everything on the
//! machine together, so that with one for each reader the hundredth `kubectl logs -f` would fail. Where others have used
//! up all of them, readers look every second: following a log late is better than not at all.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use host::inotify::{Event, Inotify, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::debug;

use super::open::{self, LogPath};

/// How often is looked where nothing tells of changes.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// The folders that are watched for readers of logs. A handle; clones share one inotify instance, which is made for
/// the first reader.
#[derive(Clone, Debug, Default)]
pub struct LogWatches {
    /// Held while a watch is added or removed and while events are handed out, never across a wait.
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    inotify: Option<Arc<Inotify>>,
    /// By the number of the watch, which is the same for all readers of a folder.
    folders: HashMap<i32, Folder>,
    /// Reads the events; ends with the table.
    reading: JoinSet<()>,
}

#[derive(Debug)]
struct Folder {
    readers: usize,
    /// Whether nothing will be heard of it any more.
    changed: watch::Sender<bool>,
}

/// A reader's interest in one folder. Which event it was does not matter: after any, the reader looks at the file and
/// the folder again.
#[derive(Debug)]
pub(crate) enum FolderWatch {
    /// The kernel tells.
    Inotify(InotifyWatch),
    /// It cannot.
    Polling,
}

/// A watch of one folder.
#[derive(Debug)]
pub(crate) struct InotifyWatch {
    watches: LogWatches,
    /// To which the number belongs.
    inotify: Arc<Inotify>,
    number: i32,
    changed: watch::Receiver<bool>,
}

impl LogWatches {
    /// Starts watching the folder of a file. From here on no change goes unnoticed. To be called on a runtime.
    pub(crate) fn watch(&self, path: &LogPath) -> io::Result<FolderWatch> {
        match self.told(path) {
            Ok(told) => Ok(FolderWatch::Inotify(told)),
            Err(error) if is_used_up(&error) => {
                debug!(
                    path = %path.full().display(),
                    "No inotify instances or watches left, container logs are polled every second instead; \
                     fs.inotify.max_user_instances and max_user_watches set how much there is"
                );
                Ok(FolderWatch::Polling)
            }
            Err(error) => Err(error),
        }
    }

    fn told(&self, path: &LogPath) -> io::Result<InotifyWatch> {
        let folder = open::folder(path)?;
        let changes = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF;
        let mut table = self.lock();
        let inotify = self.instance(&mut table)?;
        // By descriptor, so that nobody can put another folder in its place in between.
        let number = inotify.watch(format!("/proc/self/fd/{}", folder.as_raw_fd()), changes)?;
        let new = || Folder { readers: 0, changed: watch::Sender::new(false) };
        let folder = table.folders.entry(number).or_insert_with(new);
        folder.readers += 1;
        let changed = folder.changed.subscribe();
        Ok(InotifyWatch { watches: self.clone(), inotify, number, changed })
    }

    fn instance(&self, table: &mut Table) -> io::Result<Arc<Inotify>> {
        if let Some(inotify) = &table.inotify {
            return Ok(inotify.clone());
        }
        let inotify = Arc::new(Inotify::new()?);
        let watches = Arc::downgrade(&self.table);
        let events = inotify.clone();
        table.reading.spawn(async move {
            loop {
                let read = events.some().await;
                let Some(table) = watches.upgrade() else { return };
                let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
                match read {
                    Ok(events) => events.iter().for_each(|event| table.tell(event)),
                    Err(error) => {
                        tracing::warn!(%error, "Failed to read inotify events of log directories");
                        // Readers that come now get another instance; the others are told.
                        for (_, folder) in table.folders.drain() {
                            folder.changed.send_replace(true);
                        }
                        table.inotify = None;
                        return;
                    }
                }
            }
        });
        table.inotify = Some(inotify.clone());
        Ok(inotify)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing below the lock can leave the table half changed.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether there are too many inotify instances or watches already.
fn is_used_up(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NOSPC))
}

impl Table {
    fn tell(&mut self, event: &Event) {
        if event.flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            // Some were lost, nobody knows whose.
            for folder in self.folders.values() {
                folder.changed.send_replace(false);
            }
            return;
        }
        if let Some(folder) = self.folders.get(&event.watch) {
            folder.changed.send_replace(false);
        }
        if event.flags.contains(ReadFlags::IGNORED) {
            // The folder is gone, and its number with it.
            self.folders.remove(&event.watch);
        }
    }
}

impl FolderWatch {
    /// Ends when something has happened since the last call, or may have; never, once the folder is gone. Cancel-safe:
    /// what has happened is remembered.
    ///
    /// # Errors
    /// If nothing will be heard of the folder any more.
    pub(crate) async fn changed(&mut self) -> io::Result<()> {
        match self {
            Self::Inotify(told) => told.changed().await,
            Self::Polling => {
                tokio::time::sleep(LOOK_PERIOD).await;
                Ok(())
            }
        }
    }
}

impl InotifyWatch {
    async fn changed(&mut self) -> io::Result<()> {
        if self.changed.changed().await.is_err() {
            std::future::pending().await
        }
        match *self.changed.borrow_and_update() {
            true => Err(io::Error::other("the kernel's events cannot be read")),
            false => Ok(()),
        }
    }
}

impl Drop for InotifyWatch {
    fn drop(&mut self) {
        let mut table = self.watches.lock();
        if !table.inotify.as_ref().is_some_and(|inotify| Arc::ptr_eq(inotify, &self.inotify)) {
            return;
        }
        let Some(folder) = table.folders.get_mut(&self.number) else { return };
        folder.readers = folder.readers.saturating_sub(1);
        if folder.readers == 0 {
            table.folders.remove(&self.number);
            // It fails for a folder that is gone, whose event is still to come.
            let _ = self.inotify.unwatch(self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(root: &std::path::Path, folder: &str) -> LogPath {
        std::fs::create_dir_all(root.join(folder)).unwrap();
        LogPath { root: root.to_owned(), relative: format!("{folder}/0.log").into() }
    }

    #[tokio::test]
    async fn readers_share_an_instance_and_the_watch_of_a_folder() {
        let root = tempfile::tempdir().unwrap();
        let watches = LogWatches::default();
        let (one, other) = (path(root.path(), "one"), path(root.path(), "other"));
        let mut first = watches.told(&one).unwrap();
        let mut second = watches.told(&one).unwrap();
        // Many more than there may be instances.
        let third: Vec<_> = (0..1000).map(|_| watches.told(&other).unwrap()).collect();
        assert_eq!(watches.lock().folders.len(), 2);
        std::fs::write(one.full(), "x").unwrap();
        first.changed().await.unwrap();
        second.changed().await.unwrap();
        assert!(!third[0].changed.has_changed().unwrap(), "the other folder is as it was");
        drop(first);
        assert_eq!(watches.lock().folders.len(), 2);
        drop((second, third));
        assert!(watches.lock().folders.is_empty());
        // The number of a folder that was left is not mixed up with that of one watched later.
        let mut again = watches.told(&one).unwrap();
        std::fs::write(one.full(), "y").unwrap();
        again.changed().await.unwrap();
    }

    #[tokio::test]
    async fn a_folder_that_is_gone_says_so_once() {
        let root = tempfile::tempdir().unwrap();
        let watches = LogWatches::default();
        let mut gone = watches.told(&path(root.path(), "gone")).unwrap();
        {
            let mut table = watches.lock();
            table.tell(&Event { watch: gone.number, flags: ReadFlags::IGNORED, name: None });
            assert!(table.folders.is_empty());
        }
        gone.changed().await.unwrap();
        assert!(futures::FutureExt::now_or_never(gone.changed()).is_none());
    }

    #[tokio::test]
    async fn after_an_overflow_everybody_looks() {
        let root = tempfile::tempdir().unwrap();
        let watches = LogWatches::default();
        let mut all = ["a", "b"].map(|folder| watches.told(&path(root.path(), folder)).unwrap());
        watches.lock().tell(&Event { watch: -1, flags: ReadFlags::QUEUE_OVERFLOW, name: None });
        for watch in &mut all {
            watch.changed().await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_nothing_tells_one_looks_every_second() {
        let used_up = |errno: Errno| is_used_up(&errno.into());
        assert!(used_up(Errno::MFILE) && used_up(Errno::NOSPC) && !used_up(Errno::NOENT));
        let before = tokio::time::Instant::now();
        FolderWatch::Polling.changed().await.unwrap();
        assert_eq!(before.elapsed(), LOOK_PERIOD);
    }
}
