//! Real connections on loopback: TLS with certificates made here, a fake bundle of ports behind.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use model::{Pod, PodKey};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

mod endings;
mod hostile;

use super::*;
use crate::certificate::ServingCertificate;
use crate::endpoint::{HealthCheck, MetricsKind};
use crate::ports::{
    AccessPorts, BuildInfo, ContainerTarget, LogQuery, PodPorts, PodWithStatus, ProcessPorts, RequestKind,
    RequestPorts, ServedRequest, StreamError, StreamPorts, Streams, SummaryParts, TokenReviewEvent,
    UsagePorts,
};
use crate::settings::{AccessSettings, Authorization, EndpointSettings, SystemLogSettings, TlsSettings};

#[derive(Clone, Default)]
struct Fake {
    pods: Vec<Arc<Pod>>,
    stream_url: String,
    sick: Option<HealthCheck>,
    log: Arc<Mutex<Option<mpsc::Receiver<io::Result<Bytes>>>>>,
    reviews: Arc<AtomicUsize>,
    questions: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<RequestKind>>>,
    served: Arc<Mutex<Vec<ServedRequest>>>,
    ended: Arc<tokio::sync::Notify>,
    freed: Arc<tokio::sync::Notify>,
    tokens: Arc<Mutex<Vec<TokenReviewEvent>>>,
    verbosity: Arc<AtomicU32>,
    health: Arc<Mutex<Vec<(HealthCheck, bool)>>>,
}

fn shown(pod: &Arc<Pod>) -> PodWithStatus {
    let status = Arc::new(pod.status.clone().unwrap_or_default());
    PodWithStatus { metadata: pod.metadata.clone(), pod: pod.clone(), status }
}

impl PodPorts for Fake {
    fn pods(&self) -> Vec<PodWithStatus> {
        self.pods.iter().map(shown).collect()
    }

    fn pod(&self, key: &PodKey) -> Option<Arc<Pod>> {
        self.pods.iter().find(|pod| model::pod::key(pod) == *key).cloned()
    }

    fn allocated_pods(&self) -> Vec<PodWithStatus> {
        self.pods()
    }

    async fn running_pods(&self) -> Result<Vec<Pod>, String> {
        Err("runtime is away".into())
    }

    async fn container_log(
        &self,
        _pod: &Arc<Pod>,
        _container: &str,
        query: LogQuery,
    ) -> Result<BoxStream<'static, io::Result<Bytes>>, String> {
        if query.is_previous {
            return Err("previous terminated container \"main\" in pod \"web\" not found".into());
        }
        let receiver = self.log.lock().unwrap().take().unwrap();
        Ok(futures::stream::unfold(receiver, async |mut r| r.recv().await.map(|item| (item, r))).boxed())
    }
}

impl StreamPorts for Fake {
    async fn exec_url(
        &self,
        _: &ContainerTarget,
        command: Vec<String>,
        _: Streams,
    ) -> Result<String, StreamError> {
        match command.first().map(String::as_str) {
            Some("gone") => Err(StreamError::NotFound("no such container".into())),
            Some("busy") => Err(StreamError::Exhausted("too many".into())),
            Some("broken") => Err(StreamError::Other("broken".into())),
            _ => Ok(self.stream_url.clone()),
        }
    }

    async fn attach_url(&self, _: &ContainerTarget, _: Streams) -> Result<String, StreamError> {
        Ok(self.stream_url.clone())
    }

    async fn free_input(&self, _: &ContainerTarget) -> bool {
        self.freed.notify_one();
        true
    }

    async fn port_forward_url(&self, _: &Arc<Pod>, _: Vec<u16>) -> Result<String, StreamError> {
        Ok(self.stream_url.clone())
    }

    async fn exec_sync(&self, _: &ContainerTarget, command: Vec<String>) -> Result<Vec<u8>, String> {
        Ok(command.join("|").into_bytes())
    }

    async fn checkpoint(&self, target: &ContainerTarget, timeout: i64) -> Result<String, String> {
        match timeout {
            0..10 => Ok(format!("/checkpoints/{}-{timeout}.tar", target.container)),
            _ => Err("the runtime cannot do that".into()),
        }
    }

    fn websocket_session(&self, _kind: &'static str) {}
}

impl UsagePorts for Fake {
    async fn metrics(&self, kind: MetricsKind) -> Result<Bytes, String> {
        Ok(Bytes::from(format!("{kind:?} 1\n").repeat(100)))
    }

    fn reset_sli_metrics(&self) {}

    async fn summary(&self, parts: SummaryParts) -> Result<Bytes, String> {
        match parts {
            SummaryParts::All => Ok(Bytes::from_static(b"{}")),
            SummaryParts::CpuAndMemory => Err("no sample".into()),
        }
    }
}

impl ProcessPorts for Fake {
    fn config(&self) -> serde_json::Value {
        serde_json::json!({ "kind": "KubeletConfiguration" })
    }

    fn flags(&self) -> Arc<std::collections::BTreeMap<&'static str, String>> {
        Arc::new([("v", "2".to_owned()), ("port", "10250".to_owned())].into())
    }

    fn build_info(&self) -> BuildInfo {
        BuildInfo { started: jiff::Timestamp::UNIX_EPOCH, version: "1.37.2".into(), emulated: "1.37".into() }
    }

    fn set_verbosity(&self, level: u32) {
        self.verbosity.store(level, Ordering::Relaxed);
    }

    fn check_health(&self, check: HealthCheck) -> Result<(), String> {
        if self.sick == Some(check) { Err("stuck".into()) } else { Ok(()) }
    }

    fn observe_health(&self, check: HealthCheck, is_healthy: bool) {
        self.health.lock().unwrap().push((check, is_healthy));
    }
}

impl AccessPorts for Fake {
    async fn authenticate_token(&self, token: &str) -> Result<Option<UserInfo>, String> {
        self.reviews.fetch_add(1, Ordering::SeqCst);
        match token {
            "outage" => Err("connection refused".into()),
            "bad" => Ok(None),
            name => Ok(Some(UserInfo { name: name.into(), ..UserInfo::default() })),
        }
    }

    async fn authorize(&self, user: &UserInfo, asked: &Attributes) -> Result<Decision, String> {
        self.questions.fetch_add(1, Ordering::SeqCst);
        assert_eq!(asked.node_name, "node-1");
        let is_allowed = match user.name.as_str() {
            "admin" => user.groups == ["ops", "system:authenticated"],
            "root" => user.groups == ["system:authenticated"],
            "reader" => asked.verb == "get" && matches!(asked.subresource, "pods" | "metrics"),
            "proxy" => asked.subresource == "proxy",
            "undecided" => return Err("webhook is down".into()),
            _ => false,
        };
        Ok(if is_allowed { Decision::Allow } else { Decision::Deny })
    }

    fn token_review_event(&self, event: TokenReviewEvent) {
        self.tokens.lock().unwrap().push(event);
    }
}

impl RequestPorts for Fake {
    fn request_begins(&self, request: &RequestKind) {
        self.seen.lock().unwrap().push(*request);
    }

    fn request_ended(&self, request: &ServedRequest) {
        self.served.lock().unwrap().push(*request);
        self.ended.notify_one();
    }
}

fn pod() -> Arc<Pod> {
    let mut pod = Pod::default();
    pod.metadata.name = Some("web".into());
    pod.metadata.namespace = Some("ns".into());
    pod.metadata.uid = Some("u1".into());
    let container = Container { name: "main".into(), ..Container::default() };
    pod.spec = Some(PodSpec { containers: vec![container], ..PodSpec::default() });
    pod.status = Some(k8s_openapi::api::core::v1::PodStatus::default());
    Arc::new(pod)
}

/// An authority and what it signs.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn client(&self, name: &str, group: &str) -> Identity {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity { certificate: certificate.der().clone(), key: key.serialize_der() }
    }
}

#[derive(Clone)]
struct Identity {
    certificate: rustls::pki_types::CertificateDer<'static>,
    key: Vec<u8>,
}

/// A running server and what it takes to talk to it.
struct Node {
    addresses: Addresses,
    certificate: ServingCertificate,
    authority: Authority,
    stop: Option<oneshot::Sender<()>>,
    served: tokio::task::JoinHandle<()>,
    folder: TempDir,
}

const ALL_ENDPOINTS: EndpointSettings = EndpointSettings {
    has_debugging: true,
    has_system_logs: false,
    has_profiling: false,
    has_debug_flags: false,
    has_allocated_pods: true,
    has_log_streams: false,
    translates_websockets: true,
    has_checkpoint: true,
    has_flags: true,
    has_status: true,
    has_device_plugins: false,
};

async fn start(ports: Fake, change: impl FnOnce(&mut Settings)) -> Node {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new("clients");
    let ca_file = folder.path().join("ca.crt");
    std::fs::write(&ca_file, authority.0.pem()).unwrap();
    let certificate =
        ServingCertificate::self_signed(folder.path(), &["node-1".into()], &[Ipv4Addr::LOCALHOST.into()])
            .unwrap();
    let mut settings = Settings {
        node_name: "node-1".into(),
        address: Ipv4Addr::LOCALHOST.into(),
        port: 0,
        read_only_port: Some(0),
        healthz: Some((Ipv4Addr::LOCALHOST, 0).into()),
        endpoints: ALL_ENDPOINTS,
        system_logs: SystemLogSettings {
            has_query: true,
            root: folder.path().join("log"),
            journalctl: folder.path().join("journalctl"),
        },
        access: AccessSettings {
            is_anonymous_allowed: false,
            token_cache_ttl: Some(Duration::from_secs(120)),
            client_ca_file: Some(ca_file),
            reloads_client_ca: true,
            reads_uid_from_certificates: true,
            authorization: Authorization::Webhook {
                allowed_ttl: Duration::from_secs(300),
                denied_ttl: Duration::from_secs(30),
            },
        },
        tls: TlsSettings::default(),
        streaming_idle_timeout: Duration::from_secs(4 * 3600),
    };
    change(&mut settings);
    let server = Server::bind(settings, certificate.clone()).await.unwrap();
    let addresses = server.addresses().unwrap();
    let (stop, stopped) = oneshot::channel();
    let served = tokio::spawn(server.serve(ports, async { stopped.await.unwrap_or(()) }));
    Node { addresses, certificate, authority, stop: Some(stop), served, folder }
}

#[derive(Debug)]
struct AnyServer;

impl rustls::client::danger::ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

type Tls = tokio_rustls::client::TlsStream<TcpStream>;

async fn tls(address: SocketAddr, identity: Option<&Identity>, alpn: &[u8]) -> io::Result<Tls> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer));
    let mut config = match identity {
        Some(identity) => builder
            .with_client_auth_cert(
                vec![identity.certificate.clone()],
                PrivateKeyDer::try_from(identity.key.clone()).unwrap(),
            )
            .unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    let tcp = TcpStream::connect(address).await?;
    let name = rustls::pki_types::ServerName::try_from("node-1").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}

struct Reply {
    status: StatusCode,
    headers: http::HeaderMap,
    body: Bytes,
}

impl Reply {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

async fn send<S, B>(io: S, request: Request<B>) -> http::Response<Incoming>
where
    B: hyper::body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await.unwrap()
}

async fn finish(response: http::Response<Incoming>) -> Reply {
    let (head, body) = response.into_parts();
    Reply { status: head.status, headers: head.headers, body: body.collect().await.unwrap().to_bytes() }
}

fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request<Empty<Bytes>> {
    let mut request = Request::builder().method(method).uri(path).header("host", "node-1");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Empty::new()).unwrap()
}

impl Node {
    async fn ask<B>(&self, identity: Option<&Identity>, request: Request<B>) -> Reply
    where
        B: hyper::body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        let io = tls(self.addresses.main, identity, b"http/1.1").await.unwrap();
        finish(send(io, request).await).await
    }

    async fn get_as(&self, token: &str, path: &str) -> Reply {
        self.ask(None, request("GET", path, &[("authorization", &format!("Bearer {token}"))])).await
    }

    async fn plain(&self, address: SocketAddr, method: &str, path: &str) -> Reply {
        let io = TcpStream::connect(address).await.unwrap();
        finish(send(io, request(method, path, &[])).await).await
    }
}

fn fake() -> Fake {
    Fake { pods: vec![pod()], ..Fake::default() }
}

#[tokio::test]
async fn access_depends_on_identity_method_and_endpoint() {
    let node = start(fake(), |_| {}).await;
    let admin = node.authority.client("admin", "ops");
    let stranger = Authority::new("others").client("admin", "ops");
    for (identity, token, method, path, status, text) in [
        (None, None, "GET", "/pods", 401, "Unauthorized"),
        (None, None, "GET", "/nowhere", 404, "404 page not found\n"),
        (Some(&admin), None, "GET", "/pods", 200, ""),
        (Some(&admin), None, "POST", "/run/ns/web/main?cmd=ls%20-l", 200, "ls|-l"),
        (Some(&stranger), None, "GET", "/pods", 401, "Unauthorized"),
        (Some(&stranger), Some("root"), "GET", "/pods", 200, ""),
        (None, Some("root"), "GET", "/pods", 200, ""),
        (None, Some("bad"), "GET", "/pods", 401, "Unauthorized"),
        (None, Some("outage"), "GET", "/pods", 401, "Unauthorized"),
        (None, Some("reader"), "GET", "/pods", 200, ""),
        (None, Some("reader"), "GET", "/metrics/resource", 200, ""),
        (
            None,
            Some("reader"),
            "GET",
            "/healthz",
            403,
            "Forbidden (user=reader, verb=get, resource=nodes, subresource(s)=[healthz proxy])\n",
        ),
        (
            None,
            Some("reader"),
            "POST",
            "/run/ns/web/main",
            403,
            "Forbidden (user=reader, verb=create, resource=nodes, subresource(s)=[proxy])\n",
        ),
        (None, Some("proxy"), "GET", "/pods", 200, ""),
        (
            None,
            Some("proxy"),
            "GET",
            "/configz",
            200,
            "{\"kubeletconfig\":{\"kind\":\"KubeletConfiguration\"}}",
        ),
        (None, Some("proxy"), "GET", "/metrics", 403, ""),
        (None, Some("root"), "POST", "/pods", 405, "405: Method Not Allowed"),
        (None, Some("reader"), "POST", "/pods", 403, ""),
        (
            None,
            Some("undecided"),
            "GET",
            "/pods",
            500,
            "Authorization error (user=undecided, verb=get, resource=nodes, subresource=pods)",
        ),
    ] {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = bearer.iter().map(|value| ("authorization", value.as_str())).collect();
        let reply = node.ask(identity, request(method, path, &headers)).await;
        assert_eq!(reply.status.as_u16(), status, "{token:?} {method} {path}: {}", reply.text());
        assert!(text.is_empty() || reply.text() == text, "{token:?} {method} {path}: {}", reply.text());
    }
}

#[tokio::test]
async fn anonymous_comes_in_only_without_credentials() {
    let node = start(fake(), |settings| {
        settings.access.is_anonymous_allowed = true;
        settings.access.authorization = Authorization::AlwaysAllow;
    })
    .await;
    assert_eq!(node.ask(None, request("GET", "/pods", &[])).await.status, StatusCode::OK);
    assert_eq!(node.get_as("bad", "/pods").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn answers_of_the_api_server_are_remembered() {
    let ports = fake();
    let node = start(ports.clone(), |_| {}).await;
    for _ in 0..3 {
        assert_eq!(node.get_as("reader", "/pods").await.status, StatusCode::OK);
        assert_eq!(node.get_as("bad", "/pods").await.status, StatusCode::UNAUTHORIZED);
        assert_eq!(node.get_as("reader", "/healthz").await.status, StatusCode::FORBIDDEN);
        assert_eq!(node.get_as("outage", "/pods").await.status, StatusCode::UNAUTHORIZED);
    }
    // One for each of the two users, and an outage is never an answer.
    assert_eq!(ports.reviews.load(Ordering::SeqCst), 1 + 1 + 3);
    assert_eq!(ports.questions.load(Ordering::SeqCst), 1 + 2);
}

#[tokio::test]
async fn lists_health_and_metrics() {
    let ports = Fake { sick: Some(HealthCheck::SyncLoop), ..fake() };
    let node = start(ports.clone(), |settings| settings.endpoints.has_device_plugins = true).await;
    let list = node.get_as("root", "/pods/").await;
    assert_eq!(list.headers["content-type"], "application/json");
    let list: serde_json::Value = serde_json::from_slice(&list.body).unwrap();
    assert_eq!((&list["kind"], &list["apiVersion"]), (&"PodList".into(), &"v1".into()));
    assert_eq!(list["items"][0]["metadata"]["name"], "web");
    assert!(list["items"][0].get("status").is_some());
    let one = node.get_as("root", "/allocatedPods/ns/web").await;
    let one: serde_json::Value = serde_json::from_slice(&one.body).unwrap();
    assert_eq!((&one["kind"], &one["status"]), (&"Pod".into(), &serde_json::json!({})));
    let running = node.get_as("root", "/runningpods/").await;
    assert_eq!((running.status.as_u16(), running.text()), (500, "runtime is away"));

    let sick = "[+]ping ok\n[+]log ok\n[-]syncloop failed: reason withheld\n[+]device-plugin ok\n";
    for (path, status, text) in [
        ("/healthz", 500, format!("{sick}healthz check failed\n")),
        ("/healthz/syncloop", 500, "internal server error: stuck\n".into()),
        ("/healthz/ping", 200, "ok".into()),
        ("/healthz?exclude=syncloop", 200, "ok".into()),
        (
            "/healthz?verbose&exclude=syncloop&exclude=x",
            200,
            "[+]ping ok\n[+]log ok\n[+]syncloop excluded: ok\n[+]device-plugin ok\n\
             warn: some health checks cannot be excluded: no matches for \"x\"\nhealthz check passed\n"
                .into(),
        ),
        ("/stats/summary", 200, "{}".into()),
        ("/stats/summary?only_cpu_and_memory=true", 500, "Internal Error: no sample".into()),
    ] {
        let reply = node.get_as("root", path).await;
        assert_eq!((reply.status.as_u16(), reply.text()), (status, text.as_str()), "{path}");
    }

    let plain = node.get_as("root", "/metrics").await;
    assert_eq!(
        plain.headers["content-type"],
        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
    );
    assert!(
        plain.headers["process-start-time-unix"].to_str().unwrap().parse::<u64>().unwrap() > 1_700_000_000
    );
    let headers = [("authorization", "Bearer root"), ("accept-encoding", "gzip;q=1.0, deflate")];
    let zipped = node.ask(None, request("GET", "/metrics", &headers)).await;
    assert_eq!(zipped.headers["content-encoding"], "gzip");
    let mut text = String::new();
    io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&zipped.body[..]), &mut text).unwrap();
    assert_eq!(text, plain.text());
    let seen = ports.seen.lock().unwrap();
    assert_eq!((seen[0].method, seen[0].path, seen[0].server_type), ("GET", "pods", "readwrite"));
}

#[tokio::test]
async fn plain_servers_show_less() {
    let node = start(fake(), |_| {}).await;
    let (read_only, healthz) = (node.addresses.read_only.unwrap(), node.addresses.healthz.unwrap());
    for (address, method, path, status) in [
        (read_only, "GET", "/pods", 200),
        (read_only, "GET", "/healthz", 200),
        (read_only, "GET", "/metrics/cadvisor", 200),
        (read_only, "POST", "/stats/summary", 200),
        (read_only, "PUT", "/stats/summary", 405),
        (read_only, "GET", "/containerLogs/ns/web/main", 405),
        (read_only, "GET", "/configz", 404),
        (healthz, "GET", "/healthz", 200),
        (healthz, "GET", "/pods", 404),
    ] {
        assert_eq!(node.plain(address, method, path).await.status.as_u16(), status, "{method} {path}");
    }
    let text = node.plain(read_only, "GET", "/exec/ns/web/main").await;
    assert_eq!(text.text(), "Debug endpoints are disabled.\n");
}

#[tokio::test]
async fn logs_flow_as_they_are_written() {
    let ports = fake();
    let (log, receiver) = mpsc::channel(1);
    *ports.log.lock().unwrap() = Some(receiver);
    let node = start(ports, |_| {}).await;
    for (path, status, text) in [
        ("/containerLogs/ns/nope/main", 404, "pod \"nope\" does not exist"),
        ("/containerLogs/ns/web/nope", 404, "container \"nope\" not found in pod \"web\""),
        ("/containerLogs/ns/web/main?tailLines=x", 400, "{\"message\": \"Unable to decode query.\"}"),
        ("/containerLogs/ns/web/main?limitBytes=0", 422, "{\"message\": \"Invalid request.\"}"),
        (
            "/containerLogs/ns/web/main?previous=true",
            400,
            "previous terminated container \"main\" in pod \"web\" not found",
        ),
    ] {
        let reply = node.get_as("root", path).await;
        assert_eq!((reply.status.as_u16(), reply.text()), (status, text), "{path}");
    }
    let io = tls(node.addresses.main, None, b"http/1.1").await.unwrap();
    let headers = [("authorization", "Bearer root")];
    let response = send(io, request("GET", "/containerLogs/ns/web/main?follow=true", &headers)).await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut body = response.into_body();
    for line in ["one\n", "two\n"] {
        log.send(Ok(Bytes::from_static(line.as_bytes()))).await.unwrap();
        // Comes before the next one is written: nothing waits for more.
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), line);
    }
    drop(log);
    assert!(body.frame().await.is_none());
}

/// A streaming server that echoes what comes after the upgrade, in capitals, once; hands out the
/// head it was sent.
async fn streaming_server(answer: &'static str) -> (String, oneshot::Receiver<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/exec/token-1?x=y", listener.local_addr().unwrap());
    let (head_seen, head) = oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            bytes.push(stream.read_u8().await.unwrap());
        }
        head_seen.send(String::from_utf8(bytes).unwrap()).unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        stream.write_all(text.to_uppercase().as_bytes()).await.unwrap();
    });
    (url, head)
}

const SPDY: [(&str, &str); 5] = [
    ("authorization", "Bearer root"),
    ("connection", "Upgrade"),
    ("upgrade", "SPDY/3.1"),
    ("x-stream-protocol-version", "v4.channel.k8s.io"),
    ("x-stream-protocol-version", "v3.channel.k8s.io"),
];

#[tokio::test]
async fn upgrades_pass_through_with_half_close() {
    let early = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
                 X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\nhello ";
    let (stream_url, head) = streaming_server(early).await;
    let node = start(Fake { stream_url, ..fake() }, |_| {}).await;
    let io = tls(node.addresses.main, None, b"http/1.1").await.unwrap();
    let mut response = send(io, request("POST", "/exec/ns/web/main?command=sh&output=1", &SPDY)).await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["x-stream-protocol-version"], "v4.channel.k8s.io");
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    stream.write_all(b"from the client").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "hello FROM THE CLIENT");
    let head = head.await.unwrap();
    assert!(head.starts_with("POST /exec/token-1?x=y HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("v4.channel.k8s.io") && head.contains("v3.channel.k8s.io"), "{head}");
    assert!(!head.to_lowercase().contains("authorization"), "{head}");
}

/// A session counts as being served until it is over, and not only until it is set up.
#[tokio::test]
async fn requests_are_counted_for_as_long_as_they_last() {
    let early = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n";
    let (stream_url, _head) = streaming_server(early).await;
    let ports = Fake { stream_url, ..fake() };
    let (log, receiver) = mpsc::channel(1);
    *ports.log.lock().unwrap() = Some(receiver);
    let node = start(ports.clone(), |_| {}).await;
    let ended = || ports.served.lock().unwrap().iter().map(|request| request.kind.path).collect::<Vec<_>>();

    let io = tls(node.addresses.main, None, b"http/1.1").await.unwrap();
    let mut response = send(io, request("POST", "/exec/ns/web/main?command=sh&output=1", &SPDY)).await;
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    let io = tls(node.addresses.main, None, b"http/1.1").await.unwrap();
    let headers = [("authorization", "Bearer root")];
    let response = send(io, request("GET", "/containerLogs/ns/web/main?follow=true", &headers)).await;
    assert_eq!(response.status(), StatusCode::OK);
    let begun: Vec<_> =
        ports.seen.lock().unwrap().iter().map(|kind| (kind.path, kind.is_long_running)).collect();
    assert_eq!(begun, [("exec", true), ("containerLogs", false)]);
    assert_eq!(ended(), Vec::<&str>::new());

    drop(log);
    assert_eq!(finish(response).await.text(), "");
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    // Counted where the server lets go of it, which may be a moment after the client has seen the end.
    while ended().len() < 2 {
        ports.ended.notified().await;
    }
    let mut all = ended();
    all.sort_unstable();
    assert_eq!(all, ["containerLogs", "exec"]);
    node.plain(node.addresses.healthz.unwrap(), "GET", "/healthz").await;
    assert_eq!(ports.seen.lock().unwrap().len(), 2, "health is not counted");
}

#[tokio::test]
async fn tokens_are_counted_by_whether_they_are_remembered() {
    let ports = fake();
    let node = start(ports.clone(), |_| {}).await;
    let events = || {
        let all: Vec<_> = ports.tokens.lock().unwrap().drain(..).collect();
        all.iter()
            .map(|event| match event {
                TokenReviewEvent::LookedUp { is_hit, .. } => format!("hit {is_hit}"),
                TokenReviewEvent::ReviewBegins => "begins".to_owned(),
                TokenReviewEvent::ReviewEnded { is_ok } => format!("ended {is_ok}"),
            })
            .collect::<Vec<_>>()
    };
    for (token, told) in [
        ("root", &["begins", "ended true", "hit false"][..]),
        ("root", &["hit true"]),
        ("bad", &["begins", "ended true", "hit false"]),
        ("bad", &["hit true"]),
        ("outage", &["begins", "ended false", "hit false"]),
        ("outage", &["begins", "ended false", "hit false"]),
    ] {
        node.get_as(token, "/pods").await;
        assert_eq!(events(), told, "{token}");
    }
    node.ask(None, request("GET", "/pods", &[])).await;
    assert_eq!(events(), Vec::<String>::new(), "without a token nothing is looked up");
}

#[tokio::test]
async fn what_the_runtime_refuses_reaches_the_client() {
    let refusal = "HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno!";
    let (stream_url, _head) = streaming_server(refusal).await;
    let node = start(Fake { stream_url, ..fake() }, |_| {}).await;
    for (path, headers, status, text) in [
        (
            "/exec/ns/web/main?command=sh",
            &SPDY[..],
            400,
            "you must specify at least 1 of stdin, stdout, stderr",
        ),
        ("/exec/ns/nope/main?output=1", &SPDY, 404, "pod does not exist"),
        ("/exec/ns/web/main?output=1", &SPDY[..1], 500, "Upgrade request required\n"),
        ("/exec/ns/web/main?output=1&command=gone", &SPDY, 404, "no such container"),
        ("/exec/ns/web/main?output=1&command=busy", &SPDY, 429, "too many"),
        ("/exec/ns/web/u1/main?output=1&command=broken", &SPDY, 500, "broken"),
        ("/portForward/ns/web/u2", &SPDY, 404, "pod not found"),
        ("/attach/ns/web/main?output=1", &SPDY, 403, "no!"),
    ] {
        let reply = node.ask(None, request("POST", path, headers)).await;
        assert_eq!((reply.status.as_u16(), reply.text()), (status, text), "{path}");
        assert_eq!(reply.headers.contains_key("retry-after"), status == 429);
    }
    // The runtime's listener is gone by now.
    let reply = node.ask(None, request("POST", "/portForward/ns/web", &SPDY)).await;
    assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(reply.text().contains("streaming server"), "{}", reply.text());
}

#[tokio::test]
async fn http2_is_spoken() {
    let node = start(fake(), |_| {}).await;
    let io = tls(node.addresses.main, None, b"h2").await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(executor, TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("https://node-1/pods").header("authorization", "Bearer root");
    let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    assert_eq!(finish(response).await.status, StatusCode::OK);
}

#[tokio::test]
async fn stopping_closes_connections_and_tunnels() {
    let upgrade = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n";
    let (stream_url, _head) = streaming_server(upgrade).await;
    let mut node = start(Fake { stream_url, ..fake() }, |_| {}).await;
    let io = tls(node.addresses.main, None, b"http/1.1").await.unwrap();
    let mut response = send(io, request("POST", "/attach/ns/web/main?output=1", &SPDY)).await;
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    let mut idle = tls(node.addresses.main, None, b"http/1.1").await.unwrap();
    node.stop.take().unwrap().send(()).unwrap();
    node.served.await.unwrap();
    // Cut off, not closed in good order; both are an end.
    let _ = stream.read_u8().await.unwrap_err();
    let _ = idle.read_u8().await.unwrap_err();
}

#[tokio::test]
async fn a_new_certificate_shows_in_new_connections() {
    let node = start(fake(), |_| {}).await;
    let shown = async || {
        let io = tls(node.addresses.main, None, b"http/1.1").await.unwrap();
        io.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let before = shown().await;
    assert_eq!(shown().await, before);
    let other = rcgen::generate_simple_self_signed(vec!["node-1".into()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(other.signing_key.serialize_der()).unwrap();
    let provider = rustls::crypto::ring::default_provider();
    let key = rustls::sign::CertifiedKey::from_der(vec![other.cert.der().clone()], key, &provider);
    node.certificate.show(Arc::new(key.unwrap()));
    assert_eq!(shown().await, *other.cert.der());
}

#[test]
fn self_signed_certificates_are_kept_while_they_are_good() {
    let folder = TempDir::new().unwrap();
    let make = || ServingCertificate::self_signed(folder.path(), &["n".into()], &[]);
    let file = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    make().unwrap();
    let first = file("kubelet.crt");
    let mode =
        std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(folder.path().join("kubelet.key")).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    let kept = make().unwrap();
    assert_eq!(file("kubelet.crt"), first);
    assert!(!kept.reload().unwrap());
    std::fs::write(folder.path().join("kubelet.crt"), "damaged").unwrap();
    assert!(kept.reload().is_err());
    make().unwrap();
    assert_ne!(file("kubelet.crt"), first);
    assert!(kept.reload().unwrap());
    let key = String::from_utf8(file("kubelet.key")).unwrap();
    assert!(!format!("{kept:?}").contains(&key[30..60]));
}

#[tokio::test]
async fn key_exchange_is_restricted_to_the_groups_named() {
    for (groups, agreed) in [
        (vec![], rustls::NamedGroup::X25519),
        (vec![24, 4588], rustls::NamedGroup::secp384r1),
        (vec![24, 29], rustls::NamedGroup::X25519),
    ] {
        let node = start(fake(), |settings| settings.tls.key_exchange_groups = groups).await;
        let io = tls(node.addresses.main, None, b"http/1.1").await.unwrap();
        let group =
            io.get_ref().1.negotiated_key_exchange_group().map(rustls::crypto::SupportedKxGroup::name);
        assert_eq!(group, Some(agreed));
    }
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    let settings = |change: &dyn Fn(&mut Settings)| {
        let mut settings = Settings {
            node_name: "n".into(),
            address: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            read_only_port: None,
            healthz: None,
            endpoints: ALL_ENDPOINTS,
            system_logs: SystemLogSettings {
                has_query: false,
                root: "/nonexistent".into(),
                journalctl: "/nonexistent".into(),
            },
            access: AccessSettings {
                is_anonymous_allowed: false,
                token_cache_ttl: None,
                client_ca_file: None,
                reloads_client_ca: true,
                reads_uid_from_certificates: false,
                authorization: Authorization::AlwaysAllow,
            },
            tls: TlsSettings::default(),
            streaming_idle_timeout: Duration::ZERO,
        };
        change(&mut settings);
        settings
    };
    let bind = async |change: &dyn Fn(&mut Settings)| {
        Server::bind(settings(change), ServingCertificate::pending()).await.err().map(|e| e.to_string())
    };
    let suites = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    assert_eq!(bind(&|_| {}).await, None);
    assert_eq!(
        bind(&|s| s.tls.cipher_suites = suites(&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"])).await,
        None
    );
    assert_eq!(bind(&|s| s.tls.cipher_suites = suites(&["TLS_AES_128_GCM_SHA256"])).await, None);
    assert_eq!(
        bind(&|s| s.tls.cipher_suites = suites(&["TLS_RSA_WITH_AES_128_CBC_SHA"])).await,
        Some("failed to set TLS up".into())
    );
    assert_eq!(bind(&|s| s.tls.key_exchange_groups = vec![23, 4588]).await, None);
    assert_eq!(bind(&|s| s.tls.key_exchange_groups = vec![4588]).await, Some("failed to set TLS up".into()));
    assert_eq!(
        bind(&|s| s.access.client_ca_file = Some(Path::new("/nonexistent").into())).await,
        Some("failed to load client CA file \"/nonexistent\"".into())
    );
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = taken.local_addr().unwrap();
    let name = std::fs::read_to_string("/proc/self/comm").unwrap();
    assert_eq!(
        bind(&|s| s.port = address.port()).await,
        Some(format!(
            "failed to listen on {address}, where there is process {} ({})",
            std::process::id(),
            name.trim_end()
        ))
    );
}

#[tokio::test]
async fn the_verbosity_of_the_log_is_put() {
    let fake = fake();
    let level = fake.verbosity.clone();
    let node = start(fake.clone(), |settings| settings.endpoints.has_debug_flags = true).await;
    for (method, body, status, answer, expected) in [
        ("GET", "", 406, "unsupported http method\n", 0),
        ("PUT", "4", 200, "successfully set klog.logging.verbosity to 4\n", 4),
        ("PUT", "x", 400, "strconv.ParseUint: parsing \"x\": invalid syntax\n", 4),
        ("PUT", &"1".repeat(2000), 400, "error reading request body: more than any number takes\n", 4),
        ("POST", "2", 406, "unsupported http method\n", 4),
        ("PUT", "0", 200, "successfully set klog.logging.verbosity to 0\n", 0),
    ] {
        let request = request(method, "/debug/flags/v", &[("authorization", "Bearer root")]);
        let request = request.map(|_| Full::new(Bytes::from(body.to_owned())));
        let reply = node.ask(None, request).await;
        assert_eq!((reply.status.as_u16(), reply.text()), (status, answer), "{method} {body}");
        assert_eq!(reply.headers["content-type"], "text/plain");
        assert_eq!(level.load(Ordering::Relaxed), expected, "{method} {body}");
    }
    assert_eq!(node.get_as("reader", "/debug/flags/v").await.status, StatusCode::FORBIDDEN);
}

/// A log folder with what a machine and its containers may put there, and a journal that knows two
/// units and says what it was asked.
fn write_logs(node: &Node) {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let (folder, log) = (node.folder.path(), node.folder.path().join("log"));
    std::fs::create_dir_all(log.join("pods/p")).unwrap();
    std::fs::create_dir_all(log.join("inner")).unwrap();
    std::fs::write(log.join("syslog"), "0123456789").unwrap();
    std::fs::write(log.join("inner/inner.log"), "of inner\n").unwrap();
    std::fs::write(log.join("<a&b>"), "odd").unwrap();
    std::fs::write(folder.join("secret"), "secret").unwrap();
    symlink(folder.join("secret"), log.join("pods/p/0.log")).unwrap();
    symlink("../../../secret", log.join("pods/p/1.log")).unwrap();
    symlink("/proc/self/environ", log.join("pods/p/2.log")).unwrap();
    symlink(folder, log.join("pods/p/out")).unwrap();
    symlink(log.join("syslog"), log.join("pods/p/3.log")).unwrap();
    let fifo = log.join("pods/p/fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    let journal = "#!/bin/sh\nif [ \"$1\" = --field ]; then printf 'kubelet.service\\nb@1.service\\n'; exit; fi\n\
                   for a in \"$@\"; do echo \"[$a]\"; done\necho gone >&2\nexit 1\n";
    // Written by another process, lest a child of a test beside this one holds it open for writing.
    let copied = std::process::Command::new("sh")
        .args(["-c", "printf %s \"$2\" > \"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(folder.join("journalctl"))
        .arg(journal)
        .status();
    assert!(copied.unwrap().success());
    let mode = std::fs::metadata(folder.join("journalctl")).unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111);
}

#[tokio::test]
async fn files_of_the_log_folder_and_nothing_else() {
    let node = start(fake(), |settings| settings.endpoints.has_system_logs = true).await;
    write_logs(&node);
    let list = "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n\
                <a href=\"%3Ca%26b%3E\">&lt;a&amp;b&gt;</a>\n<a href=\"inner/\">inner/</a>\n\
                <a href=\"pods/\">pods/</a>\n<a href=\"syslog\">syslog</a>\n</pre>\n";
    let (missing, forbidden) = ("404 page not found\n", "403 Forbidden\n");
    for (path, status, text) in [
        ("/logs/", 200, list),
        ("/logs/syslog", 200, "0123456789"),
        ("/logs/%3Ca%26b%3E", 200, "odd"),
        ("/logs/inner/inner.log", 200, "of inner\n"),
        ("/logs/inner", 301, ""),
        ("/logs/syslog/", 301, ""),
        ("/logs/nope", 404, missing),
        ("/logs/syslog/nope", 404, missing),
        ("/logs/../secret", 404, missing),
        ("/logs/%2e%2e/secret", 404, missing),
        ("/logs/..%2fsecret", 404, missing),
        ("/logs/pods/p/0.log", 403, forbidden),
        ("/logs/pods/p/1.log", 403, forbidden),
        ("/logs/pods/p/2.log", 403, forbidden),
        ("/logs/pods/p/out/secret", 403, forbidden),
        ("/logs/pods/p/out/", 403, forbidden),
        ("/logs/pods/p/fifo", 403, forbidden),
        ("/logs/pods/p/3.log", 200, "0123456789"),
        ("/logs/?query=/syslog", 200, "0123456789"),
        ("/logs/?query=inner/inner.log", 200, "of inner\n"),
        (
            "/logs/?query=/nope",
            406,
            "query: Invalid value: [\"/nope\"]: statat /nope: no such file or directory\n",
        ),
        (
            "/logs/?query=../secret",
            406,
            "query: Invalid value: [\"../secret\"]: statat ../secret: path escapes from parent\n",
        ),
        (
            "/logs/?query=pods/p/0.log",
            406,
            "query: Invalid value: [\"pods/p/0.log\"]: statat pods/p/0.log: path escapes from parent\n",
        ),
    ] {
        let reply = node.get_as("root", path).await;
        assert_eq!((reply.status.as_u16(), reply.text()), (status, text), "{path}");
    }
    for (range, status, body, content_range) in [
        ("bytes=2-4", 206, "234", Some("bytes 2-4/10")),
        ("bytes=-2", 206, "89", Some("bytes 8-9/10")),
        ("bytes=10-", 416, "invalid range: failed to overlap\n", Some("bytes */10")),
        ("bytes=0-1,3-4", 200, "0123456789", None),
    ] {
        let headers = [("authorization", "Bearer root"), ("range", range)];
        let reply = node.ask(None, request("GET", "/logs/syslog", &headers)).await;
        assert_eq!((reply.status.as_u16(), reply.text()), (status, body), "{range}");
        assert_eq!(reply.headers.get("content-range").map(|v| v.to_str().unwrap()), content_range);
    }
    let plain = node.get_as("root", "/logs/syslog").await;
    assert_eq!(
        (&plain.headers["content-length"], &plain.headers["accept-ranges"]),
        (&"10".parse().unwrap(), &"bytes".parse().unwrap())
    );
    let since = plain.headers["last-modified"].to_str().unwrap();
    let headers = [("authorization", "Bearer root"), ("if-modified-since", since)];
    assert_eq!(
        node.ask(None, request("GET", "/logs/syslog", &headers)).await.status,
        StatusCode::NOT_MODIFIED
    );
    assert_eq!(node.get_as("reader", "/logs/syslog").await.status, StatusCode::FORBIDDEN);
}

/// CVE-2024-9042: what a log query says is an argument of a program, and never a part of a command.
#[tokio::test]
async fn services_are_asked_for_without_a_shell() {
    let node = start(fake(), |settings| settings.endpoints.has_system_logs = true).await;
    write_logs(&node);
    let asked = "[--utc]\n[--no-pager]\n[--output=short-precise]\n";
    for (path, status, text) in [
        ("/logs/?query=kubelet", 200, format!("{asked}[--unit=kubelet]\ngone\n")),
        (
            "/logs/?query=kubelet&query=b@1&tailLines=3&pattern=$(id)%20%3B",
            200,
            format!("{asked}[--pager-end]\n[--lines=3]\n[--unit=kubelet]\n[--unit=b@1]\n[--grep=$(id) ;]\ngone\n"),
        ),
        ("/logs/?query=syslog", 200, "0123456789".into()),
        ("/logs/?query=inner", 200, "of inner\n".into()),
        ("/logs/?query=kube", 200, "\nlog not found for kube\n".into()),
        (
            "/logs/?query=syslog&boot=0",
            200,
            "\noptions present and query resolved to log files for [syslog]\ntry without specifying options\n".into(),
        ),
        ("/logs/syslog?query=kubelet", 406, "path not allowed in query mode\n".into()),
        ("/logs/?tailLines=x", 400, "tailLines: Invalid value: \"x\": strconv.Atoi: parsing \"x\": invalid syntax\n".into()),
        ("/logs/?query=a;b", 406, "query: Invalid value: \"a;b\": input contains unsupported characters\n".into()),
    ] {
        let reply = node.get_as("root", path).await;
        assert_eq!((reply.status.as_u16(), reply.text()), (status, text.as_str()), "{path}");
    }
    let headers = [("authorization", "Bearer root"), ("accept-encoding", "gzip")];
    let zipped = node.ask(None, request("GET", "/logs/?query=syslog", &headers)).await;
    let mut text = String::new();
    io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&zipped.body[..]), &mut text).unwrap();
    assert_eq!(
        (&zipped.headers["content-encoding"], text.as_str()),
        (&"gzip".parse().unwrap(), "0123456789")
    );
    std::fs::remove_file(node.folder.path().join("journalctl")).unwrap();
    assert_eq!(node.get_as("root", "/logs/?query=kubelet").await.text(), "\nlog not found for kubelet\n");
}

#[tokio::test]
async fn without_log_queries_their_parameters_mean_nothing() {
    let node = start(fake(), |settings| {
        settings.endpoints.has_system_logs = true;
        settings.system_logs.has_query = false;
    })
    .await;
    write_logs(&node);
    assert_eq!(node.get_as("root", "/logs/syslog?query=kubelet&boot=x").await.text(), "0123456789");
}

#[tokio::test]
async fn the_health_port_needs_no_api() {
    let server = HealthServer::bind((Ipv4Addr::LOCALHOST, 0).into()).await;
    let address = server.address().unwrap();
    assert_eq!(HealthServer::bind(address).await.address(), None);
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve(fake(), async { drop(stopped.await) }));
    let io = TcpStream::connect(address).await.unwrap();
    let reply = finish(send(io, request("GET", "/healthz", &[])).await).await;
    assert_eq!((reply.status.as_u16(), reply.text()), (200, "ok"));
    stop.send(()).unwrap();
    serving.await.unwrap();
}

#[tokio::test]
async fn what_a_command_wrote_is_json_by_name_only() {
    let node = start(fake(), |_| {}).await;
    for (path, text, has_type) in
        [("/run/ns/web/main?cmd=ls%20-l", "ls|-l", true), ("/run/ns/web/u1/main?cmd=", "", false)]
    {
        let reply = node.ask(None, request("POST", path, &[("authorization", "Bearer root")])).await;
        assert_eq!((reply.status.as_u16(), reply.text()), (200, text), "{path}");
        assert_eq!(reply.headers.contains_key("content-type"), has_type, "{path}");
    }
}

#[tokio::test]
async fn checkpoints_need_a_container_and_a_number() {
    let node = start(fake(), |_| {}).await;
    for (method, path, status, text) in [
        ("POST", "/checkpoint/ns/web/main", 200, "{\"items\":[\"/checkpoints/main-0.tar\"]}"),
        (
            "POST",
            "/checkpoint/ns/web/main?timeout=3&timeout=7",
            200,
            "{\"items\":[\"/checkpoints/main-7.tar\"]}",
        ),
        ("POST", "/checkpoint/ns/web/main?timeout=x", 404, "cannot parse value of timeout parameter"),
        ("POST", "/checkpoint/ns/web/nope", 404, "container nope does not exist"),
        ("POST", "/checkpoint/ns/nope/main", 404, "pod does not exist"),
        ("POST", "/checkpoint/ns/web", 404, "404: Page Not Found"),
        ("GET", "/checkpoint/ns/web/main", 405, "405: Method Not Allowed"),
        (
            "POST",
            "/checkpoint/ns/web/main?timeout=99",
            500,
            "checkpointing of ns/web/main failed (the runtime cannot do that)",
        ),
    ] {
        let reply = node.ask(None, request(method, path, &[("authorization", "Bearer root")])).await;
        assert_eq!((reply.status.as_u16(), reply.text()), (status, text), "{method} {path}");
    }
    let reader = request("POST", "/checkpoint/ns/web/main", &[("authorization", "Bearer proxy")]);
    let reply = node.ask(None, reader).await;
    assert_eq!(
        reply.text(),
        "Forbidden (user=proxy, verb=create, resource=nodes, subresource(s)=[checkpoint])\n"
    );
}

#[tokio::test]
async fn pages_about_the_process() {
    let node = start(fake(), |_| {}).await;
    let with = async |path: &str, accept: &str| {
        let headers = [("authorization", "Bearer root"), ("accept", accept)];
        node.ask(None, request("GET", path, &headers)).await
    };
    let flags = with("/flagz", "text/plain").await;
    assert!(
        flags.text().starts_with("\nkubelet flagz\nWarning: ")
            && flags.text().ends_with("\nport=10250\nv=2\n")
    );
    let status = node.get_as("root", "/statusz").await;
    assert!(status.text().contains("\nStarted: Thu Jan  1 00:00:00 UTC 1970\n"), "{}", status.text());
    assert!(status.text().ends_with("\nPaths: /configz /debug /flagz /healthz /logs /metrics\n"));
    for (version, is_old) in [("v1beta1", false), ("v1alpha1", true)] {
        let accept = format!("application/json;as=Statusz;g=config.k8s.io;v={version}");
        let status = with("/statusz", &accept).await;
        assert_eq!(
            status.headers["content-type"],
            format!("application/json;g=config.k8s.io;v={version};as=Statusz")
        );
        assert_eq!(status.headers.contains_key("warning"), is_old);
        let object: serde_json::Value = serde_json::from_slice(&status.body).unwrap();
        assert_eq!(object["apiVersion"], format!("config.k8s.io/{version}"));
        assert_eq!((&object["kind"], &object["metadata"]["name"]), (&"Statusz".into(), &"kubelet".into()));
        assert_eq!(
            (&object["binaryVersion"], &object["emulationVersion"]),
            (&"1.37.2".into(), &"1.37".into())
        );
        assert_eq!(object["startTime"], "1970-01-01T00:00:00Z");
    }
    let refused = with("/flagz", "application/json").await;
    let object: serde_json::Value = serde_json::from_slice(&refused.body).unwrap();
    assert_eq!((refused.status.as_u16(), &object["reason"]), (406, &"NotAcceptable".into()));
    let off = start(fake(), |settings| {
        settings.endpoints = EndpointSettings { has_debugging: true, ..EndpointSettings::default() }
    })
    .await;
    for path in ["/flagz", "/statusz"] {
        assert_eq!(off.get_as("root", path).await.status, StatusCode::NOT_FOUND);
        assert_eq!(node.get_as("reader", path).await.status, StatusCode::FORBIDDEN);
    }
}

#[tokio::test]
async fn lists_come_in_json_only() {
    let node = start(fake(), |_| {}).await;
    for (accept, status) in [
        ("application/json", 200),
        ("application/yaml, application/json;q=0.1", 200),
        ("*/*", 200),
        ("application/yaml", 406),
        ("text/html;q=0.9", 406),
    ] {
        let headers = [("authorization", "Bearer root"), ("accept", accept)];
        let reply = node.ask(None, request("GET", "/pods", &headers)).await;
        assert_eq!(reply.status.as_u16(), status, "{accept}");
        if status == 406 {
            assert_eq!(reply.text(), "406: Not Acceptable\n\nAvailable representations: application/json");
        }
    }
}

#[tokio::test]
async fn one_path_is_routed_and_authorized() {
    let node = start(fake(), |_| {}).await;
    for (token, path, status) in [
        ("reader", "/%70ods", 200),
        ("root", "/%70ods", 200),
        ("root", "/allocatedPods/n%73/web", 200),
        ("root", "/allocatedPods/..%2fns/web", 404),
        ("reader", "/%65xec/ns/web/main", 403),
        ("reader", "/pods%2f..%2fexec%2fns%2fweb%2fmain", 404),
        ("root", "/%ff", 404),
    ] {
        assert_eq!(node.get_as(token, path).await.status.as_u16(), status, "{token} {path}");
    }
}

#[tokio::test]
async fn health_checks_are_counted() {
    let ports = Fake { sick: Some(HealthCheck::SyncLoop), ..fake() };
    let node = start(ports.clone(), |_| {}).await;
    node.get_as("root", "/healthz?exclude=log").await;
    // One alone is not, as upstream.
    node.get_as("root", "/healthz/log").await;
    assert_eq!(*ports.health.lock().unwrap(), [(HealthCheck::Ping, true), (HealthCheck::SyncLoop, false)]);
}

#[tokio::test]
async fn profiles_are_files_for_the_tool() {
    let node = start(fake(), |settings| settings.endpoints.has_profiling = true).await;
    for name in ["heap", "allocs", "goroutine", "threadcreate", "block", "mutex"] {
        let reply = node.get_as("root", &format!("/debug/pprof/{name}")).await;
        assert_eq!(
            (reply.status.as_u16(), &reply.headers["content-type"]),
            (200, &"application/octet-stream".parse().unwrap())
        );
        assert_eq!(reply.headers["content-disposition"], format!("attachment; filename=\"{name}\""));
        let mut profile = Vec::new();
        io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&reply.body[..]), &mut profile).unwrap();
        assert!(!profile.is_empty(), "{name}");
    }
    for (path, status, part) in [
        ("/debug/pprof/", 200, "<a href=\"heap?debug=1\">"),
        ("/debug/pprof/heap?debug=1", 200, "malloc: in use"),
        ("/debug/pprof/goroutine?debug=2", 200, "thread "),
        ("/debug/pprof/symbol", 200, "num_symbols: 0\n"),
        ("/debug/pprof/cmdline", 200, "server"),
        ("/debug/pprof/trace", 404, "Unknown profile\n"),
        ("/debug/pprof/profile?seconds=601", 400, "600 seconds at most"),
    ] {
        let reply = node.get_as("root", path).await;
        assert_eq!(reply.status.as_u16(), status, "{path}");
        assert!(reply.text().contains(part), "{path}: {}", reply.text());
        assert_eq!(reply.headers.contains_key("x-go-pprof"), status != 200);
    }
    // A kernel that lets nobody sample says so; all others make a profile.
    let reply = node.get_as("root", "/debug/pprof/profile?seconds=1").await;
    match reply.status.as_u16() {
        200 => assert_eq!(reply.body[..2], [0x1f, 0x8b]),
        500 => assert!(reply.text().starts_with("Could not enable CPU profiling: "), "{}", reply.text()),
        other => panic!("{other}"),
    }
    assert_eq!(node.get_as("reader", "/debug/pprof/heap").await.status, StatusCode::FORBIDDEN);
}
