//! Probes and hooks: the container's address and commands, put together for the prober.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use model::pod;
use model::probe::{ProbeKind, ProbeOutcome};
use model::{ContainerId, Pod};
use node::{EventObject, EventRecord, Hook, Outcome};
use prober::{ExecError, ExecOutput, ProbeGates, ProbeTarget};
use runtime::Runtime;
use telemetry::metrics::Metrics;
use tracing::warn;

use super::api::Api;
use super::failure;

/// Makes attempts of probes, and runs hooks.
pub(crate) struct Probes {
    pub(crate) runtime: Runtime,
    pub(crate) api: Arc<Api>,
    pub(crate) metrics: Arc<Metrics>,
    /// Of which kinds.
    pub(crate) gates: ProbeGates,
}

impl Probes {
    /// One attempt of one probe.
    pub(crate) async fn attempt(
        &self,
        pod: &Pod,
        container: &str,
        id: &ContainerId,
        kind: ProbeKind,
        pod_ip: Option<&str>,
    ) -> Outcome {
        let Some(container) = pod::container(pod, container) else { return Outcome::Cancelled };
        let spec = match kind {
            ProbeKind::Startup => container.spec.startup_probe.as_ref(),
            ProbeKind::Liveness => container.spec.liveness_probe.as_ref(),
            ProbeKind::Readiness => container.spec.readiness_probe.as_ref(),
        };
        let Some(spec) = spec else { return Outcome::Probed(ProbeOutcome::Success) };
        let target = self.target(&container.spec, pod_ip);
        let exec = |command, timeout| exec(self.runtime.clone(), id.clone(), command, timeout);
        Outcome::Probed(prober::attempt(spec, &target, exec).await)
    }

    /// One lifecycle hook, from beginning to end.
    pub(crate) async fn hook(
        &self,
        pod: &Pod,
        container: &str,
        id: &ContainerId,
        hook: Hook,
        pod_ip: Option<&str>,
        timeout: Option<Duration>,
    ) -> Outcome {
        let Some(container) = pod::container(pod, container) else { return Outcome::Cancelled };
        let handler: Option<LifecycleHandler> = container.spec.lifecycle.as_ref().and_then(|l| match hook {
            Hook::PostStart => l.post_start.clone(),
            Hook::PreStop => l.pre_stop.clone(),
        });
        let Some(handler) = handler else { return Outcome::Done };
        let target = self.target(&container.spec, pod_ip);
        let exec = |command| exec(self.runtime.clone(), id.clone(), command, Duration::ZERO);
        let run = prober::hook::run(&handler, &target, exec);
        let result = match timeout {
            Some(limit) => match tokio::time::timeout(limit, run).await {
                Ok(result) => result,
                Err(_) => {
                    if handler.sleep.is_some() {
                        self.metrics.sleeps_cut_short.increment();
                    }
                    warn!("{hook:?} hook did not complete within the grace period");
                    return failure::other(format!("{hook:?} hook did not end within the grace period"));
                }
            },
            None => run.await,
        };
        match result {
            Ok(report) => {
                if let Some(message) = report.http_fallback {
                    self.metrics.lifecycle_http_fallbacks.increment();
                    let about = EventObject::Pod { key: pod::key(pod), uid: pod::uid(pod), field_path: None };
                    let reason = "LifecycleHTTPFallback";
                    self.api.record(EventRecord { about, is_warning: true, reason: reason.into(), message });
                }
                Outcome::Done
            }
            Err(error) => {
                warn!(err = error.without_output(), "{hook:?} hook failed");
                let key = pod::key(pod);
                let name = format!("{}_{}({})", key.name, key.namespace, pod::uid(pod));
                failure::other(error.status_message(&container.spec.name, &name))
            }
        }
    }

    fn target<'a>(&self, container: &'a Container, pod_ip: Option<&str>) -> ProbeTarget<'a> {
        let pod_ip = pod_ip.and_then(|ip| ip.parse().ok());
        ProbeTarget { pod_ip, container, gates: self.gates }
    }
}

async fn exec(
    runtime: Runtime,
    id: ContainerId,
    command: Vec<String>,
    timeout: Duration,
) -> Result<ExecOutput, ExecError> {
    match runtime.exec_sync(&id, &command, timeout).await {
        Ok(output) => {
            Ok(ExecOutput { stdout: output.stdout, stderr: output.stderr, exit_code: output.exit_code })
        }
        Err(error) if error.is_timeout() => Err(ExecError::TimedOut),
        // With its code, as upstream has it in events about probes.
        Err(error) => Err(ExecError::Runtime(error.source.to_string())),
    }
}
