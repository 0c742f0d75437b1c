//! One request on a connection of its own.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::callers::{Caller, Callers};
use super::request::{Case, Port};

/// No answer may take longer.
const LIMIT: Duration = Duration::from_secs(60);
/// The largest body that is read, bytes.
const MAX_BODY_BYTES: usize = 16 << 20;

/// What came back.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Asks, and tells what came of it. No answer is an answer too.
pub(super) async fn send(callers: &Callers, case: &Case) -> Result<Answer> {
    let caller = callers.get(&case.caller)?;
    tokio::time::timeout(LIMIT, attempt(caller, case)).await.context("no answer in time")?
}

async fn attempt(caller: &Caller, case: &Case) -> Result<Answer> {
    let stream = TcpStream::connect(("127.0.0.1", case.port.number())).await.context("connect")?;
    if case.port != Port::Main || case.is_plain {
        return exchange(stream, caller, case).await;
    }
    let mut config = caller.tls.clone();
    if case.is_http2 {
        Arc::make_mut(&mut config).alpn_protocols = vec![b"h2".to_vec()];
    }
    let name = ServerName::try_from("localhost").context("name the server")?;
    let stream = TlsConnector::from(config).connect(name, stream).await.context("speak TLS")?;
    exchange(stream, caller, case).await
}

async fn exchange<S>(stream: S, caller: &Caller, case: &Case) -> Result<Answer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = request(caller, case)?;
    let io = TokioIo::new(stream);
    // The connection ends when its sender is dropped, or when the body has been read.
    let response = if case.is_http2 {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.context("speak HTTP/2")?;
        tokio::spawn(connection);
        sender.send_request(request).await
    } else {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(io).await.context("speak HTTP")?;
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await
    };
    let (head, body) = response.context("wait for the answer")?.into_parts();
    let body = if head.status == StatusCode::SWITCHING_PROTOCOLS {
        Bytes::new()
    } else {
        let body = Limited::new(body, MAX_BODY_BYTES).collect().await;
        body.map_err(|error| anyhow::anyhow!("{error}")).context("read the answer's body")?.to_bytes()
    };
    Ok(Answer { status: head.status, headers: head.headers, body })
}

fn request(caller: &Caller, case: &Case) -> Result<Request<Full<Bytes>>> {
    let uri = if case.is_http2 { format!("https://localhost{}", case.path) } else { case.path.clone() };
    let mut request = Request::builder().method(case.method.as_bytes()).uri(uri);
    if !case.is_http2 {
        request = request.header(HOST, "localhost");
    }
    if let Some(token) = &caller.token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    for (name, value) in &case.headers {
        request = request.header(name, value);
    }
    request.body(Full::from(case.body.clone())).with_context(|| format!("write request {}", case.name))
}
