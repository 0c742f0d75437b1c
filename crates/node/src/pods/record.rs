//! All the core knows of one pod.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::PodStatus;
use model::downward::PodFacts;
use model::{AllocatedPod, ContainerId, ContainerObservation, Pod, PodKey, PodUid, SandboxId};
use serde::{Deserialize, Serialize};

use super::backoff::Retry;
use super::container::{ContainerRecord, Instance, Waiting};
use super::image_record::ImageRecord;
use super::life::{Life, Step};
use super::seen::Seen;
use crate::allocation::{self, Grant, Granted};
use crate::cx::Cx;
use crate::effect::StateFile;
use crate::input::Source;
use crate::node_status::Resources;
use crate::outbox::Outbox;
use crate::status;
use crate::tasks::{PodTask, Tasks};
use crate::timeline::Timeline;
use crate::wait::Waits;
use model::reason::event;

/// One pod: what is wanted, what was seen, and what neither of the two tells.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PodRecord {
    /// Its uid in its source.
    pub(crate) uid: PodUid,
    /// Its name.
    pub(crate) key: PodKey,
    /// What is wanted. Stays after the pod left its source, since ending it properly needs it.
    pub(crate) desired: Desired,
    /// Where it is in its life.
    pub(crate) life: Life,
    /// What the runtime was last seen to hold of it.
    pub(crate) seen: Seen,
    /// What is under way for it.
    pub(crate) tasks: Tasks<PodTask>,
    /// Sandboxes that were stopped for certain. One that is merely not ready has lost its process;
    /// its namespace, address and host ports are taken until it is stopped.
    pub(crate) stopped_sandboxes: BTreeSet<SandboxId>,
    /// Per container name.
    // Boxed: a node of the tree has room for eleven, and most pods have one.
    pub(crate) containers: BTreeMap<String, Box<ContainerRecord>>,
    /// Per volume that is an image.
    pub(crate) volume_images: BTreeMap<String, VolumeImage>,
    /// What the API server has and should have.
    pub(crate) report: Report,
    /// The mirror of a static pod.
    pub(crate) mirror: Step,
    /// A static pod that an earlier process started, and of which only its mirror, not yet seen, knows
    /// what that process said last.
    pub(crate) is_unrecalled: bool,
    /// What it was granted of what it asks for.
    pub(crate) granted: Granted,
    /// What it waits for, as of the last round.
    pub(crate) waits: Waits,
    /// How it came where it is.
    pub(crate) timeline: Arc<Timeline>,
}

/// The image of a volume, and why it is not there: what the containers that mount it are shown to wait for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct VolumeImage {
    /// The image.
    pub(crate) image: ImageRecord,
    /// What went wrong with it last.
    pub(crate) waiting: Option<Waiting>,
}

/// What is wanted of a pod.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Desired {
    /// Its source holds it.
    Present {
        /// Which source.
        source: Source,
        /// The newest version.
        pod: Arc<Pod>,
    },
    /// Its source holds it no more.
    Removed {
        /// Which source did.
        source: Source,
        /// The last version.
        pod: Arc<Pod>,
    },
    /// Found in the runtime or on the host; no source knows it.
    Orphan,
}

impl Desired {
    pub(crate) fn pod(&self) -> Option<&Arc<Pod>> {
        match self {
            Self::Present { pod, .. } | Self::Removed { pod, .. } => Some(pod),
            Self::Orphan => None,
        }
    }

    pub(crate) fn is_present(&self) -> bool {
        matches!(self, Self::Present { .. })
    }

    pub(crate) fn is_static(&self) -> bool {
        match self {
            Self::Present { source, .. } | Self::Removed { source, .. } => *source != Source::Api,
            Self::Orphan => false,
        }
    }
}

/// What the API server has of the pod's status, and what it should have.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Uid of the object status goes to; `None` when there is none (a static pod without its mirror).
    pub(crate) api_uid: Option<PodUid>,
    /// What the API server is known to hold.
    pub(crate) written: Arc<PodStatus>,
    /// The version of the API object that `written` was taken from; older ones are not news.
    pub(crate) version: u64,
    /// What is true.
    pub(crate) current: Arc<PodStatus>,
    /// The terminal phase that its containers came to, told once nothing of it runs: what the runtime loses of them until then
    /// does not change it.
    #[serde(default)]
    pub(crate) reached: Option<String>,
    /// What the last write has carried, or the one under way, and the object it is for.
    pub(crate) sent: Option<(PodUid, Arc<PodStatus>)>,
    /// A write that failed.
    pub(crate) retry: Option<Retry>,
    /// When a change that can wait is written at the latest, monotonic.
    pub(crate) flush_at: Option<Duration>,
    /// The API object turned out not to exist.
    pub(crate) is_gone: bool,
}

/// `metadata.resourceVersion` as the number it is; 0 when there is none (a static pod).
pub(crate) fn resource_version(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
}

impl PodRecord {
    pub(crate) fn new(uid: PodUid, key: PodKey, desired: Desired) -> Self {
        let status = Arc::new(desired.pod().and_then(|p| p.status.clone()).unwrap_or_default());
        let api_uid = (!desired.is_static() && desired.is_present()).then(|| uid.clone());
        let version = desired.pod().map(|p| resource_version(p)).unwrap_or_default();
        let mut record = Self {
            uid,
            key,
            desired,
            life: Life::default(),
            seen: Seen::Never,
            tasks: Tasks::default(),
            stopped_sandboxes: BTreeSet::new(),
            containers: BTreeMap::new(),
            volume_images: BTreeMap::new(),
            report: Report {
                api_uid,
                written: status.clone(),
                version,
                current: status,
                reached: None,
                sent: None,
                retry: None,
                flush_at: None,
                is_gone: false,
            },
            mirror: Step::Todo,
            is_unrecalled: false,
            granted: Granted::Nothing,
            waits: Waits::default(),
            timeline: Arc::default(),
        };
        record.recall_attempts();
        record
    }

    /// Takes over from the status which restart counts were given before: the containers that had
    /// them may be gone, and a count never goes back.
    pub(crate) fn recall_attempts(&mut self) {
        let written = self.report.written.clone();
        for said in written.container_statuses.iter().chain(&written.init_container_statuses).flatten() {
            let Ok(count) = u32::try_from(said.restart_count) else { continue };
            let has_run = said.container_id.as_deref().is_some_and(|id| !id.is_empty())
                || said.last_state.as_ref().is_some_and(|s| s.terminated.is_some());
            // Removed for a restart of all, its end is counted already.
            let has_run =
                has_run && !(said.container_id.is_none() && status::restarting::ended_for_restart(said));
            let last = if has_run { Some(count) } else { count.checked_sub(1) };
            if last.is_some() {
                let record = self.container_mut(&said.name);
                record.last_attempt = record.last_attempt.max(last);
            }
        }
    }

    /// The restart counts given so far, by container.
    pub(crate) fn attempts(&self) -> BTreeMap<String, u32> {
        let known = self.containers.iter().filter_map(|(name, m)| Some((name.clone(), m.last_attempt?)));
        known.collect()
    }

    /// Goes on from these restart counts: the same pod, begun anew.
    pub(crate) fn count_on_from(&mut self, attempts: &BTreeMap<String, u32>) {
        for (name, attempt) in attempts {
            self.container_mut(name).last_attempt = Some(*attempt);
        }
    }

    /// Whether its status is being written.
    pub(crate) fn is_being_reported(&self) -> bool {
        self.tasks.is_open(&PodTask::Status)
    }

    /// Whether any change to the pod's containers or sandboxes is under way.
    pub(crate) fn is_changing(&self) -> bool {
        self.tasks.any(PodTask::is_change)
    }

    /// The pod's addresses as its status has them, for its environment, hosts file, probes and hooks.
    pub(crate) fn pod_ips(&self, cx: &Cx<'_>) -> Vec<String> {
        let (Some(pod), Some(observed)) = (self.desired.pod(), self.seen.last()) else { return Vec::new() };
        status::pod_ips(pod, observed, cx.node.host_ips, cx.settings.is_ipv6_first)
    }

    /// What the pod's downward API fields refer to.
    pub(crate) fn facts(&self, cx: &Cx<'_>) -> PodFacts {
        let host_ips = if cx.node.host_ips.is_empty() {
            cx.node.readings.addresses.clone().unwrap_or_default()
        } else {
            cx.node.host_ips.to_vec()
        };
        let allocatable = cx.node.resources().map(Resources::allocatable).unwrap_or_default();
        let node_name = cx.settings.node_name.clone();
        PodFacts { node_name, host_ips, pod_ips: self.pod_ips(cx), allocatable }
    }

    /// What is known of a container that the runtime holds.
    pub(crate) fn held(&self, id: &ContainerId) -> Option<&ContainerObservation> {
        self.seen.last()?.containers.iter().find(|container| container.id == *id)
    }

    /// The pod with the resources it was granted; `None` before that, and for a pod that no source knows.
    pub(crate) fn allocated(&self) -> Option<AllocatedPod> {
        self.granted.pod(self.desired.pod()?)
    }

    /// What it has of the node; `None` when that is nothing, or nothing any more.
    pub(crate) fn held_of_node(&self) -> Option<AllocatedPod> {
        self.allocated().filter(|_| !self.life.has_ended())
    }

    /// What it is to be granted: all that it asks for, or what it had from an earlier process.
    pub(crate) fn offer(&self, cx: &Cx<'_>) -> Granted {
        let Some(pod) = self.desired.pod() else { return Granted::Nothing };
        let said = &self.report.written;
        let is_current = said.observed_generation.is_some()
            && said.observed_generation == pod.metadata.generation
            && !status::is_resize_pending(said);
        // A static pod that asks for something else is another pod.
        if self.desired.is_static() {
            return Granted::AsAsked;
        }
        if let Some(written) = cx.checkpoints.entry(StateFile::AllocatedPods, &self.uid) {
            return Grant::restored(pod, &written.resources(), cx.settings.gates).applied_to(pod);
        }
        if is_current {
            return Granted::AsAsked;
        }
        Grant::recalled(pod, said).applied_to(pod)
    }

    /// Grants that, and has it written down. The last word of a pod that is over is its status.
    pub(crate) fn grant(&mut self, cx: &mut Cx<'_>) {
        let Some(pod) = self.desired.pod().cloned() else { return };
        self.set_granted(self.offer(cx), &pod, cx.out);
        let is_over = pod.status.as_ref().is_some_and(status::is_terminal);
        if let Some(allocated) = self.allocated().filter(|_| !is_over) {
            let written = allocation::allocated(&allocated, cx.settings.gates);
            cx.checkpoints.set(StateFile::AllocatedPods, &self.uid, &written);
        }
    }

    /// Goes on with what was granted, whatever its object asks for now.
    pub(super) fn carry_grant_over(&mut self, pod: &Arc<Pod>, out: &mut Outbox) {
        self.set_granted(self.granted.carried_over(self.desired.pod(), pod), pod, out);
    }

    /// Tells of a wish for something else, once.
    fn set_granted(&mut self, granted: Granted, pod: &Arc<Pod>, out: &mut Outbox) {
        let generation = pod.metadata.generation;
        let told = self.desired.pod().filter(|_| self.granted.is_resize_pending());
        let is_told = told.is_some_and(|told| told.metadata.generation == generation)
            || status::resize_pending_since(&self.report.written) == generation;
        if granted.is_resize_pending() && !is_told {
            self.record_event(true, event::RESIZE_INFEASIBLE, allocation::pending_event(pod), out);
        }
        self.granted = granted;
    }

    /// When a container whose start failed may be started again.
    pub(crate) fn start_retry_at(&self, name: &str) -> Option<Duration> {
        self.containers.get(name)?.start_retry.as_ref().map(|retry| retry.next_at)
    }

    /// Whether an instance was ended so that another can take its place.
    pub(crate) fn is_replaced(&self, name: &str, id: &ContainerId) -> bool {
        self.containers.get(name).is_some_and(|m| m.is_replaced(id))
    }

    /// What is remembered of an instance, whichever container's it is.
    pub(crate) fn instance_mut(&mut self, id: &ContainerId) -> Option<&mut Instance> {
        self.containers.values_mut().find_map(|record| record.instances.get_mut(id).map(Box::as_mut))
    }

    /// Forgets the instances that the runtime holds no more.
    pub(crate) fn forget_gone_instances(&mut self) {
        let held = self.seen.last().map(|last| last.containers.as_slice()).unwrap_or_default();
        for record in self.containers.values_mut() {
            record.instances.retain(|id, _| held.iter().any(|c| c.id == *id));
        }
    }

    /// What is remembered of a container, made when there is none.
    pub(crate) fn container_mut(&mut self, name: &str) -> &mut ContainerRecord {
        if !self.containers.contains_key(name) {
            self.containers.insert(name.to_owned(), Box::default());
        }
        // Inserted above when absent.
        self.containers.entry(name.to_owned()).or_default()
    }
}
