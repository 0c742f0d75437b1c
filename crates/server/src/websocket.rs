//! The server's end of a WebSocket (RFC 6455): the answer to the client's request, and the
//! connection after it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::{Sink, SinkExt as _, StreamExt as _};
use http::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

use crate::answer::{self, Answer};

/// Appended to the client's key before it is hashed (RFC 6455, section 1.3).
const ACCEPT_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Largest message taken, bytes; upstream's bound. Clients send pieces of 32 KiB.
const MAX_MESSAGE: usize = 32 << 20;

/// How much is read at once, bytes. Each session keeps this, by default 128 KiB; the room for a larger message comes
/// with the message.
const READ_BUFFER: usize = 4 << 10;

/// A connection that both sides agreed on.
pub(crate) type WebSocket = WebSocketStream<TokioIo<Upgraded>>;

/// A request that is fit to become a WebSocket.
pub(crate) struct UpgradeRequest {
    upgrade: OnUpgrade,
    accept: HeaderValue,
}

impl UpgradeRequest {
    /// Checks a request.
    ///
    /// # Errors
    /// The answer for the client when it is none.
    #[allow(clippy::result_large_err)]
    pub(crate) fn of(request: &mut Request<Incoming>) -> Result<Self, Answer> {
        let accept = accept(request.method(), request.headers());
        let accept = accept.map_err(|text| answer::text(StatusCode::BAD_REQUEST, text))?;
        Ok(Self { upgrade: hyper::upgrade::on(request), accept })
    }

    /// The answer that takes the offer, with one of the protocols the client named.
    pub(crate) fn take(&self, protocol: &str) -> Answer {
        let mut response = Response::new(answer::body(Bytes::new()));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept.clone());
        if let Ok(protocol) = HeaderValue::from_str(protocol) {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        response
    }

    /// The connection, once the answer has been sent.
    pub(crate) async fn connect(self) -> Result<WebSocket, hyper::Error> {
        let stream = TokioIo::new(self.upgrade.await?);
        Ok(over(stream).await)
    }
}

/// The server's end over a connection that both sides agreed on.
pub(crate) async fn over<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> WebSocketStream<S> {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await
}

pub(crate) fn accept(method: &Method, headers: &HeaderMap) -> Result<HeaderValue, &'static str> {
    let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
    if method != Method::GET {
        return Err("bad method: a WebSocket is opened with GET");
    }
    if headers.get(SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes) != Some(b"13") {
        return Err("missing or bad WebSocket version: want 13");
    }
    // Sixteen bytes in Base64.
    if key.len() != 24 {
        return Err("missing or bad WebSocket key");
    }
    let mut hash = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key);
    hash.update(ACCEPT_GUID.as_bytes());
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, hash.finish());
    HeaderValue::from_str(&text).map_err(|_| "bad WebSocket key")
}

/// What closes a connection in good order. Without a code, clients take it for a connection that broke.
pub(crate) fn normal_close() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))
}

/// A WebSocket's binary messages as a stream of bytes, in both directions.
pub(crate) fn into_bytes<S>(socket: WebSocketStream<S>) -> impl AsyncRead + AsyncWrite + Unpin + Send
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (sink, stream) = socket.split();
    let pieces = stream.filter_map(|message| {
        std::future::ready(match message {
            Ok(Message::Binary(bytes)) => Some(Ok(bytes)),
            Ok(_) => None,
            Err(error) => Some(Err(io_error(error))),
        })
    });
    let sink = BinaryMessages { sink, is_closing: false };
    tokio::io::join(StreamReader::new(pieces), SinkWriter::new(CopyToBytes::new(sink)))
}

/// Writes pieces as binary messages, and closes in good order.
struct BinaryMessages<K> {
    sink: K,
    is_closing: bool,
}

impl<K: Sink<Message, Error = Error> + Unpin> Sink<Bytes> for BinaryMessages<K> {
    type Error = std::io::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.get_mut().sink.poll_ready_unpin(cx).map_err(io_error)
    }

    fn start_send(self: Pin<&mut Self>, bytes: Bytes) -> Result<(), Self::Error> {
        self.get_mut().sink.start_send_unpin(Message::Binary(bytes)).map_err(io_error)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.get_mut().sink.poll_flush_unpin(cx).map_err(io_error)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let this = self.get_mut();
        if !this.is_closing {
            ready!(this.sink.poll_ready_unpin(cx)).map_err(io_error)?;
            this.sink.start_send_unpin(normal_close()).map_err(io_error)?;
            this.is_closing = true;
        }
        this.sink.poll_flush_unpin(cx).map_err(io_error)
    }
}

fn io_error(error: Error) -> std::io::Error {
    match error {
        Error::Io(error) => error,
        other => std::io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_to_be_well_formed() {
        let headers = |key: &'static str, version: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static(key));
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static(version));
            headers
        };
        // The example of RFC 6455, section 1.3.
        let good = headers("dGhlIHNhbXBsZSBub25jZQ==", "13");
        assert_eq!(accept(&Method::GET, &good).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(accept(&Method::POST, &good).is_err());
        assert!(accept(&Method::GET, &headers("dGhlIHNhbXBsZSBub25jZQ==", "8")).is_err());
        assert!(accept(&Method::GET, &headers("short", "13")).is_err());
        assert!(accept(&Method::GET, &HeaderMap::new()).is_err());
    }
}
