//! How long pods take: to start, and each time something is to be done for them.
//!
//! A pod's **start** is followed from its first sight to the first status that says that all its
//! containers run; what it waited for images and init containers is known by then, so that the
//! service level indicator can leave it out
//! (<https://github.com/kubernetes/community/blob/master/sig-scalability/slos/pod_startup_latency.md>).
//!
//! **Work** on a pod begins when something is started for it while nothing was under way, and ends
//! when nothing is under way any more: what upstream calls a sync of the pod. Probes and writes of
//! its status are no work.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus, Volume};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use model::pod::ContainerKind;
use model::{Now, Pod, PodUid, VolumeKind, pod, resources};
use node::{ActionKind, Worker};
use telemetry::metrics::Metrics;

/// Everything followed. One entry a pod that starts or is worked on.
#[derive(Default)]
pub(super) struct Pods {
    starts: HashMap<PodUid, Start>,
    work: HashMap<PodUid, Busy>,
    /// The volumes of every pod that has some, those that ran before this process included.
    volumes: HashMap<PodUid, VolumesProgress>,
    /// Whether a pod with a network of its own has started since the kubelet did.
    has_network_started: bool,
    /// Pods whose sandbox got a user namespace, until the first failure to start something in it: that the namespace does
    /// not work shows in whatever comes next, and counts once.
    user_namespaces: HashSet<PodUid>,
}

/// A pod that has not started yet.
struct Start {
    seen: Duration,
    created: Option<Timestamp>,
    containers: usize,
    has_worked: bool,
    /// Whether upstream's indicator leaves it out: it has volumes of a kind that takes time.
    is_stateful: bool,
    is_host_network: bool,
    pulls: Pulls,
}

/// How far the pod's volumes are.
#[derive(Clone, Copy)]
enum VolumesProgress {
    Since(Duration),
    Made,
}

/// Time spent pulling, where pulls at the same time count once.
#[derive(Default)]
struct Pulls {
    total: Duration,
    until: Duration,
}

impl Pulls {
    /// A pull has ended; pulls end in the order they are told of.
    fn add(&mut self, end: Duration, took: Duration) {
        let start = end.saturating_sub(took).max(self.until);
        self.total += end.saturating_sub(start);
        self.until = self.until.max(end);
    }
}

/// Work on a pod that is under way.
struct Busy {
    since: Duration,
    actions: u32,
    work: Work,
}

/// Kinds of work. The greatest one of a sync names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Work {
    Sync,
    Create,
    Kill,
    Terminated,
}

impl Work {
    /// Which kind of work an action is; `None` when it is none. Upstream's workers write status and objects beside it, and
    /// stop a sandbox with the last of its containers.
    pub(super) fn of(kind: ActionKind) -> Option<Self> {
        match (kind.worker()?, kind) {
            (_, ActionKind::WriteStatus | ActionKind::CreateMirror | ActionKind::StopSandbox) => None,
            (Worker::Sync, ActionKind::EnsureCgroup | ActionKind::RunSandbox) => Some(Self::Create),
            (Worker::Sync, _) => Some(Self::Sync),
            (Worker::SyncTerminating, _) => Some(Self::Kill),
            (Worker::SyncTerminated, ActionKind::TearDownVolumes | ActionKind::RemoveCgroup) => {
                Some(Self::Terminated)
            }
            (Worker::SyncTerminated | Worker::ContainerGc | Worker::ImageGc, _) => None,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Create => "create",
            Self::Kill => "kill",
            Self::Terminated => "terminated",
        }
    }
}

impl Pods {
    /// A sandbox with a user namespace is being made for the pod.
    pub(super) fn user_namespace_wanted(&mut self, uid: PodUid) {
        self.user_namespaces.insert(uid);
    }

    /// Something of the pod could not be started. Returns whether that is the first failure in its user namespace.
    pub(super) fn fails_in_user_namespace(&mut self, uid: &PodUid) -> bool {
        self.user_namespaces.remove(uid)
    }

    /// A source has this pod. Only one that nobody has started yet is followed.
    pub(super) fn seen(&mut self, now: Now, pod: &Pod) {
        let uid = pod::uid(pod);
        let status = pod.status.as_ref();
        let is_known = status.is_some_and(|s| {
            s.start_time.is_some() || matches!(s.phase.as_deref(), Some("Succeeded" | "Failed"))
        });
        if is_known || self.starts.contains_key(&uid) {
            return;
        }
        let spec = pod.spec.as_ref();
        let volumes = spec.and_then(|s| s.volumes.as_deref()).unwrap_or_default();
        let start = Start {
            seen: now.mono,
            created: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
            containers: spec.map_or(0, |s| s.containers.len()),
            has_worked: false,
            is_stateful: volumes.iter().any(takes_time),
            is_host_network: pod::is_host_network(pod),
            pulls: Pulls::default(),
        };
        self.starts.insert(uid, start);
    }

    /// Whether there is nothing to remember.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.starts.is_empty() && self.work.is_empty() && self.volumes.is_empty()
    }

    pub(super) fn deleted(&mut self, uid: &PodUid) {
        self.starts.remove(uid);
    }

    /// Something is started for a pod. Returns how long the pod waited for it, the first time.
    pub(super) fn work_starts(&mut self, now: Now, uid: &PodUid, work: Work) -> Option<Duration> {
        let busy = self.work.entry(uid.clone()).or_insert(Busy { since: now.mono, actions: 0, work });
        busy.actions += 1;
        busy.work = busy.work.max(work);
        let start = self.starts.get_mut(uid).filter(|start| !start.has_worked)?;
        start.has_worked = true;
        Some(now.mono.saturating_sub(start.seen))
    }

    /// Something has ended for a pod. Returns what all of it was, and how long it took, at the end.
    pub(super) fn work_ends(&mut self, now: Now, uid: &PodUid) -> Option<(&'static str, Duration)> {
        let busy = self.work.get_mut(uid)?;
        busy.actions = busy.actions.saturating_sub(1);
        if busy.actions > 0 {
            return None;
        }
        let Busy { since, work, .. } = self.work.remove(uid)?;
        Some((work.label(), now.mono.saturating_sub(since)))
    }

    /// The pod's volumes are to be made. Only the first time counts.
    pub(super) fn volumes_wanted(&mut self, now: Now, uid: &PodUid) {
        self.volumes.entry(uid.clone()).or_insert(VolumesProgress::Since(now.mono));
    }

    /// They are made. Returns how long that took with all attempts, the first time.
    pub(super) fn volumes_made(&mut self, now: Now, uid: &PodUid) -> Option<Duration> {
        match std::mem::replace(self.volumes.get_mut(uid)?, VolumesProgress::Made) {
            VolumesProgress::Since(since) => Some(now.mono.saturating_sub(since)),
            VolumesProgress::Made => None,
        }
    }

    /// They are being taken down.
    pub(super) fn volumes_gone(&mut self, uid: &PodUid) {
        self.volumes.remove(uid);
    }

    pub(super) fn pulled(&mut self, now: Now, uid: &PodUid, took: Duration) {
        if let Some(start) = self.starts.get_mut(uid) {
            start.pulls.add(now.mono, took);
        }
    }

    /// The API server has this status of a pod now.
    pub(super) fn status_written(
        &mut self,
        now: Now,
        metrics: &Metrics,
        uid: &PodUid,
        old: &PodStatus,
        new: &PodStatus,
    ) {
        let Some(start) = self.starts.get(uid) else { return };
        let phase = new.phase.as_deref();
        if phase == Some("Running") && old.phase.as_deref() != Some("Running") {
            metrics.pod_start_duration.observe_duration(now.mono.saturating_sub(start.seen));
            metrics.containers_per_pod.observe(start.containers as f64);
        }
        let is_over = matches!(phase, Some("Succeeded" | "Failed"));
        let runs = all_run(new);
        if !runs && !is_over {
            return;
        }
        let Some(start) = self.starts.remove(uid) else { return };
        let Some(created) = start.created.filter(|_| runs) else { return };
        let total = Duration::try_from(now.wall.duration_since(created)).unwrap_or_default();
        metrics.pod_start_total_duration.observe_duration(total);
        if start.is_stateful {
            return;
        }
        let own = total.saturating_sub(start.pulls.total).saturating_sub(init_time(new));
        metrics.pod_start_sli_duration.observe_duration(own);
        if !start.is_host_network && !self.has_network_started {
            self.has_network_started = true;
            metrics.first_network_pod_start.set(own.as_secs_f64());
        }
    }
}

/// Where a pod asks for resources, in upstream's words; empty where it does not.
pub(super) fn asks_at(pod: &Pod) -> &'static str {
    let mut containers = pod::containers(pod).filter(|c| c.kind != ContainerKind::Ephemeral);
    let asks = containers.any(|container| {
        let resources = container.spec.resources.as_ref();
        let is_some = |list: Option<&BTreeMap<String, Quantity>>| list.is_some_and(|list| !list.is_empty());
        resources.is_some_and(|r| is_some(r.requests.as_ref()) || is_some(r.limits.as_ref()))
    });
    match (resources::has_pod_level(pod), asks) {
        (true, true) => "pod_and_container_level",
        (true, false) => "pod_level",
        (false, true) => "container_level",
        (false, false) => "",
    }
}

/// A volume that has to be attached or mounted from elsewhere.
fn takes_time(volume: &Volume) -> bool {
    matches!(VolumeKind::of(volume), VolumeKind::HostPath | VolumeKind::Driver(_))
}

fn all_run(status: &PodStatus) -> bool {
    let all = status.container_statuses.as_deref().unwrap_or_default();
    let runs = |c: &ContainerStatus| c.state.as_ref().is_some_and(|s| s.running.is_some());
    !all.is_empty() && all.iter().all(runs)
}

/// How long init containers ran. Sidecars still run and do not count.
fn init_time(status: &PodStatus) -> Duration {
    let ended = |c: &ContainerStatus| {
        let ended = c.state.as_ref()?.terminated.as_ref()?;
        let (start, end) = (ended.started_at.as_ref()?, ended.finished_at.as_ref()?);
        // What could not be started did not run since the epoch.
        if start.0 == Timestamp::UNIX_EPOCH {
            return None;
        }
        Duration::try_from(end.0.duration_since(start.0)).ok()
    };
    status.init_container_statuses.iter().flatten().filter_map(ended).sum()
}
