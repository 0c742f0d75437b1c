//! A socket that others on the node find.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// A socket that could not be made.
#[derive(Debug, thiserror::Error)]
#[error("failed to make socket {}", path.display())]
pub struct SocketError {
    path: PathBuf,
    source: io::Error,
}

/// Listens on a socket, whose folder is made if it is not there, for root alone to enter. What an earlier process left in
/// its place is replaced.
///
/// # Errors
/// The folder or the socket cannot be made, or what is in its place not be removed.
pub(crate) fn bind(path: &Path) -> Result<UnixListener, SocketError> {
    listen(path).map_err(|source| SocketError { path: path.to_owned(), source })
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
    }
    UnixListener::from_std(host::unix_socket::bind(path, None)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn an_old_socket_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("pods-api/pods-api.sock");
        let first = bind(&path).unwrap();
        drop(first);
        assert!(path.exists());
        let second = bind(&path).unwrap();
        tokio::try_join!(second.accept(), tokio::net::UnixStream::connect(&path)).unwrap();
        let folder = std::fs::metadata(path.parent().unwrap()).unwrap();
        assert_eq!(folder.permissions().mode() & 0o777, 0o750);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn what_cannot_be_removed_is_told() {
        let root = tempfile::tempdir().unwrap();
        let error = bind(root.path()).unwrap_err();
        assert!(error.to_string().contains("failed to make socket"), "{error}");
    }
}
