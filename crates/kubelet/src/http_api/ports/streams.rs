//! What is reached in containers, through the runtime.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use model::{Pod, pod};
use runtime::RuntimeError;
use server::ports::{ContainerTarget, StreamError, StreamPorts, Streams};
use tracing::info;

use super::NodePorts;
use crate::http_api::orphaned_input;

/// Where checkpoints of containers are written, below the root folder.
pub(crate) const CHECKPOINTS: &str = "checkpoints";

/// Upstream's words, which are no 404 for a client.
fn not_found(target: &ContainerTarget) -> String {
    format!("container not found ({:?})", target.container)
}

fn streams(streams: Streams) -> runtime::Streams {
    runtime::Streams {
        stdin: streams.has_stdin,
        stdout: streams.has_stdout,
        stderr: streams.has_stderr,
        tty: streams.is_tty,
    }
}

fn stream_error(error: &RuntimeError) -> StreamError {
    if error.is_not_found() {
        StreamError::NotFound(error.message().to_owned())
    } else {
        StreamError::Other(error.message().to_owned())
    }
}

impl StreamPorts for NodePorts {
    async fn exec_url(
        &self,
        target: &ContainerTarget,
        command: Vec<String>,
        wanted: Streams,
    ) -> Result<String, StreamError> {
        let missing = || StreamError::Other(not_found(target));
        let container = self.target(target).ok_or_else(missing)?;
        let url = self.runtime.exec(&container.id, &command, streams(wanted)).await;
        url.map_err(|e| stream_error(&e))
    }

    async fn attach_url(&self, target: &ContainerTarget, wanted: Streams) -> Result<String, StreamError> {
        let missing = || {
            let key = pod::key(&target.pod);
            let text =
                format!("container {} not found in pod {}_{}", target.container, key.name, key.namespace);
            StreamError::Other(text)
        };
        let container = self.target(target).ok_or_else(missing)?;
        self.runtime.attach(&container.id, streams(wanted)).await.map_err(|e| stream_error(&e))
    }

    async fn free_input(&self, target: &ContainerTarget) -> bool {
        let Some(container) = self.target(target) else { return false };
        orphaned_input::free(container.id.to_string()).await
    }

    async fn port_forward_url(&self, pod: &Arc<Pod>, ports: Vec<u16>) -> Result<String, StreamError> {
        let view = self.view_of(pod);
        let sandbox = view.as_ref().and_then(|v| v.observed.as_ref()?.ready_sandbox().map(|s| s.id.clone()));
        let name = pod::key(pod);
        let sandbox =
            sandbox.ok_or_else(|| StreamError::NotFound(format!("no running sandbox of pod {name}")))?;
        let ports: Vec<i32> = ports.into_iter().map(i32::from).collect();
        self.runtime.port_forward(&sandbox, &ports).await.map_err(|e| stream_error(&e))
    }

    async fn exec_sync(&self, target: &ContainerTarget, command: Vec<String>) -> Result<Vec<u8>, String> {
        let container = self.target(target).ok_or_else(|| not_found(target))?;
        let result = self.runtime.exec_sync(&container.id, &command, Duration::ZERO).await;
        let output = result.map_err(|e| e.message().to_owned())?;
        if output.exit_code != 0 {
            return Err(format!(
                "command '{}' exited with {}: {}",
                command.join(" "),
                output.exit_code,
                String::from_utf8_lossy(&output.stderr)
            ));
        }
        let mut all = output.stdout;
        all.extend(output.stderr);
        Ok(all)
    }

    async fn checkpoint(&self, target: &ContainerTarget, timeout: i64) -> Result<String, String> {
        if timeout < 0 {
            return Err("CheckpointContainer requires the timeout value to be > 0".to_owned());
        }
        let name = &target.container;
        let container = self.target(target).ok_or_else(|| format!("container {name} not found"))?;
        let key = pod::key(&target.pod);
        let time = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
        let file = format!("checkpoint-{}_{}-{name}-{time}.tar", key.name, key.namespace);
        let path = self.config.paths.root.join(CHECKPOINTS).join(file);
        let location = path.to_str().ok_or("the root folder's path is not UTF-8")?;
        info!(pod = %key, container = name, path = location, "Checkpointing a container");
        let done = self.runtime.checkpoint_container(&container.id, location, timeout).await;
        done.map(|()| location.to_owned()).map_err(|error| error.message().to_owned())
    }

    fn websocket_session(&self, kind: &'static str) {
        self.metrics.websocket_sessions.with([kind]).increment();
    }
}
