//! Sandboxes: from the core's wish to the runtime's calls.

use model::{AllocatedPod, RuntimeHandler, pod};
use node::{EventObject, EventRecord, Failure, FailureKind, Outcome, RuntimeOutcome};
use runtime::sandbox::{SandboxInputs, SandboxSpec};
use runtime::{PodTotals, dns, sandbox};

use super::adapters::Adapters;
use super::failure;

/// Creates and starts a sandbox and reads it back, since only its status has the addresses.
pub(crate) async fn run(
    adapters: &Adapters,
    pod: AllocatedPod,
    attempt: u32,
    handler: &RuntimeHandler,
) -> Outcome {
    let spec = match spec(adapters, &pod, attempt, handler).await {
        Ok(spec) => spec,
        Err(failure) => return Outcome::Failed(failure),
    };
    for warning in dns::for_pod(&pod, &adapters.dns_settings().await).warnings {
        adapters.api.record(EventRecord {
            about: EventObject::Pod { key: pod::key(&pod), uid: pod::uid(&pod), field_path: None },
            is_warning: true,
            reason: warning.reason.into(),
            message: warning.message,
        });
        if let Some(message) = warning.of_node {
            let (about, reason) = (EventObject::Node, warning.reason.into());
            adapters.api.record(EventRecord { about, is_warning: true, reason, message });
        }
    }
    let log_dir = spec.log_directory().to_owned();
    if let Err(error) = tokio::fs::create_dir_all(&log_dir).await {
        return failure::other(format!("create log folder {}: {error}", log_dir.display()));
    }
    let id = match adapters.sandbox_limit.run(adapters.runtime.run_sandbox(&spec)).await {
        Ok(id) => id,
        Err(error) => return failure::runtime(&error),
    };
    match adapters.runtime.sandbox(&id).await {
        Ok(Some(sandbox)) => Outcome::Runtime(RuntimeOutcome::SandboxStarted(sandbox)),
        Ok(None) => failure::other(format!("sandbox {id} vanished after its start")),
        Err(error) => failure::runtime_at(&error, FailureKind::SandboxStatus),
    }
}

/// The sandbox's description, which pulls and container creations need as well.
pub(crate) async fn spec(
    adapters: &Adapters,
    pod: &AllocatedPod,
    attempt: u32,
    handler: &RuntimeHandler,
) -> Result<SandboxSpec, Failure> {
    let dns = dns::for_pod(pod, &adapters.dns_settings().await);
    let totals = totals(pod);
    let inputs = SandboxInputs {
        attempt,
        cgroup_parent: adapters.cgroup_parent(pod)?,
        log_root: adapters.config.paths.pod_logs.clone(),
        cluster_domain: adapters.config.pods.cluster_domain.clone(),
        dns: dns.config,
        runtime_handler: handler.name.clone(),
        totals,
        volume_groups: Vec::new(),
        user_namespace: adapters.user_namespace(pod, handler).await?,
    };
    sandbox::spec(pod, &inputs, &adapters.runtime_node)
        .map_err(|error| Failure { kind: FailureKind::Other, message: error.to_string() })
}

fn totals(pod: &AllocatedPod) -> PodTotals {
    let requests = pod.requests();
    let limits = pod.limits();
    PodTotals {
        cpu_request: requests.get("cpu"),
        cpu_limit: limits.get("cpu").unwrap_or_default(),
        memory_limit: limits.get("memory").unwrap_or_default(),
        has_exclusive_cpus: false,
    }
}
