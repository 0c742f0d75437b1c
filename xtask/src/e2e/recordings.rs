//! The whole run is recorded, and every recording of it replayed at its end: the decisions of a day of disturbances are made
//! again from what is written of them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::process::Command;

use crate::cluster::{Cluster, Paths};

/// Replays at a time: each keeps a processor busy.
const SIDE_BY_SIDE: usize = 2;
/// For one file, which is of 16 MiB at most.
const LIMIT: Duration = Duration::from_secs(300);

/// Where recordings go.
fn folder(paths: &Paths) -> PathBuf {
    paths.file("recordings")
}

/// What has the kubelet record what it is told and decides.
pub(super) fn flag(paths: &Paths) -> String {
    format!("--record={}", folder(paths).display())
}

/// Replays all that was recorded.
pub(super) async fn replay_as_recorded(cluster: &Cluster) -> Result<()> {
    cluster.kubelet.stop().await?;
    let folder = folder(&cluster.paths);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .with_context(|| format!("list {}", folder.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    files.sort();
    let replays = stream::iter(&files).map(|file| replay(cluster, file)).buffer_unordered(SIDE_BY_SIDE);
    let steps: Vec<u64> = replays.try_collect().await?;
    let all: u64 = steps.iter().sum();
    // How many there have to be depends on which scenarios were chosen.
    ensure!(all > 0, "nothing was recorded in {} files", files.len());
    println!("    {all} steps of {} files were replayed", files.len());
    Ok(())
}

/// Returns how many steps were decided as in the recording, which are all that it has.
async fn replay(cluster: &Cluster, file: &Path) -> Result<u64> {
    let mut command = Command::new(&cluster.paths.kubelet);
    // Nothing concerns a pod that there never was: what is told is how it ends, and where it differs.
    command.arg("replay").arg(file).args(["--pod", "none/none"]);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output()).await;
    let output = output.with_context(|| format!("replay {}", file.display()))?.context("run it")?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "replay {}: {out}{err}", file.display());
    let last = out.lines().last().unwrap_or_default();
    let steps = last.strip_suffix(" steps, each decided as in the recording");
    steps.and_then(|steps| steps.parse().ok()).with_context(|| format!("replay {}: {out}", file.display()))
}
