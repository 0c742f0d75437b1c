//! Takes in how a pod's actions ended.

use std::time::Duration;

use model::ContainerObservation;
use model::reason::event;

use super::record::PodRecord;
use crate::cx::Cx;
use crate::effect::{FailureKind, Hook, Outcome, RuntimeOutcome};
use crate::tasks::PodTask;

impl PodRecord {
    /// One action of the pod ended.
    pub(crate) fn finished(&mut self, task: PodTask, outcome: Outcome, cx: &mut Cx<'_>) {
        debug_assert!(task.may_end_in(self.life.phase()), "{task:?} of a pod in {:?}", self.life.phase());
        let since = self.tasks.get(&task).map_or(cx.now.mono, |in_flight| in_flight.since);
        self.tasks.end(&task);
        let is_change = task.is_change();
        if is_change {
            self.seen.change_ended();
        }
        let is_new = is_change || task == PodTask::Observe;
        self.take_in(task, since, outcome, cx);
        if is_new {
            self.forget_gone_instances();
        }
    }

    fn take_in(&mut self, task: PodTask, since: Duration, outcome: Outcome, cx: &mut Cx<'_>) {
        match task {
            PodTask::Observe => self.observe_done(outcome, cx),
            PodTask::Cgroup => self.cgroup_done(&outcome, cx),
            PodTask::Volumes => self.volumes_done(outcome, cx),
            PodTask::Image(used_by) => self.image_done(&used_by, &outcome, since, cx),
            PodTask::Sandbox => self.sandbox_done(outcome, cx),
            PodTask::Container(name) => self.container_done(&name, outcome, cx),
            PodTask::StopContainer(id) => self.stop_done(&id, outcome, cx),
            PodTask::StopSandbox(id) => self.sandbox_stopped(&id, outcome, cx),
            PodTask::RemoveSandbox(id) => self.removal_done(&outcome, cx, |held| {
                held.sandboxes.retain(|s| s.id != id);
                held.containers.retain(|c| c.sandbox_id != id);
            }),
            PodTask::RemoveContainer(id) => {
                self.removal_done(&outcome, cx, |held| held.containers.retain(|c| c.id != id));
            }
            PodTask::Hook(id, Hook::PostStart) => self.post_start_done(&id, outcome, cx),
            PodTask::Hook(id, Hook::PreStop) => self.pre_stop_done(&id, &outcome, cx.out),
            PodTask::Probe(name, kind) => {
                if let Outcome::Probed(result) = &outcome {
                    self.probed(&name, kind, result, cx);
                }
            }
            PodTask::Status => self.status_written(outcome, cx),
            PodTask::Mirror => self.mirror_made(outcome, cx),
            PodTask::MirrorRemoval => self.mirror_removed(outcome, cx),
            PodTask::DeleteObject => {
                self.end_step(&outcome, cx, |end| &mut end.object);
                if outcome.is_gone() {
                    self.report.is_gone = true;
                }
            }
            PodTask::TearDownVolumes => self.end_step(&outcome, cx, |end| &mut end.volumes),
            PodTask::RemoveCgroup => self.end_step(&outcome, cx, |end| &mut end.cgroup),
            PodTask::Folder => self.end_step(&outcome, cx, |end| &mut end.folder),
            PodTask::Logs => self.end_step(&outcome, cx, |end| end.logs.get_or_insert_default()),
        }
    }

    fn mirror_made(&mut self, outcome: Outcome, cx: &Cx<'_>) {
        // Done when the watch shows it: somebody may have removed it before that.
        let error = match outcome {
            Outcome::Failed(failure) => failure.message,
            _ => "the mirror pod was created and does not show yet".to_owned(),
        };
        if !self.mirror.is_done() {
            self.mirror.fail(error, cx.now);
        }
    }

    fn mirror_removed(&mut self, outcome: Outcome, cx: &Cx<'_>) {
        // The watch shows when it is gone; should it not, it is asked for again.
        let error = match outcome {
            Outcome::Failed(failure) => failure.message,
            _ => "the old mirror pod is being removed".to_owned(),
        };
        self.mirror.fail(error, cx.now);
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
                    self.note_found();
                    self.adopt(cx);
                }
                self.note_attempts();
                self.begin_found(cx);
            }
            Outcome::Failed(failure) => {
                // A runtime that is away is the node's trouble, and told as such.
                if failure.kind != FailureKind::RuntimeUnavailable {
                    let text = format!("error determining status: {}", failure.message);
                    self.record_event(true, event::FAILED_SYNC, text, cx.out);
                }
                self.seen.read_failed(failure.message, cx.now);
            }
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
            let record = self.container_mut(&name);
            record.last_attempt = record.last_attempt.max(Some(attempt));
        }
    }

    pub(super) fn merge_container(&mut self, container: ContainerObservation) {
        let Some(last) = self.seen.last_mut() else { return };
        last.containers.retain(|c| c.id != container.id);
        last.containers.reserve_exact(1);
        last.containers.push(container);
        last.sort();
    }
}
