//! What can go wrong between this node and its runtime.

use std::fmt;

use tonic::{Code, Status};

/// A failed runtime call: which call, about what, and what the runtime (or the connection) said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call}{} failed", of(object))]
pub struct RuntimeError {
    /// The RPC, such as `StopContainer`.
    pub call: &'static str,
    /// What it was about: an id, an image, a pod.
    pub object: String,
    /// What came back.
    pub source: RpcStatus,
}

/// Calls about the runtime itself are about nothing else.
fn of(object: &str) -> String {
    if object.is_empty() { String::new() } else { format!(" of {object:?}") }
}

/// A gRPC status reduced to what people and decisions need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcStatus {
    /// The status code.
    pub code: Code,
    /// The runtime's text.
    pub message: String,
}

impl fmt::Display for RpcStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The names of Go's library, which people know from upstream's events.
        match self.code {
            Code::Ok => write!(f, "rpc error: code = OK desc = {}", self.message),
            Code::Cancelled => write!(f, "rpc error: code = Canceled desc = {}", self.message),
            code => write!(f, "rpc error: code = {code:?} desc = {}", self.message),
        }
    }
}

impl std::error::Error for RpcStatus {}

/// What the HTTP library says of calls that were under way when the connection broke. Go's servers say "context canceled".
const DROPPED: &str = "operation was canceled";

impl From<Status> for RpcStatus {
    fn from(status: Status) -> Self {
        // A status with a source was made on this side: the connection broke under the call, for
        // which tonic has no code of its own.
        let is_local = std::error::Error::source(&status).is_some();
        let code = match status.code() {
            Code::Unknown if is_local => Code::Unavailable,
            // Whoever gives a call up here drops it, and hears nothing of it.
            Code::Cancelled if is_local || status.message() == DROPPED => Code::Unavailable,
            code => code,
        };
        Self { code, message: status.message().to_owned() }
    }
}

impl RuntimeError {
    /// The code as gRPC's documents write it: `DEADLINE_EXCEEDED`.
    pub(crate) fn code_name(&self) -> String {
        let mut name = String::new();
        for letter in format!("{:?}", self.source.code).chars() {
            if letter.is_ascii_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.push(letter.to_ascii_uppercase());
        }
        name
    }

    pub(crate) fn new(call: &'static str, object: impl Into<String>, source: impl Into<RpcStatus>) -> Self {
        Self { call, object: object.into(), source: source.into() }
    }

    /// An answer that lacks something the protocol promises.
    pub(crate) fn incomplete(call: &'static str, object: impl Into<String>, what: &str) -> Self {
        let message = format!("the answer has no {what}");
        Self { call, object: object.into(), source: RpcStatus { code: Code::Internal, message } }
    }

    /// The runtime's text alone, as container statuses and events carry it.
    pub fn message(&self) -> &str {
        &self.source.message
    }

    /// Whether the runtime does not know the object.
    pub fn is_not_found(&self) -> bool {
        self.source.code == Code::NotFound
    }

    /// Whether the runtime could not be reached.
    pub fn is_unavailable(&self) -> bool {
        self.source.code == Code::Unavailable
    }

    /// Whether the call's deadline passed.
    pub fn is_timeout(&self) -> bool {
        self.source.code == Code::DeadlineExceeded
    }

    /// Whether the runtime lacks the call. containerd 2.2 says so with code `Unknown`.
    pub fn is_unimplemented(&self) -> bool {
        self.source.code == Code::Unimplemented
            || (self.source.code == Code::Unknown && self.source.message.contains("not implemented"))
    }
}

/// Makes repeatable calls repeatable: what is gone already is gone.
pub(crate) fn gone_is_fine(result: Result<(), RuntimeError>) -> Result<(), RuntimeError> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_connection_is_no_word_of_the_runtime() {
        for (status, is_unavailable) in [
            (Status::cancelled("operation was canceled"), true),
            (Status::cancelled("context canceled"), false),
            (Status::unavailable("connection refused"), true),
            (Status::unknown("no such thing"), false),
            (Status::from_error(Box::new(std::io::Error::other("broken pipe"))), true),
        ] {
            let error = RuntimeError::new("Status", "", status);
            assert_eq!(error.is_unavailable(), is_unavailable, "{:?}", error.source);
        }
    }
}
