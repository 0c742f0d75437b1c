//! Opens the control socket, before the node connects to anything that may keep it waiting.

use std::sync::{Arc, OnceLock};

use node::View;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::Ground;
use crate::control::{ControlError, Scene, Stage, serve};
use crate::shell::Clock;
use crate::shell::recording::Order;

/// The control socket, open.
pub(super) struct Control {
    /// How far the start has come.
    pub(super) stage: watch::Sender<Stage>,
    /// What it answers from.
    pub(super) scene: Arc<Scene>,
    /// What is ordered of the recorder.
    pub(super) orders: mpsc::Receiver<Order>,
}

/// Opens it. Whoever starts the node says how far it has come.
///
/// # Errors
/// Its socket cannot be made.
pub(super) fn begin(
    ground: &Ground,
    clock: Clock,
    view: watch::Receiver<Arc<View>>,
    stop: CancellationToken,
) -> Result<Control, ControlError> {
    let (stage, at) = watch::channel(Stage::Connecting);
    // One at a time: whoever orders waits for the answer.
    let (orders, taken) = mpsc::channel(1);
    let scene = Arc::new(Scene {
        node_name: ground.host.node_name.clone(),
        clock,
        stage: at,
        view,
        identity: ground.identity.clone(),
        lease: OnceLock::new(),
        orders,
    });
    serve(&ground.config.paths.root, scene.clone(), stop)?;
    Ok(Control { stage, scene, orders: taken })
}
