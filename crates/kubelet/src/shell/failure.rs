//! From adapters' errors to what the core tells apart, in one place.

use std::error::Error;

use node::{Failure, FailureKind, Outcome};
use runtime::RuntimeError;

/// A failure of no special kind.
pub(crate) fn other(message: String) -> Outcome {
    Outcome::Failed(Failure { kind: FailureKind::Other, message })
}

/// A runtime call that failed.
pub(crate) fn runtime(error: &RuntimeError) -> Outcome {
    Outcome::Failed(of_runtime(error, FailureKind::Other))
}

/// A runtime call that failed at a stage the core knows.
pub(crate) fn of_runtime(error: &RuntimeError, kind: FailureKind) -> Failure {
    let kind = if error.is_unavailable() { FailureKind::RuntimeUnavailable } else { kind };
    Failure { kind, message: error.message().to_owned() }
}

/// An error with everything below it, for a message that ends up in an event.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
