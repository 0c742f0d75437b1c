//! What is counted when an action has ended, port by port.

use std::collections::BTreeMap;
use std::time::Duration;

use model::pod::PullPolicy;
use model::probe::ProbeOutcome;
use model::reason::waiting;
use model::{ImageUse, Now, Pod, mounted_images, pod};
use node::{
    ApiAction, ApiOutcome, FailureKind, HostAction, ImageAction, ImageAnswer, ImageOutcome, Outcome,
    ProbeAction, RuntimeAction, RuntimeOutcome, VolumeAction, VolumeOutcome,
};
use telemetry::metrics::Metrics;

use super::pods::Pods;
use super::startup::{self, NodeStart};
use super::{container_type, statuses};

/// How a runtime begins to say that an image could not be mounted (CRI's `ErrImageVolumeMountFailed`).
const IMAGE_VOLUME_MOUNT_FAILED: &str = "ImageVolumeMountFailed";

/// When an action began, and when and how it ended.
#[derive(Clone, Copy)]
pub(super) struct End<'a> {
    pub(super) since: Now,
    pub(super) now: Now,
    pub(super) outcome: &'a Outcome,
}

impl End<'_> {
    fn took(&self) -> Duration {
        self.now.mono.saturating_sub(self.since.mono)
    }
}

pub(super) fn in_runtime(metrics: &Metrics, pods: &mut Pods, action: &RuntimeAction, end: End<'_>) {
    if let RuntimeAction::StartContainer(start) = action
        && !start.image_volumes.is_empty()
    {
        let requested = start.image_volumes.len();
        image_volumes_mounted(metrics, &start.pod, &start.container, requested, end.outcome);
    }
    match (action, end.outcome) {
        (RuntimeAction::Relist, Outcome::Runtime(RuntimeOutcome::Relisted(_))) => {
            metrics.pleg_relist_duration.observe_duration(end.took());
            // Seconds since 1970 are far below what a float holds exactly.
            metrics.pleg_last_seen.set(end.now.wall.as_second() as f64);
        }
        (RuntimeAction::Observe { .. }, _) => metrics.pleg_pod_relist_duration.observe_duration(end.took()),
        (RuntimeAction::RunSandbox { pod, .. }, Outcome::Failed(_)) => {
            metrics.started_pods_errors.increment();
            count_user_namespace(metrics, pods, pod);
        }
        (RuntimeAction::StartContainer(start), Outcome::Failed(failure)) => {
            count_user_namespace(metrics, pods, &start.pod);
            start_failed(metrics, failure.kind.start_reason(), &start.pod, &start.container);
        }
        _ => {}
    }
}

/// Counts the images that a container was to mount as volumes. As upstream, whatever else keeps it from its start is no
/// failure of theirs.
fn image_volumes_mounted(metrics: &Metrics, pod: &Pod, container: &str, requested: usize, outcome: &Outcome) {
    let Some(container) = pod::container(pod, container) else { return };
    metrics.image_volumes_requested.add(requested as u64);
    let is_failed = matches!(outcome, Outcome::Failed(failure)
        if failure.kind == FailureKind::ContainerCreate && failure.message.starts_with(IMAGE_VOLUME_MOUNT_FAILED));
    let counter = match is_failed {
        true => &metrics.image_volumes_failed,
        false => &metrics.image_volumes_mounted,
    };
    counter.add(mounted_images(pod, &container.spec).count() as u64);
}

fn count_user_namespace(metrics: &Metrics, pods: &mut Pods, pod: &Pod) {
    if pods.fails_in_user_namespace(&pod::uid(pod)) {
        metrics.started_user_namespaced_pods_errors.increment();
    }
}

pub(super) fn on_image(metrics: &Metrics, pods: &mut Pods, action: &ImageAction, end: End<'_>) {
    match (action, end.outcome) {
        (ImageAction::Inspect { pod, used_by, .. }, outcome) => inspected(metrics, pod, used_by, outcome),
        (ImageAction::Pull { pod, .. }, Outcome::Image(ImageOutcome::Pulled { size_bytes, took, .. })) => {
            metrics.image_pull_duration.with([size_class(*size_bytes)]).observe_duration(*took);
            pods.pulled(end.now, &pod::uid(pod), *took);
        }
        (ImageAction::Remove { cause, .. }, Outcome::Done) => {
            metrics.images_garbage_collected.with([cause.as_str()]).increment();
        }
        (ImageAction::Pull { pod, used_by, .. }, Outcome::Failed(failure)) => {
            count_user_namespace(metrics, pods, pod);
            image_failed(metrics, failure.kind.pull_reason(), pod, used_by);
        }
        _ => {}
    }
}

pub(super) fn on_volumes(metrics: &Metrics, pods: &mut Pods, action: &VolumeAction, end: End<'_>) {
    if let (VolumeAction::Sync { pod, .. }, Outcome::Volume(VolumeOutcome::Synced { .. })) =
        (action, end.outcome)
        && let Some(took) = pods.volumes_made(end.now, &pod::uid(pod))
    {
        for plugin in volumes::plugin_names(pod, &BTreeMap::new()) {
            let labels = ["overall_volume_mount", plugin.as_str()];
            metrics.volume_operations.with(labels).observe_duration(took);
        }
    }
}

pub(super) fn on_host(metrics: &Metrics, action: &HostAction, end: End<'_>) {
    let operation = match action {
        HostAction::EnsureCgroup { .. } => "create",
        HostAction::UpdateQosCgroups { .. } => "update",
        HostAction::RemoveCgroup { .. } => "destroy",
        // Upstream times what it writes.
        HostAction::ReadPodCgroups { .. }
        | HostAction::RemovePodLogs { .. }
        | HostAction::TakeSample
        | HostAction::MeasurePods { .. } => return,
    };
    if let Outcome::Done | Outcome::Cgroup(_) = end.outcome {
        metrics.cgroup_operations.with([operation]).observe_duration(end.took());
    }
}

pub(super) fn in_container(metrics: &Metrics, action: &ProbeAction, end: End<'_>) {
    let ProbeAction::Attempt { pod, container, kind, .. } = action else { return };
    let result = match end.outcome {
        Outcome::Probed(ProbeOutcome::Success | ProbeOutcome::Warning(_)) => "successful",
        Outcome::Probed(ProbeOutcome::Failure(_)) => "failed",
        // Upstream counts attempts that were made.
        _ => return,
    };
    let (key, uid) = (pod::key(pod), pod::uid(pod));
    let labels = [container.as_str(), &key.namespace, &key.name, uid.as_str(), kind.as_str(), result];
    metrics.probes.with(labels).increment();
    // Upstream leaves out how long failed ones took.
    if result != "failed" {
        let labels = [container.as_str(), &key.namespace, &key.name, kind.as_str()];
        metrics.probe_duration.with(labels).observe_duration(end.took());
    }
}

pub(super) fn in_api(
    metrics: &Metrics,
    pods: &mut Pods,
    startup: &mut NodeStart,
    action: &ApiAction,
    end: End<'_>,
) {
    match (action, end.outcome) {
        (ApiAction::WriteStatus { uid, old, new, .. }, Outcome::Api(ApiOutcome::Written { .. })) => {
            metrics.pod_status_sync_duration.observe_duration(end.took());
            statuses::written(metrics, old, new);
            pods.status_written(end.now, metrics, uid, old, new);
        }
        (ApiAction::RegisterNode { .. }, Outcome::Api(ApiOutcome::Registered(object))) => {
            startup.registered(metrics, end.since.wall, end.now.wall, object);
        }
        (ApiAction::WriteNodeStatus { new, .. }, Outcome::Api(ApiOutcome::Written { .. }))
            if startup::is_ready(new) =>
        {
            startup.ready(metrics, end.now.wall);
        }
        _ => {}
    }
}

/// Counts how the question for an image was answered.
fn inspected(metrics: &Metrics, pod: &Pod, used_by: &ImageUse, outcome: &Outcome) {
    let policy = used_by.wanted(pod).map(|wanted| wanted.policy).unwrap_or_default();
    let label = policy.as_str().to_lowercase();
    match outcome {
        Outcome::Image(ImageOutcome::Inspected(answer)) => {
            let is_usable = matches!(answer, ImageAnswer::Present(_) | ImageAnswer::Accessible(_));
            if !is_usable && policy == PullPolicy::Never {
                image_failed(metrics, waiting::ERR_IMAGE_NEVER_PULL, pod, used_by);
            }
            let [is_present, is_needed] = ensured(policy, answer);
            metrics.ensured_images.with([is_present, &label, is_needed]).increment();
        }
        Outcome::Failed(_) => metrics.ensured_images.with(["unknown", &label, "unknown"]).increment(),
        _ => {}
    }
}

/// A container's own image keeps it from its start. As upstream, that of a volume is no failed start: it keeps as many
/// containers back as mount it.
fn image_failed(metrics: &Metrics, reason: &str, pod: &Pod, used_by: &ImageUse) {
    if let Some(container) = used_by.container() {
        start_failed(metrics, reason, pod, container);
    }
}

/// A container could not be started, for this reason.
fn start_failed(metrics: &Metrics, reason: &str, pod: &Pod, container: &str) {
    metrics.started_containers_errors.with([reason, container_type(pod, container)]).increment();
}

/// Whether an image is present and has to be pulled, as upstream's metric says it: it does not look for one that is
/// pulled in any case, nor gets as far as the question for one that must not be.
fn ensured(policy: PullPolicy, answer: &ImageAnswer) -> [&'static str; 2] {
    match (policy, answer) {
        (PullPolicy::Always, _) => ["unknown", "true"],
        (PullPolicy::Never, ImageAnswer::Absent) => ["false", "unknown"],
        (_, ImageAnswer::Absent) => ["false", "true"],
        (_, ImageAnswer::Unproven) => ["true", "true"],
        (_, ImageAnswer::Present(_) | ImageAnswer::Accessible(_)) => ["true", "false"],
    }
}

/// Upstream's classes of sizes.
pub(super) fn size_class(bytes: u64) -> &'static str {
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    const CLASSES: [(u64, &str); 12] = [
        (100 * GIB, "GT100GB"),
        (60 * GIB, "60GB-100GB"),
        (40 * GIB, "40GB-60GB"),
        (30 * GIB, "30GB-40GB"),
        (20 * GIB, "20GB-30GB"),
        (10 * GIB, "10GB-20GB"),
        (5 * GIB, "5GB-10GB"),
        (GIB, "1GB-5GB"),
        (500 * MIB, "500MB-1GB"),
        (100 * MIB, "100MB-500MB"),
        (10 * MIB, "10MB-100MB"),
        (0, "0-10MB"),
    ];
    CLASSES.into_iter().find(|(above, _)| bytes > *above).map_or("N/A", |(_, class)| class)
}
