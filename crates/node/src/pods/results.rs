//! Takes in how a pod's actions ended.

use golang::quote::quoted;
use model::pod;
use model::reason::{event, waiting};
use model::{ContainerId, ContainerObservation, ContainerState, PodObservation, SandboxObservation};

use super::backoff::{Pauses, Retry};
use super::container::{EndStep, Image, KillCause, Stage, Waiting};
use super::missing_volumes::MissingVolumes;
use super::record::{Phase, PodRecord, Step, Terminated};
use crate::cx::Cx;
use crate::effect::{Failure, FailureKind, Hook, Outcome, RuntimeOutcome, VolumeOutcome};
use crate::outbox::Outbox;
use crate::schedule::earliest;
use crate::slot::Slot;

impl PodRecord {
    /// One action of the pod ended.
    pub(crate) fn finished(&mut self, slot: Slot, outcome: Outcome, cx: &mut Cx<'_>) {
        self.busy.remove(&slot);
        let is_change = slot.is_change();
        if is_change {
            self.seen.change_ended();
        }
        let is_news = is_change || slot == Slot::Observe;
        self.take_in(slot, outcome, cx);
        if is_news {
            self.forget_gone_instances();
        }
    }

    fn take_in(&mut self, slot: Slot, outcome: Outcome, cx: &mut Cx<'_>) {
        match slot {
            Slot::Observe => self.observe_done(outcome, cx),
            Slot::Cgroup => self.cgroup_done(&outcome, cx),
            Slot::Volumes => self.volumes_done(outcome, cx),
            Slot::Image(name) => {
                let Some(pod) = self.desired.pod().cloned() else { return };
                if let Some(c) = pod::container(&pod, &name) {
                    self.image_done(&c.spec, c.kind, &outcome, cx);
                }
            }
            Slot::Sandbox => self.sandbox_done(outcome, cx),
            Slot::Container(name) => self.container_done(&name, outcome, cx),
            Slot::StopContainer(id) => self.stop_done(&id, outcome, cx),
            Slot::StopSandbox(id) => self.sandbox_stopped(&id, outcome, cx),
            Slot::RemoveSandbox(id) => self.removal_done(&outcome, cx, |held| {
                held.sandboxes.retain(|s| s.id != id);
                held.containers.retain(|c| c.sandbox_id != id);
            }),
            Slot::RemoveContainer(id) => {
                self.removal_done(&outcome, cx, |held| held.containers.retain(|c| c.id != id));
            }
            Slot::Hook(id, Hook::PostStart) => self.post_start_done(&id, outcome, cx),
            Slot::Hook(id, Hook::PreStop) => self.pre_stop_done(&id, &outcome, cx.out),
            Slot::Probe(name, kind) => {
                if let Outcome::Probed(result) = &outcome {
                    self.probed(&name, kind, result, cx);
                }
            }
            Slot::Status => self.status_written(outcome, cx),
            Slot::Mirror => self.mirror_made(outcome, cx),
            Slot::MirrorRemoval => self.mirror_removed(outcome, cx),
            Slot::DeleteObject => {
                self.end_step(&outcome, cx, |end| &mut end.object);
                if outcome.is_gone() {
                    self.report.is_gone = true;
                }
            }
            Slot::TearDownVolumes => self.end_step(&outcome, cx, |end| &mut end.volumes),
            Slot::RemoveCgroup => self.end_step(&outcome, cx, |end| &mut end.cgroup),
            Slot::Logs => self.end_step(&outcome, cx, |end| end.logs.get_or_insert_default()),
        }
    }

    fn cgroup_done(&mut self, outcome: &Outcome, cx: &mut Cx<'_>) {
        if let Outcome::Failed(failure) = outcome {
            let text = format!("unable to ensure pod container exists: {}", failure.message);
            self.record_event(true, event::FAILED_CREATE_POD_CONTAINER, text, cx.out);
        }
        self.cgroup = next_step(&self.cgroup, outcome, Pauses::CALLS, cx);
    }

    fn mirror_made(&mut self, outcome: Outcome, cx: &Cx<'_>) {
        // Done when the watch shows it: somebody may have removed it before that.
        let error = match outcome {
            Outcome::Failed(failure) => failure.message,
            _ => "the mirror pod was created and does not show yet".to_owned(),
        };
        if !self.mirror.is_done() {
            self.mirror = Step::Failed(Retry::after(self.mirror.retry(), error, Pauses::CALLS, cx.now));
        }
    }

    fn mirror_removed(&mut self, outcome: Outcome, cx: &Cx<'_>) {
        // The watch shows when it is gone; should it not, it is asked for again.
        let error = match outcome {
            Outcome::Failed(failure) => failure.message,
            _ => "the old mirror pod is being removed".to_owned(),
        };
        self.mirror = Step::Failed(Retry::after(self.mirror.retry(), error, Pauses::CALLS, cx.now));
    }

    fn observe_done(&mut self, outcome: Outcome, cx: &mut Cx<'_>) {
        match outcome {
            Outcome::Runtime(RuntimeOutcome::Observed(mut observed)) => {
                observed.sort();
                let is_first = self.seen.last().is_none();
                if !self.seen.read_succeeded(observed) {
                    return;
                }
                if let Some(last) = self.seen.last() {
                    self.stopped_sandboxes.retain(|id| last.sandboxes.iter().any(|s| s.id == *id));
                }
                if is_first {
                    self.adopt(cx);
                }
                self.note_attempts();
                self.begin_found(cx);
            }
            Outcome::Failed(failure) => self.seen.read_failed(failure.message, cx.now),
            _ => self.seen.read_is_due(),
        }
    }

    /// Keeps the restart counts that were seen: a runtime may lose the containers that carry them.
    fn note_attempts(&mut self) {
        let seen: Vec<_> = self
            .seen
            .last()
            .into_iter()
            .flat_map(|o| &o.containers)
            .map(|c| (c.name.clone(), c.attempt))
            .collect();
        for (name, attempt) in seen {
            let memory = self.memory(&name);
            memory.last_attempt = memory.last_attempt.max(Some(attempt));
        }
    }

    /// A start that was reported as failed may have succeeded all the same: what runs and was not
    /// announced by a result goes on from here.
    fn begin_found(&mut self, cx: &mut Cx<'_>) {
        let running =
            self.seen.last().into_iter().flat_map(|o| &o.containers).filter(|c| c.state.is_running());
        let found: Vec<_> = running.map(|c| (c.name.clone(), c.id.clone())).collect();
        for (name, id) in found {
            let is_latest = self.seen.last().and_then(|o| o.latest(&name)).is_some_and(|c| c.id == id);
            // A start under way tells more when it ends.
            let is_starting = self.busy.contains_key(&Slot::Container(name.clone()));
            let memory = self.memory(&name);
            let is_found = memory.instance(&id).is_none_or(|i| i.stage == Stage::Found);
            if is_latest && !is_starting && is_found {
                memory.image = Image::Unknown;
                memory.waiting = None;
                memory.start_retry = None;
                self.after_container_started(&name, &id, cx);
            }
        }
    }

    /// Each of the messages is an event of its own.
    fn volumes_failed(&mut self, reason: &'static str, messages: Vec<String>, cx: &mut Cx<'_>) {
        let all = messages.join("; ");
        let is_first = self.volumes.retry().is_none_or(|r| r.error != all);
        let retry = Retry::after(self.volumes.retry(), all, Pauses::VOLUMES, cx.now);
        // The same errors again are told again less and less often, as the pauses grow.
        if is_first || retry.failures.is_power_of_two() {
            for message in messages {
                self.record_event(true, reason, message, cx.out);
            }
        }
        if self.volumes.is_done() || self.has_sandbox() {
            // A refresh failed: what is mounted stays in use.
            self.volumes = Step::Done;
            self.missing_volumes = MissingVolumes::default();
            self.volumes_refresh_at = earliest(self.volumes_refresh_at, Some(retry.next_at));
        } else if self.volumes_refresh_at.take().is_some_and(|at| at <= cx.now.mono) {
            self.volumes = Step::Todo;
        } else {
            self.volumes = Step::Failed(retry);
        }
    }

    fn volumes_done(&mut self, outcome: Outcome, cx: &mut Cx<'_>) {
        match outcome {
            Outcome::Volume(VolumeOutcome::Synced { refresh_after }) => {
                self.volumes = Step::Done;
                self.missing_volumes = MissingVolumes::default();
                // What changed while this was under way may have come too late for it.
                let again = refresh_after.map(|after| cx.now.after(after));
                self.volumes_refresh_at = earliest(self.volumes_refresh_at, again);
            }
            Outcome::Volume(VolumeOutcome::Failed(volumes)) => {
                self.missing_volumes.failed(volumes.iter().map(|(name, _)| name.clone()).collect());
                let messages = volumes.into_iter().map(|(_, message)| message).collect();
                self.volumes_failed(event::FAILED_MOUNT, messages, cx);
            }
            Outcome::Failed(failure) => {
                let reason = match failure.kind {
                    FailureKind::PodFolders => event::FAILED,
                    _ => event::FAILED_MOUNT,
                };
                self.volumes_failed(reason, vec![failure.message], cx);
            }
            _ => self.volumes = Step::Todo,
        }
    }

    /// Whether there is a sandbox that works.
    pub(crate) fn has_sandbox(&self) -> bool {
        self.seen.last().is_some_and(|o| o.ready_sandbox().is_some())
    }

    fn sandbox_done(&mut self, outcome: Outcome, cx: &mut Cx<'_>) {
        match outcome {
            Outcome::Runtime(RuntimeOutcome::SandboxStarted(sandbox)) => {
                self.sandbox = Step::Todo;
                self.is_network_wait_recorded = false;
                self.merge_sandbox(sandbox);
            }
            Outcome::Failed(failure) => {
                self.seen.outdate();
                if failure.kind != FailureKind::RuntimeUnavailable {
                    let text = format!("Failed to create pod sandbox: {}", failure.message);
                    self.record_event(true, event::FAILED_CREATE_POD_SANDBOX, text, cx.out);
                }
                self.sandbox =
                    Step::Failed(Retry::after(self.sandbox.retry(), failure.message, Pauses::CALLS, cx.now));
            }
            _ => self.seen.outdate(),
        }
    }

    fn sandbox_stopped(&mut self, id: &model::SandboxId, outcome: Outcome, cx: &mut Cx<'_>) {
        if outcome.is_gone() {
            if let Some(sandbox) =
                self.seen.last_mut().into_iter().flat_map(|o| &mut o.sandboxes).find(|s| s.id == *id)
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
        self.seen.outdate();
        if let Outcome::Failed(failure) = outcome {
            let uid = self.uid.to_string();
            self.kill_failed("KillPodSandbox", &uid, failure, cx);
        }
    }

    /// `action` and `target` are upstream's words in the event: `KillContainer` of a name, `KillPodSandbox` of a uid.
    fn kill_failed(&mut self, action: &str, target: &str, failure: Failure, cx: &mut Cx<'_>) {
        let is_told = failure.kind != FailureKind::RuntimeUnavailable;
        let message = quoted(&failure.message);
        let text = format!(
            "error killing pod: failed to \"{action}\" for \"{target}\" with {action}Error: {message}"
        );
        match &mut self.phase {
            Phase::Terminating(end) => {
                end.retry = Some(Retry::after(end.retry.as_ref(), failure.message, Pauses::CALLS, cx.now));
            }
            _ => {
                self.sandbox =
                    Step::Failed(Retry::after(self.sandbox.retry(), failure.message, Pauses::CALLS, cx.now));
            }
        }
        if is_told {
            self.record_event(true, event::FAILED_KILL_POD, text, cx.out);
        }
    }

    fn container_done(&mut self, name: &str, outcome: Outcome, cx: &mut Cx<'_>) {
        let kind = self.kind_of(name);
        match outcome {
            Outcome::Runtime(RuntimeOutcome::ContainerStarted(container)) => {
                let id = container.id.clone();
                let memory = self.memory(name);
                memory.image = Image::Unknown;
                memory.start_retry = None;
                memory.replacement_failed();
                memory.last_attempt = memory.last_attempt.max(Some(container.attempt));
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
        let kind = self.kind_of(name);
        let reason = match failure.kind {
            FailureKind::RuntimeUnavailable => None,
            FailureKind::ContainerConfig => Some(waiting::CREATE_CONTAINER_CONFIG_ERROR),
            FailureKind::ContainerStart => Some(waiting::RUN_CONTAINER_ERROR),
            _ => Some(waiting::CREATE_CONTAINER_ERROR),
        };
        let memory = self.memory(name);
        memory.image = Image::Unknown;
        let retry = Retry::after(memory.start_retry.as_ref(), failure.message.clone(), Pauses::CALLS, cx.now);
        let mut is_new = true;
        if let Some(reason) = reason {
            memory.replacement_failed();
            is_new =
                memory.waiting.as_ref().is_none_or(|w| w.reason != reason || w.message != failure.message);
            memory.waiting = Some(Waiting {
                reason,
                message: failure.message.clone(),
                since: memory.waiting.as_ref().filter(|_| !is_new).map_or(cx.now.mono, |w| w.since),
                next_at: Some(retry.next_at),
            });
        }
        let is_told = reason.is_some() && (is_new || retry.failures.is_power_of_two());
        // A start that failed leaves a dead container, and that one's restart has a back-off of its own.
        memory.start_retry = (failure.kind != FailureKind::ContainerStart).then_some(retry);
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

    fn stop_done(&mut self, id: &ContainerId, outcome: Outcome, cx: &mut Cx<'_>) {
        if let Some(ending) = self.instance_mut(id).and_then(|i| i.ending.as_mut()) {
            ending.step = EndStep::Due;
        }
        match outcome {
            Outcome::Runtime(RuntimeOutcome::ContainerStopped(Some(container))) => {
                let is_over = !container.state.is_running();
                let is_lost = |c: &ContainerObservation| c.id == *id && c.state == ContainerState::Unknown;
                if self.seen.last().is_some_and(|o| o.containers.iter().any(is_lost))
                    && let Some(ending) = self.instance_mut(id).and_then(|i| i.ending.as_mut())
                {
                    ending.step = EndStep::Lost;
                }
                self.merge_container(container);
                if !is_over {
                    self.seen.outdate();
                }
            }
            Outcome::Runtime(RuntimeOutcome::ContainerStopped(None)) | Outcome::Gone => {
                if let Some(o) = self.seen.last_mut() {
                    o.containers.retain(|c| c.id != *id);
                }
            }
            Outcome::Failed(failure) => {
                self.seen.outdate();
                let name = self.name_of(id).unwrap_or_default();
                self.kill_failed("KillContainer", &name, failure, cx);
            }
            _ => self.seen.outdate(),
        }
    }

    fn post_start_done(&mut self, id: &ContainerId, outcome: Outcome, cx: &mut Cx<'_>) {
        let Some(name) = self.name_of(id) else { return };
        match outcome {
            Outcome::Done => self.is_through_post_start(&name, id),
            Outcome::Failed(failure) => {
                let kind = self.kind_of(&name);
                let memory = self.memory(&name);
                memory.instance_mut(id).kill = Some(KillCause::PostStart);
                memory.waiting = Some(Waiting {
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
    pub(crate) fn is_through_post_start(&mut self, name: &str, id: &ContainerId) {
        let memory = self.memory(name);
        memory.instance_mut(id).stage = Stage::Started;
        memory.waiting = None;
    }

    fn pre_stop_done(&mut self, id: &ContainerId, outcome: &Outcome, out: &mut Outbox) {
        let Some(name) = self.name_of(id) else { return };
        let kind = self.kind_of(&name);
        if let Some(ending) = self.instance_mut(id).and_then(|i| i.ending.as_mut())
            && ending.step == EndStep::PreStop
        {
            ending.step = EndStep::Due;
        }
        if let Outcome::Failed(_) = outcome {
            let text = "PreStopHook failed".to_owned();
            self.record_container_event(kind, &name, true, event::FAILED_PRE_STOP_HOOK, text, out);
        }
    }

    fn name_of(&self, id: &ContainerId) -> Option<String> {
        self.seen.last()?.containers.iter().find(|c| c.id == *id).map(|c| c.name.clone())
    }

    /// What was removed is no longer held.
    fn removal_done(&mut self, outcome: &Outcome, cx: &Cx<'_>, forget: impl FnOnce(&mut PodObservation)) {
        if let Some(held) = self.seen.last_mut()
            && outcome.is_gone()
        {
            forget(held);
        }
        let failed = match outcome {
            Outcome::Failed(failure) => Some(failure.message.clone()),
            _ => None,
        };
        if !outcome.is_gone() {
            self.seen.outdate();
        }
        if let Phase::Terminated(end) = &mut self.phase {
            end.remains = failed.map(|e| Retry::after(end.remains.as_ref(), e, Pauses::CALLS, cx.now));
        }
    }

    fn end_step(&mut self, outcome: &Outcome, cx: &Cx<'_>, step: impl Fn(&mut Terminated) -> &mut Step) {
        let Phase::Terminated(end) = &mut self.phase else { return };
        let step = step(end);
        *step = next_step(step, outcome, Pauses::CALLS, cx);
    }

    fn merge_sandbox(&mut self, sandbox: SandboxObservation) {
        let Some(last) = self.seen.last_mut() else { return };
        last.sandboxes.retain(|s| s.id != sandbox.id);
        last.sandboxes.push(sandbox);
        last.sort();
    }

    fn merge_container(&mut self, container: ContainerObservation) {
        let Some(last) = self.seen.last_mut() else { return };
        last.containers.retain(|c| c.id != container.id);
        last.containers.push(container);
        last.sort();
    }
}

fn next_step(step: &Step, outcome: &Outcome, pauses: Pauses, cx: &Cx<'_>) -> Step {
    match outcome {
        Outcome::Failed(failure) => {
            Step::Failed(Retry::after(step.retry(), failure.message.clone(), pauses, cx.now))
        }
        Outcome::Cancelled => Step::Todo,
        _ => Step::Done,
    }
}
