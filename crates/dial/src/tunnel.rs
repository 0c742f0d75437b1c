//! A tunnel by HTTP's method `CONNECT`.
//!
//! The client for it in `hyper-util` (0.1.21) does not say with which status a proxy refuses, which is what an operator has to
//! know of a proxy, and connects to the proxy by itself.

use bytes::Bytes;
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http1;
use thiserror::Error;

use crate::link::Stream;

/// Why there is no tunnel.
#[derive(Debug, Error)]
pub(crate) enum TunnelError {
    #[error("it answers {0}")]
    Refused(StatusCode),
    #[error("its answer")]
    Answer(#[from] hyper::Error),
    #[error("the server's address")]
    Address(#[from] http::Error),
}

/// Asks for a tunnel to `address`, of the form `HOST:PORT`.
pub(crate) async fn open(
    stream: Stream,
    address: String,
    authorization: Option<HeaderValue>,
) -> Result<Stream, TunnelError> {
    let mut request = Request::builder().method(Method::CONNECT).uri(&address).header(HOST, &address);
    if let Some(authorization) = authorization {
        request = request.header(PROXY_AUTHORIZATION, authorization);
    }
    let request = request.body(Empty::<Bytes>::new())?;
    let (mut sender, connection) = http1::handshake(stream).await?;
    let answered = async {
        let status = sender.send_request(request).await?.status();
        // Like Go, and unlike the standard, no other success is one.
        if status == StatusCode::OK { Ok(()) } else { Err(TunnelError::Refused(status)) }
    };
    let driven = async { connection.without_shutdown().await.map_err(TunnelError::from) };
    let ((), parts) = tokio::try_join!(answered, driven)?;
    // Nothing was read too much: a server with TLS does not speak before it is spoken to.
    Ok(parts.io)
}
