//! Pages over folders that look like the kernel's, of both versions.

use std::collections::BTreeMap;
use std::fs;

use host::cgroup::V1Hierarchy;

use super::*;

const POD: &str = "/kubepods/pod1";

/// A machine's hierarchies in files, and the page made of them.
struct Node {
    dir: tempfile::TempDir,
    version: u8,
}

impl Node {
    fn new(version: u8) -> Self {
        let node = Self { dir: tempfile::tempdir().unwrap(), version };
        for group in ["/", "/kubepods", POD, &container(), "/system.slice", "/system.slice/cron.service"] {
            for file in FILES.iter().filter(|(v, ..)| *v == version) {
                node.put(group, file.1, file.2);
            }
        }
        node
    }

    fn put(&self, group: &str, file: &str, text: &str) {
        let (hierarchy, file) = file.split_once('/').unwrap();
        let hierarchy = if self.version == 1 { hierarchy } else { "unified" };
        let dir = self.dir.path().join(hierarchy).join(group.trim_start_matches('/'));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(file), text).unwrap();
    }

    fn page(&self) -> String {
        let dir = |name: &str| self.dir.path().join(name);
        let hierarchy = |name: &str, controllers: &[&str]| V1Hierarchy {
            dir: dir(name),
            controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
        };
        let mounts = if self.version == 1 {
            let hierarchies = vec![
                hierarchy("cpu", &["cpu", "cpuacct"]),
                hierarchy("memory", &["memory"]),
                hierarchy("pids", &["pids"]),
                hierarchy("io", &["blkio"]),
            ];
            CgroupMounts::V1 { hierarchies, unified: None }
        } else {
            CgroupMounts::V2 { root: dir("unified"), controllers: Vec::new() }
        };
        let settings = CadvisorSettings { prefixes: vec!["/kubepods".to_owned()], with_pressure: true };
        let facts = MachineFacts::read().unwrap();
        Cadvisor::new(mounts, &facts, settings).page(&owners(), &|| 1_700_000_000_123)
    }
}

/// What every group has, by version.
const FILES: [(u8, &str, &str); 23] = [
    (1, "cpu/cpuacct.usage", "2500000000\n"),
    (1, "cpu/cpuacct.stat", "user 150\nsystem 100\n"),
    (1, "cpu/cpu.stat", "nr_periods 9\nnr_throttled 4\nthrottled_time 500000000\n"),
    (1, "cpu/cpu.shares", "512\n"),
    (1, "cpu/cpu.cfs_period_us", "100000\n"),
    (1, "cpu/cpu.cfs_quota_us", "50000\n"),
    (1, "cpu/cgroup.procs", "0\n"),
    (1, "memory/memory.usage_in_bytes", "2000000\n"),
    (1, "memory/memory.stat", "pgfault 7\ntotal_rss 1000\ntotal_inactive_file 500000\n"),
    (1, "memory/memory.limit_in_bytes", "9223372036854771712\n"),
    (1, "pids/pids.current", "3\n"),
    (1, "pids/pids.max", "max\n"),
    (1, "io/blkio.throttle.io_serviced_recursive", "999:7 Read 2\n999:7 Write 1\nTotal 3\n"),
    (1, "io/blkio.throttle.io_service_bytes_recursive", "999:7 Read 8192\n999:7 Write 512\nTotal 8704\n"),
    (2, "cpu/cpu.stat", "usage_usec 2500000\nuser_usec 1500000\nsystem_usec 1000000\nnr_periods 9\n"),
    (2, "cpu/cpu.max", "50000 100000\n"),
    (2, "cpu/cpu.weight", "20\n"),
    (2, "cpu/cgroup.procs", "0\n"),
    (2, "memory/memory.current", "2000000\n"),
    (2, "memory/memory.stat", "pgfault 7\nanon 1000\ninactive_file 500000\n"),
    (2, "memory/memory.max", "max\n"),
    (2, "cpu/cpu.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\n"),
    (
        2,
        "io/io.stat",
        "999:7 rbytes=8192 wbytes=512 rios=2 wios=1 cost.usage=4000000\n999:8 rbytes=1 cost.usage=1\n",
    ),
];

fn id() -> String {
    "c".repeat(64)
}

fn container() -> String {
    format!("{POD}/{}", id())
}

fn owners() -> Owners {
    let owner = |role, container: &str, image: &str, seconds| Owner {
        role,
        namespace: "ns".to_owned(),
        pod: "web".to_owned(),
        container: container.to_owned(),
        image: image.to_owned(),
        created_seconds: seconds,
        started_seconds: seconds,
    };
    let mut owners = Owners::default();
    owners.add_pod(POD.to_owned(), owner(Role::Pod, "", "", 0));
    owners.add(id(), owner(Role::Container, "main", "busybox", 1_600_000_000));
    owners
}

/// The value and time of the sample of a family that has all of these labels.
fn sample<'a>(page: &'a str, name: &str, labels: &[String]) -> Option<&'a str> {
    let of_family = page.lines().filter(|line| line.strip_prefix(name).is_some_and(|l| l.starts_with('{')));
    let mut found = of_family.filter(|line| labels.iter().all(|label| line.contains(label)));
    found.next().and_then(|line| line.split_once("} ")).map(|(_, value)| value)
}

#[test]
fn what_is_in_the_files_is_on_the_page() {
    let of_both = [
        ("container_cpu_usage_seconds_total", r#"cpu="total""#, "2.5 1700000000123"),
        ("container_cpu_user_seconds_total", "", "1.5 1700000000123"),
        ("container_cpu_system_seconds_total", "", "1 1700000000123"),
        ("container_cpu_cfs_periods_total", "", "9 1700000000123"),
        ("container_memory_usage_bytes", "", "2e+06 1700000000123"),
        ("container_memory_working_set_bytes", "", "1.5e+06 1700000000123"),
        ("container_memory_rss", "", "1000 1700000000123"),
        ("container_memory_failures_total", r#"failure_type="pgfault",scope="container""#, "7 1700000000123"),
        ("container_fs_reads_bytes_total", r#"device="""#, "8192 1700000000123"),
        ("container_fs_writes_total", r#"device="""#, "1 1700000000123"),
        (
            "container_blkio_device_usage_total",
            r#"device="",major="999",minor="7",operation="Write""#,
            "512 1700000000123",
        ),
        ("container_processes", "", "1 1700000000123"),
        ("container_health_state", "", "-1 1700000000123"),
        ("container_last_seen", "", "1.7e+09 1700000000123"),
        ("container_oom_events_total", "", "0 1700000000123"),
        // Not measured, so without a time.
        ("container_spec_cpu_period", "", "100000"),
        ("container_spec_cpu_quota", "", "50000"),
        ("container_spec_memory_limit_bytes", "", "0"),
        ("container_start_time_seconds", "", "1.6e+09"),
    ];
    let of_v1 = [
        ("container_cpu_cfs_throttled_seconds_total", "", "0.5 1700000000123"),
        ("container_spec_cpu_shares", "", "512"),
        ("container_threads", "", "3 1700000000123"),
    ];
    let of_v2 = [
        ("container_pressure_cpu_waiting_seconds_total", "", "1.5 1700000000123"),
        ("container_fs_io_cost_usage_seconds_total", r#"device="""#, "4 1700000000123"),
        ("container_spec_cpu_shares", "", "500"),
    ];
    for (version, own) in [(1, of_v1), (2, of_v2)] {
        let page = Node::new(version).page();
        let whose = format!(
            r#"{{container="main",id="{}",image="busybox",name="{}",namespace="ns",pod="web""#,
            container(),
            id()
        );
        for (name, labels, expected) in of_both.iter().chain(&own) {
            let found = sample(&page, name, &[whose.clone(), (*labels).to_owned()]);
            assert_eq!(found, Some(*expected), "{name} of version {version}");
        }
    }
}

#[test]
fn groups_have_the_labels_of_their_owners() {
    let page = Node::new(1).page();
    let name = "container_memory_usage_bytes";
    for (labels, is_there) in [
        (r#"container="",id="/",image="",name="",namespace="",pod="""#, true),
        (r#"container="",id="/kubepods",image="",name="",namespace="",pod="""#, true),
        (r#"container="",id="/kubepods/pod1",image="",name="",namespace="ns",pod="web""#, true),
        (r#"id="/system.slice""#, false),
        (r#"id="/system.slice/cron.service""#, false),
    ] {
        assert_eq!(sample(&page, name, &[labels.to_owned()]).is_some(), is_there, "{labels}");
    }
}

#[test]
fn the_page_is_well_formed() {
    for version in [1, 2] {
        let page = Node::new(version).page();
        let mut types = BTreeMap::new();
        let mut family = "";
        let mut samples = std::collections::HashSet::new();
        for line in page.lines() {
            if let Some(head) = line.strip_prefix("# TYPE ") {
                let (name, kind) = head.split_once(' ').unwrap();
                assert_eq!(types.insert(name.to_owned(), kind), None, "{name} twice");
                family = name;
            } else if !line.starts_with("# HELP ") {
                let end = line.find(['{', ' ']).unwrap();
                assert_eq!(&line[..end], family, "a sample away from its family");
                let (labels, _) = line.split_at(line.rfind('}').map_or(end, |at| at + 1));
                assert!(samples.insert(labels.to_owned()), "twice: {labels}");
            }
        }
        let all = FAMILIES.iter().copied().flatten();
        for family in all.filter(|f| f.name.starts_with("container_memory")) {
            assert!(types.contains_key(family.name), "{} is missing", family.name);
            assert_eq!(types[family.name] == "counter", family.kind == Kind::Counter);
        }
        assert_eq!(types.contains_key("container_pressure_io_waiting_seconds_total"), version == 2);
        for name in ["machine_cpu_cores", "machine_scrape_error", "cadvisor_version_info"] {
            assert!(types.contains_key(name), "{name} is missing");
        }
    }
}

#[test]
fn a_group_that_is_damaged_costs_nothing_but_its_samples() {
    let node = Node::new(1);
    node.put(POD, "cpu/cpuacct.usage", "much\n");
    node.put(POD, "memory/memory.usage_in_bytes", "\n");
    let page = node.page();
    let of = |group: &str| sample(&page, "container_cpu_usage_seconds_total", &[format!(r#"id="{group}""#)]);
    assert_eq!((of(POD), of("/kubepods").is_some(), of(&container()).is_some()), (None, true, true));
    assert!(sample(&page, "container_threads", &[format!(r#"id="{POD}""#)]).is_some());
    assert!(page.contains("\ncontainer_scrape_error 0\n"));
}

#[test]
fn without_any_group_the_machine_remains() {
    let node = Node { dir: tempfile::tempdir().unwrap(), version: 2 };
    let page = node.page();
    assert!(page.contains("\ncontainer_scrape_error 1\n") && page.contains("\nmachine_cpu_cores{"));
    assert!(!page.contains("container_last_seen"));
}
