//! One attempt of a probe or a lifecycle hook: exec, HTTP, TCP, gRPC, sleep.
//!
//! | task | function | answer |
//! |---|---|---|
//! | a container's startup, liveness or readiness probe | [`attempt`] | [`ProbeOutcome`] |
//! | a `postStart` or `preStop` hook | [`hook::run`] | [`hook::HookReport`] or [`hook::HookError`] |
//!
//! Nothing here remembers anything between two calls: when to probe, and what follows from how
//! many failures, is the core's. Every function may be dropped at any await point: sockets close
//! with the future.
//!
//! Texts are those of the upstream kubelet, which are those of Go's network library, because
//! people (and tools) match on the `Unhealthy` event's message; [`text`] collects them.
//!
//! A probe costs one connection: no pool, no keep-alive, no TLS configuration built per attempt.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests spawn what ends with them"))]

mod dial;
mod exec;
mod expansion;
mod get;
mod grpc;
pub mod hook;
mod preface;
mod target;
mod text;
mod tls;
mod url;

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use model::probe::ProbeOutcome;

pub use exec::{ExecError, ExecOutput};

/// How often an attempt that could not be made at all is tried before it is reported as
/// [`ProbeOutcome::Error`]; upstream's number.
const MAX_TRIES: u32 = 3;
/// The Kubernetes version that probes and hooks name themselves after.
const KUBE_VERSION: &str = "1.37";
/// What is kept of a body or a command's output, bytes.
const MAX_OUTPUT_BYTES: usize = 10 * 1024;

/// What is probed.
#[derive(Clone, Copy, Debug)]
pub struct ProbeTarget<'a> {
    /// `status.podIP`, the host probes go to unless they name one. `None` while the pod has none.
    pub pod_ip: Option<IpAddr>,
    /// The container, for its named ports and static environment.
    pub container: &'a Container,
    /// Alpha behaviour that is off unless its feature gate is on.
    pub gates: ProbeGates,
}

/// Feature gates that change how a probe is made. All are off by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeGates {
    /// `H2CContainerProbe`: `httpGet.protocol: HTTP2` speaks HTTP/2 without TLS.
    pub is_h2c_enabled: bool,
    /// `GRPCContainerProbeTLS`: `grpc.mode: TLS` dials with TLS, unverified.
    pub is_grpc_tls_enabled: bool,
}

/// Makes one attempt of a probe, within the probe's own `timeoutSeconds` (1 when unset).
///
/// `exec` runs a command in the container and must itself end after the given timeout, because
/// only the runtime can end the process it started; it answers [`ExecError::TimedOut`] then.
/// An attempt that could not be made is repeated at once, three tries in all, as upstream does.
pub async fn attempt<F, R>(probe: &Probe, target: &ProbeTarget<'_>, exec: F) -> ProbeOutcome
where
    F: Fn(Vec<String>, Duration) -> R,
    R: Future<Output = Result<ExecOutput, ExecError>>,
{
    let seconds = probe.timeout_seconds.and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0).unwrap_or(1);
    let timeout = Duration::from_secs(seconds);
    let mut outcome = once(probe, target, &exec, timeout).await;
    for _ in 1..MAX_TRIES {
        if !matches!(outcome, ProbeOutcome::Error { .. }) {
            break;
        }
        outcome = once(probe, target, &exec, timeout).await;
    }
    outcome
}

/// Each kind is boxed: a command's probe need not be as large as one over TLS.
async fn once<F, R>(probe: &Probe, target: &ProbeTarget<'_>, exec: &F, timeout: Duration) -> ProbeOutcome
where
    F: Fn(Vec<String>, Duration) -> R,
    R: Future<Output = Result<ExecOutput, ExecError>>,
{
    if let Some(action) = &probe.exec {
        let command = action.command.as_deref().unwrap_or_default();
        let command = expansion::expand_command(command, target.container.env.as_deref().unwrap_or_default());
        return exec::outcome(Box::pin(exec(command.clone(), timeout)).await, &command, timeout);
    }
    if let Some(action) = &probe.http_get {
        return Box::pin(get::probe(action, target, timeout)).await;
    }
    if let Some(action) = &probe.tcp_socket {
        return match target::host_and_port(
            action.host.as_deref(),
            &action.port,
            target.pod_ip,
            target.container,
        ) {
            Ok((host, port)) => tcp(&host, port, timeout).await,
            Err(error) => ProbeOutcome::unknown(error.to_string()),
        };
    }
    if let Some(action) = &probe.grpc {
        return Box::pin(grpc::probe(action, target, timeout)).await;
    }
    ProbeOutcome::unknown(format!("missing probe handler for container {}", target.container.name))
}

async fn tcp(host: &str, port: u16, timeout: Duration) -> ProbeOutcome {
    match tokio::time::timeout(timeout, dial::connect(host, port)).await {
        Ok(Ok(_closed_at_once)) => ProbeOutcome::Success,
        Ok(Err(error)) => ProbeOutcome::Failure(error.to_string()),
        Err(_) => {
            ProbeOutcome::Failure(format!("dial tcp {}: i/o timeout", text::join_host_port(host, port)))
        }
    }
}

#[cfg(test)]
mod tests;
