//! The life of each pod: where it is found ([`registry`]), what is wanted of it ([`record`]), what an earlier process left of it
//! ([`adopt`]), what to do about it ([`plan`]),
//! doing it ([`running`], [`ending`], [`removal`], [`images`], [`probes`]), taking in how it went
//! ([`results`]), and telling the API server ([`report`]).

mod adopt;
pub(crate) mod backoff;
mod ending;
pub(crate) mod grant;
mod images;
pub(crate) mod missing_volumes;
mod news;
pub(crate) mod plan;
pub(crate) mod probes;
pub(crate) mod record;
pub(crate) mod registry;
mod removal;
mod report;
mod restart_all;
pub(crate) mod results;
pub(crate) mod rules;
mod running;
mod slot;
#[cfg(test)]
mod tests;

use std::time::Duration;

use model::Now;
use model::pod::{self, ContainerKind};

pub(crate) use slot::Slot;

use crate::effect::{Action, EventObject, EventRecord};
use crate::node_status::NodeFacts;
use crate::outbox::Outbox;
use crate::schedule::earliest;
use crate::settings::Settings;
use record::{Phase, PodRecord};

/// What a pod may know of its surroundings in one step.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) now: Now,
    pub(crate) settings: &'a Settings,
    /// Why the runtime's network is not ready; `None` when it is.
    pub(crate) network_wait: Option<&'a str>,
    /// What the node is and has.
    pub(crate) facts: &'a NodeFacts,
    /// The node's addresses, primary first.
    pub(crate) host_ips: &'a [String],
}

impl PodRecord {
    /// One round: decides everything that can be decided now. Returns when the next round is due
    /// without any further input.
    pub(crate) fn drive(&mut self, ctx: &Context<'_>, out: &mut Outbox) -> Option<Duration> {
        let mut next = self.drive_observation(ctx, out);
        next = earliest(
            next,
            match self.phase {
                Phase::Admitting => None,
                Phase::Running { .. } => self.drive_running(ctx, out),
                Phase::Terminating(_) | Phase::Terminated(_) => self.drive_ending(ctx, out),
            },
        );
        // What the round found stale is read at once, not in the next round.
        next = earliest(next, self.drive_observation(ctx, out));
        earliest(next, self.drive_report(ctx, out))
    }

    /// Reads the pod again when its last observation may be wrong.
    fn drive_observation(&mut self, ctx: &Context<'_>, out: &mut Outbox) -> Option<Duration> {
        if !self.is_stale || self.busy.contains_key(&Slot::Observe) {
            return None;
        }
        if let Some(at) = self.read_retry.as_ref().map(|r| r.next_at).filter(|at| *at > ctx.now.mono) {
            return Some(at);
        }
        self.start(Slot::Observe, Action::Observe { uid: self.uid.clone(), key: self.key.clone() }, out);
        None
    }

    /// Something happened that the last observation does not show.
    pub(crate) fn mark_stale(&mut self) {
        self.is_stale = true;
        if self.busy.contains_key(&Slot::Observe) {
            self.read_again = true;
        }
    }

    fn record_event(&self, is_warning: bool, reason: &'static str, message: String, out: &mut Outbox) {
        self.record_about(None, is_warning, reason, message, out);
    }

    fn record_container_event(
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

    fn record_about(
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
