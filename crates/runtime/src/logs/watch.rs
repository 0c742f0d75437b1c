//! Waiting for something to happen in a log file's folder.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe;

use super::open::{self, LogPath};

/// Room for some of the events that are queued; one with the longest name takes 272 bytes. What
/// does not fit stays queued and only wakes the reader once more.
const EVENT_BYTES: usize = 4096;

/// An inotify instance on one folder. Which event it was does not matter: after any, the reader
/// looks at the file and the folder again.
pub(crate) struct FolderWatch {
    /// Like a pipe, inotify is read when it is readable, which is all that is asked of this type.
    inotify: pipe::Receiver,
}

impl FolderWatch {
    /// Starts watching. From here on no change goes unnoticed.
    pub(crate) fn new(path: &LogPath) -> io::Result<Self> {
        let folder = open::folder(path)?;
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let changes = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF;
        // By descriptor, so that nobody can put another folder in its place in between.
        inotify::add_watch(&inotify, format!("/proc/self/fd/{}", folder.as_raw_fd()), changes)?;
        Ok(Self { inotify: pipe::Receiver::from_file_unchecked(File::from(inotify))? })
    }

    /// Ends when something has happened since the last call. Cancel-safe: events stay queued
    /// until they are read, without waiting, at the very end.
    pub(crate) async fn changed(&self) -> io::Result<()> {
        let mut events = [0; EVENT_BYTES];
        loop {
            self.inotify.readable().await?;
            match self.inotify.try_read(&mut events) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read.map(drop),
            }
        }
    }
}
