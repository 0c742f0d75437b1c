//! What a recording costs: one kubelet fills the node again and again, and is recorded every other time.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use super::feed::Feed;
use super::measure::{self, Turn, names, pause};
use super::usage::Meter;
use crate::cluster::{Cluster, FakeRuntime};

/// How much is measured.
pub(super) struct Extent {
    /// Fills of each kind.
    fills: usize,
    /// How long what follows a fill may take: events, writes of the recording.
    settle: Duration,
}

impl Extent {
    pub(super) const FULL: Self = Self { fills: 20, settle: Duration::from_secs(5) };
    pub(super) const QUICK: Self = Self { fills: 6, settle: Duration::from_secs(5) };
}

/// The pods of an ordinary node.
const PODS: usize = 110;

/// Measures the kubelet that the cluster now has, and leaves none behind.
pub(super) async fn turn(
    cluster: &Cluster,
    runtime: &FakeRuntime,
    binary: &Path,
    extent: &Extent,
) -> Result<Turn> {
    runtime.start_fresh().await.context("start fake-cri")?;
    cluster.kubelet.start().await?;
    cluster.node_ready(Duration::from_secs(90)).await?;
    let pid = cluster.kubelet.pid().context("the kubelet does not run")?;
    let mut meter = Meter::new(pid)?;
    let bench = Bench { cluster, binary, extent };
    // What is made once is made here.
    bench.fill(&mut meter).await?;
    let (mut off, mut on) = (Vec::new(), Vec::new());
    for round in 0..extent.fills {
        // In turns, so that neither always follows the other.
        for is_recorded in [round % 2 == 1, round % 2 == 0] {
            if is_recorded {
                bench.record(&["start", &cluster.paths.file("recordings").display().to_string()]).await?;
                on.push(bench.fill(&mut meter).await?);
                bench.record(&["stop"]).await?;
            } else {
                off.push(bench.fill(&mut meter).await?);
            }
        }
        eprintln!("    {} of {}", round + 1, extent.fills);
    }
    cluster.kubelet.stop().await?;
    runtime.stop().await?;
    let mut turn = Turn::default();
    let all = |samples: &[f64]| samples.iter().sum::<f64>();
    turn.add("all fills: CPU recorded ÷ not recorded", vec![all(&on) / all(&off)]);
    turn.add("CPU to fill to 110 pods, not recorded, s", off);
    turn.add("CPU to fill to 110 pods, recorded, s", on);
    Ok(turn)
}

struct Bench<'a> {
    cluster: &'a Cluster,
    binary: &'a Path,
    extent: &'a Extent,
}

impl Bench<'_> {
    /// Fills the node and empties it again; returns the processor time of the fill.
    async fn fill(&self, meter: &mut Meter) -> Result<f64> {
        let pods = names("fill", PODS).iter().map(|name| pause(name)).collect::<Result<Vec<_>>>()?;
        let before = meter.seconds()?;
        measure::fill(self.cluster, Feed::start(self.cluster.client.clone()), &pods).await?;
        // Not a wait for something: what follows belongs to it.
        tokio::time::sleep(self.extent.settle).await;
        let used = meter.seconds()? - before;
        measure::empty(self.cluster, Feed::start(self.cluster.client.clone())).await?;
        tokio::time::sleep(self.extent.settle).await;
        Ok(used)
    }

    async fn record(&self, words: &[&str]) -> Result<()> {
        let output = Command::new(self.binary).arg("record").args(words).output().await;
        let output = output.context("run kubelet record")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}
