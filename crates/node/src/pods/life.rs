//! Where a pod is in its life, with what only counts there.
//!
//! A pod only ever moves on, with one way back: what is found to run of a pod that had ended is ended again. All moves
//! are here. `docs/ARCHITECTURE.md` has a diagram of them and the table of what may come in when, written by a test.

use std::time::Duration;

use jiff::Timestamp;
use model::{CgroupObservation, Now};
use serde::{Deserialize, Serialize};

use super::backoff::{Pauses, Retry};
use super::missing_volumes::MissingVolumes;
use crate::admission::Rejection;
use crate::effect::Outcome;
use crate::schedule::earliest;

/// What event and status say of a pod that was active for too long.
pub(crate) const OVER_DEADLINE: &str = "Pod was active on the node longer than the specified deadline";

/// Where a pod is in its life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Life {
    /// Not yet decided about: waits for the first relist, the node's facts, or a predecessor.
    Admitting(Admitting),
    /// Is to run.
    Running(Running),
    /// Is to end; processes or the sandbox may still be there.
    Terminating(Terminating),
    /// No process and no network of it is left; volumes, cgroup and objects may be.
    Terminated(Terminated),
}

/// The same without what counts there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase {
    /// Not yet decided about.
    Admitting,
    /// Is to run.
    Running,
    /// Is to end.
    Terminating,
    /// Has ended.
    Terminated,
}

/// The data of a pod that is not yet decided about.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Admitting {
    /// An earlier process let it in.
    pub(crate) is_adopted: bool,
    /// An earlier process has left something of it on the host.
    pub(crate) has_remains: bool,
}

/// The data of a pod that is to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Running {
    /// When it was accepted, wall clock: `status.startTime` of a new pod.
    pub(crate) since: Timestamp,
    /// The pod's cgroup.
    pub(crate) cgroup: Step,
    /// What it has; `None` as long as it was not read, or where pods have no cgroups.
    #[serde(default)]
    pub(crate) limits: Option<CgroupObservation>,
    /// Its volumes.
    pub(crate) volumes: PodVolumes,
    /// The creation of its sandbox, or the removal of what is in the way of that.
    pub(crate) sandbox: Step,
    /// It was told that the sandbox waits for the runtime's network.
    pub(crate) is_network_wait_told: bool,
}

/// The volumes of a pod that is to run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct PodVolumes {
    /// Whether they are there.
    pub(crate) step: Step,
    /// When they are looked at again although nothing changed, monotonic.
    pub(crate) refresh_at: Option<Duration>,
    /// Whether those are there that drivers make.
    pub(crate) are_published: bool,
    /// Those the pod waits for.
    pub(crate) missing: MissingVolumes,
}

/// The data of a pod that is ending.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Terminating {
    /// Why.
    pub(crate) why: EndCause,
    /// When its processes get SIGKILL, monotonic. Only ever moves closer.
    pub(crate) deadline: Duration,
    /// The last failure to stop something, and when that is tried again.
    pub(crate) retry: Option<Retry>,
    /// It was let in before, here or by an earlier process.
    pub(crate) was_admitted: bool,
    /// All its volumes were there, and are until it has ended.
    pub(crate) has_volumes: bool,
}

/// The data of a pod that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Terminated {
    /// Why.
    pub(crate) why: EndCause,
    /// Volumes unmounted and removed.
    pub(crate) volumes: Step,
    /// Cgroup removed.
    pub(crate) cgroup: Step,
    /// Its folder removed, with what containers have left there to be read (`terminationMessagePath`, hosts file): it goes
    /// once no source has the pod any more.
    #[serde(default)]
    pub(crate) folder: Step,
    /// API object removed.
    pub(crate) object: Step,
    /// Sandboxes and containers removed from the runtime.
    pub(crate) cleanup: Option<Retry>,
    /// Log folder removed; `None` as long as it is not yet time for that.
    pub(crate) logs: Option<Step>,
    /// It was let in before, here or by an earlier process.
    pub(crate) was_admitted: bool,
}

/// Why a pod ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum EndCause {
    /// Somebody deleted it, or its source no longer has it.
    Deleted,
    /// It was found in the runtime or on the host, and no source knows it.
    Orphaned,
    /// All its containers have ended for good.
    Completed,
    /// It was active for longer than its `activeDeadlineSeconds`.
    DeadlineExceeded,
    /// It uses what the node runs short of.
    Evicted {
        /// Why, with figures.
        message: String,
    },
    /// The node never took it.
    Rejected(Rejection),
}

impl EndCause {
    /// Whether its source no longer wanted it: should a static pod's manifest come back after that, it begins anew.
    pub(crate) fn is_unwanted(&self) -> bool {
        matches!(self, Self::Deleted | Self::Orphaned)
    }
}

impl Default for Life {
    fn default() -> Self {
        Self::Admitting(Admitting::default())
    }
}

impl Life {
    pub(crate) fn phase(&self) -> Phase {
        match self {
            Self::Admitting(_) => Phase::Admitting,
            Self::Running(_) => Phase::Running,
            Self::Terminating(_) => Phase::Terminating,
            Self::Terminated(_) => Phase::Terminated,
        }
    }

    pub(crate) fn is_admitting(&self) -> bool {
        self.phase() == Phase::Admitting
    }

    pub(crate) fn is_running(&self) -> bool {
        self.phase() == Phase::Running
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.phase() == Phase::Terminated
    }

    pub(crate) fn running(&self) -> Option<&Running> {
        match self {
            Self::Running(running) => Some(running),
            Self::Admitting(_) | Self::Terminating(_) | Self::Terminated(_) => None,
        }
    }

    pub(crate) fn running_mut(&mut self) -> Option<&mut Running> {
        match self {
            Self::Running(running) => Some(running),
            Self::Admitting(_) | Self::Terminating(_) | Self::Terminated(_) => None,
        }
    }

    /// Whether the pod has a cgroup with containers in it, or may have.
    pub(crate) fn is_active(&self) -> bool {
        matches!(self, Self::Running(_) | Self::Terminating(_))
    }

    /// Whether it was let in, here or by an earlier process.
    pub(crate) fn was_admitted(&self) -> bool {
        match self {
            Self::Admitting(admitting) => admitting.is_adopted,
            Self::Running(_) => true,
            Self::Terminating(end) => end.was_admitted,
            Self::Terminated(end) => end.was_admitted,
        }
    }

    /// Whether all its volumes are there.
    pub(crate) fn has_volumes(&self) -> bool {
        match self {
            Self::Admitting(_) | Self::Terminated(_) => false,
            Self::Running(running) => running.volumes.are_there(),
            Self::Terminating(end) => end.has_volumes,
        }
    }

    /// Why it ends.
    pub(crate) fn end_cause(&self) -> Option<&EndCause> {
        match self {
            Self::Admitting(_) | Self::Running(_) => None,
            Self::Terminating(end) => Some(&end.why),
            Self::Terminated(end) => Some(&end.why),
        }
    }

    /// An earlier process let it in.
    pub(crate) fn adopt(&mut self) {
        match self {
            Self::Admitting(admitting) => admitting.is_adopted = true,
            Self::Running(_) => {}
            Self::Terminating(end) => end.was_admitted = true,
            Self::Terminated(end) => end.was_admitted = true,
        }
    }

    /// The pod is let in.
    pub(crate) fn admit(&mut self, since: Timestamp) {
        if self.is_admitting() {
            *self = Self::Running(Running::new(since));
        }
    }

    /// Something of it was found on the host.
    pub(crate) fn found_on_host(&mut self) {
        if let Self::Admitting(admitting) = self {
            admitting.has_remains = true;
        }
    }

    /// The pod is turned away.
    pub(crate) fn reject(&mut self, rejection: Rejection) {
        if let Self::Admitting(Admitting { has_remains, .. }) = self {
            *self = Self::Terminated(Terminated::rejected(rejection, *has_remains));
        }
    }

    /// The pod is to end; one that is ending already has at most less time for it. Returns whether that is new.
    pub(crate) fn end(&mut self, why: EndCause, deadline: Duration, may_return: bool) -> bool {
        match self {
            Self::Admitting(_) | Self::Running(_) => {
                let (was_admitted, has_volumes) = (self.was_admitted(), self.has_volumes());
                *self =
                    Self::Terminating(Terminating { why, deadline, retry: None, was_admitted, has_volumes });
                return true;
            }
            Self::Terminating(end) => {
                let is_news = end.why == EndCause::Completed
                    || end.why == EndCause::Deleted && matches!(why, EndCause::Evicted { .. });
                if is_news {
                    end.why = why;
                }
                end.deadline = end.deadline.min(deadline);
            }
            // Should a static pod's manifest come back, this is what decides whether it runs again.
            Self::Terminated(end) if may_return => end.why = why,
            Self::Terminated(_) => {}
        }
        false
    }

    /// A pod that is ending has at most so much time left.
    pub(crate) fn hasten(&mut self, deadline: Duration) {
        if let Self::Terminating(end) = self {
            end.deadline = end.deadline.min(deadline);
        }
    }

    /// Nothing of an ending pod runs any more.
    pub(crate) fn ended(&mut self) {
        if let Self::Terminating(end) = self {
            *self = Self::Terminated(Terminated {
                was_admitted: end.was_admitted,
                ..Terminated::of(end.why.clone(), Step::Todo)
            });
        }
    }

    /// Something of a pod that had ended runs.
    pub(crate) fn end_again(&mut self, deadline: Duration) {
        if let Self::Terminated(end) = self {
            *self = Self::Terminating(Terminating {
                why: end.why.clone(),
                deadline,
                retry: None,
                was_admitted: end.was_admitted,
                has_volumes: false,
            });
        }
    }
}

impl Running {
    /// A pod that is let in.
    pub(crate) fn new(since: Timestamp) -> Self {
        Self {
            since,
            cgroup: Step::Todo,
            limits: None,
            volumes: PodVolumes::default(),
            sandbox: Step::Todo,
            is_network_wait_told: false,
        }
    }

    /// Whether it has what a sandbox needs.
    pub(crate) fn is_prepared(&self) -> bool {
        self.cgroup.is_done() && self.volumes.are_there()
    }
}

impl PodVolumes {
    /// Whether all of them are there.
    pub(crate) fn are_there(&self) -> bool {
        self.step.is_done() && self.are_published
    }

    pub(crate) fn is_due(&self, now: Now) -> bool {
        let refresh = self.refresh_at.filter(|_| self.step.is_done());
        self.step.is_due(now) || refresh.is_some_and(|at| at <= now.mono)
    }

    /// When they are looked at next without any further input.
    pub(crate) fn next_at(&self, is_looking: bool, now: Now) -> Option<Duration> {
        let refresh = self.refresh_at.filter(|_| self.step.is_done() && !is_looking);
        earliest(self.step.next_at(now), refresh)
    }

    /// What they show has changed. A look under way may have missed it.
    pub(crate) fn changed(&mut self, is_looking: bool, now: Now) {
        match self.step {
            _ if is_looking => self.refresh_at = Some(now.mono),
            Step::Done => self.refresh_at = Some(now.mono),
            Step::Failed(_) => self.step = Step::Todo,
            Step::Todo => {}
        }
    }

    /// A container has come that uses more of them. It waits for those.
    pub(crate) fn more(&mut self, is_looking: bool, now: Now) {
        self.changed(is_looking, now);
        self.step = Step::Todo;
    }

    /// All of them are there and show what they should.
    pub(crate) fn synced(&mut self, refresh_after: Option<Duration>, now: Now) {
        self.step = Step::Done;
        self.missing.files_made();
        // What changed while this was under way may have come too late for it.
        self.refresh_at = earliest(self.refresh_at, refresh_after.map(|after| now.after(after)));
    }

    /// Some are not. Returns whether that is to be told: the same errors again less and less often, as the pauses grow.
    pub(crate) fn failed(&mut self, error: String, are_in_use: bool, now: Now) -> bool {
        let is_first = self.step.retry().is_none_or(|r| r.error != error);
        let retry = Retry::after(self.step.retry(), error, Pauses::VOLUMES, now);
        let is_told = is_first || retry.failures.is_power_of_two();
        if self.step.is_done() || are_in_use {
            // A refresh failed: what is mounted stays in use.
            self.step = Step::Done;
            self.missing.files_made();
            self.refresh_at = earliest(self.refresh_at, Some(retry.next_at));
        } else if self.refresh_at.take().is_some_and(|at| at <= now.mono) {
            self.step = Step::Todo;
        } else {
            self.step = Step::Failed(retry);
        }
        is_told
    }
}

impl Terminated {
    fn of(why: EndCause, made: Step) -> Self {
        Self {
            why,
            volumes: made.clone(),
            folder: made.clone(),
            cgroup: made,
            object: Step::Todo,
            cleanup: None,
            logs: None,
            was_admitted: false,
        }
    }

    /// A pod that was turned away: nothing was made for it, unless by an earlier process.
    fn rejected(rejection: Rejection, has_remains: bool) -> Self {
        Self::of(EndCause::Rejected(rejection), if has_remains { Step::Todo } else { Step::Done })
    }

    /// A pod of which only logs are left, which are to go.
    pub(crate) fn but_for_logs() -> Self {
        Self { object: Step::Done, logs: Some(Step::Todo), ..Self::of(EndCause::Deleted, Step::Done) }
    }

    /// Whether nothing is left that was made for it on the node.
    pub(crate) fn is_clean(&self) -> bool {
        self.volumes.is_done() && self.cgroup.is_done()
    }
}

/// One thing that is to be brought about and may need several tries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) enum Step {
    /// Not tried, or to be done again.
    #[default]
    Todo,
    /// Holds.
    Done,
    /// Failed; tried again.
    Failed(Retry),
}

impl Step {
    /// Whether it may be started now.
    pub(crate) fn is_due(&self, now: Now) -> bool {
        match self {
            Self::Todo => true,
            Self::Done => false,
            Self::Failed(retry) => retry.next_at <= now.mono,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        *self == Self::Done
    }

    /// When it becomes due by itself. What is due already was started, or waits for a result.
    pub(crate) fn next_at(&self, now: Now) -> Option<Duration> {
        self.retry().map(|r| r.next_at).filter(|at| *at > now.mono)
    }

    pub(crate) fn retry(&self) -> Option<&Retry> {
        match self {
            Self::Failed(retry) => Some(retry),
            _ => None,
        }
    }

    /// What it is after an attempt that ended so.
    pub(crate) fn after(&self, outcome: &Outcome, now: Now) -> Self {
        match outcome {
            Outcome::Failed(failure) => {
                Self::Failed(Retry::after(self.retry(), failure.message.clone(), Pauses::CALLS, now))
            }
            Outcome::Cancelled => Self::Todo,
            _ => Self::Done,
        }
    }

    /// What it is after a failure.
    pub(crate) fn fail(&mut self, error: String, now: Now) {
        *self = Self::Failed(Retry::after(self.retry(), error, Pauses::CALLS, now));
    }
}
