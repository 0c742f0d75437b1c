//! File system work that cannot be led out of a folder.
//!
//! Parts of host paths come from pods: volume names, subPaths, item paths, contents of volumes a
//! container can write to. Joining strings and checking afterwards is a race; here the kernel
//! resolves every path with `openat2(RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)` relative to an
//! open folder, so neither `..` nor a symbolic link leaves it, whoever swaps what meanwhile.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid};
use rustix::io::Errno;

/// Why something below a folder could not be done.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}", path.display())]
pub struct BeneathError {
    /// What was tried.
    pub operation: &'static str,
    /// On which path.
    pub path: PathBuf,
    /// The kernel's answer. `EXDEV` means the path would have left the folder, `ELOOP` that it
    /// holds a symbolic link where none is allowed.
    pub source: io::Error,
}

impl BeneathError {
    /// Whether there is nothing of that name.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// Whether the path would have left the folder.
    pub fn is_escape(&self) -> bool {
        matches!(Errno::from_io_error(&self.source), Some(Errno::XDEV | Errno::LOOP))
    }
}

/// Whether symbolic links inside the folder may be followed (never out of it).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// A link anywhere in the path is an error.
    Refuse,
    /// Links are followed as long as they stay below the folder.
    Follow,
}

/// A file system that is mounted somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MountedFileSystem {
    /// Of which type it is.
    pub kind: FileSystemKind,
    /// The size of its blocks; one of huge pages has those of its pages.
    pub block_bytes: u64,
}

/// The types of file system that are told apart (statfs(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystemKind {
    /// `tmpfs`
    Tmpfs,
    /// `hugetlbfs`
    HugePages,
    /// Any other.
    Other,
}

/// An open folder, below which everything happens.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    path: PathBuf,
}

impl Root {
    /// Opens a trusted folder, following links.
    pub fn open(path: &Path) -> Result<Self, BeneathError> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| fail("open folder", path, e))?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// A folder from a handle (see [`Root::open_handle`]); `path` is for messages only.
    pub fn from_handle(fd: OwnedFd, path: &Path) -> Self {
        Self { fd, path: path.to_owned() }
    }

    /// The path it was opened by, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a folder below.
    pub fn open_dir(&self, relative: &Path, links: Links) -> Result<Self, BeneathError> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY;
        let fd = self.open_at("open folder", relative, flags, Mode::empty(), links)?;
        Ok(Self { fd, path: self.path.join(relative) })
    }

    /// A handle on whatever is there, good for bind mounts and metadata but not for reading.
    pub fn open_handle(&self, relative: &Path, links: Links) -> Result<OwnedFd, BeneathError> {
        self.open_at("open", relative, OFlags::PATH, Mode::empty(), links)
    }

    /// Makes the folder and those above it as needed and opens it. Existing ones keep their mode;
    /// a link in the way is an error. `mode` is set whatever the umask.
    pub fn make_dirs(&self, relative: &Path, mode: u32) -> Result<Self, BeneathError> {
        let mut current = self.open_dir(Path::new("."), Links::Refuse)?;
        for part in relative.components() {
            let Component::Normal(name) = part else {
                if part == Component::CurDir {
                    continue;
                }
                return Err(fail("create folder", &self.path.join(relative), Errno::XDEV));
            };
            let name = Path::new(name);
            let is_new = current.make_dir(name)?;
            current = current.open_dir(name, Links::Refuse)?;
            if is_new {
                let mode = Mode::from_bits_truncate(mode);
                rustix::fs::fchmod(&current.fd, mode).map_err(|e| fail("set mode of", &current.path, e))?;
            }
        }
        Ok(Self { fd: current.fd, path: self.path.join(relative) })
    }

    /// Creates a file that must not exist, with content and exact permission bits.
    pub fn create_file(&self, relative: &Path, content: &[u8], mode: u32) -> Result<File, BeneathError> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        let fd = self.open_at("create", relative, flags, Mode::RUSR | Mode::WUSR, Links::Refuse)?;
        let path = self.path.join(relative);
        let mut file = File::from(fd);
        file.write_all(content).map_err(|source| BeneathError {
            operation: "write",
            path: path.clone(),
            source,
        })?;
        rustix::fs::fchmod(&file, Mode::from_bits_truncate(mode))
            .map_err(|e| fail("set mode of", &path, e))?;
        Ok(file)
    }

    /// A file's content.
    pub fn read(&self, relative: &Path, links: Links) -> Result<Vec<u8>, BeneathError> {
        // Without NONBLOCK a planted FIFO would hold the reader up for ever.
        let fd = self.open_at("open", relative, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty(), links)?;
        let mut content = Vec::new();
        File::from(fd).read_to_end(&mut content).map_err(|source| BeneathError {
            operation: "read",
            path: self.path.join(relative),
            source,
        })?;
        Ok(content)
    }

    /// The names in this folder, in no particular order.
    pub fn names(&self) -> Result<Vec<PathBuf>, BeneathError> {
        let list = || -> rustix::io::Result<Vec<PathBuf>> {
            let mut names = Vec::new();
            for entry in Dir::read_from(&self.fd)? {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                if name != b"." && name != b".." {
                    names.push(PathBuf::from(std::ffi::OsStr::from_bytes(name)));
                }
            }
            Ok(names)
        };
        list().map_err(|e| fail("list", &self.path, e))
    }

    /// Metadata of an entry directly in this folder; of a link itself, not of its target.
    pub fn stat(&self, name: &Path) -> Result<Stat, BeneathError> {
        let name = self.plain(name)?;
        rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| fail("stat", &self.path.join(name), e))
    }

    /// The file system that is mounted at a folder below; `None` when the folder is on this one's, or is not there.
    ///
    /// The mount table says the same, but is as long as the node has volumes, and the kernel writes all of it for each
    /// reader.
    pub fn mounted(&self, relative: &Path) -> Result<Option<MountedFileSystem>, BeneathError> {
        let below = match self.open_handle(relative, Links::Refuse) {
            Err(error) if error.is_not_found() => return Ok(None),
            other => other?,
        };
        let path = self.path.join(relative);
        let device = |fd: &OwnedFd| rustix::fs::fstat(fd).map(|stat| stat.st_dev);
        let (here, there) = (device(&self.fd), device(&below));
        if here.map_err(|e| fail("stat", &self.path, e))? == there.map_err(|e| fail("stat", &path, e))? {
            return Ok(None);
        }
        let found = rustix::fs::fstatfs(&below).map_err(|e| fail("stat file system of", &path, e))?;
        let kind = match found.f_type {
            libc::TMPFS_MAGIC => FileSystemKind::Tmpfs,
            libc::HUGETLBFS_MAGIC => FileSystemKind::HugePages,
            _ => FileSystemKind::Other,
        };
        Ok(Some(MountedFileSystem { kind, block_bytes: u64::try_from(found.f_bsize).unwrap_or(0) }))
    }

    /// Where a link directly in this folder points; `None` if there is no such link.
    pub fn read_link(&self, name: &Path) -> Option<PathBuf> {
        let name = self.plain(name).ok()?;
        let target = rustix::fs::readlinkat(&self.fd, name, Vec::new()).ok()?;
        Some(PathBuf::from(std::ffi::OsStr::from_bytes(target.as_bytes())))
    }

    /// Makes a link directly in this folder.
    pub fn symlink(&self, target: &Path, name: &Path) -> Result<(), BeneathError> {
        let name = self.plain(name)?;
        rustix::fs::symlinkat(target, &self.fd, name).map_err(|e| fail("link", &self.path.join(name), e))
    }

    /// Renames an entry directly in this folder, replacing what has the new name.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<(), BeneathError> {
        let (from, to) = (self.plain(from)?, self.plain(to)?);
        rustix::fs::renameat(&self.fd, from, &self.fd, to)
            .map_err(|e| fail("rename to", &self.path.join(to), e))
    }

    /// Removes an entry directly in this folder: a folder has to be empty, and nothing mounted there. Something missing is
    /// fine.
    pub fn remove_one(&self, name: &Path) -> Result<(), BeneathError> {
        let name = self.plain(name)?;
        let removed = match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR),
            other => other,
        };
        match removed {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(fail("remove", &self.path.join(name), error)),
        }
    }

    /// Removes an entry directly in this folder with everything below it, without following links
    /// and without entering another file system: a mount that is still there is an error, and what
    /// lies behind it is safe. Something missing is fine.
    pub fn remove_all(&self, name: &Path) -> Result<(), BeneathError> {
        let name = self.plain(name)?;
        let path = self.path.join(name);
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(fail("remove", &path, error)),
        }
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::NO_XDEV | ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let fd = rustix::fs::openat2(&self.fd, name, flags, Mode::empty(), resolve)
            .map_err(|e| fail("remove", &path, if e == Errno::XDEV { Errno::BUSY } else { e }))?;
        let inner = Self { fd, path: path.clone() };
        for child in inner.names()? {
            inner.remove_all(&child)?;
        }
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(fail("remove", &path, error)),
        }
    }

    /// Applies `visit` to this folder and everything below it on the same file system, entries
    /// before the folder that holds them. Links are visited, not followed.
    pub fn walk(
        &self,
        visit: &mut dyn FnMut(&Entry<'_>) -> rustix::io::Result<()>,
    ) -> Result<(), BeneathError> {
        for name in self.names()? {
            // Entries come and go while a container runs.
            let Ok(stat) = self.stat(&name) else { continue };
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                let resolve = ResolveFlags::NO_XDEV | ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
                match rustix::fs::openat2(&self.fd, &name, flags, Mode::empty(), resolve) {
                    Ok(fd) => Self { fd, path: self.path.join(&name) }.walk(visit)?,
                    Err(Errno::NOENT | Errno::XDEV | Errno::NOTDIR | Errno::LOOP) => {}
                    Err(error) => return Err(fail("open folder", &self.path.join(&name), error)),
                }
            } else {
                let entry = Entry { folder: self.fd.as_fd(), name: Some(&name), stat };
                match visit(&entry) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(error) => return Err(fail("change", &self.path.join(&name), error)),
                }
            }
        }
        let stat = rustix::fs::fstat(&self.fd).map_err(|e| fail("stat", &self.path, e))?;
        visit(&Entry { folder: self.fd.as_fd(), name: None, stat }).map_err(|e| fail("change", &self.path, e))
    }

    /// Metadata of the folder itself.
    pub fn stat_self(&self) -> Result<Stat, BeneathError> {
        rustix::fs::fstat(&self.fd).map_err(|e| fail("stat", &self.path, e))
    }

    /// Sets the folder's permission bits.
    pub fn set_mode(&self, mode: u32) -> Result<(), BeneathError> {
        rustix::fs::fchmod(&self.fd, Mode::from_bits_truncate(mode))
            .map_err(|e| fail("set mode of", &self.path, e))
    }

    fn make_dir(&self, name: &Path) -> Result<bool, BeneathError> {
        match rustix::fs::mkdirat(&self.fd, name, Mode::RWXU) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(fail("create folder", &self.path.join(name), error)),
        }
    }

    fn open_at(
        &self,
        operation: &'static str,
        relative: &Path,
        flags: OFlags,
        mode: Mode,
        links: Links,
    ) -> Result<OwnedFd, BeneathError> {
        let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        if links == Links::Refuse {
            resolve |= ResolveFlags::NO_SYMLINKS;
        }
        let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        loop {
            match rustix::fs::openat2(&self.fd, relative, flags | OFlags::CLOEXEC, mode, resolve) {
                Ok(fd) => return Ok(fd),
                // A rename somewhere on the way made the kernel unsure; it asks to try again.
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(fail(operation, &self.path.join(relative), error)),
            }
        }
    }

    fn plain<'a>(&self, name: &'a Path) -> Result<&'a Path, BeneathError> {
        let mut parts = name.components();
        match (parts.next(), parts.next()) {
            (Some(Component::Normal(_)), None) => Ok(name),
            _ => Err(fail("use name", &self.path.join(name), Errno::XDEV)),
        }
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Something met on a [`Root::walk`].
#[derive(Debug)]
pub struct Entry<'a> {
    folder: BorrowedFd<'a>,
    name: Option<&'a Path>,
    /// Its metadata.
    pub stat: Stat,
}

impl Entry<'_> {
    /// What it is.
    pub fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// Whether it is a folder.
    pub fn is_dir(&self) -> bool {
        self.file_type() == FileType::Directory
    }

    /// Changes owner or group, of a link itself.
    pub fn chown(&self, uid: Option<u32>, gid: Option<u32>) -> rustix::io::Result<()> {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        match self.name {
            Some(name) => rustix::fs::chownat(self.folder, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW),
            None => rustix::fs::fchown(self.folder, uid, gid),
        }
    }

    /// Changes permission bits. Links have none; for them nothing happens.
    pub fn chmod(&self, mode: u32) -> rustix::io::Result<()> {
        let mode = Mode::from_bits_truncate(mode);
        let Some(name) = self.name else { return rustix::fs::fchmod(self.folder, mode) };
        if self.file_type() == FileType::Symlink {
            return Ok(());
        }
        // fchmodat would follow a link swapped in after the stat; a handle is what it is.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(self.folder, name, flags, Mode::empty())?;
        if FileType::from_raw_mode(rustix::fs::fstat(&handle)?.st_mode) == FileType::Symlink {
            return Ok(());
        }
        rustix::fs::chmod(proc_path(handle.as_fd()), mode)
    }
}

/// The path under which this thread finds an open descriptor.
pub fn proc_path(fd: BorrowedFd<'_>) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/thread-self/fd/{}", fd.as_raw_fd()))
}

/// Opens for reading what a handle is on. Only plain files and folders: all else (a FIFO, a device)
/// may do something when it is opened or never end, and is refused as `PermissionDenied`.
pub fn reopen(handle: &OwnedFd) -> io::Result<File> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(handle)?.st_mode);
    if !matches!(kind, FileType::RegularFile | FileType::Directory) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "neither a file nor a folder"));
    }
    File::open(proc_path(handle.as_fd()))
}

/// Opens a path inside a volume, which may hold links that a container made: followed only if
/// what they lead to lies in the volume too, even when they are absolute.
pub fn open_inside(volume: &Path, relative: &Path) -> Result<OwnedFd, BeneathError> {
    let root = Root::open(volume)?;
    match root.open_handle(relative, Links::Follow) {
        Err(error) if Errno::from_io_error(&error.source) == Some(Errno::XDEV) => {
            // Perhaps an absolute link back into the volume (as /var/run in a volume of the whole
            // host). Resolve it, then open what came out without following anything.
            let io = |operation, path: &Path| {
                let path = path.to_owned();
                move |source| BeneathError { operation, path, source }
            };
            let real_volume = fs::canonicalize(volume).map_err(io("resolve", volume))?;
            let wanted = volume.join(relative);
            let real = fs::canonicalize(&wanted).map_err(io("resolve", &wanted))?;
            let Ok(inside) = real.strip_prefix(&real_volume) else { return Err(error) };
            if relative.components().any(|c| c == Component::ParentDir) {
                return Err(error);
            }
            root.open_handle(inside, Links::Refuse)
        }
        other => other,
    }
}

fn fail(operation: &'static str, path: &Path, errno: Errno) -> BeneathError {
    BeneathError { operation, path: path.to_owned(), source: errno.into() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;
    use crate::mount;
    use crate::testing::in_mount_namespace;

    fn folder() -> (tempfile::TempDir, Root, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("inside");
        fs::create_dir(&inside).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/secret"), "s").unwrap();
        let root = Root::open(&inside).unwrap();
        (dir, root, inside)
    }

    #[test]
    fn tells_what_is_mounted_below() {
        in_mount_namespace(|| {
            let (_dir, root, inside) = folder();
            assert_eq!(root.mounted(Path::new("volumes/a")).unwrap(), None, "it is not there");
            root.make_dirs(Path::new("volumes/a"), 0o755).unwrap();
            assert_eq!(root.mounted(Path::new("volumes/a")).unwrap(), None, "it is a mere folder");
            mount::tmpfs(&inside.join("volumes/a"), mount::TmpfsOptions::default()).unwrap();
            let mounted = root.mounted(Path::new("volumes/a")).unwrap().unwrap();
            assert_eq!(mounted.kind, FileSystemKind::Tmpfs);
            mount::unmount(&inside.join("volumes/a")).unwrap();
            assert_eq!(root.mounted(Path::new("volumes/a")).unwrap(), None);
        });
    }

    #[test]
    fn nothing_leads_out() {
        let (dir, root, inside) = folder();
        symlink(dir.path().join("outside"), inside.join("absolute")).unwrap();
        symlink("../outside", inside.join("relative")).unwrap();
        symlink("/proc/self/root", inside.join("magic")).unwrap();
        for path in [
            "../outside/secret",
            "absolute/secret",
            "relative/secret",
            "/etc/passwd",
            "magic/etc",
            "a/../../outside",
        ] {
            for links in [Links::Follow, Links::Refuse] {
                assert!(root.read(Path::new(path), links).is_err(), "{path}");
                assert!(root.open_handle(Path::new(path), links).is_err(), "{path}");
            }
            assert!(root.create_file(Path::new(path).join("x").as_path(), b"x", 0o600).is_err(), "{path}");
            assert!(open_inside(&inside, Path::new(path)).is_err(), "{path}");
        }
        for path in ["../outside/new", "absolute/new", "relative/new", "/new"] {
            assert!(root.make_dirs(Path::new(path), 0o755).is_err(), "{path}");
        }
        assert_eq!(fs::read_dir(dir.path().join("outside")).unwrap().count(), 1);
    }

    #[test]
    fn links_inside_are_followed_on_request() {
        let (_dir, root, inside) = folder();
        fs::create_dir(inside.join("real")).unwrap();
        fs::write(inside.join("real/f"), "x").unwrap();
        symlink("real", inside.join("link")).unwrap();
        symlink(inside.join("real"), inside.join("full")).unwrap();
        assert_eq!(root.read(Path::new("link/f"), Links::Follow).unwrap(), b"x");
        assert!(root.read(Path::new("link/f"), Links::Refuse).unwrap_err().is_escape());
        open_inside(&inside, Path::new("full/f")).unwrap();
        assert!(open_inside(&inside, Path::new("missing")).unwrap_err().is_not_found());
    }

    #[test]
    fn folders_get_their_mode_and_keep_it() {
        let (_dir, root, inside) = folder();
        root.make_dirs(Path::new("a/b"), 0o777).unwrap();
        fs::set_permissions(inside.join("a"), fs::Permissions::from_mode(0o700)).unwrap();
        root.make_dirs(Path::new("a/b/c"), 0o750).unwrap();
        let mode = |p: &str| fs::metadata(inside.join(p)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("a"), mode("a/b"), mode("a/b/c")), (0o700, 0o777, 0o750));
    }

    #[test]
    fn removal_keeps_to_the_folder_and_its_file_system() {
        in_mount_namespace(|| {
            let (dir, root, inside) = folder();
            fs::create_dir_all(inside.join("t/deep/mnt")).unwrap();
            symlink(dir.path().join("outside"), inside.join("t/deep/link")).unwrap();
            mount::tmpfs(&inside.join("t/deep/mnt"), mount::TmpfsOptions::default()).unwrap();
            fs::write(inside.join("t/deep/mnt/kept"), "").unwrap();
            assert!(root.remove_all(Path::new("t")).is_err());
            assert!(inside.join("t/deep/mnt/kept").exists());

            mount::unmount(&inside.join("t/deep/mnt")).unwrap();
            let bound = inside.join("t/deep/mnt");
            mount::bind(&dir.path().join("outside"), &bound, mount::BindOptions::default()).unwrap();
            assert!(root.remove_all(Path::new("t")).is_err(), "a bind mount of the same file system");
            mount::unmount(&bound).unwrap();

            root.remove_all(Path::new("t")).unwrap();
            root.remove_all(Path::new("t")).unwrap();
            assert!(!inside.join("t").exists());
            assert!(dir.path().join("outside/secret").exists());
            for name in ["", ".", "..", "a/b", "/"] {
                assert!(root.remove_all(Path::new(name)).is_err(), "{name:?}");
            }
        });
    }

    #[test]
    fn a_walk_changes_entries_and_not_what_links_point_to() {
        let (dir, root, inside) = folder();
        fs::create_dir(inside.join("d")).unwrap();
        fs::write(inside.join("d/f"), "").unwrap();
        symlink(dir.path().join("outside/secret"), inside.join("d/l")).unwrap();
        root.walk(&mut |entry| {
            entry.chown(None, Some(4242))?;
            entry.chmod(0o640)
        })
        .unwrap();
        let meta = |p: PathBuf| fs::symlink_metadata(p).unwrap();
        assert_eq!((meta(inside.join("d/f")).gid(), meta(inside.join("d/f")).mode() & 0o777), (4242, 0o640));
        assert_eq!(meta(inside.join("d/l")).gid(), 4242);
        let secret = meta(dir.path().join("outside/secret"));
        assert!(secret.gid() != 4242 && secret.mode() & 0o777 != 0o640);
    }
}
