//! What goes into a volume of files, before it is written.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path, PathBuf};

const MAX_NAME_BYTES: usize = 255;
const MAX_PATH_BYTES: usize = 4096;

/// One file. Its content may be secret: it has no `Debug` form.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct FileContent {
    pub(crate) data: Vec<u8>,
    /// Permission bits.
    pub(crate) mode: u32,
    /// The owner, if not root.
    pub(crate) owner: Option<u32>,
}

impl fmt::Debug for FileContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileContent")
            .field("mode", &self.mode)
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

/// The files of a volume by their path in it. A path given twice keeps the later content.
#[derive(Clone, Debug, Default)]
pub(crate) struct Payload {
    files: BTreeMap<PathBuf, FileContent>,
}

impl Payload {
    /// Adds a file, if its path is allowed.
    pub(crate) fn insert(&mut self, path: &str, file: FileContent) -> Result<(), PathError> {
        self.files.insert(clean(path)?, file);
        Ok(())
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.files.extend(other.files);
    }

    pub(crate) fn files(&self) -> &BTreeMap<PathBuf, FileContent> {
        &self.files
    }

    /// The first components of all paths: what a user sees in the volume.
    pub(crate) fn top_names(&self) -> std::collections::BTreeSet<&Path> {
        self.files.keys().filter_map(|p| p.components().next()).map(|c| Path::new(c.as_os_str())).collect()
    }
}

/// Why a path in a volume is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// There is none.
    #[error("invalid path: must not be empty: {0:?}")]
    Empty(String),
    /// It starts at the root.
    #[error("invalid path: must be relative path: {0}")]
    Absolute(String),
    /// It is longer than a path may be.
    #[error("invalid path: must be less than or equal to 4096 characters")]
    TooLong,
    /// A part is longer than a name may be.
    #[error("invalid path: filenames must be less than or equal to 255 characters")]
    NameTooLong,
    /// It goes up.
    #[error("invalid path: must not contain '..': {0}")]
    Backstep(String),
    /// It could be mistaken for the volume's own bookkeeping.
    #[error("invalid path: must not start with '..': {0}")]
    Reserved(String),
}

fn clean(path: &str) -> Result<PathBuf, PathError> {
    if path.is_empty() || path.contains('\0') {
        return Err(PathError::Empty(path.to_owned()));
    }
    if path.starts_with('/') {
        return Err(PathError::Absolute(path.to_owned()));
    }
    if path.len() > MAX_PATH_BYTES {
        return Err(PathError::TooLong);
    }
    if path.split('/').any(|part| part == "..") {
        return Err(PathError::Backstep(path.to_owned()));
    }
    if path.split('/').any(|part| part.len() > MAX_NAME_BYTES) {
        return Err(PathError::NameTooLong);
    }
    let cleaned: PathBuf = Path::new(path).components().filter(|c| *c != Component::CurDir).collect();
    match cleaned.to_str() {
        None | Some("") => Err(PathError::Empty(path.to_owned())),
        Some(text) if text.starts_with("..") => Err(PathError::Reserved(path.to_owned())),
        Some(_) => Ok(cleaned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_or_refused() {
        for (path, result) in [
            ("a", Some("a")),
            ("a//b/./c/", Some("a/b/c")),
            ("./a", Some("a")),
            ("a..b", Some("a..b")),
            ("d/..b", Some("d/..b")),
            ("", None),
            (".", None),
            ("/a", None),
            ("a/../b", None),
            ("..", None),
            ("..data", None),
            ("./..data", None),
            ("a\0b", None),
        ] {
            assert_eq!(clean(path).ok(), result.map(PathBuf::from), "{path:?}");
        }
        assert_eq!(clean(&"x".repeat(256)), Err(PathError::NameTooLong));
        assert_eq!(clean(&"x/".repeat(2500)), Err(PathError::TooLong));
    }

    #[test]
    fn debug_hides_content() {
        let file = FileContent { data: b"hunter2".to_vec(), mode: 0o600, owner: None };
        assert!(!format!("{file:?}").contains("hunter2") && !format!("{file:?}").contains("104"));
    }
}
