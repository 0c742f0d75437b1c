//! Probes: when the next attempt is due, what an outcome means, and what follows from it
//! (<https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/>).

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use model::ContainerState;
use model::pod;
use model::probe::{ProbeKind, ProbeOutcome};

use super::container::{Instance, KillCause, Stage};
use super::probe_state::ProbeState;
use super::record::PodRecord;
use crate::cx::Cx;
use crate::effect::ProbeAction;
use crate::schedule::earliest;
use crate::tasks::PodTask;

pub(crate) const KINDS: [ProbeKind; 3] = [ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness];

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
pub(crate) fn is_started(container: &Container, instance: &Instance) -> bool {
    instance.stage == Stage::Started && passed(container, instance, ProbeKind::Startup)
}

/// Whether a running instance is ready to serve.
pub(crate) fn is_ready(container: &Container, instance: &Instance) -> bool {
    is_started(container, instance) && passed(container, instance, ProbeKind::Readiness)
}

fn passed(container: &Container, instance: &Instance, kind: ProbeKind) -> bool {
    spec(container, kind).is_none() || instance.probes.get(&kind).is_some_and(|p| p.verdict == Some(true))
}

pub(crate) fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default))
}

fn threshold(value: Option<i32>, default: u32) -> u32 {
    value.and_then(|v| u32::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default)
}

impl PodRecord {
    /// Starts the attempts that are due and returns when the next one is.
    pub(crate) fn drive_probes(&mut self, cx: &mut Cx<'_>) -> Option<Duration> {
        let pod = self.desired.pod()?.clone();
        let is_ending = !self.life.is_running();
        let pod_ip = self.pod_ips(cx).into_iter().next();
        let mut next: Option<Duration> = None;
        for container in pod::containers(&pod) {
            let has_probe = KINDS.iter().any(|k| spec(&container.spec, *k).is_some());
            let running = has_probe.then(|| self.seen.last()?.latest(&container.spec.name)).flatten();
            let Some(running) = running else { continue };
            let ContainerState::Running { started_at } = running.state else { continue };
            let (id, created_at) = (running.id.clone(), running.created_at);
            let age = cx.now.since_wall(started_at.unwrap_or(created_at));
            for kind in KINDS {
                let Some(probe) = spec(&container.spec, kind) else { continue };
                if is_ending && kind != ProbeKind::Readiness {
                    continue;
                }
                let task = PodTask::Probe(container.spec.name.clone(), kind);
                let is_busy = self.tasks.is_open(&task);
                let instance = self.container_mut(&container.spec.name).instance_mut(&id);
                let is_started = is_started(&container.spec, instance);
                let is_through_hook = instance.stage == Stage::Started;
                let state = instance.probes.entry(kind).or_insert_with(|| {
                    let mut new = ProbeState::new(probe, age, cx.now);
                    if kind == ProbeKind::Liveness {
                        // What just started is hardly ever dead: asked at once, a server that
                        // takes a moment to listen would look so. Upstream's first attempt, too,
                        // comes up to a period after the start.
                        new.plan(cx.now.after(seconds(probe.period_seconds, 10).saturating_sub(age)));
                    }
                    new
                });
                let is_wanted = match kind {
                    ProbeKind::Startup => is_through_hook && state.verdict != Some(true),
                    ProbeKind::Liveness | ProbeKind::Readiness => is_started,
                };
                if is_busy || state.is_on_hold || !is_wanted {
                    continue;
                }
                if state.next_at > cx.now.mono {
                    next = earliest(next, Some(state.next_at));
                    continue;
                }
                let period = seconds(probe.period_seconds, 10);
                // Keeps the rhythm; after a pause it does not catch up.
                state.next_at = (state.next_at + period).max(cx.now.mono + period / 2);
                let action = ProbeAction::Attempt {
                    pod: pod.clone(),
                    container: container.spec.name.clone(),
                    id: id.clone(),
                    kind,
                    pod_ip: pod_ip.clone(),
                };
                self.start(task, action, cx.out);
            }
        }
        next
    }

    /// Takes in the outcome of an attempt.
    pub(crate) fn probed(&mut self, name: &str, kind: ProbeKind, outcome: &ProbeOutcome, cx: &mut Cx<'_>) {
        let Some(pod) = self.desired.pod().cloned() else { return };
        let Some(container) = pod::container(&pod, name) else { return };
        let Some(probe) = spec(&container.spec, kind) else { return };
        let running = self.seen.last().and_then(|o| o.latest(name)).filter(|c| c.state.is_running());
        let Some(id) = running.map(|c| c.id.clone()) else { return };
        if self.instance_mut(&id).is_none_or(|instance| !instance.probes.contains_key(&kind)) {
            return;
        }
        if let Some((is_good, message)) = event_of(kind, outcome) {
            let reason =
                if is_good { model::reason::event::PROBE_WARNING } else { model::reason::event::UNHEALTHY };
            self.record_container_event(container.kind, name, true, reason, message, cx.out);
        }
        let good = match outcome {
            ProbeOutcome::Success | ProbeOutcome::Warning(_) => true,
            ProbeOutcome::Failure(_) => false,
            // An attempt that could not be made says nothing about the container.
            ProbeOutcome::Error { .. } => return,
        };
        let Some(instance) = self.instance_mut(&id) else { return };
        let Some(state) = instance.probes.get_mut(&kind) else { return };
        state.run = if state.run.0 == good { (good, state.run.1.saturating_add(1)) } else { (good, 1) };
        let needed =
            if good { threshold(probe.success_threshold, 1) } else { threshold(probe.failure_threshold, 3) };
        let crossed = state.run.1 >= needed && state.verdict != Some(good);
        if crossed {
            state.verdict = Some(good);
            state.is_on_hold |= !good && kind != ProbeKind::Readiness;
        }
        if crossed && kind == ProbeKind::Startup && good {
            // Readiness is asked at once, not at the end of its current period.
            if let Some(readiness) = instance.probes.get_mut(&ProbeKind::Readiness) {
                readiness.plan(readiness.next_at.min(cx.now.mono));
            }
        }
        if crossed && !good && kind != ProbeKind::Readiness {
            let why = if kind == ProbeKind::Liveness { KillCause::Liveness } else { KillCause::Startup };
            instance.kill = Some(why);
        }
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
