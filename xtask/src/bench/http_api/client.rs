//! A client of the kubelet's main port, with an administrator's certificate.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use bytes::Bytes;
use http::header::{
    CONNECTION, HOST, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::cluster::Paths;

const ADDRESS: &str = "127.0.0.1:10250";
/// Something is wrong when the first sign of an answer takes longer.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// Exec and attach over this.
pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// What is needed to connect.
#[derive(Clone)]
pub(super) struct KubeletClient {
    tls: TlsConnector,
}

/// A connection for one request after another.
pub(super) struct Line(SendRequest<Empty<Bytes>>);

impl KubeletClient {
    pub(super) fn new(paths: &Paths) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(paths.file("ca.crt")).context("read the authority")?;
        roots.add(authority).context("use the authority")?;
        let certificate =
            CertificateDer::from_pem_file(paths.file("admin.crt")).context("read the certificate")?;
        let key = PrivateKeyDer::from_pem_file(paths.file("admin.key")).context("read the key")?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("choose TLS versions")?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], key)
            .context("use the certificate")?;
        Ok(Self { tls: TlsConnector::from(Arc::new(config)) })
    }

    /// Connects.
    pub(super) async fn line(&self) -> Result<Line> {
        let stream = TcpStream::connect(ADDRESS).await.context("connect")?;
        stream.set_nodelay(true).context("connect")?;
        let name = ServerName::try_from("localhost").context("name the server")?;
        let stream = self.tls.connect(name, stream).await.context("speak TLS")?;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.context("speak HTTP")?;
        // It ends with its sender and the body that is read from it.
        tokio::spawn(connection.with_upgrades());
        Ok(Line(sender))
    }

    /// Opens a session in one of Kubernetes' WebSocket protocols.
    pub(super) async fn session(&self, path: &str, protocol: &'static str) -> Result<Socket> {
        let key = base64::engine::general_purpose::STANDARD.encode(b"sixteen bytes ..");
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_str(&key).context("write the key")?);
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
        let mut response = self.line().await?.ask(path, headers).await?;
        ensure!(response.status() == StatusCode::SWITCHING_PROTOCOLS, "{path}: {}", response.status());
        let upgraded = hyper::upgrade::on(&mut response).await.context("change the protocol")?;
        Ok(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await)
    }
}

impl Line {
    /// The answer's head, with a body that is still to be read.
    pub(super) async fn ask(&mut self, path: &str, headers: HeaderMap) -> Result<Response<Incoming>> {
        let mut request = Request::get(path).header(HOST, "localhost").body(Empty::new())?;
        request.headers_mut().extend(headers);
        let asked = async {
            self.0.ready().await.context("keep the connection")?;
            self.0.send_request(request).await.context("wait for the answer")
        };
        tokio::time::timeout(LIMIT, asked)
            .await
            .context("no answer in time")?
            .with_context(|| path.to_owned())
    }

    /// Reads an answer that has to be good, and returns its length in bytes.
    pub(super) async fn get(&mut self, path: &str, headers: HeaderMap) -> Result<usize> {
        let response = self.ask(path, headers).await?;
        ensure!(response.status() == StatusCode::OK, "{path}: {}", response.status());
        let mut body = response.into_body();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            length += frame.with_context(|| path.to_owned())?.data_ref().map_or(0, Bytes::len);
        }
        Ok(length)
    }
}
