//! Reading the small text files in which the kernel and the distribution publish facts.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A file that could not be read or does not hold what it should.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file could not be read.
    #[error("read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds something else than expected.
    #[error("{} does not hold {expected}", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What was looked for.
        expected: &'static str,
    },
}

impl FileError {
    /// Whether the file is simply not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    pub(crate) fn content(path: &Path, expected: &'static str) -> Self {
        Self::Content { path: path.to_owned(), expected }
    }
}

/// The file's text without surrounding white space. Bytes that are not UTF-8 are replaced.
pub fn read(path: impl AsRef<Path>) -> Result<String, FileError> {
    let path = path.as_ref();
    let bytes = fs::read(path).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// The file's single whole number.
pub fn read_number(path: impl AsRef<Path>) -> Result<u64, FileError> {
    let path = path.as_ref();
    read(path)?.parse().map_err(|_| FileError::content(path, "a whole number"))
}

/// The number after `key` in a file of `key value` or `key: value` lines.
pub(crate) fn keyed_number(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let rest = line.strip_prefix(key)?;
        let rest = rest.strip_prefix(':').unwrap_or(rest);
        rest.starts_with([' ', '\t']).then(|| rest.split_whitespace().next()?.parse().ok()).flatten()
    })
}
