//! File systems and disks, which the root group shows.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use host::disk_counters::{self, DiskCounters};
use host::mount::{self, MountEntry};
use host::usage::{self, FileSystemUsage};

/// Types of file systems that are shown, beside those that begin with `ext`. Upstream shows NFS too; we
/// do not, since a server that is gone would hold up the page.
const SHOWN: [&str; 17] = [
    "btrfs", "exfat", "f2fs", "fat", "hfs", "hfsplus", "iso9660", "jfs", "msdos", "ntfs", "overlay",
    "reiserfs", "squashfs", "tmpfs", "udf", "vfat", "xfs",
];
/// Block devices that are no disks, by the beginnings of their names.
const NO_DISKS: [&str; 3] = ["loop", "ram", "sr"];

/// The file systems that were there when the process started, as upstream has it: the many that come
/// with pods stay out.
#[derive(Debug)]
pub(super) struct Disks {
    mounted: Vec<Mounted>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mounted {
    at: PathBuf,
    source: String,
    is_overlay: bool,
}

/// A file system and what its device did.
#[derive(Debug)]
pub(super) struct FileSystem {
    pub(super) device: String,
    pub(super) usage: FileSystemUsage,
    /// Nothing for a file system without a device of its own.
    pub(super) counters: DiskCounters,
}

impl Disks {
    /// Looks at the mount table. One that cannot be read is as good as empty.
    pub(super) fn find() -> Self {
        Self { mounted: shown(&mount::mounts().unwrap_or_default()) }
    }

    /// What all disks did so far.
    pub(super) fn counters(&self) -> Vec<DiskCounters> {
        disk_counters::disk_counters().unwrap_or_default()
    }

    /// Asks each file system. One that cannot be asked, unmounted perhaps, is left out.
    pub(super) fn file_systems(&self, counters: &[DiskCounters]) -> Vec<FileSystem> {
        let mut seen = HashSet::new();
        let mut found = Vec::with_capacity(self.mounted.len());
        for mounted in &self.mounted {
            let Ok(usage) = usage::file_system(&mounted.at) else { continue };
            let (major, minor) = usage.device_numbers();
            // All overlays have the same source.
            let device = match mounted.is_overlay {
                true => format!("{}_{major}-{minor}", mounted.source),
                false => mounted.source.clone(),
            };
            if seen.insert(device.clone()) {
                let own = counters.iter().find(|c| (c.major, c.minor) == (major, minor));
                found.push(FileSystem { device, usage, counters: own.cloned().unwrap_or_default() });
            }
        }
        found
    }
}

/// The path of a block device, or nothing where it has none or is no disk.
pub(super) fn device_name(counters: &[DiskCounters], major: u32, minor: u32) -> String {
    let device = counters.iter().find(|c| (c.major, c.minor) == (major, minor));
    let disk = device.filter(|c| !NO_DISKS.iter().any(|prefix| c.name.starts_with(prefix)));
    disk.map(|c| format!("/dev/{}", c.name)).unwrap_or_default()
}

/// The mounts to show: each source where it was mounted first, every tmpfs under its place, and the
/// root whatever it is.
fn shown(table: &[MountEntry]) -> Vec<Mounted> {
    let mut sources = HashSet::new();
    let mut found = Vec::new();
    for entry in table {
        let is_root = entry.mount_point == Path::new("/");
        if !is_root && !entry.fs_type.starts_with("ext") && !SHOWN.contains(&entry.fs_type.as_str()) {
            continue;
        }
        let is_overlay = entry.fs_type == "overlay";
        let source = match entry.fs_type.as_str() {
            "tmpfs" if !is_root => entry.mount_point.to_string_lossy().into_owned(),
            _ => entry.source.clone(),
        };
        if is_overlay || sources.insert(source.clone()) {
            found.push(Mounted { at: entry.mount_point.clone(), source, is_overlay });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(mount_point: &str, fs_type: &str, source: &str) -> MountEntry {
        MountEntry {
            device: String::new(),
            mount_point: mount_point.into(),
            root: "/".into(),
            fs_type: fs_type.to_owned(),
            source: source.to_owned(),
            options: "rw".to_owned(),
            super_options: "rw".to_owned(),
            is_shared: false,
        }
    }

    #[test]
    fn each_file_system_once() {
        let table = [
            entry("/", "ext4", "/dev/vda1"),
            entry("/proc", "proc", "proc"),
            entry("/bind", "ext4", "/dev/vda1"),
            entry("/run", "tmpfs", "tmpfs"),
            entry("/tmp", "tmpfs", "tmpfs"),
            entry("/far", "nfs4", "server:/x"),
            entry("/a", "overlay", "overlay"),
            entry("/b", "overlay", "overlay"),
        ];
        let found: Vec<(String, bool)> =
            shown(&table).into_iter().map(|m| (m.source, m.is_overlay)).collect();
        let expected =
            [("/dev/vda1", false), ("/run", false), ("/tmp", false), ("overlay", true), ("overlay", true)];
        assert_eq!(found, expected.map(|(source, is_overlay)| (source.to_owned(), is_overlay)));
        let odd = shown(&[entry("/", "zfs", "pool")]);
        assert_eq!(odd.len(), 1, "the root, whatever it is");
    }

    #[test]
    fn this_machine_has_a_root() {
        let disks = Disks::find();
        let counters = disks.counters();
        let found = disks.file_systems(&counters);
        assert!(found.iter().any(|fs| fs.usage.capacity > 0), "{found:?}");
    }

    #[test]
    fn devices_have_names() {
        let disk =
            |major, name: &str| DiskCounters { major, name: name.to_owned(), ..DiskCounters::default() };
        let counters = [disk(8, "sda"), disk(7, "loop0")];
        for (major, name) in [(8, "/dev/sda"), (7, ""), (9, "")] {
            assert_eq!(device_name(&counters, major, 0), name);
        }
    }
}
