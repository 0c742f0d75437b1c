//! The folder in which plugins make the sockets they are registered by, watched with inotify.
//!
//! A name with a leading dot is no plugin's. A folder that comes with one is not looked into; one that is found in another
//! folder is, as upstream has it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::Stream;
use host::inotify::{Event, Inotify, ReadFlags, WatchFlags};

/// The folder is looked at anew after this, when it could not be watched: there is nothing that tells when it can.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// The sockets in a folder and those below it, all of them, by their paths: at first, and whenever there are others. One that
/// was made anew has another number than before. The folder is made when it is not there. Never ends.
pub fn watch_sockets(root: PathBuf) -> impl Stream<Item = BTreeMap<String, u64>> + Send {
    let watch = SocketWatch { root, watching: None, sockets: BTreeMap::new(), next: 0, is_failing: false };
    futures::stream::unfold((watch, None), |(mut watch, mut told)| async move {
        loop {
            watch.next().await;
            let sockets = watch.numbers();
            if told.as_ref() != Some(&sockets) {
                told = Some(sockets.clone());
                return Some((sockets, (watch, told)));
            }
        }
    })
}

struct SocketWatch {
    root: PathBuf,
    watching: Option<Watching>,
    sockets: BTreeMap<PathBuf, Socket>,
    /// The number of the next socket.
    next: u64,
    is_failing: bool,
}

struct Watching {
    inotify: Inotify,
    folders: BTreeMap<i32, PathBuf>,
}

#[derive(Clone, Copy)]
struct Socket {
    number: u64,
    stamp: Stamp,
}

/// Tells whether a socket is the one seen before. The time of its last change is not a part of it: plugins change modes.
type Stamp = (u64, u64, i64, i64);

fn stamp(meta: &Metadata) -> Stamp {
    (meta.dev(), meta.ino(), meta.mtime(), meta.mtime_nsec())
}

impl SocketWatch {
    fn numbers(&self) -> BTreeMap<String, u64> {
        let text = |path: &Path| path.to_str().map(str::to_owned);
        self.sockets.iter().filter_map(|(path, socket)| Some((text(path)?, socket.number))).collect()
    }

    /// Waits until something may have changed.
    async fn next(&mut self) {
        let Some(watching) = &self.watching else { return self.begin().await };
        match watching.inotify.all().await {
            Ok(events) => events.into_iter().for_each(|event| self.happened(event)),
            Err(error) => {
                tracing::warn!(err = model::chain(&error), "Failed to read what happens to plugin sockets");
                self.watching = None;
            }
        }
    }

    /// Watches from now on, and looks at what is there.
    async fn begin(&mut self) {
        while let Err(error) = self.try_begin() {
            self.watching = None;
            if !std::mem::replace(&mut self.is_failing, true) {
                let (path, err) = (self.root.display(), model::chain(&error));
                tracing::warn!(%path, err, "Failed to watch the plugin registration directory, will retry");
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        self.is_failing = false;
    }

    fn try_begin(&mut self) -> io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o750).create(&self.root)?;
        self.watching = Some(Watching { inotify: Inotify::new()?, folders: BTreeMap::new() });
        let before = std::mem::take(&mut self.sockets);
        let root = self.root.clone();
        let walked = self.walk(root);
        for (path, socket) in &mut self.sockets {
            // The same as before it could not be watched.
            if let Some(known) = before.get(path).filter(|known| known.stamp == socket.stamp) {
                *socket = *known;
            }
        }
        if walked.is_err() {
            self.sockets = before;
        }
        walked
    }

    /// Looks at a folder and all below it.
    ///
    /// # Errors
    /// The folder itself cannot be watched or read.
    fn walk(&mut self, top: PathBuf) -> io::Result<()> {
        let mut left = self.look_into(top)?;
        while let Some(folder) = left.pop() {
            match self.look_into(folder.clone()) {
                Ok(below) => left.extend(below),
                // It has just gone.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tell_unread(&folder, &error),
            }
        }
        Ok(())
    }

    /// Watches one folder and takes in its sockets. Returns the folders in it.
    fn look_into(&mut self, folder: PathBuf) -> io::Result<Vec<PathBuf>> {
        let changes = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        if let Some(Watching { inotify, folders }) = &mut self.watching {
            // Before it is read, so that nothing is missed.
            folders.insert(inotify.watch(&folder, changes)?, folder.clone());
        }
        let mut below = Vec::new();
        for entry in std::fs::read_dir(&folder)?.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => below.push(entry.path()),
                _ if is_hidden(&entry.file_name()) => {}
                _ => self.look_at(entry.path()),
            }
        }
        Ok(below)
    }

    /// Takes in what is at a path, if that is a socket, also over a link.
    fn look_at(&mut self, path: PathBuf) {
        let meta = std::fs::metadata(&path).ok().filter(|meta| meta.file_type().is_socket());
        let Some(meta) = meta else {
            self.sockets.remove(&path);
            return;
        };
        if path.to_str().is_none() {
            tracing::warn!(path = %path.display(), "Plugin socket is ignored: its name is not UTF-8");
            return;
        }
        let stamp = stamp(&meta);
        if self.sockets.get(&path).is_none_or(|known| known.stamp != stamp) {
            self.next += 1;
            self.sockets.insert(path, Socket { number: self.next, stamp });
        }
    }

    fn happened(&mut self, event: Event) {
        let Some(Watching { folders, .. }) = &mut self.watching else { return };
        if event.flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            // What has happened is not known: everything is looked at again.
            self.watching = None;
            return;
        }
        let Some(folder) = folders.get(&event.watch).cloned() else { return };
        if event.flags.intersects(ReadFlags::IGNORED | ReadFlags::MOVE_SELF) {
            folders.remove(&event.watch);
            if folder == self.root {
                self.sockets.clear();
                self.watching = None;
            }
            return;
        }
        let Some(name) = event.name else { return };
        let path = folder.join(&name);
        if event.flags.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) {
            self.gone(&path);
            return;
        }
        match event.flags.contains(ReadFlags::ISDIR) {
            _ if is_hidden(&name) => {}
            true => {
                let walked = self.walk(path.clone());
                walked.unwrap_or_else(|error| tell_unread(&path, &error));
            }
            false => self.look_at(path),
        }
    }

    /// Nothing is there any more, nor below.
    fn gone(&mut self, path: &Path) {
        self.sockets.retain(|socket, _| !socket.starts_with(path));
        let Some(Watching { inotify, folders }) = &mut self.watching else { return };
        folders.retain(|watch, folder| {
            let is_gone = folder.starts_with(path);
            if is_gone {
                // A folder that was removed is watched no more.
                let _ = inotify.unwatch(*watch);
            }
            !is_gone
        });
    }
}

fn tell_unread(folder: &Path, error: &io::Error) {
    let (path, err) = (folder.display(), model::chain(error));
    tracing::warn!(%path, err, "Failed to look for plugin sockets in a directory");
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".")
}

#[cfg(test)]
mod tests;
