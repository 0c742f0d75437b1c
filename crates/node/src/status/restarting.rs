//! The restart of all containers of a pod in its place (KEP-5532), as far as the status tells of it: it has begun when
//! a container ended with a code whose rule says so, the condition `AllContainersRestarting` keeps that in mind over
//! the removal of that very container, and it is over when the runtime holds none of them any more.

use k8s_openapi::api::core::v1::{
    ContainerState as ApiState, ContainerStateTerminated, ContainerStatus, PodStatus,
};
use model::pod::{self, ContainerKind};
use model::reason::waiting::RESTARTING_ALL_CONTAINERS;
use model::{ContainerState, Pod, PodObservation};

use crate::pods::rules::RestartRules;

/// The condition's type.
pub(crate) const CONDITION: &str = "AllContainersRestarting";
pub(super) const STARTED: &str = "RestartAllContainersStarted";
pub(super) const STARTED_MESSAGE: &str = "container exited with restart policy rule";
const REMOVED: &str = "The container is removed because RestartAllContainers in place";
/// Exit code written for a container that was ended for the sake of another: that of SIGKILL.
const EXIT_CODE: i32 = 137;

/// Whether all containers are being restarted. `previous`: the status as last computed.
pub(crate) fn is_under_way(
    rules: RestartRules,
    pod: &Pod,
    observed: &PodObservation,
    previous: &PodStatus,
) -> bool {
    if !rules.may_restart_all(pod) {
        return false;
    }
    let has_begun = previous.conditions.iter().flatten().any(|c| c.type_ == CONDITION && c.status == "True");
    has_begun
        || parts(pod).any(|c| match observed.latest(&c.spec.name).map(|o| &o.state) {
            Some(ContainerState::Exited(exit)) => rules.restarts_all_after(&c.spec, exit.exit_code),
            _ => false,
        })
}

/// Whether the runtime holds none of the pod's containers.
pub(crate) fn is_cleaned_up(pod: &Pod, observed: &PodObservation) -> bool {
    parts(pod).all(|c| observed.latest(&c.spec.name).is_none())
}

/// The containers that are restarted: all but the ephemeral ones.
pub(crate) fn parts(pod: &Pod) -> impl Iterator<Item = pod::ContainerRef<'_>> {
    pod::containers(pod).filter(|c| c.kind != ContainerKind::Ephemeral)
}

/// How a container that was removed for a restart of all ended, for `lastState`.
pub(super) fn removed() -> ApiState {
    let exit = ContainerStateTerminated {
        exit_code: EXIT_CODE,
        reason: Some(RESTARTING_ALL_CONTAINERS.to_owned()),
        message: Some(REMOVED.to_owned()),
        ..ContainerStateTerminated::default()
    };
    ApiState { terminated: Some(exit), ..ApiState::default() }
}

/// Why such a container waits: reason and message.
pub(super) fn waits() -> (&'static str, String) {
    (RESTARTING_ALL_CONTAINERS, REMOVED.to_owned())
}

/// Whether a container waits because it was removed for a restart of all.
pub(super) fn is_removed(status: &ContainerStatus) -> bool {
    let waiting = status.state.as_ref().and_then(|s| s.waiting.as_ref());
    waiting.is_some_and(|w| w.reason.as_deref() == Some(RESTARTING_ALL_CONTAINERS))
}

/// Whether the last end of a container is no end of its own, but one for a restart of all.
pub(crate) fn ended_for_restart(status: &ContainerStatus) -> bool {
    let end = |state: &Option<ApiState>| state.as_ref().and_then(|s| s.terminated.clone());
    let last = end(&status.state).or_else(|| end(&status.last_state));
    last.is_some_and(|t| t.reason.as_deref() == Some(RESTARTING_ALL_CONTAINERS))
}
