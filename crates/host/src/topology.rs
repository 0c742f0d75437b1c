//! How the machine's processors and memory are put together, as far as metrics tell.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::text::{self, FileError};

/// Processors by their place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTopology {
    /// Different core numbers. Sockets may number their cores alike, and then count once: upstream
    /// counts so.
    pub physical_cores: u64,
    /// Different sockets.
    pub sockets: u64,
    /// Different books (s390x; 0 elsewhere).
    pub books: u64,
    /// Different drawers (s390x; 0 elsewhere).
    pub drawers: u64,
}

/// Memory modules of one type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryModules {
    /// How many.
    pub count: u64,
    /// Their sizes together, bytes.
    pub capacity_bytes: u64,
}

/// Reads the processors' places from `/proc/cpuinfo`, or from sysfs where that does not have them.
pub fn cpu_topology() -> Result<CpuTopology, FileError> {
    let text = text::read("/proc/cpuinfo")?;
    let sysfs = Path::new("/sys/bus/cpu/devices");
    let count = |field: &str, property: &str| match different(&text, field) {
        0 => different_properties(sysfs, property),
        count => count,
    };
    let of_s390x = |field: &str, property: &str| match std::env::consts::ARCH {
        "s390x" => count(field, property),
        _ => 0,
    };
    Ok(CpuTopology {
        physical_cores: count("core id", "core_id"),
        sockets: count("physical id", "physical_package_id"),
        books: of_s390x("book id", "book_id"),
        drawers: of_s390x("drawer id", "drawer_id"),
    })
}

/// The memory modules that the kernel's error detection knows, by type; most machines have none.
pub fn memory_modules() -> BTreeMap<String, MemoryModules> {
    modules_in(Path::new("/sys/devices/system/edac/mc"))
}

fn modules_in(edac: &Path) -> BTreeMap<String, MemoryModules> {
    let mut found: BTreeMap<String, MemoryModules> = BTreeMap::new();
    for dimm in numbered(edac, "mc").flat_map(|controller| numbered(&controller, "dimm").collect::<Vec<_>>())
    {
        let Ok(kind) = text::read(dimm.join("dimm_mem_type")) else { continue };
        let mebibytes = text::read_number(dimm.join("size")).unwrap_or(0);
        let modules = found.entry(kind).or_default();
        modules.count += 1;
        modules.capacity_bytes += mebibytes << 20;
    }
    found
}

/// The folders named `mc0`, `dimm12`, … in a folder.
fn numbered(dir: &Path, prefix: &'static str) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).filter(move |path| {
        let number = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix(prefix));
        number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    })
}

/// How many different values a field of `/proc/cpuinfo` has.
fn different(cpuinfo: &str, field: &str) -> u64 {
    let values = cpuinfo.lines().filter_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == field).then(|| value.trim())
    });
    values.collect::<BTreeSet<_>>().len() as u64
}

fn different_properties(cpus: &Path, property: &str) -> u64 {
    let values = numbered(cpus, "cpu").filter_map(|cpu| text::read(cpu.join("topology").join(property)).ok());
    values.collect::<BTreeSet<_>>().len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_counted_by_their_place() {
        let text = "processor\t: 0\ncore id\t\t: 0\nphysical id\t: 0\n\nprocessor\t: 1\ncore id\t\t: 1\n\
                    physical id\t: 0\n\nprocessor\t: 2\ncore id\t\t: 1\nphysical id\t: 1\n";
        assert_eq!((different(text, "core id"), different(text, "physical id")), (2, 2));
        assert_eq!(different(text, "book id"), 0);
        let dir = tempfile::tempdir().unwrap();
        for (cpu, core) in [("cpu0", "0"), ("cpu1", "0"), ("cpu2", "1"), ("cpufreq", "7")] {
            let topology = dir.path().join(cpu).join("topology");
            fs::create_dir_all(&topology).unwrap();
            fs::write(topology.join("core_id"), core).unwrap();
        }
        assert_eq!(different_properties(dir.path(), "core_id"), 2);
        assert!(cpu_topology().unwrap().physical_cores > 0);
    }

    #[test]
    fn modules_are_added_up_by_type() {
        let dir = tempfile::tempdir().unwrap();
        for (dimm, kind, size) in
            [("mc0/dimm0", "DDR4", "8192"), ("mc1/dimm3", "DDR4", "4096"), ("mc0/dimm1", "NVDIMM", "1")]
        {
            let path = dir.path().join(dimm);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("dimm_mem_type"), kind).unwrap();
            fs::write(path.join("size"), size).unwrap();
        }
        fs::create_dir_all(dir.path().join("mc0/power")).unwrap();
        let found = modules_in(dir.path());
        let ddr4 = MemoryModules { count: 2, capacity_bytes: 12 << 30 };
        let nvdimm = MemoryModules { count: 1, capacity_bytes: 1 << 20 };
        assert_eq!(found, BTreeMap::from([("DDR4".to_owned(), ddr4), ("NVDIMM".to_owned(), nvdimm)]));
        assert_eq!(modules_in(Path::new("/no/such/folder")), BTreeMap::new());
    }
}
