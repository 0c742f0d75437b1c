//! Ends a pod: its containers, in the order of their kind, then its sandbox
//! (<https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination>).

use std::time::Duration;

use model::pod::{self, ContainerKind};
use model::{ContainerId, Now, SandboxId};

use super::life::{EndCause, Life};
use super::record::PodRecord;
use crate::cx::Cx;
use crate::schedule::earliest;
use crate::tasks::PodTask;

impl PodRecord {
    /// Moves the pod to its end, or, when it already is on its way, at most shortens its grace.
    pub(crate) fn begin_end(&mut self, why: EndCause, cx: &mut Cx<'_>) {
        self.begin_end_within(why, Duration::from_secs(self.grace_seconds()), cx);
    }

    /// The same within this grace.
    pub(crate) fn begin_end_within(&mut self, why: EndCause, grace: Duration, cx: &mut Cx<'_>) {
        let deadline = cx.now.after(grace);
        if self.life.end(why, deadline, self.desired.is_static()) {
            for (_, in_flight) in self.tasks.iter().filter(|(task, _)| task.is_for_running()) {
                cx.out.cancel(in_flight.id);
            }
        }
    }

    /// Gives a pod that is ending at most this much time from now on.
    pub(crate) fn shorten_grace(&mut self, grace: Duration, now: Now) {
        self.life.hasten(now.after(grace));
    }

    /// The grace to use now: the pod's, or for a pod nobody knows what its containers say.
    fn grace_seconds(&self) -> u64 {
        match self.desired.pod() {
            Some(pod) => pod::grace_seconds(pod),
            None => {
                let held = self.seen.last().into_iter().flat_map(|last| &last.containers);
                held.filter_map(|c| c.pod_grace_seconds).max().unwrap_or(pod::DEFAULT_GRACE_SECONDS)
            }
        }
    }

    /// One round for a pod in [`Life::Terminating`]. Returns when the next is due by itself.
    pub(crate) fn drive_terminating(&mut self, cx: &mut Cx<'_>) -> Option<Duration> {
        let next = self.drive_probes(cx);
        let observed = self.seen.last()?;
        let Life::Terminating(end) = &self.life else { return None };
        let deadline = end.deadline;
        if let Some(at) = end.retry.as_ref().map(|r| r.next_at).filter(|at| *at > cx.now.mono) {
            return earliest(next, Some(at));
        }
        let running: Vec<(ContainerKind, String, ContainerId)> = observed
            .containers
            .iter()
            .filter(|c| c.state.is_running())
            .map(|c| (self.kind_of(&c.name), c.name.clone(), c.id.clone()))
            .collect();
        if !running.is_empty() {
            let stops = self.turns(running, deadline <= cx.now.mono);
            return stops.into_iter().fold(next, |next, (name, id, turn)| {
                let text = format!("Stopping container {name}");
                earliest(next, self.drive_stop(&name, &id, deadline, turn, &text, cx))
            });
        }
        let sandboxes: Vec<SandboxId> = observed
            .sandboxes
            .iter()
            .filter(|s| !self.stopped_sandboxes.contains(&s.id))
            .map(|s| s.id.clone())
            .collect();
        for id in sandboxes {
            if self.seen.is_fresh() && !self.is_changing() {
                self.stop_sandbox(id, cx.out);
            }
        }
        // A creation that was cancelled may still have left something: only a fresh look tells.
        let is_quiet = !self.is_changing() && self.seen.is_fresh();
        let is_serving = self.tasks.any(PodTask::is_for_running);
        if is_quiet && !is_serving {
            self.life.ended();
            return earliest(next, self.drive_terminated(cx));
        }
        next
    }
}
