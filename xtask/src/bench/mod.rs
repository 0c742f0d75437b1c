//! `cargo xtask bench`: our kubelet and the Go kubelet on the same node, in turn.
//!
//! Both get the same API server, container runtime, images, files and flags. Turns are interleaved and every value
//! is shown per turn too, because a machine that is busy with other things varies by half.

mod feed;
mod measure;
mod report;
mod usage;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DeleteParams};

use crate::cluster::{Cluster, Paths};
use crate::isolation::{self, NODE, Plan, Task};
use crate::setup;
use feed::Feed;
use measure::{Extent, Turn};
use report::{Kubelet, Report};

/// Prepares everything and measures.
pub(crate) fn outer(quick: bool, kubelet: Option<&str>) -> Result<ExitCode> {
    let ready = setup::prepare()?;
    let kubelet = ready.workspace.kubelet(kubelet, &ready.peers)?;
    let logs = ready.workspace.target.join("xtask/bench/logs");
    let plan = Plan { peers: ready.peers, images: ready.images, kubelet, task: Task::Bench { quick } };
    Ok(isolation::launch("bench", plan, &logs)?.code)
}

/// Inside the cluster's namespaces: takes turns and prints the table.
pub(crate) async fn inside(paths: Paths, ours: &Path, quick: bool) -> Result<ExitCode> {
    let extent = if quick { Extent::QUICK } else { Extent::FULL };
    let upstream = paths.peers.kubernetes("kubelet");
    eprintln!("==> start the cluster");
    let mut cluster = Cluster::start_without_kubelet(paths).await?;
    let mut report = Report::default();
    for round in 1..=extent.rounds {
        for kubelet in [Kubelet::Go, Kubelet::Ours] {
            let (name, binary) = match kubelet {
                Kubelet::Go => ("kubelet-go", upstream.as_path()),
                Kubelet::Ours => ("kubelet-ours", ours),
            };
            eprintln!("==> round {round} of {}: {name}", extent.rounds);
            cluster.kubelet = cluster.other_kubelet(name, binary);
            let measured = turn(&cluster, &extent).await;
            report.add(kubelet, measured.with_context(|| format!("measure {name}"))?);
            clear(&cluster).await.context("clear the node for the next turn")?;
        }
    }
    println!("{report}");
    Ok(ExitCode::SUCCESS)
}

async fn turn(cluster: &Cluster, extent: &Extent) -> Result<Turn> {
    let feed = Feed::start(cluster.client.clone());
    cluster.kubelet.start().await?;
    cluster.node_ready(Duration::from_secs(90)).await?;
    // Cancel-safe: the turn is given up as a whole when the kubelet dies.
    tokio::select! {
        turn = measure::all(cluster, feed, extent) => turn,
        died = cluster.kubelet.died() => Err(died),
    }
}

/// A node without memory of the last kubelet: no node object, no containers, no files.
async fn clear(cluster: &Cluster) -> Result<()> {
    cluster.kubelet.stop().await?;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    nodes.delete(NODE, &DeleteParams::default()).await.context("delete the node")?;
    cluster.containerd.reset().await
}
