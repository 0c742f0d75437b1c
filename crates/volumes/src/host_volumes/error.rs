//! Why a volume that the kubelet mounts itself is not as it should be, in upstream's texts, which end up in events.

use std::io;
use std::path::PathBuf;

use plugins::csi::Certainty;

use crate::error::{SetUpError, chain};

/// A failed operation on such a volume. Each message tells its whole chain.
#[derive(Debug, thiserror::Error)]
pub enum HostVolumeError {
    /// There is nothing at the path of a local volume.
    #[error("path {path:?} does not exist")]
    NoPath {
        /// The path.
        path: String,
    },
    /// What is there cannot be looked at.
    #[error("failed to look at {path}: {source}")]
    Look {
        /// The path.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// A local volume is neither a folder nor a block device.
    #[error("only directory and block device are supported")]
    Kind,
    /// Upstream's plugin and the volume do not belong together.
    #[error("the volume is of another kind")]
    OtherKind,
    /// The path goes up.
    #[error("invalid path: {path} must not contain '..'")]
    Backstep {
        /// The path.
        path: String,
    },
    /// Folders, mounts or files are not as they have to be.
    #[error("{}", chain(.0))]
    SetUp(#[from] SetUpError),
    /// A program of the node is not there.
    #[error("exec: {program:?}: {source}")]
    Start {
        /// Which.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// A program of the node has not ended in its time, and may still do what it was to do.
    #[error("{program} has not ended: {source}")]
    Slow {
        /// Which.
        program: String,
        /// In which time.
        source: io::Error,
    },
    /// umount(8) says no.
    #[error("unmount failed: {ending}\nUnmounting arguments: {}\nOutput: {said}", path.display())]
    Unmount {
        /// How it ended.
        ending: String,
        /// From where it was to take the mount.
        path: PathBuf,
        /// What it said.
        said: String,
    },
    /// mount(8) says no. The text is upstream's.
    #[error(
        "mount failed: {ending}\nMounting command: mount\nMounting arguments: {arguments}\nOutput: {said}\n"
    )]
    Mount {
        /// How it ended.
        ending: String,
        /// What it was called with.
        arguments: String,
        /// What it said.
        said: String,
    },
    /// It is not known what is on a disk.
    #[error("failed to get disk format of disk {device}: {why}")]
    Format {
        /// The disk.
        device: String,
        /// Why not.
        why: String,
    },
    /// A disk that is only to be read has no file system.
    #[error("cannot mount unformatted disk {device} as we are manipulating it in read-only mode")]
    Unformatted {
        /// The disk.
        device: String,
    },
    /// The name of a file system has to be a plain word: a program is called after it.
    #[error("file system {fs_type:?} is not valid")]
    FileSystem {
        /// The name.
        fs_type: String,
    },
    /// No file system could be made.
    #[error("format of disk {device:?} failed: type:({fs_type:?}) errcode:({ending}) output:({said}) ")]
    Make {
        /// The disk.
        device: String,
        /// Of which type.
        fs_type: String,
        /// How mkfs(8) ended.
        ending: String,
        /// What it said.
        said: String,
    },
    /// A file system is damaged beyond what fsck(8) repairs by itself.
    #[error("'fsck' found errors on device {device} but could not correct them: {said}")]
    Damaged {
        /// The disk.
        device: String,
        /// What it said.
        said: String,
    },
    /// What was to be unmounted is still mounted.
    #[error("failed to cleanup mount point {}", path.display())]
    StillMounted {
        /// Where.
        path: PathBuf,
    },
    /// The blocking work panicked or the runtime shut down.
    #[error("the work was interrupted")]
    Interrupted,
}

impl HostVolumeError {
    /// A program could not be started, or has not ended in its time.
    pub(super) fn of_program(program: &str, source: io::Error) -> Self {
        let program = program.to_owned();
        match source.kind() {
            io::ErrorKind::TimedOut => Self::Slow { program, source },
            _ => Self::Start { program, source },
        }
    }

    /// Whether it may have happened all the same; `None` when nothing was tried, and all is as it was.
    pub fn certainty(&self) -> Option<Certainty> {
        match self {
            Self::NoPath { .. }
            | Self::Look { .. }
            | Self::Kind
            | Self::OtherKind
            | Self::FileSystem { .. } => None,
            Self::Interrupted | Self::Slow { .. } => Some(Certainty::Uncertain),
            _ => Some(Certainty::Final),
        }
    }
}
