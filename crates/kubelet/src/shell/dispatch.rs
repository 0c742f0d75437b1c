//! One effect, one task, one result.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use node::{Action, Failure, FailureKind, Outcome};
use tokio_util::sync::CancellationToken;
use tracing::{Level, debug, enabled, error, info, warn};

use super::adapters::Adapters;
use super::{containers, failure, images, probes, sandboxes};

/// Carries out an action and says how it ended, whatever happens.
pub(crate) async fn carry_out(adapters: Arc<Adapters>, action: Action, cancel: CancellationToken) -> Outcome {
    let about = describe(&action);
    let outcome = to_the_end(perform(&adapters, action), &cancel).await;
    log(&adapters, &about, &outcome);
    outcome
}

/// Runs work to its end, to its cancellation or to its panic: each gives one outcome.
pub(super) async fn to_the_end(work: impl Future<Output = Outcome>, cancel: &CancellationToken) -> Outcome {
    let work = AssertUnwindSafe(work).catch_unwind();
    // Cancel-safe on both sides: once cancelled, the work is dropped for good, which cancels
    // whatever call it was waiting for.
    tokio::select! {
        biased;
        outcome = work => outcome.unwrap_or_else(|_| {
            error!("an action panicked; this is a bug");
            Outcome::Failed(Failure { kind: FailureKind::Other, message: "internal error".to_owned() })
        }),
        () = cancel.cancelled() => Outcome::Cancelled,
    }
}

fn log(adapters: &Adapters, about: &str, outcome: &Outcome) {
    match outcome {
        Outcome::Failed(failure) => {
            let is_away = failure.kind == FailureKind::RuntimeUnavailable;
            // The runtime's absence is told by the health feed, once.
            if !is_away && adapters.failures.is_new(about, &failure.message) {
                warn!(action = about, "failed, will be tried again: {}", failure.message);
            } else {
                debug!(action = about, "failed again: {}", failure.message);
            }
        }
        Outcome::Cancelled => debug!(action = about, "cancelled"),
        _ => {
            if adapters.failures.succeeded(about) {
                info!(action = about, "succeeded after failures");
            }
            match outcome {
                Outcome::SandboxStarted(sandbox) => info!(action = about, sandbox = %sandbox.id, "done"),
                Outcome::ContainerStarted(container) => {
                    info!(action = about, container = %container.id, "done")
                }
                _ if about.is_empty() => {}
                _ => debug!(action = about, "done"),
            }
        }
    }
}

/// What a log line calls an action. Empty where a line would not be written anyway.
fn describe(action: &Action) -> String {
    let pod = |p: &model::Pod| model::pod::key(p);
    match action {
        Action::Probe { .. } if !enabled!(Level::TRACE) => String::new(),
        Action::Relist => "relist".to_owned(),
        Action::Observe { key, .. } => format!("read pod {key}"),
        Action::Probe { pod: p, container, kind, .. } => {
            format!("{} probe of container {container} of pod {}", kind.as_str(), pod(p))
        }
        Action::EnsureCgroup { pod: p } => format!("make cgroup of pod {}", pod(p)),
        Action::RemoveCgroup { uid } => format!("remove cgroup of pod {uid}"),
        Action::SyncVolumes { pod: p, .. } => format!("mount volumes of pod {}", pod(p)),
        Action::TearDownVolumes { uid } => format!("remove volumes of pod {uid}"),
        Action::InspectImage { pod: p, container } => {
            format!("inspect image of container {container} of pod {}", pod(p))
        }
        Action::PullImage { pod: p, container } => {
            format!("pull image of container {container} of pod {}", pod(p))
        }
        Action::RunSandbox { pod: p, .. } => format!("run sandbox of pod {}", pod(p)),
        Action::StopSandbox { id } => format!("stop sandbox {id}"),
        Action::RemoveSandbox { id } => format!("remove sandbox {id}"),
        Action::StartContainer { pod: p, container, .. } => {
            format!("start container {container} of pod {}", pod(p))
        }
        Action::StopContainer { id, .. } => format!("stop container {id}"),
        Action::RemoveContainer { id, .. } => format!("remove container {id}"),
        Action::RunHook { pod: p, container, hook, .. } => {
            format!("run {hook:?} hook of container {container} of pod {}", pod(p))
        }
        Action::WriteStatus { key, .. } => format!("write status of pod {key}"),
        Action::DeletePod { key, .. } => format!("remove pod {key} from the API server"),
        Action::CreateMirror { pod: p } => format!("create mirror of static pod {}", pod(p)),
        Action::RemovePodLogs { uid, .. } => format!("remove logs of pod {uid}"),
        Action::RegisterNode { .. } => "register node".to_owned(),
        Action::WriteNodeStatus { .. } => "write node status".to_owned(),
    }
}

async fn perform(adapters: &Adapters, action: Action) -> Outcome {
    match action {
        Action::Relist => match adapters.runtime.relist().await {
            Ok(pods) => Outcome::Relisted(pods),
            Err(error) => failure::runtime(&error),
        },
        Action::Observe { uid, key } => match adapters.runtime.observe(&uid, &key).await {
            Ok(pod) => Outcome::Observed(pod),
            Err(error) => failure::runtime(&error),
        },
        Action::EnsureCgroup { pod } => adapters.ensure_cgroup(pod).await,
        Action::RemoveCgroup { uid } => adapters.remove_cgroup(uid).await,
        Action::SyncVolumes { pod, pod_ips } => {
            match adapters.volumes.sync(&pod, &adapters.pod_facts(pod_ips)).await {
                Ok(synced) => Outcome::VolumesSynced { refresh_after: synced.refresh_after },
                Err(error) => failure::other(failure::chain(&error)),
            }
        }
        Action::TearDownVolumes { uid } => match adapters.volumes.tear_down(&uid).await {
            Ok(()) => Outcome::Done,
            Err(error) => failure::other(failure::chain(&error)),
        },
        Action::InspectImage { pod, container } => images::inspect(adapters, pod, &container).await,
        Action::PullImage { pod, container } => images::pull(adapters, pod, &container).await,
        Action::RunSandbox { pod, attempt } => sandboxes::run(adapters, pod, attempt).await,
        Action::StopSandbox { id } => {
            done(adapters.sandbox_turns.take(adapters.runtime.stop_sandbox(&id)).await)
        }
        Action::RemoveSandbox { id } => done(adapters.runtime.remove_sandbox(&id).await),
        Action::StartContainer { pod, container, sandbox, attempt, image, pod_ips } => {
            let start = containers::Start { pod, container, sandbox, attempt, image, pod_ips };
            containers::start(adapters, start).await
        }
        Action::StopContainer { uid, id, grace } => containers::stop(adapters, &uid, &id, grace).await,
        Action::RemoveContainer { uid, id } => containers::remove(adapters, &uid, &id).await,
        Action::RunHook { pod, container, id, hook, pod_ip, timeout } => {
            probes::hook(adapters, &pod, &container, &id, hook, pod_ip.as_deref(), timeout).await
        }
        Action::Probe { pod, container, id, kind, pod_ip } => {
            probes::attempt(adapters, &pod, &container, &id, kind, pod_ip.as_deref()).await
        }
        Action::WriteStatus { key, uid, old, new } => adapters.api.write_status(&key, &uid, &old, &new).await,
        Action::DeletePod { key, uid } => adapters.api.delete_pod(&key, &uid).await,
        Action::CreateMirror { pod } => adapters.api.create_mirror(&pod).await,
        Action::RemovePodLogs { uid, key } => adapters.remove_logs(uid, key).await,
        Action::RegisterNode { node } => adapters.api.register(*node).await,
        Action::WriteNodeStatus { old, new } => adapters.api.write_node_status(&old, &new).await,
    }
}

fn done(result: Result<(), runtime::RuntimeError>) -> Outcome {
    match result {
        Ok(()) => Outcome::Done,
        Err(error) => failure::runtime(&error),
    }
}
