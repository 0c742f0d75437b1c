//! Commands: how long a short one takes, and how fast a long output comes.
//!
//! `v5` is what kubectl speaks with a node that declares `ExtendWebSocketsToKubelet`, and the kubelet translates it; `v4`
//! is passed through to the runtime, as SPDY is.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::StreamExt as _;
use tokio_tungstenite::tungstenite::Message;

use super::client::{KubeletClient, Socket};
use super::{Extent, path_of};
use crate::bench::measure::Turn;
use crate::bench::usage::Meter;

/// The protocols, and how they are called in the rows.
pub(super) const PROTOCOLS: [(&str, &str); 2] = [("v5", "v5.channel.k8s.io"), ("v4", "v4.channel.k8s.io")];
const STDOUT: u8 = 1;
const STATUS: u8 = 3;
/// Something is wrong when a command takes longer.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs commands.
pub(super) async fn measure(
    client: &KubeletClient,
    pid: u32,
    extent: &Extent,
    turn: &mut Turn,
) -> Result<()> {
    let mut meter = Meter::new(pid)?;
    for (name, protocol) in PROTOCOLS {
        eprintln!("    exec, {name}");
        let short = path_of("exec", 0, "output=1&error=1&command=true");
        run(client, &short, protocol).await?;
        let (mut took, mut cost) = (Vec::new(), Vec::new());
        for _ in 0..extent.commands {
            let (before, started) = (meter.seconds()?, Instant::now());
            run(client, &short, protocol).await?;
            took.push(started.elapsed().as_secs_f64() * 1e3);
            cost.push((meter.seconds()? - before) * 1e3);
        }
        turn.add(format!("exec of `true`, {name}, ms"), took);
        turn.add(format!("exec of `true`, {name}, CPU ms"), cost);

        let mebibytes = extent.output_mebibytes;
        let query =
            format!("output=1&command=dd&command=if%3D/dev/zero&command=bs%3D1M&command=count%3D{mebibytes}");
        let path = path_of("exec", 0, &query);
        let (mut speeds, mut cost) = (Vec::new(), Vec::new());
        for _ in 0..extent.outputs {
            let (before, started) = (meter.seconds()?, Instant::now());
            let length = run(client, &path, protocol).await?;
            ensure!(length == mebibytes << 20, "{length} bytes of {mebibytes} MiB came");
            let megabytes = length as f64 / 1e6;
            speeds.push(megabytes / started.elapsed().as_secs_f64());
            cost.push((meter.seconds()? - before) * 1e3 / megabytes);
        }
        turn.add(format!("output of exec, {name}, MB/s"), speeds);
        turn.add(format!("output of exec, {name}, CPU ms/MB"), cost);
    }
    Ok(())
}

/// Runs a command to its end, which has to be good, and returns how much it wrote, bytes.
async fn run(client: &KubeletClient, path: &str, protocol: &'static str) -> Result<usize> {
    let running = async {
        let socket = client.session(path, protocol).await?;
        finish(socket).await
    };
    let ended = tokio::time::timeout(LIMIT, running).await.context("it does not end")?;
    ended.with_context(|| format!("{protocol} {path}"))
}

async fn finish(mut socket: Socket) -> Result<usize> {
    let (mut length, mut status) = (0, Vec::new());
    while let Some(message) = socket.next().await {
        let message = match message {
            Ok(Message::Binary(message)) => message,
            Ok(Message::Close(_)) => break,
            Ok(_) => continue,
            // Runtimes close without a word once the status is out.
            Err(_) if !status.is_empty() => break,
            Err(error) => return Err(error).context("read a message"),
        };
        match message.split_first() {
            Some((&STDOUT, data)) => length += data.len(),
            Some((&STATUS, data)) => status.extend_from_slice(data),
            _ => {}
        }
    }
    let said = String::from_utf8_lossy(&status);
    ensure!(said.contains("\"Success\""), "it ended with {said:?}");
    Ok(length)
}
