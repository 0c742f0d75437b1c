//! What is told of the connections to the API server, for whoever counts it.

use std::sync::Arc;
use std::time::Duration;

use crate::certificates::RotationEvent;
use crate::credentials::ExecPluginEvent;

/// Something happened to a credential.
#[derive(Clone, Debug)]
pub enum CredentialEvent {
    /// To the client certificate that is rotated.
    Client(RotationEvent),
    /// To the first client certificate, which is waited for before there is a connection.
    First(RotationEvent),
    /// To what an exec plugin hands out.
    Plugin(ExecPluginEvent),
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestEvent {
    /// It was answered, or was not.
    Answered(AnsweredRequest),
    /// All of the answer has arrived. Not told of watches.
    Received {
        /// The HTTP method.
        method: http::Method,
        /// Host and port of the server.
        host: String,
        /// Length of the answer's body.
        bytes: u64,
    },
    /// The server's name was looked up, with or without success.
    Resolved {
        /// The name.
        host: String,
        /// How long it took.
        took: Duration,
    },
}

/// A request that was answered, or was not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnsweredRequest {
    /// The HTTP method.
    pub method: http::Method,
    /// Host and port of the server.
    pub host: String,
    /// The HTTP status; `None` when there was no answer.
    pub code: Option<u16>,
    /// Length of its body; `None` without one.
    pub sent_bytes: Option<u64>,
    /// How long the limit of requests a second held it back.
    pub held_back: Duration,
    /// From sending the request to the head of its answer.
    pub took: Duration,
}

/// Hears of it. Called from requests and tasks: must not block.
pub struct Observer<T>(Option<Arc<dyn Fn(T) + Send + Sync>>);

impl<T> Observer<T> {
    /// One that calls a function.
    pub fn new(hear: impl Fn(T) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(hear)))
    }

    pub(crate) fn tell(&self, event: T) {
        if let Some(hear) = &self.0 {
            hear(event);
        }
    }
}

impl<T> Clone for Observer<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Observer<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> std::fmt::Debug for Observer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer")
    }
}
