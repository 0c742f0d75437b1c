//! The plan of a running pod: which sandbox it needs, which containers are to be started, which
//! ended, which wait, and whether it is over. A pure function of what is wanted, what was
//! observed and what is remembered; [`running`](super::running) carries it out.
//!
//! The rules are those of the pod lifecycle documentation
//! (<https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/>) and KEP-753 (sidecars).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;
use model::pod::{self, ContainerKind, RestartPolicy};
use model::{
    ContainerId, ContainerObservation, ContainerState, Now, Pod, PodObservation, SandboxId,
    SandboxObservation,
};

use super::container::{Answer, ContainerRecord, EndStep, Instance, KillCause};
use super::rules::RestartRules;

/// What a container whose end nobody saw counts as: killed.
const LOST_EXIT_CODE: i32 = 137;

/// What the plan is made from.
#[derive(Clone, Copy)]
pub(crate) struct PlanInputs<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) observed: &'a PodObservation,
    pub(crate) containers: &'a BTreeMap<String, Box<ContainerRecord>>,
    /// Sandboxes that were stopped for certain.
    pub(crate) stopped: &'a BTreeSet<SandboxId>,
    /// Regular containers that have ended for good by what the API server was told, and of which the
    /// runtime holds nothing any more.
    pub(crate) ended: &'a BTreeSet<String>,
    /// Which restart rules of containers are obeyed.
    pub(crate) rules: RestartRules,
    pub(crate) now: Now,
}

/// What to do about a pod that is to run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// The sandbox.
    pub(crate) sandbox: SandboxPlan,
    /// Containers to start, in this order.
    pub(crate) start: Vec<StartPlan>,
    /// Running containers to end.
    pub(crate) stop: Vec<StopPlan>,
    /// Containers that wait out their restart back-off.
    pub(crate) back_off: Vec<BackOffPlan>,
    /// Every container has ended for good: the pod is over.
    pub(crate) is_over: bool,
}

/// What to do about the sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum SandboxPlan {
    /// Nothing: it is there, or none is needed any more.
    #[default]
    Keep,
    /// Make one.
    Create {
        /// Its attempt number.
        attempt: u32,
    },
    /// Stop these first; then there is room for a new one.
    Replace {
        /// What is in the way.
        stop: Vec<SandboxId>,
    },
}

/// A container to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StartPlan {
    pub(crate) name: String,
    pub(crate) kind: ContainerKind,
    /// The restart count of the new instance.
    pub(crate) attempt: u32,
    /// The instance it follows.
    pub(crate) after: Option<ContainerId>,
}

/// A running container to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StopPlan {
    pub(crate) name: String,
    pub(crate) id: ContainerId,
    pub(crate) why: KillCause,
    /// Another takes its place, however it ends.
    pub(crate) is_replaced: bool,
}

/// A container in `CrashLoopBackOff`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BackOffPlan {
    pub(crate) name: String,
    /// The instance that ended.
    pub(crate) after: ContainerId,
    pub(crate) delay: Duration,
    /// Monotonic.
    pub(crate) until: Duration,
}

/// Makes the plan.
pub(crate) fn plan(inputs: PlanInputs<'_>) -> Plan {
    let newest = inputs.observed.sandboxes.first();
    let usable = newest.filter(|s| s.is_ready && (pod::is_host_network(inputs.pod) || !s.ips.is_empty()));
    match usable {
        None => without_sandbox(inputs),
        Some(sandbox) => {
            let mut plan = with_sandbox(inputs, &sandbox.id);
            let surplus: Vec<_> = inputs.observed.sandboxes.iter().skip(1).filter(|s| s.is_ready).collect();
            if !surplus.is_empty() {
                plan.start.clear();
                // What runs in one ends first, each container in its own time.
                let is_used = |s: &&SandboxObservation| {
                    inputs.observed.containers.iter().any(|c| c.sandbox_id == s.id && c.state.is_running())
                };
                let stop: Vec<_> =
                    surplus.into_iter().filter(|s| !is_used(s)).map(|s| s.id.clone()).collect();
                if !stop.is_empty() {
                    plan.sandbox = SandboxPlan::Replace { stop };
                }
            }
            plan
        }
    }
}

/// The names that would be started first in a fresh sandbox, so that their images can be
/// fetched while volumes and sandbox are made.
pub(crate) fn first_to_start(pod: &Pod) -> Vec<String> {
    let mut all = pod::containers(pod).peekable();
    match all.peek() {
        Some(first) if first.kind < ContainerKind::Regular => vec![first.spec.name.clone()],
        _ => all.filter(|c| c.kind == ContainerKind::Regular).map(|c| c.spec.name.clone()).collect(),
    }
}

fn without_sandbox(inputs: PlanInputs<'_>) -> Plan {
    let observed = inputs.observed;
    if !wants_sandbox(inputs) {
        return Plan { is_over: true, ..Plan::default() };
    }
    let stop: Vec<StopPlan> = observed
        .containers
        .iter()
        .filter(|c| c.state.is_running())
        .map(|c| StopPlan {
            name: c.name.clone(),
            id: c.id.clone(),
            why: KillCause::SandboxGone,
            is_replaced: true,
        })
        .collect();
    // A dead one, too: what it holds, a host port above all, is in the way of its successor.
    let held: Vec<_> =
        observed.sandboxes.iter().map(|s| s.id.clone()).filter(|id| !inputs.stopped.contains(id)).collect();
    let sandbox = match observed.sandboxes.first() {
        _ if !stop.is_empty() => SandboxPlan::Keep,
        _ if !held.is_empty() => SandboxPlan::Replace { stop: held },
        Some(newest) => SandboxPlan::Create { attempt: newest.attempt.saturating_add(1) },
        None => SandboxPlan::Create { attempt: 0 },
    };
    Plan { sandbox, stop, ..Plan::default() }
}

/// Whether anything of the pod is still to run, so that a lost sandbox is worth replacing.
fn wants_sandbox(inputs: PlanInputs<'_>) -> bool {
    let observed = inputs.observed;
    let had_sandbox = !observed.sandboxes.is_empty();
    // Upstream does not give a pod that must not restart a second sandbox once it had containers.
    if pod::restart_policy(inputs.pod) == RestartPolicy::Never
        && had_sandbox
        && !observed.containers.is_empty()
    {
        return false;
    }
    pod::containers(inputs.pod).filter(|c| c.kind == ContainerKind::Regular).any(|c| {
        match observed.latest(&c.spec.name) {
            None => !inputs.ended.contains(&c.spec.name),
            Some(latest)
                if inputs.containers.get(&c.spec.name).is_some_and(|m| m.is_replaced(&latest.id)) =>
            {
                true
            }
            Some(latest) => match &latest.state {
                ContainerState::Exited(exit) => {
                    inputs.rules.restarts_after(inputs.pod, &c.spec, c.kind, exit.exit_code)
                }
                // Killed with its sandbox, or lost.
                ContainerState::Running { .. } | ContainerState::Created | ContainerState::Unknown => {
                    inputs.rules.restarts_after(inputs.pod, &c.spec, c.kind, LOST_EXIT_CODE)
                }
            },
        }
    })
}

fn with_sandbox(inputs: PlanInputs<'_>, sandbox: &SandboxId) -> Plan {
    let mut plan = Plan::default();
    // Beside what a lost sandbox left: an instance whose start was given up and came all the same.
    let is_stray = |c: &&ContainerObservation| {
        c.sandbox_id != *sandbox || inputs.observed.latest(&c.name).is_some_and(|latest| latest.id != c.id)
    };
    for stray in inputs.observed.containers.iter().filter(|c| c.state.is_running()).filter(is_stray) {
        plan.stop.push(StopPlan {
            name: stray.name.clone(),
            id: stray.id.clone(),
            why: KillCause::SandboxGone,
            is_replaced: false,
        });
    }
    let specs: Vec<_> = pod::containers(inputs.pod).collect();
    let is_initialized = inputs.observed.is_initialized(inputs.pod, Some(sandbox));
    // How far the init sequence has come: what stands before that had its turn, even if nothing
    // of it is left, and is not waited for again.
    let reached = specs.iter().rposition(|c| {
        c.kind < ContainerKind::Regular
            && inputs.observed.containers.iter().any(|o| o.name == c.spec.name && o.sandbox_id == *sandbox)
    });
    let mut regular_over = true;
    let mut init_passed = true;
    for (index, c) in specs.iter().enumerate() {
        let had_turn = reached.is_some_and(|reached| index < reached);
        let step = ContainerContext { inputs, sandbox, spec: &c.spec, kind: c.kind };
        match c.kind {
            ContainerKind::Init if is_initialized || had_turn && step.latest().is_none() => {}
            ContainerKind::Init if !init_passed => {}
            ContainerKind::Init => match step.init(&mut plan) {
                InitProgress::Passed => {}
                InitProgress::Pending => init_passed = false,
                InitProgress::Failed => return Plan { is_over: true, stop: plan.stop, ..Plan::default() },
            },
            // A sidecar that was started is kept up from then on; one whose turn has not come waits.
            ContainerKind::Sidecar if !init_passed && step.latest().is_none() => {}
            ContainerKind::Sidecar => {
                let is_up = step.keep_up(&mut plan);
                init_passed &= is_up || is_initialized || had_turn;
            }
            ContainerKind::Regular if !init_passed => regular_over = false,
            ContainerKind::Regular => {
                step.keep_up(&mut plan);
                regular_over &= step.is_over() || step.is_ending_for_good(&plan);
            }
            ContainerKind::Ephemeral => {
                if step.latest_anywhere().is_none() {
                    step.start(&mut plan, None);
                }
            }
        }
    }
    plan.start.retain(|s| !plan.stop.iter().any(|stop| stop.name == s.name));
    if regular_over {
        plan.start.clear();
        plan.back_off.clear();
        // The pod's end stops whatever still runs.
        plan.stop.clear();
        plan.is_over = true;
    }
    plan
}

/// One container while the plan is made.
struct ContainerContext<'a> {
    inputs: PlanInputs<'a>,
    sandbox: &'a SandboxId,
    spec: &'a Container,
    kind: ContainerKind,
}

enum InitProgress {
    Passed,
    Pending,
    Failed,
}

impl ContainerContext<'_> {
    /// The newest instance in the current sandbox.
    fn latest(&self) -> Option<&ContainerObservation> {
        self.inputs
            .observed
            .containers
            .iter()
            .find(|c| c.name == self.spec.name && c.sandbox_id == *self.sandbox)
    }

    /// The newest instance in whichever sandbox: what ended well in an earlier one is not run again.
    fn latest_anywhere(&self) -> Option<&ContainerObservation> {
        self.inputs.observed.latest(&self.spec.name)
    }

    fn record(&self) -> Option<&ContainerRecord> {
        self.inputs.containers.get(&self.spec.name).map(Box::as_ref)
    }

    fn instance(&self, held: &ContainerObservation) -> Option<&Instance> {
        self.record()?.instance(&held.id)
    }

    /// One step of the init sequence.
    fn init(&self, plan: &mut Plan) -> InitProgress {
        let Some(latest) = self.latest() else {
            self.start(plan, self.latest_anywhere().map(|c| &c.id));
            return InitProgress::Pending;
        };
        match &latest.state {
            ContainerState::Running { .. } => InitProgress::Pending,
            ContainerState::Unknown
                if !self.inputs.rules.restarts_after(
                    self.inputs.pod,
                    self.spec,
                    self.kind,
                    LOST_EXIT_CODE,
                ) =>
            {
                InitProgress::Failed
            }
            _ if self.was_lost(latest) => {
                self.replace_lost(plan, latest);
                InitProgress::Pending
            }
            ContainerState::Exited(exit) if exit.exit_code == 0 => InitProgress::Passed,
            ContainerState::Exited(exit) => {
                if !self.inputs.rules.restarts_after(self.inputs.pod, self.spec, self.kind, exit.exit_code) {
                    return InitProgress::Failed;
                }
                self.restart(plan, latest);
                InitProgress::Pending
            }
            ContainerState::Created | ContainerState::Unknown => {
                self.restart(plan, latest);
                InitProgress::Pending
            }
        }
    }

    /// Keeps a sidecar or regular container as it should be. Returns whether the next container
    /// in the init sequence may follow.
    fn keep_up(&self, plan: &mut Plan) -> bool {
        let latest = match self.kind {
            ContainerKind::Sidecar => self.latest(),
            _ => self.latest_anywhere(),
        };
        let Some(latest) = latest else {
            if !self.inputs.ended.contains(&self.spec.name) {
                self.start(plan, self.latest_anywhere().map(|c| &c.id));
            }
            return false;
        };
        match &latest.state {
            ContainerState::Running { .. } if latest.sandbox_id != *self.sandbox => false,
            ContainerState::Running { .. } => {
                if let Some(why) = self.kill_cause(latest) {
                    let is_replaced = self.is_replaced_after(&why);
                    let (name, id) = (self.spec.name.clone(), latest.id.clone());
                    plan.stop.push(StopPlan { name, id, why, is_replaced });
                    return false;
                }
                self.is_started(latest)
            }
            _ if self.was_lost(latest) => {
                self.replace_lost(plan, latest);
                false
            }
            ContainerState::Exited(exit) => {
                if self.restarts(latest, exit.exit_code) {
                    self.restart(plan, latest);
                }
                false
            }
            // Never started: upstream, too, starts these whatever the policy.
            ContainerState::Created | ContainerState::Unknown => {
                self.restart(plan, latest);
                false
            }
        }
    }

    /// Whether the runtime does not know what became of an instance, or did not before the
    /// instance was stopped for that reason.
    fn was_lost(&self, latest: &ContainerObservation) -> bool {
        latest.state == ContainerState::Unknown || self.is_stopped(latest)
    }

    /// Whether an instance that was lost has been stopped for certain.
    fn is_stopped(&self, latest: &ContainerObservation) -> bool {
        let ending = self.instance(latest).and_then(|i| i.ending);
        ending.is_some_and(|ending| ending.step == EndStep::Lost)
    }

    /// Replaces an instance that may run still: two of them could spoil each other's data. How it
    /// ended nobody knows, so, as upstream does it, the policy is not asked.
    fn replace_lost(&self, plan: &mut Plan, latest: &ContainerObservation) {
        if self.is_stopped(latest) {
            self.restart(plan, latest);
        } else {
            let (name, id) = (self.spec.name.clone(), latest.id.clone());
            plan.stop.push(StopPlan { name, id, why: KillCause::Lost, is_replaced: false });
        }
    }

    /// Whether an instance that ended is followed by another.
    fn restarts(&self, latest: &ContainerObservation, exit_code: i32) -> bool {
        self.record().is_some_and(|m| m.is_replaced(&latest.id))
            || self.inputs.rules.restarts_after(self.inputs.pod, self.spec, self.kind, exit_code)
    }

    /// Whether an instance that is ended for this reason is followed by another, however it ends.
    /// No restart rule is asked, since there is no exit code yet.
    fn is_replaced_after(&self, why: &KillCause) -> bool {
        match why {
            KillCause::Changed => true,
            KillCause::Liveness | KillCause::Startup => {
                self.kind == ContainerKind::Sidecar
                    || self.inputs.rules.policy(self.inputs.pod, self.spec) != RestartPolicy::Never
            }
            // The exit code decides.
            KillCause::PostStart | KillCause::Lost | KillCause::SandboxGone => false,
        }
    }

    /// Whether a regular container runs, is being ended, and is not started again.
    fn is_ending_for_good(&self, plan: &Plan) -> bool {
        plan.stop.iter().any(|s| {
            s.name == self.spec.name
                && matches!(s.why, KillCause::Liveness | KillCause::Startup)
                && !s.is_replaced
        })
    }

    fn kill_cause(&self, latest: &ContainerObservation) -> Option<KillCause> {
        if let Some(why) = self.instance(latest).and_then(|i| i.kill.as_ref()) {
            return Some(why.clone());
        }
        // A container without the annotation was not made by a kubelet: leave it.
        let hash = latest.spec_hash?;
        (hash != model::hash::container_hash(self.spec)).then_some(KillCause::Changed)
    }

    /// Whether a sidecar lets the next container start: its postStart hook and its startup probe
    /// are through.
    fn is_started(&self, latest: &ContainerObservation) -> bool {
        self.instance(latest).is_some_and(|i| super::probes::is_started(self.spec, i))
    }

    /// Whether a regular container has ended for good.
    fn is_over(&self) -> bool {
        match self.latest_anywhere().map(|c| &c.state) {
            None => self.inputs.ended.contains(&self.spec.name),
            Some(ContainerState::Running { .. } | ContainerState::Created | ContainerState::Unknown) => false,
            Some(ContainerState::Exited(exit)) => self
                .latest_anywhere()
                .is_some_and(|c| !self.is_stopped(c) && !self.restarts(c, exit.exit_code)),
        }
    }

    fn start(&self, plan: &mut Plan, after: Option<&ContainerId>) {
        let seen = self.latest_anywhere().map(|c| c.attempt);
        let last = self.record().and_then(|m| m.last_attempt).max(seen);
        plan.start.push(StartPlan {
            name: self.spec.name.clone(),
            kind: self.kind,
            attempt: last.map_or(0, |a| a.saturating_add(1)),
            after: after.cloned(),
        });
    }

    fn restart(&self, plan: &mut Plan, latest: &ContainerObservation) {
        let inputs = self.inputs;
        let record = self.record();
        let Some(ended_at) = backs_off_from(latest, record) else {
            return self.start(plan, Some(&latest.id));
        };
        // The exit that the last start already answered: what waits now is that start's result.
        let is_answered = self.instance(latest).is_some_and(|i| i.answer == Answer::Start);
        let wait = record.and_then(|m| m.restart_backoff.wait_until(ended_at, inputs.now));
        match wait {
            Some(until) if !is_answered => plan.back_off.push(BackOffPlan {
                name: self.spec.name.clone(),
                after: latest.id.clone(),
                delay: record.map(|m| m.restart_backoff.delay()).unwrap_or_default(),
                until,
            }),
            _ => self.start(plan, Some(&latest.id)),
        }
    }
}

/// The end that the back-off of a restart after this instance counts from: its own, or if it was
/// ended to be replaced, that of the one before it; `None` when there was none.
pub(crate) fn backs_off_from(
    latest: &ContainerObservation,
    record: Option<&ContainerRecord>,
) -> Option<Timestamp> {
    if let Some(replaced) = record.and_then(|m| m.instance(&latest.id)?.replaced.as_ref()) {
        return replaced.previous_end;
    }
    Some(match &latest.state {
        ContainerState::Exited(exit) => exit.finished_at.unwrap_or(latest.created_at),
        _ => latest.created_at,
    })
}

#[cfg(test)]
mod tests;
