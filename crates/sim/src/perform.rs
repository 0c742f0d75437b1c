//! What each action does to the world, when it does it, and what comes of it.

use std::time::Duration;

use model::pod::{self, ContainerKind};
use model::probe::ProbeOutcome;
use model::{ContainerId, ContainerState, ImageRef, ImageUse, Pod, SandboxId};
use node::{
    Action, ApiAction, ApiOutcome, CheckpointAction, ContainerStart, EffectId, Failure, FailureKind, Hook,
    HostAction, ImageAction, ImageAnswer, ImageOutcome, Outcome, ProbeAction, RuntimeAction, RuntimeChange,
    RuntimeOutcome, VolumeAction, VolumeOutcome,
};

use crate::process::{FaultOutcome, InFlight, is_own_work};
use crate::runtime::{NewContainer, PRIVATE_IMAGE, container_name, sandbox_name};
use crate::world::{SimEvent, World};

/// How long what the API server was asked for may still happen after the end of whoever asked.
const REQUESTS_OUTLIVE_CLIENTS: Duration = Duration::from_secs(2);

fn failed(kind: FailureKind, message: &str) -> Outcome {
    Outcome::Failed(Failure { kind, message: message.to_owned() })
}

fn away() -> Outcome {
    failed(FailureKind::RuntimeUnavailable, "the runtime is away")
}

impl World {
    /// An action starts: its fault is decided.
    pub(crate) fn begin(&mut self, id: EffectId, action: Action) {
        let mut fault = self.fault();
        let mut reserved = None;
        match &action {
            Action::Runtime(RuntimeAction::RunSandbox { pod, attempt, .. }) => {
                let uid = pod::uid(pod);
                // The agent makes the log folder before it asks for the sandbox.
                self.host.logs.insert(uid.clone());
                if self.runtime.reserve_sandbox(&uid, *attempt) {
                    reserved = Some(sandbox_name(&uid, *attempt));
                } else {
                    fault = FaultOutcome::Fails;
                }
            }
            Action::Runtime(RuntimeAction::StartContainer(start)) => {
                let uid = pod::uid(&start.pod);
                if self.runtime.reserve_container(&uid, &start.container, start.attempt) {
                    reserved = Some(container_name(&uid, &start.container, start.attempt));
                } else {
                    fault = FaultOutcome::Fails;
                }
            }
            Action::Probe(ProbeAction::Attempt { .. }) | Action::Probe(ProbeAction::Hook { .. }) => {
                fault = FaultOutcome::Succeeds
            }
            Action::Storage(action) if !self.begin_storage(id, action) => fault = FaultOutcome::Fails,
            _ => {}
        }
        if is_own_work(&action) && fault == FaultOutcome::FailsBeforeEffect {
            fault = FaultOutcome::Fails;
        }
        let mut delay = self.delay();
        if self.rng.percent(self.faults.hangs) {
            delay += self.rng.millis(1, 120_000);
        }
        if let Action::Probe(ProbeAction::Hook { timeout, .. }) = &action {
            delay = self.rng.millis(10, if self.is_settling { 1000 } else { 40_000 });
            delay = timeout.map_or(delay, |t| delay.min(t));
        }
        let may_kill = matches!(action, Action::Checkpoint(CheckpointAction::Write(_)) | Action::Storage(_));
        let late = Self::late_failure(&action);
        let key = (self.process.number, id);
        self.in_flight.insert(
            key,
            InFlight {
                action,
                fault,
                reserved,
                has_taken_effect: false,
                is_void: false,
                is_told: false,
                outcome: None,
            },
        );
        if fault == FaultOutcome::FailsBeforeEffect {
            self.set_outcome(key, late);
            self.after(delay, SimEvent::Result(key.0, id));
            delay += self.rng.millis(1, 30_000);
        }
        let kills = may_kill && self.rng.percent(self.faults.killed_at_write);
        let is_killed_before = self.rng.percent(50);
        if kills && is_killed_before {
            self.after(delay, SimEvent::Restart);
        }
        self.after(delay, SimEvent::Effect(key.0, id));
        if kills && !is_killed_before {
            self.after(delay, SimEvent::Restart);
        }
    }

    /// The core no longer wants an action.
    pub(crate) fn cancel(&mut self, id: EffectId) {
        let key = (self.process.number, id);
        let outlives = self.rng.percent(self.faults.outlives_cancel);
        let is_too_late = self.rng.percent(30);
        let Some(pending) = self.in_flight.get_mut(&key) else { return };
        if pending.is_told || (pending.outcome.is_some() && is_too_late) {
            return;
        }
        pending.outcome = Some(Outcome::Cancelled);
        if !pending.has_taken_effect && (!outlives || is_own_work(&pending.action)) {
            pending.is_void = true;
            if let Some(name) = pending.reserved.take() {
                self.runtime.reserved.remove(&name);
            }
        }
        let delay = self.delay();
        self.after(delay, SimEvent::Result(key.0, id));
    }

    fn set_outcome(&mut self, key: (u32, EffectId), outcome: Outcome) {
        if let Some(pending) = self.in_flight.get_mut(&key)
            && pending.outcome.is_none()
        {
            pending.outcome = Some(outcome);
        }
    }

    /// An action takes effect, or fails to.
    pub(crate) fn take_effect(&mut self, process: u32, id: EffectId) {
        let key = (process, id);
        let Some(pending) = self.in_flight.get_mut(&key) else { return };
        if let Some(name) = pending.reserved.take() {
            self.runtime.reserved.remove(&name);
        }
        pending.has_taken_effect = true;
        if pending.is_void {
            // Whoever waits for it still gets a result.
            if pending.is_told {
                self.in_flight.remove(&key);
            }
            return;
        }
        let (action, fault, is_told) = (pending.action.clone(), pending.fault, pending.is_told);
        let has_outcome = pending.outcome.is_some();
        if matches!(action, Action::Api(_)) && self.is_long_gone(process) {
            self.in_flight.remove(&key);
            return;
        }
        let is_foreign = is_told || process != self.process.number;
        if is_foreign || has_outcome {
            self.note(|_| format!("#{} of process {process} takes effect late", id.0));
        }
        if let Action::Runtime(RuntimeAction::StopContainer { id: container, grace, .. }) = &action
            && fault != FaultOutcome::Fails
            && !self.runtime.is_away
            && !is_told
        {
            return self.signal(key, container, *grace);
        }
        let outcome = if fault == FaultOutcome::Fails {
            self.fail(key, &action, is_foreign)
        } else {
            self.perform(key, &action, is_foreign)
        };
        let outcome = match (fault, outcome) {
            (FaultOutcome::FailsAfterEffect, Outcome::Failed(failure)) => Outcome::Failed(failure),
            (FaultOutcome::FailsAfterEffect, _) => Self::late_failure(&action),
            (_, outcome) => outcome,
        };
        if is_foreign {
            self.in_flight.remove(&key);
            return;
        }
        self.set_outcome(key, outcome);
        let delay = self.delay();
        self.after(delay, SimEvent::Result(process, id));
    }

    /// Whether a process ended so long ago that the API server has given up its requests, which it does when their connection
    /// is closed. The runtime goes on with what it was asked for.
    fn is_long_gone(&self, process: u32) -> bool {
        let has_just_ended =
            process + 1 == self.process.number && self.process.mono(self.at) <= REQUESTS_OUTLIVE_CLIENTS;
        process != self.process.number && !has_just_ended
    }

    /// SIGTERM: the container may obey, or be killed when its grace is over.
    fn signal(&mut self, key: (u32, EffectId), container: &ContainerId, grace: Duration) {
        let held = self.runtime.containers.get(container).filter(|c| c.seen.state.is_running());
        let obeys = held.map_or(Some(Duration::ZERO), |c| c.obeys_after);
        if let Some(after) = obeys {
            self.after(after, SimEvent::Exit(container.clone(), 143));
        }
        let until = obeys.map_or(grace, |o| o.min(grace)) + Duration::from_millis(1);
        self.after(until, SimEvent::Reap(key.0, key.1));
    }

    /// The end of stopping a container.
    pub(crate) fn reap(&mut self, process: u32, id: EffectId) {
        let key = (process, id);
        let Some(pending) = self.in_flight.get(&key) else { return };
        let Action::Runtime(RuntimeAction::StopContainer { id: container, .. }) = pending.action.clone()
        else {
            return;
        };
        if pending.is_told || pending.outcome.is_some() {
            return;
        }
        let fault = pending.fault;
        let outcome = if self.runtime.is_away {
            away()
        } else {
            self.end_container(&container, 137);
            if fault == FaultOutcome::FailsAfterEffect {
                failed(FailureKind::Other, "deadline exceeded")
            } else {
                Outcome::Runtime(RuntimeOutcome::ContainerStopped(
                    self.runtime.containers.get(&container).map(|c| c.seen.clone()),
                ))
            }
        };
        self.set_outcome(key, outcome);
        let delay = self.delay();
        self.after(delay, SimEvent::Result(process, id));
    }

    /// An action fails without effect; a start may leave a container that never ran.
    fn fail(&mut self, key: (u32, EffectId), action: &Action, is_ghost: bool) -> Outcome {
        match action {
            Action::Runtime(RuntimeAction::StartContainer(start)) if self.rng.percent(50) => {
                let ContainerStart { pod, container, sandbox, attempt, .. } = &**start;
                if self.rng.percent(50) {
                    return failed(FailureKind::ContainerCreate, "cannot create");
                }
                let is_free = self.runtime.reserve_container(&pod::uid(pod), container, *attempt);
                self.runtime.reserved.remove(&container_name(&pod::uid(pod), container, *attempt));
                let has_sandbox = self.runtime.sandboxes.get(sandbox).is_some_and(|s| s.seen.is_ready);
                if !is_free || !has_sandbox || self.runtime.is_away {
                    return failed(FailureKind::Other, "refused");
                }
                let id = self.make(pod, container, sandbox, *attempt, is_ghost);
                if self.rng.percent(70)
                    && let Some(made) = self.runtime.containers.get_mut(&id)
                {
                    made.seen.state = ContainerState::Running { started_at: None };
                    let at = self.clock();
                    self.runtime.end(&id, 128, at);
                }
                failed(FailureKind::ContainerStart, "cannot start")
            }
            Action::Runtime(RuntimeAction::StartContainer(_)) => {
                failed(FailureKind::ContainerConfig, "a secret is missing")
            }
            Action::Storage(action) => self.fail_storage(key, action),
            _ => failed(FailureKind::Other, "refused"),
        }
    }

    fn perform(&mut self, key: (u32, EffectId), action: &Action, is_ghost: bool) -> Outcome {
        match action {
            Action::Runtime(_) | Action::Image(_) if self.runtime.is_away => away(),
            Action::Runtime(action) => self.perform_in_runtime(action, is_ghost),
            Action::Image(action) => self.perform_on_image(action, is_ghost),
            Action::Api(_) if self.api.is_away => failed(FailureKind::Other, "the API server is away"),
            Action::Api(action) => self.perform_in_api(action),
            Action::Plugin(action) => self.perform_on_plugin(action, is_ghost),
            Action::Storage(action) => self.perform_on_storage(key, action, is_ghost),
            Action::Host(action) => self.perform_on_host(action),
            Action::Volume(action) => self.perform_on_volumes(action),
            Action::Probe(action) => self.perform_in_container(action),
            Action::Checkpoint(_) if self.host.is_disk_full => {
                failed(FailureKind::Other, "no space left on the disk")
            }
            Action::Checkpoint(CheckpointAction::Write(write)) => {
                self.host.write(write);
                Outcome::Done
            }
            Action::Checkpoint(CheckpointAction::Sync(_)) => Outcome::Done,
        }
    }

    fn perform_on_host(&mut self, action: &HostAction) -> Outcome {
        match action {
            HostAction::EnsureCgroup { pod } => {
                return Outcome::Cgroup(self.host.make_cgroup(pod));
            }
            HostAction::ReadPodCgroups { pods } => {
                return Outcome::PodCgroups(self.host.read_cgroups(pods));
            }
            HostAction::RemoveCgroup { uid, .. } => {
                self.host.cgroups.remove(uid);
            }
            HostAction::RemovePodLogs { uid, .. } => {
                self.host.logs.remove(uid);
            }
            HostAction::UpdateQosCgroups { .. } => {}
            HostAction::TakeSample => return Outcome::Sampled(self.sample()),
            HostAction::MeasurePods { pods, .. } => return Outcome::PodUsages(self.measure(pods)),
        }
        Outcome::Done
    }

    fn perform_on_volumes(&mut self, action: &VolumeAction) -> Outcome {
        match action {
            VolumeAction::Sync { pod, .. } => {
                self.host.folders.insert(pod::uid(pod));
                self.host.volumes.insert(pod::uid(pod));
                Outcome::Volume(VolumeOutcome::Synced { refresh_after: None })
            }
            VolumeAction::TearDown { uid, .. } => {
                self.host.volumes.remove(uid);
                Outcome::Done
            }
            VolumeAction::RemoveFolder { uid, .. } => {
                self.host.folders.remove(uid);
                Outcome::Done
            }
        }
    }

    fn perform_in_container(&mut self, action: &ProbeAction) -> Outcome {
        match action {
            ProbeAction::Hook { id, hook, timeout, .. } => self.hook(id, *hook, *timeout),
            ProbeAction::Attempt { id, .. } => {
                let is_running = self.runtime.containers.get(id).is_some_and(|c| c.seen.state.is_running());
                let fails = self.rng.percent(self.faults.probe_fails);
                Outcome::Probed(match (is_running, fails) {
                    (false, _) => ProbeOutcome::unknown("not running"),
                    (true, true) if self.rng.percent(30) => ProbeOutcome::unknown("no answer"),
                    (true, true) => ProbeOutcome::Failure("bad".to_owned()),
                    (true, false) => ProbeOutcome::Success,
                })
            }
        }
    }

    fn hook(&mut self, id: &ContainerId, hook: Hook, timeout: Option<Duration>) -> Outcome {
        let is_running = self.runtime.containers.get(id).is_some_and(|c| c.seen.state.is_running());
        let fails = self.rng.percent(self.faults.hook_fails);
        if !is_running || fails || (hook == Hook::PreStop && timeout.is_some_and(|t| t.is_zero())) {
            return failed(FailureKind::Other, "the hook failed");
        }
        Outcome::Done
    }

    fn perform_in_api(&mut self, action: &ApiAction) -> Outcome {
        match action {
            ApiAction::WriteStatus { uid, new, .. } => match self.api.write_status(uid, new) {
                Some((version, change)) => {
                    self.announce(change);
                    Outcome::Api(ApiOutcome::Written { version })
                }
                None => Outcome::Gone,
            },
            ApiAction::DeletePod { uid, .. } => match self.api.remove(uid) {
                Some(change) => {
                    self.announce(change);
                    Outcome::Done
                }
                None => Outcome::Gone,
            },
            ApiAction::CreateMirror { pod, .. } => self.create_mirror(pod),
            ApiAction::RegisterNode { .. }
            | ApiAction::WriteNodeStatus { .. }
            | ApiAction::WriteNodeMetadata { .. }
            | ApiAction::ReadCsiNode
            | ApiAction::WriteCsiNode { .. }
            | ApiAction::DeleteCsiNode { .. } => self.perform_on_node(action),
            ApiAction::ResolveClaim { .. } | ApiAction::ReadAttachment { .. } => {
                self.perform_on_claims(action)
            }
        }
    }

    fn create_mirror(&mut self, pod: &Pod) -> Outcome {
        let hash = pod::annotation(pod, pod::ANNOTATION_CONFIG_HASH).unwrap_or_default().to_owned();
        if let Some(other) = self.api.by_key(&pod::key(pod)).cloned() {
            if pod::annotation(&other, pod::ANNOTATION_CONFIG_MIRROR) == Some(&hash) {
                return Outcome::Done;
            }
            if let Some(change) = self.api.remove(&pod::uid(&other)) {
                self.announce(change);
            }
            return failed(FailureKind::Other, "another pod had the name");
        }
        let mut mirror = pod.clone();
        self.next_uid += 1;
        mirror.metadata.uid = Some(format!("mirror-{}", self.next_uid));
        if let Some(annotations) = &mut mirror.metadata.annotations {
            annotations.insert(pod::ANNOTATION_CONFIG_MIRROR.to_owned(), hash);
        }
        let change = self.api.apply(mirror);
        self.announce(change);
        Outcome::Done
    }

    fn perform_in_runtime(&mut self, action: &RuntimeAction, is_ghost: bool) -> Outcome {
        match action {
            RuntimeAction::Relist => Outcome::Runtime(RuntimeOutcome::Relisted(self.runtime.relist())),
            RuntimeAction::Observe { uid, key } => {
                Outcome::Runtime(RuntimeOutcome::Observed(self.runtime.observe(uid, key)))
            }
            RuntimeAction::RunSandbox { pod, attempt, .. } => self.run_sandbox(pod, *attempt, is_ghost),
            RuntimeAction::StopSandbox { id, .. } => {
                self.stop_sandbox(id);
                Outcome::Done
            }
            RuntimeAction::RemoveSandbox { id, .. } => {
                self.stop_sandbox(id);
                if let Some(sandbox) = self.runtime.sandboxes.get(id) {
                    let uid = sandbox.uid.clone();
                    self.runtime.remove_sandbox(id);
                    self.hint(&uid, id.as_str(), RuntimeChange::Deleted);
                }
                Outcome::Done
            }
            RuntimeAction::StartContainer(start) => {
                self.start_container(&start.pod, &start.container, &start.sandbox, start.attempt, is_ghost)
            }
            RuntimeAction::StopContainer { id, .. } => {
                self.end_container(id, 137);
                Outcome::Runtime(RuntimeOutcome::ContainerStopped(None))
            }
            RuntimeAction::RemoveContainer { uid, id, .. } => {
                if let Some(removed) = self.runtime.containers.remove(id) {
                    self.begins_anew(&removed.seen.sandbox_id);
                    self.hint(uid, id.as_str(), RuntimeChange::Deleted);
                }
                Outcome::Done
            }
            RuntimeAction::SetPodCidr { .. } => Outcome::Done,
        }
    }

    fn perform_on_image(&mut self, action: &ImageAction, is_ghost: bool) -> Outcome {
        match action {
            ImageAction::Inspect { pod, used_by, .. } => {
                let image = image(pod, used_by);
                Outcome::Image(ImageOutcome::Inspected(if !self.runtime.images.contains(&image) {
                    ImageAnswer::Absent
                } else if self.runtime.may_use(&pod::uid(pod), &image) {
                    ImageAnswer::Accessible(ImageRef::from(image))
                } else {
                    ImageAnswer::Unproven
                }))
            }
            ImageAction::Pull { pod, used_by, .. } => {
                let image = image(pod, used_by);
                self.runtime.images.insert(image.clone());
                self.images_changed();
                if image == PRIVATE_IMAGE {
                    self.runtime.has_pulled.insert(pod::uid(pod));
                }
                let took = Duration::from_millis(5);
                Outcome::Image(ImageOutcome::Pulled {
                    image: ImageRef::from(image),
                    size_bytes: 1,
                    took,
                    took_with_wait: took,
                })
            }
            ImageAction::Remove { .. } | ImageAction::PruneRecords => {
                if let ImageAction::Remove { image, .. } = action
                    && is_ghost
                {
                    self.truth.removed_late.insert(image.to_string());
                }
                self.images_changed();
                self.runtime.collect(action)
            }
        }
    }

    fn run_sandbox(&mut self, pod: &Pod, attempt: u32, is_ghost: bool) -> Outcome {
        let uid = pod::uid(pod);
        if !self.runtime.reserve_sandbox(&uid, attempt) {
            return failed(FailureKind::Other, "the name is taken");
        }
        self.runtime.reserved.remove(&sandbox_name(&uid, attempt));
        let id = self.runtime.make_sandbox(pod, attempt, is_ghost, self.clock());
        self.check_sandboxes(&uid);
        self.hint(&uid, id.as_str(), RuntimeChange::Started);
        match self.runtime.sandboxes.get(&id) {
            Some(sandbox) => Outcome::Runtime(RuntimeOutcome::SandboxStarted(sandbox.seen.clone())),
            None => Outcome::Gone,
        }
    }

    fn start_container(
        &mut self,
        pod: &Pod,
        name: &str,
        sandbox: &SandboxId,
        attempt: u32,
        is_ghost: bool,
    ) -> Outcome {
        let uid = pod::uid(pod);
        let has_sandbox = self.runtime.sandboxes.get(sandbox).is_some_and(|s| s.seen.is_ready);
        if !has_sandbox {
            return failed(FailureKind::ContainerCreate, "the sandbox is not ready");
        }
        if !self.runtime.reserve_container(&uid, name, attempt) {
            return failed(FailureKind::ContainerCreate, "the name is taken");
        }
        self.runtime.reserved.remove(&container_name(&uid, name, attempt));
        let id = self.make(pod, name, sandbox, attempt, is_ghost);
        self.hint(&uid, id.as_str(), RuntimeChange::Created);
        let (at, began) = (self.clock(), self.at);
        if let Some(made) = self.runtime.containers.get_mut(&id) {
            made.seen.state = ContainerState::Running { started_at: Some(at) };
            made.began = began;
        }
        self.truth.started.insert((sandbox.clone(), name.to_owned()));
        self.check_containers(&uid, name);
        self.hint(&uid, id.as_str(), RuntimeChange::Started);
        let kind = pod::container(pod, name).map_or(ContainerKind::Regular, |c| c.kind);
        self.plan_life(&id, kind);
        match self.runtime.containers.get(&id) {
            Some(container) => Outcome::Runtime(RuntimeOutcome::ContainerStarted(container.seen.clone())),
            None => Outcome::Gone,
        }
    }

    fn make(
        &mut self,
        pod: &Pod,
        name: &str,
        sandbox: &SandboxId,
        attempt: u32,
        is_ghost: bool,
    ) -> ContainerId {
        let obeys_after = match self.rng.number(0, 9) {
            0 => None,
            1..=3 => Some(self.rng.millis(0, 60_000)),
            _ => Some(self.rng.millis(0, 1000)),
        };
        let made = NewContainer { pod, name, sandbox, attempt, is_ghost, obeys_after };
        self.check_attempt(&pod::uid(pod), name, attempt, is_ghost);
        self.runtime.make_container(made, self.clock())
    }

    /// Whether and when a container ends by itself.
    fn plan_life(&mut self, id: &ContainerId, kind: ContainerKind) {
        let ends = match kind {
            ContainerKind::Init => Some((5000, if self.is_settling { 0 } else { 15 })),
            _ if self.rng.percent(self.faults.exits) => Some((40_000, self.faults.crashes)),
            _ => None,
        };
        if let Some((within, crashes)) = ends {
            let after = self.rng.millis(10, within);
            let code = i32::from(self.rng.percent(crashes));
            self.after(after, SimEvent::Exit(id.clone(), code));
        }
    }
}

fn image(pod: &Pod, used_by: &ImageUse) -> String {
    used_by.wanted(pod).map(|wanted| wanted.reference).unwrap_or_default()
}
