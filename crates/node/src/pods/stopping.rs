//! Stops single containers: the preStop hook, and in their turn, the signals
//! (<https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination>).

use std::time::Duration;

use golang::quote::quoted;
use model::pod::{self, ContainerKind};
use model::reason::event;
use model::{ContainerId, ContainerObservation, ContainerState};

use super::backoff::{Pauses, Retry};
use super::container::{EndStep, Ending};
use super::life::Life;
use super::record::PodRecord;
use crate::cx::Cx;
use crate::effect::{Failure, FailureKind, Hook, Outcome, ProbeAction, RuntimeOutcome};
use crate::outbox::Outbox;
use crate::tasks::PodTask;

/// What a container gets between SIGTERM and SIGKILL at least, also when its preStop hook used
/// up the whole grace period (upstream's `minimumGracePeriodInSeconds`).
pub(crate) const MIN_GRACE: Duration = Duration::from_secs(2);

/// A deadline that is closer by no more than this is not worth a new stop.
const RECALL_MARGIN: Duration = Duration::from_secs(1);

/// Whether a container that is to end may be signalled. Its preStop hook runs in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It may.
    Now,
    /// Others end first.
    Waits,
}

/// How long a preStop hook that used up the grace period may go on: the container gets [`MIN_GRACE`] from then, and
/// both end together.
const HOOK_OUTLASTS: Duration = Duration::from_secs(4);

impl PodRecord {
    /// Whether each of the running containers may be signalled now: sidecars only after all regular
    /// ones, and then in reverse order one by one (KEP-753), unless the grace period is over.
    pub(crate) fn turns(
        &self,
        running: Vec<(ContainerKind, String, ContainerId)>,
        is_out_of_time: bool,
    ) -> Vec<(String, ContainerId, Turn)> {
        let has_regular = running.iter().any(|(kind, ..)| *kind == ContainerKind::Regular);
        let order: Vec<String> = self
            .desired
            .pod()
            .map(|p| pod::containers(p).map(|c| c.spec.name.clone()).collect())
            .unwrap_or_default();
        let place = |name: &str| order.iter().position(|n| n == name);
        let sidecars = running.iter().filter(|(kind, ..)| *kind == ContainerKind::Sidecar);
        let last = sidecars.map(|(_, name, _)| place(name)).max().flatten();
        let turn_of = |kind: ContainerKind, name: &str| {
            let waits = kind == ContainerKind::Sidecar && (has_regular || place(name) != last);
            if waits && !is_out_of_time { Turn::Waits } else { Turn::Now }
        };
        let with_turn = |(kind, name, id): (ContainerKind, String, ContainerId)| {
            let turn = turn_of(kind, &name);
            (name, id, turn)
        };
        running.into_iter().map(with_turn).collect()
    }

    /// Brings one running container closer to its end: announcement, preStop hook, and in its
    /// turn, signals.
    pub(crate) fn drive_stop(
        &mut self,
        name: &str,
        id: &ContainerId,
        deadline: Duration,
        turn: Turn,
        text: &str,
        cx: &mut Cx<'_>,
    ) -> Option<Duration> {
        let kind = self.kind_of(name);
        let known = self.container_mut(name).instance(id).and_then(|i| i.ending);
        if known.is_none() {
            self.record_container_event(kind, name, false, event::KILLING, text.to_owned(), cx.out);
        }
        let Ending { deadline: earlier, step } =
            known.unwrap_or(Ending { deadline, step: EndStep::Announced });
        // A restart that was under way when the pod began to end may have set an earlier one.
        let deadline = deadline.min(earlier);
        let remaining = deadline.saturating_sub(cx.now.mono);
        let (step, wakes_at) = match step {
            EndStep::Signalled { by } => {
                // The grace was shortened: ask again with the shorter one.
                let is_late = by > deadline.max(cx.now.after(MIN_GRACE)) + RECALL_MARGIN;
                (if is_late { self.recall_stop(id, cx.out) } else { step }, None)
            }
            EndStep::Recalled => (step, None),
            EndStep::Announced if !remaining.is_zero() && self.has_pre_stop(name) => {
                self.start_pre_stop(name, id, remaining, cx);
                (EndStep::PreStop, Some(deadline))
            }
            // One that still runs when the time is up is waited for no longer, and ends with the container.
            EndStep::PreStop if !remaining.is_zero() => (step, Some(deadline)),
            _ if turn == Turn::Waits && !remaining.is_zero() => (step, Some(deadline)),
            EndStep::Announced | EndStep::PreStop | EndStep::Due | EndStep::Lost => {
                let grace = if self.is_forced() { remaining } else { remaining.max(MIN_GRACE) };
                self.stop_container(id, grace, cx.out);
                (EndStep::Signalled { by: cx.now.after(grace) }, None)
            }
        };
        self.container_mut(name).instance_mut(id).ending = Some(Ending { deadline, step });
        wakes_at
    }

    /// Whether its object is to go at once, whatever becomes of its processes.
    fn is_forced(&self) -> bool {
        self.desired.pod().is_some_and(|p| p.metadata.deletion_grace_period_seconds == Some(0))
    }

    fn has_pre_stop(&self, name: &str) -> bool {
        let container = self.desired.pod().and_then(|pod| pod::container(pod, name));
        container.is_some_and(|c| c.spec.lifecycle.as_ref().is_some_and(|l| l.pre_stop.is_some()))
    }

    fn start_pre_stop(&mut self, name: &str, id: &ContainerId, remaining: Duration, cx: &mut Cx<'_>) {
        let Some(pod) = self.desired.pod().cloned() else { return };
        let action = ProbeAction::Hook {
            pod,
            container: name.to_owned(),
            id: id.clone(),
            hook: Hook::PreStop,
            pod_ip: self.pod_ips(cx).into_iter().next(),
            timeout: Some(remaining + HOOK_OUTLASTS),
        };
        self.start(PodTask::Hook(id.clone(), Hook::PreStop), action, cx.out);
    }

    /// Takes back a stop that is under way.
    fn recall_stop(&self, id: &ContainerId, out: &mut Outbox) -> EndStep {
        if let Some(stop) = self.tasks.get(&PodTask::StopContainer(id.clone())) {
            out.cancel(stop.id);
        }
        EndStep::Recalled
    }

    // ---- results ----

    pub(super) fn stop_done(&mut self, id: &ContainerId, outcome: Outcome, cx: &mut Cx<'_>) {
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

    pub(super) fn pre_stop_done(&mut self, id: &ContainerId, outcome: &Outcome, out: &mut Outbox) {
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

    /// `action` and `target` are upstream's words in the event: `KillContainer` of a name, `KillPodSandbox` of a uid.
    pub(super) fn kill_failed(&mut self, action: &str, target: &str, failure: Failure, cx: &mut Cx<'_>) {
        let is_told = failure.kind != FailureKind::RuntimeUnavailable;
        let message = quoted(&failure.message);
        let text = format!(
            "error killing pod: failed to \"{action}\" for \"{target}\" with {action}Error: {message}"
        );
        match &mut self.life {
            Life::Running(running) => running.sandbox.fail(failure.message, cx.now),
            Life::Terminating(end) => {
                end.retry = Some(Retry::after(end.retry.as_ref(), failure.message, Pauses::CALLS, cx.now));
            }
            Life::Admitting(_) | Life::Terminated(_) => {}
        }
        if is_told {
            self.record_event(true, event::FAILED_KILL_POD, text, cx.out);
        }
    }

    pub(super) fn name_of(&self, id: &ContainerId) -> Option<String> {
        self.seen.last()?.containers.iter().find(|c| c.id == *id).map(|c| c.name.clone())
    }
}
