//! Input that programs in a container did not read before they ended, and that keeps the runtime from saying so.

use std::time::Duration;

use host::orphaned_pipes::{OrphanedPipe, orphaned_pipes};
use tokio::task::spawn_blocking;
use tracing::{debug, info};

/// A pipe's end that is on its way from one process to another has arrived by then.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// Drops such input of a container's programs. Returns whether there was some.
pub(crate) async fn free(container: String) -> bool {
    let suspected = look(&container).await;
    if suspected.is_empty() {
        return false;
    }
    tokio::time::sleep(BETWEEN_LOOKS).await;
    let mut orphaned = look(&container).await;
    orphaned.retain(|pipe| suspected.contains(pipe));
    let drain = move || {
        for pipe in &orphaned {
            match pipe.drain() {
                Ok(bytes) => info!(container, bytes, "Drained stdin of an exited process"),
                // Whoever held it has ended.
                Err(error) => debug!(
                    container,
                    error = &error as &dyn std::error::Error,
                    "Failed to drain stdin of an exited process"
                ),
            }
        }
        !orphaned.is_empty()
    };
    spawn_blocking(drain).await.unwrap_or_default()
}

/// Nothing, should the look be cut short by the end of this process.
async fn look(container: &str) -> Vec<OrphanedPipe> {
    let id = container.to_owned();
    spawn_blocking(move || orphaned_pipes(&id)).await.unwrap_or_default()
}
