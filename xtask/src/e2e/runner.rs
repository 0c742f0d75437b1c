//! Runs scenarios and prints a line for each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use futures::StreamExt as _;
use futures::future::BoxFuture;

use super::scene::Scene;
use crate::cluster::Cluster;

/// Scenarios at a time. More only wait for the container runtime on a small machine.
const SIDE_BY_SIDE: usize = 10;
/// No scenario may take longer. Upstream's kubelet looks for images to remove every five minutes.
const LIMIT: Duration = Duration::from_secs(420);

/// What a scenario does to the node.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Only uses it.
    Calm,
    /// Stops a program that others need.
    Disturbing,
    /// Disturbing, and more than the Go kubelet can do: skipped with it.
    Stricter,
    /// Calm, and likewise.
    CalmButStricter,
}

impl Effect {
    fn is_calm(self) -> bool {
        matches!(self, Self::Calm | Self::CalmButStricter)
    }

    /// Whether the Go kubelet is spared it.
    pub(super) fn is_stricter(self) -> bool {
        matches!(self, Self::Stricter | Self::CalmButStricter)
    }
}

/// A test.
pub(super) struct Scenario {
    /// `theme::name`.
    pub(super) name: &'static str,
    /// Whether others can run beside it.
    pub(super) effect: Effect,
    /// The test itself.
    pub(super) run: fn(Scene) -> BoxFuture<'static, Result<()>>,
}

/// How many passed and failed.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) passed: usize,
    pub(super) failed: usize,
}

/// Runs the calm ones side by side, then the others one by one.
pub(super) async fn run(cluster: &Arc<Cluster>, scenarios: Vec<Scenario>) -> Tally {
    let (calm, disturbing): (Vec<_>, Vec<_>) =
        scenarios.into_iter().partition(|scenario| scenario.effect.is_calm());
    let mut tally = Tally::default();
    let mut running =
        futures::stream::iter(calm).map(|one| attempt(cluster, one)).buffer_unordered(SIDE_BY_SIDE);
    while let Some(passed) = running.next().await {
        tally.count(passed);
    }
    drop(running);
    if let Err(error) = cluster.programs.end().await {
        println!("after the calm scenarios: {error:#}");
    }
    for scenario in disturbing {
        let name = scenario.name;
        tally.count(attempt(cluster, scenario).await);
        if let Err(error) = restore(cluster).await {
            println!("after {name} the cluster could not be restored: {error:#}");
        }
    }
    tally
}

/// What is looked at when all scenarios are over.
pub(super) async fn last(tally: &mut Tally, name: &str, check: impl Future<Output = Result<()>>) {
    let started = Instant::now();
    let result = check.await;
    let seconds = started.elapsed().as_secs_f64();
    match &result {
        Ok(()) => println!("test {name} ... ok ({seconds:.1} s)"),
        Err(error) => println!("test {name} ... FAILED ({seconds:.1} s)\n    {error:#}"),
    }
    tally.count(result.is_ok());
}

impl Tally {
    fn count(&mut self, passed: bool) {
        if passed { self.passed += 1 } else { self.failed += 1 }
    }
}

async fn attempt(cluster: &Arc<Cluster>, scenario: Scenario) -> bool {
    let started = Instant::now();
    let name = scenario.name;
    // Runs already, unless it crashed in an earlier scenario.
    if let Err(error) = cluster.kubelet.start().await {
        println!("before {name}: {error:#}");
    }
    let scene = match Scene::new(cluster.clone(), name).await {
        Ok(scene) => scene,
        Err(error) => {
            println!("test {name} ... FAILED\n    prepare: {error:#}");
            return false;
        }
    };
    let namespace = scene.namespace.clone();
    // A task of its own, so that a panic is a failure of this scenario only.
    let mut task = tokio::spawn((scenario.run)(scene));
    // Cancel-safe: all three are only waited for; a task that is given up is aborted.
    let result = tokio::select! {
        ended = &mut task => ended.unwrap_or_else(|panicked| Err(anyhow!("panicked: {panicked}"))),
        died = cluster.kubelet.died() => Err(died),
        () = tokio::time::sleep(LIMIT) => Err(anyhow!("did not end within {LIMIT:?}")),
    };
    // The next scenario must not meet what this one is still about to do.
    if !task.is_finished() {
        task.abort();
        let _ = task.await;
    }
    let seconds = started.elapsed().as_secs_f64();
    match &result {
        Ok(()) => println!("test {name} ... ok ({seconds:.1} s)"),
        Err(error) => {
            println!(
                "test {name} ... FAILED ({seconds:.1} s)\n    {error:#}{}",
                kubelet_lines(cluster, &namespace)
            );
        }
    }
    Scene::leave(cluster, &namespace).await;
    result.is_ok()
}

/// What the kubelet logged about a namespace, the last of it.
fn kubelet_lines(cluster: &Cluster, namespace: &str) -> String {
    let log = std::fs::read(cluster.kubelet.log()).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(namespace)).collect();
    let last = &lines[lines.len().saturating_sub(12)..];
    last.iter().map(|line| format!("\n    | {}", line.chars().take(500).collect::<String>())).collect()
}

/// Everything runs again and nothing else does, whatever a scenario did or left undone.
async fn restore(cluster: &Cluster) -> Result<()> {
    // First: two kubelets of one node would end each other's pods.
    cluster.programs.end().await?;
    cluster.control_plane.start_apiserver().await?;
    cluster.containerd.start().await?;
    cluster.kubelet.start().await?;
    cluster.node_ready(Duration::from_secs(90)).await.context("restore the node")
}
