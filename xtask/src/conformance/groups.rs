//! The groups that upstream's suite is run in. Each test belongs to the first group that wants it, so that all groups
//! together are the whole suite.

use super::table::Row;

/// A part of the suite, and what has to be set for it.
pub(super) struct Group {
    /// Its name on the command line.
    pub(super) name: &'static str,
    /// What it is about.
    pub(super) about: &'static str,
    wants: fn(&Row) -> bool,
    /// Flags of the suite's own.
    pub(super) flags: &'static [&'static str],
    /// Whether the gates in its tests' labels have to be switched on.
    pub(super) gates: bool,
}

const fn group(name: &'static str, about: &'static str, wants: fn(&Row) -> bool) -> Group {
    Group { name, about, wants, flags: &[], gates: false }
}

const CRI_PROXY: &[&str] = &["--cri-proxy-enabled=true"];

/// Tests of several groups, chosen by name.
pub(super) const CHOICE: Group = group("choice", "what `cargo xtask test` runs of all groups", |_| false);

/// All groups.
pub(super) const ALL: &[Group] = &[
    Group {
        flags: &["--standalone-mode=true"],
        ..group("standalone", "a kubelet without an API server", |row| row.has("Feature:StandaloneMode"))
    },
    Group {
        flags: &["--kubelet-flags=--exit-on-lock-contention --lock-file=/run/kubelet.lock"],
        ..group("lock-contention", "a lock file that another process wants", |row| {
            row.has("Feature:LockContention")
        })
    },
    group("performance", "densities and workloads whose figures are looked at", |row| {
        in_file(row, &["node_perf_test", "density_test", "resource_usage_test", "probe_stress_test"])
    }),
    Group {
        flags: &["--runtime-config=api/all=true"],
        gates: true,
        ..group("dra", "dynamic resource allocation", |row| {
            row.has("DRA") || row.has("FeatureGate:DynamicResourceAllocation")
        })
    },
    Group {
        flags: &["--runtime-config=api/all=true", "--cri-proxy-enabled=true"],
        gates: true,
        ..group("off-by-default", "features whose gates are off unless they are switched on", |row| {
            row.has("Feature:OffByDefault") || row.has("BetaOffByDefault")
        })
    },
    Group {
        flags: CRI_PROXY,
        ..group("cri-proxy", "a runtime whose answers are tampered with", |row| row.has("Feature:CriProxy"))
    },
    group("pod-resources", "the pod-resources API", |row| in_file(row, &["podresources_test"])),
    group("managers", "the managers of CPUs, memory and topology", |row| {
        ["Feature:CPUManager", "Feature:MemoryManager", "Feature:TopologyManager"]
            .iter()
            .any(|label| row.has(label))
    }),
    group("device-plugins", "device plugins", |row| {
        in_file(row, &["device_plugin_test", "device_plugin_multiple_test", "device_manager_test"])
            || in_file(row, &["device_plugin_failures_test", "device_plugin_failures_pod_status_test"])
    }),
    group("resize", "containers and pods resized in place", |row| {
        row.labels.iter().any(|label| label.contains("InPlacePod"))
    }),
    group("eviction", "pods evicted when memory, disk or process ids run short", |row| {
        in_file(row, &["eviction_test", "system_node_critical_test"])
    }),
    group("memory", "swap, huge pages and quality of service of memory", |row| {
        in_file(row, &["swap_test", "hugepages_test", "hugepages_reporting_test", "memory_qos_test"])
    }),
    group("credentials", "images that were pulled with credentials", |row| {
        in_file(row, &["image_credential_pulls"])
    }),
    group("node-conformance-slow", "NodeConformance, side by side, the tests that take minutes", |row| {
        row.has("NodeConformance") && row.has("Slow") && !row.has("Serial")
    }),
    group("node-conformance", "NodeConformance, side by side", |row| {
        row.has("NodeConformance") && !row.has("Serial")
    }),
    group("node-conformance-serial", "NodeConformance, one by one", |row| row.has("NodeConformance")),
    group("serial", "the other tests that need the node alone", |row| row.has("Serial")),
    group("other", "the other tests that run side by side", |_| true),
];

fn in_file(row: &Row, files: &[&str]) -> bool {
    let name = row.file.rsplit('/').next().unwrap_or_default().trim_end_matches(".go");
    files.contains(&name)
}

/// Whether a test may go on where others of its file have ended, and mean nothing without them. Ginkgo's report does
/// not say which ones do, so these are the files that have such tests.
pub(super) fn goes_on(row: &Row) -> bool {
    in_file(row, &["container_lifecycle_test", "cpu_manager_test", "cpu_manager_metrics_test", "swap_test"])
        || in_file(row, &["memory_manager_test", "memory_manager_metrics_test"])
}

/// The group of a test.
pub(super) fn of(row: &Row) -> &'static Group {
    // The last one wants all that is left.
    ALL.iter().find(|group| (group.wants)(row)).unwrap_or(&ALL[ALL.len() - 1])
}

/// Gates in labels of tests that look at what is so without them.
const LEFT_OFF: &[&str] = &["ChangeContainerStatusOnKubeletRestart"];

/// The gates that have to be switched on for a test.
pub(super) fn gates_of(row: &Row) -> impl Iterator<Item = &str> {
    let gates = row.labels.iter().filter_map(|label| label.strip_prefix("FeatureGate:"));
    gates.filter(|gate| !LEFT_OFF.contains(gate))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(labels: &[&str], file: &str) -> Row {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        Row { labels, file: file.into(), ..Row::default() }
    }

    #[test]
    fn each_test_has_the_first_group_that_wants_it() {
        let cases: &[(&[&str], &str, &str)] = &[
            (&["NodeConformance"], "e2e/common/node/pods.go", "node-conformance"),
            (&["NodeConformance", "Slow"], "e2e/common/node/pods.go", "node-conformance-slow"),
            (&["NodeConformance", "Serial", "Slow"], "e2e_node/a_test.go", "node-conformance-serial"),
            (&["NodeConformance", "Serial"], "e2e_node/image_gc_test.go", "node-conformance-serial"),
            (&["Serial"], "e2e_node/pids_test.go", "serial"),
            (&[], "e2e_node/mirror_pod_test.go", "other"),
            (&["Serial", "Feature:CPUManager"], "e2e_node/cpu_manager_test.go", "managers"),
            (&["NodeConformance", "FeatureGate:InPlacePodVerticalScaling"], "e2e/common/node/a.go", "resize"),
            (&["Feature:InPlacePodVerticalScaling"], "e2e/common/node/pod_resize.go", "resize"),
            (&["Serial", "Feature:Eviction"], "e2e_node/eviction_test.go", "eviction"),
            (&["Serial", "Feature:CriProxy"], "e2e_node/image_pull_test.go", "cri-proxy"),
            (&["Feature:OffByDefault", "Feature:CriProxy"], "e2e_node/a_test.go", "off-by-default"),
        ];
        for (labels, file, name) in cases {
            assert_eq!(of(&row(labels, file)).name, *name, "{labels:?} {file}");
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = ALL.iter().map(|group| group.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
