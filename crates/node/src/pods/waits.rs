//! What a pod waits for, phase by phase: what its [round](super::drive) has left open. A pod that is neither as it should
//! be nor waits for anything would be stuck without anybody knowing; the simulation looks for such ones.

use std::sync::Arc;

use model::pod::{self, ContainerKind};
use model::reason::waiting::is_about_image;
use model::{ContainerId, ContainerState, ImageUse, Now, Pod, mounted_images};

use super::container::Stage;
use super::image_record::{Image, Readiness};
use super::life::{EndCause, Life, Running, Step, Terminated, Terminating};
use super::plan::{Plan, PlanInputs, SandboxPlan, first_to_start, plan};
use super::record::PodRecord;
use crate::cx::Cx;
use crate::effect::{Hook, StateFile};
use crate::runtime_class::handler_of;
use crate::status;
use crate::tasks::PodTask;
use crate::timeline::{Mark, Timeline};
use crate::wait::{Found, WaitOn};

impl Found {
    fn step(&mut self, on: WaitOn, step: &Step) {
        if !step.is_done() {
            self.retrying(on, step.retry());
        }
    }
}

impl PodRecord {
    /// Takes note of what the round has left open, and of what was reached. `admission`: what a pod that is not let in
    /// yet waits for.
    pub(crate) fn note_progress(&mut self, admission: Option<WaitOn>, cx: &Cx<'_>) {
        let mut found = Found::default();
        if self.seen.is_to_be_read() {
            found.retrying(WaitOn::Read, self.seen.retry());
        }
        match &self.life {
            Life::Admitting(_) => {
                admission.into_iter().for_each(|on| {
                    found.add(on);
                });
            }
            Life::Running(running) => self.find_running(running, cx, &mut found),
            Life::Terminating(end) => self.find_terminating(end, cx.now, &mut found),
            Life::Terminated(end) => self.find_terminated(end, cx, &mut found),
        }
        self.find_report(cx, &mut found);
        self.find_under_way(&mut found);
        self.waits.update(found, cx.now);
        let marks = self.marks();
        Timeline::update(&mut self.timeline, marks, cx.now);
    }

    /// Takes note that nothing is done for it before it is known what earlier processes have left.
    pub(crate) fn note_restoring(&mut self, now: Now) {
        let mut found = Found::default();
        found.add(WaitOn::Restoring);
        self.waits.update(found, now);
        let marks = self.marks();
        Timeline::update(&mut self.timeline, marks, now);
    }

    fn find_running(&self, running: &Running, cx: &Cx<'_>, found: &mut Found) {
        let Some(pod) = self.desired.pod() else { return };
        found.step(WaitOn::Cgroup, &running.cgroup);
        found.step(WaitOn::Volumes, &running.volumes.step);
        if !running.volumes.are_published {
            cx.volumes.find_preparation(&self.uid, found);
        }
        let is_all_up = self.is_all_up(pod);
        if !is_all_up && self.is_restarting_all(pod, cx) {
            found.add(WaitOn::RestartAll);
        }
        if !is_all_up && let Some(plan) = self.planned(pod, cx) {
            self.find_sandbox(running, pod, &plan, cx, found);
            self.find_starts(running, pod, &plan, cx, found);
        }
        for container in pod::containers(pod) {
            self.find_running_container(&container, found);
        }
        let conditions = self.report.current.conditions.as_deref().unwrap_or_default();
        for gate in pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten()) {
            if !conditions.iter().any(|c| c.type_ == gate.condition_type && c.status == "True") {
                found.add(WaitOn::ReadinessGate(gate.condition_type.clone()));
            }
        }
    }

    /// Whether there is nothing to plan: it runs, all of it.
    fn is_all_up(&self, pod: &Pod) -> bool {
        let Some(observed) = self.seen.last() else { return false };
        self.has_sandbox()
            && pod::containers(pod)
                .filter(|c| matches!(c.kind, ContainerKind::Sidecar | ContainerKind::Regular))
                .all(|c| observed.latest(&c.spec.name).is_some_and(|o| o.state.is_running()))
    }

    fn planned(&self, pod: &Arc<Pod>, cx: &Cx<'_>) -> Option<Plan> {
        let ended = self.ended_by_status(pod, cx);
        Some(plan(PlanInputs {
            pod,
            observed: self.seen.last()?,
            containers: &self.containers,
            stopped: &self.stopped_sandboxes,
            ended: &ended,
            rules: cx.settings.restart_rules,
            now: cx.now,
        }))
    }

    fn find_sandbox(&self, running: &Running, pod: &Pod, plan: &Plan, cx: &Cx<'_>, found: &mut Found) {
        match &plan.sandbox {
            SandboxPlan::Keep => {}
            SandboxPlan::Replace { .. } => found.retrying(WaitOn::SandboxStop, running.sandbox.retry()),
            // Said already.
            SandboxPlan::Create { .. } if !running.is_prepared() => {}
            SandboxPlan::Create { .. } => match cx.node.network_wait.filter(|_| !pod::is_host_network(pod)) {
                Some(text) if !self.tasks.is_open(&PodTask::Sandbox) => {
                    found.add(WaitOn::Network).error = Some(text.to_owned());
                }
                _ if !self.tasks.is_open(&PodTask::Sandbox) && find_handler(pod, cx, found) => {}
                _ if !self.tasks.is_open(&PodTask::Sandbox)
                    && self.find_write(StateFile::AllocatedPods, cx, found) => {}
                _ => found.step(WaitOn::Sandbox, &running.sandbox),
            },
        }
    }

    /// A state file that lacks something of the pod. Returns whether there is one.
    fn find_write(&self, file: StateFile, cx: &Cx<'_>, found: &mut Found) -> bool {
        let is_missing = !cx.checkpoints.is_safe(file, &self.uid);
        if is_missing {
            found.retrying(WaitOn::StateFile(file), cx.checkpoints.retry(file));
        }
        is_missing
    }

    fn find_starts(&self, running: &Running, pod: &Pod, plan: &Plan, cx: &Cx<'_>, found: &mut Found) {
        for stop in &plan.stop {
            found.add(WaitOn::Stop(stop.name.clone()));
        }
        for item in &plan.back_off {
            let wait = found.add(WaitOn::BackOff(item.name.clone()));
            wait.next_try = Some(item.until);
            if let Some(waiting) = self.containers.get(&item.name).and_then(|m| m.waiting.as_ref()) {
                wait.reason = Some(waiting.reason.into());
                wait.error = Some(waiting.message.clone());
            }
        }
        match plan.sandbox {
            SandboxPlan::Keep => plan.start.iter().for_each(|item| {
                self.find_images(pod, &item.name, found);
                if running.is_prepared() {
                    self.find_write(StateFile::ActuatedPods, cx, found);
                    if !find_handler(pod, cx, found) {
                        self.find_start(pod, &item.name, found);
                    }
                }
            }),
            SandboxPlan::Create { .. } | SandboxPlan::Replace { .. } => {
                first_to_start(pod).iter().for_each(|name| self.find_images(pod, name, found));
            }
        }
    }

    /// The images that a container waits for: those it mounts, then its own.
    fn find_images(&self, pod: &Pod, name: &str, found: &mut Found) {
        if self.volume_images_of(pod, name) == Readiness::Ready {
            return self.find_image(&ImageUse::Container(name.to_owned()), found);
        }
        let Some(container) = pod::container(pod, name) else { return };
        for volume in mounted_images(pod, &container.spec) {
            self.find_image(&ImageUse::Volume(volume.to_owned()), found);
        }
    }

    /// An image that is being looked for, or was not found.
    fn find_image(&self, used_by: &ImageUse, found: &mut Found) {
        match self.image(used_by).map(|image| &image.state) {
            Some(Image::Failed { next_at, turns_at, .. }) => {
                let wait = found.add(WaitOn::Image(used_by.clone()));
                wait.next_try = Some(turns_at.unwrap_or(*next_at).max(*next_at));
                if let Some(waiting) = self.image_waiting(used_by) {
                    wait.reason = Some(waiting.reason.into());
                    wait.error = Some(waiting.message.clone());
                }
            }
            _ if self.tasks.is_open(&PodTask::Image(used_by.clone())) => {
                self.find_image_task(used_by, found);
            }
            _ => {}
        }
    }

    /// An image that is looked for, or pulled; perhaps again.
    fn find_image_task(&self, used_by: &ImageUse, found: &mut Found) {
        let state = self.image(used_by).map(|image| &image.state);
        let failed = self.image_waiting(used_by).filter(|w| is_about_image(w.reason));
        let is_looked_for = state.is_none_or(|state| matches!(state, Image::Unknown | Image::Outdated));
        if is_looked_for && failed.is_none() {
            found.add(WaitOn::ImageInspection(used_by.clone()));
            return;
        }
        let wait = found.add(WaitOn::Image(used_by.clone()));
        if let Some(failed) = failed {
            wait.reason = Some(failed.reason.into());
            wait.error = Some(failed.message.clone());
        }
    }

    /// Whether an image is named that a container waits for.
    fn is_image_said(&self, pod: &Pod, name: &str, found: &Found) -> bool {
        let container = pod::container(pod, name);
        let mounted = container.iter().flat_map(|container| mounted_images(pod, &container.spec));
        let mounted = mounted.map(|volume| ImageUse::Volume(volume.to_owned()));
        mounted.chain([ImageUse::Container(name.to_owned())]).any(|used_by| {
            found.has(&WaitOn::Image(used_by.clone())) || found.has(&WaitOn::ImageInspection(used_by))
        })
    }

    /// A start that is under way, has failed, or has its turn after that of another.
    fn find_start(&self, pod: &Pod, name: &str, found: &mut Found) {
        let is_said = self.is_image_said(pod, name, found);
        let record = self.containers.get(name);
        let retry = record.and_then(|m| m.start_retry.as_ref());
        if is_said && retry.is_none() {
            return;
        }
        found.retrying(WaitOn::Start(name.to_owned()), retry);
        if let Some(waiting) = record.and_then(|m| m.waiting.as_ref()) {
            let wait = found.add(WaitOn::Start(name.to_owned()));
            wait.reason = Some(waiting.reason.into());
            wait.error.get_or_insert_with(|| waiting.message.clone());
        }
    }

    fn find_running_container(&self, container: &pod::ContainerRef<'_>, found: &mut Found) {
        let name = &container.spec.name;
        let Some(held) = self.seen.last().and_then(|o| o.latest(name)) else { return };
        if !held.state.is_running() || container.kind == ContainerKind::Ephemeral {
            return;
        }
        if container.kind == ContainerKind::Init {
            found.add(WaitOn::InitContainer(name.clone()));
            return;
        }
        let (is_started, is_ready) = self.readiness_of(&container.spec, &held.id);
        let instance = self.containers.get(name).and_then(|record| record.instance(&held.id));
        if instance.is_some_and(|instance| instance.kill.is_some()) {
            found.add(WaitOn::Stop(name.clone()));
        } else if instance.is_none_or(|instance| instance.stage != Stage::Started) {
            found.add(WaitOn::PostStart(name.clone()));
        } else if !is_started {
            found.add(WaitOn::StartupProbe(name.clone()));
        } else if !is_ready {
            found.add(WaitOn::ReadinessProbe(name.clone()));
        } else if !self.is_said_to_be_ready(name) {
            // A read will show something else, or the API server will have to be told by a new pod.
            let error =
                format!("an API server would refuse that container {name}, which has ended, runs again");
            found.add(WaitOn::StatusWrite).error = Some(error);
        }
    }

    fn is_said_to_be_ready(&self, name: &str) -> bool {
        let current = &self.report.current;
        let mut all = current.container_statuses.iter().chain(&current.init_container_statuses).flatten();
        all.any(|said| said.name == name && said.ready)
    }

    fn find_terminating(&self, end: &Terminating, now: Now, found: &mut Found) {
        let Some(observed) = self.seen.last() else {
            if !self.seen.is_to_be_read() {
                found.add(WaitOn::FirstRelist);
            }
            return;
        };
        let running: Vec<_> = observed.containers.iter().filter(|c| c.state.is_running()).collect();
        for held in &running {
            if self.tasks.is_open(&PodTask::Hook(held.id.clone(), Hook::PreStop)) {
                found.add(WaitOn::PreStop(held.name.clone())).next_try = Some(end.deadline);
            } else {
                let on = WaitOn::Stop(held.name.clone());
                found.retrying(on.clone(), end.retry.as_ref());
                let wait = found.add(on);
                // Until then it is the program's own affair.
                wait.next_try = wait.next_try.or(Some(end.deadline).filter(|at| *at > now.mono));
            }
        }
        let is_open = observed.sandboxes.iter().any(|s| !self.stopped_sandboxes.contains(&s.id));
        if running.is_empty() && (is_open || end.retry.is_some()) {
            found.retrying(WaitOn::SandboxStop, end.retry.as_ref());
        }
    }

    fn find_terminated(&self, end: &Terminated, cx: &Cx<'_>, found: &mut Found) {
        cx.volumes.find_removal(&self.uid, found);
        found.step(WaitOn::Unmount, &end.volumes);
        found.step(WaitOn::CgroupRemoval, &end.cgroup);
        // It goes last.
        if self.is_deletion_wanted() && end.is_clean() {
            // Until the API server says that it is gone.
            found.retrying(WaitOn::ObjectDeletion, end.object.retry());
        }
        if !self.desired.is_present() || self.is_returning() {
            let is_held = |o: &model::PodObservation| !o.sandboxes.is_empty() || !o.containers.is_empty();
            if self.seen.last().is_none_or(|last| is_held(last)) {
                found.retrying(WaitOn::Cleanup, end.cleanup.as_ref());
            }
            if !self.is_returning() {
                found.step(WaitOn::Folder, &end.folder);
            }
            if let Some(logs) = &end.logs {
                found.step(WaitOn::Logs, logs);
            }
        }
    }

    fn find_report(&self, cx: &Cx<'_>, found: &mut Found) {
        let report = &self.report;
        let is_told = !self.is_being_reported() && status::is_same(&report.written, &report.current);
        if cx.settings.has_api && report.api_uid.is_some() && !report.is_gone && !is_told {
            found.retrying(WaitOn::StatusWrite, report.retry.as_ref());
            let wait = found.add(WaitOn::StatusWrite);
            wait.next_try = wait.next_try.or(report.flush_at);
        }
        let has_mirror = self.desired.is_static() && self.desired.is_present() && cx.settings.has_api;
        if has_mirror && !self.life.is_admitting() {
            found.step(WaitOn::Mirror, &self.mirror);
        }
    }

    /// Whatever else is under way. Probes are no reason to wait.
    fn find_under_way(&self, found: &mut Found) {
        let name = |id: &ContainerId| self.held(id).map_or_else(|| id.to_string(), |c| c.name.clone());
        for (task, _) in self.tasks.iter() {
            let on = match task {
                PodTask::Image(used_by) => {
                    self.find_image_task(used_by, found);
                    continue;
                }
                PodTask::Probe(..) if self.life.end_cause().is_none() => continue,
                // The last attempt of a pod that ends.
                PodTask::Probe(name, _) => WaitOn::ReadinessProbe(name.clone()),
                // Looked at again while they are there.
                PodTask::Volumes if self.life.has_volumes() && self.life.end_cause().is_none() => continue,
                PodTask::Observe => WaitOn::Read,
                PodTask::Cgroup => WaitOn::Cgroup,
                PodTask::Volumes => WaitOn::Volumes,
                PodTask::Sandbox => WaitOn::Sandbox,
                PodTask::StopSandbox(_) => WaitOn::SandboxStop,
                PodTask::RemoveSandbox(_) | PodTask::RemoveContainer(_) => WaitOn::Cleanup,
                PodTask::Container(name) => WaitOn::Start(name.clone()),
                PodTask::StopContainer(id) => WaitOn::Stop(name(id)),
                PodTask::Hook(id, Hook::PostStart) => WaitOn::PostStart(name(id)),
                PodTask::Hook(id, Hook::PreStop) => WaitOn::PreStop(name(id)),
                PodTask::Status => WaitOn::StatusWrite,
                PodTask::DeleteObject => WaitOn::ObjectDeletion,
                PodTask::Mirror | PodTask::MirrorRemoval => WaitOn::Mirror,
                PodTask::TearDownVolumes => WaitOn::Unmount,
                PodTask::RemoveCgroup => WaitOn::CgroupRemoval,
                PodTask::Folder => WaitOn::Folder,
                PodTask::Logs => WaitOn::Logs,
            };
            found.add(on);
        }
    }

    /// What holds now of what is worth a mark.
    fn marks(&self) -> Vec<Mark> {
        let mut marks = vec![Mark::Seen];
        if self.life.was_admitted() {
            marks.push(Mark::Admitted);
        }
        if self.life.running().is_some_and(|running| running.cgroup.is_done()) {
            marks.push(Mark::CgroupMade);
        }
        if self.life.has_volumes() {
            marks.push(Mark::VolumesMounted);
        }
        let of_volumes = self
            .volume_images
            .iter()
            .map(|(name, volume)| (Mark::VolumeImageReady { volume: name.clone() }, &volume.image.state));
        let of_containers = self
            .containers
            .iter()
            .map(|(name, record)| (Mark::ImageReady { container: name.clone() }, &record.image.state));
        for (mark, state) in of_volumes.chain(of_containers) {
            // Before each attempt to start it is looked for again, which is no news.
            let is_kept = !matches!(state, Image::Failed { .. }) && self.timeline.holds(&mark);
            if matches!(state, Image::Ready(_)) || is_kept {
                marks.push(mark);
            }
        }
        if let Some(observed) = self.seen.last() {
            marks.extend(observed.ready_sandbox().map(|s| Mark::SandboxStarted { attempt: s.attempt }));
            // Newest first; told in the order of their starts.
            for held in observed.containers.iter().rev() {
                let (container, attempt) = (held.name.clone(), held.attempt);
                match &held.state {
                    ContainerState::Running { .. } => marks.push(Mark::Started { container, attempt }),
                    ContainerState::Exited(exit) => {
                        marks.push(Mark::Ended { container, attempt, exit_code: exit.exit_code });
                    }
                    ContainerState::Created | ContainerState::Unknown => {}
                }
            }
        }
        let conditions = self.report.current.conditions.as_deref().unwrap_or_default();
        if conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True") {
            marks.push(Mark::Ready(true));
        } else if self.timeline.holds(&Mark::Ready(true)) || self.timeline.holds(&Mark::Ready(false)) {
            marks.push(Mark::Ready(false));
        }
        match &self.life {
            Life::Admitting(_) | Life::Running(_) => {}
            Life::Terminating(_) => marks.push(Mark::Ending),
            // Nothing was made of it that could go.
            Life::Terminated(end) if matches!(end.why, EndCause::Rejected(_)) => marks.push(Mark::TurnedAway),
            Life::Terminated(end) => {
                marks.extend([Mark::Ending, Mark::Stopped]);
                marks.extend(end.volumes.is_done().then_some(Mark::Unmounted));
                marks.extend(end.cgroup.is_done().then_some(Mark::CgroupRemoved));
            }
        }
        marks
    }
}

/// What has to be known before it is clear which handler runs the pod. Returns whether something has.
fn find_handler(pod: &Pod, cx: &Cx<'_>, found: &mut Found) -> bool {
    let wait = handler_of(pod, cx.node).err().and_then(|error| error.wait());
    wait.map(|on| found.add(on)).is_some()
}
