//! Carries out the [plan](super::plan) of a pod that is to run.

use std::collections::BTreeSet;
use std::time::Duration;

use model::pod::{self, ContainerKind};
use model::reason::{event, waiting};
use model::{AllocatedPod, ContainerId, ImageUse, Pod};

use super::container::{Answer, KillCause, Replaced, Waiting};
use super::image_record::Readiness;
use super::life::{EndCause, OVER_DEADLINE};
use super::plan::{Plan, PlanInputs, SandboxPlan, StopPlan, first_to_start, plan};
use super::probes;
use super::record::PodRecord;
use super::stopping::Turn;
use crate::allocation;
use crate::cx::Cx;
use crate::effect::StateFile;
use crate::schedule::earliest;
use crate::tasks::PodTask;

/// What the `Killing` event says.
fn kill_text(stop: &StopPlan, kind: ContainerKind) -> String {
    let name = &stop.name;
    let (noun, then) = match (kind, stop.is_replaced) {
        (ContainerKind::Init | ContainerKind::Sidecar, _) => ("Init container", ""),
        (_, true) => ("Container", ", will be restarted"),
        (_, false) => ("Container", ""),
    };
    match stop.why {
        KillCause::Liveness => format!("{noun} {name} failed liveness probe{then}"),
        KillCause::Startup => format!("{noun} {name} failed startup probe{then}"),
        KillCause::Changed => format!("{noun} {name} definition changed{then}"),
        KillCause::PostStart => "FailedPostStartHook".to_owned(),
        KillCause::SandboxGone => format!("Stopping container {name}"),
        KillCause::Lost => {
            format!("The container runtime lost track of container {name}, will be restarted")
        }
    }
}

impl PodRecord {
    /// One round for a pod in [`Life::Running`](super::life::Life::Running). Returns when the next is due by itself.
    pub(crate) fn drive_running(&mut self, cx: &mut Cx<'_>) -> Option<Duration> {
        let pod = self.allocated()?;
        if self.has_exceeded_deadline(&pod, cx) {
            self.record_event(false, event::DEADLINE_EXCEEDED, OVER_DEADLINE.to_owned(), cx.out);
            self.begin_end(EndCause::DeadlineExceeded, cx);
            return self.drive_terminating(cx);
        }
        if self.is_restarting_all(&pod, cx) {
            let (is_over, next) = self.drive_restart_all(&pod, cx);
            if !is_over {
                return earliest(next, self.active_deadline(&pod, cx));
            }
        }
        let ended = self.ended_by_status(&pod, cx);
        let plan = self.seen.last().map(|observed| {
            plan(PlanInputs {
                pod: &pod,
                observed,
                containers: &self.containers,
                stopped: &self.stopped_sandboxes,
                ended: &ended,
                rules: cx.settings.restart_rules,
                now: cx.now,
            })
        })?;
        if plan.is_over && plan.stop.is_empty() && self.seen.is_fresh() && !self.is_changing() {
            self.note_terminal_phase(cx);
            self.begin_end(EndCause::Completed, cx);
            return self.drive_terminating(cx);
        }
        let starts_something = !plan.start.is_empty() || plan.sandbox != SandboxPlan::Keep;
        if starts_something && self.seen.is_fresh() && self.has_ended_by_status(cx) {
            self.begin_end(EndCause::Completed, cx);
            return self.drive_terminating(cx);
        }
        self.note_actuated(&pod, cx);
        let mut next = self.drive_preparation(&pod, cx);
        next = earliest(next, self.drive_images(&pod, &plan, &ended, cx));
        self.note_back_offs(&plan, cx);
        if self.seen.is_fresh() {
            next = earliest(next, self.drive_stops(&plan, cx));
            next = earliest(next, self.drive_sandbox(&pod, &plan, cx));
            next = earliest(next, self.drive_starts(&pod, &plan, cx));
            next = earliest(next, self.collect_garbage(cx));
        }
        for item in &plan.back_off {
            next = earliest(next, Some(item.until));
        }
        next = earliest(next, self.drive_probes(cx));
        earliest(next, self.active_deadline(&pod, cx))
    }

    /// Has written down what will be in effect for its containers, once: the next process takes a container without an entry
    /// for one whose resources are others, and may restart it for that.
    fn note_actuated(&self, pod: &AllocatedPod, cx: &mut Cx<'_>) {
        if cx.checkpoints.entry(StateFile::ActuatedPods, &self.uid).is_none() {
            let actuated = allocation::actuated(pod, cx.settings.gates);
            cx.checkpoints.set(StateFile::ActuatedPods, &self.uid, &actuated);
        }
    }

    fn drive_images(
        &mut self,
        pod: &Pod,
        plan: &Plan,
        ended: &BTreeSet<String>,
        cx: &mut Cx<'_>,
    ) -> Option<Duration> {
        let names: Vec<String> = match plan.sandbox {
            SandboxPlan::Keep => plan.start.iter().map(|s| s.name.clone()).collect(),
            SandboxPlan::Create { .. } | SandboxPlan::Replace { .. } => first_to_start(pod),
        };
        if names.is_empty() {
            self.forget_volume_images();
        }
        let mut next = None;
        let mut due = Vec::new();
        // What will not run again needs no image.
        for name in names.into_iter().filter(|name| !ended.contains(name)) {
            // Until the start is due again, nobody has a use for the image.
            if let Some(at) = self.start_retry_at(&name).filter(|at| *at > cx.now.mono) {
                next = earliest(next, Some(at));
            } else if !self.tasks.is_open(&PodTask::Container(name.clone())) {
                due.push(name);
            }
        }
        if !due.is_empty() {
            next = earliest(next, self.drive_volume_images(pod, cx));
        }
        for name in due {
            self.show_volume_images(pod, &name, cx);
            if self.volume_images_of(pod, &name) == Readiness::Ready {
                let used_by = ImageUse::Container(name);
                self.drive_image(&used_by, cx);
                next = earliest(next, self.image_deadline(&used_by));
            }
        }
        next
    }

    fn note_back_offs(&mut self, plan: &Plan, cx: &mut Cx<'_>) {
        let (key, uid) = (self.key.clone(), self.uid.clone());
        for item in &plan.back_off {
            let pod_text = format!("{}_{}({uid})", key.name, key.namespace);
            let record = self.container_mut(&item.name);
            let message = format!(
                "back-off {} restarting failed container={} pod={pod_text}",
                golang::duration::text(item.delay),
                item.name
            );
            let is_new = record.waiting.as_ref().is_none_or(|w| w.message != message);
            if is_new {
                record.waiting = Some(Waiting {
                    reason: waiting::CRASH_LOOP_BACK_OFF,
                    message,
                    since: cx.now.mono,
                    next_at: Some(item.until),
                });
            }
            let instance = record.instance_mut(&item.after);
            if instance.answer == Answer::None {
                instance.answer = Answer::BackOff;
                let text = format!("Back-off restarting failed container {} in pod {pod_text}", item.name);
                let kind = self.kind_of(&item.name);
                self.record_container_event(kind, &item.name, true, event::BACK_OFF, text, cx.out);
            }
        }
    }

    fn drive_stops(&mut self, plan: &Plan, cx: &mut Cx<'_>) -> Option<Duration> {
        let mut next = None;
        let leaving = plan.stop.iter().filter(|s| s.why == KillCause::SandboxGone);
        let leaving = leaving.map(|s| (self.kind_of(&s.name), s.name.clone(), s.id.clone())).collect();
        let turns = self.turns(leaving, false);
        for stop in &plan.stop {
            if stop.is_replaced {
                self.note_replaced(&stop.name, &stop.id);
            }
            let turn = turns.iter().find(|(_, id, _)| *id == stop.id).map_or(Turn::Now, |(.., turn)| *turn);
            let grace = self.restart_grace(&stop.name, &stop.why);
            let ending = self.container_mut(&stop.name).instance(&stop.id).and_then(|i| i.ending);
            let deadline = ending.map_or_else(|| cx.now.after(grace), |ending| ending.deadline);
            let text = kill_text(stop, self.kind_of(&stop.name));
            next = earliest(next, self.drive_stop(&stop.name, &stop.id, deadline, turn, &text, cx));
        }
        next
    }

    /// An instance is ended so that another can take its place.
    fn note_replaced(&mut self, name: &str, id: &ContainerId) {
        if self.is_replaced(name, id) {
            return;
        }
        let others = self
            .seen
            .last()
            .into_iter()
            .flat_map(|o| &o.containers)
            .filter(|c| c.name == name && c.id != *id);
        let previous_end = others
            .filter_map(|c| match &c.state {
                model::ContainerState::Exited(exit) => Some(exit.finished_at.unwrap_or(c.created_at)),
                _ => None,
            })
            .max();
        self.container_mut(name).instance_mut(id).replaced = Some(Replaced { previous_end });
    }

    /// A probe may bring a grace period of its own (KEP-2238).
    fn restart_grace(&self, name: &str, why: &KillCause) -> Duration {
        let Some(pod) = self.desired.pod() else { return Duration::ZERO };
        let probe_grace = pod::container(pod, name).and_then(|c| match why {
            KillCause::Liveness => c.spec.liveness_probe.as_ref()?.termination_grace_period_seconds,
            KillCause::Startup => c.spec.startup_probe.as_ref()?.termination_grace_period_seconds,
            _ => None,
        });
        let seconds =
            probe_grace.and_then(|s| u64::try_from(s).ok()).unwrap_or_else(|| pod::grace_seconds(pod));
        Duration::from_secs(seconds)
    }

    /// Removes dead instances beyond those that stay for their logs and last state, and dead sandboxes that hold nothing
    /// and are not the newest.
    fn collect_garbage(&mut self, cx: &mut Cx<'_>) -> Option<Duration> {
        let observed = self.seen.last()?;
        let (surplus, next) = cx.settings.dead_containers.surplus(observed, cx.now);
        let is_starting = |name: &str| self.tasks.is_open(&PodTask::Container(name.to_owned()));
        let containers: Vec<ContainerId> =
            surplus.into_iter().filter(|c| !is_starting(&c.name)).map(|c| c.id.clone()).collect();
        let sandboxes: Vec<_> = observed
            .sandboxes
            .iter()
            .skip(1)
            .filter(|s| !s.is_ready && !observed.containers.iter().any(|c| c.sandbox_id == s.id))
            .map(|s| s.id.clone())
            .collect();
        for id in containers {
            self.remove_container(&id, false, cx.out);
        }
        for id in sandboxes {
            self.remove_sandbox(id, cx.out);
        }
        next
    }

    /// Monotonic time at which `activeDeadlineSeconds` runs out.
    fn active_deadline(&self, pod: &Pod, cx: &Cx<'_>) -> Option<Duration> {
        let seconds = u64::try_from(pod.spec.as_ref()?.active_deadline_seconds?).ok()?;
        let started = self.report.current.start_time.as_ref().map(|t| t.0)?;
        let passed = cx.now.since_wall(started);
        Some(cx.now.after(Duration::from_secs(seconds).saturating_sub(passed)))
    }

    fn has_exceeded_deadline(&self, pod: &Pod, cx: &Cx<'_>) -> bool {
        self.active_deadline(pod, cx).is_some_and(|deadline| deadline <= cx.now.mono)
    }

    /// Which list a container stands in; a regular one when the spec no longer has it.
    pub(crate) fn kind_of(&self, name: &str) -> ContainerKind {
        self.desired
            .pod()
            .and_then(|p| pod::container(p, name).map(|c| c.kind))
            .unwrap_or(ContainerKind::Regular)
    }

    /// Whether a running container is started and ready.
    pub(crate) fn readiness_of(
        &self,
        spec: &k8s_openapi::api::core::v1::Container,
        id: &ContainerId,
    ) -> (bool, bool) {
        let instance = self.containers.get(&spec.name).and_then(|record| record.instance(id));
        instance.map_or((false, false), |i| (probes::is_started(spec, i), probes::is_ready(spec, i)))
    }
}
