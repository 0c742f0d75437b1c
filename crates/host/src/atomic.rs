//! Replacing a file so that a reader finds either the old or the new content; after a power cut too, if that matters.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd as _;
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
/// the folder: the new content outlives a power cut. `mode` are the permission bits, whatever the umask.
///
/// Two writers of the same file must not run at once, see [`replace`].
pub fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), WriteError> {
    put(path, content, mode, File::sync_all)?;
    sync_folder(path)
}

/// Writes `content` to a temporary file beside `path` and renames it over `path`. `mode` are the permission bits,
/// whatever the umask.
///
/// The kernel is told to begin with the writing, so that the content is hardly ever later on disk than the name, but a power
/// cut before [`sync`] may leave the old content or, on file systems that do not keep that order, an empty file. So this is
/// for what has a checksum, and does not matter any more once all processes have ended.
///
/// Two writers of the same file must not run at once: they share the temporary name, which is
/// fixed so that a crash leaves at most one stray file, and that one is overwritten next time.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), WriteError> {
    put(path, content, mode, begin_writeback)
}

/// Starts to write a file to disk, without waiting for that (sync_file_range(2)).
#[allow(unsafe_code)]
fn begin_writeback(file: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as `file` is, and the call has no other argument that could be invalid.
    unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
    // Some file systems know no such call. It is a hint.
    Ok(())
}

/// Has the disk keep what was written to a file, and its name.
pub fn sync(path: &Path) -> Result<(), WriteError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(fail("sync", path))?;
    sync_folder(path)
}

fn fail(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WriteError {
    let path = path.to_owned();
    move |source| WriteError { operation, path, source }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

fn sync_folder(path: &Path) -> Result<(), WriteError> {
    let folder = folder_of(path);
    File::open(folder).and_then(|f| f.sync_all()).map_err(fail("sync folder", folder))
}

/// `settle` gets the temporary file before it is renamed.
fn put(
    path: &Path,
    content: &[u8],
    mode: u32,
    settle: impl FnOnce(&File) -> io::Result<()>,
) -> Result<(), WriteError> {
    let folder = folder_of(path);
    let name = path.file_name().ok_or_else(|| fail("write", path)(io::ErrorKind::InvalidInput.into()))?;
    let mut temporary_name = std::ffi::OsString::from(".");
    temporary_name.push(name);
    temporary_name.push(".tmp");
    let temporary = folder.join(temporary_name);
    let written = write_new(&temporary, content, mode)
        .and_then(|file| settle(&file))
        .map_err(fail("write a temporary file for", path))
        .and_then(|()| fs::rename(&temporary, path).map_err(fail("rename into place", path)));
    if let Err(error) = written {
        // The rename failed or nothing useful was written: either way it is only litter.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    Ok(())
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<File> {
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
    Ok(file)
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
        replace(&path, b"one", 0o600).unwrap();
        sync(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        replace(&path, b"two", 0o644).unwrap();
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
