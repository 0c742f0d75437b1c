//! Whether this process is well, as `/healthz` and systemd's watchdog go by.

use std::sync::Arc;

use telemetry::log::LogHandle;

use crate::shell::pulse::Pulse;

/// What can be ill.
#[derive(Clone)]
pub(crate) struct Health {
    /// The core, which takes inputs.
    pub(crate) pulse: Arc<Pulse>,
    /// The log, whose lines somebody takes.
    pub(crate) log: LogHandle,
}

impl Health {
    /// What is wrong, if anything is.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.pulse.check()?;
        self.log()
    }

    /// What is wrong with the log, if anything is.
    pub(crate) fn log(&self) -> Result<(), String> {
        self.log.check().map_err(|error| error.to_string())
    }
}
