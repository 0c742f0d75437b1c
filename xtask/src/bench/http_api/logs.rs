//! How fast a large log is read, and what that costs.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use http::HeaderMap;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;

use super::client::KubeletClient;
use super::{Extent, path_of};
use crate::bench::measure::Turn;
use crate::bench::usage::Meter;
use crate::cluster::Cluster;

/// The pod whose log it is. Not the first one, whose short log others follow.
const POD: usize = 9;
/// A line as applications write them, without what the runtime puts before it.
const TEXT: &str =
    "level=info msg=\"request served\" method=GET path=/api/v1/items status=200 bytes=5120 ms=12.7\n";
/// Requests for the last lines.
const TAILS: usize = 100;

/// Reads a log from its beginning to its end, and its last lines.
pub(super) async fn measure(
    cluster: &Cluster,
    client: &KubeletClient,
    pid: u32,
    extent: &Extent,
    turn: &mut Turn,
) -> Result<()> {
    eprintln!("    logs");
    let file = file(cluster).await?;
    let lines = extent.log_bytes / (TEXT.len() + PREFIX.len());
    lengthen(&file, lines).with_context(|| format!("write {}", file.display()))?;
    let mut meter = Meter::new(pid)?;
    for (kind, query) in [("log", ""), ("log with timestamps", "timestamps=true")] {
        let (mut speed, mut cost) = (Vec::new(), Vec::new());
        for _ in 0..extent.log_reads {
            let mut line = client.line().await?;
            let (before, started) = (meter.seconds()?, Instant::now());
            let length = line.get(&path_of("containerLogs", POD, query), HeaderMap::new()).await?;
            ensure!(length >= lines * TEXT.len(), "the log has {length} bytes only");
            let megabytes = length as f64 / 1e6;
            speed.push(megabytes / started.elapsed().as_secs_f64());
            cost.push((meter.seconds()? - before) * 1e3 / megabytes);
        }
        turn.add(format!("{kind}, MB/s"), speed);
        turn.add(format!("{kind}, CPU ms/MB"), cost);
    }
    let mut line = client.line().await?;
    let (mut took, before) = (Vec::new(), meter.seconds()?);
    for _ in 0..TAILS {
        let asked = Instant::now();
        line.get(&path_of("containerLogs", POD, "tailLines=100"), HeaderMap::new()).await?;
        took.push(asked.elapsed().as_secs_f64() * 1e3);
    }
    turn.add("last 100 lines of a log, ms", took);
    turn.add("last 100 lines of a log, CPU ms", vec![(meter.seconds()? - before) * 1e3 / TAILS as f64]);
    // The space is wanted by others.
    std::fs::File::create(&file).with_context(|| format!("empty {}", file.display()))?;
    Ok(())
}

/// What the runtime writes before each line.
const PREFIX: &str = "2026-01-02T03:04:05.678901234Z stdout F ";

async fn file(cluster: &Cluster) -> Result<PathBuf> {
    let name = format!("talking-{POD}");
    let pods: Api<Pod> = Api::default_namespaced(cluster.client.clone());
    let uid = pods.get(&name).await?.metadata.uid.context("the pod has no uid")?;
    Ok(format!("/var/log/pods/default_{name}_{uid}/main/0.log").into())
}

/// Appends lines as the runtime would.
fn lengthen(path: &std::path::Path, lines: usize) -> Result<()> {
    let file = std::fs::OpenOptions::new().append(true).open(path)?;
    let mut file = std::io::BufWriter::with_capacity(1 << 20, file);
    for _ in 0..lines {
        file.write_all(PREFIX.as_bytes())?;
        file.write_all(TEXT.as_bytes())?;
    }
    file.flush()?;
    Ok(())
}
