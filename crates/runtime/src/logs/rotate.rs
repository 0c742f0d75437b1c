//! Rotating a container's log: the running one gets a date, the runtime opens a new one, older
//! ones are compressed, and the oldest go (`containerLogMaxSize`, `containerLogMaxFiles`).
//!
//! The names are upstream's: `0.log`, `0.log.20260101-120000`, `0.log.20260101-110000.gz`. The newest
//! dated file stays uncompressed, so that whoever reads it (a follower, a log shipper) can finish.

use std::ffi::OsString;
use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::civil::DateTime;
use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, renameat, statat, unlinkat};

use super::open::{self, LogPath};
use super::reader::blocking;

/// When a log is rotated, and what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotationPolicy {
    /// `containerLogMaxSize`, bytes: a log of this size or more is rotated.
    pub max_bytes: u64,
    /// `containerLogMaxFiles`, the one being written included; at least 2.
    pub max_files: usize,
}

/// What a look at a log came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// It is small still.
    NotDue,
    /// A new file is being written.
    Done,
    /// There was none, and the runtime has made one (it was taken away behind its back).
    Recreated,
}

/// Why a log was not rotated. It is written on as before, in every case but the last.
#[derive(Debug, thiserror::Error)]
pub enum RotateError<E: std::error::Error + 'static> {
    /// The folder or its files could not be read or changed.
    #[error("failed to rotate log file {path:?}")]
    Files {
        /// The log.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The runtime did not open a new file.
    #[error("failed to reopen log file {path:?}")]
    Reopen {
        /// The log.
        path: PathBuf,
        /// What the runtime said.
        #[source]
        source: E,
    },
}

/// Rotates a log if it is due. `reopen` tells the runtime to open the path anew (CRI
/// `ReopenContainerLog`); `now` is the time on the wall where the node stands, as upstream. Dropped half-way, it leaves nothing that the next call does not repair,
/// unless it is dropped within `reopen`: then the runtime goes on writing to the dated file.
pub async fn rotate<E, F>(
    path: &LogPath,
    policy: RotationPolicy,
    now: DateTime,
    reopen: impl FnOnce() -> F,
) -> Result<Rotation, RotateError<E>>
where
    E: std::error::Error + 'static,
    F: Future<Output = Result<(), E>>,
{
    let files = |source| RotateError::Files { path: path.full(), source };
    let reopen_failed = |source| RotateError::Reopen { path: path.full(), source };
    let opening = path.clone();
    let folder = Arc::new(blocking(move || Folder::open(&opening)).await.map_err(files)?);
    let looking = folder.clone();
    let Some(len) = blocking(move || looking.len()).await.map_err(files)? else {
        reopen().await.map_err(reopen_failed)?;
        return Ok(Rotation::Recreated);
    };
    if len < policy.max_bytes {
        return Ok(Rotation::NotDue);
    }
    let dated = folder.dated(now);
    let (working, to) = (folder.clone(), dated.clone());
    let moving = move || {
        working.make_room(policy.max_files)?;
        working.rename(&working.name, &to)
    };
    blocking(moving).await.map_err(files)?;
    if let Err(source) = reopen().await {
        // The runtime still writes to the same file, which gets its name back.
        let undoing = move || folder.rename(&dated, &folder.name);
        if let Err(error) = blocking(undoing).await {
            tracing::error!(path = %path.full().display(), %error, "Failed to restore the name of a container log file");
        }
        return Err(reopen_failed(source));
    }
    Ok(Rotation::Done)
}

/// The folder of a log, by descriptor: whatever a workload does to the path, this stays the folder.
struct Folder {
    fd: OwnedFd,
    /// The log's name in it.
    name: OsString,
}

impl Folder {
    fn open(path: &LogPath) -> io::Result<Self> {
        let name = path.relative.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        let path_only = open::folder(path)?;
        let fd =
            openat(&path_only, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { fd, name })
    }

    /// The log's size; `None` when there is none.
    fn len(&self) -> io::Result<Option<u64>> {
        match statat(&self.fd, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(u64::try_from(stat.st_size).unwrap_or(0))),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn dated(&self, now: DateTime) -> OsString {
        let mut name = self.name.clone();
        name.push(format!(".{}", now.strftime("%Y%m%d-%H%M%S")));
        name
    }

    fn rename(&self, from: &OsString, to: &OsString) -> io::Result<()> {
        Ok(renameat(&self.fd, from, &self.fd, to)?)
    }

    /// Removes leftovers and the oldest files, and compresses the rest.
    fn make_room(&self, max_files: usize) -> io::Result<()> {
        let all = self.rotated()?;
        let (mut kept, leftovers): (Vec<_>, Vec<_>) = all.iter().partition(|name| is_in_use(name, &all));
        for name in leftovers {
            unlinkat(&self.fd, name, AtFlags::empty())?;
        }
        // Beside these there will be the new file and the one that gets its date now.
        let excess = kept.len().saturating_sub(max_files.saturating_sub(2));
        for name in kept.drain(..excess) {
            unlinkat(&self.fd, name, AtFlags::empty())?;
        }
        for name in kept.into_iter().filter(|name| !ends_with(name, COMPRESSED)) {
            self.compress(name)?;
        }
        Ok(())
    }

    /// All files that rotations of this log left, oldest first.
    fn rotated(&self) -> io::Result<Vec<OsString>> {
        let mut prefix = self.name.as_bytes().to_vec();
        prefix.push(b'.');
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name.starts_with(&prefix) {
                names.push(std::ffi::OsStr::from_bytes(name).to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    fn compress(&self, name: &OsString) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut from = File::from(openat(&self.fd, name, flags, Mode::empty())?);
        let mode = Mode::from_raw_mode(std::os::unix::fs::MetadataExt::mode(&from.metadata()?));
        let (temporary, compressed) = (with_suffix(name, TEMPORARY), with_suffix(name, COMPRESSED));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = File::from(openat(&self.fd, &temporary, flags, mode)?);
        let mut encoder = GzEncoder::new(io::BufWriter::new(to), Compression::default());
        io::copy(&mut from, &mut encoder)?;
        encoder.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        self.rename(&temporary, &compressed)?;
        Ok(unlinkat(&self.fd, name, AtFlags::empty())?)
    }
}

const COMPRESSED: &str = ".gz";
const TEMPORARY: &str = ".tmp";

/// Half-written files are not, nor are those that were compressed and not yet removed.
fn is_in_use(name: &OsString, all: &[OsString]) -> bool {
    ends_with(name, COMPRESSED)
        || (!ends_with(name, TEMPORARY) && !all.contains(&with_suffix(name, COMPRESSED)))
}

fn ends_with(name: &OsString, suffix: &str) -> bool {
    name.as_bytes().ends_with(suffix.as_bytes())
}

fn with_suffix(name: &OsString, suffix: &str) -> OsString {
    let mut longer = name.clone();
    longer.push(suffix);
    longer
}
