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

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodStatus;
use model::pod::ContainerKind;
use model::probe::{ProbeKind, ProbeOutcome};
use model::reason::waiting;
use model::{Now, Pod, PodUid, QosClass, pod};
use node::{Action, EffectId, Failure, FailureKind, ImageAnswer, Input, Outcome};
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
    since: Duration,
    /// The pod it is for, if it counts as work on one.
    pod: Option<PodUid>,
    what: What,
}

/// What is remembered of an action until it ends.
enum What {
    List,
    Observe,
    Cgroup(&'static str),
    Volumes { uid: PodUid, plugins: Vec<String> },
    Inspect { policy: String, container: &'static str },
    Pull { uid: PodUid, container: &'static str },
    Sandbox { has_user_namespace: bool },
    Container { kind: &'static str },
    Probe { pod: Arc<Pod>, container: String, kind: ProbeKind },
    Status { uid: PodUid, old: Arc<PodStatus>, new: Arc<PodStatus> },
    Register { at: Timestamp },
    NodeStatus { is_ready: bool },
    Other,
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
        let work = Work::of(action);
        let pod = work.as_ref().map(|(uid, _)| uid.clone());
        let waited = work.and_then(|(uid, kind)| self.pods.work_starts(now, &uid, kind));
        if let Some(waited) = waited {
            self.metrics.pod_worker_start_duration.observe_duration(waited);
            // Nothing is done for a pod before it is admitted.
            if let Some(pod) = pods::pod_of(action) {
                let class = QosClass::of(pod).as_str().to_lowercase();
                self.metrics.admitted_pods.with([pods::asks_at(pod), &class]).increment();
            }
        }
        let what = self.remembered(now, action);
        self.under_way.insert(id, UnderWay { since: now.mono, pod, what });
    }

    /// The core has seen the result of an action, and what follows from it has started.
    pub(crate) fn settled(&mut self, now: Now, id: EffectId) {
        let Some(uid) = self.under_way.remove(&id).and_then(|action| action.pod) else { return };
        if let Some((kind, took)) = self.pods.work_ends(now, &uid) {
            self.metrics.pod_worker_duration.with([kind]).observe_duration(took);
        }
    }

    fn remembered(&mut self, now: Now, action: &Action) -> What {
        match action {
            Action::Relist => {
                if let Some(last) = self.last_list.replace(now.mono) {
                    self.metrics.pleg_relist_interval.observe_duration(now.mono.saturating_sub(last));
                }
                What::List
            }
            Action::Observe { .. } => What::Observe,
            Action::EnsureCgroup { .. } => What::Cgroup("create"),
            Action::LimitClasses { .. } => What::Cgroup("update"),
            Action::RemoveCgroup { uid } => {
                self.metrics.forget_pod(uid.as_str());
                What::Cgroup("destroy")
            }
            Action::SyncVolumes { pod, .. } => {
                let uid = pod::uid(pod);
                self.pods.volumes_wanted(now, &uid);
                What::Volumes { uid, plugins: volumes::plugin_names(pod) }
            }
            Action::TearDownVolumes { uid } => {
                self.pods.volumes_gone(uid);
                What::Other
            }
            Action::InspectImage { pod, container } => What::Inspect {
                policy: pull_policy(pod, container),
                container: container_type(pod, container),
            },
            Action::PullImage { pod, container } => {
                What::Pull { uid: pod::uid(pod), container: container_type(pod, container) }
            }
            Action::RunSandbox { pod, .. } => {
                let has_user_namespace = pod.spec.as_ref().and_then(|s| s.host_users) == Some(false);
                self.metrics.started_pods.increment();
                if has_user_namespace {
                    self.metrics.started_user_namespaced_pods.increment();
                }
                What::Sandbox { has_user_namespace }
            }
            Action::StartContainer { pod, container, .. } => {
                let kind = container_type(pod, container);
                self.metrics.started_containers.with([kind]).increment();
                What::Container { kind }
            }
            Action::Probe { pod, container, kind, .. } => {
                What::Probe { pod: pod.clone(), container: container.clone(), kind: *kind }
            }
            Action::WriteStatus { uid, old, new, .. } => {
                What::Status { uid: uid.clone(), old: old.clone(), new: new.clone() }
            }
            Action::RegisterNode { .. } => What::Register { at: now.wall },
            Action::WriteNodeStatus { new, .. } => What::NodeStatus { is_ready: startup::is_ready(new) },
            _ => What::Other,
        }
    }

    fn finished(&mut self, now: Now, id: EffectId, outcome: &Outcome) {
        let Some(UnderWay { since, what, .. }) = self.under_way.get_mut(&id) else { return };
        let took = now.mono.saturating_sub(*since);
        let what = std::mem::replace(what, What::Other);
        let metrics = &self.metrics;
        match (what, outcome) {
            (What::List, Outcome::Relisted(_)) => {
                metrics.pleg_relist_duration.observe_duration(took);
                // Seconds since 1970 are far below what a float holds exactly.
                metrics.pleg_last_seen.set(now.wall.as_second() as f64);
            }
            (What::Observe, _) => metrics.pleg_pod_relist_duration.observe_duration(took),
            (What::Cgroup(operation), Outcome::Done) => {
                metrics.cgroup_operations.with([operation]).observe_duration(took);
            }
            (What::Volumes { uid, plugins }, Outcome::VolumesSynced { .. }) => {
                if let Some(took) = self.pods.volumes_made(now, &uid) {
                    for plugin in plugins {
                        let labels = ["overall_volume_mount", plugin.as_str()];
                        metrics.volume_operations.with(labels).observe_duration(took);
                    }
                }
            }
            (What::Inspect { policy, container }, Outcome::Image(answer)) => {
                let is_usable = matches!(answer, ImageAnswer::Present(_) | ImageAnswer::Accessible(_));
                if !is_usable && policy == "never" {
                    metrics
                        .started_containers_errors
                        .with([waiting::ERR_IMAGE_NEVER_PULL, container])
                        .increment();
                }
                let [is_present, is_needed] = ensured(&policy, answer);
                metrics.ensured_images.with([is_present, &policy, is_needed]).increment();
            }
            (What::Inspect { policy, .. }, Outcome::Failed(_)) => {
                metrics.ensured_images.with(["unknown", &policy, "unknown"]).increment();
            }
            (What::Pull { uid, .. }, Outcome::Pulled { size_bytes, took, .. }) => {
                metrics.image_pull_duration.with([size_class(*size_bytes)]).observe_duration(*took);
                self.pods.pulled(now, &uid, *took);
            }
            (What::Pull { container, .. }, Outcome::Failed(failure)) => {
                metrics.started_containers_errors.with([pull_error(failure), container]).increment();
            }
            (What::Sandbox { has_user_namespace }, Outcome::Failed(_)) => {
                metrics.started_pods_errors.increment();
                if has_user_namespace {
                    metrics.started_user_namespaced_pods_errors.increment();
                }
            }
            (What::Container { kind }, Outcome::Failed(failure)) => {
                metrics.started_containers_errors.with([start_error(failure), kind]).increment();
            }
            (What::Probe { pod, container, kind }, Outcome::Probed(result)) => {
                self.probed(&pod, &container, kind, result, took);
            }
            (What::Status { uid, old, new }, Outcome::Written { .. }) => {
                metrics.pod_status_sync_duration.observe_duration(took);
                statuses::written(metrics, &old, &new);
                self.pods.status_written(now, metrics, &uid, &old, &new);
            }
            (What::Register { at }, Outcome::Registered(object)) => {
                self.startup.registered(metrics, at, now.wall, object);
            }
            (What::NodeStatus { is_ready: true }, Outcome::Written { .. }) => {
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
