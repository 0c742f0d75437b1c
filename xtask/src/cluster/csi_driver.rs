//! `fake-csi`, a CSI driver that does each call as it is told.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use super::{Cluster, KUBELET_ROOT};
use crate::process::{Program, Service};
use crate::workspace;

/// A driver, and the way to command it.
pub(crate) struct CsiDriver {
    service: Service,
    registration: PathBuf,
    socket: PathBuf,
    control: PathBuf,
    volumes: PathBuf,
}

impl CsiDriver {
    /// A driver that is not started yet. Its sockets have its program's name, unless it registers at another's.
    pub(crate) fn new(
        cluster: &Cluster,
        program: &'static str,
        registers_at: Option<&CsiDriver>,
        flags: &[&str],
    ) -> Result<Self> {
        let own = registry(program)?;
        let registration = registers_at.map_or(own, |other| other.registration.clone());
        Self::registering_at(cluster, program, registration, flags)
    }

    /// A driver that no kubelet hears of.
    pub(crate) fn unregistered(cluster: &Cluster, program: &'static str, flags: &[&str]) -> Result<Self> {
        let registration = volumes(cluster, program).join("reg.sock");
        Self::registering_at(cluster, program, registration, flags)
    }

    fn registering_at(
        cluster: &Cluster,
        program: &'static str,
        registration: PathBuf,
        flags: &[&str],
    ) -> Result<Self> {
        let binary = cluster.paths.fake_csi.clone().context("fake-csi was not built")?;
        let folder = Path::new(KUBELET_ROOT).join("plugins").join(program);
        workspace::create_dir(&folder)?;
        let (socket, control) = (folder.join("csi.sock"), folder.join("control.sock"));
        // Its volumes outlive it, and the scenario.
        let volumes = volumes(cluster, program);
        workspace::create_dir(&volumes)?;
        let mut args = vec![
            format!("--registration={}", registration.display()),
            format!("--socket={}", socket.display()),
            format!("--control={}", control.display()),
            format!("--volumes={}", volumes.display()),
        ];
        args.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let service = cluster.guest(Program::new(program, binary, args));
        Ok(Self { service, registration, socket, control, volumes })
    }

    /// A driver that registers by upstream's gRPC library, as the Go kubelet needs it: what it says itself of its registration
    /// nobody hears.
    pub(crate) fn with_registrar(
        cluster: &Cluster,
        program: &'static str,
        name: &str,
        flags: &[&str],
    ) -> Result<(Self, Service)> {
        let driver = Self::unregistered(cluster, program, flags)?;
        let binary = cluster.paths.peers.plugin_registrar().to_owned();
        let args =
            [registry(program)?.display().to_string(), name.to_owned(), driver.socket.display().to_string()];
        Ok((driver, cluster.guest(Program::new("plugin-registrar", binary, args))))
    }

    /// Starts it. It can be commanded from then on, and its sockets are there.
    pub(crate) async fn start(&self) -> Result<()> {
        self.service.start().await?;
        let answers = || async { self.command("count Probe").await };
        self.service.answers(std::time::Duration::from_secs(30), answers).await.map(drop)
    }

    /// Ends it; it removes the socket it registers by.
    pub(crate) async fn stop(&self) -> Result<()> {
        self.service.stop().await
    }

    /// Ends it, and the socket it registers by stays.
    pub(crate) async fn kill(&self) -> Result<()> {
        self.service.kill().await
    }

    /// The socket it registers by.
    pub(crate) fn registration(&self) -> &Path {
        &self.registration
    }

    /// The socket it speaks CSI on.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The folder with its volumes.
    pub(crate) fn volumes(&self) -> &Path {
        &self.volumes
    }

    /// What the kubelet said of its registration last: `registered`, or why it is not.
    pub(crate) async fn said(&self) -> Result<String> {
        self.command("said").await
    }

    /// Waits until a call was made that often.
    pub(crate) async fn counted(&self, call: &str, number: u64) -> Result<()> {
        self.command(&format!("counted {call} {number}")).await.map(drop)
    }

    /// Tells it something.
    pub(crate) async fn command(&self, line: &str) -> Result<String> {
        let ask = async {
            let mut stream = UnixStream::connect(&self.control).await?;
            stream.write_all(format!("{line}\n").as_bytes()).await?;
            let mut answer = String::new();
            BufReader::new(stream).read_line(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        let answer = ask.await.with_context(|| format!("tell fake-csi: {line}"))?;
        match answer.trim_end().split_once(' ').unwrap_or((answer.trim_end(), "")) {
            ("ok", text) => Ok(text.to_owned()),
            _ => bail!("fake-csi was told {line:?} and answers {answer:?}"),
        }
    }
}

/// The folder with a driver's volumes.
fn volumes(cluster: &Cluster, program: &str) -> PathBuf {
    cluster.paths.file("csi").join(program)
}

/// The socket where the kubelet looks for a driver.
fn registry(program: &str) -> Result<PathBuf> {
    let registries = Path::new(KUBELET_ROOT).join("plugins_registry");
    workspace::create_dir(&registries)?;
    Ok(registries.join(format!("{program}-reg.sock")))
}
