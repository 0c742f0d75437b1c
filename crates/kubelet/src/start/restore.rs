//! Looks for what earlier processes have left on the node. Until the core is told of it, it does nothing but reads.

use std::sync::Arc;

use config::Config;
use node::{Input, Machine, Restored};
use tokio::sync::mpsc::Sender;
use tracing::error;

use super::{Shared, folders, state_files};

/// Tells the core of it and of the machine, and, before that, what was read of the node, since every status is made from that.
pub(super) async fn restore(
    config: Arc<Config>,
    shared: Shared,
    machine: Machine,
    readings: [Input; 3],
    inbox: Sender<Input>,
) {
    for input in readings {
        // A node that has ended meanwhile has no use for it.
        let _ = inbox.send(input).await;
    }
    let look = move || Restored {
        machine,
        pods: folders::found_on_host(&shared.volumes, shared.cgroups.tree(), &config.paths.pod_logs),
        files: state_files::read(&config.paths.root),
        volumes: folders::found_volumes(&config.paths.root),
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
