//! A bearer token in a file that somebody else replaces.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderValue;
use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::bearer;

/// A token is used for this long before its file is read again.
const FRESH: Duration = Duration::from_secs(50);

/// A token that cannot be used.
#[derive(Debug, Error)]
pub enum TokenFileError {
    /// The file cannot be read.
    #[error("read token file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is empty.
    #[error("token file {path} is empty")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// It has characters that a header cannot carry.
    #[error("the token is not a header value")]
    Header(#[source] http::header::InvalidHeaderValue),
}

/// See the module.
pub(crate) struct TokenFile {
    path: PathBuf,
    // One reader at a time; the others want what it reads.
    last: Mutex<Last>,
}

struct Last {
    header: HeaderValue,
    generation: u64,
    /// `None`: to be read again at once.
    read_at: Option<Instant>,
}

impl TokenFile {
    /// Reads it once, so that a wrong path is an error at start, unless there is a token to begin with.
    pub(crate) fn open(path: &Path, first: Option<&str>) -> Result<Self, TokenFileError> {
        let (header, read_at) = match (parse(path, std::fs::read_to_string(path)), first) {
            (Ok(header), _) => (header, Some(Instant::now())),
            (Err(_), Some(first)) => (bearer(first).map_err(TokenFileError::Header)?, None),
            (Err(error), None) => return Err(error),
        };
        let last = Last { header, generation: 1, read_at };
        Ok(Self { path: path.to_owned(), last: Mutex::new(last) })
    }

    /// The token. The last one stays in use while the file cannot be read: some programs remove it
    /// once the process has started.
    pub(super) async fn header(&self) -> (HeaderValue, u64) {
        let mut last = self.last.lock().await;
        if last.read_at.is_none_or(|at| at.elapsed() >= FRESH) {
            match parse(&self.path, tokio::fs::read_to_string(&self.path).await) {
                Ok(header) if header != last.header => {
                    last.header = header;
                    last.generation += 1;
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(
                        error = model::chain(&error),
                        "Failed to read bearer token file; using the last token"
                    );
                }
            }
            last.read_at = Some(Instant::now());
        }
        (last.header.clone(), last.generation)
    }

    /// Has the file read again, unless it was since.
    pub(super) async fn refused(&self, generation: u64) {
        let mut last = self.last.lock().await;
        if last.generation == generation {
            last.read_at = None;
        }
    }
}

fn parse(path: &Path, text: std::io::Result<String>) -> Result<HeaderValue, TokenFileError> {
    let text = text.map_err(|source| TokenFileError::Read { path: path.to_owned(), source })?;
    if text.trim().is_empty() {
        return Err(TokenFileError::Empty { path: path.to_owned() });
    }
    bearer(&text).map_err(TokenFileError::Header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn is_read_again_after_a_while_and_after_a_refusal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        assert!(matches!(TokenFile::open(&path, None), Err(TokenFileError::Read { .. })));
        std::fs::write(&path, " \n").unwrap();
        assert!(matches!(TokenFile::open(&path, None), Err(TokenFileError::Empty { .. })));
        std::fs::write(&path, "one\n").unwrap();
        let file = TokenFile::open(&path, None).unwrap();
        let (header, generation) = file.header().await;
        assert_eq!(header, "Bearer one", "without the line's end");
        assert_eq!(format!("{header:?}"), "Sensitive");
        std::fs::write(&path, "two").unwrap();
        assert_eq!(file.header().await.0, "Bearer one", "not yet");
        file.refused(generation).await;
        let (header, newer) = file.header().await;
        assert_eq!(header, "Bearer two");
        std::fs::write(&path, "three").unwrap();
        file.refused(generation).await;
        assert_eq!(file.header().await, (header, newer), "the refused one was replaced already");
        tokio::time::advance(FRESH).await;
        assert_eq!(file.header().await.0, "Bearer three");
        std::fs::remove_file(&path).unwrap();
        tokio::time::advance(FRESH).await;
        assert_eq!(file.header().await.0, "Bearer three", "the last one while there is no other");
    }
}
