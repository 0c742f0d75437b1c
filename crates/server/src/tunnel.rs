//! Passing an upgraded connection through to the runtime's streaming server.
//!
//! The runtime speaks SPDY and WebSocket itself, so nothing is translated here: the request's head
//! goes to the runtime, its `101` comes back, and from then on bytes are copied both ways.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderValue, UPGRADE,
};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use crate::answer::{self, Answer};

/// How long the runtime may take to connect and to answer the head.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of the runtime's refusal is passed on, bytes.
const MAX_REFUSAL_BYTES: usize = 64 * 1024;

/// What a tunnel lives by.
pub(crate) struct TunnelContext {
    /// Closed when nothing moved for so long.
    pub(crate) idle_timeout: Duration,
    /// Closed when the server ends.
    pub(crate) shutdown: watch::Receiver<bool>,
    /// Counts as a connection for as long as it lasts.
    pub(crate) permit: Arc<OwnedSemaphorePermit>,
}

#[derive(Debug, thiserror::Error)]
enum TunnelError {
    #[error("the runtime's streaming URL is not usable: {0}")]
    Url(String),
    #[error("failed to connect to the runtime's streaming server at {address}: {source}")]
    Connect { address: String, source: io::Error },
    #[error("failed to open a stream with the runtime's streaming server: {0}")]
    Exchange(#[from] hyper::Error),
    #[error("the runtime's streaming server did not answer in time")]
    Timeout,
}

/// Whether the request asks for another protocol.
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE) && has_token(headers, &CONNECTION, "upgrade")
}

/// Whether that protocol is WebSocket.
pub(crate) fn is_websocket(headers: &HeaderMap) -> bool {
    has_token(headers, &UPGRADE, "websocket")
}

/// Whether a WebSocket subprotocol is offered.
pub(crate) fn has_protocol(headers: &HeaderMap, protocol: &str) -> bool {
    has_token(headers, &http::header::SEC_WEBSOCKET_PROTOCOL, protocol)
}

fn has_token(headers: &HeaderMap, name: &http::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// What a plain request to a streaming endpoint gets.
pub(crate) fn upgrade_required() -> Answer {
    answer::text(StatusCode::INTERNAL_SERVER_ERROR, "Upgrade request required\n")
}

/// Opens a tunnel to the URL and answers with the runtime's `101`, or its refusal.
pub(crate) async fn open(mut request: Request<Incoming>, url: &str, context: TunnelContext) -> Answer {
    let to_client = hyper::upgrade::on(&mut request);
    let opened = tokio::time::timeout(OPEN_TIMEOUT, ask(request, url)).await;
    let mut response = match opened.unwrap_or(Err(TunnelError::Timeout)) {
        Ok(response) => response,
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "failed to open a tunnel to the runtime"
            );
            return answer::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"));
        }
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return refusal(response).await;
    }
    let to_runtime = hyper::upgrade::on(&mut response);
    tokio::spawn(copy(to_client, to_runtime, context));
    let (mut head, _) = response.into_parts();
    head.headers.remove(CONTENT_LENGTH);
    Response::from_parts(head, answer::body(Bytes::new()))
}

async fn ask(request: Request<Incoming>, url: &str) -> Result<Response<Incoming>, TunnelError> {
    let uri: Uri = url.parse().map_err(|error| TunnelError::Url(format!("{error}")))?;
    let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(TunnelError::Url("only http is supported".into()));
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let tcp = TcpStream::connect((host, authority.port_u16().unwrap_or(80)))
        .await
        .map_err(|source| TunnelError::Connect { address: authority.to_string(), source })?;
    // Only affects latency.
    let _ = tcp.set_nodelay(true);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await?;
    // Ends when the stream is handed over or the sender is dropped.
    tokio::spawn(connection.with_upgrades());
    let mut onward = Request::new(Empty::<Bytes>::new());
    *onward.method_mut() = request.method().clone();
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    *onward.uri_mut() = path.parse().map_err(|error| TunnelError::Url(format!("{error}")))?;
    *onward.headers_mut() = onward_headers(request.headers(), authority.as_str());
    Ok(sender.send_request(onward).await?)
}

/// The client's headers, without what is for this node only.
fn onward_headers(headers: &HeaderMap, host: &str) -> HeaderMap {
    let mut onward = headers.clone();
    for name in [AUTHORIZATION, COOKIE, CONTENT_LENGTH] {
        onward.remove(name);
    }
    if let Ok(host) = HeaderValue::from_str(host) {
        onward.insert(HOST, host);
    }
    onward
}

async fn refusal(response: Response<Incoming>) -> Answer {
    let status = response.status();
    if status.as_u16() < 400 {
        let text = format!("invalid upgrade response: status code {}\n", status.as_u16());
        return answer::text(StatusCode::INTERNAL_SERVER_ERROR, text);
    }
    let body = Limited::new(response.into_body(), MAX_REFUSAL_BYTES).collect();
    let text = match tokio::time::timeout(OPEN_TIMEOUT, body).await {
        Ok(Ok(collected)) => collected.to_bytes(),
        _ => Bytes::new(),
    };
    answer::text(status, text)
}

async fn copy(to_client: OnUpgrade, to_runtime: OnUpgrade, context: TunnelContext) {
    let TunnelContext { idle_timeout, mut shutdown, permit } = context;
    let (client, runtime) = match tokio::join!(to_client, to_runtime) {
        (Ok(client), Ok(runtime)) => (client, runtime),
        (Err(error), _) | (_, Err(error)) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "tunnel was not taken up");
            return;
        }
    };
    let activity = Activity::new();
    let (mut client, mut runtime) = (activity.watch(client), activity.watch(runtime));
    tokio::select! {
        // Every arm ends the tunnel: what the others were about to do no longer matters.
        ended = copy_bidirectional(&mut client, &mut runtime) => {
            if let Err(error) = ended {
                tracing::debug!(error = &error as &dyn std::error::Error, "tunnel ended");
            }
        }
        () = activity.idle_for(idle_timeout) => tracing::info!("closing an idle tunnel"),
        _ = shutdown.wait_for(|is_shutdown| *is_shutdown) => {}
    }
    drop(permit);
}

/// When something last moved, in milliseconds since the start.
#[derive(Clone)]
struct Activity {
    start: Instant,
    last: Arc<AtomicU64>,
}

impl Activity {
    fn new() -> Self {
        Self { start: Instant::now(), last: Arc::new(AtomicU64::new(0)) }
    }

    fn watch(&self, stream: Upgraded) -> Watched {
        Watched { stream: TokioIo::new(stream), activity: self.clone() }
    }

    fn touch(&self) {
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(millis, Ordering::Relaxed);
    }

    /// Ends when nothing has moved for so long. Zero means never.
    async fn idle_for(&self, timeout: Duration) {
        if timeout.is_zero() {
            return std::future::pending().await;
        }
        loop {
            let last = self.start + Duration::from_millis(self.last.load(Ordering::Relaxed));
            if Instant::now() >= last + timeout {
                return;
            }
            tokio::time::sleep_until(last + timeout).await;
        }
    }
}

/// A stream that notes when it is read from. Whatever is written to one end was read from the other.
struct Watched {
    stream: TokioIo<Upgraded>,
    activity: Activity,
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        this.activity.touch();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
