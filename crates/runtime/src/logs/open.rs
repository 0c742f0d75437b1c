//! Opening a log file beneath the log folder, through no link.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

/// A log file: the folder that may be trusted, and the path below it that may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPath {
    /// The pods' log folder (`/var/log/pods`). Links in this part are the operator's and followed.
    pub root: PathBuf,
    /// The file's path below it: `<namespace>_<name>_<uid>/<container>/<attempt>.log`.
    pub relative: PathBuf,
}

impl LogPath {
    /// Splits a path the runtime or the node gave for a log; `None` when it lies elsewhere.
    pub fn below(root: &Path, path: &Path) -> Option<Self> {
        let relative = path.strip_prefix(root).ok()?;
        Some(Self { root: root.to_owned(), relative: relative.to_owned() })
    }

    /// The whole path, for texts.
    pub fn full(&self) -> PathBuf {
        self.root.join(&self.relative)
    }
}

/// Opens the file for reading. Blocks on the disk.
pub(crate) fn file(path: &LogPath) -> io::Result<File> {
    // NONBLOCK: a workload's FIFO in the file's place must not hold the node up.
    let fd = beneath(path, &path.relative, OFlags::RDONLY | OFlags::NONBLOCK)?;
    let file = File::from(fd);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
}

/// Opens the folder the file stands in.
pub(crate) fn folder(path: &LogPath) -> io::Result<OwnedFd> {
    let folder = path.relative.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    beneath(path, folder, OFlags::PATH | OFlags::DIRECTORY)
}

fn beneath(path: &LogPath, relative: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let root =
        rustix::fs::open(&path.root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(root, relative, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}
