//! Replacing a file so that a reader, or a power cut, finds either the old or the new content.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// A file that could not be replaced; the old content is still in place.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}", path.display())]
pub struct WriteError {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Writes `content` to a temporary file beside `path`, syncs it, renames it over `path` and syncs
/// the folder. `mode` are the permission bits, whatever the umask.
///
/// Two writers of the same file must not run at once: they share the temporary name, which is
/// fixed so that a crash leaves at most one stray file, and that one is overwritten next time.
pub fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), WriteError> {
    let fail = |operation, path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| WriteError { operation, path, source }
    };
    let folder = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().ok_or_else(|| fail("write", path)(io::ErrorKind::InvalidInput.into()))?;
    let mut temporary_name = std::ffi::OsString::from(".");
    temporary_name.push(name);
    temporary_name.push(".tmp");
    let temporary = folder.join(temporary_name);
    let written = write_new(&temporary, content, mode)
        .map_err(fail("write a temporary file for", path))
        .and_then(|()| fs::rename(&temporary, path).map_err(fail("rename into place", path)));
    if let Err(error) = written {
        // The rename failed or nothing useful was written: either way it is only litter.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    File::open(folder).and_then(|f| f.sync_all()).map_err(fail("sync folder", folder))
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mode = Mode::from_bits_truncate(mode);
    let fd = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?;
    rustix::fs::fchmod(&fd, mode)?;
    let mut file = File::from(fd);
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn replaces_content_and_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        write(&path, b"one", 0o600).unwrap();
        write(&path, b"two", 0o644).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_planted_link_at_the_temporary_name_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, dir.path().join(".state.tmp")).unwrap();
        write(&dir.path().join("state"), b"new", 0o600).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
    }

    #[test]
    fn a_failure_keeps_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        fs::create_dir(&path).unwrap();
        let error = write(&path, b"x", 0o600).unwrap_err();
        assert!(error.to_string().starts_with("rename into place"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
