//! What the kubelet's HTTP server costs on a full node: pages that are scraped, logs, exec, and many streams at once.
//!
//! The client holds an administrator's certificate. Pages are asked for over one connection that is kept, as scrapers
//! do; each log and each session has a connection of its own, as it comes from the API server.

mod client;
mod exec;
mod idle_streams;
mod logs;
mod pages;

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::feed::Feed;
use super::measure::{self, Turn, names};
use crate::cluster::Cluster;
use crate::images::BUSYBOX;
use crate::isolation::NODE;
use client::KubeletClient;

/// How much is measured.
pub(super) struct Extent {
    /// Turns of each kubelet.
    pub(super) rounds: usize,
    /// How often each page is asked for after a pause.
    scrapes: usize,
    /// How often each page is asked for without one.
    scrapes_in_a_row: usize,
    /// How large the log is that is read, bytes.
    log_bytes: usize,
    /// How often it is read.
    log_reads: usize,
    /// Short commands, one after another.
    commands: usize,
    /// Commands that write much, one after another.
    outputs: usize,
    /// What each of them writes, MiB.
    output_mebibytes: usize,
    /// Streams at once.
    idle_streams: usize,
    /// How long the node is left alone, after it was filled and after many streams were opened or closed.
    settle: Duration,
}

impl Extent {
    pub(super) const FULL: Self = Self {
        rounds: 2,
        scrapes: 20,
        scrapes_in_a_row: 300,
        log_bytes: 400 << 20,
        log_reads: 3,
        commands: 100,
        outputs: 5,
        output_mebibytes: 512,
        idle_streams: 1000,
        settle: Duration::from_secs(20),
    };
    pub(super) const QUICK: Self = Self {
        rounds: 1,
        scrapes: 8,
        scrapes_in_a_row: 100,
        log_bytes: 50 << 20,
        log_reads: 2,
        commands: 100,
        outputs: 5,
        output_mebibytes: 256,
        idle_streams: 1000,
        settle: Duration::from_secs(10),
    };
}

/// Pods whose container does nothing.
const SILENT: usize = 100;
/// Pods whose container has said something, and in which commands can be run.
const TALKING: usize = 10;

/// Fields of the configuration: the log that is read must not be rotated meanwhile.
pub(super) fn fields() -> serde_json::Value {
    json!({ "containerLogMaxSize": "100Gi" })
}

/// Measures a node that has just become ready, and leaves its pods where they are.
pub(super) async fn all(cluster: &Cluster, feed: Feed, extent: &Extent) -> Result<Turn> {
    let pid = cluster.kubelet.pid().context("the kubelet does not run")?;
    let client = KubeletClient::new(&cluster.paths)?;
    eprintln!("    fill the node");
    let silent = names("silent", SILENT);
    let talking = names("talking", TALKING);
    let mut pods: Vec<Pod> = silent.iter().map(|name| measure::pause(name)).collect::<Result<_>>()?;
    for name in &talking {
        pods.push(talker(name)?);
    }
    measure::fill(cluster, feed, &pods).await?;
    tokio::time::sleep(extent.settle).await;

    let mut turn = Turn::default();
    pages::measure(&client, pid, extent, &mut turn).await.context("ask for pages")?;
    logs::measure(cluster, &client, pid, extent, &mut turn).await.context("read a log")?;
    exec::measure(&client, pid, extent, &mut turn).await.context("run commands")?;
    idle_streams::measure(cluster, &client, extent, &mut turn).await.context("open many streams")?;
    Ok(turn)
}

/// Takes the pods away while the kubelet still runs.
pub(super) async fn clear(cluster: &Cluster) -> Result<()> {
    let feed = Feed::start(cluster.client.clone());
    measure::empty(cluster, feed).await
}

/// A pod that says one line and waits.
fn talker(name: &str) -> Result<Pod> {
    let script = "echo I am here; trap 'exit 0' TERM; while true; do sleep 3600 & wait; done";
    let container = json!({ "name": "main", "image": BUSYBOX, "command": ["sh", "-c", script] });
    Ok(serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": { "nodeName": NODE, "restartPolicy": "Never", "containers": [container] },
    }))?)
}

/// The path of an endpoint for the container of the talking pod with this number.
fn path_of(endpoint: &str, pod: usize, query: &str) -> String {
    format!("/{endpoint}/default/talking-{}/main?{query}", pod % TALKING)
}
