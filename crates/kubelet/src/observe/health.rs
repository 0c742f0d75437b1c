//! Whether this process is well, as `/healthz` and systemd's watchdog go by.

use std::sync::Arc;

use telemetry::log::LogHandle;

use crate::observe::sync_loop_health::SyncLoopHealth;

/// What can be ill.
#[derive(Clone)]
pub(crate) struct Health {
    /// The core, which takes inputs.
    pub(crate) sync_loop: Arc<SyncLoopHealth>,
    /// The log, whose lines somebody takes.
    pub(crate) log: LogHandle,
}

impl Health {
    /// What is wrong, if anything is.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.sync_loop.check()?;
        self.log()
    }

    /// What is wrong with the log, if anything is.
    pub(crate) fn log(&self) -> Result<(), String> {
        self.log.check().map_err(|error| error.to_string())
    }
}
