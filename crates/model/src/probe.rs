//! What one probe attempt may say. Thresholds, and what follows from crossing one, are the core's.

use serde::{Deserialize, Serialize};

/// Which of a container's probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ProbeKind {
    /// Holds back the other two until it succeeded once.
    Startup,
    /// Restarts the container.
    Liveness,
    /// Takes the pod out of its Services.
    Readiness,
}

impl ProbeKind {
    /// The word used in events: `Startup`, `Liveness` or `Readiness`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// The outcome of one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeOutcome {
    /// The container answered as it should.
    Success,
    /// It answered, and upstream wants a `ProbeWarning` event with this text (an HTTP redirect
    /// to another host). Counts as success.
    Warning(String),
    /// It answered wrongly, or not in time; the text goes into the `Unhealthy` event.
    Failure(String),
    /// The attempt itself could not be made (say, the runtime was away). Counts for nothing.
    Error {
        /// How far it came.
        state: ErrorState,
        /// Why, for the `Unhealthy` event.
        text: String,
    },
}

impl ProbeOutcome {
    /// An attempt of which nothing was heard.
    pub fn unknown(text: impl Into<String>) -> Self {
        Self::Error { state: ErrorState::Unknown, text: text.into() }
    }
}

/// How far an attempt came that could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorState {
    /// There was no answer at all.
    Unknown,
    /// An answer began and broke off.
    Failure,
}

impl ErrorState {
    /// The word that upstream's event has for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Failure => "failure",
        }
    }
}
