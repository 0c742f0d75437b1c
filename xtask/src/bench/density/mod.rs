//! The dense node: 110, 500 and 1,000 pods on a runtime without containers.
//!
//! Both kubelets get `fake-cri`, which tells when it ended a container and how long it took for each call. So what is
//! left is the kubelet itself: its share of a pod's start, the way from an exit to the status, its memory, and what
//! one pod with a hung call does to the others.

mod pod_watch;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::json;

use super::measure::{Turn, names, stagger};
use super::{report, usage};
use crate::cluster::{Call, Cluster, FakeRuntime};
use crate::images::PAUSE;
use crate::isolation::NODE;
use pod_watch::{AllPodTimes, PodWatch, now};

/// How much is measured.
pub(super) struct Extent {
    /// Turns of each kubelet.
    pub(super) rounds: usize,
    /// Pods started one at a time.
    starts: usize,
    /// Containers ended, one after the other.
    exits: usize,
    /// How long the idle node is watched.
    idle: Duration,
    /// How long it is left alone before: the events of the pods that were started take 20 seconds more, at the 50 a second
    /// that `eventRecordQPS` lets through.
    settle: Duration,
}

impl Extent {
    pub(super) const FULL: Self = Self {
        rounds: 2,
        starts: 40,
        exits: 100,
        idle: Duration::from_secs(60),
        settle: Duration::from_secs(30),
    };
    pub(super) const QUICK: Self = Self {
        rounds: 1,
        starts: 20,
        exits: 40,
        idle: Duration::from_secs(20),
        settle: Duration::from_secs(30),
    };
}

/// The pods of an ordinary node.
const USUAL: usize = 110;
/// The pods of a dense one.
const DENSE: usize = 500;
/// The pods that are started at once.
const MANY: usize = 1000;
/// Requests under way when many pods are created: a controller's worth, and few enough that each is short.
const AT_ONCE: usize = 32;
/// Between two exits: short, and not a divisor of the second at which some look.
const PACE: Duration = Duration::from_millis(230);
/// How long an exit may take to be seen. One that is not seen counts as this.
const EXIT_LIMIT: Duration = Duration::from_secs(20);
/// Something is wrong when a node takes longer to fill.
const FILL_LIMIT: Duration = Duration::from_secs(300);
/// The calls that a pod's start consists of.
const START_CALLS: &[&str] = &["PullImage", "RunPodSandbox", "CreateContainer", "StartContainer"];
/// What a hung call is measured with, and the rows.
const HANGS: &[(&str, &str, &str)] = &[
    (
        "StopContainer",
        "exit → status, 500 pods, one hangs in StopContainer, s",
        "… its p99 ÷ p99 with none, StopContainer",
    ),
    (
        "ContainerStatus",
        "exit → status, 500 pods, one hangs in ContainerStatus, s",
        "… its p99 ÷ p99 with none, ContainerStatus",
    ),
];

/// Measures the kubelet that the cluster now has, twice from an empty node, and leaves none behind.
pub(super) async fn turn(cluster: &Cluster, runtime: &FakeRuntime, extent: &Extent) -> Result<Turn> {
    let mut turn = Turn::default();
    for many in [false, true] {
        runtime.start_fresh().await.context("start fake-cri")?;
        cluster.kubelet.start().await?;
        cluster.node_ready(Duration::from_secs(90)).await?;
        let mut bench = Bench::new(cluster, runtime)?;
        let measured = async {
            if many { bench.many(&mut turn, extent).await } else { bench.dense(&mut turn, extent).await }
        };
        // Cancel-safe: the turn is given up as a whole when the kubelet dies.
        tokio::select! {
            measured = measured => measured?,
            died = cluster.kubelet.died() => return Err(died),
        }
        clear(cluster).await.context("clear the node")?;
    }
    runtime.stop().await?;
    Ok(turn)
}

/// Takes the kubelet and all pods away. A thousand pods are not waited for: the next node begins from nothing.
async fn clear(cluster: &Cluster) -> Result<()> {
    cluster.kubelet.kill().await?;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client.clone());
    let left = pods.list_metadata(&ListParams::default()).await.context("list the pods")?;
    let names = left.items.into_iter().filter_map(|pod| pod.metadata.name);
    let at_once = DeleteParams::default().grace_period(0);
    let deletions = stream::iter(names).map(|name| {
        let (pods, at_once) = (&pods, &at_once);
        async move { pods.delete(&name, at_once).await.map(drop) }
    });
    deletions.buffer_unordered(AT_ONCE).try_collect::<()>().await.context("delete the pods")?;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    nodes.delete(NODE, &DeleteParams::default()).await.context("delete the node").map(drop)
}

struct Bench<'a> {
    runtime: &'a FakeRuntime,
    pod_watch: PodWatch,
    pods: Api<Pod>,
    pid: u32,
}

impl<'a> Bench<'a> {
    fn new(cluster: &Cluster, runtime: &'a FakeRuntime) -> Result<Self> {
        Ok(Self {
            runtime,
            pod_watch: PodWatch::start(cluster.client.clone()),
            pods: Api::default_namespaced(cluster.client.clone()),
            pid: cluster.kubelet.pid().context("the kubelet does not run")?,
        })
    }

    /// 110 pods, then 500.
    async fn dense(&mut self, turn: &mut Turn, extent: &Extent) -> Result<()> {
        eprintln!("    {USUAL} pods");
        self.fill("usual", USUAL).await?;
        let (shares, _) = self.starts("late", extent.starts).await?;
        turn.add("own share of a start, 110 pods, s", shares);

        eprintln!("    {DENSE} pods");
        self.fill("dense", DENSE - USUAL - extent.starts).await?;
        // Not a wait for something: the time itself is what is measured.
        tokio::time::sleep(extent.settle).await;
        let (before, started) = (usage::cpu_seconds(self.pid)?, Instant::now());
        tokio::time::sleep(extent.idle).await;
        let used = usage::cpu_seconds(self.pid)? - before;
        turn.add("idle CPU, 500 pods, cores", vec![used / started.elapsed().as_secs_f64()]);
        let (rss, pss) = usage::memory(self.pid)?;
        turn.add("RSS, 500 pods, MB", vec![rss]);
        turn.add("PSS, 500 pods, MB", vec![pss]);
        let (shares, starts) = self.starts("later", extent.starts).await?;
        turn.add("own share of a start, 500 pods, s", shares);
        turn.add("create → Running, 500 pods, s", starts);

        eprintln!("    container exits");
        let alone = self.exits("exit", extent.exits).await?;
        turn.add("exit → status, 500 pods, s", alone.clone());
        for (call, row, ratio) in HANGS {
            eprintln!("    one pod hangs in {call}");
            let beside = self.beside_hung(call, extent.exits).await?;
            let p99 = |samples| report::percentile(samples, 99).unwrap_or_default();
            turn.add(*ratio, vec![p99(&beside) / p99(&alone)]);
            turn.add(*row, beside);
        }
        Ok(())
    }

    /// 1,000 pods at once.
    async fn many(&mut self, turn: &mut Turn, extent: &Extent) -> Result<()> {
        eprintln!("    {MANY} pods at once");
        let names = names("many", MANY);
        let (before, started) = (usage::cpu_seconds(self.pid)?, now());
        let created = self.create_all(&names).await?;
        let all_created = now();
        self.pod_watch.until_all(&names, FILL_LIMIT, |pod| pod.ready.is_some()).await.context("not ready")?;
        let cpu = usage::cpu_seconds(self.pid)? - before;
        let ready: Vec<i64> =
            names.iter().map(|name| self.pod_watch.of(name).ready.unwrap_or_default()).collect();
        let last = ready.iter().copied().max().unwrap_or_default();
        turn.add("1,000 pods: create → all created, s", vec![seconds(started, all_created)]);
        turn.add("1,000 pods: create → all Ready, s", vec![seconds(started, last)]);
        let each = created.iter().zip(&ready).map(|(created, ready)| seconds(*created, *ready));
        turn.add("1,000 pods: create → Ready, s", each.collect());
        let mut shares = Vec::new();
        for name in &names {
            shares.push(self.share(name).await?);
        }
        turn.add("1,000 pods: own share of a start, s", shares);
        turn.add("1,000 pods: CPU, s", vec![cpu]);
        turn.add("1,000 pods: highest RSS, MB", vec![usage::peak_memory(self.pid)?]);
        // Not a wait for something: what was needed for a moment has time to go.
        tokio::time::sleep(extent.settle).await;
        let (rss, _) = usage::memory(self.pid)?;
        turn.add("1,000 pods: RSS, MB", vec![rss]);
        Ok(())
    }

    /// Creates pods and waits until they are ready.
    async fn fill(&mut self, prefix: &str, count: usize) -> Result<Vec<String>> {
        let names = names(prefix, count);
        self.create_all(&names).await?;
        self.pod_watch.until_all(&names, FILL_LIMIT, |pod| pod.ready.is_some()).await.context("not ready")?;
        Ok(names)
    }

    /// Starts pods one at a time; returns the kubelet's own share of each start, and the whole time from the pod's
    /// creation.
    async fn starts(&mut self, prefix: &str, count: usize) -> Result<(Vec<f64>, Vec<f64>)> {
        let (mut shares, mut starts) = (Vec::new(), Vec::new());
        for (turn, name) in names(prefix, count).into_iter().enumerate() {
            stagger(turn).await;
            let created = self.create(&name).await?;
            let runs = |seen: &AllPodTimes| seen.get(&name).is_some_and(|pod| pod.running.is_some());
            self.pod_watch.until(FILL_LIMIT, runs).await.with_context(|| format!("{name} does not run"))?;
            starts.push(seconds(created, self.pod_watch.of(&name).running.unwrap_or_default()));
            shares.push(self.share(&name).await?);
        }
        Ok((shares, starts))
    }

    /// What a pod's start took, from its being bound to its being seen to run, less what the runtime took.
    async fn share(&self, name: &str) -> Result<f64> {
        let pod = self.pod_watch.of(name);
        let running = pod.running.with_context(|| format!("{name} did not run"))?;
        let calls = self.runtime.calls(name).await?;
        let runtime = time_in(&calls, pod.bound, running);
        Ok((running - pod.bound - runtime) as f64 / 1e9)
    }

    /// Starts pods, ends their containers one after the other and returns how long the statuses took.
    async fn exits(&mut self, prefix: &str, count: usize) -> Result<Vec<f64>> {
        let names = self.fill(prefix, count).await?;
        self.end_all(&names).await
    }

    async fn end_all(&mut self, names: &[String]) -> Result<Vec<f64>> {
        let mut ended = Vec::new();
        for name in names {
            tokio::time::sleep(PACE).await;
            ended.push(self.runtime.end(name).await?);
        }
        // Those that are not seen in time count below.
        let _ = self.pod_watch.until_all(names, EXIT_LIMIT, |pod| pod.ended.is_some()).await;
        let given_up = now();
        let samples = names.iter().zip(ended).map(|(name, ended)| {
            let seen = self.pod_watch.of(name).ended.unwrap_or(given_up);
            seconds(ended, seen).min(EXIT_LIMIT.as_secs_f64())
        });
        Ok(samples.collect())
    }

    /// As [`Bench::exits`], while one pod's call hangs.
    async fn beside_hung(&mut self, call: &str, count: usize) -> Result<Vec<f64>> {
        let prefix = format!("beside-{}", call.to_lowercase());
        let names = self.fill(&prefix, count).await?;
        let hung = self.fill(&format!("hung-{}", call.to_lowercase()), 1).await?.remove(0);
        self.runtime.hang(&hung, call).await?;
        if call == "StopContainer" {
            self.pods.delete(&hung, &DeleteParams::default()).await.context("delete the pod that hangs")?;
        } else {
            self.runtime.end(&hung).await?;
        }
        self.runtime.hung(&hung).await?;
        let samples = self.end_all(&names).await;
        self.runtime.release(&hung).await?;
        samples
    }

    /// Creates pods, several at a time, and returns the moments just before each, in the order of the names.
    async fn create_all(&self, names: &[String]) -> Result<Vec<i64>> {
        stream::iter(names).map(|name| self.create(name)).buffered(AT_ONCE).try_collect().await
    }

    /// Creates a pod and returns the moment just before.
    async fn create(&self, name: &str) -> Result<i64> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": name },
            "spec": {
                // Past the scheduler: it is not what is measured.
                "nodeName": NODE,
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 30,
                // The runtime starts no process that could use a token.
                "automountServiceAccountToken": false,
                // As pods have them, and little enough for a thousand.
                "containers": [{
                    "name": "main",
                    "image": PAUSE,
                    "resources": { "requests": { "cpu": "1m", "memory": "1Mi" } },
                }],
            },
        }))?;
        let started = now();
        self.pods.create(&PostParams::default(), &pod).await.with_context(|| format!("create {name}"))?;
        Ok(started)
    }
}

fn seconds(from: i64, to: i64) -> f64 {
    (to - from).max(0) as f64 / 1e9
}

/// How much of a time was spent in calls that a start consists of, in nanoseconds. Calls at the same time count once.
fn time_in(calls: &[Call], from: i64, to: i64) -> i64 {
    let of_start = calls.iter().filter(|call| START_CALLS.contains(&call.name.as_str()));
    let mut spans: Vec<(i64, i64)> = of_start.map(|call| (call.start.max(from), call.end.min(to))).collect();
    spans.sort_unstable();
    let (mut total, mut reached) = (0, from);
    for (start, end) in spans {
        total += (end - start.max(reached)).max(0);
        reached = reached.max(end);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_a_start_count_once_and_only_within_it() {
        let call = |name: &str, start, end| Call { name: name.into(), start, end };
        let calls = [
            call("StartContainer", 70, 90),
            call("RunPodSandbox", 5, 20),
            call("PullImage", 15, 30),
            call("PullImage", 16, 18),
            call("ContainerStatus", 40, 60),
            call("StartContainer", 95, 200),
            call("StartContainer", 300, 400),
        ];
        assert_eq!(time_in(&calls, 10, 100), 20 + 20 + 5);
        assert_eq!(time_in(&calls, 0, 4), 0);
        assert_eq!(time_in(&[], 0, 4), 0);
    }
}
