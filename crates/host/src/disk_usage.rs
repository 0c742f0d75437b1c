//! How much a folder holds: a walk that adds up blocks and inodes, as `du -x` does.
//!
//! What is walked belongs to pods, which may change it meanwhile and may have made it hostile: a million
//! files, folders nested without end, links that lead out of it. So the walk goes from open folder to
//! open folder and follows no link, stays on one file system, and gives up at a budget. It may take
//! long; callers run it on a blocking thread, and it rests as long as it works.

use std::collections::HashSet;
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// Entries between two rests.
const BREATH: u64 = 1024;
/// The longest rest. A disk that is so slow is busy with other things.
const LONGEST_REST: Duration = Duration::from_millis(100);
/// Folders open at the same time. Only one that nests folders beside folders, level for level, needs more than a few.
const OPEN_FOLDERS: usize = 128;
/// The unit of `st_blocks`, whatever the file system's own is.
const BLOCK_BYTES: u64 = 512;

/// What a file or a folder with everything in it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct DiskUsage {
    /// Bytes of blocks on the disk.
    pub bytes: u64,
    /// Files, folders and whatever else has an inode; one with several names counts once.
    pub inodes: u64,
    /// Whether all was counted. If not, there was more than the budget allows to look at, and the
    /// numbers are what was counted until then.
    pub is_complete: bool,
}

/// A folder or file that could not be measured.
#[derive(Debug, thiserror::Error)]
#[error("measure disk usage of {}", path.display())]
pub struct DiskUsageError {
    path: PathBuf,
    source: io::Error,
}

impl DiskUsageError {
    /// Whether there is nothing of that name.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// Measures a file, or a folder with everything below it on the same file system. At most `entries`
/// are looked at.
///
/// # Errors
/// If `path` itself cannot be read. What vanishes or refuses below it is left out.
pub fn disk_usage(path: &Path, entries: u64) -> Result<DiskUsage, DiskUsageError> {
    let fail = |e: Errno| DiskUsageError { path: path.to_owned(), source: e.into() };
    let top = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
    let mut walk = Walk::new(top.st_dev, entries);
    walk.count(&top);
    if FileType::from_raw_mode(top.st_mode) == FileType::Directory {
        walk.descend(open(CWD, path).map_err(fail)?);
    }
    Ok(walk.usage)
}

/// Measures each file in a folder, not the folders in it: the bytes they take, and how many there are.
///
/// # Errors
/// If the folder cannot be read.
pub fn files_usage(folder: &Path, entries: u64) -> Result<DiskUsage, DiskUsageError> {
    let fail = |e: Errno| DiskUsageError { path: folder.to_owned(), source: e.into() };
    let fd = open(CWD, folder).map_err(fail)?;
    let device = rustix::fs::fstat(&fd).map_err(fail)?.st_dev;
    let mut walk = Walk { is_flat: true, ..Walk::new(device, entries) };
    walk.list(fd, 0);
    Ok(walk.usage)
}

/// An open folder with the names of the folders in it that are still to be walked.
struct Level {
    folder: OwnedFd,
    names: Vec<CString>,
}

struct Walk {
    device: u64,
    /// Whether folders are left alone.
    is_flat: bool,
    left: u64,
    /// Inodes with several names.
    seen: HashSet<u64>,
    usage: DiskUsage,
    since_rest: u64,
    resumed: Instant,
}

impl Walk {
    fn new(device: u64, entries: u64) -> Self {
        Self {
            device,
            is_flat: false,
            left: entries,
            seen: HashSet::new(),
            usage: DiskUsage { is_complete: true, ..DiskUsage::default() },
            since_rest: 0,
            resumed: Instant::now(),
        }
    }

    fn descend(&mut self, top: OwnedFd) {
        let mut levels = vec![self.list(top, 0)];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.pop() else {
                levels.pop();
                continue;
            };
            // Swapped or removed since it was listed: then it is somebody else's.
            let opened = open(&level.folder, name.as_c_str());
            if level.names.is_empty() {
                levels.pop();
            }
            if let Ok(folder) = opened {
                let level = self.list(folder, levels.len());
                levels.push(level);
            }
        }
    }

    /// Counts what is in a folder, and leaves the folders in it for later.
    fn list(&mut self, folder: OwnedFd, open_above: usize) -> Level {
        let mut names = Vec::new();
        for entry in Dir::read_from(&folder).into_iter().flatten() {
            let Ok(entry) = entry else { break };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if self.left == 0 {
                self.usage.is_complete = false;
                names.clear();
                break;
            }
            self.left -= 1;
            self.rest();
            let Ok(stat) = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if is_folder && self.is_flat {
                continue;
            }
            if self.count(&stat) && is_folder {
                names.push(name.to_owned());
            }
        }
        if open_above >= OPEN_FOLDERS && !names.is_empty() {
            self.usage.is_complete = false;
            names.clear();
        }
        Level { folder, names }
    }

    /// Whether the entry is of this file system and was not counted before.
    fn count(&mut self, stat: &Stat) -> bool {
        let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if stat.st_dev != self.device || (stat.st_nlink > 1 && !is_folder && !self.seen.insert(stat.st_ino)) {
            return false;
        }
        let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
        self.usage.bytes = self.usage.bytes.saturating_add(blocks.saturating_mul(BLOCK_BYTES));
        self.usage.inodes += 1;
        true
    }

    /// Leaves the disk to others for as long as it was busy for us.
    fn rest(&mut self) {
        self.since_rest += 1;
        if self.since_rest >= BREATH {
            #[expect(clippy::disallowed_methods, reason = "the caller gives it a thread that may block")]
            std::thread::sleep(self.resumed.elapsed().min(LONGEST_REST));
            self.since_rest = 0;
            self.resumed = Instant::now();
        }
    }
}

fn open(parent: impl std::os::fd::AsFd, name: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    const PLENTY: u64 = 1_000_000;

    fn blocks(paths: &[&Path]) -> u64 {
        paths.iter().map(|path| fs::symlink_metadata(path).unwrap().blocks() * 512).sum()
    }

    #[test]
    fn adds_up_files_folders_and_links() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path();
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::write(top.join("a/b/file"), vec![1; 100_000]).unwrap();
        fs::hard_link(top.join("a/b/file"), top.join("same")).unwrap();
        symlink("/usr", top.join("link")).unwrap();
        let usage = disk_usage(top, PLENTY).unwrap();
        let [a, b] = [top.join("a"), top.join("a/b")];
        let bytes = blocks(&[top, &a, &b, &top.join("same"), &top.join("link")]);
        assert_eq!(usage, DiskUsage { bytes, inodes: 5, is_complete: true });
        assert!(bytes >= 100_000);
        // A file of its own, and the files of one folder.
        let file = DiskUsage { bytes: blocks(&[&top.join("same")]), inodes: 1, is_complete: true };
        assert_eq!(disk_usage(&top.join("same"), PLENTY).unwrap(), file);
        assert_eq!(files_usage(&b, PLENTY).unwrap(), file);
    }

    #[test]
    fn gives_up_at_its_budget() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..10 {
            fs::create_dir_all(dir.path().join(format!("{n}/x"))).unwrap();
        }
        let usage = disk_usage(dir.path(), 7).unwrap();
        assert_eq!((usage.inodes, usage.is_complete), (8, false));
        assert_eq!(disk_usage(dir.path(), 20).unwrap().inodes, 21);
    }

    #[test]
    fn nesting_does_not_use_up_handles() {
        let dir = tempfile::tempdir().unwrap();
        // One folder in another: each handle is closed once the next is open.
        let mut path = dir.path().join("deep");
        for _ in 0..OPEN_FOLDERS + 50 {
            fs::create_dir(&path).unwrap();
            path.push("d");
        }
        let deep = disk_usage(&dir.path().join("deep"), PLENTY).unwrap();
        assert_eq!((deep.inodes, deep.is_complete), (OPEN_FOLDERS as u64 + 50, true));
        // Two in each: what is listed first stays open.
        let mut path = dir.path().join("wide");
        for _ in 0..OPEN_FOLDERS + 50 {
            fs::create_dir_all(path.join("c")).unwrap();
            fs::create_dir_all(path.join("e")).unwrap();
            path.push("d");
        }
        let wide = disk_usage(&dir.path().join("wide"), PLENTY).unwrap();
        assert!(wide.inodes > OPEN_FOLDERS as u64);
    }

    #[test]
    fn stays_on_its_file_system_and_follows_no_link() {
        crate::testing::in_mount_namespace(|| {
            let dir = tempfile::tempdir().unwrap();
            let place = dir.path().join("mounted");
            fs::create_dir(&place).unwrap();
            rustix::mount::mount("tmpfs", &place, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
            fs::write(place.join("file"), "x").unwrap();
            assert_eq!(disk_usage(dir.path(), PLENTY).unwrap().inodes, 1);
            assert_eq!(disk_usage(&place, PLENTY).unwrap().inodes, 2);
            symlink(&place, dir.path().join("way")).unwrap();
            assert_eq!(disk_usage(&dir.path().join("way"), PLENTY).unwrap().inodes, 1);
        });
        let error = disk_usage(Path::new("/no/such/place"), PLENTY).unwrap_err();
        assert!(error.is_not_found() && error.to_string().contains("/no/such/place"));
    }
}
