//! Begins the recording that `--record` asks for.

use anyhow::Context as _;
use config::Config;
use node::Settings;
use recording::{Recorder, Snapshot};
use tracing::info;

use crate::driver;

/// Begins it, if it is wanted. A node that cannot be recorded does not start: whoever asks for a recording wants to have
/// what happens from the first moment on.
pub(super) async fn begin(config: &Config, settings: &Settings) -> anyhow::Result<Option<Recorder>> {
    let Some(folder) = &config.process.record else { return Ok(None) };
    let context = "use the folder given to --record";
    let (recorder, begun) =
        driver::recording::begin(folder, Snapshot::of_settings(settings)?).context(context)?;
    tokio::task::spawn_blocking(move || begun.wait()).await?.context(context)?;
    info!(path = %folder.display(), "Started recording inputs and decisions");
    Ok(Some(recorder))
}
