//! A thousand streams at once, of all kinds, through the API server to the real runtime: all of them open, all of them
//! answered twice, and nothing of them left afterwards.
//!
//! Most are port-forwards, followed logs and attachments. An exec is a process in a container that the runtime has to
//! start, at a tenth of a second of two cores, which bounds how many of them fit into a test.

use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{AsyncBufRead, AsyncBufReadExt as _, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{AttachParams, AttachedProcess, LogParams, Portforwarder};
use serde_json::json;
use tokio::io::{AsyncBufRead as AsyncBufReadTokio, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _};
use tokio::io::{AsyncWrite, AsyncWriteExt as _, BufReader, DuplexStream};

use super::floods::resident_kib;
use super::scene::{SOON, Scene, shell};
use crate::cluster::is_ready;
use crate::images::AGNHOST;
use crate::isolation::NODE;

/// More logs than there are inotify instances for one user (128, unless the machine was told otherwise), of which
/// upstream's kubelet needs one for each and refuses whoever comes then.
const LOGS: usize = 300;
const EXECS: usize = 60;
const ATTACHMENTS: usize = 240;
const FORWARDS: usize = 400;
/// How many are opened at a time.
const OPENING: usize = 40;
/// All of them together, on a busy machine.
const LIMIT: Duration = Duration::from_secs(150);
/// How much more memory the kubelet may use, kibibytes: 200 for each stream, of which TLS and HTTP take the most.
const GROWTH_KIB: u64 = 200_000;
/// Descriptors that may come and go meanwhile: of other connections, files being read.
const SPARE_DESCRIPTORS: usize = 30;

type Reader = Pin<Box<dyn AsyncRead + Send>>;

/// An open stream, with what keeps it open.
enum Stream {
    Exec { _process: AttachedProcess, stdin: Pin<Box<dyn AsyncWrite + Send>>, stdout: Reader },
    Attachment { _process: AttachedProcess, stdout: Pin<Box<dyn AsyncBufReadTokio + Send>> },
    Log(Pin<Box<dyn AsyncBufRead + Send>>),
    Forward { _forwarder: Portforwarder, stream: DuplexStream },
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Exec,
    Attachment,
    Log,
    Forward,
}

async fn open(pods: &Api<Pod>, kind: Kind) -> Result<Stream> {
    let params = AttachParams::default().stderr(false);
    match kind {
        Kind::Exec => {
            let params = params.container("talks").stdin(true);
            let mut process = pods.exec("box", ["cat"], &params).await.context("exec")?;
            let stdin = Box::pin(process.stdin().context("no standard input")?);
            let stdout = Box::pin(process.stdout().context("no standard output")?);
            Ok(Stream::Exec { _process: process, stdin, stdout })
        }
        Kind::Attachment => {
            let mut process = pods.attach("box", &params.container("talks")).await.context("attach")?;
            let stdout = process.stdout().context("no standard output")?;
            Ok(Stream::Attachment { _process: process, stdout: Box::pin(BufReader::new(stdout)) })
        }
        Kind::Log => {
            let container = Some("talks".to_owned());
            let params = LogParams { follow: true, container, tail_lines: Some(1), ..LogParams::default() };
            Ok(Stream::Log(Box::pin(pods.log_stream("box", &params).await.context("follow the log")?)))
        }
        Kind::Forward => {
            let mut forwarder = pods.portforward("box", &[8080]).await.context("forward a port")?;
            let stream = forwarder.take_stream(8080).context("no stream for the port")?;
            Ok(Stream::Forward { _forwarder: forwarder, stream })
        }
    }
}

impl Stream {
    /// Asks, where there is something to ask, and waits for what comes.
    async fn is_answered(&mut self) -> Result<()> {
        let mut line = String::new();
        match self {
            Self::Exec { stdin, stdout, .. } => {
                stdin.write_all(b"said\n").await.context("write to a program")?;
                stdin.flush().await.context("write to a program")?;
                let mut answer = [0; 5];
                stdout.read_exact(&mut answer).await.context("read from a program")?;
                ensure!(&answer == b"said\n", "cat says {answer:?}");
                return Ok(());
            }
            Self::Attachment { stdout, .. } => {
                stdout.read_line(&mut line).await.context("read from a container")?;
            }
            Self::Log(log) => {
                log.read_line(&mut line).await.context("read a log")?;
            }
            Self::Forward { stream, .. } => {
                let request = b"GET /hostname HTTP/1.1\r\nHost: box\r\n\r\n";
                stream.write_all(request).await.context("write to a port")?;
                let mut answer = String::new();
                let mut some = [0; 1024];
                while !answer.ends_with("\r\n\r\nbox") {
                    let count = stream.read(&mut some).await.context("read from a port")?;
                    ensure!(count > 0, "the port was closed after {answer:?}");
                    answer.push_str(&String::from_utf8_lossy(&some[..count]));
                }
                return Ok(());
            }
        }
        ensure!(line.starts_with("tick"), "the container says {line:?}");
        Ok(())
    }
}

/// One answer for each of them, all at the same time.
async fn all_are_answered(streams: &mut [Stream]) -> Result<()> {
    let all = futures::future::try_join_all(streams.iter_mut().map(Stream::is_answered));
    tokio::time::timeout(LIMIT, all).await.context("not all are answered")??;
    Ok(())
}

fn descriptors(pid: Option<u32>) -> Result<usize> {
    let folder = format!("/proc/{}/fd", pid.context("the kubelet does not run")?);
    Ok(std::fs::read_dir(&folder).with_context(|| format!("list {folder}"))?.count())
}

pub(super) async fn a_thousand_at_once(scene: Scene) -> Result<()> {
    let kubelet = &scene.cluster.kubelet;
    let server = json!({ "name": "main", "image": AGNHOST, "args": ["netexec", "--http-port=8080"],
        "readinessProbe": { "httpGet": { "port": 8080 }, "periodSeconds": 1 } });
    let ticks = shell("talks", "while :; do echo tick; sleep 1; done");
    scene.ready_pod("box", json!({ "containers": [server, ticks] })).await?;
    let pods = scene.api::<Pod>();
    // One of each first, so that what the first one needs is there already.
    for kind in [Kind::Exec, Kind::Attachment, Kind::Log, Kind::Forward] {
        let mut first = open(&pods, kind).await?;
        let answered = tokio::time::timeout(SOON, first.is_answered()).await;
        answered.with_context(|| format!("{kind:?} is not answered"))??;
    }
    let memory = resident_kib(kubelet.pid())?;
    let files = descriptors(kubelet.pid())?;

    let wanted =
        [(Kind::Forward, FORWARDS), (Kind::Log, LOGS), (Kind::Attachment, ATTACHMENTS), (Kind::Exec, EXECS)];
    let kinds = wanted.into_iter().flat_map(|(kind, count)| std::iter::repeat_n(kind, count));
    let opening = futures::stream::iter(kinds)
        .map(|kind| open(&pods, kind))
        .buffer_unordered(OPENING)
        .try_collect::<Vec<_>>();
    let mut streams = tokio::time::timeout(LIMIT, opening).await.context("they do not open")??;
    all_are_answered(&mut streams).await?;
    let grown = resident_kib(kubelet.pid())?.saturating_sub(memory);
    let open_files = descriptors(kubelet.pid())?;
    ensure!(open_files > files + LOGS, "they are all open: {files} descriptors before, {open_files} now");
    all_are_answered(&mut streams).await?;
    ensure!(grown < GROWTH_KIB, "{grown} KiB more than before for {} streams", streams.len());
    eprintln!("{} streams: {grown} KiB more than before", streams.len());

    let nodes: Api<Node> = Api::all(scene.cluster.client.clone());
    let node = nodes.get(NODE).await.context("look at the node")?;
    ensure!(is_ready(Some(&node)), "the node is Ready: {:?}", node.status);
    drop(streams);
    let closed = async || {
        let left = descriptors(kubelet.pid())?;
        ensure!(left < files + SPARE_DESCRIPTORS, "{left} descriptors are open, and {files} before");
        let cats = scene.kubectl_with(b"", &["exec", "box", "-c", "talks", "--", "pidof", "cat"]).await?;
        ensure!(cats.code != 0 && cats.out.trim().is_empty(), "programs still run: {cats:?}");
        Ok(())
    };
    kubelet.answers(SOON, closed).await
}
