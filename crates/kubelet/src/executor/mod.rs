//! The executor: carries out the core's actions, one match for each of their ports. One action, one task, one result.

pub(crate) mod action_labels;
pub(crate) mod adapters;
pub(crate) mod api;
pub(crate) mod cgroups;
mod containers;
mod environment;
pub(crate) mod exit_log;
pub(crate) mod failure;
mod images;
pub(crate) mod log_links;
pub(crate) mod objects;
mod probes;
pub(crate) mod pull_rate;
mod sandboxes;
pub(crate) mod soft_limit;
mod state_files;
#[cfg(test)]
mod tests;
pub(crate) mod user_namespaces;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use model::ContainerState;
use node::{
    Action, ApiAction, ApiOutcome, Failure, FailureKind, HostAction, ImageAction, Outcome, ProbeAction,
    RuntimeAction, RuntimeOutcome, VolumeAction, VolumeFailure, VolumeOutcome,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, error, info, trace, warn};

use action_labels::ActionLabels;
use adapters::Adapters;

/// Carries out an action and says how it ended, whatever happens.
pub(crate) async fn carry_out(adapters: Arc<Adapters>, action: Action, cancel: CancellationToken) -> Outcome {
    let labels = ActionLabels::of(&action);
    let span = labels.span();
    let traced = labels.traced(&adapters.tracer);
    let work = traced.run(perform(&adapters, action));
    let outcome = to_the_end(work, &cancel).instrument(span.clone()).await;
    match &outcome {
        Outcome::Failed(_) if labels.is_hook() => traced.fail("the hook failed".to_owned()),
        Outcome::Failed(failure) => traced.fail(failure.message.clone()),
        Outcome::Volume(VolumeOutcome::Failed(volumes)) => traced.fail(messages(volumes)),
        _ => {}
    }
    drop(traced);
    span.in_scope(|| log(&adapters, &labels, &outcome));
    outcome
}

/// Runs work to its end, to its cancellation or to its panic: each gives one outcome.
pub(crate) async fn to_the_end(work: impl Future<Output = Outcome>, cancel: &CancellationToken) -> Outcome {
    let work = AssertUnwindSafe(work).catch_unwind();
    // Cancel-safe on both sides: once cancelled, the work is dropped for good, which cancels
    // whatever call it was waiting for.
    tokio::select! {
        biased;
        outcome = work => outcome.unwrap_or_else(|_| {
            error!("Observed a panic in an action; this is a bug");
            Outcome::Failed(Failure { kind: FailureKind::Other, message: "internal error".to_owned() })
        }),
        () = cancel.cancelled() => Outcome::Cancelled,
    }
}

/// All that failed, in one text.
fn messages(volumes: &[VolumeFailure]) -> String {
    volumes.iter().map(|failure| failure.message.as_str()).collect::<Vec<_>>().join("; ")
}

fn log_failure(adapters: &Adapters, labels: &ActionLabels, message: &str, is_told: bool) {
    let what = labels.kind;
    if is_told && adapters.failures.is_new(&labels.identity(), message) {
        // Whether it is tried again, the core decides: what is never restarted is not.
        warn!(err = message, "Failed to {what}");
    } else {
        debug!(err = message, "Failed again to {what}");
    }
}

fn log(adapters: &Adapters, labels: &ActionLabels, outcome: &Outcome) {
    let what = labels.kind;
    match outcome {
        // Told where it failed, without what it printed: that may be secret.
        Outcome::Failed(_) if labels.is_hook() => {}
        Outcome::Failed(failure) => {
            // The runtime's absence is told by the health feed, once.
            let is_told = failure.kind != FailureKind::RuntimeUnavailable;
            log_failure(adapters, labels, &failure.message, is_told);
        }
        Outcome::Volume(VolumeOutcome::Failed(volumes)) => {
            log_failure(adapters, labels, &messages(volumes), true)
        }
        Outcome::Cancelled => debug!("Cancelled: {what}"),
        _ => {
            log_endings(adapters, outcome);
            if adapters.failures.succeeded(|| labels.identity()) {
                info!("Succeeded after failures: {what}");
            }
            match (outcome, labels.done()) {
                // The one line that says of a start that all went well.
                (Outcome::Api(ApiOutcome::Registered(node)), Some(done)) => {
                    info!(node = node.metadata.name.as_deref().unwrap_or_default(), "{done}");
                }
                (Outcome::Runtime(RuntimeOutcome::SandboxStarted(sandbox)), Some(done)) => {
                    info!(v = 2, podSandboxID = %sandbox.id, "{done}");
                }
                (Outcome::Runtime(RuntimeOutcome::ContainerStarted(container)), Some(done)) => {
                    info!(v = 2, containerID = %container.id, "{done}");
                }
                (Outcome::Runtime(RuntimeOutcome::ContainerStopped(Some(container))), Some(done)) => {
                    match &container.state {
                        ContainerState::Exited(exit) => {
                            adapters.exit_log.reported(&container.id);
                            info!(v = 2, exitCode = exit.exit_code, reason = exit.reason, "{done}");
                        }
                        _ => info!(v = 2, "{done}"),
                    }
                }
                (_, Some(done)) => info!(v = 2, "{done}"),
                // Every few seconds for every container: of interest to nobody but who debugs them.
                (
                    Outcome::Probed(_)
                    | Outcome::Runtime(RuntimeOutcome::Observed(_))
                    | Outcome::Runtime(RuntimeOutcome::Relisted(_)),
                    None,
                ) => {
                    trace!("Completed: {what}");
                }
                (_, None) => debug!("Completed: {what}"),
            }
        }
    }
}

/// Tells of containers that have ended by themselves.
fn log_endings(adapters: &Adapters, outcome: &Outcome) {
    match outcome {
        Outcome::Runtime(RuntimeOutcome::Relisted(pods)) => adapters.exit_log.relisted(pods),
        Outcome::Runtime(RuntimeOutcome::Observed(pod)) => {
            for container in adapters.exit_log.unreported(pod) {
                let ContainerState::Exited(exit) = &container.state else { continue };
                info!(
                    v = 2,
                    containerName = container.name,
                    containerID = %container.id,
                    exitCode = exit.exit_code,
                    reason = exit.reason,
                    "Container exited"
                );
            }
        }
        _ => {}
    }
}

/// Each action is a future of its own on the heap, as large as that action needs: hundreds of them
/// may be under way, and one type for all would be as large as the largest, several times over.
fn perform(adapters: &Adapters, action: Action) -> BoxFuture<'_, Outcome> {
    match action {
        Action::Runtime(action) => in_runtime(adapters, action),
        Action::Image(action) => on_image(adapters, action),
        Action::Volume(action) => on_volumes(adapters, action),
        Action::Host(action) => on_host(adapters, action),
        Action::Probe(action) => in_container(adapters, action),
        Action::Api(action) => in_api(adapters, action),
        Action::Checkpoint(write) => Box::pin(state_files::write(&adapters.config.paths.root, write)),
    }
}

fn in_runtime(adapters: &Adapters, action: RuntimeAction) -> BoxFuture<'_, Outcome> {
    let runtime = &adapters.runtime;
    match action {
        RuntimeAction::Relist => Box::pin(async {
            match runtime.relist().await {
                Ok(pods) => Outcome::Runtime(RuntimeOutcome::Relisted(pods)),
                Err(error) => failure::runtime(&error),
            }
        }),
        RuntimeAction::Observe { uid, key } => Box::pin(async move {
            match runtime.observe(&uid, &key).await {
                Ok(pod) => Outcome::Runtime(RuntimeOutcome::Observed(pod)),
                Err(error) => failure::runtime(&error),
            }
        }),
        RuntimeAction::RunSandbox { pod, attempt, handler } => {
            Box::pin(async move { sandboxes::run(adapters, pod, attempt, &handler).await })
        }
        RuntimeAction::StopSandbox { id, .. } => {
            Box::pin(async move { done(adapters.sandbox_limit.run(runtime.stop_sandbox(&id)).await) })
        }
        RuntimeAction::RemoveSandbox { id, .. } => {
            Box::pin(async move { done(runtime.remove_sandbox(&id).await) })
        }
        RuntimeAction::StartContainer {
            pod,
            container,
            sandbox,
            sandbox_attempt,
            attempt,
            image,
            facts,
            handler,
            target,
        } => {
            let start = containers::Start {
                pod,
                container,
                sandbox,
                sandbox_attempt,
                attempt,
                image,
                facts,
                handler,
                target,
            };
            Box::pin(containers::start(adapters, start))
        }
        RuntimeAction::StopContainer { id, sandbox, grace, .. } => {
            Box::pin(async move { containers::stop(runtime, &id, &sandbox, grace).await })
        }
        RuntimeAction::RemoveContainer { uid, key, container, id, attempt, keeps_log } => {
            let log = (!keeps_log).then_some(containers::Log { uid, key, container, attempt });
            Box::pin(async move { containers::remove(adapters, &id, log).await })
        }
        RuntimeAction::SetPodCidr { pod_cidr } => Box::pin(async move {
            let result = runtime.set_pod_cidr(&pod_cidr).await;
            if result.is_ok() {
                info!(podCIDR = pod_cidr, "Set pod CIDR of the runtime");
            }
            done(result)
        }),
    }
}

fn on_image(adapters: &Adapters, action: ImageAction) -> BoxFuture<'_, Outcome> {
    match action {
        ImageAction::Inspect { pod, container, question } => {
            Box::pin(async move { images::inspect(adapters, pod, &container, question).await })
        }
        ImageAction::Pull { pod, container, handler } => {
            Box::pin(async move { images::pull(adapters, pod, &container, &handler).await })
        }
    }
}

fn on_volumes(adapters: &Adapters, action: VolumeAction) -> BoxFuture<'_, Outcome> {
    let volumes = &adapters.volumes;
    match action {
        VolumeAction::Sync { pod, facts } => Box::pin(async move {
            match volumes.sync(&pod, &facts).await {
                Ok(synced) => Outcome::Volume(VolumeOutcome::Synced { refresh_after: synced.refresh_after }),
                Err(error) => failure::volumes(&error),
            }
        }),
        VolumeAction::TearDown { uid, .. } => Box::pin(async move {
            match volumes.tear_down(&uid).await {
                Ok(()) => Outcome::Done,
                Err(error) => failure::other(model::chain(&error)),
            }
        }),
    }
}

fn on_host(adapters: &Adapters, action: HostAction) -> BoxFuture<'_, Outcome> {
    match action {
        HostAction::EnsureCgroup { pod } => Box::pin(adapters.ensure_cgroup(pod)),
        HostAction::RemoveCgroup { uid, .. } => Box::pin(adapters.remove_cgroup(uid)),
        HostAction::UpdateQosCgroups { amounts, memory_bytes } => {
            Box::pin(adapters.update_qos_cgroups(amounts, memory_bytes))
        }
        HostAction::RemovePodLogs { uid, key } => Box::pin(adapters.remove_logs(uid, key)),
    }
}

fn in_container(adapters: &Adapters, action: ProbeAction) -> BoxFuture<'_, Outcome> {
    match action {
        ProbeAction::Attempt { pod, container, id, kind, pod_ip } => Box::pin(async move {
            probes::attempt(adapters, &pod, &container, &id, kind, pod_ip.as_deref()).await
        }),
        ProbeAction::Hook { pod, container, id, hook, pod_ip, timeout } => Box::pin(async move {
            probes::hook(adapters, &pod, &container, &id, hook, pod_ip.as_deref(), timeout).await
        }),
    }
}

fn in_api(adapters: &Adapters, action: ApiAction) -> BoxFuture<'_, Outcome> {
    let api = &adapters.api;
    match action {
        ApiAction::WriteStatus { key, uid, old, new } => {
            Box::pin(async move { api.write_status(&key, &uid, &old, &new).await })
        }
        ApiAction::DeletePod { key, uid } => Box::pin(async move { api.delete_pod(&key, &uid).await }),
        ApiAction::CreateMirror { pod, node_uid } => {
            Box::pin(async move { api.create_mirror(&pod, &node_uid).await })
        }
        ApiAction::RegisterNode { node } => {
            let looks_when_forbidden = !adapters.config.gates.enabled("KubeletRegistrationGetOnExistsOnly");
            Box::pin(api.register(*node, looks_when_forbidden))
        }
        ApiAction::WriteNodeStatus { old, new, metadata } => {
            Box::pin(async move { api.write_node_status(&old, &new, &metadata).await })
        }
    }
}

fn done(result: Result<(), runtime::RuntimeError>) -> Outcome {
    match result {
        Ok(()) => Outcome::Done,
        Err(error) => failure::runtime(&error),
    }
}
