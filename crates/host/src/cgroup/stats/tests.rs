//! Over folders that look like the kernel's, of both versions; and once over this machine's own.

use std::fs;

use super::*;
use crate::cgroup::V1Hierarchy;

const GROUP: &str = "/kubepods/burstable/pod1";

/// A machine with one version's hierarchies and with processes, in files.
struct Machine {
    dir: tempfile::TempDir,
    version: u8,
}

impl Machine {
    /// `files` are named by hierarchy and file; on version 2 every hierarchy is the same.
    fn new(version: u8, files: &[(&str, &str)]) -> Self {
        let machine = Self { dir: tempfile::tempdir().unwrap(), version };
        for (file, text) in files {
            machine.put(GROUP, file, text);
        }
        machine
    }

    fn put(&self, group: &str, file: &str, text: &str) {
        let (hierarchy, file) = file.split_once('/').unwrap();
        let hierarchy = if self.version == 1 { hierarchy } else { "unified" };
        let dir = self.dir.path().join(hierarchy).join(group.trim_start_matches('/'));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(file), text).unwrap();
    }

    fn process(&self, pid: u32, file: &str, text: &str) {
        let path = self.dir.path().join("proc").join(pid.to_string()).join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn reader(&self) -> GroupReader {
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
                hierarchy("hugetlb", &["hugetlb"]),
            ];
            CgroupMounts::V1 { hierarchies, unified: None }
        } else {
            CgroupMounts::V2 { root: dir("unified"), controllers: Vec::new() }
        };
        GroupReader::with_proc(&mounts, dir("proc"))
    }
}

#[test]
fn cpu_of_both_versions() {
    let v1 = Machine::new(
        1,
        &[
            ("cpu/cpuacct.usage", "123456789\n"),
            ("cpu/cpuacct.stat", "user 7\nsystem 5\n"),
            ("cpu/cpuacct.usage_percpu", "100000000 23456789 \n"),
            (
                "cpu/cpu.stat",
                "nr_periods 9\nnr_throttled 4\nthrottled_time 5000\nnr_bursts 2\nburst_time 30\n",
            ),
            ("cpu/cpu.shares", "512\n"),
            ("cpu/cpu.cfs_period_us", "100000\n"),
            ("cpu/cpu.cfs_quota_us", "-1\n"),
        ],
    );
    let v2 = Machine::new(
        2,
        &[
            (
                "cpu/cpu.stat",
                "usage_usec 123\nuser_usec 70\nsystem_usec 53\nnr_periods 9\nnr_throttled 4\nthrottled_usec 5\nnr_bursts 2\nburst_usec 3\n",
            ),
            ("cpu/cpu.weight", "20\n"),
            ("cpu/cpu.max", "50000 100000\n"),
        ],
    );
    let time = |usage_nanos, user_nanos, system_nanos| CpuTime { usage_nanos, user_nanos, system_nanos };
    let throttling = |throttled_nanos, burst_nanos| CpuThrottling {
        periods: 9,
        throttled_periods: 4,
        throttled_nanos,
        burst_periods: 2,
        burst_nanos,
    };
    let limits =
        |shares, quota_micros| CpuLimits { shares: Some(shares), period_micros: Some(100_000), quota_micros };
    for (machine, used, throttled, limited) in [
        (&v1, time(123_456_789, 70_000_000, 50_000_000), throttling(5_000, 30), limits(512, None)),
        (&v2, time(123_000, 70_000, 53_000), throttling(5_000, 3_000), limits(500, Some(50_000))),
    ] {
        let mut reader = machine.reader();
        assert_eq!(reader.cpu_time(GROUP), Some(used), "version {}", machine.version);
        assert_eq!(reader.cpu_throttling(GROUP), Some(throttled), "version {}", machine.version);
        assert_eq!(reader.cpu_limits(GROUP), Some(limited), "version {}", machine.version);
    }
    v2.put(GROUP, "cpu/cpu.max", "max 100000\n");
    assert_eq!(v2.reader().cpu_limits(GROUP).unwrap().quota_micros, None);
    v1.put(GROUP, "cpu/cpu.cfs_quota_us", "20000\n");
    assert_eq!(v1.reader().cpu_limits(GROUP).unwrap().quota_micros, Some(20_000));
}

#[test]
fn memory_of_version_1() {
    let machine = Machine::new(
        1,
        &[
            ("memory/memory.usage_in_bytes", "1000\n"),
            (
                "memory/memory.stat",
                "cache 1\nrss 2\ninactive_file 3\npgfault 11\npgmajfault 12\nworkingset_refault_file 13\n\
                 hierarchical_memory_limit 6000\nhierarchical_memsw_limit 9223372036854771712\n\
                 total_cache 300\ntotal_rss 500\ntotal_swap 70\ntotal_mapped_file 80\ntotal_active_file 90\n\
                 total_inactive_file 400\ntotal_pgfault 1100\n",
            ),
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/memory.memsw.limit_in_bytes", "5000\n"),
            ("memory/memory.soft_limit_in_bytes", "4000\n"),
            ("memory/memory.max_usage_in_bytes", "1500\n"),
            ("memory/memory.failcnt", "6\n"),
            ("memory/memory.kmem.usage_in_bytes", "77\n"),
            ("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
        ],
    );
    let mut reader = machine.reader();
    let expected = MemoryUsage {
        usage_bytes: 1000,
        working_set_bytes: 600,
        rss_bytes: 500,
        cache_bytes: 300,
        mapped_file_bytes: 80,
        swap_bytes: 70,
        active_file_bytes: 90,
        inactive_file_bytes: 400,
        page_faults: 11,
        major_page_faults: 12,
        refaulted_file_pages: Some(13),
        least_limits: Some(LeastLimits { memory_bytes: Some(6000), memory_and_swap_bytes: None }),
        ..MemoryUsage::default()
    };
    assert_eq!(reader.memory(GROUP), Some(expected));
    assert_eq!(
        reader.memory_limits(GROUP),
        Some(MemoryLimits { limit_bytes: None, reservation_bytes: Some(4000), swap_limit_bytes: Some(5000) })
    );
    let events = MemoryEvents {
        max_usage_bytes: Some(1500),
        limit_hits: Some(6),
        kernel_bytes: Some(77),
        oom_kills: Some(2),
        ..MemoryEvents::default()
    };
    assert_eq!(reader.memory_events(GROUP), events);
}

#[test]
fn memory_of_version_2() {
    let stat = "anon 500\nfile 300\nfile_mapped 80\nfile_dirty 21\nfile_writeback 22\nactive_file 90\n\
                inactive_file 1200\npgfault 11\npgmajfault 12\npgscan 31\npgsteal 32\n\
                workingset_refault_anon 41\nworkingset_refault_file 42\n";
    let machine = Machine::new(
        2,
        &[
            ("memory/memory.current", "1000\n"),
            ("memory/memory.stat", stat),
            ("memory/memory.swap.current", "70\n"),
            ("memory/memory.max", "2000\n"),
            ("memory/memory.min", "0\n"),
            ("memory/memory.swap.max", "max\n"),
            ("memory/memory.peak", "1500\n"),
            ("memory/memory.events", "low 0\nhigh 3\nmax 4\noom 1\noom_kill 5\n"),
            ("memory/memory.events.local", "low 0\nhigh 3\nmax 4\noom 1\noom_kill 1\n"),
        ],
    );
    let mut reader = machine.reader();
    let expected = MemoryUsage {
        usage_bytes: 1000,
        // More inactive page cache than usage: the two are not read at the same moment.
        working_set_bytes: 0,
        rss_bytes: 500,
        cache_bytes: 300,
        mapped_file_bytes: 80,
        swap_bytes: 70,
        active_file_bytes: 90,
        inactive_file_bytes: 1200,
        file_dirty_bytes: Some(21),
        file_writeback_bytes: Some(22),
        page_faults: 11,
        major_page_faults: 12,
        pages_scanned: Some(31),
        pages_stolen: Some(32),
        refaulted_anon_pages: Some(41),
        refaulted_file_pages: Some(42),
        least_limits: None,
    };
    assert_eq!(reader.memory(GROUP), Some(expected));
    assert_eq!(
        reader.memory_limits(GROUP),
        Some(MemoryLimits { limit_bytes: Some(2000), reservation_bytes: Some(0), swap_limit_bytes: None })
    );
    let events = MemoryEvents {
        max_usage_bytes: Some(1500),
        high: Some(3),
        max: Some(4),
        oom_kills: Some(1),
        ..MemoryEvents::default()
    };
    assert_eq!(reader.memory_events(GROUP), events);

    // The root has no total and no swap of its own.
    machine.put("/", "memory/memory.stat", stat);
    fs::create_dir_all(machine.dir.path().join("proc")).unwrap();
    fs::write(machine.dir.path().join("proc/meminfo"), "SwapTotal: 10 kB\nSwapFree: 4 kB\n").unwrap();
    let root = machine.reader().memory("/").unwrap();
    assert_eq!((root.usage_bytes, root.swap_bytes), (800, 6 * 1024));
    assert_eq!(machine.reader().memory_limits("/"), None);
}

#[test]
fn devices_of_both_versions() {
    let counts = |read, write| IoCounts { read: Some(read), write: Some(write), ..IoCounts::default() };
    let v1 = Machine::new(
        1,
        &[
            // A scheduler that is there but sees no device.
            ("io/blkio.bfq.io_serviced_recursive", "Total 0\n"),
            ("io/blkio.throttle.io_serviced_recursive", "8:0 Read 1\n8:0 Write 2\n8:0 Total 3\nTotal 3\n"),
            (
                "io/blkio.throttle.io_service_bytes_recursive",
                "8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 1\n8:0 Async 2\n8:0 Discard 3\n8:0 Total 12288\nbad\nTotal 12288\n",
            ),
        ],
    );
    let operations = IoCounts { total: Some(3), ..counts(1, 2) };
    let bytes = IoCounts {
        sync: Some(1),
        async_: Some(2),
        discard: Some(3),
        total: Some(12288),
        ..counts(4096, 8192)
    };
    let device = DeviceIo { major: 8, minor: 0, bytes, operations, cost: None };
    assert_eq!(v1.reader().io(GROUP), Some(vec![device]));
    let names: Vec<_> = bytes.by_name().map(|(name, _)| name).collect();
    assert_eq!(names, ["Async", "Discard", "Read", "Sync", "Total", "Write"]);

    let v2 = Machine::new(
        2,
        &[(
            "io/io.stat",
            "8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6 cost.usage=7 cost.wait=8\n7:0\n7:1 \nx:1 rbytes=1\n",
        )],
    );
    let cost = IoCost { usage_micros: 7, wait_micros: 8, ..IoCost::default() };
    let device =
        DeviceIo { major: 8, minor: 16, bytes: counts(1, 2), operations: counts(3, 4), cost: Some(cost) };
    assert_eq!(v2.reader().io(GROUP), Some(vec![device]));

    // Counted, but nothing happened yet.
    let idle = Machine::new(1, &[("io/blkio.throttle.io_serviced", "Total 0\n")]);
    assert_eq!(idle.reader().io(GROUP), Some(Vec::new()));
}

#[test]
fn tasks_and_what_they_have_open() {
    for version in [1, 2] {
        let machine = Machine::new(
            version,
            &[
                ("pids/pids.current", "12\n"),
                ("pids/pids.max", "max\n"),
                ("cpu/cgroup.procs", "0\n41\n42\n43\n"),
            ],
        );
        let fd = machine.dir.path().join("proc/41/fd");
        fs::create_dir_all(&fd).unwrap();
        for (name, target) in
            [("0", "/dev/null"), ("1", "socket:[123]"), ("2", "pipe:[1]"), ("3", "socket:[9]")]
        {
            std::os::unix::fs::symlink(target, fd.join(name)).unwrap();
        }
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max cpu time              unlimited            unlimited            seconds   \n\
                      Max open files            1024                 unlimited            files     \n";
        machine.process(41, "limits", limits);
        machine.process(42, "limits", "Max open files            unlimited            unlimited   files\n");
        let mut reader = machine.reader();
        assert_eq!(reader.tasks(GROUP), Some(TaskCounts { current: 12, limit: None }));
        let mut pids = vec![7];
        assert!(reader.processes(GROUP, &mut pids));
        assert_eq!(pids, [0, 41, 42, 43]);
        assert_eq!(
            reader.process_counts(&pids),
            ProcessCounts { processes: 4, file_descriptors: 4, sockets: 2 }
        );
        let limits = [41, 42, 43].map(|pid| reader.open_files_limit(pid));
        assert_eq!(limits, [Some(1024), Some(-1), None]);

        machine.put(GROUP, "pids/pids.max", "100\n");
        assert_eq!(machine.reader().tasks(GROUP).unwrap().limit, Some(100));
    }
}

#[test]
fn the_first_process_may_be_further_down() {
    let machine = Machine::new(2, &[("cpu/cgroup.procs", "0\n42\n")]);
    machine.put("/kubepods", "cpu/cgroup.procs", "");
    machine.put("/kubepods/burstable", "cpu/cgroup.procs", "");
    let mut reader = machine.reader();
    for (group, expected) in [(GROUP, Some(42)), ("/kubepods", Some(42)), ("/other", None)] {
        assert_eq!(reader.first_process(group), expected, "{group}");
    }
    assert_eq!(reader.children("/kubepods"), ["/kubepods/burstable"]);
    assert_eq!(reader.children("/"), ["/kubepods"]);
    assert_eq!(reader.children("/other"), [""; 0]);
}

#[test]
fn pressure_of_version_2() {
    let cpu =
        "some avg10=1.50 avg60=0.25 avg300=0.10 total=1234\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n";
    let files = [
        ("cpu/cpu.pressure", cpu),
        ("memory/memory.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"),
        ("io/io.pressure", "odd\n"),
    ];
    let v2 = Machine::new(2, &files);
    let pressure = v2.reader().pressure(GROUP);
    let some = Stall { total_micros: 1234, avg10: 1.5, avg60: 0.25, avg300: 0.1 };
    let full = Stall { total_micros: 5, ..Stall::default() };
    assert_eq!(pressure.cpu, Some(Pressure { some, full }));
    assert_eq!(pressure.memory.map(|m| m.some.total_micros), Some(7));
    assert_eq!(pressure.io, None);
    assert!(!v2.reader().has_pressure());
    v2.put("/", "cpu/cpu.pressure", cpu);
    assert!(v2.reader().has_pressure());
    assert_eq!(Machine::new(1, &files).reader().pressure(GROUP), PressureSum::default());
}

#[test]
fn huge_pages_of_both_versions() {
    let v1 = [
        ("hugetlb/hugetlb.2MB.usage_in_bytes", "4194304\n"),
        ("hugetlb/hugetlb.2MB.max_usage_in_bytes", "6291456\n"),
        ("hugetlb/hugetlb.2MB.failcnt", "3\n"),
    ];
    let v2 = [
        ("hugetlb/hugetlb.2MB.current", "1\n"),
        ("hugetlb/hugetlb.2MB.rsvd.current", "2097152\n"),
        ("hugetlb/hugetlb.2MB.events", "max 9\n"),
    ];
    let sizes = [2 << 20, 1 << 30];
    for (version, files, usage_bytes, max_usage_bytes, hits) in
        [(1, &v1, 4 << 20, Some(6 << 20), 3), (2, &v2, 2 << 20, None, 9)]
    {
        let usage =
            HugePageUsage { page_bytes: 2 << 20, usage_bytes, max_usage_bytes, limit_hits: Some(hits) };
        assert_eq!(Machine::new(version, files).reader().huge_pages(GROUP, &sizes), [usage]);
    }
}

#[test]
fn interfaces_of_a_process() {
    let machine = Machine::new(2, &[]);
    machine.process(
        7,
        "net/dev",
        "Inter-|   Receive                                                |  Transmit\n \
         face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
         lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0\n  \
         eth0: 1     2    3    4    5     6          7         8      11       12    13    14    15     16       17          18\n\
         vethab: 1     2    3    4    5     6          7         8      11       12    13    14    15     16       17          18\n\
         short: 1 2\n",
    );
    let eth0 = InterfaceCounters {
        name: "eth0".to_owned(),
        received_bytes: 1,
        received_packets: 2,
        receive_errors: 3,
        receive_drops: 4,
        sent_bytes: 11,
        sent_packets: 12,
        send_errors: 13,
        send_drops: 14,
    };
    assert_eq!(machine.reader().network(7), Some(vec![eth0]));
    assert_eq!(machine.reader().network(8), None);
}

#[test]
fn what_is_missing_is_none() {
    for version in [1, 2] {
        let mut reader = Machine::new(version, &[]).reader();
        for group in [GROUP, "/", "", "/../../etc"] {
            assert!(!reader.exists("/kubepods/../..") && !reader.exists(GROUP));
            assert_eq!(reader.cpu_time(group), None);
            assert_eq!(reader.cpu_throttling(group), None);
            assert_eq!(reader.cpu_limits(group), None);
            assert_eq!(reader.memory(group), None);
            assert_eq!(reader.memory_limits(group), None);
            assert_eq!(reader.memory_events(group), MemoryEvents::default());
            assert_eq!(reader.io(group), None);
            assert_eq!(reader.tasks(group), None);
            assert_eq!(reader.created(group), None);
            assert_eq!(reader.first_process(group), None);
            assert_eq!(reader.pressure(group), PressureSum::default());
            assert_eq!(reader.huge_pages(group, &[2 << 20]), []);
            assert!(!reader.processes(group, &mut Vec::new()));
        }
    }
}

#[test]
fn damage_is_none_too() {
    let v1 = Machine::new(
        1,
        &[
            ("cpu/cpuacct.usage", "many\n"),
            ("memory/memory.usage_in_bytes", "1\n"),
            ("pids/pids.current", ""),
        ],
    );
    let mut reader = v1.reader();
    assert_eq!(reader.cpu_time(GROUP), None);
    assert_eq!(reader.memory(GROUP), None);
    assert_eq!(reader.tasks(GROUP), None);
    let path = v1.dir.path().join("cpu/kubepods/burstable/pod1/cpuacct.usage");
    fs::write(path, [0xff, 0xfe]).unwrap();
    assert_eq!(v1.reader().cpu_time(GROUP), None);
}

#[test]
fn a_group_is_as_old_as_its_oldest_file() {
    let at = |seconds| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    for (version, file) in [(1, "cgroup.clone_children"), (2, "cgroup.events")] {
        let machine = Machine::new(version, &[("cpu/x", ""), ("memory/x", "")]);
        machine.put(GROUP, &format!("memory/{file}"), "");
        let hierarchy = if version == 1 { "memory" } else { "unified" };
        let path = machine.dir.path().join(hierarchy).join(GROUP.trim_start_matches('/')).join(file);
        fs::File::open(&path).unwrap().set_modified(at(1_000_000)).unwrap();
        assert_eq!(machine.reader().created(GROUP), Some(at(1_000_000)), "version {version}");
    }
}

#[test]
fn this_machine_counts() {
    let mounts = CgroupMounts::detect().unwrap();
    let mut reader = GroupReader::new(&mounts);
    let cpu = reader.cpu_time("/").unwrap();
    assert!(cpu.usage_nanos > 0 && cpu.user_nanos > 0);
    let memory = reader.memory("/").unwrap();
    assert!(memory.usage_bytes > memory.working_set_bytes && memory.rss_bytes > 0);
    assert!(reader.exists("/") && reader.created("/").is_some());
    let own = reader.process_counts(&[std::process::id()]);
    assert!(own.file_descriptors > 0 && own.file_descriptors > own.sockets);
    assert!(reader.open_files_limit(std::process::id()).is_some());
    assert!(reader.network(std::process::id()).is_some());
    assert_eq!(reader.network(u32::MAX), None);
}
