//! The program: reads its flags and serves until SIGTERM or SIGINT.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use fake_cri::{Latencies, Options, Server};
use tokio::signal::unix::{SignalKind, signal};

/// A container runtime without containers, for benches and fault tests of kubelets.
#[derive(Parser)]
struct Flags {
    /// The socket it speaks CRI v1 on.
    #[arg(long)]
    socket: PathBuf,
    /// The socket for commands: one a line, such as `end default/web 1`.
    #[arg(long)]
    control: PathBuf,
    /// A folder on the file system that images are said to be on.
    #[arg(long)]
    image_folder: PathBuf,
    /// How long a call takes, `CALL=DURATION`, such as `RunPodSandbox=20ms`; may be repeated.
    #[arg(long)]
    latency: Vec<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    let latencies = Latencies::parse(flags.latency.iter().map(String::as_str))?;
    let server = Server::bind(Options {
        socket: flags.socket,
        control: flags.control,
        image_folder: flags.image_folder,
        latencies,
    })?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    // Cancel-safe: the server goes as a whole.
    tokio::select! {
        ended = server.serve() => ended.map(|never| match never {}).context("the server ended"),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}
