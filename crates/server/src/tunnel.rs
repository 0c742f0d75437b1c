//! Passing an upgraded connection through to the runtime's streaming server.
//!
//! The runtime speaks SPDY and older WebSocket protocols itself, so that nothing is translated here:
//! the request's head goes to the runtime, its `101` comes back, and from then on bytes are copied both
//! ways. A port-forward may come as SPDY within a WebSocket; then it is the WebSocket's bytes that are
//! copied.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, DATE, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::activity::Activity;
use crate::answer::{self, Answer};
use crate::counting::Served;
use crate::input::{self, FreeInput};
use crate::pump::{self, Ended};
use crate::slots::Slot;
use crate::websocket::{self, UpgradeRequest};

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
    /// Feature gate `ExtendWebSocketsToKubelet`: what the runtime does not speak is translated.
    pub(crate) translates: bool,
    /// Counts as a connection for as long as it lasts.
    pub(crate) slot: Arc<Slot>,
    /// Its request counts as being served for as long as it lasts.
    pub(crate) served: Option<Served>,
    /// Frees input that its program has left. Absent where no input waits for anybody.
    pub(crate) free_input: Option<FreeInput>,
}

/// Why there is no connection with the runtime.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TunnelError {
    #[error("the runtime's streaming URL is not usable: {0}")]
    Url(String),
    #[error("failed to connect to the runtime's streaming server at {address}: {source}")]
    Connect { address: String, source: io::Error },
    #[error("failed to open a stream with the runtime's streaming server: {0}")]
    Exchange(#[from] hyper::Error),
    #[error("the runtime's streaming server did not answer in time")]
    Timeout,
    #[error("unable to upgrade connection: {0}")]
    Refused(String),
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
    answer::error(StatusCode::INTERNAL_SERVER_ERROR, "Upgrade request required")
}

/// What the runtime's streaming server is asked with.
pub(crate) struct Head {
    method: Method,
    headers: HeaderMap,
}

impl Head {
    /// The client's own.
    fn of(request: &Request<Incoming>) -> Self {
        Self { method: request.method().clone(), headers: onward_headers(request.headers()) }
    }

    /// An upgrade to SPDY with one of Kubernetes' protocols in it.
    pub(crate) fn spdy(protocol: &'static str) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
        headers.insert("x-stream-protocol-version", HeaderValue::from_static(protocol));
        Self { method: Method::POST, headers }
    }
}

/// Opens a tunnel to the URL and answers with the runtime's `101`, or its refusal.
pub(crate) async fn open(mut request: Request<Incoming>, url: &str, context: TunnelContext) -> Answer {
    let to_client = hyper::upgrade::on(&mut request);
    let mut response = match ask(&Head::of(&request), url).await {
        Ok(response) => response,
        Err(error) => return failed(&error),
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return refusal(response).await;
    }
    let to_runtime = hyper::upgrade::on(&mut response);
    let client = async { to_client.await.map(TokioIo::new) };
    #[expect(
        clippy::disallowed_methods,
        reason = "ends with the session, of which the context holds the slot"
    )]
    tokio::spawn(copy(client, to_runtime, context));
    let (mut head, _) = response.into_parts();
    head.headers.remove(CONTENT_LENGTH);
    Response::from_parts(head, answer::body(Bytes::new()))
}

/// The same for SPDY within a WebSocket, whose protocol is `SPDY/3.1+` and the inner one.
pub(crate) async fn open_within(
    mut request: Request<Incoming>,
    url: &str,
    (outer, inner): (&'static str, &'static str),
    context: TunnelContext,
) -> Answer {
    let offer = match UpgradeRequest::of(&mut request) {
        Ok(offer) => offer,
        Err(refusal) => return refusal,
    };
    let mut response = match ask(&Head::spdy(inner), url).await {
        Ok(response) => response,
        Err(error) => return failed(&error),
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return refusal(response).await;
    }
    let answer = offer.take(outer);
    let client = async { offer.connect().await.map(websocket::into_bytes) };
    #[expect(
        clippy::disallowed_methods,
        reason = "ends with the session, of which the context holds the slot"
    )]
    tokio::spawn(copy(client, hyper::upgrade::on(&mut response), context));
    answer
}

/// A connection to the runtime's streaming server that has become SPDY.
pub(crate) async fn dial(url: &str, head: &Head) -> Result<TokioIo<Upgraded>, TunnelError> {
    let mut response = ask(head, url).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let text = text_of(response).await;
        return Err(TunnelError::Refused(String::from_utf8_lossy(&text).trim().to_owned()));
    }
    Ok(TokioIo::new(hyper::upgrade::on(&mut response).await?))
}

fn failed(error: &TunnelError) -> Answer {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "Failed to open a streaming connection to the runtime"
    );
    answer::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))
}

async fn ask(head: &Head, url: &str) -> Result<Response<Incoming>, TunnelError> {
    match tokio::time::timeout(OPEN_TIMEOUT, exchange(head, url)).await {
        Ok(result) => result,
        Err(_) => Err(TunnelError::Timeout),
    }
}

async fn exchange(head: &Head, url: &str) -> Result<Response<Incoming>, TunnelError> {
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
    #[expect(
        clippy::disallowed_methods,
        reason = "ends when the stream is handed over or the sender is dropped"
    )]
    tokio::spawn(connection.with_upgrades());
    let mut onward = Request::new(Empty::<Bytes>::new());
    *onward.method_mut() = head.method.clone();
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    *onward.uri_mut() = path.parse().map_err(|error| TunnelError::Url(format!("{error}")))?;
    *onward.headers_mut() = head.headers.clone();
    if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
        onward.headers_mut().insert(HOST, host);
    }
    Ok(sender.send_request(onward).await?)
}

/// The client's headers, without what is for this node only.
pub(crate) fn onward_headers(headers: &HeaderMap) -> HeaderMap {
    let mut onward = headers.clone();
    for name in [AUTHORIZATION, COOKIE, CONTENT_LENGTH] {
        onward.remove(name);
    }
    onward
}

/// The runtime's refusal with its headers, among them the protocols it would take.
async fn refusal(response: Response<Incoming>) -> Answer {
    let status = response.status();
    if status.as_u16() < 400 {
        let text = format!("invalid upgrade response: status code {}", status.as_u16());
        return answer::error(StatusCode::INTERNAL_SERVER_ERROR, &text);
    }
    let mut headers = response.headers().clone();
    // About the connection with the runtime.
    for name in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE, DATE] {
        headers.remove(name);
    }
    let mut answer = Response::new(answer::body(text_of(response).await));
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}

async fn text_of(response: Response<Incoming>) -> Bytes {
    let body = Limited::new(response.into_body(), MAX_REFUSAL_BYTES).collect();
    match tokio::time::timeout(OPEN_TIMEOUT, body).await {
        Ok(Ok(collected)) => collected.to_bytes(),
        _ => Bytes::new(),
    }
}

async fn copy<C>(
    to_client: impl Future<Output = Result<C, hyper::Error>>,
    to_runtime: OnUpgrade,
    context: TunnelContext,
) where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let TunnelContext { idle_timeout, mut shutdown, slot, served, free_input, .. } = context;
    let (client, runtime) = match tokio::join!(to_client, to_runtime) {
        (Ok(client), Ok(runtime)) => (client, runtime),
        (Err(error), _) | (_, Err(error)) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "Connection upgrade failed");
            return;
        }
    };
    let activity = Activity::new();
    let (client, runtime) = (activity.watch(client), activity.watch_runtime(TokioIo::new(runtime)));
    tokio::select! {
        // Every arm ends the tunnel: what the others were about to do no longer matters.
        ended = pump::session(client, runtime) => {
            if let Ended::Client(error) = ended {
                tracing::debug!(error = &error as &dyn std::error::Error, "Client closed a streaming connection");
            }
        }
        () = activity.idle_for(idle_timeout) => tracing::info!("Closing an idle streaming connection"),
        () = input::look_after(&activity, free_input.as_ref()) => {}
        _ = shutdown.wait_for(|is_shutdown| *is_shutdown) => {}
    }
    drop((slot, served));
}
