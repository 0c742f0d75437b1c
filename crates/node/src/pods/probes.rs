//! Probes: when the next attempt is due, what an outcome means, and what follows from it
//! (<https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/>).

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use model::pod;
use model::probe::{ProbeKind, ProbeOutcome};
use model::{ContainerId, ContainerState, Now};

use super::Context;
use super::record::{ContainerMemory, KillCause, Phase, PodRecord};
use super::slot::Slot;
use crate::effect::Action;
use crate::outbox::{Outbox, Place};
use crate::schedule::earliest;

pub(crate) const KINDS: [ProbeKind; 3] = [ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness];

/// One probe of one container instance.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ProbeMemory {
    /// The instance this is about; another instance starts anew.
    pub(crate) container: ContainerId,
    /// The verdict so far; `None` before a threshold was reached.
    pub(crate) verdict: Option<bool>,
    /// The last outcome and how often it came in a row.
    run: (bool, u32),
    /// Monotonic time of the next attempt.
    pub(crate) next_at: Duration,
    /// Monotonic time at which the initial delay is over. It counts from the container's start,
    /// whichever process of the node saw that.
    not_before: Duration,
    /// Failed for good: the container is being restarted.
    is_on_hold: bool,
}

impl ProbeMemory {
    /// A probe of an instance seen for the first time, `age` after its start. It is due as soon as
    /// its initial delay is over.
    pub(crate) fn new(container: ContainerId, probe: &Probe, age: Duration, now: Now) -> Self {
        let initial = probe.initial_delay_seconds.and_then(|v| u64::try_from(v).ok()).unwrap_or(0);
        let not_before = now.after(Duration::from_secs(initial).saturating_sub(age));
        Self { container, verdict: None, run: (false, 0), next_at: not_before, not_before, is_on_hold: false }
    }

    /// Plans the next attempt for this monotonic time, or for the end of the initial delay.
    pub(crate) fn plan(&mut self, at: Duration) {
        self.next_at = at.max(self.not_before);
    }
}

/// The spec of a container's probe.
pub(crate) fn spec(container: &Container, kind: ProbeKind) -> Option<&Probe> {
    match kind {
        ProbeKind::Startup => container.startup_probe.as_ref(),
        ProbeKind::Liveness => container.liveness_probe.as_ref(),
        ProbeKind::Readiness => container.readiness_probe.as_ref(),
    }
}

/// Whether a running instance counts as started: its postStart hook returned and its startup
/// probe, if any, succeeded.
pub(crate) fn is_started(container: &Container, memory: &ContainerMemory, id: &ContainerId) -> bool {
    memory.hook_done.as_ref() == Some(id) && passed(container, memory, id, ProbeKind::Startup)
}

/// Whether a running instance is ready to serve.
pub(crate) fn is_ready(container: &Container, memory: &ContainerMemory, id: &ContainerId) -> bool {
    is_started(container, memory, id) && passed(container, memory, id, ProbeKind::Readiness)
}

fn passed(container: &Container, memory: &ContainerMemory, id: &ContainerId, kind: ProbeKind) -> bool {
    spec(container, kind).is_none()
        || memory.probes.get(&kind).is_some_and(|p| p.container == *id && p.verdict == Some(true))
}

pub(crate) fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default))
}

fn threshold(value: Option<i32>, default: u32) -> u32 {
    value.and_then(|v| u32::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default)
}

impl PodRecord {
    /// Starts the attempts that are due and returns when the next one is.
    pub(crate) fn drive_probes(&mut self, ctx: &Context<'_>, out: &mut Outbox) -> Option<Duration> {
        let pod = self.desired.pod()?.clone();
        let is_ending = !matches!(self.phase, Phase::Running { .. });
        let pod_ip = self.pod_ips(ctx).into_iter().next();
        let mut next: Option<Duration> = None;
        for container in pod::containers(&pod) {
            let has_probe = KINDS.iter().any(|k| spec(&container.spec, *k).is_some());
            let running = has_probe.then(|| self.observed.as_ref()?.latest(&container.spec.name)).flatten();
            let Some(running) = running else { continue };
            let ContainerState::Running { started_at } = running.state else { continue };
            let (id, created_at) = (running.id.clone(), running.created_at);
            let age = ctx.now.since_wall(started_at.unwrap_or(created_at));
            for kind in KINDS {
                let Some(probe) = spec(&container.spec, kind) else { continue };
                if is_ending && kind != ProbeKind::Readiness {
                    continue;
                }
                let slot = Slot::Probe(container.spec.name.clone(), kind);
                let is_busy = self.busy.contains_key(&slot);
                let memory = self.memory(&container.spec.name);
                let is_started = is_started(&container.spec, memory, &id);
                let is_through_hook = memory.hook_done.as_ref() == Some(&id);
                if memory.probes.get(&kind).is_none_or(|p| p.container != id) {
                    let mut new = ProbeMemory::new(id.clone(), probe, age, ctx.now);
                    if kind == ProbeKind::Liveness {
                        // What just started is hardly ever dead: asked at once, a server that
                        // takes a moment to listen would look so. Upstream's first attempt, too,
                        // comes up to a period after the start.
                        new.plan(ctx.now.after(seconds(probe.period_seconds, 10).saturating_sub(age)));
                    }
                    memory.probes.insert(kind, new);
                }
                let Some(state) = memory.probes.get_mut(&kind) else { continue };
                let is_wanted = match kind {
                    ProbeKind::Startup => is_through_hook && state.verdict != Some(true),
                    ProbeKind::Liveness | ProbeKind::Readiness => is_started,
                };
                if is_busy || state.is_on_hold || !is_wanted {
                    continue;
                }
                if state.next_at > ctx.now.mono {
                    next = earliest(next, Some(state.next_at));
                    continue;
                }
                let period = seconds(probe.period_seconds, 10);
                // Keeps the rhythm; after a pause it does not catch up.
                state.next_at = (state.next_at + period).max(ctx.now.mono + period / 2);
                let action = Action::Probe {
                    pod: pod.clone(),
                    container: container.spec.name.clone(),
                    id: id.clone(),
                    kind,
                    pod_ip: pod_ip.clone(),
                };
                self.start(slot, action, out);
            }
        }
        next
    }

    /// Takes in the outcome of an attempt.
    pub(crate) fn probed(
        &mut self,
        name: &str,
        kind: ProbeKind,
        outcome: &ProbeOutcome,
        ctx: &Context<'_>,
        out: &mut Outbox,
    ) {
        let Some(pod) = self.desired.pod().cloned() else { return };
        let Some(container) = pod::container(&pod, name) else { return };
        let Some(probe) = spec(&container.spec, kind) else { return };
        let running = self.observed.as_ref().and_then(|o| o.latest(name)).filter(|c| c.state.is_running());
        let Some(id) = running.map(|c| c.id.clone()) else { return };
        if self.memory(name).probes.get(&kind).is_none_or(|p| p.container != id) {
            return;
        }
        if let Some((is_good, message)) = event_of(kind, outcome) {
            let reason =
                if is_good { model::reason::event::PROBE_WARNING } else { model::reason::event::UNHEALTHY };
            self.record_container_event(container.kind, name, true, reason, message, out);
        }
        let good = match outcome {
            ProbeOutcome::Success | ProbeOutcome::Warning(_) => true,
            ProbeOutcome::Failure(_) => false,
            // An attempt that could not be made says nothing about the container.
            ProbeOutcome::Error { .. } => return,
        };
        let Some(state) = self.memory(name).probes.get_mut(&kind) else { return };
        state.run = if state.run.0 == good { (good, state.run.1.saturating_add(1)) } else { (good, 1) };
        let needed =
            if good { threshold(probe.success_threshold, 1) } else { threshold(probe.failure_threshold, 3) };
        let crossed = state.run.1 >= needed && state.verdict != Some(good);
        if crossed {
            state.verdict = Some(good);
        }
        if crossed && kind == ProbeKind::Startup && good {
            // Readiness is asked at once, not at the end of its current period.
            if let Some(readiness) = self.memory(name).probes.get_mut(&ProbeKind::Readiness) {
                readiness.plan(readiness.next_at.min(ctx.now.mono));
            }
        }
        if crossed && !good && kind != ProbeKind::Readiness {
            let memory = self.memory(name);
            if let Some(state) = memory.probes.get_mut(&kind) {
                state.is_on_hold = true;
            }
            let why = if kind == ProbeKind::Liveness { KillCause::Liveness } else { KillCause::Startup };
            memory.kill = Some((id, why));
        }
    }

    /// Starts an action in a slot that is free.
    pub(crate) fn start(&mut self, slot: Slot, action: Action, out: &mut Outbox) {
        debug_assert!(!self.busy.contains_key(&slot), "{slot:?} is taken");
        let id = out.start(Place::Pod(self.uid.clone(), slot.clone()), action);
        self.busy.insert(slot, id);
    }
}

/// Whether an event about an outcome tells of something good, and its message, in upstream's words.
fn event_of(kind: ProbeKind, outcome: &ProbeOutcome) -> Option<(bool, String)> {
    let kind = kind.as_str();
    match outcome {
        ProbeOutcome::Success => None,
        ProbeOutcome::Warning(text) => Some((true, format!("{kind} probe warning: {text}"))),
        ProbeOutcome::Failure(text) => Some((false, format!("{kind} probe failed: {text}"))),
        ProbeOutcome::Error { state, text } => {
            let state = state.as_str();
            Some((false, format!("{kind} probe errored and resulted in {state} state: {text}")))
        }
    }
}
