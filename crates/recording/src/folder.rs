//! The folder with recordings: files of bounded size, and so many of them at most.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// What the name of a recording ends with.
const EXTENSION: &str = "jsonl";

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a segment, after which the next begins.
    pub segment_bytes: u64,
    /// Bytes of all of them in a folder.
    pub total_bytes: u64,
}

/// As much as a small disk can spare, and hours of a busy node.
impl Default for Limits {
    fn default() -> Self {
        Self { segment_bytes: 16 << 20, total_bytes: 256 << 20 }
    }
}

/// A folder that cannot take recordings.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It cannot be made.
    #[error("make the folder for recordings {}", path.display())]
    Make {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file in it cannot be written.
    #[error("write a recording to {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There are no random numbers to cut secrets with.
    #[error("the system gives no random numbers to cut secrets from recordings with")]
    NoKey,
    /// There is no thread to write with.
    #[error("start a thread that writes a recording")]
    Thread(#[source] io::Error),
}

/// Makes a file for a recording that begins now, in a folder that is made if need be. What is in it tells of everything on
/// the node: both are root's alone.
pub(crate) fn create(folder: &Path, now: Timestamp) -> Result<(PathBuf, File), FolderError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| FolderError::Make { path: folder.to_owned(), source })?;
    let begun = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    // In the same second, after those that are there: the first of them may be gone.
    let unread = |source| FolderError::Make { path: folder.to_owned(), source };
    let number =
        |path: &Path| path.file_stem()?.to_str()?.strip_prefix(&begun)?.strip_prefix('-')?.parse().ok();
    let last: Option<u32> =
        recordings(folder).map_err(unread)?.iter().filter_map(|(path, _)| number(path)).max();
    for number in last.map_or(0, |last| last.saturating_add(1)).. {
        let path = folder.join(format!("{begun}-{number:04}.{EXTENSION}"));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(FolderError::Write { path, source }),
        }
    }
    Err(FolderError::Write { path: folder.to_owned(), source: io::ErrorKind::AlreadyExists.into() })
}

/// The recordings of a folder, oldest first, with their sizes.
pub(crate) fn recordings(folder: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            found.push((path, entry.metadata()?.len()));
        }
    }
    // Names begin with the time.
    found.sort();
    Ok(found)
}

/// Removes the oldest recordings until all of them but one, which goes on, take no more than so many bytes.
pub(crate) fn make_room(folder: &Path, goes_on: &Path, bytes: u64) -> io::Result<()> {
    let others: Vec<_> = recordings(folder)?.into_iter().filter(|(path, _)| path != goes_on).collect();
    let mut taken: u64 = others.iter().map(|(_, size)| size).sum();
    for (path, size) in others {
        if taken <= bytes {
            break;
        }
        std::fs::remove_file(path)?;
        taken -= size;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn recordings_are_roots_and_the_oldest_go_first() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/b");
        let at = |second| Timestamp::from_second(second).unwrap();
        let paths: Vec<PathBuf> =
            [0, 0, 5, 9].into_iter().map(|second| create(&folder, at(second)).unwrap().0).collect();
        let names: Vec<_> =
            paths.iter().map(|p| p.file_name().unwrap().to_string_lossy().into_owned()).collect();
        assert_eq!(
            names,
            [
                "19700101T000000Z-0000.jsonl",
                "19700101T000000Z-0001.jsonl",
                "19700101T000005Z-0000.jsonl",
                "19700101T000009Z-0000.jsonl"
            ]
        );
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&paths[0])), (0o700, 0o600));
        paths.iter().for_each(|path| std::fs::write(path, [0; 10]).unwrap());
        std::fs::write(folder.join("other.txt"), [0; 1000]).unwrap();
        make_room(&folder, &paths[3], 20).unwrap();
        let again = create(&folder, at(0)).unwrap().0;
        assert!(
            again.ends_with("19700101T000000Z-0002.jsonl"),
            "newer than the one that is there: {again:?}"
        );
        std::fs::remove_file(again).unwrap();
        let left: Vec<PathBuf> = recordings(&folder).unwrap().into_iter().map(|(path, _)| path).collect();
        assert_eq!(left, paths[1..]);
        assert!(folder.join("other.txt").exists());
    }

    #[test]
    fn a_folder_that_cannot_be_is_told() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = create(&file.join("folder"), Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!(error.to_string(), format!("make the folder for recordings {}/folder", file.display()));
    }
}
