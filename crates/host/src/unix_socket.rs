//! Sockets that other processes on the node find by their path.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Listens on a socket with this mode, if one is given; otherwise the umask decides. What an earlier process left in its place
/// is replaced. It is made under another name first: whoever finds it under its own can connect to it, and none may who is
/// not to.
///
/// # Errors
/// The socket cannot be made, or what is in its place not be removed.
pub fn bind(path: &Path, mode: Option<u32>) -> io::Result<UnixListener> {
    let unfinished = path.with_extension("unfinished");
    for old in [path, &unfinished] {
        match std::fs::remove_file(old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let listener = UnixListener::bind(&unfinished)?;
    if let Some(mode) = mode {
        std::fs::set_permissions(&unfinished, std::fs::Permissions::from_mode(mode))?;
    }
    std::fs::rename(&unfinished, path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn an_old_socket_is_replaced_and_a_mode_holds() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a.sock");
        drop(bind(&path, None).unwrap());
        assert!(UnixStream::connect(&path).is_err(), "nobody listens there");
        let listener = bind(&path, Some(0o600)).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        UnixStream::connect(&path).unwrap();
        listener.accept().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
        assert!(bind(root.path(), None).is_err(), "a folder stays");
    }
}
