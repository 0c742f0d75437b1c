//! `hostPath`: a path of the host, checked against the type the pod expects there. The path is
//! the pod author's to choose, links included; that is what this kind of volume is for.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};

use k8s_openapi::api::core::v1::HostPathVolumeSource;

/// A path and what it has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPath {
    path: String,
    kind: Kind,
}

/// `hostPath.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Any,
    Directory { create: bool },
    File { create: bool },
    Socket,
    CharDevice,
    BlockDevice,
}

/// Why a host path will not do.
#[derive(Debug, thiserror::Error)]
pub enum HostPathError {
    /// It goes up.
    #[error("invalid HostPath `{0}`: must not contain '..'")]
    Backstep(String),
    /// `type` is no known word.
    #[error("{0} is an invalid volume type")]
    Type(String),
    /// There is something else.
    #[error("hostPath type check failed: {path} is not a {expected}, it's a {found}")]
    Mismatch {
        /// The path.
        path: String,
        /// What the pod wants there.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// There is nothing, or nothing that can be looked at.
    #[error("hostPath type check failed, {path} is not a {expected}, unable to determine its type: {reason}")]
    Unknown {
        /// The path.
        path: String,
        /// What the pod wants there.
        expected: &'static str,
        /// What stood in the way.
        reason: String,
    },
    /// It could not be made.
    #[error("create {path}")]
    Create {
        /// The path.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl HostPath {
    pub(crate) fn plan(source: &HostPathVolumeSource) -> Result<Self, HostPathError> {
        Self::of(&source.path, source.type_.as_deref().unwrap_or_default())
    }

    /// The same by its path and type.
    pub(crate) fn of(path: &str, kind: &str) -> Result<Self, HostPathError> {
        let kind = match kind {
            "" => Kind::Any,
            "DirectoryOrCreate" => Kind::Directory { create: true },
            "Directory" => Kind::Directory { create: false },
            "FileOrCreate" => Kind::File { create: true },
            "File" => Kind::File { create: false },
            "Socket" => Kind::Socket,
            "CharDevice" => Kind::CharDevice,
            "BlockDevice" => Kind::BlockDevice,
            other => return Err(HostPathError::Type(other.to_owned())),
        };
        if path.split('/').any(|part| part == "..") {
            return Err(HostPathError::Backstep(path.to_owned()));
        }
        Ok(Self { path: path.to_owned(), kind })
    }

    /// Makes what is missing, if the type says so, and checks what is there.
    pub(crate) fn check(&self) -> Result<(), HostPathError> {
        let expected = match self.kind {
            Kind::Any => return Ok(()),
            Kind::Directory { .. } => "directory",
            Kind::File { .. } => "file",
            Kind::Socket => "socket file",
            Kind::CharDevice => "character device",
            Kind::BlockDevice => "block device",
        };
        let create = matches!(self.kind, Kind::Directory { create: true } | Kind::File { create: true });
        match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && create => self.create(),
            Err(error) => {
                let reason = match error.kind() {
                    io::ErrorKind::NotFound => format!("path {:?} does not exist", self.path),
                    _ => error.to_string(),
                };
                Err(HostPathError::Unknown { path: self.path.clone(), expected, reason })
            }
            Ok(metadata) => self.compare(metadata.file_type(), expected),
        }
    }

    fn compare(&self, found: fs::FileType, expected: &'static str) -> Result<(), HostPathError> {
        // The words for what was found are the API's names of the types, as upstream prints them.
        let (found, is_match) = match found {
            t if t.is_dir() => ("Directory", matches!(self.kind, Kind::Directory { .. })),
            t if t.is_file() => ("File", matches!(self.kind, Kind::File { .. })),
            t if t.is_socket() => ("Socket", self.kind == Kind::Socket),
            t if t.is_char_device() => ("CharDevice", self.kind == Kind::CharDevice),
            t if t.is_block_device() => ("BlockDevice", self.kind == Kind::BlockDevice),
            _ => {
                let reason =
                    "only recognise file, directory, socket, block device and character device".to_owned();
                return Err(HostPathError::Unknown { path: self.path.clone(), expected, reason });
            }
        };
        if is_match {
            Ok(())
        } else {
            Err(HostPathError::Mismatch { path: self.path.clone(), expected, found })
        }
    }

    fn create(&self) -> Result<(), HostPathError> {
        let made = if matches!(self.kind, Kind::Directory { .. }) {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(&self.path)
        } else {
            // Without the folder above it this fails, as documented for the type.
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(&self.path).map(drop)
        };
        made.map_err(|source| HostPathError::Create { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::error::chain;

    fn check(path: &str, kind: &str) -> Result<(), String> {
        let source = HostPathVolumeSource { path: path.to_owned(), type_: Some(kind.to_owned()) };
        HostPath::plan(&source).and_then(|p| p.check()).map_err(|e| chain(&e))
    }

    #[test]
    fn types_are_checked_and_made() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        fs::write(at("file"), "x").unwrap();
        let _listener = UnixListener::bind(at("socket")).unwrap();
        std::os::unix::fs::symlink(dir.path(), at("link")).unwrap();
        for (path, kind) in [
            (at("anything"), ""),
            (at("made/deep"), "DirectoryOrCreate"),
            (at("made/deep"), "Directory"),
            (at("link"), "Directory"),
            (at("made/file"), "FileOrCreate"),
            (at("file"), "FileOrCreate"),
            (at("file"), "File"),
            (at("socket"), "Socket"),
            ("/dev/null".to_owned(), "CharDevice"),
        ] {
            assert_eq!(check(&path, kind), Ok(()), "{path} {kind}");
        }
        assert_eq!(fs::read_to_string(at("file")).unwrap(), "x");
    }

    #[test]
    fn refusals_say_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_str().unwrap();
        for (path, kind, message) in [
            (
                root.to_owned(),
                "File",
                format!("hostPath type check failed: {root} is not a file, it's a Directory"),
            ),
            (
                "/dev/null".to_owned(),
                "BlockDevice",
                "hostPath type check failed: /dev/null is not a block device, it's a CharDevice".to_owned(),
            ),
            (
                format!("{root}/none"),
                "Socket",
                format!(
                    "hostPath type check failed, {root}/none is not a socket file, unable to determine its type: \
                     path \"{root}/none\" does not exist"
                ),
            ),
            ("/a/../b".to_owned(), "", "invalid HostPath `/a/../b`: must not contain '..'".to_owned()),
            ("/".to_owned(), "Folder", "Folder is an invalid volume type".to_owned()),
        ] {
            assert_eq!(check(&path, kind), Err(message), "{path} {kind}");
        }
        assert!(check(&format!("{root}/no/folder"), "FileOrCreate").unwrap_err().starts_with("create "));
    }
}
