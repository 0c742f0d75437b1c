//! Takes over what an earlier process of the node left: containers that run, and what was said of
//! them. Nothing that was ready stops being so, and nothing runs or is asked a second time.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, PodStatus};
use model::pod::{self, ContainerKind};
use model::probe::ProbeKind;
use model::{ContainerId, ContainerObservation, ContainerState, Now};

use super::container::Stage;
use super::probe_state::ProbeState;
use super::probes::{self, KINDS, seconds};
use super::record::PodRecord;
use crate::cx::Cx;
use crate::status::is_terminal;
use crate::tasks::PodTask;

impl PodRecord {
    /// Takes over what an earlier process left running.
    pub(crate) fn adopt(&mut self, cx: &Cx<'_>) {
        let Some(pod) = self.desired.pod().cloned() else { return };
        let said = self.report.written.clone();
        for container in pod::containers(&pod) {
            let name = container.spec.name.clone();
            let Some(latest) = self.seen.last().and_then(|o| o.latest(&name)).cloned() else {
                continue;
            };
            self.is_unrecalled |= self.desired.is_static();
            let record = self.container_mut(&name);
            record.last_attempt = record.last_attempt.max(Some(latest.attempt));
            if latest.state.is_running() {
                // Whether its hook ran cannot be known; upstream does not run it again either.
                record.instance_mut(&latest.id).stage = Stage::Started;
                self.adopt_probes(&container.spec, &latest, cx.now);
                if !cx.settings.forgets_readiness {
                    self.believe(&container.spec, &latest.id, &said);
                }
            }
        }
    }

    /// A pod of which the runtime holds something that is not this process's doing was let in by an earlier one, and has
    /// what it takes of the node from now on: nobody else gets that before the pod itself is read.
    pub(crate) fn note_found(&mut self) {
        if self.desired.pod().is_some() && self.seen.holds_something() {
            self.life.adopt();
        }
    }

    /// Takes over what the mirror of a static pod says, the first time it is seen: its manifest
    /// says nothing of what an earlier process found out. Returns whether there was something.
    pub(crate) fn recall_mirror(&mut self, cx: &Cx<'_>) -> bool {
        if !std::mem::take(&mut self.is_unrecalled) {
            return false;
        }
        let said = self.report.written.clone();
        let Some(pod) = self.desired.pod().cloned() else { return false };
        // Out of a terminal phase there is no way back, and this pod runs.
        if said.start_time.is_none() || is_terminal(&said) {
            return false;
        }
        // When it began and since when it is ready go on from there.
        self.report.current = Arc::new(self.as_far_as_it_holds(&said));
        self.recall_attempts();
        if cx.settings.forgets_readiness {
            return true;
        }
        for container in pod::containers(&pod) {
            let latest = self.seen.last().and_then(|o| o.latest(&container.spec.name));
            if let Some(id) = latest.filter(|c| c.state.is_running()).map(|c| c.id.clone()) {
                self.believe(&container.spec, &id, &said);
            }
        }
        true
    }

    /// What was said, without containers that were replaced since, or are being started, by some that count from less (the
    /// process that did so had nothing to count on from), and without init containers that are gone: they had
    /// their turn, and the runtime has nothing that would tell how it was.
    fn as_far_as_it_holds(&self, said: &PodStatus) -> PodStatus {
        let mut said = said.clone();
        let lists = [&mut said.container_statuses, &mut said.init_container_statuses];
        for list in lists.into_iter().flatten() {
            list.retain(|status| match self.seen.last().and_then(|o| o.latest(&status.name)) {
                None => {
                    let is_starting = self.tasks.is_open(&PodTask::Container(status.name.clone()));
                    self.kind_of(&status.name) != ContainerKind::Init && !is_starting
                }
                Some(c) => is_about(status, &c.id) || i64::from(status.restart_count) < i64::from(c.attempt),
            });
        }
        said
    }

    /// The probes of a container that runs already go on at some moment of their period, and no
    /// initial delay is cut short.
    fn adopt_probes(&mut self, container: &Container, running: &ContainerObservation, now: Now) {
        let ContainerState::Running { started_at } = running.state else { return };
        let age = now.since_wall(started_at.unwrap_or(running.created_at));
        let key = format!("{}/{}", self.uid, container.name);
        let instance = self.container_mut(&container.name).instance_mut(&running.id);
        for kind in KINDS {
            let Some(probe) = probes::spec(container, kind) else { continue };
            let mut adopted = ProbeState::new(probe, age, now);
            adopted.plan(now.after(spread(&key, seconds(probe.period_seconds, 10))));
            instance.probes.insert(kind, adopted);
        }
    }

    /// What was said of an instance holds until its probes say otherwise.
    fn believe(&mut self, container: &Container, id: &ContainerId, said: &Arc<PodStatus>) {
        let Some(status) = status_of(said, &container.name, id) else { return };
        let Some(instance) = self.instance_mut(id) else { return };
        let words =
            [(ProbeKind::Startup, status.started == Some(true)), (ProbeKind::Readiness, status.ready)];
        for (kind, is_good) in words {
            if let Some(probe) = instance.probes.get_mut(&kind)
                && probe.verdict.is_none()
            {
                probe.verdict = is_good.then_some(true);
            }
        }
    }
}

/// What a status says of this instance of a container.
fn status_of<'a>(said: &'a PodStatus, name: &str, id: &ContainerId) -> Option<&'a ContainerStatus> {
    let all = [&said.container_statuses, &said.init_container_statuses, &said.ephemeral_container_statuses];
    let found = all.into_iter().flatten().flatten().find(|s| s.name == name)?;
    is_about(found, id).then_some(found)
}

fn is_about(status: &ContainerStatus, id: &ContainerId) -> bool {
    status.container_id.as_deref().is_some_and(|text| text.ends_with(id.as_str()))
}

/// A fraction of the period that differs between containers and not between runs, so that the
/// probes of a node that was restarted do not all come at once.
fn spread(key: &str, period: Duration) -> Duration {
    period.mul_f64(f64::from(golang::fnv::hash_32(key.as_bytes()) % 1000) / 1000.0)
}
