//! What the machine is: the facts behind `status.nodeInfo` and `status.capacity`, from the same
//! files and with the same fall-backs as upstream.

use std::fs;
use std::path::Path;

use crate::text::{self, FileError, keyed_number};

/// Facts that do not change until the next boot (huge pages and CPUs excepted, which upstream
/// reads once as well).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineFacts {
    /// CPUs that are online.
    pub cpus: u64,
    /// The kernel's list of them, `0-3,8`; empty if it has none.
    pub cpu_list: String,
    /// `MemTotal`, bytes.
    pub memory_bytes: u64,
    /// `SwapTotal`, bytes.
    pub swap_bytes: u64,
    /// Huge pages set aside, by page size.
    pub huge_pages: Vec<HugePages>,
    /// How many tasks the kernel allows.
    pub max_pids: u64,
    /// `nodeInfo.machineID`.
    pub machine_id: String,
    /// `nodeInfo.systemUUID`.
    pub system_uuid: String,
    /// `nodeInfo.bootID`; a change marks a reboot.
    pub boot_id: String,
    /// `nodeInfo.kernelVersion`.
    pub kernel_version: String,
    /// `nodeInfo.osImage`.
    pub os_image: String,
    /// `nodeInfo.architecture`, in Go's spelling.
    pub architecture: &'static str,
    /// Whether the kernel enforces AppArmor profiles.
    pub has_apparmor: bool,
}

/// Huge pages of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HugePages {
    /// Page size, bytes.
    pub page_bytes: u64,
    /// How many the kernel has set aside.
    pub count: u64,
}

const ONLINE_CPUS: &str = "/sys/devices/system/cpu/online";

impl MachineFacts {
    /// Reads all of them. Only memory and CPUs are indispensable; an id that cannot be found is
    /// empty, as upstream reports it.
    pub fn read() -> Result<Self, FileError> {
        let meminfo_path = Path::new("/proc/meminfo");
        let meminfo = text::read(meminfo_path)?;
        let total = keyed_number(&meminfo, "MemTotal").ok_or(FileError::content(meminfo_path, "MemTotal"))?;
        Ok(Self {
            cpus: online_cpus()?,
            cpu_list: text::read(ONLINE_CPUS).map(|list| list.trim().to_owned()).unwrap_or_default(),
            memory_bytes: total * 1024,
            swap_bytes: keyed_number(&meminfo, "SwapTotal").unwrap_or(0) * 1024,
            huge_pages: huge_pages(),
            max_pids: max_pids()?,
            machine_id: first_of(&["/etc/machine-id", "/var/lib/dbus/machine-id"]),
            system_uuid: first_of(&[
                "/sys/class/dmi/id/product_uuid",
                "/proc/device-tree/system-id",
                "/proc/device-tree/vm,uuid",
                "/etc/machine-id",
            ]),
            boot_id: first_of(&["/proc/sys/kernel/random/boot_id"]),
            kernel_version: rustix::system::uname().release().to_string_lossy().into_owned(),
            os_image: os_image(&["/etc/os-release", "/usr/lib/os-release"]),
            architecture: architecture(),
            has_apparmor: has_apparmor(Path::new("/sys")),
        })
    }
}

/// Both the file system in which profiles are loaded and the kernel's word for it.
fn has_apparmor(sys: &Path) -> bool {
    let enabled = text::read(sys.join("module/apparmor/parameters/enabled"));
    sys.join("kernel/security/apparmor").exists() && enabled.is_ok_and(|text| text.starts_with('Y'))
}

/// The node's host name as the kernel has it, trimmed and in lower case as node names must be.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().trim().to_lowercase()
}

/// The huge page sizes this kernel knows, bytes, ascending.
pub fn huge_page_sizes() -> Vec<u64> {
    huge_pages().iter().map(|h| h.page_bytes).collect()
}

/// The smaller of `pid_max` and `threads-max`.
pub fn max_pids() -> Result<u64, FileError> {
    let pids = text::read_number("/proc/sys/kernel/pid_max")?;
    let threads = text::read_number("/proc/sys/kernel/threads-max").unwrap_or(u64::MAX);
    Ok(pids.min(threads))
}

/// When the kernel was started, in seconds since 1970.
pub fn boot_time_seconds() -> Result<u64, FileError> {
    let path = Path::new("/proc/stat");
    keyed_number(&text::read(path)?, "btime").ok_or(FileError::content(path, "the time of boot"))
}

/// The control group that a process and its usage are accounted to, below the hierarchies' roots. `None` where version 1
/// accounts for its time and its memory in different groups.
pub fn group_of_process(pid: &str) -> Result<Option<String>, FileError> {
    Ok(accounting_group(&text::read(Path::new("/proc").join(pid).join("cgroup"))?))
}

/// Lines of the form `4:cpu,cpuacct:/system.slice/kubelet.service`; version 2 has one alone, `0::/…`. Where systemd runs on
/// version 1, its own hierarchy tells the unit, which may not have accounting.
fn accounting_group(text: &str) -> Option<String> {
    let of = |controller: &str| {
        text.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let controllers = fields.next()?;
            controllers.split(',').any(|c| c == controller).then(|| fields.next()).flatten()
        })
    };
    let group = match (of("cpu"), of("memory")) {
        (Some(cpu), Some(memory)) => (cpu == memory).then(|| of("name=systemd").unwrap_or(cpu)),
        (None, None) => of(""),
        _ => None,
    };
    group.map(str::to_owned)
}

fn huge_pages() -> Vec<HugePages> {
    let entries = fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let mut found: Vec<HugePages> = entries
        .filter_map(|entry| {
            let name = entry.file_name();
            let kib: u64 = name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let count = text::read_number(entry.path().join("nr_hugepages")).unwrap_or(0);
            Some(HugePages { page_bytes: kib * 1024, count })
        })
        .collect();
    found.sort_unstable();
    found
}

fn online_cpus() -> Result<u64, FileError> {
    if let Some(count) = text::read(ONLINE_CPUS).ok().and_then(|t| count_list(&t)) {
        return Ok(count);
    }
    let path = Path::new("/proc/cpuinfo");
    let count = text::read(path)?.lines().filter(|l| l.starts_with("processor")).count();
    u64::try_from(count).ok().filter(|c| *c > 0).ok_or(FileError::content(path, "a processor"))
}

/// How many numbers a kernel list such as `0-3,8` names.
fn count_list(list: &str) -> Option<u64> {
    let mut count = 0_u64;
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        count = count.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    (count > 0).then_some(count)
}

/// The text of the first file that has any. Device tree strings end in a NUL.
fn first_of(paths: &[&str]) -> String {
    let readable = paths.iter().filter_map(|path| text::read(path).ok());
    readable.map(|t| t.trim_end_matches('\0').trim().to_owned()).find(|t| !t.is_empty()).unwrap_or_default()
}

fn os_image(paths: &[&str]) -> String {
    let release = first_of(paths);
    pretty_name(&release).unwrap_or_else(|| "Linux".to_owned())
}

fn pretty_name(release: &str) -> Option<String> {
    let value = release.lines().find_map(|line| line.trim().strip_prefix("PRETTY_NAME="))?;
    let value = value.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.to_owned())
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "powerpc64" => "ppc64",
        "loongarch64" => "loong64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_facts() {
        let facts = MachineFacts::read().unwrap();
        assert!(facts.cpus > 0 && facts.memory_bytes > 1 << 20 && facts.max_pids > 300);
        assert!(!facts.boot_id.is_empty() && !facts.kernel_version.is_empty() && !facts.os_image.is_empty());
        assert!(!host_name().is_empty());
    }

    #[test]
    fn apparmor_needs_its_files_and_the_kernels_word() {
        let sys = tempfile::tempdir().unwrap();
        let parameters = sys.path().join("module/apparmor/parameters");
        std::fs::create_dir_all(&parameters).unwrap();
        std::fs::write(parameters.join("enabled"), "Y\n").unwrap();
        assert!(!has_apparmor(sys.path()));
        std::fs::create_dir_all(sys.path().join("kernel/security/apparmor")).unwrap();
        assert!(has_apparmor(sys.path()));
        std::fs::write(parameters.join("enabled"), "N\n").unwrap();
        assert!(!has_apparmor(sys.path()));
    }

    #[test]
    fn groups_that_processes_are_accounted_to() {
        let unit = "/system.slice/kubelet.service";
        for (text, group) in [
            (format!("0::{unit}"), Some(unit)),
            (format!("5:memory:{unit}\n3:cpu,cpuacct:{unit}\n0::/"), Some(unit)),
            (format!("5:memory:/\n3:cpu,cpuacct:/\n1:name=systemd:{unit}"), Some(unit)),
            ("5:memory:/a\n3:cpu,cpuacct:/b".to_owned(), None),
            ("5:memory:/a".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(accounting_group(&text).as_deref(), group, "{text}");
        }
        assert!(boot_time_seconds().unwrap() > 1_000_000_000);
    }

    #[test]
    fn lists_are_counted() {
        for (list, count) in [
            ("0", Some(1)),
            ("0-3", Some(4)),
            ("0-3,8,10-11", Some(7)),
            ("", None),
            ("3-1", None),
            ("x", None),
        ] {
            assert_eq!(count_list(list), count, "{list}");
        }
    }

    #[test]
    fn release_files_of_all_tastes() {
        for (release, name) in [
            ("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n", Some("Debian GNU/Linux 12")),
            ("PRETTY_NAME='A b'", Some("A b")),
            ("PRETTY_NAME=Alpine", Some("Alpine")),
            ("PRETTY_NAME=\"\"", None),
            ("", None),
        ] {
            assert_eq!(pretty_name(release).as_deref(), name, "{release}");
        }
    }
}
