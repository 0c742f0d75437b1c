//! Mounting and unmounting on the host, and what is mounted where.

mod table;

use std::ffi::CString;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

pub use table::{MountEntry, containing, is_mount_point, mounts, mounts_below, others_of};

use crate::text::FileError;

/// Why a mount or unmount failed.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The kernel refused.
    #[error("{operation} {}", path.display())]
    Refused {
        /// What was tried: `mount tmpfs at`, `bind mount at` and the like.
        operation: &'static str,
        /// At which mount point.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The mount table could not be read.
    #[error("list mounts")]
    Table(#[from] FileError),
    /// Something stayed mounted although its unmount succeeded each time it was tried.
    #[error("{} is still a mount point", path.display())]
    StillMounted {
        /// Where.
        path: PathBuf,
    },
}

/// What a tmpfs is mounted with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TmpfsOptions {
    /// Upper bound in bytes; without one the kernel takes half of the memory.
    pub size_bytes: Option<u64>,
    /// Whether its pages never go to swap (`noswap`, Linux 6.4). Falls back to an ordinary
    /// mount on kernels without it.
    pub is_noswap: bool,
}

/// Mounts an empty tmpfs at an existing directory.
pub fn tmpfs(target: &Path, options: TmpfsOptions) -> Result<(), MountError> {
    let mut data = String::new();
    if let Some(bytes) = options.size_bytes {
        // Writing to a String cannot fail.
        let _ = write!(data, "size={bytes}");
    }
    let plain = data.clone();
    if options.is_noswap {
        data.push_str(if data.is_empty() { "noswap" } else { ",noswap" });
    }
    match mount_tmpfs(target, &data) {
        Err(rustix::io::Errno::INVAL) if options.is_noswap => mount_tmpfs(target, &plain),
        other => other,
    }
    .map_err(|source| refused("mount tmpfs at", target, source))
}

/// Mounts a file system of huge pages of this size at an existing directory.
///
/// # Errors
/// When the kernel has no such pages or refuses.
pub fn hugetlbfs(target: &Path, page_bytes: u64) -> Result<(), MountError> {
    // A number contains no NUL.
    let data = CString::new(format!("pagesize={page_bytes}")).unwrap_or_default();
    rustix::mount::mount("nodev", target, "hugetlbfs", MountFlags::empty(), data.as_c_str())
        .map_err(|source| refused("mount hugetlbfs at", target, source))
}

/// Whether a tmpfs can be kept from swap here (`noswap`), which kernels before 6.4 and user namespaces cannot. Tried out
/// in a new folder below `folder`.
///
/// # Errors
/// When nothing can be tried there.
pub fn has_noswap(folder: &Path) -> Result<bool, MountError> {
    let target = folder.join(format!(".tmpfs-noswap-{}", std::process::id()));
    let failed = |operation, source| MountError::Refused { operation, path: target.clone(), source };
    fs::create_dir(&target).map_err(|source| failed("make folder", source))?;
    let answer = mount_tmpfs(&target, "noswap");
    if answer.is_ok() {
        unmount(&target)?;
    }
    fs::remove_dir(&target).map_err(|source| failed("remove folder", source))?;
    match answer {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::INVAL) => Ok(false),
        Err(source) => Err(refused("mount tmpfs at", &target, source)),
    }
}

fn mount_tmpfs(target: &Path, data: &str) -> rustix::io::Result<()> {
    // Neither a number nor a fixed word contains a NUL.
    let data = CString::new(data).unwrap_or_default();
    rustix::mount::mount("tmpfs", target, "tmpfs", MountFlags::empty(), data.as_c_str())
}

/// How a bind mount is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BindOptions {
    /// Whether the mounts below the source come along.
    pub is_recursive: bool,
    /// Whether the new mount refuses writes. With `is_recursive` the mounts below it do too.
    pub is_read_only: bool,
}

/// Makes `source` appear at `target` too.
pub fn bind(source: &Path, target: &Path, options: BindOptions) -> Result<(), MountError> {
    let made = if options.is_recursive {
        rustix::mount::mount_bind_recursive(source, target)
    } else {
        rustix::mount::mount_bind(source, target)
    };
    made.map_err(|source| refused("bind mount at", target, source))?;
    if options.is_read_only { make_read_only(target, options.is_recursive) } else { Ok(()) }
}

/// Makes an already opened file or directory appear at `target`. The kernel follows the
/// descriptor, not a path, so nobody can swap the source meanwhile (CVE-2021-25741).
pub fn bind_fd(source: BorrowedFd<'_>, target: &Path, options: BindOptions) -> Result<(), MountError> {
    bind(Path::new(&format!("/proc/thread-self/fd/{}", source.as_raw_fd())), target, options)
}

/// Takes away the right to write through a mount, and through those below it if asked to.
pub fn make_read_only(target: &Path, is_recursive: bool) -> Result<(), MountError> {
    let all = if is_recursive { mounts_below(target)? } else { mounts_at(target)? };
    for entry in &all {
        let flags = kept_flags(&entry.options) | MountFlags::RDONLY | MountFlags::BIND;
        rustix::mount::mount_remount(&entry.mount_point, flags, "")
            .map_err(|source| refused("remount read-only", &entry.mount_point, source))?;
    }
    Ok(())
}

/// The per-mount options of what `path` is on, as mount(8) names them. A bind mount made of it has them too, until it is
/// remounted.
///
/// # Errors
/// It cannot be looked at.
pub fn options_of(path: &Path) -> Result<Vec<&'static str>, MountError> {
    let flags = rustix::fs::statvfs(path).map_err(|source| refused("look at", path, source))?.f_flag;
    let names = [
        (StatVfsMountFlags::RDONLY, "ro"),
        (StatVfsMountFlags::NODEV, "nodev"),
        (StatVfsMountFlags::NOEXEC, "noexec"),
        (StatVfsMountFlags::NOSUID, "nosuid"),
        (StatVfsMountFlags::NOATIME, "noatime"),
        (StatVfsMountFlags::RELATIME, "relatime"),
        (StatVfsMountFlags::NODIRATIME, "nodiratime"),
    ];
    Ok(names.into_iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, name)| name).collect())
}

/// Makes mounts at and below `path` travel to and from its peers. Containers with bidirectional propagation need it of the
/// kubelet's root directory. Where the mount that holds it is shared already, as systemd leaves `/`, nothing is to be done: a
/// mount more would double every mount below it, and outlive what is removed there. Otherwise `path` becomes a mount of its
/// own.
pub fn make_recursively_shared(path: &Path) -> Result<(), MountError> {
    // The table has no links in it.
    let missing = |source| MountError::Refused { operation: "find", path: path.to_owned(), source };
    let real = fs::canonicalize(path).map_err(missing)?;
    if containing(&real)?.is_some_and(|entry| entry.is_shared) {
        return Ok(());
    }
    rustix::mount::mount_bind(path, path).map_err(|source| refused("bind mount at", path, source))?;
    rustix::mount::mount_change(path, MountPropagationFlags::SHARED | MountPropagationFlags::REC)
        .map_err(|source| refused("make shared", path, source))
}

/// Unmounts what is mounted at `path`, all layers of it. Nothing there is no error. A mount
/// that is in use is an error; see [`detach`].
pub fn unmount(path: &Path) -> Result<(), MountError> {
    unmount_all(path, UnmountFlags::NOFOLLOW)
}

/// The last resort for a mount that is in use for good or whose server hangs: takes it out of
/// the name space now and lets the kernel finish when the last user is gone.
pub fn detach(path: &Path) -> Result<(), MountError> {
    unmount_all(path, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)
}

fn unmount_all(path: &Path, flags: UnmountFlags) -> Result<(), MountError> {
    // One mount point may carry several mounts; each call takes the topmost off. A hundred
    // layers are beyond anything a node has and bound the loop.
    for _ in 0..100 {
        match rustix::mount::unmount(path, flags) {
            Ok(()) => {}
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => return Ok(()),
            Err(source) => return Err(refused("unmount", path, source)),
        }
    }
    Err(MountError::StillMounted { path: path.to_owned() })
}

fn mounts_at(path: &Path) -> Result<Vec<MountEntry>, MountError> {
    // The kernel shows the resolved place, and the topmost of several mounts is listed last.
    let resolved = fs::canonicalize(path).map_err(|source| MountError::Refused {
        operation: "resolve",
        path: path.to_owned(),
        source,
    })?;
    Ok(mounts()?.into_iter().rfind(|m| m.mount_point == resolved).into_iter().collect())
}

/// A remount replaces all per-mount flags, so those in force have to be named again.
fn kept_flags(options: &str) -> MountFlags {
    options.split(',').fold(MountFlags::empty(), |flags, option| {
        flags
            | match option {
                "nosuid" => MountFlags::NOSUID,
                "nodev" => MountFlags::NODEV,
                "noexec" => MountFlags::NOEXEC,
                "noatime" => MountFlags::NOATIME,
                "nodiratime" => MountFlags::NODIRATIME,
                "relatime" => MountFlags::RELATIME,
                _ => MountFlags::empty(),
            }
    })
}

fn refused(operation: &'static str, path: &Path, source: rustix::io::Errno) -> MountError {
    MountError::Refused { operation, path: path.to_owned(), source: source.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::in_mount_namespace;

    #[test]
    fn tmpfs_bind_and_unmount() {
        in_mount_namespace(|| {
            let dir = tempfile::tempdir().unwrap();
            let (a, b) = (dir.path().join("a"), dir.path().join("b c"));
            fs::create_dir(&a).unwrap();
            fs::create_dir(&b).unwrap();
            tmpfs(&a, TmpfsOptions { size_bytes: Some(1 << 20), is_noswap: true }).unwrap();
            let entry = mounts_below(&a).unwrap().remove(0);
            assert_eq!(entry.fs_type, "tmpfs");
            assert!(entry.super_options.contains("size=1024k"), "{}", entry.super_options);
            fs::write(a.join("f"), "x").unwrap();

            bind(&a, &b, BindOptions { is_recursive: false, is_read_only: true }).unwrap();
            assert_eq!(fs::read_to_string(b.join("f")).unwrap(), "x");
            assert_eq!(fs::write(b.join("f"), "y").unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
            fs::write(a.join("f"), "y").unwrap();

            assert_eq!(mounts_below(dir.path()).unwrap().len(), 2);
            unmount(&b).unwrap();
            unmount(&a).unwrap();
            assert!(mounts_below(dir.path()).unwrap().is_empty());
            assert!(!a.join("f").exists());
        });
    }

    #[test]
    fn what_is_said_of_swap_holds_for_mounts() {
        in_mount_namespace(|| {
            let dir = tempfile::tempdir().unwrap();
            let said = has_noswap(dir.path()).unwrap();
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
            tmpfs(dir.path(), TmpfsOptions { size_bytes: None, is_noswap: true }).unwrap();
            let entry = mounts_below(dir.path()).unwrap().remove(0);
            assert_eq!(said, entry.super_options.split(',').any(|option| option == "noswap"));
            unmount(dir.path()).unwrap();
            assert!(matches!(has_noswap(&dir.path().join("none")), Err(MountError::Refused { .. })));
        });
    }

    #[test]
    fn other_mounts_of_a_folder_and_its_options() {
        in_mount_namespace(|| {
            let dir = tempfile::tempdir().unwrap();
            let (disk, shown) = (dir.path().join("disk"), dir.path().join("shown"));
            fs::create_dir(&disk).unwrap();
            fs::create_dir(&shown).unwrap();
            tmpfs(&disk, TmpfsOptions::default()).unwrap();
            let folder = disk.join("folder");
            fs::create_dir(&folder).unwrap();
            assert_eq!(others_of(&folder).unwrap(), []);
            bind(&folder, &shown, BindOptions { is_recursive: false, is_read_only: true }).unwrap();
            let others: Vec<_> = others_of(&folder).unwrap().into_iter().map(|m| m.mount_point).collect();
            assert_eq!(others, std::slice::from_ref(&shown));
            assert_eq!(others_of(&disk).unwrap(), [], "that is another folder");
            assert!(options_of(&shown).unwrap().contains(&"ro"));
            assert!(!options_of(&disk).unwrap().contains(&"ro"));
            unmount(&shown).unwrap();
            unmount(&disk).unwrap();
        });
    }

    #[test]
    fn recursive_read_only_reaches_inner_mounts() {
        in_mount_namespace(|| {
            let dir = tempfile::tempdir().unwrap();
            let (outer, view) = (dir.path().join("outer"), dir.path().join("view"));
            let inner = outer.join("inner");
            fs::create_dir(&outer).unwrap();
            fs::create_dir(&view).unwrap();
            tmpfs(&outer, TmpfsOptions::default()).unwrap();
            fs::create_dir(&inner).unwrap();
            tmpfs(&inner, TmpfsOptions::default()).unwrap();
            bind(&outer, &view, BindOptions { is_recursive: true, is_read_only: true }).unwrap();
            assert!(fs::write(view.join("inner/f"), "").is_err());
            fs::write(inner.join("f"), "").unwrap();
            for mounted in [&view.join("inner"), &view, &inner, &outer] {
                unmount(mounted).unwrap();
            }
        });
    }

    #[test]
    fn a_busy_mount_is_an_error_until_detached() {
        in_mount_namespace(|| {
            let dir = tempfile::tempdir().unwrap();
            tmpfs(dir.path(), TmpfsOptions::default()).unwrap();
            tmpfs(dir.path(), TmpfsOptions::default()).unwrap();
            let held = fs::File::create(dir.path().join("held")).unwrap();
            assert!(matches!(unmount(dir.path()), Err(MountError::Refused { .. })));
            detach(dir.path()).unwrap();
            assert!(!is_mount_point(dir.path()).unwrap());
            drop(held);
        });
    }

    #[test]
    fn sharing_makes_a_mount_point_of_what_is_private() {
        in_mount_namespace(|| {
            let dir = tempfile::tempdir().unwrap();
            make_recursively_shared(dir.path()).unwrap();
            make_recursively_shared(dir.path()).unwrap();
            let entries = mounts_below(dir.path()).unwrap();
            assert_eq!(entries.len(), 1);
            assert!(entries[0].is_shared);
            unmount(dir.path()).unwrap();
        });
    }

    /// A second mount of it would show every mount below it twice.
    #[test]
    fn what_is_shared_already_is_left_alone() {
        in_mount_namespace(|| {
            let dir = tempfile::tempdir().unwrap();
            tmpfs(dir.path(), TmpfsOptions::default()).unwrap();
            rustix::mount::mount_change(dir.path(), MountPropagationFlags::SHARED).unwrap();
            let root = dir.path().join("kubelet");
            fs::create_dir(&root).unwrap();
            let link = dir.path().join("link");
            std::os::unix::fs::symlink(&root, &link).unwrap();
            make_recursively_shared(&root).unwrap();
            make_recursively_shared(&link).unwrap();
            assert!(!is_mount_point(&root).unwrap());
            let volume = root.join("volume");
            fs::create_dir(&volume).unwrap();
            tmpfs(&volume, TmpfsOptions::default()).unwrap();
            assert_eq!(mounts_below(&root).unwrap().len(), 1, "each mount once");
            unmount(&volume).unwrap();
            unmount(dir.path()).unwrap();
        });
    }
}
