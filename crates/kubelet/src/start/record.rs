//! Begins the recording that `--record` asks for.

use anyhow::Context as _;
use config::Config;
use node::Settings;
use recording::{Limits, Recorder, Start};
use tracing::{info, warn};

use crate::commands;

/// Begins it, if it is wanted. A node that cannot be recorded does not start: whoever asks for a recording wants to have
/// what happens from the first moment on.
pub(super) fn begin(config: &Config, settings: &Settings) -> anyhow::Result<Option<Recorder>> {
    let Some(folder) = &config.process.record else { return Ok(None) };
    let start = Start::Settings(Box::new(settings.clone()));
    let on_end = |why: &str| warn!(err = why, "The recording has ended; the node goes on");
    let recorder = Recorder::begin(folder, Limits::default(), &commands::build(), start, on_end)
        .context("use the folder given to --record")?;
    info!(path = %recorder.recording().path().display(), "Recording what the node is told and decides");
    Ok(Some(recorder))
}
