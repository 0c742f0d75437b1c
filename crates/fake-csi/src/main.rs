//! The program: reads its flags and serves until SIGTERM or SIGINT, then removes the socket it registers by.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use fake_csi::{Capability, Driver, Options, Server};
use tokio::signal::unix::{SignalKind, signal};

/// A CSI driver for tests of kubelets.
#[derive(Parser)]
struct Flags {
    /// The socket it registers by.
    #[arg(long)]
    registration: PathBuf,
    /// The socket it speaks CSI on.
    #[arg(long)]
    socket: PathBuf,
    /// The socket for commands: one a line, such as `hang NodeGetInfo`.
    #[arg(long)]
    control: PathBuf,
    /// The folder with its volumes, and with what it knows of them.
    #[arg(long)]
    volumes: PathBuf,
    /// Its name.
    #[arg(long)]
    name: String,
    /// The type of plugin it says it is.
    #[arg(long, default_value = "CSIPlugin")]
    kind: String,
    /// A version of CSI it says it speaks; may be repeated.
    #[arg(long = "csi-version", default_value = "1.13.0")]
    versions: Vec<String>,
    /// What it calls the node.
    #[arg(long, default_value = "the-node")]
    node_id: String,
    /// How many volumes it says the node can have.
    #[arg(long, default_value_t = 0)]
    max_volumes: i64,
    /// Calls of this kind are not answered before a command releases them; may be repeated.
    #[arg(long)]
    hang: Vec<String>,
    /// Where it says the node is, `KEY=VALUE`; may be repeated.
    #[arg(long)]
    topology: Vec<String>,
    /// What it says it can do: `stage`, `single-node-writers`, `group`, `stats` or `expand`; may be repeated.
    #[arg(long = "capability")]
    capabilities: Vec<Capability>,
    /// Has the service Controller: volumes are made and attached by that, and not by naming them.
    #[arg(long)]
    controller: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    let pair = |text: &String| text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    let topology = flags.topology.iter().map(|text| pair(text).with_context(|| format!("topology {text:?}")));
    let driver = Driver {
        kind: flags.kind,
        name: flags.name,
        versions: flags.versions,
        node_id: flags.node_id,
        max_volumes: flags.max_volumes,
        topology: topology.collect::<anyhow::Result<_>>()?,
        capabilities: flags.capabilities,
        has_controller: flags.controller,
    };
    let registration = flags.registration;
    let server = Server::bind(Options {
        registration: registration.clone(),
        socket: flags.socket,
        control: flags.control,
        volumes: flags.volumes,
        driver,
        hung: flags.hang,
    })?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    // Cancel-safe: the server goes as a whole.
    tokio::select! {
        ended = server.serve() => ended.map(|never| match never {}).context("the server ended")?,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    std::fs::remove_file(&registration).with_context(|| format!("remove {}", registration.display()))
}
