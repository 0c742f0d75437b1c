//! Updates of a pod: a new version of it, a hint, a relist, a changed object it refers to.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Volume;
use model::reason::event;
use model::references::{self, ObjectName};
use model::{ContainerId, ImageUse, Now, Pod, PodObservation, TrustSource, pod, trust_sources};

use super::backoff::Backoff;
use super::image_record::Image;
use super::life::EndCause;
use super::record::{Desired, PodRecord, resource_version};
use crate::admission;
use crate::cx::Cx;
use crate::input::{RuntimeChange, Source};
use crate::outbox::Outbox;
use crate::tasks::PodTask;

impl PodRecord {
    /// Its source has a newer version.
    pub(crate) fn pod_changed(&mut self, source: Source, pod: Arc<Pod>, cx: &mut Cx<'_>) {
        let version = resource_version(&pod);
        self.check_features(&pod, cx);
        self.carry_grant_over(&pod, cx.out);
        let old = self.desired.pod().cloned();
        if source == Source::Api {
            // The API object of a pod that was so far only found in the runtime.
            self.report.api_uid.get_or_insert_with(|| self.uid.clone());
            self.see_written(&pod);
        }
        let was_known = old.is_some();
        if old.as_ref().is_some_and(|old| {
            old.metadata.labels != pod.metadata.labels || old.metadata.annotations != pod.metadata.annotations
        }) && volumes(&pod).any(shows_metadata)
        {
            self.refresh_volumes(cx.now);
        }
        if old.as_ref().is_some_and(|old| uses_more_volumes(old, &pod)) {
            let is_looking = self.tasks.is_open(&PodTask::Volumes);
            if let Some(running) = self.life.running_mut() {
                running.volumes.more(is_looking, cx.now);
            }
        }
        if let Some(old) = &old {
            self.containers_changed(old, &pod, cx.out);
        }
        let is_deleted = pod.metadata.deletion_timestamp.is_some();
        self.key = pod::key(&pod);
        self.desired = Desired::Present { source, pod };
        if !was_known {
            let status = self.desired.pod().and_then(|p| p.status.clone()).unwrap_or_default();
            self.report.version = version;
            self.report.written = Arc::new(status);
            self.report.current = self.report.written.clone();
            self.recall_attempts();
            self.note_found();
            if self.seen.last().is_some() {
                self.adopt(cx);
            }
        }
        if is_deleted {
            self.begin_end(EndCause::Deleted, cx);
        }
    }

    /// Tells that a new version asks for what the node does not declare. It is compared with what the version before
    /// asked for, whatever of that was granted.
    fn check_features(&self, pod: &Pod, cx: &mut Cx<'_>) {
        let Some(before) = self.desired.pod() else { return };
        let missing = admission::missing_for_update(before, pod, &cx.settings.object.declared_features);
        if !missing.is_empty() {
            let message =
                format!("Pod requires node features that are not available: {}", missing.join(", "));
            self.record_event(true, event::FAILED_NODE_DECLARED_FEATURES_CHECK, message, cx.out);
        }
    }

    /// Somebody changed the image of a container, perhaps to mend it: what went wrong with the old
    /// one is no reason to wait.
    fn containers_changed(&mut self, old: &Pod, new: &Pod, out: &mut Outbox) {
        for container in pod::containers(new) {
            let name = &container.spec.name;
            let is_same = |old: pod::ContainerRef<'_>| old.spec.image == container.spec.image;
            if pod::container(old, name).is_none_or(is_same) {
                continue;
            }
            let under_way = self.tasks.get(&PodTask::Image(ImageUse::Container(name.clone())));
            let record = self.container_mut(name);
            record.restart_backoff = Backoff::default();
            record.image.backoff = Backoff::default();
            record.start_retry = None;
            record.waiting = None;
            record.image.state = if under_way.is_some() { Image::Outdated } else { Image::Unknown };
            if let Some(in_flight) = under_way {
                out.cancel(in_flight.id);
            }
        }
    }

    /// Takes note of the status an API object has, unless a write is about to change it.
    pub(crate) fn see_written(&mut self, pod: &Pod) {
        let version = resource_version(pod);
        if version > self.report.version && !self.is_being_reported() {
            self.report.version = version;
            self.report.written = Arc::new(pod.status.clone().unwrap_or_default());
            if self.life.is_admitting() {
                // An earlier process's last write may come late.
                self.report.current = self.report.written.clone();
                self.recall_attempts();
            }
        }
    }

    /// A ConfigMap or Secret changed. Returns whether that concerns the pod.
    pub(crate) fn object_changed(&mut self, object: &ObjectName, now: Now) -> bool {
        let Some(pod) = self.desired.pod().cloned() else { return false };
        let mut is_concerned = false;
        if references::shown_by_volumes(&pod).contains(object) {
            self.refresh_volumes(now);
            is_concerned = true;
        }
        for container in pod::containers(&pod) {
            if let Some(record) = self.containers.get_mut(&container.spec.name)
                && record.start_retry.is_some()
                && references::in_environment(&pod, &container.spec).contains(object)
            {
                record.start_retry = None;
                is_concerned = true;
            }
        }
        is_concerned
    }

    /// ClusterTrustBundles changed. Returns whether that concerns the pod.
    pub(crate) fn trust_bundles_changed(&mut self, changed: &BTreeSet<TrustSource>, now: Now) -> bool {
        let is_concerned = self.desired.pod().is_some_and(|pod| !trust_sources(pod).is_disjoint(changed));
        if is_concerned {
            self.refresh_volumes(now);
        }
        is_concerned
    }

    /// Whether what the runtime hints at is not known yet.
    pub(crate) fn hints_at_change(&self, id: &ContainerId, change: RuntimeChange) -> bool {
        let Some(observed) = self.seen.last() else { return false };
        let container = observed.containers.iter().find(|c| c.id == *id);
        let sandbox = observed.sandboxes.iter().find(|s| s.id.as_str() == id.as_str());
        let is_starting = self.tasks.any(|s| matches!(s, PodTask::Container(_) | PodTask::Sandbox));
        match change {
            // The result of the start under way says so, too, and says more.
            RuntimeChange::Created | RuntimeChange::Started if is_starting => false,
            RuntimeChange::Created => container.is_none() && sandbox.is_none(),
            RuntimeChange::Started => {
                container.is_none_or(|c| c.state == model::ContainerState::Created) && sandbox.is_none()
            }
            RuntimeChange::Stopped => {
                // The stop under way reads the container when it is through.
                let is_stopping = self.tasks.is_open(&PodTask::StopContainer(id.clone()));
                let is_sandbox_stopping =
                    sandbox.is_some_and(|s| self.tasks.is_open(&PodTask::StopSandbox(s.id.clone())));
                container.is_some_and(|c| c.state.is_running() && !is_stopping)
                    || sandbox.is_some_and(|s| s.is_ready && !is_sandbox_stopping)
                    || (container.is_none() && sandbox.is_none() && is_starting)
            }
            RuntimeChange::Deleted => {
                let is_removing =
                    self.tasks.any(|s| matches!(s, PodTask::RemoveSandbox(_) | PodTask::RemoveContainer(_)));
                (container.is_some() || sandbox.is_some()) && !is_removing
            }
        }
    }

    /// Compares with what a relist saw; `None` when it saw nothing of the pod. Returns whether
    /// the pod has something to do about it.
    pub(crate) fn compare(&mut self, seen: Option<&PodObservation>) -> bool {
        if let (Some(seen), Desired::Orphan) = (seen, &self.desired)
            && self.key.name.is_empty()
        {
            self.key = seen.key.clone();
        }
        match (self.seen.last(), seen) {
            (None, None) => {
                self.seen.found_nothing(&self.uid, &self.key);
                true
            }
            (None, Some(_)) => {
                self.seen.outdate();
                self.note_found();
                true
            }
            (Some(observed), None) => {
                let was_there = !observed.sandboxes.is_empty() || !observed.containers.is_empty();
                if was_there {
                    self.seen.outdate();
                }
                was_there
            }
            (Some(observed), Some(seen)) => {
                let differs = !is_same_outline(observed, seen);
                if differs {
                    self.seen.outdate();
                }
                differs
            }
        }
    }
}

/// Whether two observations agree in which sandboxes and containers there are and in what stage.
fn is_same_outline(a: &PodObservation, b: &PodObservation) -> bool {
    a.sandboxes.len() == b.sandboxes.len()
        && a.containers.len() == b.containers.len()
        && a.sandboxes.iter().all(|s| b.sandboxes.iter().any(|t| t.id == s.id && t.is_ready == s.is_ready))
        && a.containers
            .iter()
            .all(|c| b.containers.iter().any(|d| d.id == c.id && d.state.is_same_stage(&c.state)))
}

fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    pod.spec.iter().flat_map(|s| s.volumes.iter().flatten())
}

/// Whether containers have come, for debugging, that have volumes which none had.
fn uses_more_volumes(old: &Pod, new: &Pod) -> bool {
    pod::used_volumes(new).any(|volume| pod::used_volumes(old).all(|had| had.name != volume.name))
}

/// Whether a volume's content depends on the pod's labels or annotations.
fn shows_metadata(volume: &Volume) -> bool {
    let projected = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
    volume.downward_api.is_some() || projected.into_iter().any(|s| s.downward_api.is_some())
}
