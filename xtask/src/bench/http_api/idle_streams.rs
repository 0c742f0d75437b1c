//! Many streams at once that nothing is said on: how many hold, and what each takes.

use anyhow::{Context, Result, ensure};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use tokio::task::JoinSet;

use super::client::{KubeletClient, LIMIT};
use super::exec::PROTOCOLS;
use super::{Extent, path_of};
use crate::bench::measure::Turn;
use crate::bench::usage::{self, Meter};
use crate::cluster::Cluster;

/// Streams that are being opened at a time.
const OPENING: usize = 16;

/// Ends when the stream does.
type Held = BoxFuture<'static, ()>;

/// Opens logs that are followed, then sessions with containers that say nothing.
pub(super) async fn measure(
    cluster: &Cluster,
    client: &KubeletClient,
    extent: &Extent,
    turn: &mut Turn,
) -> Result<()> {
    let opening = stream::iter(0..extent.idle_streams).map(|number| follow(client, number));
    IdleStreams::meet(cluster, extent).await?.measure("log follows", opening, turn).await?;
    for (name, protocol) in PROTOCOLS {
        let opening = stream::iter(0..extent.idle_streams).map(|number| attach(client, protocol, number));
        let idle_streams = IdleStreams::meet(cluster, extent).await?;
        idle_streams.measure(&format!("attach sessions, {name}"), opening, turn).await?;
    }
    Ok(())
}

struct IdleStreams<'a> {
    pid: u32,
    extent: &'a Extent,
}

impl<'a> IdleStreams<'a> {
    /// Starts the kubelet anew: memory that was used before would be used again, and no growth be seen.
    async fn meet(cluster: &Cluster, extent: &'a Extent) -> Result<Self> {
        cluster.kubelet.restart().await?;
        cluster.node_ready(LIMIT).await?;
        tokio::time::sleep(extent.settle).await;
        let pid = cluster.kubelet.pid().context("the kubelet does not run")?;
        Ok(Self { pid, extent })
    }

    async fn measure<F>(
        &self,
        kind: &str,
        opening: impl stream::Stream<Item = F>,
        turn: &mut Turn,
    ) -> Result<()>
    where
        F: Future<Output = Result<Held>>,
    {
        let count = self.extent.idle_streams;
        eprintln!("    {count} {kind}");
        let mut meter = Meter::new(self.pid)?;
        let (before, _) = usage::memory(self.pid)?;
        let (cpu_before, mut open) = (meter.seconds()?, JoinSet::new());
        let mut opened = std::pin::pin!(opening.buffer_unordered(OPENING));
        while let Some(held) = opened.next().await {
            match held {
                Ok(held) => drop(open.spawn(held)),
                Err(error) if open.is_empty() => return Err(error).context("open the first one"),
                Err(_) => {}
            }
        }
        let cpu = meter.seconds()? - cpu_before;
        tokio::time::sleep(self.extent.settle).await;
        while open.try_join_next().is_some() {}
        // Exact: there are a thousand.
        let held = open.len() as f64;
        let (during, _) = usage::memory(self.pid)?;
        let (idle_before, started) = (meter.seconds()?, std::time::Instant::now());
        tokio::time::sleep(self.extent.settle).await;
        let idle = (meter.seconds()? - idle_before) / started.elapsed().as_secs_f64();
        open.shutdown().await;
        tokio::time::sleep(self.extent.settle).await;
        let (after, _) = usage::memory(self.pid)?;
        turn.add(format!("{kind} that hold, of {count}"), vec![held]);
        turn.add(format!("{kind}, CPU ms to open one"), vec![cpu * 1e3 / count as f64]);
        // For each that holds: with few of them, the growth as a whole would look good.
        turn.add(format!("{kind}, RSS growth for one, kB"), vec![(during - before) * 1e3 / held.max(1.0)]);
        turn.add(format!("{kind}, CPU while they are open, cores"), vec![idle]);
        turn.add(format!("{kind}, RSS kept after them, MB"), vec![after - before]);
        Ok(())
    }
}

/// Opens a log that is followed, and reads what is there.
async fn follow(client: &KubeletClient, number: usize) -> Result<Held> {
    // Not the pod with the large log.
    let path = path_of("containerLogs", number % (super::TALKING - 1), "follow=true");
    let opening = async {
        let response = client.line().await?.ask(&path, HeaderMap::new()).await?;
        ensure!(response.status() == StatusCode::OK, "{path}: {}", response.status());
        let mut body = response.into_body();
        body.frame().await.context("the log ended")?.context("read the log")?;
        Ok(async move { while let Some(Ok(_)) = body.frame().await {} }.boxed())
    };
    tokio::time::timeout(LIMIT, opening).await.context("nothing comes")?
}

/// Opens a session with a container's output.
async fn attach(client: &KubeletClient, protocol: &'static str, number: usize) -> Result<Held> {
    let path = path_of("attach", number, "output=1&error=1");
    let opening = async {
        let mut socket = client.session(&path, protocol).await?;
        // Servers say at once that they are there.
        socket.next().await.context("the session ended")?.context("read a message")?;
        Ok(async move { while let Some(Ok(_)) = socket.next().await {} }.boxed())
    };
    tokio::time::timeout(LIMIT, opening).await.context("nothing comes")?
}
