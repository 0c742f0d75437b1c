//! `cargo xtask bench`: our kubelet and the Go kubelet on the same node, in turn; and one more, such as an
//! earlier build, if that is asked for.
//!
//! All get the same API server, container runtime, images, files and flags. Turns are interleaved and every value
//! is shown per turn too, because a machine that is busy with other things varies by half.

mod density;
mod feed;
mod http_api;
mod measure;
mod recording;
mod report;
mod starts;
mod usage;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DeleteParams};
use serde::{Deserialize, Serialize};

use crate::cluster::{Cluster, FakeRuntime, Kind, Paths};
use crate::isolation::{self, NODE, Plan, Task};
use crate::peers::Purpose;
use crate::progress::Progress;
use crate::setup;
use crate::workspace::Profile;
use feed::Feed;
use measure::{Extent, Turn};
use report::{Kubelet, Report};

/// One of the measurements.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
pub(crate) enum Part {
    /// How long a kubelet takes to start.
    Starts,
    /// An ordinary node with containerd: how fast pods come, change and go, and what the kubelet takes.
    Pods,
    /// What the HTTP server costs: pages, logs, exec, many streams.
    HttpApi,
    /// The dense node: up to 1,000 pods on a runtime without containers.
    Density,
    /// What it costs to record a node, on the same runtime; ours alone can.
    Recording,
}

/// What is to be measured, for the process inside the cluster.
#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    /// Fewer repetitions and shorter waits.
    quick: bool,
    /// What is measured; everything if this does not say.
    only: Option<Part>,
    /// The kubelet that ours is measured against besides the Go one.
    pub(crate) against: Option<PathBuf>,
}

/// Prepares everything and measures.
pub(crate) fn outer(
    quick: bool,
    only: Option<Part>,
    kubelet: Option<&str>,
    against: Option<&str>,
) -> Result<ExitCode> {
    let ready = setup::prepare(Purpose::Cluster)?;
    let progress = Progress::new()?;
    let kubelet = ready.workspace.kubelet(kubelet, &ready.peers, Profile::Release, &progress)?;
    let against = against
        .map(|path| ready.workspace.kubelet(Some(path), &ready.peers, Profile::Release, &progress))
        .transpose()?;
    let fake_cri =
        is_dense(only).then(|| ready.workspace.build("fake-cri", Profile::Release, &progress)).transpose()?;
    drop(progress);
    let logs = ready.workspace.target.join("xtask/bench/logs");
    let task = Task::Bench(Order { quick, only, against });
    let (peers, images) = (ready.peers, ready.images);
    let plan = Plan { peers, images, kubelet, fake_cri, fake_csi: None, task };
    Ok(isolation::launch("bench", plan, &logs)?.code)
}

/// Whether a part takes the runtime without containers.
fn is_dense(only: Option<Part>) -> bool {
    only.is_none_or(|part| matches!(part, Part::Density | Part::Recording))
}

/// Inside the cluster's namespaces: takes turns and prints the tables.
pub(crate) async fn inside(paths: Paths, ours: &Path, order: &Order) -> Result<ExitCode> {
    eprintln!("==> start the cluster");
    let mut cluster = Cluster::start_without_kubelet(paths).await?;
    let go = cluster.paths.peers.kubernetes("kubelet");
    let kubelets = Kubelets { go, ours: ours.to_owned(), against: order.against.clone() };
    // The ordinary node's measurements begin with those of starts.
    if matches!(order.only, None | Some(Part::Pods | Part::Starts)) {
        let report = usual(&mut cluster, &kubelets, order).await?;
        println!("{report}");
    }
    if matches!(order.only, None | Some(Part::HttpApi)) {
        let report = at_the_http_api(&mut cluster, &kubelets, order.quick).await?;
        println!("The HTTP server, 110 pods:\n\n{report}");
    }
    if !is_dense(order.only) {
        return Ok(ExitCode::SUCCESS);
    }
    cluster.containerd.service.stop().await?;
    if order.only != Some(Part::Recording) {
        let report = dense(&mut cluster, &kubelets, order.quick).await?;
        println!("On a runtime without containers:\n\n{report}");
    }
    if order.only != Some(Part::Density) {
        let report = recorded(&mut cluster, &kubelets.ours, order.quick).await?;
        println!("Recorded, on the same runtime:\n\n{report}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Our kubelet, recorded and not.
async fn recorded(cluster: &mut Cluster, ours: &Path, quick: bool) -> Result<Report> {
    let extent = if quick { recording::Extent::QUICK } else { recording::Extent::FULL };
    let runtime = FakeRuntime::new(&cluster.paths)?;
    eprintln!("==> recording");
    cluster.kubelet = cluster.other_kubelet("kubelet-recorded", ours, Kind::Dense);
    let mut report = Report::default();
    // Cancel-safe: it is given up as a whole when the kubelet dies.
    let measured = tokio::select! {
        measured = recording::turn(cluster, &runtime, ours, &extent) => measured,
        died = cluster.kubelet.died() => Err(died),
    };
    report.add(Kubelet::Ours, measured.context("measure what a recording costs")?);
    Ok(report)
}

/// The kubelets with containerd.
async fn usual(cluster: &mut Cluster, kubelets: &Kubelets, order: &Order) -> Result<Report> {
    let extent = if order.quick { Extent::QUICK } else { Extent::FULL };
    let mut report = Report::default();
    for (round, (kubelet, name, binary)) in kubelets.turns(extent.rounds) {
        eprintln!("==> round {round} of {}: {name}", extent.rounds);
        cluster.kubelet = cluster.other_kubelet(name, binary, Kind::Usual);
        let measured = turn(cluster, &extent, order.only == Some(Part::Starts)).await;
        report.add(kubelet, measured.with_context(|| format!("measure {name}"))?);
        clear(cluster).await.context("clear the node for the next turn")?;
    }
    Ok(report)
}

/// The kubelets with containerd, asked over HTTP.
async fn at_the_http_api(cluster: &mut Cluster, kubelets: &Kubelets, quick: bool) -> Result<Report> {
    let extent = if quick { http_api::Extent::QUICK } else { http_api::Extent::FULL };
    let mut report = Report::default();
    for (round, (kubelet, name, binary)) in kubelets.turns(extent.rounds) {
        eprintln!("==> HTTP server, round {round} of {}: {name}", extent.rounds);
        cluster.kubelet = cluster.kubelet_configured(name, binary, &http_api::fields())?;
        let feed = Feed::start(cluster.client.clone());
        cluster.kubelet.start().await?;
        cluster.node_ready(Duration::from_secs(90)).await?;
        // Cancel-safe: the turn is given up as a whole when the kubelet dies.
        let measured = tokio::select! {
            measured = http_api::all(cluster, feed, &extent) => measured,
            died = cluster.kubelet.died() => Err(died),
        };
        report.add(kubelet, measured.with_context(|| format!("measure the HTTP server of {name}"))?);
        eprint!("{}", report.last_turn());
        http_api::clear(cluster).await.context("delete the pods")?;
        clear(cluster).await.context("clear the node for the next turn")?;
    }
    Ok(report)
}

/// The kubelets with `fake-cri`.
async fn dense(cluster: &mut Cluster, kubelets: &Kubelets, quick: bool) -> Result<Report> {
    let extent = if quick { density::Extent::QUICK } else { density::Extent::FULL };
    let runtime = FakeRuntime::new(&cluster.paths)?;
    let mut report = Report::default();
    for (round, (kubelet, name, binary)) in kubelets.turns(extent.rounds) {
        eprintln!("==> density, round {round} of {}: {name}", extent.rounds);
        cluster.kubelet = cluster.other_kubelet(name, binary, Kind::Dense);
        let measured = density::turn(cluster, &runtime, &extent).await;
        report.add(kubelet, measured.with_context(|| format!("measure {name} on the dense node"))?);
    }
    Ok(report)
}

/// The programs that take turns.
struct Kubelets {
    go: PathBuf,
    ours: PathBuf,
    against: Option<PathBuf>,
}

impl Kubelets {
    /// The rounds, each with all of them: whose turn it is, the name of its log, and the program.
    fn turns(&self, rounds: usize) -> impl Iterator<Item = (usize, (Kubelet, &'static str, &Path))> {
        let against = self.against.as_deref().map(|path| (Kubelet::Against, "kubelet-against", path));
        let all = [
            Some((Kubelet::Go, "kubelet-go", self.go.as_path())),
            against,
            Some((Kubelet::Ours, "kubelet-ours", self.ours.as_path())),
        ];
        (1..=rounds).flat_map(move |round| all.into_iter().flatten().map(move |kubelet| (round, kubelet)))
    }
}

async fn turn(cluster: &Cluster, extent: &Extent, only_starts: bool) -> Result<Turn> {
    let feed = Feed::start(cluster.client.clone());
    cluster.kubelet.start().await?;
    cluster.node_ready(Duration::from_secs(90)).await?;
    if only_starts {
        let mut turn = Turn::default();
        measure::starts(cluster, extent, &mut turn).await?;
        return Ok(turn);
    }
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
