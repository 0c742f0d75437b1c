//! One request and its answer, with errors callers can tell apart.
//!
//! The client library's own helpers write a body they cannot decode into the log; a body here
//! can be a Secret, so requests are built with the library and sent and decoded here.

use std::error::Error as StdError;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use kube::Client;
use kube::client::Body;
use kube::core::Status;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Largest answer read, bytes: etcd holds objects up to 1.5 MiB, a list of a node's pods stays far below.
const MAX_BODY: usize = 256 << 20;
/// Largest part of an unreadable error answer that is kept for the message, bytes.
const MAX_ERROR_TEXT: usize = 300;

/// A request to the API server that did not do what it should.
#[derive(Debug, Error)]
#[error("{operation} {object}")]
pub struct RequestError {
    /// What was tried: `patch status of pod`, `create lease`, …
    pub operation: &'static str,
    /// Whose: `namespace/name` or a name.
    pub object: String,
    /// Why it failed.
    #[source]
    pub cause: Cause,
}

/// Why a request failed.
#[derive(Debug, Error)]
pub enum Cause {
    /// The server answered and refused.
    #[error("server refused with {code} {reason}: {message}")]
    Refused {
        /// HTTP status.
        code: u16,
        /// `Status.reason`, empty when the answer was not a `Status`.
        reason: String,
        /// `Status.message`.
        message: String,
        /// `Status.details.retryAfterSeconds` or the `Retry-After` header.
        retry_after: Option<Duration>,
    },
    /// No answer: connection, TLS, time limit, credentials.
    #[error("no answer from the server")]
    Transport(#[source] Box<dyn StdError + Send + Sync>),
    /// The answer broke off or was too long.
    #[error("answer broke off")]
    Body(#[source] Box<dyn StdError + Send + Sync>),
    /// The answer was not what the API promises.
    #[error("answer is not the expected object")]
    Decode(#[source] serde_json::Error),
    /// The request could not be put together.
    #[error("request cannot be built")]
    Build(#[source] Box<dyn StdError + Send + Sync>),
}

impl RequestError {
    /// HTTP status of the refusal, if the server answered.
    pub fn code(&self) -> Option<u16> {
        match &self.cause {
            Cause::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// The server has no such object.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// The caller may not do this.
    pub fn is_forbidden(&self) -> bool {
        self.code() == Some(403)
    }

    /// Somebody else wrote in between, or a precondition did not hold.
    pub fn is_conflict(&self) -> bool {
        matches!(&self.cause, Cause::Refused { code: 409, reason, .. } if reason != "AlreadyExists")
    }

    /// An object of that name is there already.
    pub fn is_already_exists(&self) -> bool {
        matches!(&self.cause, Cause::Refused { code: 409, reason, .. } if reason == "AlreadyExists")
    }

    /// The version asked for is too old (or, for a list, too new for this server).
    pub fn is_expired(&self) -> bool {
        match &self.cause {
            Cause::Refused { code: 410, .. } => true,
            Cause::Refused { code: 504, message, .. } => message.contains("Too large resource version"),
            _ => false,
        }
    }

    /// Whether the same request may succeed later without anybody changing it.
    pub fn is_retryable(&self) -> bool {
        match &self.cause {
            Cause::Refused { code, .. } => matches!(code, 401 | 408 | 409 | 429) || *code >= 500,
            Cause::Transport(_) | Cause::Body(_) => true,
            Cause::Decode(_) | Cause::Build(_) => false,
        }
    }

    /// How long the server asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match &self.cause {
            Cause::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// Names a request for its errors.
#[derive(Clone, Debug)]
pub(crate) struct Purpose {
    pub(crate) operation: &'static str,
    pub(crate) object: String,
}

impl Purpose {
    pub(crate) fn new(operation: &'static str, object: impl Into<String>) -> Self {
        Self { operation, object: object.into() }
    }

    pub(crate) fn error(&self, cause: Cause) -> RequestError {
        RequestError { operation: self.operation, object: self.object.clone(), cause }
    }

    pub(crate) fn build(&self, error: impl StdError + Send + Sync + 'static) -> RequestError {
        self.error(Cause::Build(Box::new(error)))
    }
}

/// A request as the client library's builders make it.
pub(crate) type Built = Result<Request<Vec<u8>>, kube::core::request::Error>;

/// Sends a request and decodes the answer.
pub(crate) async fn call<T: DeserializeOwned>(
    client: &Client,
    purpose: &Purpose,
    request: Built,
) -> Result<T, RequestError> {
    let body = call_bytes(client, purpose, request).await?;
    serde_json::from_slice(&body).map_err(|error| purpose.error(Cause::Decode(error)))
}

/// Sends a request whose answer's content does not matter.
pub(crate) async fn call_bytes(
    client: &Client,
    purpose: &Purpose,
    request: Built,
) -> Result<Bytes, RequestError> {
    let response = open(client, purpose, request).await?;
    let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
    Ok(body.map_err(|error| purpose.error(Cause::Body(error)))?.to_bytes())
}

/// Sends a request and returns the answer once its head is there and says success.
pub(crate) async fn open(
    client: &Client,
    purpose: &Purpose,
    request: Built,
) -> Result<Response<Body>, RequestError> {
    let request = request.map_err(|error| purpose.build(error))?;
    let response = client.send(request.map(Body::from)).await;
    let response = response.map_err(|error| purpose.error(Cause::Transport(flatten(error))))?;
    if response.status().is_success() { Ok(response) } else { Err(refused(purpose, response).await) }
}

/// The bottom of the client library's wrapping, whose layers each print all layers below.
fn flatten(error: kube::Error) -> Box<dyn StdError + Send + Sync> {
    match error {
        kube::Error::Service(inner) => inner,
        other => Box::new(other),
    }
}

async fn refused(purpose: &Purpose, response: Response<Body>) -> RequestError {
    let code = response.status();
    let header = response.headers().get(http::header::RETRY_AFTER);
    let header = header.and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
    let body = match Limited::new(response.into_body(), 1 << 20).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => Bytes::new(),
    };
    purpose.error(refusal(code, &body, header))
}

fn refusal(code: StatusCode, body: &[u8], header: Option<Duration>) -> Cause {
    match serde_json::from_slice::<Status>(body) {
        Ok(status) if status.is_failure() => {
            let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
            let details = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
            Cause::Refused {
                code: code.as_u16(),
                reason: status.reason,
                message: status.message,
                retry_after: details.or(header),
            }
        }
        // A proxy or a server before it is ready answers with plain text.
        _ => Cause::Refused {
            code: code.as_u16(),
            reason: String::new(),
            message: String::from_utf8_lossy(&body[..body.len().min(MAX_ERROR_TEXT)]).trim().to_owned(),
            retry_after: header,
        },
    }
}

/// An error of a watch that is already open, as the server sends it inside the stream.
pub(crate) fn refusal_of(status: Status) -> Cause {
    Cause::Refused { code: status.code, reason: status.reason, message: status.message, retry_after: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart() {
        let status = |code: u16, reason: &str| {
            let body = format!(
                r#"{{"kind":"Status","status":"Failure","code":{code},"reason":"{reason}","message":"m","details":{{"retryAfterSeconds":7}}}}"#
            );
            Purpose::new("get", "x").error(refusal(
                StatusCode::from_u16(code).unwrap(),
                body.as_bytes(),
                Some(Duration::from_secs(1)),
            ))
        };
        assert!(status(404, "NotFound").is_not_found());
        assert!(status(409, "Conflict").is_conflict());
        assert!(!status(409, "AlreadyExists").is_conflict());
        assert!(status(409, "AlreadyExists").is_already_exists());
        assert!(status(410, "Expired").is_expired());
        assert!(status(429, "TooManyRequests").is_retryable());
        assert!(!status(422, "Invalid").is_retryable());
        assert_eq!(status(429, "TooManyRequests").retry_after(), Some(Duration::from_secs(7)));
    }

    #[test]
    fn a_plain_text_refusal_is_kept_short() {
        let long = "x".repeat(5000);
        let cause = refusal(StatusCode::BAD_GATEWAY, long.as_bytes(), None);
        let Cause::Refused { code, message, .. } = cause else { panic!("not a refusal") };
        assert_eq!((code, message.len()), (502, MAX_ERROR_TEXT));
    }
}
