//! From adapters' errors to what the core tells apart, in one place.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use node::{Failure, FailureKind, Outcome, VolumeFailure, VolumeOutcome, VolumeStage};
use runtime::RuntimeError;
use volumes::VolumeError;

/// A failure of no special kind.
pub(crate) fn other(message: String) -> Outcome {
    Outcome::Failed(Failure { kind: FailureKind::Other, message })
}

/// How a runtime call ended.
pub(crate) fn done(result: Result<(), RuntimeError>) -> Outcome {
    match result {
        Ok(()) => Outcome::Done,
        Err(error) => runtime(&error),
    }
}

/// A runtime call that failed, with the code of gRPC, as upstream tells of all but containers' starts.
pub(crate) fn runtime(error: &RuntimeError) -> Outcome {
    runtime_at(error, FailureKind::Other)
}

/// The same at a stage the core knows.
pub(crate) fn runtime_at(error: &RuntimeError, kind: FailureKind) -> Outcome {
    let failure = of_runtime(error, kind);
    Outcome::Failed(Failure { message: error.source.to_string(), ..failure })
}

/// A runtime call that failed at a stage the core knows. The text is the runtime's alone.
pub(crate) fn of_runtime(error: &RuntimeError, kind: FailureKind) -> Failure {
    let kind = if error.is_unavailable() { FailureKind::RuntimeUnavailable } else { kind };
    Failure { kind, message: error.message().to_owned() }
}

/// Volumes that could not be made, each with its reason.
pub(crate) fn volumes(error: &VolumeError) -> Outcome {
    if matches!(error, VolumeError::Folders { .. }) {
        return Outcome::Failed(Failure { kind: FailureKind::PodFolders, message: error.to_string() });
    }
    let one = |error: &VolumeError| {
        let volume = match error {
            VolumeError::SetUp { volume, .. } | VolumeError::Mount { volume, .. } => volume.clone(),
            _ => String::new(),
        };
        let stage = if error.is_before_mounting() { VolumeStage::Processing } else { VolumeStage::Mounting };
        VolumeFailure { volume, stage, message: error.to_string() }
    };
    Outcome::Volume(VolumeOutcome::Failed(error.all().into_iter().map(one).collect()))
}

/// Work that blocks, on a thread that may.
pub(super) async fn blocking<E: std::error::Error + Send + 'static>(
    work: impl FnOnce() -> Result<(), E> + Send + 'static,
) -> Outcome {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(())) => Outcome::Done,
        Ok(Err(error)) => other(model::chain(&error)),
        Err(_) => other("interrupted".to_owned()),
    }
}

/// Actions whose failure is remembered. Beyond that some failure is told twice.
const REMEMBERED: usize = 512;

/// Tells a new failure from the same one again. What is tried every few seconds for an hour would
/// otherwise fill the log with one line.
#[derive(Default)]
pub(crate) struct FailureLog {
    // Held for a look-up only.
    last: Mutex<HashMap<String, String>>,
}

impl FailureLog {
    /// Whether an action failed differently than the last time.
    pub(crate) fn is_new(&self, action: &str, message: &str) -> bool {
        let message = without_own_ports(message);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.get(action).is_some_and(|m| *m == message) {
            return false;
        }
        if last.len() >= REMEMBERED {
            last.clear();
        }
        last.insert(action.to_owned(), message);
        true
    }

    /// The action succeeded. Returns whether it had failed before.
    pub(crate) fn succeeded(&self, action: impl FnOnce() -> String) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        !last.is_empty() && last.remove(&action()).is_some()
    }
}

/// A message of a Go program without the port this side had in it, `10.0.0.1:49152->`, which is another one each time.
fn without_own_ports(message: &str) -> String {
    let mut parts: Vec<&str> = message.split("->").collect();
    let last = parts.pop();
    let stripped = parts.iter().map(|part| part.trim_end_matches(|c: char| c.is_ascii_digit()));
    stripped.chain(last).collect::<Vec<_>>().join("->")
}

#[cfg(test)]
mod tests {
    use super::FailureLog;

    #[test]
    fn another_port_on_this_side_is_no_other_failure() {
        let log = FailureLog::default();
        let failed = |port: u16, to: &str| {
            log.is_new("pull", &format!("lookup example.com: read udp 127.0.0.1:{port}->{to}: refused"))
        };
        assert!(failed(42142, "127.0.0.1:53"));
        assert!(!failed(39577, "127.0.0.1:53"));
        assert!(failed(39577, "127.0.0.1:54"), "another server is");
        assert!(log.is_new("exit", "exit status 1") && log.is_new("exit", "exit status 2"));
    }

    #[test]
    fn a_failure_is_new_until_it_repeats_and_after_a_success() {
        let log = FailureLog::default();
        assert!(log.is_new("a", "x"));
        assert!(!log.is_new("a", "x"));
        assert!(log.is_new("a", "y"));
        assert!(log.is_new("b", "y"));
        assert!(log.succeeded(|| "a".into()));
        assert!(!log.succeeded(|| "a".into()));
        assert!(log.is_new("a", "y"));
    }
}
