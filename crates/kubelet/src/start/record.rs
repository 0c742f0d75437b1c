//! Begins the recording that `--record` asks for.

use anyhow::Context as _;
use config::Config;
use node::Settings;
use recording::{Opening, Recorder};
use tracing::info;

use crate::shell;

/// Begins it, if it is wanted. A node that cannot be recorded does not start: whoever asks for a recording wants to have
/// what happens from the first moment on.
pub(super) async fn begin(config: &Config, settings: &Settings) -> anyhow::Result<Option<Recorder>> {
    let Some(folder) = &config.process.record else { return Ok(None) };
    let context = "use the folder given to --record";
    let (recorder, begun) =
        shell::recording::begin(folder, Opening::of_settings(settings)?).context(context)?;
    tokio::task::spawn_blocking(move || begun.wait()).await?.context(context)?;
    info!(path = %folder.display(), "Recording what the node is told and decides");
    Ok(Some(recorder))
}
