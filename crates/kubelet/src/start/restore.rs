//! Looks for what earlier processes have left on the node. Until the core is told of it, it does nothing but reads.

use std::sync::Arc;

use node::{Input, Restored};
use tokio::sync::mpsc::Sender;
use tracing::error;

use super::{folders, state_files};
use crate::executor::adapters::Adapters;
use crate::watchers::facts::Measured;

/// Tells the core of it, and, before that, what the node is, since every status is made from that.
pub(super) async fn restore(adapters: Arc<Adapters>, measured: Measured, inbox: Sender<Input>) {
    for input in measured.inputs() {
        // A node that has ended meanwhile has no use for it.
        let _ = inbox.send(input).await;
    }
    let look = move || Restored {
        pods: folders::found_on_host(&adapters),
        files: state_files::read(&adapters.config.paths.root),
    };
    match tokio::task::spawn_blocking(look).await {
        Ok(restored) => {
            let _ = inbox.send(Input::Restored(Box::new(restored))).await;
        }
        // Neither panics, nor is it cancelled before the process ends.
        Err(error) => {
            error!(err = %error, "Cannot look for what earlier processes have left; nothing is started")
        }
    }
}
