//! Kernel settings a node relies on: that memory may be promised which is not there yet, that the
//! kernel kills rather than panics when it runs out, that a kernel that did panic reboots, and that
//! root may have enough keys for the keyrings of all containers.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::text::{self, FileError};

/// Where they are.
pub const PROC_SYS: &str = "/proc/sys";

/// The settings, below [`PROC_SYS`], with upstream's values.
const EXPECTED: [(&str, u64); 6] = [
    ("kernel/keys/root_maxbytes", 25_000_000),
    ("kernel/keys/root_maxkeys", 1_000_000),
    ("kernel/panic", 10),
    ("kernel/panic_on_oops", 1),
    ("vm/overcommit_memory", 1),
    ("vm/panic_on_oom", 0),
];

/// A setting with another value than the expected one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid kernel flag: {name}, expected value: {expected}, actual value: {actual}")]
pub struct Deviation {
    /// Its path below `/proc/sys`.
    pub name: &'static str,
    /// What it should be.
    pub expected: u64,
    /// What it is.
    pub actual: String,
}

/// A setting that cannot be changed.
#[derive(Debug, thiserror::Error)]
#[error("set kernel flag {}", path.display())]
pub struct SetError {
    path: PathBuf,
    source: io::Error,
}

/// The settings below `root` that are not as expected.
///
/// # Errors
/// If one of them cannot be read.
pub fn deviations(root: &Path) -> Result<Vec<Deviation>, FileError> {
    let mut found = Vec::new();
    for (name, expected) in EXPECTED {
        let actual = text::read(root.join(name))?;
        if actual.parse() != Ok(expected) {
            found.push(Deviation { name, expected, actual });
        }
    }
    Ok(found)
}

/// Gives a setting below `root` the expected value.
///
/// # Errors
/// If the kernel or a read-only `/proc/sys` does not have it.
pub fn correct(root: &Path, deviation: &Deviation) -> Result<(), SetError> {
    let path = root.join(deviation.name);
    fs::write(&path, deviation.expected.to_string()).map_err(|source| SetError { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(change: (&str, &str)) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, value) in EXPECTED {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let value = value.to_string();
            fs::write(path, if name == change.0 { change.1 } else { &value }).unwrap();
        }
        root
    }

    #[test]
    fn deviations_are_found_and_corrected() {
        assert_eq!(deviations(settings(("", "")).path()).unwrap(), []);
        for (name, value) in [("vm/panic_on_oom", "2\n"), ("kernel/panic", "-1"), ("kernel/panic", "")] {
            let root = settings((name, value));
            let found = deviations(root.path()).unwrap();
            let [only] = found.as_slice() else { panic!("{found:?}") };
            assert_eq!((only.name, only.actual.as_str()), (name, value.trim()));
            correct(root.path(), only).unwrap();
            assert_eq!(deviations(root.path()).unwrap(), []);
        }
    }

    /// CVE-2020-8558, CVE-2020-10749: what neighbours on the network can reach is none of a kubelet's business.
    #[test]
    fn settings_of_the_network_are_left_alone() {
        for (name, _) in EXPECTED {
            assert!(name.starts_with("kernel/") || name.starts_with("vm/"), "{name}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let root = settings(("", ""));
        fs::remove_file(root.path().join("kernel/panic")).unwrap();
        assert!(deviations(root.path()).unwrap_err().to_string().ends_with("/kernel/panic"));
        let deviation = Deviation { name: "no/such", expected: 1, actual: String::new() };
        assert!(correct(root.path(), &deviation).unwrap_err().to_string().ends_with("/no/such"));
    }
}
