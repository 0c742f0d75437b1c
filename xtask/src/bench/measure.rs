//! The measurements of one turn.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, PostParams};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::feed::{Change, Feed};
use super::{starts, usage};
use crate::cluster::Cluster;
use crate::images::PAUSE;
use crate::isolation::NODE;

/// How much is measured.
pub(super) struct Extent {
    /// Turns of each kubelet.
    pub(super) rounds: usize,
    /// Pods created, deleted or ended one at a time.
    single: usize,
    /// How often ten are created at once.
    batches: usize,
    /// Pods on a full node.
    full: usize,
    /// How often the kubelet is started.
    starts: usize,
    /// How long the idle node is watched.
    idle: Duration,
    /// How long it is left alone before.
    settle: Duration,
}

impl Extent {
    pub(super) const FULL: Self = Self {
        rounds: 2,
        single: 20,
        batches: 3,
        full: 110,
        starts: 10,
        idle: Duration::from_secs(60),
        settle: Duration::from_secs(20),
    };
    pub(super) const QUICK: Self = Self {
        rounds: 1,
        single: 6,
        batches: 1,
        full: 110,
        starts: 5,
        idle: Duration::from_secs(20),
        settle: Duration::from_secs(10),
    };
}

/// The samples of a turn, row by row in the order they were taken.
#[derive(Default)]
pub(super) struct Turn(Vec<(String, Vec<f64>)>);

impl Turn {
    /// Adds the samples of a row.
    pub(super) fn add(&mut self, row: impl Into<String>, samples: Vec<f64>) {
        self.0.push((row.into(), samples));
    }

    /// The names of the rows.
    pub(super) fn rows(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(row, _)| row.as_str())
    }

    /// The samples of a row.
    pub(super) fn samples(&self, row: &str) -> &[f64] {
        self.0.iter().find(|(name, _)| name == row).map_or(&[], |(_, samples)| samples)
    }
}

/// Measures everything on a node that has just become ready, and leaves it empty.
pub(super) async fn all(cluster: &Cluster, feed: Feed, extent: &Extent) -> Result<Turn> {
    let pid = cluster.kubelet.pid().context("the kubelet does not run")?;
    let mut bench = Bench { cluster, feed, pods: Api::default_namespaced(cluster.client.clone()) };
    let mut turn = Turn::default();

    let [cpu, rss, pss] = bench.idle(pid, extent).await?;
    turn.add("idle CPU, 0 pods, cores", vec![cpu]);
    turn.add("RSS, 0 pods, MB", vec![rss]);
    turn.add("PSS, 0 pods, MB", vec![pss]);
    eprintln!("    one at a time");
    let lives = bench.one_at_a_time("single", extent.single).await?;
    turn.add("create → Ready, one at a time, s", lives.iter().map(|life| life.ready).collect());
    turn.add("delete → gone, one at a time, s", lives.iter().map(|life| life.gone).collect());
    turn.add("status writes to Ready", lives.iter().map(|life| life.writes_to_ready).collect());
    turn.add("status writes in a pod's life", lives.iter().map(|life| life.writes).collect());
    eprintln!("    ten at once");
    let mut at_once = Vec::new();
    for batch in 0..extent.batches {
        let names = names(&format!("batch-{batch}"), 10);
        at_once.extend(bench.create_all(&names).await?);
        bench.delete_all(&names).await?;
    }
    turn.add("create → Ready, ten at once, s", at_once);
    eprintln!("    container exits");
    let exits = names("exit", extent.single.min(10));
    bench.create_all(&exits).await?;
    turn.add("exit → status, s", bench.exits(&exits).await?);
    bench.delete_all(&exits).await?;

    eprintln!("    fill the node");
    let fill = names("fill", extent.full);
    let (before, started) = (usage::cpu_seconds(pid)?, Instant::now());
    bench.create_all(&fill).await?;
    turn.add("fill to 110 pods, s", vec![started.elapsed().as_secs_f64()]);
    turn.add("CPU to fill to 110 pods, s", vec![usage::cpu_seconds(pid)? - before]);
    let [cpu, rss, pss] = bench.idle(pid, extent).await?;
    turn.add("idle CPU, 110 pods, cores", vec![cpu]);
    turn.add("RSS, 110 pods, MB", vec![rss]);
    turn.add("PSS, 110 pods, MB", vec![pss]);
    eprintln!("    on the full node");
    let (ending, replaced) = fill.split_at(extent.single.min(10));
    turn.add("exit → status, 110 pods, s", bench.exits(ending).await?);
    let mut gone = Vec::new();
    for (turn, name) in replaced.iter().take(extent.single.min(10)).enumerate() {
        stagger(turn).await;
        gone.push(bench.delete(name).await?);
    }
    turn.add("delete → gone, 110 pods, s", gone);
    let lives = bench.one_at_a_time("late", extent.single.min(10)).await?;
    turn.add("create → Ready, 100 pods, s", lives.iter().map(|life| life.ready).collect());
    let left: Vec<String> = bench.pods.list(&Default::default()).await?.items.iter().map(name_of).collect();
    let started = Instant::now();
    bench.delete_all(&left).await?;
    turn.add("empty the node, s", vec![started.elapsed().as_secs_f64()]);
    starts(cluster, extent, &mut turn).await?;
    Ok(turn)
}

/// Measures how long the kubelet takes from its start to serving.
pub(super) async fn starts(cluster: &Cluster, extent: &Extent, turn: &mut Turn) -> Result<()> {
    turn.add("start → /healthz, s", starts::measure(&cluster.kubelet, extent.starts).await?);
    Ok(())
}

/// Creates pods and waits until all of them are ready.
pub(super) async fn fill(cluster: &Cluster, feed: Feed, pods: &[Pod]) -> Result<()> {
    let mut bench = Bench { cluster, feed, pods: Api::default_namespaced(cluster.client.clone()) };
    bench.create_pods(pods).await.map(drop)
}

/// Deletes all pods and waits until they are gone.
pub(super) async fn empty(cluster: &Cluster, feed: Feed) -> Result<()> {
    let mut bench = Bench { cluster, feed, pods: Api::default_namespaced(cluster.client.clone()) };
    let names: Vec<String> = bench.pods.list(&Default::default()).await?.items.iter().map(name_of).collect();
    bench.delete_all(&names).await
}

/// Seconds and counts from a pod's life.
struct Life {
    ready: f64,
    gone: f64,
    writes_to_ready: f64,
    writes: f64,
}

struct Bench<'a> {
    cluster: &'a Cluster,
    feed: Feed,
    pods: Api<Pod>,
}

impl Bench<'_> {
    /// CPU use in cores over the idle time, and memory at its end.
    async fn idle(&mut self, pid: u32, extent: &Extent) -> Result<[f64; 3]> {
        eprintln!("    idle");
        // Not a wait for something: the time itself is what is measured.
        tokio::time::sleep(extent.settle).await;
        let (before, started) = (usage::cpu_seconds(pid)?, Instant::now());
        tokio::time::sleep(extent.idle).await;
        let used = usage::cpu_seconds(pid)? - before;
        let (rss, pss) = usage::memory(pid)?;
        Ok([used / started.elapsed().as_secs_f64(), rss, pss])
    }

    async fn one_at_a_time(&mut self, prefix: &str, count: usize) -> Result<Vec<Life>> {
        let mut lives = Vec::new();
        for (turn, name) in names(prefix, count).into_iter().enumerate() {
            stagger(turn).await;
            self.feed.drain();
            let mut writes = Writes::default();
            let started = self.create(&name).await?;
            let ready = loop {
                let change = self.next_of(&name).await?;
                writes.count(&change);
                if change.pod.as_ref().is_some_and(is_ready) {
                    break seconds(started, change.at);
                }
            };
            let writes_to_ready = writes.counted;
            stagger(turn).await;
            let started = Instant::now();
            self.pods.delete(&name, &DeleteParams::default()).await?;
            let gone = loop {
                let change = self.next_of(&name).await?;
                writes.count(&change);
                if change.pod.is_none() {
                    break seconds(started, change.at);
                }
            };
            lives.push(Life {
                ready,
                gone,
                writes_to_ready: f64::from(writes_to_ready),
                writes: f64::from(writes.counted),
            });
        }
        Ok(lives)
    }

    /// Creates pods at once and returns how long each took to be ready.
    async fn create_all(&mut self, names: &[String]) -> Result<Vec<f64>> {
        let pods = names.iter().map(|name| pause(name)).collect::<Result<Vec<_>>>()?;
        self.create_pods(&pods).await
    }

    /// The same for any pods.
    async fn create_pods(&mut self, pods: &[Pod]) -> Result<Vec<f64>> {
        self.feed.drain();
        let created = try_join_all(pods.iter().map(|pod| self.create_pod(pod))).await?;
        let mut waiting: BTreeMap<String, Instant> = pods.iter().map(name_of).zip(created).collect();
        let mut took = Vec::new();
        while !waiting.is_empty() {
            let change =
                self.feed.next().await.with_context(|| format!("{} pods are not ready", waiting.len()))?;
            if change.pod.as_ref().is_some_and(is_ready)
                && let Some(started) = waiting.remove(change.name.as_str())
            {
                took.push(seconds(started, change.at));
            }
        }
        Ok(took)
    }

    async fn delete_all(&mut self, names: &[String]) -> Result<()> {
        self.feed.drain();
        try_join_all(
            names.iter().map(|name| async { self.pods.delete(name, &DeleteParams::default()).await }),
        )
        .await?;
        let mut waiting: std::collections::BTreeSet<&str> = names.iter().map(String::as_str).collect();
        while !waiting.is_empty() {
            let change =
                self.feed.next().await.with_context(|| format!("{} pods are not gone", waiting.len()))?;
            if change.pod.is_none() {
                waiting.remove(change.name.as_str());
            }
        }
        Ok(())
    }

    async fn delete(&mut self, name: &str) -> Result<f64> {
        self.feed.drain();
        let started = Instant::now();
        self.pods.delete(name, &DeleteParams::default()).await?;
        loop {
            let change = self.next_of(name).await?;
            if change.pod.is_none() {
                return Ok(seconds(started, change.at));
            }
        }
    }

    /// Kills the container of each pod, one after another, and returns how long its status took.
    async fn exits(&mut self, names: &[String]) -> Result<Vec<f64>> {
        let mut took = Vec::new();
        let tasks = self.cluster.containerd.ctr(&["tasks", "ls"]).await?;
        for (turn, name) in names.iter().enumerate() {
            stagger(turn).await;
            let pod = self.pods.get(name).await?;
            let pid = container_pid(&pod, &tasks).with_context(|| format!("the process of {name}"))?;
            self.feed.drain();
            let killed = Instant::now();
            kill_process(pid, Signal::KILL).with_context(|| format!("kill the process of {name}"))?;
            loop {
                let change = self.next_of(name).await?;
                if change.pod.as_ref().is_some_and(has_ended) {
                    took.push(seconds(killed, change.at));
                    break;
                }
            }
        }
        Ok(took)
    }

    /// Creates a pod and returns the moment just before.
    async fn create(&self, name: &str) -> Result<Instant> {
        self.create_pod(&pause(name)?).await
    }

    async fn create_pod(&self, pod: &Pod) -> Result<Instant> {
        let started = Instant::now();
        let created = self.pods.create(&PostParams::default(), pod).await;
        created.with_context(|| format!("create {}", name_of(pod)))?;
        Ok(started)
    }

    async fn next_of(&mut self, name: &str) -> Result<Change> {
        loop {
            let change = self.feed.next().await.with_context(|| format!("wait for {name}"))?;
            if change.name == name {
                return Ok(change);
            }
        }
    }
}

/// A pod whose container does nothing.
pub(super) fn pause(name: &str) -> Result<Pod> {
    Ok(serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": {
            // Past the scheduler: it is not what is measured.
            "nodeName": NODE,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 30,
            "containers": [{ "name": "main", "image": PAUSE }],
        },
    }))?)
}

/// Counts the changes of a pod's status after its creation.
#[derive(Default)]
struct Writes {
    last: Option<Option<k8s_openapi::api::core::v1::PodStatus>>,
    counted: u32,
}

impl Writes {
    fn count(&mut self, change: &Change) {
        let Some(pod) = &change.pod else { return };
        if self.last.as_ref().is_some_and(|last| *last != pod.status) {
            self.counted += 1;
        }
        self.last = Some(pod.status.clone());
    }
}

/// Numbered names.
pub(super) fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|i| format!("{prefix}-{i}")).collect()
}

/// Pauses for a part of a second that differs from turn to turn. A kubelet that looks once a second would otherwise
/// always be met right after it has looked, for each measurement begins when the one before it was noticed.
pub(super) async fn stagger(turn: usize) {
    let milliseconds = (turn as u64 * 370) % 1000;
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

fn name_of(pod: &Pod) -> String {
    pod.metadata.name.clone().unwrap_or_default()
}

fn seconds(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn has_ended(pod: &Pod) -> bool {
    let containers =
        pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    containers.iter().any(|one| one.state.as_ref().is_some_and(|state| state.terminated.is_some()))
}

/// Finds a pod's container in the table that `ctr tasks ls` prints.
fn container_pid(pod: &Pod, tasks: &str) -> Option<Pid> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    let id = status.container_id.as_deref()?.strip_prefix("containerd://")?;
    let line = tasks.lines().find(|line| line.starts_with(id))?;
    Pid::from_raw(line.split_whitespace().nth(1)?.parse().ok()?)
}
