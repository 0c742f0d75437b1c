//! What a command's end means for a probe.

use std::time::Duration;

use golang::duration;
use golang::quote::quoted;
use model::probe::ProbeOutcome;

use crate::MAX_OUTPUT_BYTES;

/// How a command in a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOutput {
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
    /// Its exit status.
    pub exit_code: i32,
}

/// Why a command did not run to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecError {
    /// It did not end in time; the runtime killed it.
    #[error("command timed out")]
    TimedOut,
    /// The runtime could not run it; the text is the runtime's.
    #[error("{0}")]
    Runtime(String),
}

/// The probe's outcome: exit status zero is success, any other a failure with the output, and a
/// command that could not be run says nothing about the container.
pub(crate) fn outcome(
    result: Result<ExecOutput, ExecError>,
    command: &[String],
    timeout: Duration,
) -> ProbeOutcome {
    match result {
        Ok(output) if output.exit_code == 0 => ProbeOutcome::Success,
        Ok(output) => ProbeOutcome::Failure(combined(output)),
        Err(error @ ExecError::TimedOut) => ProbeOutcome::Failure(timed_out(&error, command, timeout)),
        Err(error) => ProbeOutcome::unknown(error.to_string()),
    }
}

/// Standard output, then standard error, as much of both as an event can show.
pub(crate) fn combined(output: ExecOutput) -> String {
    let mut bytes = output.stdout;
    bytes.extend_from_slice(&output.stderr);
    bytes.truncate(MAX_OUTPUT_BYTES);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn timed_out(error: &ExecError, command: &[String], timeout: Duration) -> String {
    format!("{error}: {} timed out after {}", quoted(&command.join(" ")), duration::text(timeout))
}
