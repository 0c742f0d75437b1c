//! Waiting for something to happen in a log file's folder.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use tokio::net::unix::pipe;
use tracing::debug;

use super::open::{self, LogPath};

/// Room for some of the events that are queued; one with the longest name takes 272 bytes. What
/// does not fit stays queued and only wakes the reader once more.
const EVENT_BYTES: usize = 4096;

/// How often is looked where nothing tells of changes.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// News of one folder. Which event it was does not matter: after any, the reader looks at the file and the folder
/// again.
pub(crate) enum FolderWatch {
    /// An inotify instance. Like a pipe, it is read when it is readable, which is all that is asked of this type.
    Told(pipe::Receiver),
    /// The kernel has no instance left: a user has 128 of them (`fs.inotify.max_user_instances`), which on a node are
    /// the runtime's and everybody else's, too. Following a log late is better than not at all.
    Looking,
}

impl FolderWatch {
    /// Starts watching. From here on no change goes unnoticed.
    pub(crate) fn new(path: &LogPath) -> io::Result<Self> {
        let folder = open::folder(path)?;
        match told(&folder) {
            Ok(inotify) => Ok(Self::Told(pipe::Receiver::from_file_unchecked(File::from(inotify))?)),
            Err(Errno::MFILE | Errno::NOSPC) => {
                debug!(
                    path = %path.full().display(),
                    "No inotify instance is left for following a log, which is looked at every second instead; \
                     fs.inotify.max_user_instances and max_user_watches set how many there are"
                );
                Ok(Self::Looking)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Ends when something has happened since the last call, or may have. Cancel-safe: events stay queued
    /// until they are read, without waiting, at the very end.
    pub(crate) async fn changed(&self) -> io::Result<()> {
        let inotify = match self {
            Self::Told(inotify) => inotify,
            Self::Looking => {
                tokio::time::sleep(LOOK_PERIOD).await;
                return Ok(());
            }
        };
        let mut events = [0; EVENT_BYTES];
        loop {
            inotify.readable().await?;
            match inotify.try_read(&mut events) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read.map(drop),
            }
        }
    }
}

fn told(folder: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    let changes = WatchFlags::MODIFY
        | WatchFlags::CREATE
        | WatchFlags::MOVED_TO
        | WatchFlags::MOVED_FROM
        | WatchFlags::DELETE
        | WatchFlags::DELETE_SELF;
    // By descriptor, so that nobody can put another folder in its place in between.
    inotify::add_watch(&inotify, format!("/proc/self/fd/{}", folder.as_raw_fd()), changes)?;
    Ok(inotify)
}
