//! What a pod that is to run needs before its containers: cgroup, volumes, and with both of them, the sandbox.

use std::time::Duration;

use model::reason::event;
use model::{AllocatedPod, Now, SandboxId, SandboxObservation, pod};

use super::life::{Life, Running, Step};
use super::plan::{Plan, SandboxPlan};
use super::record::PodRecord;
use crate::cx::Cx;
use crate::effect::{
    EventRecord, Failure, FailureKind, HostAction, Outcome, RuntimeAction, RuntimeOutcome, SandboxLoss,
    StateFile, VolumeAction, VolumeOutcome,
};
use crate::runtime_class::{NoHandler, class_of, handler_of};
use crate::schedule::earliest;
use crate::tasks::PodTask;
use crate::volumes::GrowthEvent;

impl PodRecord {
    /// Cgroup and volumes, each on its own.
    pub(crate) fn drive_preparation(&mut self, pod: &AllocatedPod, cx: &mut Cx<'_>) -> Option<Duration> {
        let next = self.drive_driver_volumes(pod, cx);
        earliest(next, self.drive_own_preparation(pod, cx))
    }

    /// The volumes that drivers make.
    fn drive_driver_volumes(&mut self, pod: &AllocatedPod, cx: &mut Cx<'_>) -> Option<Duration> {
        let (volumes, mut around) = cx.volumes();
        let preparation = volumes.prepare(pod, &mut around);
        let running = self.life.running_mut()?;
        running.volumes.are_published = preparation.missing.unmounted.is_empty();
        running.volumes.missing.of_drivers_are(preparation.missing, cx.now);
        for message in running.volumes.missing.messages(&preparation.news) {
            self.record_event(true, event::FAILED_MOUNT, message, cx.out);
        }
        for GrowthEvent { claim, is_warning, reason, message } in preparation.growth {
            self.record_event(is_warning, reason, message.clone(), cx.out);
            if let Some(about) = claim {
                cx.out.record(EventRecord { about, is_warning, reason: reason.into(), message });
            }
        }
        preparation.next
    }

    fn drive_own_preparation(&mut self, pod: &AllocatedPod, cx: &mut Cx<'_>) -> Option<Duration> {
        let now = cx.now;
        let has_sandbox = self.has_sandbox();
        let [is_making, is_looking] = [PodTask::Cgroup, PodTask::Volumes].map(|s| self.tasks.is_open(&s));
        let running = self.life.running_mut()?;
        let makes = running.cgroup.is_due(now) && !is_making;
        let looks = running.volumes.is_due(now) && !is_looking;
        if looks {
            running.volumes.refresh_at = None;
            if !running.volumes.step.is_done() && !has_sandbox {
                running.volumes.missing.tried(pod, now);
            }
        }
        let (message, telling) = running.volumes.missing.tell(now);
        let volumes_at = running.volumes.next_at(is_looking || looks, now);
        let next = [running.cgroup.next_at(now), volumes_at, telling].into_iter().fold(None, earliest);
        if makes {
            self.start(PodTask::Cgroup, HostAction::EnsureCgroup { pod: pod.clone() }, cx.out);
        }
        if looks {
            let facts = self.facts(cx);
            self.start(PodTask::Volumes, VolumeAction::Sync { pod: pod.clone(), facts }, cx.out);
        }
        if let Some(message) = message {
            self.record_event(true, event::FAILED_MOUNT, message, cx.out);
        }
        next
    }

    /// Looks at the volumes again soon.
    pub(crate) fn refresh_volumes(&mut self, now: Now) {
        let is_looking = self.tasks.is_open(&PodTask::Volumes);
        if let Some(running) = self.life.running_mut() {
            running.volumes.changed(is_looking, now);
        }
    }

    pub(crate) fn drive_sandbox(
        &mut self,
        pod: &AllocatedPod,
        plan: &Plan,
        cx: &mut Cx<'_>,
    ) -> Option<Duration> {
        let running = self.life.running()?;
        let (step, next_at) = (running.sandbox.clone(), running.sandbox.next_at(cx.now));
        match &plan.sandbox {
            SandboxPlan::Keep => None,
            SandboxPlan::Replace { stop } => {
                for id in stop.iter().filter(|_| step.is_due(cx.now)) {
                    self.stop_sandbox(id.clone(), cx.out);
                }
                next_at
            }
            SandboxPlan::Create { attempt } => {
                if !running.is_prepared() || self.is_changing() {
                    return None;
                }
                if let Some(text) = cx.node.network_wait
                    && !pod::is_host_network(pod)
                {
                    let running = self.life.running_mut()?;
                    if !std::mem::replace(&mut running.is_network_wait_told, true) {
                        let text = format!("network is not ready: {text}");
                        self.record_event(true, event::NETWORK_NOT_READY, text, cx.out);
                    }
                    return None;
                }
                if !step.is_due(cx.now) {
                    return next_at;
                }
                // Whatever this starts, the next process has to know what it was given.
                if !cx.checkpoints.is_safe(StateFile::AllocatedPods, &self.uid) {
                    return None;
                }
                let handler = match handler_of(pod, cx.node) {
                    Ok(handler) => handler,
                    Err(NoHandler::Missing(class)) => {
                        let message = format!("runtimeclass.node.k8s.io {class:?} not found");
                        self.sandbox_failed(Failure { kind: FailureKind::Other, message }, cx);
                        return self.life.running()?.sandbox.next_at(cx.now);
                    }
                    Err(NoHandler::Unlisted | NoHandler::Silent) => return None,
                };
                // Told once, however often the start is tried.
                let loss = if step == Step::Todo { self.sandbox_loss(*attempt) } else { None };
                if loss == Some(SandboxLoss::NotReady) {
                    let text = "Pod sandbox changed, it will be killed and re-created.".to_owned();
                    self.record_event(false, event::SANDBOX_CHANGED, text, cx.out);
                }
                let (pod, attempt, volume_groups) = (pod.clone(), *attempt, cx.volumes.groups(pod));
                let action = RuntimeAction::RunSandbox { pod, attempt, loss, handler, volume_groups };
                self.start(PodTask::Sandbox, action, cx.out);
                None
            }
        }
    }

    /// What became of the sandbox before this attempt: where the runtime holds none, what the API server was told of containers
    /// says that there was one.
    fn sandbox_loss(&self, attempt: u32) -> Option<SandboxLoss> {
        let status = &self.report.written;
        let mut containers =
            status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
        match attempt {
            0 => containers.any(|told| told.container_id.is_some()).then_some(SandboxLoss::Gone),
            _ => Some(SandboxLoss::NotReady),
        }
    }

    // ---- results: those of a pod that is to end by now lead to nothing more ----

    pub(super) fn cgroup_done(&mut self, outcome: &Outcome, cx: &mut Cx<'_>) {
        if let Outcome::Failed(failure) = outcome {
            let text = format!("unable to ensure pod container exists: {}", failure.message);
            self.record_event(true, event::FAILED_CREATE_POD_CONTAINER, text, cx.out);
        }
        if let Some(running) = self.life.running_mut() {
            running.cgroup = running.cgroup.after(outcome, cx.now);
            if let Outcome::Cgroup(limits) = outcome {
                running.limits = Some(*limits);
            }
        }
    }

    pub(super) fn volumes_done(&mut self, outcome: Outcome, cx: &mut Cx<'_>) {
        match outcome {
            Outcome::Volume(VolumeOutcome::Synced { refresh_after }) => {
                if let Some(running) = self.life.running_mut() {
                    running.volumes.synced(refresh_after, cx.now);
                }
            }
            Outcome::Volume(VolumeOutcome::Failed(failures)) => {
                let causes: Vec<&str> = failures.iter().map(|failure| failure.message.as_str()).collect();
                let mut messages = Vec::new();
                if let Some(running) = self.life.running_mut() {
                    running.volumes.missing.failed(&failures);
                    messages = running.volumes.missing.messages(&failures);
                }
                self.volumes_failed(event::FAILED_MOUNT, causes.join("; "), messages, cx);
            }
            Outcome::Failed(failure) => {
                let reason = match failure.kind {
                    FailureKind::PodFolders => event::FAILED,
                    _ => event::FAILED_MOUNT,
                };
                self.volumes_failed(reason, failure.message.clone(), vec![failure.message], cx);
            }
            _ => {
                if let Some(running) = self.life.running_mut() {
                    running.volumes.step = Step::Todo;
                }
            }
        }
    }

    /// Each of the messages is an event of its own; `error` is all that went wrong.
    fn volumes_failed(
        &mut self,
        reason: &'static str,
        error: String,
        messages: Vec<String>,
        cx: &mut Cx<'_>,
    ) {
        let are_in_use = self.has_sandbox();
        let is_told = match &mut self.life {
            Life::Running(running) => running.volumes.failed(error, are_in_use, cx.now),
            Life::Admitting(_) | Life::Terminating(_) | Life::Terminated(_) => true,
        };
        if is_told {
            for message in messages {
                self.record_event(true, reason, message, cx.out);
            }
        }
    }

    pub(super) fn sandbox_done(&mut self, outcome: Outcome, cx: &mut Cx<'_>) {
        match outcome {
            Outcome::Runtime(RuntimeOutcome::SandboxStarted(sandbox)) => {
                if let Some(running) = self.life.running_mut() {
                    running.sandbox = Step::Todo;
                    running.is_network_wait_told = false;
                }
                self.merge_sandbox(sandbox);
            }
            Outcome::Failed(failure) => {
                self.seen.outdate();
                self.sandbox_failed(failure, cx);
            }
            _ => self.seen.outdate(),
        }
    }

    fn sandbox_failed(&mut self, failure: Failure, cx: &mut Cx<'_>) {
        let (reason, what) = match failure.kind {
            FailureKind::SandboxStatus => {
                (event::FAILED_POD_SANDBOX_STATUS, "Unable to get pod sandbox status")
            }
            _ => (event::FAILED_CREATE_POD_SANDBOX, "Failed to create pod sandbox"),
        };
        if failure.kind != FailureKind::RuntimeUnavailable {
            self.record_event(true, reason, format!("{what}: {}", failure.message), cx.out);
        }
        if let Some(running) = self.life.running_mut() {
            running.sandbox.fail(failure.message, cx.now);
        }
    }

    /// There are other RuntimeClasses than before. Returns whether that may concern the pod.
    pub(crate) fn runtime_classes_changed(&mut self, now: Now) -> bool {
        let has_class = self.desired.pod().is_some_and(|pod| class_of(pod).is_some());
        if has_class && let Some(Running { sandbox: Step::Failed(retry), .. }) = self.life.running_mut() {
            // Its own may be there now.
            retry.next_at = retry.next_at.min(now.mono);
        }
        has_class
    }

    pub(super) fn sandbox_stopped(&mut self, id: &SandboxId, outcome: Outcome, cx: &mut Cx<'_>) {
        if outcome.is_gone() {
            if let Some(sandbox) =
                self.seen.last_mut().into_iter().flat_map(|o| &mut o.sandboxes).find(|s| s.id == *id)
            {
                sandbox.is_ready = false;
            }
            self.stopped_sandboxes.insert(id.clone());
            match &mut self.life {
                Life::Running(running) => running.sandbox = Step::Todo,
                Life::Terminating(end) => end.retry = None,
                Life::Admitting(_) | Life::Terminated(_) => {}
            }
            return;
        }
        self.seen.outdate();
        if let Outcome::Failed(failure) = outcome {
            let uid = self.uid.to_string();
            self.kill_failed("KillPodSandbox", &uid, failure, cx);
        }
    }

    fn merge_sandbox(&mut self, sandbox: SandboxObservation) {
        let Some(last) = self.seen.last_mut() else { return };
        last.sandboxes.retain(|s| s.id != sandbox.id);
        last.sandboxes.push(sandbox);
        last.sort();
    }

    /// Whether there is a sandbox that works.
    pub(crate) fn has_sandbox(&self) -> bool {
        self.seen.last().is_some_and(|o| o.ready_sandbox().is_some())
    }
}
