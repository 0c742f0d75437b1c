//! One HTTP GET the way probes and hooks make it: fresh connection, no proxy, no keep-alive, no
//! decompression, TLS unverified, redirects followed while they stay on the same host.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use golang::quote::quoted;
use http::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, REFERER,
    USER_AGENT,
};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::HTTPGetAction;
use model::probe::{ErrorState, ProbeOutcome};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::dial::{self, DialError};
use crate::target::{self, TargetError};
use crate::text;
use crate::tls::{self, Alpn, TlsError};
use crate::url::{self, Url};
use crate::{KUBE_VERSION, MAX_OUTPUT_BYTES, ProbeTarget};

/// Redirects in a row that are followed; Go's number.
const MAX_REDIRECTS: usize = 10;
/// The largest response head that is read, bytes.
const MAX_HEAD_BYTES: usize = 256 * 1024;

/// Who asks, for the `User-Agent`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    Probe,
    Lifecycle,
}

/// A GET to make.
#[derive(Clone, Debug)]
pub(crate) struct Get {
    pub(crate) url: Url,
    /// The user's headers plus our defaults, without `Host`.
    pub(crate) headers: HeaderMap,
    /// What to send as `Host` instead of the URL's.
    pub(crate) host_override: Option<HeaderValue>,
    /// HTTP/2 without TLS, by prior knowledge.
    pub(crate) is_h2c: bool,
}

/// What came back, up to [`MAX_OUTPUT_BYTES`] of body.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Why nothing useful came back. The texts are Go's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GetError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The peer closed, reset, or did not speak HTTP.
    #[error("{text}")]
    Exchange {
        text: String,
        #[source]
        source: hyper::Error,
    },
    #[error("unsupported protocol scheme {0:?}")]
    Scheme(String),
    #[error("stopped after 10 redirects")]
    TooManyRedirects,
    #[error("failed to parse Location header {0:?}")]
    Location(String),
    #[error("net/http: invalid header field {0}")]
    Header(String),
    #[error("invalid request: {0}")]
    Request(#[from] http::Error),
    /// The head came, the body did not.
    #[error("{0}")]
    Body(String),
}

impl GetError {
    /// The same without anything that the server said, or that it was told: for logs.
    pub(crate) fn without_content(&self) -> String {
        match self {
            Self::Dial(error) => error.to_string(),
            Self::Tls(error) => error.to_string(),
            Self::Exchange { .. } => "the server did not answer in HTTP".to_owned(),
            Self::TooManyRedirects => self.to_string(),
            Self::Location(_) => "a redirect to nowhere".to_owned(),
            Self::Scheme(_) | Self::Header(_) | Self::Request(_) => "it cannot be sent".to_owned(),
            Self::Body(_) => "the answer has no end".to_owned(),
        }
    }
}

/// How far a GET got, for the text of a timeout.
#[derive(Default)]
pub(crate) struct Progress {
    pub(crate) url: String,
    pub(crate) is_reading_body: bool,
}

/// An HTTP probe within its timeout.
pub(crate) async fn probe(
    action: &HTTPGetAction,
    target: &ProbeTarget<'_>,
    timeout: Duration,
) -> ProbeOutcome {
    let mut get = match build(action, target, Purpose::Probe) {
        Ok(get) => get,
        Err(BuildError::Target(error)) => return ProbeOutcome::unknown(error.to_string()),
        Err(BuildError::Header { url, name }) => {
            return ProbeOutcome::Failure(failed(&url, &GetError::Header(name)));
        }
    };
    get.is_h2c = target.gates.is_h2c_enabled && action.protocol.as_deref() == Some("HTTP2");
    let mut progress = Progress::default();
    let result = tokio::time::timeout(timeout, fetch(get, &mut progress)).await;
    match result {
        Ok(Ok(reply)) => judge(&reply),
        Ok(Err(GetError::Body(text))) => broken_off(text),
        Ok(Err(error)) => ProbeOutcome::Failure(failed(&progress.url, &error)),
        Err(_) if progress.is_reading_body => broken_off(
            "context deadline exceeded (Client.Timeout or context cancellation while reading body)".into(),
        ),
        Err(_) => ProbeOutcome::Failure(format!(
            "Get {}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
            quoted(&progress.url)
        )),
    }
}

/// The head came and the body did not: upstream has another word for that.
fn broken_off(text: String) -> ProbeOutcome {
    ProbeOutcome::Error { state: ErrorState::Failure, text }
}

/// What a reply says: 200..399 is healthy, and a redirect that was not followed is worth a warning.
/// A failure's text never contains the body, which may hold secrets (kubernetes#99425).
fn judge(reply: &Reply) -> ProbeOutcome {
    match reply.status.as_u16() {
        200..=299 => ProbeOutcome::Success,
        300..=399 => ProbeOutcome::Warning(format!(
            "Probe terminated redirects, Response body: {}",
            String::from_utf8_lossy(&reply.body)
        )),
        code => ProbeOutcome::Failure(format!("HTTP probe failed with statuscode: {code}")),
    }
}

/// `Get "http://…": why`.
pub(crate) fn failed(url: &str, error: &GetError) -> String {
    format!("Get {}: {error}", quoted(url))
}

/// Why an action cannot be made into a request.
pub(crate) enum BuildError {
    Target(TargetError),
    Header { url: String, name: String },
}

/// The request an action asks for.
pub(crate) fn build(
    action: &HTTPGetAction,
    target: &ProbeTarget<'_>,
    purpose: Purpose,
) -> Result<Get, BuildError> {
    let (host, port) =
        target::host_and_port(action.host.as_deref(), &action.port, target.pod_ip, target.container)
            .map_err(BuildError::Target)?;
    let scheme = action.scheme.as_deref().filter(|s| !s.is_empty()).unwrap_or("http");
    let url = Url::new(scheme, host, port, action.path.as_deref().unwrap_or_default());
    let (headers, host_override) =
        headers(action, purpose).map_err(|name| BuildError::Header { url: url.to_string(), name })?;
    Ok(Get { url, headers, host_override, is_h2c: false })
}

fn headers(action: &HTTPGetAction, purpose: Purpose) -> Result<(HeaderMap, Option<HeaderValue>), String> {
    let mut headers = HeaderMap::new();
    for header in action.http_headers.as_deref().unwrap_or_default() {
        let name = HeaderName::from_bytes(header.name.as_bytes())
            .map_err(|_| format!("name {}", quoted(&header.name)))?;
        let value = HeaderValue::from_bytes(header.value.as_bytes())
            .map_err(|_| format!("value for {}", quoted(&header.name)))?;
        headers.append(name, value);
    }
    // These describe the message itself, which is not the user's to describe.
    for name in ["content-length", "transfer-encoding", "trailer"] {
        headers.remove(name);
    }
    let host = headers.remove(HOST).filter(|h| !h.is_empty());
    let agent = match purpose {
        Purpose::Probe => format!("kube-probe/{KUBE_VERSION}"),
        Purpose::Lifecycle => format!("kube-lifecycle/{KUBE_VERSION}"),
    };
    let agent = HeaderValue::from_str(&agent).map_err(|_| "value for User-Agent".to_owned())?;
    set_default(&mut headers, USER_AGENT, agent);
    set_default(&mut headers, ACCEPT, HeaderValue::from_static("*/*"));
    Ok((headers, host))
}

/// Adds a header the user did not name; one the user left empty is not sent at all.
fn set_default(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    match headers.get(&name) {
        None => {
            headers.insert(name, value);
        }
        Some(own) if own.is_empty() => {
            headers.remove(name);
        }
        Some(_) => {}
    }
}

/// Makes the request and follows redirects on the same host.
pub(crate) async fn fetch(mut get: Get, progress: &mut Progress) -> Result<Reply, GetError> {
    let first_host = get.url.host.clone();
    for _ in 0..MAX_REDIRECTS {
        progress.url = get.url.to_string();
        let (reply, location) = exchange(&get, progress).await?;
        let is_redirect = matches!(reply.status.as_u16(), 301 | 302 | 303 | 307 | 308);
        let Some(location) = location.filter(|_| is_redirect) else { return Ok(reply) };
        let next = get.url.join(&location).ok_or_else(|| GetError::Location(location.clone()))?;
        if next.host != first_host {
            return Ok(reply);
        }
        if url::is_absolute(&location) || location.starts_with("//") {
            get.host_override = None;
        }
        if get.url.is_https() && !next.is_https() {
            get.headers.remove(REFERER);
        } else if let Ok(referer) = HeaderValue::from_str(&progress.url) {
            get.headers.insert(REFERER, referer);
        }
        get.url = next;
        progress.is_reading_body = false;
    }
    progress.url = get.url.to_string();
    Err(GetError::TooManyRedirects)
}

/// Repeats a request without what must not go over an unprotected connection.
pub(crate) fn as_plain_http(mut get: Get) -> Get {
    get.url.scheme = "http".into();
    get.headers.remove(AUTHORIZATION);
    get
}

async fn exchange(get: &Get, progress: &mut Progress) -> Result<(Reply, Option<String>), GetError> {
    if !matches!(get.url.scheme.as_str(), "http" | "https") {
        return Err(GetError::Scheme(get.url.scheme.clone()));
    }
    let tcp = dial::connect(&get.url.host, get.url.effective_port()).await?;
    let ends = tcp.local_addr().ok().zip(tcp.peer_addr().ok());
    if !get.url.is_https() {
        return if get.is_h2c {
            http2(tcp, get, ends, progress).await
        } else {
            http1(tcp, get, ends, progress).await
        };
    }
    let tls = tls::connect(tcp, &get.url.host, Alpn::Http).await?;
    if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
        http2(tls, get, ends, progress).await
    } else {
        http1(tls, get, ends, progress).await
    }
}

/// Both ends of a connection, for the text of a reset.
type Ends = Option<(SocketAddr, SocketAddr)>;

async fn http1<S>(
    io: S,
    get: &Get,
    ends: Ends,
    progress: &mut Progress,
) -> Result<(Reply, Option<String>), GetError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = get.url.path.parse::<Uri>().map_err(http::Error::from)?;
    *request.headers_mut() = get.headers.clone();
    let host = match &get.host_override {
        Some(host) => host.clone(),
        None => HeaderValue::from_str(&get.url.authority()).map_err(http::Error::from)?,
    };
    request.headers_mut().insert(HOST, host);
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .title_case_headers(true)
        .max_buf_size(MAX_HEAD_BYTES)
        .handshake(TokioIo::new(io))
        .await
        .map_err(|error| exchange_error(error, ends))?;
    drive(connection, async {
        let response = sender.send_request(request).await.map_err(|error| exchange_error(error, ends))?;
        read(response, progress).await
    })
    .await
}

async fn http2<S>(
    io: S,
    get: &Get,
    ends: Ends,
    progress: &mut Progress,
) -> Result<(Reply, Option<String>), GetError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let authority = match &get.host_override {
        Some(host) => host.to_str().unwrap_or_default().to_owned(),
        None => get.url.authority(),
    };
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = Uri::builder()
        .scheme(get.url.scheme.as_str())
        .authority(authority)
        .path_and_query(get.url.path.as_str())
        .build()?;
    *request.headers_mut() = get.headers.clone();
    request.headers_mut().remove(CONNECTION);
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(io))
        .await
        .map_err(|error| exchange_error(error, ends))?;
    drive(connection, async {
        let response = sender.send_request(request).await.map_err(|error| exchange_error(error, ends))?;
        read(response, progress).await
    })
    .await
}

/// Runs a connection in the task that uses it, so that nothing of it outlives the attempt.
pub(crate) async fn drive<C: Future, W: Future>(connection: C, work: W) -> W::Output {
    let (mut connection, mut work) = (pin!(connection), pin!(work));
    let mut is_open = true;
    std::future::poll_fn(|cx| {
        if is_open && connection.as_mut().poll(cx).is_ready() {
            is_open = false;
        }
        match work.as_mut().poll(cx) {
            // The work may just have handed the connection something to send.
            Poll::Pending if is_open && connection.as_mut().poll(cx).is_ready() => {
                is_open = false;
                work.as_mut().poll(cx)
            }
            poll => poll,
        }
    })
    .await
}

async fn read(
    response: Response<Incoming>,
    progress: &mut Progress,
) -> Result<(Reply, Option<String>), GetError> {
    progress.is_reading_body = true;
    let (head, mut body) = response.into_parts();
    // A `Location` may hold UTF-8.
    let location = head.headers.get(LOCATION).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
    let mut bytes = BytesMut::new();
    while bytes.len() < MAX_OUTPUT_BYTES {
        let Some(frame) = body.frame().await else { break };
        let frame = frame.map_err(|error| GetError::Body(body_text(&error)))?;
        if let Some(data) = frame.data_ref() {
            bytes.extend_from_slice(&data[..data.len().min(MAX_OUTPUT_BYTES - bytes.len())]);
        }
    }
    Ok((Reply { status: head.status, body: bytes.freeze() }, location.filter(|l| !l.is_empty())))
}

fn body_text(error: &hyper::Error) -> String {
    match io_source(error) {
        Some(source) if source.raw_os_error().is_some() => text::errno(source),
        _ => "unexpected EOF".to_owned(),
    }
}

fn exchange_error(error: hyper::Error, ends: Ends) -> GetError {
    let text = match io_source(&error) {
        Some(source) if source.raw_os_error().is_some() => match ends {
            Some((local, peer)) => format!("read tcp {local}->{peer}: read: {}", text::errno(source)),
            None => format!("read: {}", text::errno(source)),
        },
        _ if error.is_parse_too_large() => "net/http: server response headers exceeded limit".to_owned(),
        _ if error.is_parse() => {
            "net/http: HTTP/1.x transport connection broken: malformed HTTP response".to_owned()
        }
        // hyper reports a peer that closed without an answer in one of these ways.
        _ if error.is_incomplete_message() || error.is_canceled() || error.is_closed() => "EOF".to_owned(),
        _ => error.to_string(),
    };
    GetError::Exchange { text, source: error }
}

fn io_source(error: &hyper::Error) -> Option<&std::io::Error> {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return Some(io);
        }
        source = cause.source();
    }
    None
}
