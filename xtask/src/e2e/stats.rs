//! What the node says its pods use.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::scene::{EVENTUALLY, Scene, shell, with};
use crate::isolation::NODE;

/// How often the summary is read until all is there: nothing tells when disks have been measured.
pub(super) const AGAIN: Duration = Duration::from_secs(2);

const FS: &[&str] =
    &["availableBytes", "capacityBytes", "inodes", "inodesFree", "inodesUsed", "time", "usedBytes"];
const INTERFACE: &[&str] = &["name", "rxBytes", "rxErrors", "txBytes", "txErrors"];

pub(super) async fn summary_and_resource_metrics(scene: Scene) -> Result<()> {
    let script =
        "dd if=/dev/zero of=/scratch/file bs=1024 count=1024 2>/dev/null; echo ready; while :; do :; done";
    let mounts = json!({ "volumeMounts": [
        { "name": "scratch", "mountPath": "/scratch" }, { "name": "memory", "mountPath": "/memory" },
    ] });
    let spec = json!({
        "containers": [with(shell("busy", script), mounts), shell("idle", "sleep 1000")],
        "volumes": [
            { "name": "scratch", "emptyDir": {} }, { "name": "memory", "emptyDir": { "medium": "Memory" } },
        ],
    });
    scene.ready_pod("measured", spec).await?;
    let started = Instant::now();
    let (node, pod) = loop {
        let (node, pod) = summary(&scene, "stats/summary").await?;
        match is_complete(&node, &pod) {
            Ok(()) => break (node, pod),
            Err(missing) if started.elapsed() > EVENTUALLY => {
                bail!("not complete after {EVENTUALLY:?}: {missing:#}\n    {node}\n    {pod}")
            }
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    };
    same_shape("the node", &node, &node_shape(true))?;
    same_shape("the pod", &pod, &pod_shape(true))?;
    plausible(&node, &pod).with_context(|| format!("node: {node}, pod: {pod}"))?;

    let (node, pod) = summary(&scene, "stats/summary?only_cpu_and_memory=true").await?;
    same_shape("the node's CPU and memory", &node, &node_shape(false))?;
    same_shape("the pod's CPU and memory", &pod, &pod_shape(false))?;
    resource_page(&scene).await
}

pub(super) async fn get(scene: &Scene, path: &str) -> Result<String> {
    scene.kubectl_out(&["get", "--raw", &format!("/api/v1/nodes/{NODE}/proxy/{path}")]).await
}

/// The node, with the group of all pods as its only system container, and the pod; `null` as long as it is missing.
pub(super) async fn summary(scene: &Scene, path: &str) -> Result<(Value, Value)> {
    let mut all: Value = serde_json::from_str(&get(scene, path).await?).context("read the summary")?;
    if let Some(containers) = all["node"]["systemContainers"].as_array_mut() {
        // Whether the others are there depends on how the node was started.
        containers.retain(|container| container["name"] == "pods");
    }
    let named = |pod: &&Value| pod["podRef"]["namespace"] == json!(scene.namespace);
    let pod = all["pods"].as_array().context("the list of pods")?.iter().find(named);
    let pod = pod.cloned().unwrap_or_default();
    Ok((all["node"].take(), pod))
}

/// What takes a while: two samples for a rate, the runtime's own measurement, a walk over the disk.
fn is_complete(node: &Value, pod: &Value) -> Result<()> {
    let containers = pod["containers"].as_array().context("the pod")?;
    ensure!(containers.len() == 2, "two containers");
    ensure!(pod["volume"].as_array().is_some_and(|all| all.len() == 3), "three volumes");
    for path in ["/cpu/usageNanoCores", "/rootfs/usedBytes", "/rootfs/capacityBytes", "/logs/usedBytes"] {
        ensure!(containers.iter().all(|c| c.pointer(path).is_some()), "{path} of containers");
    }
    let busy = container(pod, "busy")?;
    ensure!(number(busy, "/cpu/usageNanoCores")? > 0, "a rate of the busy container");
    ensure!(number(busy, "/logs/usedBytes")? > 0, "the log of the busy container");
    for path in ["/cpu/usageNanoCores", "/ephemeral-storage/usedBytes", "/network/rxBytes", "/process_stats"]
    {
        ensure!(pod.pointer(path).is_some(), "{path} of the pod");
    }
    ensure!(number(volume(pod, "scratch")?, "/usedBytes")? >= 1 << 20, "the volume that was filled");
    for path in
        ["/cpu/usageNanoCores", "/systemContainers/0/cpu/usageNanoCores", "/runtime/imageFs/usedBytes"]
    {
        ensure!(node.pointer(path).is_some(), "{path} of the node");
    }
    Ok(())
}

fn plausible(node: &Value, pod: &Value) -> Result<()> {
    let (busy, idle) = (container(pod, "busy")?, container(pod, "idle")?);
    let used = "/cpu/usageCoreNanoSeconds";
    ensure!(number(busy, used)? > number(idle, used)?, "the busy container uses more than the idle one");
    ensure!(number(busy, "/cpu/usageNanoCores")? > 10_000_000, "the busy container is busy");
    ensure!(number(node, used)? > number(pod, used)?, "the node uses more than the pod");
    for part in [pod, busy, idle, node] {
        let [working, usage] =
            ["/memory/workingSetBytes", "/memory/usageBytes"].map(|path| number(part, path));
        let (working, usage) = (working?, usage?);
        ensure!(working > 0 && working <= usage, "a working set of {working} out of {usage}");
    }
    ensure!(number(pod, "/process_stats/process_count")? >= 2, "a process in each container");
    ensure!(pod.pointer("/network/name") == Some(&json!("eth0")), "the pod's interface");
    let scratch = volume(pod, "scratch")?;
    ensure!(number(scratch, "/usedBytes")? < 64 << 20, "the volume holds one file of 1 MiB");
    ensure!(number(scratch, "/inodesUsed")? == 2, "the file and its folder");
    ensure!(number(volume(pod, "memory")?, "/capacityBytes")? > 0, "the volume in memory has a size");
    let all = number(pod, "/ephemeral-storage/usedBytes")?;
    ensure!(all >= number(scratch, "/usedBytes")?, "ephemeral storage includes the volume");
    for fs in ["/fs", "/runtime/imageFs"] {
        let [available, capacity] =
            ["availableBytes", "capacityBytes"].map(|field| number(node, &format!("{fs}/{field}")));
        ensure!(available? <= capacity?, "{fs} has no more room than its size");
    }
    ensure!(number(node, "/rlimit/curproc")? < number(node, "/rlimit/maxpid")?, "the limit of processes");
    Ok(())
}

/// What metrics-server reads.
async fn resource_page(scene: &Scene) -> Result<()> {
    let page = get(scene, "metrics/resource").await?;
    let has = |start: String| page.lines().any(|line| line.starts_with(&start));
    for name in [
        "container_cpu_usage_seconds_total",
        "container_memory_working_set_bytes",
        "container_start_time_seconds",
    ] {
        for container in ["busy", "idle"] {
            let labels =
                format!("{{container=\"{container}\",namespace=\"{}\",pod=\"measured\"}} ", scene.namespace);
            ensure!(has(format!("{name}{labels}")), "no {name}{labels}in the page\n{page}");
        }
    }
    for name in ["pod_cpu_usage_seconds_total", "pod_memory_working_set_bytes", "pod_swap_usage_bytes"] {
        let labels = format!("{{namespace=\"{}\",pod=\"measured\"}} ", scene.namespace);
        ensure!(has(format!("{name}{labels}")), "no {name}{labels}in the page\n{page}");
    }
    for sample in
        ["node_cpu_usage_seconds_total ", "node_memory_working_set_bytes ", "node_swap_usage_bytes "]
    {
        ensure!(has(sample.to_owned()), "no {sample}in the page\n{page}");
    }
    ensure!(has("resource_scrape_error 0".to_owned()), "an error while scraping\n{page}");
    Ok(())
}

fn container<'a>(pod: &'a Value, name: &str) -> Result<&'a Value> {
    named(&pod["containers"], name)
}

fn volume<'a>(pod: &'a Value, name: &str) -> Result<&'a Value> {
    named(&pod["volume"], name)
}

fn named<'a>(list: &'a Value, name: &str) -> Result<&'a Value> {
    let found = list.as_array().and_then(|all| all.iter().find(|item| item["name"] == name));
    found.with_context(|| format!("{name} is missing"))
}

fn number(value: &Value, path: &str) -> Result<u64> {
    value.pointer(path).and_then(Value::as_u64).with_context(|| format!("{path} is not a number"))
}

// ---- shapes ----

type Shape = BTreeSet<String>;

/// The fields of a node's stats, as upstream serves them on a machine of either cgroup version.
fn node_shape(is_whole: bool) -> Shape {
    let mut shape = fields("", &["nodeName", "startTime"]);
    shape.extend(group_shape("", is_whole, true));
    shape.extend(fields("systemContainers[].", &["name", "startTime"]));
    shape.extend(group_shape("systemContainers[].", is_whole, true));
    if is_whole {
        for prefix in ["fs.", "runtime.imageFs.", "runtime.containerFs."] {
            shape.extend(fields(prefix, FS));
        }
        shape.extend(fields("network.", &["name", "time"]));
        shape.extend(fields("network.interfaces[].", INTERFACE));
        shape.extend(fields("rlimit.", &["curproc", "maxpid", "time"]));
    }
    shape
}

/// Those of a pod without limits.
fn pod_shape(is_whole: bool) -> Shape {
    let mut shape = fields("", &["startTime", "podRef.name", "podRef.namespace", "podRef.uid"]);
    shape.extend(group_shape("", is_whole, false));
    shape.extend(fields("containers[].", &["name", "startTime"]));
    shape.extend(group_shape("containers[].", is_whole, false));
    if is_whole {
        for prefix in ["containers[].rootfs.", "containers[].logs.", "ephemeral-storage.", "volume[]."] {
            shape.extend(fields(prefix, FS));
        }
        shape.extend(fields("", &["volume[].name", "process_stats.process_count", "network.time"]));
        shape.extend(fields("network.", INTERFACE));
        shape.extend(fields("network.interfaces[].", INTERFACE));
    }
    shape
}

fn group_shape(prefix: &str, is_whole: bool, is_limited: bool) -> Shape {
    let mut shape = fields(prefix, &["cpu.time", "cpu.usageCoreNanoSeconds", "cpu.usageNanoCores"]);
    let memory = ["majorPageFaults", "pageFaults", "rssBytes", "time", "usageBytes", "workingSetBytes"];
    shape.extend(fields(&format!("{prefix}memory."), &memory));
    if is_limited {
        shape.extend(fields(prefix, &["memory.availableBytes"]));
    }
    shape.extend(fields(prefix, &["swap.time", "swap.swapUsageBytes"]));
    if is_whole {
        shape.extend(fields(prefix, &["io.time"]));
    }
    for resource in if is_whole { &["cpu", "memory", "io"][..] } else { &["cpu", "memory"] } {
        for kind in ["full", "some"] {
            let stall = ["avg10", "avg300", "avg60", "total"];
            shape.extend(fields(&format!("{prefix}{resource}.psi.{kind}."), &stall));
        }
    }
    shape
}

fn fields(prefix: &str, names: &[&str]) -> Shape {
    names.iter().map(|name| format!("{prefix}{name}")).collect()
}

fn same_shape(what: &str, value: &Value, expected: &Shape) -> Result<()> {
    let mut found = Shape::new();
    collect("", value, &mut found);
    // Depends on whether swap is limited, which differs between versions of cgroups.
    found.retain(|path| !path.ends_with(".swapAvailableBytes"));
    let missing: Vec<_> = expected.difference(&found).collect();
    let surplus: Vec<_> = found.difference(expected).collect();
    ensure!(missing.is_empty() && surplus.is_empty(), "{what}: {missing:?} missing, {surplus:?} too much");
    Ok(())
}

/// The paths of all plain values; the elements of a list count as one.
fn collect(path: &str, value: &Value, found: &mut Shape) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(all) => all.iter().for_each(|(name, value)| collect(&below(name), value, found)),
        Value::Array(all) => all.iter().for_each(|value| collect(&format!("{path}[]"), value, found)),
        _ => drop(found.insert(path.to_owned())),
    }
}
