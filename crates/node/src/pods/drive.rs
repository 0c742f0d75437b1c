//! One round of a pod: in whichever phase it is, what can be decided is decided, and reported.

use std::time::Duration;

use model::pod::{self, ContainerKind};

use super::life::Phase;
use super::record::PodRecord;
use crate::cx::Cx;
use crate::effect::{Action, EventObject, EventRecord, RuntimeAction};
use crate::outbox::Outbox;
use crate::schedule::earliest;
use crate::tasks::{Owner, PodTask};

impl PodRecord {
    /// One round: decides everything that can be decided now. Returns when the next round is due
    /// without any further input.
    pub(crate) fn drive(&mut self, cx: &mut Cx<'_>) -> Option<Duration> {
        let mut next = self.drive_observation(cx);
        next = earliest(
            next,
            match self.life.phase() {
                Phase::Admitting => None,
                Phase::Running => self.drive_running(cx),
                Phase::Terminating => self.drive_terminating(cx),
                Phase::Terminated => self.drive_terminated(cx),
            },
        );
        // What the round found stale is read at once, not in the next round.
        next = earliest(next, self.drive_observation(cx));
        earliest(next, self.drive_report(cx))
    }

    /// Reads the pod again when its last observation may be wrong.
    fn drive_observation(&mut self, cx: &mut Cx<'_>) -> Option<Duration> {
        let at = self.seen.read_at()?;
        if at > cx.now.mono {
            return Some(at);
        }
        self.seen.begin_read();
        self.start(
            PodTask::Observe,
            RuntimeAction::Observe { uid: self.uid.clone(), key: self.key.clone() },
            cx.out,
        );
        None
    }

    /// Starts an action for a task that is not under way.
    pub(crate) fn start(&mut self, task: PodTask, action: impl Into<Action>, out: &mut Outbox) {
        debug_assert!(!self.tasks.is_open(&task), "{task:?} is under way");
        debug_assert!(task.may_end_in(self.life.phase()), "{task:?} of a pod in {:?}", self.life.phase());
        let in_flight = out.start(Owner::Pod(self.uid.clone(), task.clone()), action);
        self.tasks.begin(task, in_flight);
    }

    pub(crate) fn record_event(
        &self,
        is_warning: bool,
        reason: &'static str,
        message: String,
        out: &mut Outbox,
    ) {
        self.record_about(None, is_warning, reason, message, out);
    }

    pub(super) fn record_container_event(
        &self,
        kind: ContainerKind,
        name: &str,
        is_warning: bool,
        reason: &'static str,
        message: String,
        out: &mut Outbox,
    ) {
        self.record_about(Some(pod::field_path(kind, name)), is_warning, reason, message, out);
    }

    pub(super) fn record_about(
        &self,
        field_path: Option<String>,
        is_warning: bool,
        reason: &'static str,
        message: String,
        out: &mut Outbox,
    ) {
        let about = EventObject::Pod { key: self.key.clone(), uid: self.uid.clone(), field_path };
        out.record(EventRecord { about, is_warning, reason: reason.into(), message });
    }
}
