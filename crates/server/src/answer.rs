//! Responses in the forms the API knows.

use std::convert::Infallible;
use std::io;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;

/// A body that is there, or one that comes bit by bit.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

pub(crate) type Answer = Response<Body>;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub(crate) fn body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// Plain text.
pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    with_type(status, TEXT, body(text))
}

/// JSON that is text already.
pub(crate) fn json(bytes: impl Into<Bytes>) -> Answer {
    with_type(StatusCode::OK, JSON, body(bytes))
}

/// A refusal of one line, as Go's HTTP library words it.
pub(crate) fn error(status: StatusCode, line: &str) -> Answer {
    unsniffed(text(status, format!("{line}\n")))
}

/// An answer whose type no browser may think better of.
pub(crate) fn unsniffed(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// An answer that does not say what it holds, where upstream does not either.
pub(crate) fn untyped(mut answer: Answer) -> Answer {
    answer.headers_mut().remove(CONTENT_TYPE);
    answer
}

/// Text that comes bit by bit, each bit flushed.
pub(crate) fn stream(stream: BoxStream<'static, io::Result<Bytes>>) -> Answer {
    stream_with(StatusCode::OK, TEXT, stream)
}

/// Anything that comes bit by bit.
pub(crate) fn stream_with(
    status: StatusCode,
    content_type: HeaderValue,
    stream: BoxStream<'static, io::Result<Bytes>>,
) -> Answer {
    with_type(status, content_type, StreamBody::new(stream.map_ok(Frame::data)).boxed_unsync())
}

pub(crate) fn method_not_allowed(allow: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed");
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    answer
}

pub(crate) fn with_type(status: StatusCode, content_type: HeaderValue, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}
