//! Tells the API server what is true of a pod: few writes, the urgent ones at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::PodStatus;
use model::reason::event;
use model::{Pod, PodObservation, pod};

use super::backoff::{Pauses, Retry};
use super::container::Stage;
use super::life::{EndCause, Life, OVER_DEADLINE};
use super::record::{Desired, PodRecord};
use crate::cx::Cx;
use crate::effect::{ApiAction, ApiOutcome, Outcome};
use crate::input::Source;
use crate::status::{self, Cause, ContainerNote, Stage as StatusStage, StatusInputs};
use crate::tasks::PodTask;

/// A change nobody acts on (an address, a condition about the sandbox) waits this long for one
/// that somebody does, so that a pod's start costs two writes.
const QUIET_CHANGE_DELAY: Duration = Duration::from_secs(1);

impl PodRecord {
    /// Computes the status and writes it when it is due. Returns when it will be.
    pub(crate) fn drive_report(&mut self, cx: &mut Cx<'_>) -> Option<Duration> {
        // Before the first look at a pod nothing is known that could be told.
        if self.desired.pod().is_none() || self.life.is_admitting() || self.seen.last().is_none() {
            return None;
        }
        if let Some(status) = self.compute_status(cx)
            && status != *self.report.current
        {
            // A start that failed may have succeeded all the same, and show only after the last word.
            let runs = self.seen.last().is_some_and(|observed| observed.has_running_container());
            let is_settled = self.is_settled() || status::is_terminal(&self.report.written);
            if status::is_terminal(&status) && (runs || !is_settled) {
                return None;
            }
            // An API server would refuse it: what it holds stays true a little longer.
            let rules = cx.settings.restart_rules;
            let is_allowed =
                |pod: &Arc<Pod>| status::transition::is_allowed(rules, pod, &self.report.current, &status);
            if self.desired.pod().is_some_and(is_allowed) {
                self.report.current = Arc::new(status);
            }
        }
        let uid = self.report.api_uid.clone()?;
        if !cx.settings.has_api || self.report.is_gone || self.is_being_reported() {
            return None;
        }
        let (written, current) = (&self.report.written, &self.report.current);
        if status::is_same(written, current) {
            self.report.flush_at = None;
            return None;
        }
        if let Some(at) = self.report.retry.as_ref().map(|r| r.next_at).filter(|at| *at > cx.now.mono) {
            return Some(at);
        }
        if !is_urgent(written, current) || self.is_last_word_near() {
            let at = *self.report.flush_at.get_or_insert(cx.now.after(QUIET_CHANGE_DELAY));
            if at > cx.now.mono {
                return Some(at);
            }
        }
        self.report.flush_at = None;
        self.report.sent = Some((uid.clone(), current.clone()));
        let action =
            ApiAction::WriteStatus { key: self.key.clone(), uid, old: written.clone(), new: current.clone() };
        self.start(PodTask::Status, action, cx.out);
        None
    }

    /// Whether what is known of the pod's containers is all there is to know: only then may it be
    /// said to be over, since that cannot be taken back. The end of its sandbox takes the runtime
    /// a while and changes nothing about them.
    fn is_settled(&self) -> bool {
        self.seen.is_fresh() && !self.tasks.any(PodTask::may_change_containers)
    }

    /// Whether only the sandbox has to go before the pod's last status is written: what its
    /// containers came to can wait for that one. Not so a pod that is over already: somebody
    /// waits for its result, and what follows changes nothing about it.
    fn is_last_word_near(&self) -> bool {
        matches!(self.life, Life::Terminating(_))
            && !status::is_terminal(&self.report.current)
            && self.seen.last().is_some_and(|o| !o.has_running_container())
    }

    pub(crate) fn status_written(&mut self, outcome: Outcome, cx: &Cx<'_>) {
        let Some((uid, sent)) = self.report.sent.take() else { return };
        if self.report.api_uid.as_ref() != Some(&uid) {
            // It was about a mirror that another one has replaced.
            return;
        }
        match outcome {
            Outcome::Api(ApiOutcome::Written { version }) => {
                self.report.written = sent;
                self.report.version = self.report.version.max(version);
                self.report.retry = None;
            }
            Outcome::Gone => self.report.is_gone = true,
            Outcome::Failed(failure) => {
                let retry = Retry::after(self.report.retry.as_ref(), failure.message, Pauses::CALLS, cx.now);
                self.report.retry = Some(retry);
            }
            _ => {}
        }
        // A version that came while the write was under way: somebody, perhaps an earlier write
        // that was late, may have changed the status after it.
        if let Desired::Present { source: Source::Api, pod } = &self.desired {
            let pod = pod.clone();
            self.see_written(&pod);
        }
    }

    /// Whether the API server has everything about the pod that somebody may act on, so that its
    /// object may go. A change that can wait is not worth a write to an object about to vanish.
    pub(crate) fn is_reported(&self) -> bool {
        let (written, current) = (&self.report.written, &self.report.current);
        self.report.is_gone
            || (!self.is_being_reported()
                && (status::is_same(written, current) || !is_urgent(written, current)))
    }
}

/// Whether somebody may act on the difference. While the pod is still on its way up, a
/// change that only says so can wait for the next that says more.
fn is_urgent(old: &PodStatus, new: &PodStatus) -> bool {
    if old.phase != new.phase
        || old.start_time != new.start_time
        || old.reason != new.reason
        || condition(old, "Ready") != condition(new, "Ready")
        || condition(old, "ContainersReady") != condition(new, "ContainersReady")
        || condition(old, status::RESTARTING_CONDITION) != condition(new, status::RESTARTING_CONDITION)
    {
        return true;
    }
    let lists = [
        (&old.container_statuses, &new.container_statuses),
        (&old.init_container_statuses, &new.init_container_statuses),
        (&old.ephemeral_container_statuses, &new.ephemeral_container_statuses),
    ];
    lists.into_iter().any(|(old, new)| {
        let (old, new) = (old.as_deref().unwrap_or_default(), new.as_deref().unwrap_or_default());
        old.len() != new.len()
            || old.iter().zip(new).any(|(a, b)| {
                a.state != b.state
                    || a.ready != b.ready
                    || a.started != b.started
                    || a.restart_count != b.restart_count
            })
    })
}

fn condition<'a>(status: &'a PodStatus, kind: &str) -> Option<&'a str> {
    status.conditions.iter().flatten().find(|c| c.type_ == kind).map(|c| c.status.as_str())
}

/// What the status says of the end of a pod.
fn cause(why: &EndCause) -> Cause<'_> {
    match why {
        EndCause::Deleted | EndCause::Orphaned | EndCause::Completed => Cause::Ordinary,
        EndCause::DeadlineExceeded => {
            Cause::Failed { reason: event::DEADLINE_EXCEEDED, message: OVER_DEADLINE, is_disruption: false }
        }
        EndCause::Evicted { message } => {
            Cause::Failed { reason: event::EVICTED, message, is_disruption: true }
        }
        EndCause::Rejected(rejection) => Cause::Rejected(rejection),
    }
}

impl PodRecord {
    /// The status as it is now; `None` before anything is known.
    pub(crate) fn compute_status(&self, cx: &Cx<'_>) -> Option<PodStatus> {
        self.with_status_inputs(cx, status::generate)
    }

    /// Takes note of what the containers of a pod that is over came to.
    pub(crate) fn note_terminal_phase(&mut self, cx: &Cx<'_>) {
        self.report.reached = self.with_status_inputs(cx, status::terminal_phase).flatten();
    }

    fn with_status_inputs<T>(&self, cx: &Cx<'_>, f: impl FnOnce(&StatusInputs<'_>) -> T) -> Option<T> {
        let object = self.desired.pod()?;
        let pod = self.allocated().or_else(|| self.offer(cx).pod(object))?;
        let empty = PodObservation::empty(self.uid.clone(), self.key.clone());
        let observed = self.seen.last().map_or(&empty, |last| &**last);
        let notes = self.notes(&pod, observed);
        let (stage, started) = self.stage(cx);
        Some(f(&StatusInputs {
            pod: &pod,
            is_resize_pending: self.granted.is_resize_pending(),
            observed,
            cgroup: self.life.running().and_then(|running| running.limits.as_ref()),
            gates: cx.settings.gates,
            rules: cx.settings.restart_rules,
            previous: &self.report.current,
            notes: &notes,
            reached: self.report.reached.as_deref(),
            stage,
            started,
            host_ips: cx.node.host_ips,
            is_ipv6_first: cx.settings.is_ipv6_first,
            runtime_name: &cx.node.readings.runtime_name,
            now: cx.now,
        }))
    }

    /// Whether the pod is over although the runtime no longer holds the containers that would
    /// tell: its status remembers them.
    pub(crate) fn has_ended_by_status(&self, cx: &Cx<'_>) -> bool {
        self.compute_status(cx).is_some_and(|s| status::is_terminal(&s))
    }

    /// Regular containers that have ended for good by what the API server was told, and of which the
    /// runtime holds nothing any more: the API server takes such an end for the last word.
    pub(crate) fn ended_by_status(&self, pod: &Pod, cx: &Cx<'_>) -> BTreeSet<String> {
        let mut ended = BTreeSet::new();
        for said in self.report.current.container_statuses.iter().flatten() {
            let code = said.state.as_ref().and_then(|s| s.terminated.as_ref()).map(|t| t.exit_code);
            let is_held = self.seen.last().is_none_or(|o| o.latest(&said.name).is_some());
            if let Some(code) = code.filter(|_| !is_held)
                && let Some(c) = pod::container(pod, &said.name)
                && !cx.settings.restart_rules.restarts_after(pod, &c.spec, c.kind, code)
            {
                ended.insert(said.name.clone());
            }
        }
        ended
    }

    fn notes(&self, pod: &Pod, observed: &PodObservation) -> BTreeMap<String, ContainerNote> {
        let mut notes = BTreeMap::new();
        for container in pod::containers(pod) {
            let record = self.containers.get(&container.spec.name);
            let running = observed.latest(&container.spec.name).filter(|c| c.state.is_running());
            let (is_started, is_ready) =
                running.map_or((false, false), |c| self.readiness_of(&container.spec, &c.id));
            let waiting = record.and_then(|m| m.waiting.as_ref()).map(|w| (w.reason, w.message.clone()));
            let is_replaced = self.life.is_running()
                && observed
                    .latest(&container.spec.name)
                    .is_some_and(|c| !c.state.is_running() && record.is_some_and(|m| m.is_replaced(&c.id)));
            let is_in_post_start = running.is_some_and(|c| {
                record.and_then(|m| m.instance(&c.id)).is_none_or(|i| i.stage != Stage::Started)
            });
            let note = ContainerNote { waiting, is_in_post_start, is_started, is_ready, is_replaced };
            notes.insert(container.spec.name.clone(), note);
        }
        notes
    }

    fn stage(&self, cx: &Cx<'_>) -> (StatusStage<'_>, jiff::Timestamp) {
        let started = self.life.running().map_or_else(|| model::time::to_seconds(cx.now.wall), |r| r.since);
        let stage = match &self.life {
            Life::Admitting(_) | Life::Running(_) => StatusStage::Running,
            Life::Terminating(end) => StatusStage::Ending(cause(&end.why)),
            Life::Terminated(end) => StatusStage::Ended(cause(&end.why)),
        };
        (stage, started)
    }
}
