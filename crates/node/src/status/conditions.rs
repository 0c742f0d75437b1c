//! The conditions the node owns; everybody else's stay as they are
//! (<https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-conditions>, KEP-3085).

use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use model::pod::{self, ContainerKind};
use model::time;

use super::{Cause, Stage, StatusInputs, restarting};
use crate::allocation::RESIZE_IS_INFEASIBLE;

const OWNED: [&str; 7] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    RESIZE_PENDING,
    // Never begun here; what another kubelet left of it must not stay.
    "PodResizeInProgress",
];
const RESIZE_PENDING: &str = "PodResizePending";
const INFEASIBLE_REASON: &str = "Infeasible";
/// Written by the node and by others.
const DISRUPTION_TARGET: &str = "DisruptionTarget";
const TERMINATED_BY_KUBELET: &str = "TerminationByKubelet";

/// What a condition says.
struct Verdict {
    is_true: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Verdict {
    fn yes() -> Self {
        Self { is_true: true, reason: None, message: None }
    }

    fn no(reason: &'static str, message: Option<String>) -> Self {
        Self { is_true: false, reason: Some(reason), message }
    }
}

/// All conditions of a status whose phase and containers are set.
pub(super) fn generate(inputs: &StatusInputs<'_>, status: &PodStatus) -> Vec<PodCondition> {
    let mut all = of_others(inputs);
    let containers_ready = containers_ready(inputs, status);
    let ready = ready(inputs, &containers_ready, &all);
    let verdicts = [
        ("PodReadyToStartContainers", sandbox_ready(inputs, status)),
        ("Initialized", initialized(inputs, status)),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
        ("PodScheduled", Verdict::yes()),
    ];
    for (kind, verdict) in verdicts {
        all.push(condition(inputs, kind, verdict));
    }
    if inputs.rules.may_restart_all(inputs.pod) {
        let verdict = restarting_all(inputs, status);
        // Upstream says of no generation that this is about it.
        all.push(PodCondition {
            observed_generation: None,
            ..condition(inputs, restarting::CONDITION, verdict)
        });
    }
    if inputs.is_resize_pending && !matches!(inputs.stage, Stage::Ended(_)) {
        all.push(resize_pending(inputs));
    }
    if let Some(told) = disruption(inputs, status) {
        all.retain(|c| c.type_ != DISRUPTION_TARGET);
        all.push(told);
    }
    // Statuses are kept for as long as their pods.
    all.shrink_to_fit();
    all
}

/// The node has ended the pod for its own sake. As upstream, that is told with the phase that follows from it.
fn disruption(inputs: &StatusInputs<'_>, status: &PodStatus) -> Option<PodCondition> {
    let (Stage::Ending(cause) | Stage::Ended(cause)) = inputs.stage else { return None };
    let Cause::Failed { reason, message, is_disruption: true } = cause else { return None };
    let is_told = status.phase.as_deref() == Some("Failed") && status.reason.as_deref() == Some(reason);
    let message = Some(message.to_owned());
    let verdict = Verdict { is_true: true, reason: Some(TERMINATED_BY_KUBELET), message };
    is_told.then(|| condition(inputs, DISRUPTION_TARGET, verdict))
}

/// A resize is asked for that is not made.
fn resize_pending(inputs: &StatusInputs<'_>) -> PodCondition {
    let message = Some(RESIZE_IS_INFEASIBLE.to_owned());
    let verdict = Verdict { is_true: true, reason: Some(INFEASIBLE_REASON), message };
    let mut pending = condition(inputs, RESIZE_PENDING, verdict);
    let before = inputs.previous.conditions.iter().flatten().find(|c| c.type_ == RESIZE_PENDING);
    if before.is_some_and(|b| b.reason != pending.reason) {
        pending.last_transition_time = Some(Time(time::to_seconds(inputs.now.wall)));
    }
    pending
}

/// Whether a status says that a resize is asked for and not made.
pub(crate) fn is_resize_pending(status: &PodStatus) -> bool {
    status.conditions.iter().flatten().any(|c| c.type_ == RESIZE_PENDING)
}

/// The generation of the pod that a status says is infeasible; `None` when it says no such thing.
pub(crate) fn resize_pending_since(status: &PodStatus) -> Option<i64> {
    let mut all = status.conditions.iter().flatten();
    let found = all.find(|c| c.type_ == RESIZE_PENDING && c.reason.as_deref() == Some(INFEASIBLE_REASON));
    found.and_then(|c| c.observed_generation)
}

/// The conditions that are not the node's to decide, as they were.
pub(super) fn of_others(inputs: &StatusInputs<'_>) -> Vec<PodCondition> {
    let pod_status = inputs.pod.status.as_ref();
    // Others write to the API object; what the node itself added on the way is in the previous.
    let theirs = pod_status.and_then(|s| s.conditions.as_ref()).or(inputs.previous.conditions.as_ref());
    let mut all: Vec<PodCondition> =
        theirs.into_iter().flatten().filter(|c| !is_owned(inputs, &c.type_)).cloned().collect();
    for kept in inputs.previous.conditions.iter().flatten().filter(|c| c.type_ == DISRUPTION_TARGET) {
        if !all.iter().any(|c| c.type_ == kept.type_) {
            all.push(kept.clone());
        }
    }
    all
}

fn is_owned(inputs: &StatusInputs<'_>, kind: &str) -> bool {
    OWNED.contains(&kind) || (inputs.rules.of_pods && kind == restarting::CONDITION)
}

/// Whether the node's own conditions, and the one it shares, say the same. Since when, and of
/// which generation, is no news by itself.
pub(super) fn is_same(a: &PodStatus, b: &PodStatus) -> bool {
    let find = |status: &PodStatus, kind: &str| {
        let found = status.conditions.iter().flatten().find(|c| c.type_ == kind);
        // Of a wish to be resized, which one it is about is what it says.
        let generation = |c: &PodCondition| c.observed_generation.filter(|_| kind == RESIZE_PENDING);
        found.map(|c| (c.status.clone(), c.reason.clone(), c.message.clone(), generation(c)))
    };
    OWNED
        .iter()
        .chain([&DISRUPTION_TARGET, &restarting::CONDITION])
        .all(|kind| find(a, kind) == find(b, kind))
}

fn condition(inputs: &StatusInputs<'_>, kind: &str, verdict: Verdict) -> PodCondition {
    let status = if verdict.is_true { "True" } else { "False" };
    let before = inputs.previous.conditions.iter().flatten().find(|c| c.type_ == kind);
    let same = before.filter(|b| b.status == status);
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.map(str::to_owned),
        message: verdict.message,
        last_probe_time: None,
        last_transition_time: same
            .and_then(|b| b.last_transition_time.clone())
            .or_else(|| Some(Time(time::to_seconds(inputs.now.wall)))),
        observed_generation: inputs.pod.metadata.generation,
    }
}

fn sandbox_ready(inputs: &StatusInputs<'_>, status: &PodStatus) -> Verdict {
    let sandboxes = &inputs.observed.sandboxes;
    let text = match sandboxes.first() {
        None => "no pod sandbox exists",
        // It is being stopped. Said now, so that its end is not worth a write of its own.
        Some(_) if super::is_terminal(status) => "pod sandbox is not ready",
        Some(_) if sandboxes.iter().filter(|s| s.is_ready).count() > 1 => {
            "multiple pod sandboxes are ready and need to be reconciled"
        }
        Some(newest) if !newest.is_ready => "pod sandbox is not ready",
        Some(newest) if !pod::is_host_network(inputs.pod) && newest.ips.is_empty() => {
            "pod sandbox has no IP address"
        }
        Some(_) => return Verdict::yes(),
    };
    Verdict::no("PodSandboxNotReady", Some(text.to_owned()))
}

fn initialized(inputs: &StatusInputs<'_>, status: &PodStatus) -> Verdict {
    if status.phase.as_deref() == Some("Succeeded") {
        return Verdict { is_true: true, reason: Some("PodCompleted"), message: None };
    }
    let has_run = |s: &ContainerStatus| {
        s.state.as_ref().is_some_and(|s| s.running.is_some() || s.terminated.is_some())
            || s.last_state.as_ref().is_some_and(|s| s.terminated.is_some())
    };
    if status.container_statuses.iter().flatten().any(has_run) {
        return Verdict::yes();
    }
    // Once true, it stays: init containers that run again do not undo it.
    let before = inputs.previous.conditions.iter().flatten().find(|c| c.type_ == "Initialized");
    if before.is_some_and(|c| c.status == "True") {
        return Verdict::yes();
    }
    let mut incomplete = Vec::new();
    for c in pod::containers(inputs.pod).filter(|c| c.kind < ContainerKind::Regular) {
        let found = status.init_container_statuses.iter().flatten().find(|s| s.name == c.spec.name);
        let is_done = found.is_some_and(|s| match c.kind {
            ContainerKind::Sidecar => s.started == Some(true),
            _ => s.ready,
        });
        if !is_done {
            incomplete.push(c.spec.name.clone());
        }
    }
    if incomplete.is_empty() {
        return Verdict::yes();
    }
    let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
    Verdict::no("ContainersNotInitialized", Some(message))
}

fn containers_ready(inputs: &StatusInputs<'_>, status: &PodStatus) -> Verdict {
    match status.phase.as_deref() {
        Some("Succeeded") => return Verdict::no("PodCompleted", None),
        Some("Failed") => return Verdict::no("PodFailed", None),
        _ => {}
    }
    let mut unready = Vec::new();
    for c in pod::containers(inputs.pod) {
        let list = match c.kind {
            ContainerKind::Sidecar => &status.init_container_statuses,
            ContainerKind::Regular => &status.container_statuses,
            ContainerKind::Init | ContainerKind::Ephemeral => continue,
        };
        if !list.iter().flatten().any(|s| s.name == c.spec.name && s.ready) {
            unready.push(c.spec.name.clone());
        }
    }
    if unready.is_empty() {
        return Verdict::yes();
    }
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    Verdict::no("ContainersNotReady", Some(message))
}

fn ready(inputs: &StatusInputs<'_>, containers: &Verdict, others: &[PodCondition]) -> Verdict {
    if !containers.is_true {
        return Verdict { is_true: false, reason: containers.reason, message: containers.message.clone() };
    }
    let mut unmet = Vec::new();
    for gate in inputs.pod.spec.iter().flat_map(|s| s.readiness_gates.iter().flatten()) {
        match others.iter().find(|c| c.type_ == gate.condition_type) {
            None => unmet.push(format!(
                "corresponding condition of pod readiness gate {:?} does not exist.",
                gate.condition_type
            )),
            Some(c) if c.status != "True" => unmet.push(format!(
                "the status of pod readiness gate {:?} is not \"True\", but {}",
                gate.condition_type, c.status
            )),
            Some(_) => {}
        }
    }
    if unmet.is_empty() {
        return Verdict::yes();
    }
    Verdict::no("ReadinessGatesNotReady", Some(unmet.join(", ")))
}

fn restarting_all(inputs: &StatusInputs<'_>, status: &PodStatus) -> Verdict {
    let StatusInputs { rules, pod, observed, previous, .. } = *inputs;
    match status.phase.as_deref() {
        Some("Succeeded") => return Verdict::no("PodCompleted", None),
        Some("Failed") => return Verdict::no("PodFailed", None),
        _ => {}
    }
    let is_under_way = restarting::is_under_way(rules, pod, observed, previous);
    if !is_under_way || restarting::is_cleaned_up(pod, observed) {
        return Verdict { is_true: false, reason: None, message: None };
    }
    let message = Some(restarting::STARTED_MESSAGE.to_owned());
    Verdict { is_true: true, reason: Some(restarting::STARTED), message }
}
