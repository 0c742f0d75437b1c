//! From the start of a kubelet's process to its first good answer on `/healthz`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::process::Service;

/// Where kubelets answer by default.
const ADDRESS: &str = "127.0.0.1:10248";
const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
/// Between two tries. What is measured is exact to this, and trying takes next to nothing.
const PAUSE: Duration = Duration::from_millis(1);
/// Something is wrong when a kubelet takes longer.
const LIMIT: Duration = Duration::from_secs(60);

/// Starts a kubelet again and again, and returns the seconds that each start took.
pub(super) async fn measure(kubelet: &Service, count: usize) -> Result<Vec<f64>> {
    eprintln!("    start");
    let mut took = Vec::new();
    for _ in 0..count {
        kubelet.stop().await?;
        let started = Instant::now();
        kubelet.start().await?;
        // Cancel-safe: the measurement is given up when the kubelet dies.
        tokio::select! {
            answered = tokio::time::timeout(LIMIT, first_answer()) => answered.context("wait for /healthz")?,
            died = kubelet.died() => return Err(died),
        }
        took.push(started.elapsed().as_secs_f64());
    }
    Ok(took)
}

async fn first_answer() {
    while ask().await.is_err() {
        tokio::time::sleep(PAUSE).await;
    }
}

async fn ask() -> Result<()> {
    let mut connection = TcpStream::connect(ADDRESS).await?;
    connection.write_all(REQUEST).await?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await?;
    if !answer.starts_with(b"HTTP/1.1 200 ") {
        bail!("it is not healthy yet");
    }
    Ok(())
}
