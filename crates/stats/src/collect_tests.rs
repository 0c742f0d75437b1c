//! Whole rounds over made-up machines: folders with the kernel's files as both versions of control groups
//! write them.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use host::cgroup::stats::GroupReader;
use host::cgroup::{CgroupMounts, V1Hierarchy};
use runtime::usage::{CpuUsage, LayerUsage, MemoryUsage, NetworkUsage};
use serde_json::{Value, json};

use super::*;
use crate::disk::{Measured, PodDisk, PodDisks};
use crate::document::VolumeStats;
use crate::limits::Limits;
use crate::rate::Rates;
use crate::targets::SystemGroup;
use crate::testing::{at, clock, pod};

const V1: &[(&str, &str)] = &[
    ("cpuacct/{}/cpuacct.usage", "7000000000\n"),
    ("cpuacct/{}/cpuacct.stat", "user 1\nsystem 2\n"),
    ("cpuacct/{}/cgroup.procs", "41\n42\n"),
    ("memory/{}/memory.usage_in_bytes", "1000\n"),
    ("memory/{}/memory.limit_in_bytes", "5000\n"),
    ("memory/{}/memory.memsw.limit_in_bytes", "9223372036854771712\n"),
    (
        "memory/{}/memory.stat",
        "pgfault 9\npgmajfault 3\ntotal_rss 300\ntotal_swap 7\ntotal_inactive_file 400\n",
    ),
];

const V2: &[(&str, &str)] = &[
    ("{}/cpu.stat", "usage_usec 7000000\nuser_usec 1\nsystem_usec 2\n"),
    ("{}/cgroup.procs", "41\n42\n"),
    ("{}/memory.current", "1000\n"),
    ("{}/memory.max", "5000\n"),
    ("{}/memory.swap.current", "7\n"),
    ("{}/memory.swap.max", "100\n"),
    ("{}/memory.stat", "anon 300\nfile 600\ninactive_file 400\npgfault 9\npgmajfault 3\n"),
    (
        "{}/cpu.pressure",
        "some avg10=1.50 avg60=0.00 avg300=0.00 total=5\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=2\n",
    ),
    (
        "{}/io.pressure",
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=8\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n",
    ),
];

const NET_DEV: &str = "Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:      10       1    0    0    0     0          0         0       10       1    0    0    0     0       0          0
  eth0:     100       2    3    0    0     0          0         0      200       4    5    0    0     0       0          0
";

/// A machine with groups of one version, in which process 42 has a network.
struct Machine {
    dir: tempfile::TempDir,
    version: u8,
}

impl Machine {
    fn new(version: u8) -> Self {
        let machine = Self { dir: tempfile::tempdir().unwrap(), version };
        machine.write("proc/42/net/dev", NET_DEV);
        machine.write("proc/41/net/dev", NET_DEV);
        for hierarchy in ["", "cpuacct", "memory"] {
            fs::create_dir_all(machine.dir.path().join("groups").join(hierarchy)).unwrap();
        }
        machine
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Makes a group that uses something of everything.
    fn group(&self, name: &str) {
        for (path, text) in if self.version == 1 { V1 } else { V2 } {
            self.write(&format!("groups/{}", path.replace("{}", name)), text);
        }
    }

    fn collector(&self) -> Collector {
        let root = self.dir.path().join("groups");
        let mounts = if self.version == 1 {
            let hierarchy = |dir: &str, controllers: &[&str]| V1Hierarchy {
                dir: root.join(dir),
                controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
            };
            let hierarchies =
                vec![hierarchy("cpuacct", &["cpu", "cpuacct"]), hierarchy("memory", &["memory"])];
            CgroupMounts::V1 { hierarchies, unified: None }
        } else {
            CgroupMounts::V2 { root, controllers: vec!["cpu".to_owned(), "memory".to_owned()] }
        };
        let reader = GroupReader::with_proc(&mounts, self.dir.path().join("proc"));
        let detail = Detail::Summary;
        let groups =
            Groups { reader, rates: Rates::default(), limits: Limits::default(), clock: clock(), detail };
        let node = NodeTarget {
            name: "node-1".to_owned(),
            memory_bytes: 10_000,
            huge_page_bytes: 2_000,
            swap_bytes: 50,
            root_dir: self.dir.path().to_owned(),
            booted_at: at(1),
            kubelet_started: at(2),
            shows_layers_apart: true,
            system_groups: vec![
                SystemGroup { role: SystemRole::Kubelet, group: "/kubelet".to_owned() },
                SystemGroup { role: SystemRole::Runtime, group: "/not/there".to_owned() },
                SystemGroup { role: SystemRole::Pods, group: "/kubepods".to_owned() },
            ],
        };
        Collector::new(groups, node)
    }
}

fn told(pod: &PodTarget) -> FromRuntime {
    let layer = |id: &ContainerId| ContainerUsage {
        id: id.clone(),
        cpu: Some(CpuUsage { at: at(5), core_nanos: Some(99), nano_cores: Some(1), pressure: None }),
        memory: None,
        swap: None,
        io: None,
        writable_layer: Some(LayerUsage {
            at: at(5),
            mountpoint: Some("/".into()),
            used_bytes: Some(4096),
            inodes_used: Some(2),
        }),
    };
    let containers = pod.containers.iter().map(|c| (c.id.clone(), layer(&c.id))).collect();
    let images = FilesystemUsage { at: at(6), mountpoint: "/".into(), used_bytes: 77, inodes_used: 8 };
    FromRuntime { containers, sandboxes: None, images: Some(images), layers: None }
}

fn json_of(summary: &Summary) -> Value {
    serde_json::to_value(summary).unwrap()
}

/// The node as `/`, the kubelet, all pods, and one pod with a sandbox and a container.
fn furnished(version: u8) -> Machine {
    let machine = Machine::new(version);
    for group in ["", "kubelet", "kubepods", "kubepods/podweb"] {
        machine.group(group);
    }
    for id in ["cri-web-sandbox.scope", "web-main"] {
        machine.group(&format!("kubepods/podweb/{id}"));
    }
    machine
}

#[test]
fn a_pod_of_either_version() {
    for version in [1, 2] {
        let machine = furnished(version);
        let target = pod("web", &["main"]);
        let disk = PodDisk {
            at: at(7),
            volumes: [vec![volume("scratch", 1000)], vec![volume("token", 1)]],
            logs: BTreeMap::from([(
                "main".to_owned(),
                DiskUsage { bytes: 10, inodes: 1, is_complete: true },
            )]),
            pod_logs: None,
            hosts_file: Some(DiskUsage { bytes: 1, inodes: 1, is_complete: true }),
        };
        let pods = Arc::new(PodDisks::from([(target.uid.clone(), Arc::new(disk))]));
        let measured = Measured { pods, ..Measured::default() };
        let summary = machine.collector().all(std::slice::from_ref(&target), &told(&target), &measured);
        let seen = json_of(&summary);
        let shown = &seen["pods"][0];
        let time = "1970-01-12T13:46:40Z";
        assert_eq!(shown["podRef"], json!({ "name": "web", "namespace": "ns", "uid": "web" }));
        assert_eq!(shown["startTime"], "1970-01-12T13:46:20Z");
        for part in [shown, &shown["containers"][0]] {
            assert_eq!(part["cpu"]["usageCoreNanoSeconds"], 7_000_000_000_u64);
            assert_eq!(part["cpu"]["time"], time);
            let memory = part["memory"].as_object().unwrap();
            let fields: Vec<_> = memory.keys().map(String::as_str).collect();
            let known = [
                "availableBytes",
                "majorPageFaults",
                "pageFaults",
                "psi",
                "rssBytes",
                "time",
                "usageBytes",
                "workingSetBytes",
            ];
            assert_eq!(fields, known, "version {version}");
            assert_eq!(
                (&memory["availableBytes"], &memory["workingSetBytes"], &memory["rssBytes"]),
                (&json!(4400), &json!(600), &json!(300))
            );
            assert_eq!(part["swap"]["swapUsageBytes"], 7);
            // Version 1 has no limit here, and version 2 one of 100.
            let available = if version == 1 { Value::Null } else { json!(93) };
            assert_eq!(part["swap"]["swapAvailableBytes"], available);
            let stalls = if version == 1 { (0, 0) } else { (5, 8) };
            assert_eq!(part["cpu"]["psi"]["some"]["total"], stalls.0);
            assert_eq!(part["io"]["psi"]["some"]["total"], stalls.1);
            assert_eq!(part["memory"]["psi"]["full"]["total"], 0, "zero where the kernel does not tell");
        }
        // Seven seconds of a core in the pod's twenty and in the container's ten.
        assert_eq!(shown["cpu"]["usageNanoCores"], 350_000_000);
        assert_eq!(shown["containers"][0]["cpu"]["usageNanoCores"], 700_000_000);
        assert_eq!(shown["process_stats"], json!({ "process_count": 2 }));
        let eth0 = json!({ "name": "eth0", "rxBytes": 100, "rxErrors": 3, "txBytes": 200, "txErrors": 5 });
        let mut network = eth0.clone();
        network["time"] = time.into();
        network["interfaces"] = json!([eth0]);
        assert_eq!(shown["network"], network);
        assert_eq!(shown["containers"][0]["rootfs"]["usedBytes"], 4096);
        assert_eq!(shown["containers"][0]["logs"]["usedBytes"], 10);
        assert_eq!(shown["volume"][1]["name"], "token");
        // Layer, log, local volume and hosts file (CVE-2020-8557), without what is in memory.
        let ephemeral = &shown["ephemeral-storage"];
        assert_eq!((&ephemeral["usedBytes"], &ephemeral["inodesUsed"]), (&json!(5107), &json!(7)));
    }
}

fn volume(name: &str, bytes: u64) -> VolumeStats {
    let fs = FsStats { used_bytes: Some(bytes), inodes_used: Some(3), ..FsStats::default() };
    VolumeStats { fs, name: name.to_owned(), pvc_ref: None }
}

#[test]
fn groups_of_all_runtimes() {
    for (groups, found) in [
        (&["/p/abc", "/p/abcd"][..], Some("/p/abc")),
        (&["/p/cri-containerd-abc.scope"], Some("/p/cri-containerd-abc.scope")),
        (&["/p/crio-conmon-abc.scope", "/p/crio-abc.scope"], Some("/p/crio-abc.scope")),
        (&["/p/xyz"], None),
        (&[], None),
    ] {
        let groups: Vec<String> = groups.iter().map(|g| (*g).to_owned()).collect();
        assert_eq!(find(&groups, "abc"), found, "{groups:?}");
    }
}

#[test]
fn the_node() {
    let machine = furnished(1);
    let mut collector = machine.collector();
    let all = json_of(&collector.all(&[], &FromRuntime::default(), &Measured::default()));
    let node = &all["node"];
    let fields: Vec<_> = node.as_object().unwrap().keys().map(String::as_str).collect();
    let known = [
        "cpu",
        "fs",
        "io",
        "memory",
        "nodeName",
        "rlimit",
        "runtime",
        "startTime",
        "swap",
        "systemContainers",
    ];
    assert_eq!(fields, known);
    assert_eq!(node["startTime"], "1970-01-01T00:00:01Z");
    // The machine's memory less huge pages and the working set.
    assert_eq!(node["memory"]["availableBytes"], 7400);
    assert_eq!(node["swap"]["swapAvailableBytes"], 43);
    assert_eq!(node["cpu"]["usageNanoCores"], Value::Null, "a machine that has run for long, seen once");
    assert_eq!(node["runtime"], json!({}));
    let names = |value: &Value| -> Vec<String> {
        let all = value["systemContainers"].as_array().unwrap();
        all.iter().map(|c| c["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(node), ["kubelet", "pods"], "not one that is not there");
    assert_eq!(node["systemContainers"][0]["startTime"], "1970-01-01T00:00:02Z");

    let short = json_of(&collector.cpu_and_memory(&[], &FromRuntime::default(), Detail::Summary));
    let fields: Vec<_> = short["node"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["cpu", "memory", "nodeName", "startTime", "swap", "systemContainers"]);
    assert_ne!(short["node"]["startTime"], node["startTime"], "when the root group was made");
    assert_eq!(short["node"]["systemContainers"][1]["io"], Value::Null);
    assert_eq!(short["pods"], json!([]));

    let for_page = collector.cpu_and_memory(&[], &FromRuntime::default(), Detail::Resource).node;
    let whole = collector.cpu_and_memory(&[], &FromRuntime::default(), Detail::Summary).node;
    let used = |node: &NodeStats| node.memory.and_then(|memory| memory.working_set_bytes);
    assert_eq!(used(&for_page), used(&whole));
    assert_eq!(
        for_page.cpu.map(|cpu| cpu.usage_core_nano_seconds),
        whole.cpu.map(|cpu| cpu.usage_core_nano_seconds)
    );
    assert_eq!(for_page.swap, whole.swap);
}

/// Writable layers are shown apart where they are on a file system of their own.
#[test]
fn the_file_system_of_layers() {
    let machine = furnished(2);
    for (mountpoint, is_apart) in [("/", false), ("/proc/..", false), ("/proc", true)] {
        let layers =
            FilesystemUsage { at: at(7), mountpoint: mountpoint.into(), used_bytes: 55, inodes_used: 3 };
        let told = FromRuntime { layers: Some(layers), ..told(&pod("web", &["main"])) };
        let summary = json_of(&machine.collector().all(&[], &told, &Measured::default()));
        let runtime = &summary["node"]["runtime"];
        assert_eq!(runtime["imageFs"]["usedBytes"], 77);
        assert_eq!(runtime["containerFs"]["usedBytes"], if is_apart { 55 } else { 77 }, "{mountpoint}");
        let mut collector = machine.collector();
        collector.node.shows_layers_apart = false;
        let runtime = &json_of(&collector.all(&[], &told, &Measured::default()))["node"]["runtime"];
        assert_eq!(runtime["containerFs"]["usedBytes"], 77, "{mountpoint}");
    }
}

#[test]
fn groups_below_a_pods_are_looked_for_again_when_one_is_missing() {
    let machine = Machine::new(1);
    let mut collector = machine.collector();
    let mut seen = |containers: &[&str]| -> Vec<bool> {
        let pods = [pod("p", containers)];
        let summary = collector.all(&pods, &FromRuntime::default(), &Measured::default());
        summary.pods[0].containers.iter().map(|container| container.cpu.is_some()).collect()
    };
    machine.group("kubepods/podp/p-one");
    assert_eq!(seen(&["one", "two"]), [true, false]);
    machine.group("kubepods/podp/p-two");
    assert_eq!(seen(&["one", "two"]), [true, true]);
    assert_eq!(seen(&["two"]), [true]);
    assert_eq!(collector.descendants.found.len(), 1);
    collector.all(&[], &FromRuntime::default(), &Measured::default());
    assert!(collector.descendants.found.is_empty(), "what is gone is forgotten");
}

#[test]
fn a_new_limit_shows_at_once_where_the_kernel_tells() {
    for version in [1, 2] {
        let machine = furnished(version);
        let mut collector = machine.collector();
        let mut available = |detail| {
            let pods = [pod("web", &["main"])];
            let memory = collector.cpu_and_memory(&pods, &FromRuntime::default(), detail).pods[0].memory;
            memory.and_then(|memory| memory.available_bytes)
        };
        available(Detail::Resource);
        assert_eq!(available(Detail::Summary), Some(4400), "whatever was asked for before");
        if version == 1 {
            machine.write("groups/memory/kubepods/podweb/memory.limit_in_bytes", "3000\n");
            let counts = "hierarchical_memory_limit 3000\ntotal_inactive_file 400\n";
            machine.write("groups/memory/kubepods/podweb/memory.stat", counts);
        } else {
            machine.write("groups/kubepods/podweb/memory.max", "3000\n");
        }
        assert_eq!(available(Detail::Summary), Some(2400), "version {version}");
    }
}

/// As on a node whose runtime only pretends to run containers, or in the moment in which a pod ends.
#[test]
fn what_is_not_there_is_left_out() {
    let machine = Machine::new(2);
    let target = pod("ghost", &["main"]);
    let nothing = FromRuntime::default();
    let summary = machine.collector().all(std::slice::from_ref(&target), &nothing, &Measured::default());
    let seen = json_of(&summary);
    assert_eq!(seen["node"]["cpu"], Value::Null);
    let shown = seen["pods"][0].as_object().unwrap();
    let fields: Vec<_> = shown.keys().map(String::as_str).collect();
    assert_eq!(fields, ["containers", "ephemeral-storage", "podRef", "startTime"]);
    let container = shown["containers"][0].as_object().unwrap();
    assert_eq!(container.keys().map(String::as_str).collect::<Vec<_>>(), ["logs", "name", "startTime"]);
    assert_eq!(shown["ephemeral-storage"]["usedBytes"], Value::Null);

    // What the runtime knows stands in for a group that is not there.
    let seen = json_of(&machine.collector().all(
        std::slice::from_ref(&target),
        &told(&target),
        &Measured::default(),
    ));
    assert_eq!(seen["pods"][0]["containers"][0]["cpu"]["usageCoreNanoSeconds"], 99);
}

#[test]
fn pods_from_the_runtime_alone() {
    let machine = furnished(2);
    let target = pod("web", &["main", "untold"]);
    let mut runtime = told(&PodTarget { containers: target.containers[..1].to_vec(), ..target.clone() });
    let memory = MemoryUsage {
        at: at(5),
        available: None,
        usage: None,
        working_set: Some(11),
        rss: None,
        page_faults: None,
        major_page_faults: None,
        pressure: None,
    };
    let network = NetworkUsage { at: at(5), default: Default::default(), interfaces: Vec::new() };
    let sandbox = SandboxUsage {
        id: target.sandbox.clone(),
        cpu: None,
        memory: Some(memory),
        io: None,
        network: Some(network),
        processes: Some(5),
        containers: runtime.containers.values().cloned().collect(),
    };
    runtime.sandboxes = Some(HashMap::from([(target.sandbox.clone(), sandbox)]));
    let seen = json_of(&machine.collector().all(&[target], &runtime, &Measured::default()));
    let shown = &seen["pods"][0];
    assert_eq!(shown["memory"], json!({ "time": "1970-01-01T00:00:05Z", "workingSetBytes": 11 }));
    assert_eq!(shown["process_stats"]["process_count"], 5);
    assert_eq!(shown["cpu"], Value::Null, "nobody reads the group");
    let containers = shown["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1, "those the runtime tells of");
    assert_eq!(containers[0]["cpu"]["usageNanoCores"], 1);
    assert_eq!(containers[0]["rootfs"]["usedBytes"], 4096);
    assert_eq!(
        seen["node"]["cpu"]["usageCoreNanoSeconds"], 7_000_000_000_u64,
        "the node is read all the same"
    );
}
