//! What the node does, as numbers for `/metrics`.
//!
//! The driver shows every input and every action that starts to one [`Metering`], which it owns.
//! Nothing is measured in the actions themselves: how long each took, and what came of it, is all
//! there is to know.
//!
//! | what is counted | where |
//! |---|---|
//! | which actions start | here |
//! | what came of them: lists of the runtime's pods, cgroups, images, sandboxes, containers, probes | [`ends`] |
//! | how long pods take to start, and to be brought up to date | [`pods`] |
//! | what a written status tells: rejections, containers that ended | [`statuses`] |
//! | how the node itself came up | [`startup`] |
//! | calls to the runtime and to the API server | [`calls`] |

pub(crate) mod calls;
mod ends;
mod pods;
mod startup;
mod statuses;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use model::pod::ContainerKind;
use model::{Now, Pod, PodUid, QosClass, pod};
use node::{Action, EffectId, HostAction, Input, Outcome, RuntimeAction, VolumeAction};
use telemetry::metrics::Metrics;

use ends::End;
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
    pub(crate) fn on_input(&mut self, now: Now, input: &Input) {
        match input {
            Input::PodApplied { pod, .. } => self.pods.seen(now, pod),
            Input::PodsListed { pods, .. } => pods.iter().for_each(|pod| self.pods.seen(now, pod)),
            Input::PodDeleted { uid, .. } => self.pods.deleted(uid),
            Input::Finished { id, outcome } => self.finished(now, *id, outcome),
            _ => {}
        }
    }

    /// An action starts.
    pub(crate) fn on_started(&mut self, now: Now, id: EffectId, action: &Action) {
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
    pub(crate) fn on_finished(&mut self, now: Now, id: EffectId) {
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
            Action::Host(HostAction::RemoveCgroup { uid, .. }) => {
                self.metrics.forget_pod(uid.as_str());
                self.pods.fails_in_user_namespace(uid);
            }
            Action::Host(HostAction::MeasurePods { ages, .. }) => {
                for (signal, age) in ages {
                    self.metrics.eviction_stats_age.with([signal.as_str()]).observe_duration(*age);
                }
            }
            Action::Volume(VolumeAction::Sync { pod, .. }) => self.pods.volumes_wanted(now, &pod::uid(pod)),
            Action::Volume(VolumeAction::TearDown { uid, .. }) => self.pods.volumes_gone(uid),
            Action::Runtime(RuntimeAction::RunSandbox { pod, .. }) => {
                self.metrics.started_pods.increment();
                if has_user_namespace(pod) {
                    self.metrics.started_user_namespaced_pods.increment();
                    self.pods.user_namespace_wanted(pod::uid(pod));
                }
            }
            Action::Runtime(RuntimeAction::StartContainer(start)) => {
                let kind = container_type(&start.pod, &start.container);
                self.metrics.started_containers.with([kind]).increment();
            }
            _ => {}
        }
    }

    /// What is counted when it has ended.
    fn finished(&mut self, now: Now, id: EffectId, outcome: &Outcome) {
        let Some(UnderWay { since, action, .. }) = self.under_way.get(&id) else { return };
        let end = End { since: *since, now, outcome };
        let (metrics, pods) = (&*self.metrics, &mut self.pods);
        match action {
            Action::Runtime(action) => ends::in_runtime(metrics, pods, action, end),
            Action::Image(action) => ends::on_image(metrics, pods, action, end),
            Action::Volume(action) => ends::on_volumes(metrics, pods, action, end),
            Action::Host(action) => ends::on_host(metrics, action, end),
            Action::Probe(action) => ends::in_container(metrics, action, end),
            Action::Api(action) => ends::in_api(metrics, pods, &mut self.startup, action, end),
            Action::Storage(_) | Action::Plugin(_) | Action::Checkpoint(_) => {}
        }
    }
}

fn has_user_namespace(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_users) == Some(false)
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
