//! Starts containers, runs their postStart hooks, and takes in how that went.

use std::time::Duration;

use model::reason::{event, waiting};
use model::{AllocatedPod, ContainerId, Pod, RuntimeHandler, pod};

use super::backoff::{Pauses, Retry};
use super::container::{Answer, KillCause, Stage, Waiting};
use super::image_record::{Image, Readiness};
use super::plan::{Plan, StartPlan, backs_off_from};
use super::record::PodRecord;
use crate::allocation;
use crate::cx::Cx;
use crate::effect::{
    ContainerStart, Failure, FailureKind, Hook, Outcome, ProbeAction, RuntimeAction, RuntimeOutcome,
    StateFile,
};
use crate::runtime_class::{NoHandler, handler_of};
use crate::schedule::earliest;
use crate::tasks::PodTask;

impl PodRecord {
    /// Starts containers one after the other, in the order of the spec: an earlier container's
    /// postStart hook holds back the later ones, which service meshes rely on. What waits for
    /// something other than time or an image being pulled does not hold back the rest.
    pub(crate) fn drive_starts(
        &mut self,
        pod: &AllocatedPod,
        plan: &Plan,
        cx: &mut Cx<'_>,
    ) -> Option<Duration> {
        let is_starting = self.tasks.any(|task| {
            matches!(task, PodTask::Container(_) | PodTask::Hook(_, Hook::PostStart) | PodTask::Sandbox)
        });
        // A running pod whose volumes are looked at again may well restart a container meanwhile.
        if is_starting || !self.life.running()?.is_prepared() {
            return None;
        }
        let (sandbox, sandbox_attempt) =
            self.seen.last()?.sandboxes.first().map(|s| (s.id.clone(), s.attempt))?;
        self.tell_pulled(cx.out);
        let mut next = None;
        for item in &plan.start {
            if let Some(at) = self.start_retry_at(&item.name).filter(|at| *at > cx.now.mono) {
                next = earliest(next, Some(at));
                continue;
            }
            match self.volume_images_of(pod, &item.name) {
                Readiness::Ready => {}
                Readiness::Pending => return next,
                Readiness::Failed => continue,
            }
            match self.containers.get(&item.name).map(|m| m.image.state.clone()).unwrap_or_default() {
                Image::Ready(image) => {
                    if !self.is_actuation_safe(pod, &item.name, cx) {
                        return next;
                    }
                    let handler = match handler_of(pod, cx.node) {
                        Ok(handler) => handler,
                        // The sandbox is there: the class has gone since.
                        Err(NoHandler::Missing(_)) => RuntimeHandler::default(),
                        Err(NoHandler::Unlisted | NoHandler::Silent) => return next,
                    };
                    self.account_restart(item, cx);
                    let image_volumes = self.images_to_mount(pod, &item.name);
                    let started_from =
                        std::iter::once(&image).chain(image_volumes.values()).cloned().collect();
                    self.container_mut(&item.name).started_from = started_from;
                    let start = ContainerStart {
                        pod: pod.clone(),
                        container: item.name.clone(),
                        sandbox,
                        sandbox_attempt,
                        attempt: item.attempt,
                        image,
                        image_volumes,
                        published_volumes: cx.volumes.published(&self.uid),
                        volume_groups: cx.volumes.groups(pod),
                        facts: self.facts(cx),
                        handler,
                        target: self.target_of(pod, &item.name),
                    };
                    let action = RuntimeAction::StartContainer(Box::new(start));
                    self.start(PodTask::Container(item.name.clone()), action, cx.out);
                    return next;
                }
                Image::Failed { .. } => {}
                Image::Unknown | Image::Outdated | Image::Wanted => return next,
            }
        }
        next
    }

    /// Whether it is written down what a container is started with, so that the next process does not restart it for
    /// having other resources than it knows of.
    fn is_actuation_safe(&self, pod: &AllocatedPod, name: &str, cx: &mut Cx<'_>) -> bool {
        if let Some(resources) = allocation::actuated_container(pod, name, cx.settings.gates) {
            cx.checkpoints.set_container(StateFile::ActuatedPods, &self.uid, name, resources);
        }
        cx.checkpoints.is_safe(StateFile::ActuatedPods, &self.uid)
    }

    /// The container whose processes an ephemeral container shares.
    fn target_of(&self, pod: &Pod, name: &str) -> Option<ContainerId> {
        let all = pod.spec.as_ref()?.ephemeral_containers.as_ref()?;
        let wanted = all.iter().find(|c| c.name == name)?.target_container_name.as_ref()?;
        let target = self.seen.last()?.latest(wanted)?;
        target.state.is_running().then(|| target.id.clone())
    }

    /// Advances the restart back-off once for each exit that is answered by a start.
    fn account_restart(&mut self, item: &StartPlan, cx: &Cx<'_>) {
        let Some(after) = &item.after else { return };
        let observed = self.seen.last().and_then(|o| o.containers.iter().find(|c| c.id == *after));
        let ended_at = match observed {
            Some(container) => backs_off_from(container, self.containers.get(&item.name).map(Box::as_ref)),
            None => Some(cx.now.wall),
        };
        let record = self.container_mut(&item.name);
        let instance = record.instance_mut(after);
        if instance.answer != Answer::Start {
            instance.answer = Answer::Start;
            if let Some(ended_at) = ended_at {
                record.restart_backoff.advance(ended_at, cx.settings.restart_delays, cx.now);
            }
        }
    }

    /// What the pod does to reach the hook stage of a container that just started.
    fn after_container_started(&mut self, name: &str, id: &ContainerId, cx: &mut Cx<'_>) {
        let Some(pod) = self.desired.pod().cloned() else { return };
        let Some(container) = pod::container(&pod, name) else { return };
        self.container_mut(name).instance_mut(id).stage = Stage::PostStart;
        let has_hook = container.spec.lifecycle.as_ref().is_some_and(|l| l.post_start.is_some());
        if has_hook && self.life.is_running() {
            let action = ProbeAction::Hook {
                pod: pod.clone(),
                container: name.to_owned(),
                id: id.clone(),
                hook: Hook::PostStart,
                pod_ip: self.pod_ips(cx).into_iter().next(),
                timeout: None,
            };
            self.start(PodTask::Hook(id.clone(), Hook::PostStart), action, cx.out);
        } else {
            self.is_through_post_start(name, id);
        }
    }

    // ---- results ----

    pub(super) fn container_done(&mut self, name: &str, outcome: Outcome, cx: &mut Cx<'_>) {
        let kind = self.kind_of(name);
        match outcome {
            Outcome::Runtime(RuntimeOutcome::ContainerStarted(container)) => {
                let id = container.id.clone();
                let record = self.container_mut(name);
                record.image.state = Image::Unknown;
                record.started_from = Vec::new();
                record.start_retry = None;
                record.replacement_failed();
                record.last_attempt = record.last_attempt.max(Some(container.attempt));
                self.merge_container(container);
                self.record_container_event(
                    kind,
                    name,
                    false,
                    event::CREATED,
                    "Container created".into(),
                    cx.out,
                );
                self.record_container_event(
                    kind,
                    name,
                    false,
                    event::STARTED,
                    "Container started".into(),
                    cx.out,
                );
                self.after_container_started(name, &id, cx);
            }
            Outcome::Failed(failure) => self.start_failed(name, failure, cx),
            _ => self.seen.outdate(),
        }
    }

    fn start_failed(&mut self, name: &str, failure: Failure, cx: &mut Cx<'_>) {
        self.seen.outdate();
        self.forget_images_mounted_by(name);
        let kind = self.kind_of(name);
        let is_its_fault = failure.kind != FailureKind::RuntimeUnavailable;
        let reason = is_its_fault.then(|| failure.kind.start_reason());
        let record = self.container_mut(name);
        record.image.state = Image::Unknown;
        let retry = Retry::after(record.start_retry.as_ref(), failure.message.clone(), Pauses::CALLS, cx.now);
        let mut is_new = true;
        if let Some(reason) = reason {
            record.replacement_failed();
            is_new =
                record.waiting.as_ref().is_none_or(|w| w.reason != reason || w.message != failure.message);
            record.waiting = Some(Waiting {
                reason,
                message: failure.message.clone(),
                since: record.waiting.as_ref().filter(|_| !is_new).map_or(cx.now.mono, |w| w.since),
                next_at: Some(retry.next_at),
            });
        }
        let is_told = reason.is_some() && (is_new || retry.failures.is_power_of_two());
        // A start that failed leaves a dead container, and that one's restart has a back-off of its own.
        record.start_retry = (failure.kind != FailureKind::ContainerStart).then_some(retry);
        if failure.kind == FailureKind::ContainerStart {
            self.record_container_event(
                kind,
                name,
                false,
                event::CREATED,
                "Container created".into(),
                cx.out,
            );
        }
        if is_told {
            self.record_container_event(
                kind,
                name,
                true,
                event::FAILED,
                format!("Error: {}", failure.message),
                cx.out,
            );
        }
    }

    /// A start that was reported as failed may have succeeded all the same: what runs and was not
    /// announced by a result goes on from here.
    pub(super) fn begin_found(&mut self, cx: &mut Cx<'_>) {
        let running =
            self.seen.last().into_iter().flat_map(|o| &o.containers).filter(|c| c.state.is_running());
        let found: Vec<_> = running.map(|c| (c.name.clone(), c.id.clone())).collect();
        for (name, id) in found {
            let is_latest = self.seen.last().and_then(|o| o.latest(&name)).is_some_and(|c| c.id == id);
            // A start under way tells more when it ends.
            let is_starting = self.tasks.is_open(&PodTask::Container(name.clone()));
            let record = self.container_mut(&name);
            let is_found = record.instance(&id).is_none_or(|i| i.stage == Stage::Found);
            if is_latest && !is_starting && is_found {
                record.image.state = Image::Unknown;
                record.waiting = None;
                record.start_retry = None;
                self.after_container_started(&name, &id, cx);
            }
        }
    }

    pub(super) fn post_start_done(&mut self, id: &ContainerId, outcome: Outcome, cx: &mut Cx<'_>) {
        let Some(name) = self.name_of(id) else { return };
        match outcome {
            Outcome::Done => self.is_through_post_start(&name, id),
            Outcome::Failed(failure) => {
                let kind = self.kind_of(&name);
                let record = self.container_mut(&name);
                record.instance_mut(id).kill = Some(KillCause::PostStart);
                record.waiting = Some(Waiting {
                    reason: waiting::POST_START_HOOK_ERROR,
                    message: failure.message.clone(),
                    since: cx.now.mono,
                    next_at: None,
                });
                // Not the hook's output, nor the answer it got: more people may read events.
                let text = "PostStartHook failed".to_owned();
                self.record_container_event(kind, &name, true, event::FAILED_POST_START_HOOK, text, cx.out);
            }
            _ => {}
        }
    }

    /// From here on the container is shown as it is.
    fn is_through_post_start(&mut self, name: &str, id: &ContainerId) {
        let record = self.container_mut(name);
        record.instance_mut(id).stage = Stage::Started;
        record.waiting = None;
    }
}
