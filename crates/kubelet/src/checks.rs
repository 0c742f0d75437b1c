//! What has to hold of the host before a node is started on it.

use config::Config;
use host::cgroup::CgroupMounts;

/// A host this node does not start on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    /// Swap is on and `failSwapOn` says no.
    #[error(
        "running with swap on is not supported: disable swap (swapoff -a), or set failSwapOn to false; in use: {0}"
    )]
    Swap(String),
    /// cgroup v1 and `failCgroupV1` says no.
    #[error(
        "kubelet is configured to not run on a host using cgroup v1: move the host to cgroup v2, or set failCgroupV1 to false"
    )]
    CgroupV1,
}

/// Checks swap and the cgroup version.
pub(crate) fn host(config: &Config, cgroups: &CgroupMounts) -> Result<(), HostError> {
    if config.pods.fail_cgroup_v1 && cgroups.version() == 1 {
        return Err(HostError::CgroupV1);
    }
    if config.pods.fail_swap_on {
        let table = host::text::read("/proc/swaps").unwrap_or_default();
        let used: Vec<&str> = swaps(&table);
        if !used.is_empty() {
            return Err(HostError::Swap(used.join(", ")));
        }
    }
    Ok(())
}

/// What is swapped to: the first column below the heading. Swap in memory that the kernel
/// compresses is no less swap; upstream counts it, too.
fn swaps(table: &str) -> Vec<&str> {
    table.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_a_table_with_rows_is_swap() {
        assert!(super::swaps("").is_empty());
        assert!(super::swaps("Filename\tType\tSize\tUsed\tPriority\n").is_empty());
        assert_eq!(super::swaps("Filename Type\n/dev/sda2 partition 1 0 -2\n"), ["/dev/sda2"]);
    }
}
