//! Opens the control socket, before the node connects to anything that may keep it waiting.

use std::sync::{Arc, OnceLock};

use node::View;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::Prerequisites;
use crate::control::{ControlContext, ControlError, Stage, serve};
use crate::driver::Clock;
use crate::driver::recording::RecorderCommand;

/// The control socket, open.
pub(super) struct Control {
    /// How far the start has come.
    pub(super) stage: watch::Sender<Stage>,
    /// What it answers from.
    pub(super) context: Arc<ControlContext>,
    /// What is ordered of the recorder.
    pub(super) recorder_commands: mpsc::Receiver<RecorderCommand>,
}

/// Opens it. Whoever starts the node says how far it has come.
///
/// # Errors
/// Its socket cannot be made.
pub(super) fn begin(
    prerequisites: &Prerequisites,
    clock: Clock,
    view: watch::Receiver<Arc<View>>,
    stop: CancellationToken,
) -> Result<Control, ControlError> {
    let (stage, at) = watch::channel(Stage::Connecting);
    // One at a time: whoever recorder_commands waits for the answer.
    let (recorder_commands, taken) = mpsc::channel(1);
    let context = Arc::new(ControlContext {
        node_name: prerequisites.host.node_name.clone(),
        clock,
        stage: at,
        view,
        identity: prerequisites.identity.clone(),
        lease: OnceLock::new(),
        recorder_commands,
    });
    serve(&prerequisites.config.paths.root, context.clone(), stop)?;
    Ok(Control { stage, context, recorder_commands: taken })
}
