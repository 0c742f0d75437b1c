//! The phase, from the containers' states
//! (<https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-phase>).

use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};
use model::Pod;
use model::pod::{self, ContainerKind};

use super::{StatusInputs, restarting};

/// What the states of a pod's containers add up to.
#[derive(Default)]
struct Count {
    /// Init containers that have not ended.
    pending_init: u32,
    /// Sidecars that are not started.
    pending_sidecars: u32,
    /// Init containers that failed for good.
    failed_init: u32,
    unknown: u32,
    running: u32,
    waiting: u32,
    stopped: u32,
    stopped_for_good: u32,
    succeeded: u32,
}

/// The phase that the container statuses of `status` amount to. `is_ended`: nothing of the pod
/// will run again, whatever its restart policy.
pub(super) fn of(inputs: &StatusInputs<'_>, status: &PodStatus, is_ended: bool) -> String {
    let StatusInputs { pod, observed, .. } = inputs;
    let count = count(inputs, status);
    // Only the current sandbox counts: in a new one, init containers run again.
    let is_initialized =
        observed.sandboxes.first().is_some_and(|newest| observed.is_initialized(pod, Some(&newest.id)));
    phase(pod, &count, is_ended, is_initialized).to_owned()
}

fn phase(pod: &Pod, count: &Count, is_ended: bool, is_initialized: bool) -> &'static str {
    if count.failed_init > 0 {
        return "Failed";
    }
    if count.pending_init > 0 || (count.pending_sidecars > 0 && !is_initialized) || count.waiting > 0 {
        return "Pending";
    }
    if count.running > 0 && count.unknown == 0 {
        return "Running";
    }
    if count.running == 0 && count.stopped > 0 && count.unknown == 0 {
        let all_succeeded = count.stopped == count.succeeded;
        if is_ended && !pod::is_static(pod) {
            return if all_succeeded { "Succeeded" } else { "Failed" };
        }
        if count.stopped != count.stopped_for_good {
            return "Running";
        }
        return if all_succeeded { "Succeeded" } else { "Failed" };
    }
    "Pending"
}

fn count(inputs: &StatusInputs<'_>, status: &PodStatus) -> Count {
    let pod = inputs.pod;
    let mut count = Count::default();
    // However a container has ended, it begins anew then.
    let are_all_restarted = restarting::is_under_way(inputs.rules, pod, inputs.observed, inputs.previous);
    for c in pod::containers(pod) {
        let list = match c.kind {
            ContainerKind::Init | ContainerKind::Sidecar => &status.init_container_statuses,
            ContainerKind::Regular => &status.container_statuses,
            ContainerKind::Ephemeral => continue,
        };
        let found = list.iter().flatten().find(|s| s.name == c.spec.name);
        let state = found.map(state);
        let is_replaced = inputs.notes.get(&c.spec.name).is_some_and(|n| n.is_replaced);
        let is_removed = found.is_some_and(restarting::ended_for_restart);
        let restarts = |code| {
            are_all_restarted
                || is_replaced
                || is_removed
                || inputs.rules.restarts_after(pod, &c.spec, c.kind, code)
        };
        match c.kind {
            ContainerKind::Init => match state {
                Some(State::Ended(0)) => {}
                // One that is tried again is not counted: the containers after it wait, unless all have run before.
                Some(State::Ended(code) | State::WaitingAfter(code)) if code != 0 => {
                    count.failed_init += u32::from(!restarts(code));
                }
                Some(State::WaitingAfter(_)) => {}
                _ => count.pending_init += 1,
            },
            ContainerKind::Sidecar => match state {
                None => count.unknown += 1,
                Some(State::Running) => {
                    count.pending_sidecars += u32::from(found.and_then(|s| s.started) != Some(true));
                    count.running += 1;
                }
                Some(State::Ended(_) | State::WaitingAfter(_)) => {}
                Some(State::Waiting) => {
                    count.pending_sidecars += 1;
                    count.waiting += 1;
                }
            },
            ContainerKind::Regular | ContainerKind::Ephemeral => match state {
                None => count.unknown += 1,
                Some(State::Running) => count.running += 1,
                Some(State::Ended(code)) => {
                    count.stopped += 1;
                    count.stopped_for_good += u32::from(!restarts(code));
                    count.succeeded += u32::from(code == 0);
                }
                Some(State::WaitingAfter(code)) => {
                    count.stopped += 1;
                    count.stopped_for_good += u32::from(!restarts(code));
                }
                Some(State::Waiting) => count.waiting += 1,
            },
        }
    }
    count
}

enum State {
    Running,
    Ended(i32),
    /// Waits, and an instance before it ended with this code.
    WaitingAfter(i32),
    Waiting,
}

fn state(status: &ContainerStatus) -> State {
    let ended = |s: &Option<k8s_openapi::api::core::v1::ContainerState>| {
        s.as_ref().and_then(|s| s.terminated.as_ref()).map(|t| t.exit_code)
    };
    let is_running = status.state.as_ref().is_some_and(|s| s.running.is_some());
    match (is_running, ended(&status.state), ended(&status.last_state)) {
        (true, ..) => State::Running,
        (_, Some(code), _) => State::Ended(code),
        (_, _, Some(code)) => State::WaitingAfter(code),
        _ => State::Waiting,
    }
}
