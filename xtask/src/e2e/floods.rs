//! Many callers without credentials, who mean ill: random paths, endless bodies, heads that never end, connections
//! that never say anything. The node stays as it is: in memory, in what it counts, and Ready.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use http::header::{AUTHORIZATION, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::scene::{SOON, Scene};
use crate::cluster::is_ready;
use crate::isolation::NODE;

/// The kubelet's port.
pub(super) const KUBELET: &str = "127.0.0.1:10250";
const HEALTHZ: &str = "127.0.0.1:10248";

/// Requests with random paths, over this many connections at a time.
const REQUESTS: usize = 10_000;
const REQUESTING: usize = 20;
/// Bodies, and their size in bytes.
const BODIES: usize = 8;
const BODY_BYTES: usize = 100 << 20;
/// Connections that begin a head and never end it.
const SLOW: usize = 200;
/// Connections that say nothing.
const IDLE: usize = 5000;
/// How much more memory the kubelet may use in all of this, kibibytes. What it keeps for each connection without
/// credentials is bounded by their number, which is bounded; allocators keep some of what was freed.
const GROWTH_KIB: u64 = 48 << 10;

/// The flood, wave after wave, the later ones on top of the open connections of the earlier ones.
pub(super) async fn strangers_change_nothing(scene: Scene) -> Result<()> {
    let kubelet = &scene.cluster.kubelet;
    // Once, so that what the first request needs is there already.
    tokio::time::timeout(SOON, get(KUBELET, "/pods", None)).await.context("no first answer")??;
    let labels = labels(&scene).await?;
    let before = resident_kib(kubelet.pid())?;

    random_paths().await.context("ask for random paths")?;
    let after = self::labels(&scene).await?;
    let new: Vec<_> = after.difference(&labels).collect();
    // Of the paths' roots that were asked for, each with each method at most once.
    ensure!(new.len() < 100, "{} new series of metrics: {:?}", new.len(), &new[..5]);
    bodies().await.context("send large bodies")?;
    let slow = slow_heads().await.context("send slow heads")?;
    let idle = idle().await.context("open idle connections")?;

    // All of them still there, as far as the other side has not closed them.
    let grown = resident_kib(kubelet.pid())?.saturating_sub(before);
    ensure!(grown < GROWTH_KIB, "{grown} KiB more than before");
    let health = tokio::time::timeout(SOON, plain(HEALTHZ, "/healthz")).await.context("no health")??;
    ensure!(health.ends_with("ok"), "healthz says {health:?}");
    // The API server still gets in.
    let path = format!("/api/v1/nodes/{NODE}/proxy/healthz");
    let health = scene.kubectl_out(&["get", "--raw", &path]).await?;
    ensure!(health == "ok", "healthz says {health:?} to the API server");
    let nodes: Api<Node> = Api::all(scene.cluster.client.clone());
    let node = nodes.get(NODE).await.context("look at the node")?;
    ensure!(is_ready(Some(&node)), "the node is Ready: {:?}", node.status);
    drop((slow, idle));
    Ok(())
}

async fn random_paths() -> Result<()> {
    let roots = ["", "/exec", "/metrics", "/logs", "/pods", "/stats", "/debug/pprof", "/healthz", "/run"];
    let workers = (0..REQUESTING).map(|worker| async move {
        let mut sender = connect(KUBELET).await?;
        for i in 0..REQUESTS / REQUESTING {
            let root = roots[i % roots.len()];
            let path = format!("{root}/{worker:x}{i:x}/{}", i.wrapping_mul(2_654_435_761) % 9973);
            let method = ["GET", "POST", "DELETE", "ODD"][i % 4];
            if sender.ready().await.is_err() {
                // The other side may close a connection whenever it likes.
                sender = connect(KUBELET).await?;
            }
            let request = Request::builder().method(method).uri(&path).header(HOST, "node");
            let answer = sender.send_request(request.body(Empty::<Bytes>::new())?).await;
            let (head, body) = answer.with_context(|| format!("{method} {path}"))?.into_parts();
            body.collect().await.context("read an answer")?;
            let refused = [StatusCode::UNAUTHORIZED, StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED];
            ensure!(refused.contains(&head.status), "{method} {path} is {}", head.status);
        }
        anyhow::Ok(())
    });
    let running = futures::stream::iter(workers).buffer_unordered(REQUESTING).try_collect::<()>();
    tokio::time::timeout(SOON * 2, running).await.context("they are not answered")?
}

/// Sends bodies until the other side has had enough of them, to the port with TLS and to the one without.
async fn bodies() -> Result<()> {
    let one = |i: usize| async move {
        let path = ["/exec/ns/pod/main?input=1", "/debug/flags/v", "/run/ns/pod/main", "/healthz"][i % 4];
        let head = format!("POST {path} HTTP/1.1\r\nhost: node\r\ncontent-length: {BODY_BYTES}\r\n\r\n");
        if i.is_multiple_of(2) {
            pour(speak_tls(KUBELET).await?, head).await;
        } else {
            pour(TcpStream::connect(HEALTHZ).await?, head).await;
        }
        anyhow::Ok(())
    };
    let all = futures::stream::iter((0..BODIES).map(one)).buffer_unordered(BODIES).try_collect::<()>();
    tokio::time::timeout(SOON * 2, all).await.context("they do not end")?
}

async fn pour<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(stream: S, head: String) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let part = vec![b'x'; 1 << 20];
    let write = async {
        let mut result = writer.write_all(head.as_bytes()).await;
        for _ in 0..BODY_BYTES / part.len() {
            if result.is_err() {
                return;
            }
            result = writer.write_all(&part).await;
        }
    };
    let read = async {
        let mut answer = Vec::new();
        // Until the connection is closed, in good order or not.
        let _ = reader.read_to_end(&mut answer).await;
    };
    // Cancel-safe: whoever ends first, the connection has come to its end.
    tokio::select! {
        () = write => {}
        () = read => {}
    }
}

async fn slow_heads() -> Result<Vec<TlsStream<TcpStream>>> {
    let mut slow = Vec::with_capacity(SLOW);
    for _ in 0..SLOW {
        let mut stream = speak_tls(KUBELET).await?;
        stream.write_all(b"GET /pods HTTP/1.1\r\nx-slow: ").await.context("begin a head")?;
        stream.flush().await.context("begin a head")?;
        slow.push(stream);
    }
    Ok(slow)
}

async fn idle() -> Result<Vec<TcpStream>> {
    // Not an async closure: over those rustc 1.95 stumbles when it builds incrementally.
    let connect = |_| async { TcpStream::connect(KUBELET).await.context("connect") };
    let all = futures::stream::iter(0..IDLE).map(connect).buffer_unordered(100).try_collect::<Vec<_>>();
    tokio::time::timeout(SOON * 2, all).await.context("they are not taken")?
}

/// The series of the metrics about requests.
async fn labels(scene: &Scene) -> Result<BTreeSet<String>> {
    let text = scene.kubectl_out(&["get", "--raw", &format!("/api/v1/nodes/{NODE}/proxy/metrics")]).await?;
    let series = text.lines().filter(|line| line.starts_with("kubelet_http_requests_total{"));
    Ok(series.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect())
}

pub(super) fn resident_kib(pid: Option<u32>) -> Result<u64> {
    let path = format!("/proc/{}/status", pid.context("the kubelet does not run")?);
    let status = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("its memory")?;
    line.trim().trim_end_matches(" kB").parse().context("read its memory")
}

/// Asks over TLS and returns the status.
pub(super) async fn get(address: &str, path: &str, token: Option<&str>) -> Result<StatusCode> {
    let mut sender = connect(address).await?;
    let mut request = Request::get(path).header(HOST, "node");
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    Ok(sender.send_request(request.body(Empty::new())?).await.context("wait for an answer")?.status())
}

async fn plain(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.context("ask")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.context("read the answer")?;
    Ok(answer)
}

async fn connect(address: &str) -> Result<SendRequest<Empty<Bytes>>> {
    let stream = speak_tls(address).await?;
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.context("speak HTTP")?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn speak_tls(address: &str) -> Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("choose TLS versions")?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer))
        .with_no_client_auth();
    let name = ServerName::try_from("node").context("name the server")?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.context("speak TLS")
}

/// UnauthenticatedConnections do not care whom they talk to.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
