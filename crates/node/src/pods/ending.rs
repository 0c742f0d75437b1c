//! Ends a pod: hooks, signals, sandbox, then everything else that is left of it
//! (<https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination>).

use std::time::Duration;

use model::pod::{self, ContainerKind};
use model::reason::event;
use model::{ContainerId, SandboxId};

use super::container::{EndStep, Ending};
use super::record::{Desired, EndCause, Phase, PodRecord, Step, Terminated, Terminating};
use crate::cx::Cx;
use crate::effect::{ApiAction, Hook, HostAction, ProbeAction, VolumeAction};
use crate::outbox::Outbox;
use crate::schedule::earliest;
use crate::slot::Slot;

/// What a container gets between SIGTERM and SIGKILL at least, also when its preStop hook used
/// up the whole grace period (upstream's `minimumGracePeriodInSeconds`).
const MIN_GRACE: Duration = Duration::from_secs(2);

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
    /// Moves the pod to its end, or, when it already is on its way, at most shortens its grace.
    pub(crate) fn begin_end(&mut self, why: EndCause, cx: &mut Cx<'_>) {
        let deadline = cx.now.after(Duration::from_secs(self.grace_seconds()));
        match &mut self.phase {
            Phase::Admitting | Phase::Running { .. } => {
                for (_, id) in self.busy.iter().filter(|(slot, _)| slot.is_for_running()) {
                    cx.out.cancel(*id);
                }
                self.phase = Phase::Terminating(Terminating { why, deadline, retry: None });
            }
            Phase::Terminating(end) => {
                if end.why == EndCause::Completed {
                    end.why = why;
                }
                end.deadline = end.deadline.min(deadline);
            }
            // Should a static pod's manifest come back, this is what decides whether it runs again.
            Phase::Terminated(end) if self.desired.is_static() => end.why = why,
            Phase::Terminated(_) => {}
        }
    }

    /// The grace to use now: the pod's, or for a pod nobody knows what its containers say.
    fn grace_seconds(&self) -> u64 {
        match self.desired.pod() {
            Some(pod) => pod::grace_seconds(pod),
            None => {
                let noted = self
                    .seen
                    .last()
                    .into_iter()
                    .flat_map(|o| &o.containers)
                    .filter_map(|c| c.pod_grace_seconds);
                noted.max().unwrap_or(pod::DEFAULT_GRACE_SECONDS)
            }
        }
    }

    /// One round for a pod in [`Phase::Terminating`] or [`Phase::Terminated`]. Returns when the
    /// next is due by itself.
    pub(crate) fn drive_ending(&mut self, cx: &mut Cx<'_>) -> Option<Duration> {
        match self.phase.clone() {
            Phase::Terminating(end) => self.drive_terminating(&end, cx),
            Phase::Terminated(end) => self.drive_terminated(&end, cx),
            Phase::Admitting | Phase::Running { .. } => None,
        }
    }

    fn drive_terminating(&mut self, end: &Terminating, cx: &mut Cx<'_>) -> Option<Duration> {
        let next = self.drive_probes(cx);
        let observed = self.seen.last()?;
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
            let stops = self.turns(running, end.deadline <= cx.now.mono);
            return stops.into_iter().fold(next, |next, (name, id, turn)| {
                let text = format!("Stopping container {name}");
                earliest(next, self.drive_stop(&name, &id, end.deadline, turn, &text, cx))
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
        let is_serving = self.busy.keys().any(Slot::is_for_running);
        if is_quiet && !is_serving {
            self.phase = Phase::Terminated(Terminated {
                why: end.why.clone(),
                volumes: Step::Todo,
                cgroup: Step::Todo,
                object: Step::Todo,
                remains: None,
                logs: None,
            });
            return earliest(next, self.drive_ending(cx));
        }
        next
    }

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
        let known = self.memory(name).instance(id).and_then(|i| i.ending);
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
        self.memory(name).instance_mut(id).ending = Some(Ending { deadline, step });
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
        self.start(Slot::Hook(id.clone(), Hook::PreStop), action, cx.out);
    }

    /// Takes back a stop that is under way.
    fn recall_stop(&self, id: &ContainerId, out: &mut Outbox) -> EndStep {
        if let Some(stop) = self.busy.get(&Slot::StopContainer(id.clone())) {
            out.cancel(*stop);
        }
        EndStep::Recalled
    }

    fn drive_terminated(&mut self, end: &Terminated, cx: &mut Cx<'_>) -> Option<Duration> {
        // Something is there again although all was gone (a creation that outlived its
        // cancellation): end that too.
        let is_alive = self
            .seen
            .last()
            .is_some_and(|o| o.has_running_container() || o.sandboxes.iter().any(|s| s.is_ready));
        if is_alive {
            self.phase = Phase::Terminating(Terminating {
                why: end.why.clone(),
                deadline: cx.now.after(MIN_GRACE),
                retry: None,
            });
            return self.drive_ending(cx);
        }
        if end.volumes.is_due(cx.now) && !self.busy.contains_key(&Slot::TearDownVolumes) {
            let action = VolumeAction::TearDown { uid: self.uid.clone(), key: self.key.clone() };
            self.start(Slot::TearDownVolumes, action, cx.out);
        }
        if end.cgroup.is_due(cx.now) && !self.busy.contains_key(&Slot::RemoveCgroup) {
            let action = HostAction::RemoveCgroup { uid: self.uid.clone(), key: self.key.clone() };
            self.start(Slot::RemoveCgroup, action, cx.out);
        }
        let mut next = earliest(end.volumes.next_at(cx.now), end.cgroup.next_at(cx.now));
        let is_clean = end.volumes.is_done() && end.cgroup.is_done();
        if self.is_deletion_wanted() {
            if is_clean
                && self.is_reported()
                && end.object.is_due(cx.now)
                && let Some(uid) = self.report.api_uid.clone()
                && !self.busy.contains_key(&Slot::DeleteObject)
            {
                self.start(Slot::DeleteObject, ApiAction::DeletePod { key: self.key.clone(), uid }, cx.out);
            }
            next = earliest(next, end.object.next_at(cx.now));
        }
        if !self.desired.is_present() || self.is_returning(end) {
            next = earliest(next, self.drive_remains(end, cx));
        }
        next
    }

    /// Whether the API object waits for this node to remove it.
    fn is_deletion_wanted(&self) -> bool {
        match &self.desired {
            Desired::Present { pod, .. } => {
                !self.desired.is_static() && pod.metadata.deletion_timestamp.is_some()
            }
            Desired::Removed { .. } | Desired::Unknown => false,
        }
    }

    /// Removes from the runtime and from disk what is left of a pod that nobody refers to.
    fn drive_remains(&mut self, end: &Terminated, cx: &mut Cx<'_>) -> Option<Duration> {
        let retry_at = end.remains.as_ref().map(|r| r.next_at).filter(|at| *at > cx.now.mono);
        if retry_at.is_some() {
            return retry_at;
        }
        let observed = self.seen.fresh()?;
        let sandboxes: Vec<_> = observed.sandboxes.iter().map(|s| s.id.clone()).collect();
        let strays: Vec<_> = observed
            .containers
            .iter()
            .filter(|c| !sandboxes.contains(&c.sandbox_id))
            .map(|c| c.id.clone())
            .collect();
        let is_empty = sandboxes.is_empty() && strays.is_empty();
        for id in sandboxes {
            self.remove_sandbox(id, cx.out);
        }
        for id in strays {
            self.remove_container(&id, false, cx.out);
        }
        let logs = end.logs.as_ref()?;
        if is_empty && logs.is_due(cx.now) && !self.busy.contains_key(&Slot::Logs) {
            self.start(
                Slot::Logs,
                HostAction::RemovePodLogs { uid: self.uid.clone(), key: self.key.clone() },
                cx.out,
            );
        }
        logs.next_at(cx.now)
    }

    /// Whether the pod leaves logs behind when its record goes.
    pub(crate) fn leaves_logs(&self) -> bool {
        matches!(&self.phase, Phase::Terminated(end) if end.logs.is_none())
    }

    /// Whether a static pod's manifest was removed and came back unchanged, and so with the same
    /// uid: when all of the old one is gone, it begins anew.
    fn is_returning(&self, end: &Terminated) -> bool {
        self.desired.is_static() && self.desired.is_present() && end.why == EndCause::Removed
    }

    /// Whether nothing of the pod is left anywhere, but for logs whose time has not come, and its record can go.
    pub(crate) fn is_forgettable(&self) -> bool {
        let Phase::Terminated(end) = &self.phase else { return false };
        (!self.desired.is_present() || self.is_returning(end))
            && self.busy.is_empty()
            && end.volumes.is_done()
            && end.cgroup.is_done()
            && end.logs.as_ref().is_none_or(Step::is_done)
            && self.seen.last().is_some_and(|o| o.sandboxes.is_empty() && o.containers.is_empty())
    }
}
