//! The executor: carries out the core's actions, one match for each of their ports. One action, one task, one result.

pub(crate) mod action_labels;
pub(crate) mod action_log;
pub(crate) mod adapters;
pub(crate) mod api;
pub(crate) mod cgroups;
pub(crate) mod containers;
pub(crate) mod environment;
mod exit_log;
pub(crate) mod failure;
pub(crate) mod images;
pub(crate) mod log_links;
pub(crate) mod measurements;
pub(crate) mod objects;
pub(crate) mod plugins;
pub(crate) mod pod_logs;
pub(crate) mod probes;
pub(crate) mod pull_rate;
pub(crate) mod sandboxes;
pub(crate) mod soft_limit;
mod state_files;
pub(crate) mod storage;
#[cfg(test)]
mod tests;
pub(crate) mod user_namespaces;
mod volume_growth;

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::Config;
use futures::FutureExt;
use futures::future::BoxFuture;
use model::PodUid;
use node::{
    Action, ApiAction, CheckpointAction, Failure, FailureKind, HostAction, ImageAction, Outcome,
    PluginAction, ProbeAction, RuntimeAction, RuntimeOutcome, VolumeAction, VolumeFailure, VolumeOutcome,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, error, info};

use action_labels::ActionLabels;
use adapters::{Adapters, ApiAdapter, HostAdapter, RuntimeAdapter, VolumeAdapter};
use images::Images;
use plugins::Plugins;
use probes::Probes;

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
    span.in_scope(|| adapters.log.tell(&labels, &outcome));
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

/// Each action is a future of its own on the heap, as large as that action needs: hundreds of them
/// may be under way, and one type for all would be as large as the largest, several times over.
fn perform(adapters: &Adapters, action: Action) -> BoxFuture<'_, Outcome> {
    match action {
        Action::Runtime(action) => in_runtime(&adapters.runtime, action),
        Action::Image(action) => on_image(&adapters.images, action),
        Action::Volume(action) => on_volumes(&adapters.volumes, action),
        Action::Storage(action) => Box::pin(adapters.storage.carry_out(action)),
        Action::Plugin(action) => of_plugin(&adapters.plugins, action),
        Action::Host(action) => on_host(&adapters.host, action),
        Action::Probe(action) => in_container(&adapters.probes, action),
        Action::Api(action) => in_api(&adapters.api, action),
        Action::Checkpoint(action) => on_state_file(&adapters.state_files, action),
    }
}

fn on_state_file(root: &Path, action: CheckpointAction) -> BoxFuture<'_, Outcome> {
    match action {
        CheckpointAction::Write(write) => Box::pin(state_files::write(root, write)),
        CheckpointAction::Sync(file) => Box::pin(state_files::sync(root, file)),
    }
}

fn in_runtime(adapter: &RuntimeAdapter, action: RuntimeAction) -> BoxFuture<'_, Outcome> {
    let RuntimeAdapter { runtime, sandboxes, containers } = adapter;
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
        RuntimeAction::RunSandbox { pod, attempt, loss, handler, volume_groups } => {
            Box::pin(async move { sandboxes.run(pod, attempt, loss, &handler, volume_groups).await })
        }
        RuntimeAction::StopSandbox { id, .. } => Box::pin(async move { sandboxes.stop(&id).await }),
        RuntimeAction::RemoveSandbox { id, .. } => {
            Box::pin(async move { failure::done(runtime.remove_sandbox(&id).await) })
        }
        RuntimeAction::StartContainer(start) => Box::pin(containers.start(*start)),
        RuntimeAction::StopContainer { id, sandbox, grace, .. } => {
            Box::pin(async move { containers::stop(runtime, &id, &sandbox, grace).await })
        }
        RuntimeAction::RemoveContainer { uid, key, container, id, attempt, keeps_log } => {
            let log = (!keeps_log).then_some(containers::Log { uid, key, container, attempt });
            Box::pin(async move { containers.remove(&id, log).await })
        }
        RuntimeAction::SetPodCidr { pod_cidr } => Box::pin(async move {
            let result = runtime.set_pod_cidr(&pod_cidr).await;
            if result.is_ok() {
                info!(podCIDR = pod_cidr, "Set pod CIDR of the runtime");
            }
            failure::done(result)
        }),
    }
}

fn on_image(images: &Images, action: ImageAction) -> BoxFuture<'_, Outcome> {
    match action {
        ImageAction::Inspect { pod, used_by, question } => {
            Box::pin(async move { images.inspect(pod, &used_by, question).await })
        }
        ImageAction::Pull { pod, used_by, handler } => {
            Box::pin(async move { images.pull(pod, &used_by, &handler).await })
        }
        ImageAction::Remove { image, .. } => Box::pin(async move { images.remove(&image).await }),
        ImageAction::PruneRecords => Box::pin(images.prune_records()),
    }
}

fn on_volumes(adapter: &VolumeAdapter, action: VolumeAction) -> BoxFuture<'_, Outcome> {
    let VolumeAdapter { volumes, user_namespaces } = adapter;
    match action {
        VolumeAction::Sync { pod, facts } => Box::pin(async move {
            match volumes.sync(&pod, &facts).await {
                Ok(synced) => Outcome::Volume(VolumeOutcome::Synced { refresh_after: synced.refresh_after }),
                Err(error) => failure::volumes(&error),
            }
        }),
        VolumeAction::TearDown { uid, .. } => Box::pin(async move {
            match volumes.tear_down(&uid).await {
                Ok(()) => user_namespaces.free(uid).await,
                Err(error) => failure::other(model::chain(&error)),
            }
        }),
        VolumeAction::RemoveFolder { uid, .. } => Box::pin(async move {
            match volumes.remove_folder(&uid).await {
                Ok(()) => Outcome::Done,
                Err(error) => failure::other(model::chain(&error)),
            }
        }),
    }
}

fn of_plugin(plugins: &Plugins, action: PluginAction) -> BoxFuture<'_, Outcome> {
    match action {
        PluginAction::GetInfo { socket } => Box::pin(async move { plugins.get_info(&socket).await }),
        PluginAction::Notify { socket, refusal } => {
            Box::pin(async move { plugins.notify(&socket, refusal.as_deref()).await })
        }
        PluginAction::NodeGetInfo { driver, endpoint } => {
            Box::pin(async move { plugins.node_get_info(&driver, &endpoint).await })
        }
    }
}

fn on_host(adapter: &HostAdapter, action: HostAction) -> BoxFuture<'_, Outcome> {
    let HostAdapter { cgroups, pod_logs, measurements } = adapter;
    match action {
        HostAction::EnsureCgroup { pod } => Box::pin(cgroups.ensure_pod(pod)),
        HostAction::ReadPodCgroups { pods } => Box::pin(cgroups.read_pods(pods)),
        HostAction::RemoveCgroup { uid, .. } => Box::pin(cgroups.remove_pod(uid)),
        HostAction::UpdateQosCgroups { amounts, memory_bytes } => {
            Box::pin(cgroups.update_classes(amounts, memory_bytes))
        }
        HostAction::RemovePodLogs { uid, key } => Box::pin(pod_logs.remove(uid, key)),
        HostAction::TakeSample => Box::pin(measurements.sample()),
        HostAction::MeasurePods { pods, with_files, .. } => Box::pin(measurements.pods(pods, with_files)),
    }
}

fn in_container(probes: &Probes, action: ProbeAction) -> BoxFuture<'_, Outcome> {
    match action {
        ProbeAction::Attempt { pod, container, id, kind, pod_ip } => {
            Box::pin(async move { probes.attempt(&pod, &container, &id, kind, pod_ip.as_deref()).await })
        }
        ProbeAction::Hook { pod, container, id, hook, pod_ip, timeout } => {
            Box::pin(
                async move { probes.hook(&pod, &container, &id, hook, pod_ip.as_deref(), timeout).await },
            )
        }
    }
}

fn in_api(adapter: &ApiAdapter, action: ApiAction) -> BoxFuture<'_, Outcome> {
    let ApiAdapter { api, looks_when_forbidden } = adapter;
    match action {
        ApiAction::WriteStatus { key, uid, old, new } => {
            Box::pin(async move { api.write_status(&key, &uid, &old, &new).await })
        }
        ApiAction::DeletePod { key, uid } => Box::pin(async move { api.delete_pod(&key, &uid).await }),
        ApiAction::CreateMirror { pod, node_uid } => {
            Box::pin(async move { api.create_mirror(&pod, &node_uid).await })
        }
        ApiAction::RegisterNode { node } => Box::pin(api.register(*node, *looks_when_forbidden)),
        ApiAction::WriteNodeStatus { old, new, metadata } => {
            Box::pin(async move { api.write_node_status(&old, &new, &metadata).await })
        }
        ApiAction::WriteNodeMetadata { metadata } => {
            Box::pin(async move { api.write_node_metadata(&metadata).await })
        }
        ApiAction::ReadCsiNode => Box::pin(api.read_csi_node()),
        ApiAction::WriteCsiNode { object } => Box::pin(async move { api.write_csi_node(&object).await }),
        ApiAction::DeleteCsiNode { uid } => Box::pin(async move { api.delete_csi_node(&uid).await }),
        ApiAction::ResolveClaim { claim } => Box::pin(async move { api.resolve_claim(&claim).await }),
        ApiAction::ReadAttachment { name } => Box::pin(async move { api.read_attachment(&name).await }),
    }
}

/// A pod's folder, `<root>/pods/<uid>`.
pub(crate) fn pod_dir(config: &Config, uid: &PodUid) -> PathBuf {
    config.paths.root.join("pods").join(uid.as_str())
}
