//! Container logs on disk: what `kubectl logs` reads.
//!
//! The runtime writes one file a container attempt, a line a record (CRI's format, or Docker's
//! JSON); the node reads them for its clients and rotates them. [`LogReader`] turns a file into
//! the bytes a client sees: a tail found from the end, old lines skipped, streams selected, partial
//! lines joined, and, when following, everything that comes until the container has ended, through
//! rotations. Waiting is for events of the file system, never by polling.
//!
//! Whatever stands below the pods' log folder may have been put there by a workload, so files are
//! opened beneath the folder, through no link of any kind.

mod line;
mod open;
mod reader;
mod rotate;
mod tail;
mod watch;

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;

pub use line::StreamKind;
pub use open::LogPath;
pub use reader::LogReader;
pub use rotate::{RotateError, Rotation, RotationPolicy, rotate};
pub use watch::LogWatches;

/// Which of a container's output streams to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamSelection {
    /// Both, in the order they were written.
    #[default]
    All,
    /// Standard output only.
    Stdout,
    /// Standard error only.
    Stderr,
}

impl StreamSelection {
    fn includes(self, stream: StreamKind) -> bool {
        match self {
            Self::All => true,
            Self::Stdout => stream == StreamKind::Stdout,
            Self::Stderr => stream == StreamKind::Stderr,
        }
    }
}

/// What part of a log to read, and how to show it (`v1.PodLogOptions`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on reading until the container has ended.
    pub follow: bool,
    /// Start this many records before the end. A line the runtime split counts once a part, and
    /// an unfinished last line does not count, as upstream. Applied before `since`.
    pub tail_lines: Option<u64>,
    /// Leave out what was written before.
    pub since: Option<Timestamp>,
    /// Put the time before each line, RFC 3339 with nine digits.
    pub timestamps: bool,
    /// End after this many bytes of output.
    pub limit_bytes: Option<u64>,
    /// Which streams.
    pub stream: StreamSelection,
}

/// Why a log cannot be read (on).
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file is not there, or not a plain file beneath the log folder.
    #[error("failed to open log file {path:?}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Reading failed half-way.
    #[error("failed to read log file {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The file's folder cannot be watched (often: `fs.inotify.max_user_instances` is used up).
    #[error("failed to watch the folder of log file {path:?}")]
    Watch {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Neither CRI's format nor Docker's. The line itself is not shown: it is the workload's.
    #[error("unsupported log format in {path:?}")]
    Format {
        /// The file.
        path: PathBuf,
    },
}

#[cfg(test)]
mod tests;
