//! What the node does, as numbers for `/metrics`.
//!
//! The driver shows every input and every action that starts to one [`Metering`], which it owns.
//! Nothing is measured in the actions themselves: how long each took, and what came of it, is all
//! there is to know.
//!
//! | what is counted | where |
//! |---|---|
//! | lists of the runtime's pods, cgroups, images, sandboxes, containers, probes | here |
//! | how long pods take to start, and to be brought up to date | [`pods`] |
//! | what a written status tells: rejections, containers that ended | [`statuses`] |
//! | how the node itself came up | [`startup`] |
//! | calls to the runtime and to the API server | [`calls`] |

pub(crate) mod calls;
mod pods;
mod startup;
mod statuses;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use model::pod::ContainerKind;
use model::probe::{ProbeKind, ProbeOutcome};
use model::reason::waiting;
use model::{Now, Pod, PodUid, QosClass, pod};
use node::{
    Action, ActionKind, ApiAction, ApiOutcome, EffectId, Failure, FailureKind, HostAction, ImageAction,
    ImageAnswer, ImageOutcome, Input, Outcome, ProbeAction, RuntimeAction, RuntimeOutcome, VolumeAction,
    VolumeOutcome,
};
use telemetry::metrics::Metrics;

use pods::{Pods, Work};
use startup::NodeStart;

/// The driver's measuring.
pub(crate) struct Metering {
    metrics: Arc<Metrics>,
    under_way: HashMap<EffectId, UnderWay>,
    pods: Pods,
    startup: NodeStart,
    /// Monotonic time at which the last full list began.
    last_list: Option<Duration>,
}

/// An action under way.
struct UnderWay {
    since: Now,
    /// The pod it is for, if it counts as work on one.
    pod: Option<PodUid>,
    action: Action,
}

impl Metering {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            under_way: HashMap::new(),
            pods: Pods::default(),
            startup: NodeStart::default(),
            last_list: None,
        }
    }

    /// An input is about to be given to the core.
    pub(crate) fn hear(&mut self, now: Now, input: &Input) {
        match input {
            Input::PodApplied { pod, .. } => self.pods.seen(now, pod),
            Input::PodsListed { pods, .. } => pods.iter().for_each(|pod| self.pods.seen(now, pod)),
            Input::PodDeleted { uid, .. } => self.pods.deleted(uid),
            Input::Finished { id, outcome } => self.finished(now, *id, outcome),
            _ => {}
        }
    }

    /// An action starts.
    pub(crate) fn started(&mut self, now: Now, id: EffectId, action: &Action) {
        let work = Work::of(action.kind()).zip(action.subject().uid);
        let pod = work.as_ref().map(|(_, uid)| uid.clone());
        let waited = work.and_then(|(kind, uid)| self.pods.work_starts(now, &uid, kind));
        if let Some(waited) = waited {
            self.metrics.pod_worker_start_duration.observe_duration(waited);
            // Nothing is done for a pod before it is admitted.
            if let Some(pod) = action.pod() {
                let class = QosClass::of(pod).as_str().to_lowercase();
                self.metrics.admitted_pods.with([pods::asks_at(pod), &class]).increment();
            }
        }
        self.begun(now, action);
        self.under_way.insert(id, UnderWay { since: now, pod, action: action.clone() });
    }

    /// The core has seen the result of an action, and what follows from it has started.
    pub(crate) fn settled(&mut self, now: Now, id: EffectId) {
        let Some(uid) = self.under_way.remove(&id).and_then(|action| action.pod) else { return };
        if let Some((kind, took)) = self.pods.work_ends(now, &uid) {
            self.metrics.pod_worker_duration.with([kind]).observe_duration(took);
        }
    }

    /// What is counted when an action starts.
    fn begun(&mut self, now: Now, action: &Action) {
        match action {
            Action::Runtime(RuntimeAction::Relist) => {
                if let Some(last) = self.last_list.replace(now.mono) {
                    self.metrics.pleg_relist_interval.observe_duration(now.mono.saturating_sub(last));
                }
            }
            Action::Host(HostAction::RemoveCgroup { uid, .. }) => self.metrics.forget_pod(uid.as_str()),
            Action::Volume(VolumeAction::Sync { pod, .. }) => self.pods.volumes_wanted(now, &pod::uid(pod)),
            Action::Volume(VolumeAction::TearDown { uid, .. }) => self.pods.volumes_gone(uid),
            Action::Runtime(RuntimeAction::RunSandbox { pod, .. }) => {
                self.metrics.started_pods.increment();
                if has_user_namespace(pod) {
                    self.metrics.started_user_namespaced_pods.increment();
                }
            }
            Action::Runtime(RuntimeAction::StartContainer { pod, container, .. }) => {
                self.metrics.started_containers.with([container_type(pod, container)]).increment();
            }
            _ => {}
        }
    }

    /// What is counted when it has ended.
    fn finished(&mut self, now: Now, id: EffectId, outcome: &Outcome) {
        let Some(UnderWay { since, action, .. }) = self.under_way.get(&id) else { return };
        let took = now.mono.saturating_sub(since.mono);
        let metrics = &self.metrics;
        match (action, outcome) {
            (Action::Runtime(RuntimeAction::Relist), Outcome::Runtime(RuntimeOutcome::Relisted(_))) => {
                metrics.pleg_relist_duration.observe_duration(took);
                // Seconds since 1970 are far below what a float holds exactly.
                metrics.pleg_last_seen.set(now.wall.as_second() as f64);
            }
            (Action::Runtime(RuntimeAction::Observe { .. }), _) => {
                metrics.pleg_pod_relist_duration.observe_duration(took)
            }
            (
                Action::Host(HostAction::EnsureCgroup { .. })
                | Action::Host(HostAction::LimitClasses { .. })
                | Action::Host(HostAction::RemoveCgroup { .. }),
                Outcome::Done,
            ) => {
                let operation = match action.kind() {
                    ActionKind::EnsureCgroup => "create",
                    ActionKind::RemoveCgroup => "destroy",
                    _ => "update",
                };
                metrics.cgroup_operations.with([operation]).observe_duration(took);
            }
            (
                Action::Volume(VolumeAction::Sync { pod, .. }),
                Outcome::Volume(VolumeOutcome::Synced { .. }),
            ) => {
                if let Some(took) = self.pods.volumes_made(now, &pod::uid(pod)) {
                    for plugin in volumes::plugin_names(pod) {
                        let labels = ["overall_volume_mount", plugin.as_str()];
                        metrics.volume_operations.with(labels).observe_duration(took);
                    }
                }
            }
            (Action::Image(ImageAction::Inspect { pod, container }), _) => {
                inspected(metrics, pod, container, outcome)
            }
            (
                Action::Image(ImageAction::Pull { pod, .. }),
                Outcome::Image(ImageOutcome::Pulled { size_bytes, took, .. }),
            ) => {
                metrics.image_pull_duration.with([size_class(*size_bytes)]).observe_duration(*took);
                self.pods.pulled(now, &pod::uid(pod), *took);
            }
            (Action::Image(ImageAction::Pull { pod, container }), Outcome::Failed(failure)) => {
                start_failed(metrics, pull_error(failure), pod, container);
            }
            (Action::Runtime(RuntimeAction::RunSandbox { pod, .. }), Outcome::Failed(_)) => {
                metrics.started_pods_errors.increment();
                if has_user_namespace(pod) {
                    metrics.started_user_namespaced_pods_errors.increment();
                }
            }
            (
                Action::Runtime(RuntimeAction::StartContainer { pod, container, .. }),
                Outcome::Failed(failure),
            ) => {
                start_failed(metrics, start_error(failure), pod, container);
            }
            (Action::Probe(ProbeAction::Attempt { pod, container, kind, .. }), Outcome::Probed(result)) => {
                self.probed(pod, container, *kind, result, took);
            }
            (
                Action::Api(ApiAction::WriteStatus { uid, old, new, .. }),
                Outcome::Api(ApiOutcome::Written { .. }),
            ) => {
                metrics.pod_status_sync_duration.observe_duration(took);
                statuses::written(metrics, old, new);
                self.pods.status_written(now, metrics, uid, old, new);
            }
            (Action::Api(ApiAction::RegisterNode { .. }), Outcome::Api(ApiOutcome::Registered(object))) => {
                self.startup.registered(metrics, since.wall, now.wall, object);
            }
            (
                Action::Api(ApiAction::WriteNodeStatus { new, .. }),
                Outcome::Api(ApiOutcome::Written { .. }),
            ) if startup::is_ready(new) => {
                self.startup.ready(metrics, now.wall);
            }
            _ => {}
        }
    }

    fn probed(&self, pod: &Pod, container: &str, kind: ProbeKind, result: &ProbeOutcome, took: Duration) {
        let result = match result {
            ProbeOutcome::Success | ProbeOutcome::Warning(_) => "successful",
            ProbeOutcome::Failure(_) => "failed",
            // Upstream counts attempts that were made.
            ProbeOutcome::Error { .. } => return,
        };
        let (key, uid) = (pod::key(pod), pod::uid(pod));
        let labels = [container, &key.namespace, &key.name, uid.as_str(), kind.as_str(), result];
        self.metrics.probes.with(labels).increment();
        // Upstream leaves out how long failed ones took.
        if result != "failed" {
            let labels = [container, &key.namespace, &key.name, kind.as_str()];
            self.metrics.probe_duration.with(labels).observe_duration(took);
        }
    }
}

/// Counts how the question for an image was answered.
fn inspected(metrics: &Metrics, pod: &Pod, container: &str, outcome: &Outcome) {
    let policy = pull_policy(pod, container);
    match outcome {
        Outcome::Image(ImageOutcome::Inspected(answer)) => {
            let is_usable = matches!(answer, ImageAnswer::Present(_) | ImageAnswer::Accessible(_));
            if !is_usable && policy == "never" {
                start_failed(metrics, waiting::ERR_IMAGE_NEVER_PULL, pod, container);
            }
            let [is_present, is_needed] = ensured(&policy, answer);
            metrics.ensured_images.with([is_present, &policy, is_needed]).increment();
        }
        Outcome::Failed(_) => metrics.ensured_images.with(["unknown", &policy, "unknown"]).increment(),
        _ => {}
    }
}

/// A container could not be started, for this reason.
fn start_failed(metrics: &Metrics, reason: &str, pod: &Pod, container: &str) {
    metrics.started_containers_errors.with([reason, container_type(pod, container)]).increment();
}

fn has_user_namespace(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_users) == Some(false)
}

/// Whether an image is present and has to be pulled, as upstream's metric says it: it does not look for one that is
/// pulled in any case, nor gets as far as the question for one that must not be.
fn ensured(policy: &str, answer: &ImageAnswer) -> [&'static str; 2] {
    match (policy, answer) {
        ("always", _) => ["unknown", "true"],
        ("never", ImageAnswer::Absent) => ["false", "unknown"],
        (_, ImageAnswer::Absent) => ["false", "true"],
        (_, ImageAnswer::Unproven) => ["true", "true"],
        (_, ImageAnswer::Present(_) | ImageAnswer::Accessible(_)) => ["true", "false"],
    }
}

fn container_type(pod: &Pod, name: &str) -> &'static str {
    pod::container(pod, name).map_or("container", |container| kind_label(container.kind))
}

fn kind_label(kind: ContainerKind) -> &'static str {
    match kind {
        ContainerKind::Init | ContainerKind::Sidecar => "init_container",
        ContainerKind::Regular => "container",
        ContainerKind::Ephemeral => "ephemeral_container",
    }
}

fn pull_policy(pod: &Pod, name: &str) -> String {
    let policy = pod::container(pod, name).and_then(|c| c.spec.image_pull_policy.clone());
    policy.unwrap_or_default().to_lowercase()
}

/// The reason a container waits with, as upstream labels errors.
fn pull_error(failure: &Failure) -> &'static str {
    match failure.kind {
        FailureKind::InvalidImageName => waiting::INVALID_IMAGE_NAME,
        FailureKind::RegistryUnavailable => waiting::REGISTRY_UNAVAILABLE,
        FailureKind::SignatureInvalid => waiting::SIGNATURE_VALIDATION_FAILED,
        _ => waiting::ERR_IMAGE_PULL,
    }
}

fn start_error(failure: &Failure) -> &'static str {
    match failure.kind {
        FailureKind::ContainerConfig => waiting::CREATE_CONTAINER_CONFIG_ERROR,
        FailureKind::ContainerStart => waiting::RUN_CONTAINER_ERROR,
        _ => waiting::CREATE_CONTAINER_ERROR,
    }
}

/// Upstream's classes of sizes.
fn size_class(bytes: u64) -> &'static str {
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
