//! Takes in how a pod's actions ended.

use model::pod;
use model::reason::{event, waiting};
use model::{ContainerId, ContainerObservation, ContainerState, PodObservation, SandboxObservation};

use super::Context;
use super::backoff::{Pauses, Retry};
use super::missing_volumes::MissingVolumes;
use super::record::{Image, KillCause, Phase, PodRecord, Step, Terminated, Waiting};
use super::slot::Slot;
use crate::effect::Hook;
use crate::input::{Failure, FailureKind, Outcome};
use crate::outbox::Outbox;
use crate::schedule::earliest;

impl PodRecord {
    /// One action of the pod ended.
    pub(crate) fn finished(&mut self, slot: Slot, outcome: Outcome, ctx: &Context<'_>, out: &mut Outbox) {
        self.busy.remove(&slot);
        if slot.is_change() && self.busy.contains_key(&Slot::Observe) {
            // The read under way may or may not have seen this change.
            self.is_read_overtaken = true;
        }
        match slot {
            Slot::Observe => self.observe_done(outcome, ctx, out),
            Slot::Cgroup => {
                let next = self.step_after(&self.cgroup, &outcome, Pauses::CALLS, ctx);
                if let Outcome::Failed(f) = &outcome {
                    let text = format!("unable to ensure pod container exists: {}", f.message);
                    self.record_event(true, event::FAILED_CREATE_POD_CONTAINER, text, out);
                }
                self.cgroup = next;
            }
            Slot::Volumes => self.volumes_done(outcome, ctx, out),
            Slot::Image(name) => {
                let Some(pod) = self.desired.pod().cloned() else { return };
                if let Some(c) = pod::container(&pod, &name) {
                    self.image_done(&c.spec, c.kind, &outcome, ctx, out);
                }
            }
            Slot::Sandbox => self.sandbox_done(outcome, ctx, out),
            Slot::Container(name) => self.container_done(&name, outcome, ctx, out),
            Slot::StopContainer(id) => self.stop_done(&id, outcome, ctx, out),
            Slot::StopSandbox(id) => self.sandbox_stopped(&id, outcome, ctx, out),
            Slot::RemoveSandbox(id) => {
                if let Some(o) = self.observed.as_mut()
                    && is_gone(&outcome)
                {
                    o.sandboxes.retain(|s| s.id != id);
                    o.containers.retain(|c| c.sandbox_id != id);
                }
                self.removal_done(&outcome, ctx);
            }
            Slot::RemoveContainer(id) => {
                if let Some(o) = self.observed.as_mut()
                    && is_gone(&outcome)
                {
                    o.containers.retain(|c| c.id != id);
                }
                self.removal_done(&outcome, ctx);
            }
            Slot::Hook(id, Hook::PostStart) => self.post_start_done(&id, outcome, ctx, out),
            Slot::Hook(id, Hook::PreStop) => self.pre_stop_done(&id, &outcome, out),
            Slot::Probe(name, kind) => {
                if let Outcome::Probed(result) = &outcome {
                    self.probed(&name, kind, result, ctx, out);
                }
            }
            Slot::Status => self.status_written(outcome, ctx),
            Slot::Mirror => {
                // Done when the watch shows it: somebody may have removed it before that.
                let error = match outcome {
                    Outcome::Failed(failure) => failure.message,
                    _ => "the mirror pod was created and does not show yet".to_owned(),
                };
                if !self.mirror.is_done() {
                    self.mirror =
                        Step::Failed(Retry::after(self.mirror.retry(), error, Pauses::CALLS, ctx.now));
                }
            }
            Slot::MirrorRemoval => {
                // The watch shows when it is gone; should it not, it is asked for again.
                let error = match outcome {
                    Outcome::Failed(failure) => failure.message,
                    _ => "the old mirror pod is being removed".to_owned(),
                };
                self.mirror = Step::Failed(Retry::after(self.mirror.retry(), error, Pauses::CALLS, ctx.now));
            }
            Slot::DeleteObject => {
                self.end_step(&outcome, ctx, |end| &mut end.object);
                if is_gone(&outcome) {
                    self.report.is_gone = true;
                }
            }
            Slot::TearDownVolumes => self.end_step(&outcome, ctx, |end| &mut end.volumes),
            Slot::RemoveCgroup => self.end_step(&outcome, ctx, |end| &mut end.cgroup),
            Slot::Logs => self.end_step(&outcome, ctx, |end| end.logs.get_or_insert_default()),
        }
    }

    fn observe_done(&mut self, outcome: Outcome, ctx: &Context<'_>, out: &mut Outbox) {
        match outcome {
            Outcome::Observed(_) if std::mem::take(&mut self.is_read_overtaken) => {
                self.read_again = false;
                self.is_stale = true;
            }
            Outcome::Observed(mut observed) => {
                observed.sort();
                let is_first = self.observed.is_none();
                self.stopped_sandboxes.retain(|id| observed.sandboxes.iter().any(|s| s.id == *id));
                self.observed = Some(observed);
                // Newer than what was known, though perhaps not the newest.
                self.is_stale = std::mem::take(&mut self.read_again);
                self.read_retry = None;
                if is_first {
                    self.adopt(ctx);
                }
                self.note_attempts();
                self.begin_found(ctx, out);
                self.forget_dead_kills();
            }
            Outcome::Failed(failure) => {
                self.is_stale = true;
                let retry = Retry::after(self.read_retry.as_ref(), failure.message, Pauses::CALLS, ctx.now);
                self.read_retry = Some(retry);
            }
            _ => self.is_stale = true,
        }
    }

    /// Keeps the restart counts that were seen: a runtime may lose the containers that carry them.
    fn note_attempts(&mut self) {
        let seen: Vec<_> =
            self.observed.iter().flat_map(|o| &o.containers).map(|c| (c.name.clone(), c.attempt)).collect();
        for (name, attempt) in seen {
            let memory = self.memory(&name);
            memory.last_attempt = memory.last_attempt.max(Some(attempt));
        }
    }

    /// A start that was reported as failed may have succeeded all the same: what runs and was not
    /// announced by a result goes on from here.
    fn begin_found(&mut self, ctx: &Context<'_>, out: &mut Outbox) {
        let running = self.observed.iter().flat_map(|o| &o.containers).filter(|c| c.state.is_running());
        let found: Vec<_> = running.map(|c| (c.name.clone(), c.id.clone())).collect();
        for (name, id) in found {
            let is_latest = self.observed.as_ref().and_then(|o| o.latest(&name)).is_some_and(|c| c.id == id);
            // A start under way tells more when it ends.
            let is_starting = self.busy.contains_key(&Slot::Container(name.clone()));
            let memory = self.memory(&name);
            if is_latest && !is_starting && memory.begun.as_ref() != Some(&id) {
                memory.image = Image::Unknown;
                memory.waiting = None;
                memory.start_retry = None;
                self.after_container_started(&name, &id, ctx, out);
            }
        }
    }

    /// A reason to kill an instance is void once the instance has ended.
    fn forget_dead_kills(&mut self) {
        let Some(observed) = &self.observed else { return };
        for memory in self.containers.values_mut() {
            let is_running =
                |id: &ContainerId| observed.containers.iter().any(|c| c.id == *id && c.state.is_running());
            if memory.kill.as_ref().is_some_and(|(id, _)| !is_running(id)) {
                memory.kill = None;
            }
        }
    }

    /// Each of the messages is an event of its own.
    fn volumes_failed(&mut self, messages: Vec<String>, ctx: &Context<'_>, out: &mut Outbox) {
        let all = messages.join("; ");
        let is_first = self.volumes.retry().is_none_or(|r| r.error != all);
        let retry = Retry::after(self.volumes.retry(), all, Pauses::VOLUMES, ctx.now);
        // The same errors again are told again less and less often, as the pauses grow.
        if is_first || retry.failures.is_power_of_two() {
            for message in messages {
                self.record_event(true, event::FAILED_MOUNT, message, out);
            }
        }
        if self.volumes.is_done() || self.has_sandbox() {
            // A refresh failed: what is mounted stays in use.
            self.volumes = Step::Done;
            self.missing_volumes = MissingVolumes::default();
            self.volumes_refresh_at = earliest(self.volumes_refresh_at, Some(retry.next_at));
        } else if self.volumes_refresh_at.take().is_some_and(|at| at <= ctx.now.mono) {
            self.volumes = Step::Todo;
        } else {
            self.volumes = Step::Failed(retry);
        }
    }

    fn volumes_done(&mut self, outcome: Outcome, ctx: &Context<'_>, out: &mut Outbox) {
        match outcome {
            Outcome::VolumesSynced { refresh_after } => {
                self.volumes = Step::Done;
                self.missing_volumes = MissingVolumes::default();
                // What changed while this was under way may have come too late for it.
                let again = refresh_after.map(|after| ctx.now.after(after));
                self.volumes_refresh_at = earliest(self.volumes_refresh_at, again);
            }
            Outcome::VolumesFailed(volumes) => {
                self.missing_volumes.failed(volumes.iter().map(|(name, _)| name.clone()).collect());
                self.volumes_failed(volumes.into_iter().map(|(_, message)| message).collect(), ctx, out);
            }
            Outcome::Failed(failure) => self.volumes_failed(vec![failure.message], ctx, out),
            _ => self.volumes = Step::Todo,
        }
    }

    /// Whether there is a sandbox that works.
    pub(crate) fn has_sandbox(&self) -> bool {
        self.observed.as_ref().is_some_and(|o| o.ready_sandbox().is_some())
    }

    fn sandbox_done(&mut self, outcome: Outcome, ctx: &Context<'_>, out: &mut Outbox) {
        match outcome {
            Outcome::SandboxStarted(sandbox) => {
                self.sandbox = Step::Todo;
                self.is_network_wait_recorded = false;
                self.merge_sandbox(sandbox);
            }
            Outcome::Failed(failure) => {
                self.is_stale = true;
                if failure.kind != FailureKind::RuntimeUnavailable {
                    let text = format!("Failed to create pod sandbox: {}", failure.message);
                    self.record_event(true, event::FAILED_CREATE_POD_SANDBOX, text, out);
                }
                self.sandbox =
                    Step::Failed(Retry::after(self.sandbox.retry(), failure.message, Pauses::CALLS, ctx.now));
            }
            _ => self.is_stale = true,
        }
    }

    fn sandbox_stopped(
        &mut self,
        id: &model::SandboxId,
        outcome: Outcome,
        ctx: &Context<'_>,
        out: &mut Outbox,
    ) {
        if is_gone(&outcome) {
            if let Some(sandbox) =
                self.observed.iter_mut().flat_map(|o| &mut o.sandboxes).find(|s| s.id == *id)
            {
                sandbox.is_ready = false;
            }
            self.stopped_sandboxes.insert(id.clone());
            if let Phase::Terminating(end) = &mut self.phase {
                end.retry = None;
            }
            self.sandbox = Step::Todo;
            return;
        }
        self.is_stale = true;
        if let Outcome::Failed(failure) = outcome {
            self.kill_failed(failure, ctx, out);
        }
    }

    fn kill_failed(&mut self, failure: Failure, ctx: &Context<'_>, out: &mut Outbox) {
        let is_told = failure.kind != FailureKind::RuntimeUnavailable;
        let text = format!("error killing pod: {}", failure.message);
        match &mut self.phase {
            Phase::Terminating(end) => {
                end.retry = Some(Retry::after(end.retry.as_ref(), failure.message, Pauses::CALLS, ctx.now));
            }
            _ => {
                self.sandbox =
                    Step::Failed(Retry::after(self.sandbox.retry(), failure.message, Pauses::CALLS, ctx.now));
            }
        }
        if is_told {
            self.record_event(true, event::FAILED_KILL_POD, text, out);
        }
    }

    fn container_done(&mut self, name: &str, outcome: Outcome, ctx: &Context<'_>, out: &mut Outbox) {
        let kind = self.kind_of(name);
        match outcome {
            Outcome::ContainerStarted(container) => {
                let id = container.id.clone();
                let memory = self.memory(name);
                memory.image = Image::Unknown;
                memory.start_retry = None;
                memory.kill = None;
                memory.replaced = None;
                memory.last_attempt = memory.last_attempt.max(Some(container.attempt));
                self.merge_container(container);
                self.record_container_event(
                    kind,
                    name,
                    false,
                    event::CREATED,
                    "Container created".into(),
                    out,
                );
                self.record_container_event(
                    kind,
                    name,
                    false,
                    event::STARTED,
                    "Container started".into(),
                    out,
                );
                self.after_container_started(name, &id, ctx, out);
            }
            Outcome::Failed(failure) => self.start_failed(name, failure, ctx, out),
            _ => self.is_stale = true,
        }
    }

    fn start_failed(&mut self, name: &str, failure: Failure, ctx: &Context<'_>, out: &mut Outbox) {
        self.is_stale = true;
        let kind = self.kind_of(name);
        let reason = match failure.kind {
            FailureKind::RuntimeUnavailable => None,
            FailureKind::ContainerConfig => Some(waiting::CREATE_CONTAINER_CONFIG_ERROR),
            FailureKind::ContainerStart => Some(waiting::RUN_CONTAINER_ERROR),
            _ => Some(waiting::CREATE_CONTAINER_ERROR),
        };
        let memory = self.memory(name);
        memory.image = Image::Unknown;
        let retry =
            Retry::after(memory.start_retry.as_ref(), failure.message.clone(), Pauses::CALLS, ctx.now);
        let mut is_new = true;
        if let Some(reason) = reason {
            memory.replaced = None;
            is_new =
                memory.waiting.as_ref().is_none_or(|w| w.reason != reason || w.message != failure.message);
            memory.waiting = Some(Waiting {
                reason,
                message: failure.message.clone(),
                since: memory.waiting.as_ref().filter(|_| !is_new).map_or(ctx.now.mono, |w| w.since),
                next_at: Some(retry.next_at),
            });
        }
        let is_told = reason.is_some() && (is_new || retry.failures.is_power_of_two());
        // A start that failed leaves a dead container, and that one's restart has a back-off of its own.
        memory.start_retry = (failure.kind != FailureKind::ContainerStart).then_some(retry);
        if failure.kind == FailureKind::ContainerStart {
            self.record_container_event(kind, name, false, event::CREATED, "Container created".into(), out);
        }
        if is_told {
            self.record_container_event(
                kind,
                name,
                true,
                event::FAILED,
                format!("Error: {}", failure.message),
                out,
            );
        }
    }

    fn stop_done(&mut self, id: &ContainerId, outcome: Outcome, ctx: &Context<'_>, out: &mut Outbox) {
        match outcome {
            Outcome::ContainerStopped(Some(container)) => {
                let is_over = !container.state.is_running();
                let is_lost = |c: &ContainerObservation| c.id == *id && c.state == ContainerState::Unknown;
                if self.observed.as_ref().is_some_and(|o| o.containers.iter().any(is_lost)) {
                    self.memory(&container.name).lost = Some(id.clone());
                }
                self.merge_container(container);
                if is_over {
                    self.forget_dead_kills();
                } else {
                    self.is_stale = true;
                }
            }
            Outcome::ContainerStopped(None) | Outcome::Gone => {
                if let Some(o) = self.observed.as_mut() {
                    o.containers.retain(|c| c.id != *id);
                }
                self.forget_dead_kills();
            }
            Outcome::Failed(failure) => {
                self.is_stale = true;
                self.kill_failed(failure, ctx, out);
            }
            _ => self.is_stale = true,
        }
    }

    fn post_start_done(&mut self, id: &ContainerId, outcome: Outcome, ctx: &Context<'_>, out: &mut Outbox) {
        let Some(name) = self.name_of(id) else { return };
        match outcome {
            Outcome::Done => self.is_through_post_start(&name, id),
            Outcome::Failed(failure) => {
                let kind = self.kind_of(&name);
                let memory = self.memory(&name);
                memory.kill = Some((id.clone(), KillCause::PostStart));
                memory.waiting = Some(Waiting {
                    reason: waiting::POST_START_HOOK_ERROR,
                    message: failure.message.clone(),
                    since: ctx.now.mono,
                    next_at: None,
                });
                // Not the hook's output, nor the answer it got: more people may read events.
                let text = "PostStartHook failed".to_owned();
                self.record_container_event(kind, &name, true, event::FAILED_POST_START_HOOK, text, out);
            }
            _ => {}
        }
    }

    /// From here on the container is shown as it is.
    pub(crate) fn is_through_post_start(&mut self, name: &str, id: &ContainerId) {
        let memory = self.memory(name);
        memory.hook_done = Some(id.clone());
        memory.waiting = None;
    }

    fn pre_stop_done(&mut self, id: &ContainerId, outcome: &Outcome, out: &mut Outbox) {
        let Some(name) = self.name_of(id) else { return };
        let kind = self.kind_of(&name);
        self.memory(&name).pre_stop_done = Some(id.clone());
        if let Outcome::Failed(_) = outcome {
            let text = "PreStopHook failed".to_owned();
            self.record_container_event(kind, &name, true, event::FAILED_PRE_STOP_HOOK, text, out);
        }
    }

    fn name_of(&self, id: &ContainerId) -> Option<String> {
        self.observed.as_ref()?.containers.iter().find(|c| c.id == *id).map(|c| c.name.clone())
    }

    fn removal_done(&mut self, outcome: &Outcome, ctx: &Context<'_>) {
        let failed = match outcome {
            Outcome::Failed(failure) => Some(failure.message.clone()),
            _ => None,
        };
        self.is_stale |= !is_gone(outcome);
        if let Phase::Terminated(end) = &mut self.phase {
            end.remains = failed.map(|e| Retry::after(end.remains.as_ref(), e, Pauses::CALLS, ctx.now));
        }
    }

    fn end_step(
        &mut self,
        outcome: &Outcome,
        ctx: &Context<'_>,
        step: impl Fn(&mut Terminated) -> &mut Step,
    ) {
        let Phase::Terminated(end) = &mut self.phase else { return };
        let step = step(end);
        *step = next_step(step, outcome, Pauses::CALLS, ctx);
    }

    fn step_after(&self, step: &Step, outcome: &Outcome, pauses: Pauses, ctx: &Context<'_>) -> Step {
        next_step(step, outcome, pauses, ctx)
    }

    fn merge_sandbox(&mut self, sandbox: SandboxObservation) {
        let observed = self.observed_or_empty();
        observed.sandboxes.retain(|s| s.id != sandbox.id);
        observed.sandboxes.push(sandbox);
        observed.sort();
    }

    fn merge_container(&mut self, container: ContainerObservation) {
        let observed = self.observed_or_empty();
        observed.containers.retain(|c| c.id != container.id);
        observed.containers.push(container);
        observed.sort();
    }

    fn observed_or_empty(&mut self) -> &mut PodObservation {
        let (uid, key) = (self.uid.clone(), self.key.clone());
        self.observed.get_or_insert_with(|| PodObservation::empty(uid, key))
    }
}

/// Whether what was to go is gone.
pub(crate) fn is_gone(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Done | Outcome::Gone)
}

fn next_step(step: &Step, outcome: &Outcome, pauses: Pauses, ctx: &Context<'_>) -> Step {
    match outcome {
        Outcome::Failed(failure) => {
            Step::Failed(Retry::after(step.retry(), failure.message.clone(), pauses, ctx.now))
        }
        Outcome::Cancelled => Step::Todo,
        _ => Step::Done,
    }
}
