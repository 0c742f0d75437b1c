//! The calls that change sandboxes and containers, and those that run commands in them.

use std::time::Duration;

use model::{ContainerId, SandboxId};
use tonic::Request;

use crate::client::{CallLabels, Runtime};
use crate::container::ContainerSpec;
use crate::error::{RuntimeError, gone_is_fine};
use crate::sandbox::SandboxSpec;
use crate::wire;

/// What a command in a container wrote and how it ended.
#[derive(Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// Exit status.
    pub exit_code: i32,
}

/// Without the output: commands print secrets.
impl std::fmt::Debug for ExecOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExecOutput").field("exit_code", &self.exit_code).finish_non_exhaustive()
    }
}

/// Which of the standard streams a streaming session carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    /// From the client to the process.
    pub stdin: bool,
    /// From the process to the client.
    pub stdout: bool,
    /// From the process to the client; must be off with a terminal, which has one output only.
    pub stderr: bool,
    /// Whether there is a terminal.
    pub tty: bool,
}

impl Runtime {
    /// Creates and starts a sandbox; may take twice the ordinary deadline, for the network.
    ///
    /// # Errors
    /// When the runtime refuses, or its network cannot be set up.
    pub async fn run_sandbox(&self, spec: &SandboxSpec) -> Result<SandboxId, RuntimeError> {
        let deadline = self.request_timeout() * 2;
        let mut request = Request::new(wire::RunPodSandboxRequest {
            config: Some(spec.config.clone()),
            runtime_handler: spec.runtime_handler.clone(),
        });
        request.set_timeout(deadline);
        let mut client = self.runtime();
        let object = spec.object();
        let labels =
            CallLabels { call: "RunPodSandbox", object: &object, handler: Some(&spec.runtime_handler) };
        let answer = self.observed(labels, Some(deadline), Box::pin(client.run_pod_sandbox(request))).await?;
        Ok(answer.pod_sandbox_id.into())
    }

    /// Ends everything in a sandbox and releases its network. Fine when it is gone already.
    ///
    /// # Errors
    /// When the runtime does not answer or could not do it.
    pub async fn stop_sandbox(&self, id: &SandboxId) -> Result<(), RuntimeError> {
        let mut client = self.runtime();
        let request = self.request(wire::StopPodSandboxRequest { pod_sandbox_id: id.to_string() });
        let result = self.call("StopPodSandbox", id.as_str(), client.stop_pod_sandbox(request)).await;
        gone_is_fine(result.map(|_| ()))
    }

    /// Deletes a sandbox and all its containers. Fine when it is gone already.
    ///
    /// # Errors
    /// When the runtime does not answer or could not do it.
    pub async fn remove_sandbox(&self, id: &SandboxId) -> Result<(), RuntimeError> {
        let mut client = self.runtime();
        let request = self.request(wire::RemovePodSandboxRequest { pod_sandbox_id: id.to_string() });
        let result = self.call("RemovePodSandbox", id.as_str(), client.remove_pod_sandbox(request)).await;
        gone_is_fine(result.map(|_| ()))
    }

    /// Creates a container in a sandbox. `sandbox_spec` is what the sandbox was made from.
    ///
    /// # Errors
    /// When the runtime refuses or does not answer.
    pub async fn create_container(
        &self,
        sandbox: &SandboxId,
        sandbox_spec: &SandboxSpec,
        spec: &ContainerSpec,
    ) -> Result<ContainerId, RuntimeError> {
        let mut client = self.runtime();
        let request = self.request(wire::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_string(),
            config: Some(spec.config.clone()),
            sandbox_config: Some(sandbox_spec.config.clone()),
        });
        let object = format!("{}/{}", sandbox_spec.object(), spec.name());
        let answer = self.call("CreateContainer", &object, client.create_container(request)).await?;
        Ok(answer.container_id.into())
    }

    /// Starts a created container.
    ///
    /// # Errors
    /// When its process cannot be started.
    pub async fn start_container(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        let mut client = self.runtime();
        let request = self.request(wire::StartContainerRequest { container_id: id.to_string() });
        self.call("StartContainer", id.as_str(), client.start_container(request)).await.map(|_| ())
    }

    /// Asks a container to end and kills it after the grace (whole seconds). Fine when it is
    /// gone already.
    ///
    /// # Errors
    /// When the runtime does not answer or could not do it.
    pub async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<(), RuntimeError> {
        let deadline = self.request_timeout().saturating_add(grace);
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let mut request = Request::new(wire::StopContainerRequest { container_id: id.to_string(), timeout });
        request.set_timeout(deadline);
        let mut client = self.runtime();
        let result = self
            .call_within(Some(deadline), "StopContainer", id.as_str(), client.stop_container(request))
            .await;
        gone_is_fine(result.map(|_| ()))
    }

    /// Deletes a container. Fine when it is gone already. Its log files stay.
    ///
    /// # Errors
    /// When the runtime does not answer or could not do it.
    pub async fn remove_container(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        let mut client = self.runtime();
        let request = self.request(wire::RemoveContainerRequest { container_id: id.to_string() });
        let result = self.call("RemoveContainer", id.as_str(), client.remove_container(request)).await;
        gone_is_fine(result.map(|_| ()))
    }

    /// Makes the runtime open a container's log anew, after a rotation renamed the file.
    ///
    /// # Errors
    /// When the container does not run or the runtime does not answer.
    pub async fn reopen_log(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        let mut client = self.runtime();
        let request = self.request(wire::ReopenContainerLogRequest { container_id: id.to_string() });
        self.call("ReopenContainerLog", id.as_str(), client.reopen_container_log(request)).await.map(|_| ())
    }

    /// Runs a command to its end. The runtime kills it after `timeout` (whole seconds, rounded
    /// up); zero means no limit at all.
    ///
    /// # Errors
    /// [`RuntimeError::is_timeout`] when it took too long; otherwise when it could not be run. A
    /// command that fails is no error.
    pub async fn exec_sync(
        &self,
        id: &ContainerId,
        command: &[String],
        timeout: Duration,
    ) -> Result<ExecOutput, RuntimeError> {
        let seconds = timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0);
        let deadline =
            (seconds > 0).then(|| self.request_timeout().saturating_add(Duration::from_secs(seconds)));
        let mut request = Request::new(wire::ExecSyncRequest {
            container_id: id.to_string(),
            cmd: command.to_vec(),
            timeout: i64::try_from(seconds).unwrap_or(i64::MAX),
        });
        if let Some(deadline) = deadline {
            request.set_timeout(deadline);
        }
        let mut client = self.runtime();
        let answer = self.call_within(deadline, "ExecSync", id.as_str(), client.exec_sync(request)).await?;
        Ok(ExecOutput { stdout: answer.stdout, stderr: answer.stderr, exit_code: answer.exit_code })
    }

    /// Writes all that is in a running container to an archive at `location`, on the runtime's host.
    /// It gets at least the ordinary deadline, and `timeout` seconds when that is more.
    ///
    /// # Errors
    /// When `timeout` is negative, or the runtime cannot do it or does not answer.
    pub async fn checkpoint_container(
        &self,
        id: &ContainerId,
        location: &str,
        timeout: i64,
    ) -> Result<(), RuntimeError> {
        let usual = self.request_timeout();
        let deadline = Duration::from_secs(u64::try_from(timeout).unwrap_or(0)).max(usual);
        let mut request = Request::new(wire::CheckpointContainerRequest {
            container_id: id.to_string(),
            location: location.to_owned(),
            timeout: i64::try_from(deadline.as_secs()).unwrap_or(i64::MAX),
        });
        request.set_timeout(deadline);
        let mut client = self.runtime();
        let answer = client.checkpoint_container(request);
        self.call_within(Some(deadline), "CheckpointContainer", id.as_str(), answer).await.map(|_| ())
    }

    /// Prepares an interactive command; the URL of the runtime's streaming server is answered.
    ///
    /// # Errors
    /// When the container does not run or the runtime does not answer.
    pub async fn exec(
        &self,
        id: &ContainerId,
        command: &[String],
        streams: Streams,
    ) -> Result<String, RuntimeError> {
        let mut client = self.runtime();
        let request = self.request(wire::ExecRequest {
            container_id: id.to_string(),
            cmd: command.to_vec(),
            tty: streams.tty,
            stdin: streams.stdin,
            stdout: streams.stdout,
            stderr: streams.stderr,
        });
        Ok(self.call("Exec", id.as_str(), client.exec(request)).await?.url)
    }

    /// Prepares attaching to a container's first process.
    ///
    /// # Errors
    /// When the container does not run or the runtime does not answer.
    pub async fn attach(&self, id: &ContainerId, streams: Streams) -> Result<String, RuntimeError> {
        let mut client = self.runtime();
        let request = self.request(wire::AttachRequest {
            container_id: id.to_string(),
            stdin: streams.stdin,
            tty: streams.tty,
            stdout: streams.stdout,
            stderr: streams.stderr,
        });
        Ok(self.call("Attach", id.as_str(), client.attach(request)).await?.url)
    }

    /// Prepares forwarding ports of a sandbox; the list may be empty when the protocol names
    /// them later.
    ///
    /// # Errors
    /// When the sandbox does not run or the runtime does not answer.
    pub async fn port_forward(&self, id: &SandboxId, ports: &[i32]) -> Result<String, RuntimeError> {
        let mut client = self.runtime();
        let request =
            self.request(wire::PortForwardRequest { pod_sandbox_id: id.to_string(), port: ports.to_vec() });
        Ok(self.call("PortForward", id.as_str(), client.port_forward(request)).await?.url)
    }
}
