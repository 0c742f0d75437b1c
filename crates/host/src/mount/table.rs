//! The mount table of the calling thread's mount namespace, `/proc/thread-self/mountinfo`
//! (format: proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::text::FileError;

/// `self` would be the thread group leader, which may live in another mount namespace.
const MOUNTINFO: &str = "/proc/thread-self/mountinfo";

/// One line of the mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// Where it is mounted, as seen from the process's root.
    pub mount_point: PathBuf,
    /// The number of the file system, `major:minor`.
    pub device: String,
    /// Which directory of the file system is mounted there: `/` unless it is a bind mount.
    pub root: PathBuf,
    /// File system type, such as `tmpfs`.
    pub fs_type: String,
    /// What was mounted: a device, or whatever text the mounter gave.
    pub source: String,
    /// Per-mount options: `rw,relatime`.
    pub options: String,
    /// Per-file-system options: `rw,size=1024k`.
    pub super_options: String,
    /// Whether mounts made here travel to its peers (`shared:N`).
    pub is_shared: bool,
}

/// All mounts, in mount order: a later entry at the same place covers an earlier one.
pub fn mounts() -> Result<Vec<MountEntry>, FileError> {
    let path = Path::new(MOUNTINFO);
    let bytes = std::fs::read(path).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    Ok(parse(&bytes))
}

/// The mounts at `path` or anywhere below it, deepest and latest first: the order to unmount in.
pub fn mounts_below(path: &Path) -> Result<Vec<MountEntry>, FileError> {
    let mut found = mounts()?;
    found.retain(|m| m.mount_point.starts_with(path));
    // Mount order puts parents before children, so its reverse never meets a busy parent.
    found.reverse();
    Ok(found)
}

/// The mount that `path`, which must be free of symbolic links, is on.
pub fn containing(path: &Path) -> Result<Option<MountEntry>, FileError> {
    // A later one covers an earlier one at the same place and at those below it.
    Ok(mounts()?.into_iter().rev().find(|m| path.starts_with(&m.mount_point)))
}

/// Where else a folder shows: the other mounts of the same folder of the same file system. `path` must be free of symbolic links.
pub fn others_of(path: &Path) -> Result<Vec<MountEntry>, FileError> {
    let all = mounts()?;
    let Some(holder) = all.iter().rev().find(|m| path.starts_with(&m.mount_point)) else {
        return Ok(Vec::new());
    };
    let below = path.strip_prefix(&holder.mount_point).unwrap_or(Path::new(""));
    let root = if below == Path::new("") { holder.root.clone() } else { holder.root.join(below) };
    let device = holder.device.clone();
    let is_other = |m: &MountEntry| m.device == device && m.root == root && m.mount_point != path;
    Ok(all.into_iter().filter(is_other).collect())
}

/// Whether something is mounted exactly at `path`, which must be free of symbolic links.
pub fn is_mount_point(path: &Path) -> Result<bool, FileError> {
    Ok(mounts()?.iter().any(|m| m.mount_point == path))
}

/// Lines that do not have the documented form are skipped: the kernel may add fields, and one
/// odd line must not hide all others.
fn parse(bytes: &[u8]) -> Vec<MountEntry> {
    bytes.split(|b| *b == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|b| *b == b' ').filter(|f| !f.is_empty());
    let mut before = fields.by_ref().skip(2);
    let device = before.next()?;
    let root = before.next()?;
    let mount_point = before.next()?;
    let options = before.next()?;
    let mut is_shared = false;
    for tag in before.by_ref() {
        if tag == b"-" {
            break;
        }
        is_shared |= tag.starts_with(b"shared:");
    }
    let fs_type = before.next()?;
    let source = before.next().unwrap_or_default();
    let super_options = before.next().unwrap_or_default();
    Some(MountEntry {
        mount_point: PathBuf::from(unescape(mount_point)),
        device: text(device),
        root: PathBuf::from(unescape(root)),
        fs_type: text(fs_type),
        source: text(source),
        options: text(options),
        super_options: text(super_options),
        is_shared,
    })
}

fn text(field: &[u8]) -> String {
    unescape(field).to_string_lossy().into_owned()
}

/// Blank, tab, newline and backslash are written as a backslash and three octal digits.
fn unescape(field: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'\\'
            && let [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] = tail
        {
            out.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
            rest = after;
        } else {
            out.push(byte);
            rest = tail;
        }
    }
    OsString::from_vec(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lines_of_every_shape() {
        let table = b"22 27 0:21 / /proc rw,relatime - proc proc rw\n\
            30 1 8:1 /a\\040b /mnt/tab\\011x rw,nosuid shared:5 master:2 - ext4 /dev/sda1 rw,size=1k\n\
            31 1 0:9 / /odd\\99 rw unbindable - tmpfs  rw\n\
            not a line\n\n";
        let parsed = parse(table);
        assert_eq!(parsed.len(), 3);
        assert_eq!(parsed[0].mount_point, Path::new("/proc"));
        assert!(!parsed[0].is_shared);
        assert_eq!(parsed[0].device, "0:21");
        assert_eq!(parsed[1].root, Path::new("/a b"));
        assert_eq!(parsed[1].mount_point, Path::new("/mnt/tab\tx"));
        assert_eq!((parsed[1].fs_type.as_str(), parsed[1].source.as_str()), ("ext4", "/dev/sda1"));
        assert_eq!(parsed[1].super_options, "rw,size=1k");
        assert!(parsed[1].is_shared);
        assert_eq!(parsed[2].mount_point, Path::new("/odd\\99"));
    }

    #[test]
    fn the_real_table_has_a_root() {
        assert!(mounts().unwrap().iter().any(|m| m.mount_point == Path::new("/proc")));
        assert!(is_mount_point(Path::new("/proc")).unwrap());
        assert!(!is_mount_point(Path::new("/proc/self")).unwrap());
    }
}
