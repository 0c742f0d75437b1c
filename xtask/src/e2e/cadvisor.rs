//! The page `/metrics/cadvisor`: its families, their types and labels, and values that make sense. The table is upstream's:
//! the Go kubelet passes the same test.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::scene::{EVENTUALLY, Scene, container, shell, with};
use crate::isolation::NODE;

/// How often the page is read until what is measured has changed: upstream measures at leisure, and nothing tells when.
const AGAIN: Duration = Duration::from_secs(2);

const OF_GROUP: &[&str] = &["container", "id", "image", "name", "namespace", "pod"];
const OF_MACHINE: &[&str] = &["boot_id", "machine_id", "system_uuid"];

/// Whether a family has to be on the page of every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Always,
    /// With the reason why it may be missing.
    Perhaps(&'static str),
}

use Presence::{Always, Perhaps};

const NO_IO: Presence =
    Perhaps("devices are listed once they were used, and kernels may not count them at all");
const COSTS: Presence = Perhaps("the kernel's cost model is switched on for few devices");
const PRESSURE: Presence = Perhaps("groups of version 1 do not tell");
const MODULES: Presence = Perhaps("virtual machines have no memory modules");

/// Families with this type and these labels beside those of a group or the machine.
#[rustfmt::skip]
const FAMILIES: &[(Presence, &str, &[&str], &[&str])] = &[
    (Always, "gauge", &[], &[
        "container_creation_time_seconds", "container_file_descriptors", "container_health_state", "container_last_seen",
        "container_memory_cache", "container_memory_file_dirty_bytes", "container_memory_file_writeback_bytes",
        "container_memory_kernel_usage", "container_memory_mapped_file", "container_memory_max_usage_bytes",
        "container_memory_rss", "container_memory_swap", "container_memory_total_active_file_bytes",
        "container_memory_total_inactive_file_bytes", "container_memory_usage_bytes",
        "container_memory_working_set_bytes", "container_processes", "container_sockets", "container_spec_cpu_period",
        "container_spec_cpu_quota", "container_spec_cpu_shares", "container_spec_memory_limit_bytes",
        "container_spec_memory_reservation_limit_bytes", "container_spec_memory_swap_limit_bytes",
        "container_start_time_seconds", "container_threads", "container_threads_max",
        "machine_cpu_books", "machine_cpu_cores", "machine_cpu_drawers", "machine_cpu_physical_cores",
        "machine_cpu_sockets", "machine_memory_bytes", "machine_nvm_avg_power_budget_watts", "machine_swap_bytes",
    ]),
    (Always, "counter", &[], &[
        "container_cpu_cfs_burst_periods_total", "container_cpu_cfs_burst_seconds_total",
        "container_cpu_cfs_periods_total", "container_cpu_cfs_throttled_periods_total",
        "container_cpu_cfs_throttled_seconds_total", "container_cpu_system_seconds_total",
        "container_cpu_user_seconds_total", "container_memory_events_high_total", "container_memory_events_max_total",
        "container_memory_failcnt", "container_memory_pgscan_total", "container_memory_pgsteal_total",
        "container_memory_workingset_refault_anon_total", "container_memory_workingset_refault_file_total",
        "container_oom_events_total",
    ]),
    (Always, "counter", &["cpu"], &["container_cpu_usage_seconds_total"]),
    (Always, "counter", &["failure_type", "scope"], &["container_memory_failures_total"]),
    (Always, "gauge", &["ulimit"], &["container_ulimits_soft"]),
    (Always, "gauge", &["device"], &[
        "container_fs_inodes_free", "container_fs_inodes_total", "container_fs_io_current", "container_fs_limit_bytes",
        "container_fs_usage_bytes",
    ]),
    (Always, "counter", &["device"], &[
        "container_fs_io_time_seconds_total", "container_fs_io_time_weighted_seconds_total",
        "container_fs_read_seconds_total", "container_fs_reads_merged_total", "container_fs_reads_total",
        "container_fs_sector_reads_total", "container_fs_sector_writes_total", "container_fs_write_seconds_total",
        "container_fs_writes_merged_total", "container_fs_writes_total",
    ]),
    (NO_IO, "counter", &["device"], &["container_fs_reads_bytes_total", "container_fs_writes_bytes_total"]),
    (NO_IO, "counter", &["device", "major", "minor", "operation"], &["container_blkio_device_usage_total"]),
    (COSTS, "counter", &["device"], &[
        "container_fs_io_cost_indebt_seconds_total", "container_fs_io_cost_indelay_seconds_total",
        "container_fs_io_cost_usage_seconds_total", "container_fs_io_cost_wait_seconds_total",
    ]),
    (Always, "counter", &["interface"], &[
        "container_network_receive_bytes_total", "container_network_receive_errors_total",
        "container_network_receive_packets_dropped_total", "container_network_receive_packets_total",
        "container_network_transmit_bytes_total", "container_network_transmit_errors_total",
        "container_network_transmit_packets_dropped_total", "container_network_transmit_packets_total",
    ]),
    (PRESSURE, "counter", &[], &[
        "container_pressure_cpu_stalled_seconds_total", "container_pressure_cpu_waiting_seconds_total",
        "container_pressure_io_stalled_seconds_total", "container_pressure_io_waiting_seconds_total",
        "container_pressure_memory_stalled_seconds_total", "container_pressure_memory_waiting_seconds_total",
    ]),
    (Always, "gauge", &["mode"], &["machine_nvm_capacity"]),
    (MODULES, "gauge", &["type"], &["machine_dimm_capacity_bytes", "machine_dimm_count"]),
];

/// Families without the labels of a group or the machine.
const BARE: &[(&str, &[&str])] = &[
    (
        "cadvisor_version_info",
        &["cadvisorRevision", "cadvisorVersion", "dockerVersion", "kernelVersion", "osVersion"],
    ),
    ("container_scrape_error", &[]),
    ("machine_scrape_error", &[]),
];

pub(super) async fn families_labels_and_values(scene: Scene) -> Result<()> {
    let limits = json!({ "resources": { "limits": { "cpu": "200m", "memory": "64Mi" } } });
    let spec = json!({ "containers": [with(shell("busy", "while :; do :; done"), limits)] });
    let pod = scene.ready_pod("busy", spec).await?;
    let id = container(&pod, "busy").and_then(|status| status.container_id.as_deref()).context("the id")?;
    let id = id.rsplit('/').next().unwrap_or_default();

    let started = Instant::now();
    let mut first = None;
    let page = loop {
        let page = Page::read(&scene).await?;
        let used = page.used(&scene.namespace, id);
        match (first, used) {
            (Some(first), Some(used)) if used > first => break page,
            (None, Some(used)) => first = Some(used),
            _ if started.elapsed() > EVENTUALLY => bail!("CPU time does not grow: {first:?}, {used:?}"),
            _ => {}
        }
        tokio::time::sleep(AGAIN).await;
    };
    page.check_families()?;
    page.check_values(&scene.namespace, id)
}

/// The page, taken apart.
struct Page {
    types: BTreeMap<String, String>,
    samples: Vec<Sample>,
}

struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
    is_timed: bool,
}

impl Page {
    async fn read(scene: &Scene) -> Result<Self> {
        let path = format!("/api/v1/nodes/{NODE}/proxy/metrics/cadvisor");
        let text = scene.kubectl_out(&["get", "--raw", &path]).await?;
        let (mut types, mut samples) = (BTreeMap::new(), Vec::new());
        for line in text.lines() {
            if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|head| head.split_once(' ')) {
                types.insert(name.to_owned(), kind.to_owned());
            } else if !line.starts_with('#') {
                samples.push(sample(line).with_context(|| format!("read the sample {line}"))?);
            }
        }
        Ok(Self { types, samples })
    }

    fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| sample.name == name)
    }

    /// The value of a family for the container.
    fn value(&self, name: &str, id: &str) -> Option<f64> {
        self.of(name).find(|sample| sample.labels.get("name").is_some_and(|name| name == id)).map(|s| s.value)
    }

    fn used(&self, namespace: &str, id: &str) -> Option<f64> {
        let used = self.value("container_cpu_usage_seconds_total", id);
        // Until the network of the sandbox is there too, the pod has not been looked at as a whole.
        let mut network = self.of("container_network_receive_bytes_total");
        network.any(|s| s.labels["namespace"] == namespace).then_some(used).flatten()
    }

    fn check_families(&self) -> Result<()> {
        let mut wrong = Vec::new();
        let mut known = BTreeSet::new();
        for (presence, kind, labels, names) in FAMILIES {
            for name in *names {
                let base = if name.starts_with("machine_") { OF_MACHINE } else { OF_GROUP };
                let labels: BTreeSet<&str> = base.iter().chain(*labels).copied().collect();
                wrong.extend(self.check_family(name, kind, &labels, *presence));
                known.insert(*name);
            }
        }
        for (name, labels) in BARE {
            let labels = labels.iter().copied().collect();
            wrong.extend(self.check_family(name, "gauge", &labels, Always));
            known.insert(*name);
        }
        let surplus = self.types.keys().filter(|name| !known.contains(name.as_str()));
        wrong.extend(surplus.map(|name| format!("{name} is not upstream's")));
        ensure!(wrong.is_empty(), "{}", wrong.join("; "));
        Ok(())
    }

    fn check_family(
        &self,
        name: &str,
        kind: &str,
        labels: &BTreeSet<&str>,
        presence: Presence,
    ) -> Option<String> {
        let Some(found) = self.types.get(name) else {
            return (presence == Always).then(|| format!("{name} is missing"));
        };
        if found != kind {
            return Some(format!("{name} is a {found}, not a {kind}"));
        }
        let odd =
            self.of(name).find(|s| s.labels.keys().map(String::as_str).collect::<BTreeSet<_>>() != *labels);
        odd.map(|s| format!("{name} has the labels {:?} instead of {labels:?}", s.labels.keys()))
    }

    fn check_values(&self, namespace: &str, id: &str) -> Result<()> {
        let busy = self.of("container_memory_usage_bytes").find(|s| s.labels["name"] == id);
        let busy = busy.context("the container's memory")?;
        for (label, value) in [("container", "busy"), ("namespace", namespace), ("pod", "busy")] {
            ensure!(busy.labels[label] == value, "label {label} of the container: {:?}", busy.labels);
        }
        ensure!(busy.labels["image"].contains("busybox"), "the image: {:?}", busy.labels);
        ensure!(busy.labels["id"].contains(id) && busy.is_timed, "the group: {:?}", busy.labels);
        let limit = f64::from(64 << 20);
        for (name, least, most) in [
            ("container_memory_usage_bytes", 1.0, limit),
            ("container_memory_working_set_bytes", 1.0, limit),
            ("container_spec_memory_limit_bytes", limit, limit),
            ("container_spec_cpu_quota", 20_000.0, 20_000.0),
            ("container_spec_cpu_period", 100_000.0, 100_000.0),
            ("container_cpu_cfs_periods_total", 1.0, f64::MAX),
            ("container_cpu_cfs_throttled_periods_total", 1.0, f64::MAX),
            ("container_processes", 1.0, 2.0),
            ("container_threads", 1.0, 2.0),
            ("container_file_descriptors", 1.0, 20.0),
            ("container_start_time_seconds", 1.7e9, 1e11),
            ("container_ulimits_soft", 1.0, f64::MAX),
        ] {
            let value = self.value(name, id).with_context(|| format!("{name} of the container"))?;
            ensure!((least..=most).contains(&value), "{name} is {value}");
        }
        let groups: BTreeSet<&str> =
            self.of("container_last_seen").map(|s| s.labels["id"].as_str()).collect();
        for group in ["/", "/kubepods", "/kubepods/besteffort", "/kubepods/burstable"] {
            ensure!(groups.iter().any(|g| g.ends_with(group)), "no group {group} among {groups:?}");
        }
        let of_pod =
            self.of("container_cpu_usage_seconds_total").filter(|s| s.labels["namespace"] == namespace);
        let of_pod: BTreeSet<&str> = of_pod.map(|s| s.labels["name"].as_str()).collect();
        ensure!(of_pod.contains("") && of_pod.len() >= 3, "pod, sandbox and container: {of_pod:?}");
        // The sandbox's: dashboards take series with an image for those of pods.
        let series = self.of("container_memory_working_set_bytes");
        let mut sandboxes = series.filter(|s| {
            s.labels["namespace"] == namespace
                && s.labels["container"].is_empty()
                && !s.labels["name"].is_empty()
        });
        let image = sandboxes.next().map(|s| s.labels["image"].as_str()).unwrap_or_default();
        ensure!(image.contains("pause"), "the sandbox's image: {image:?}");
        let mut network = self.of("container_network_receive_packets_total");
        let eth0 = network.find(|s| s.labels["namespace"] == namespace && s.labels["interface"] == "eth0");
        ensure!(
            eth0.is_some_and(|s| s.labels["container"].is_empty() && s.labels["image"] == image),
            "the sandbox's network"
        );
        let cores = self.of("machine_cpu_cores").next().map(|s| s.value);
        ensure!(cores.is_some_and(|cores| cores >= 1.0), "{cores:?} processors");
        let errors = self.of("container_scrape_error").chain(self.of("machine_scrape_error"));
        ensure!(errors.map(|s| s.value).sum::<f64>() == 0.0, "there were errors");
        Ok(())
    }
}

/// A line such as `name{label="value"} 1.5 1700000000000`. No value on this page has a quote in it.
fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => rest.rsplit_once('}')?,
        None => ("", rest),
    };
    let mut fields = rest.split_ascii_whitespace();
    let value = fields.next()?.parse().ok()?;
    let pairs = labels.split("\",").filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| {
        let (label, value) = pair.split_once("=\"")?;
        Some((label.to_owned(), value.trim_end_matches('"').to_owned()))
    });
    Some(Sample {
        name: name.to_owned(),
        labels: pairs.collect::<Option<_>>()?,
        value,
        is_timed: fields.next().is_some(),
    })
}
