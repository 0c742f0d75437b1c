//! Which ends of containers a later status may take back. The API server refuses a status in which
//! a container that has ended for good does not say so any more, and with it all else that the
//! status says; so such a status waits until the container has ended again. Init containers that
//! run once more in a new sandbox are the usual case.

use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};
use model::Pod;
use model::pod::{self, ContainerKind, RestartPolicy};

use crate::pods::rules::RestartRules;

/// Whether the API server takes the new status after the old one.
pub(crate) fn is_allowed(rules: RestartRules, pod: &Pod, old: &PodStatus, new: &PodStatus) -> bool {
    if pod::restart_policy(pod) == RestartPolicy::Always || rules.may_restart_all(pod) {
        return true;
    }
    pod::containers(pod).all(|c| {
        let (old, new) = match c.kind {
            ContainerKind::Init => (&old.init_container_statuses, &new.init_container_statuses),
            ContainerKind::Regular => (&old.container_statuses, &new.container_statuses),
            ContainerKind::Sidecar | ContainerKind::Ephemeral => return true,
        };
        let find = |list: &Option<Vec<ContainerStatus>>| -> Option<ContainerStatus> {
            list.iter().flatten().find(|s| s.name == c.spec.name).cloned()
        };
        let Some(ended_with) = find(old).and_then(|s| exit_code(&s)) else { return true };
        rules.restarts_after(pod, &c.spec, c.kind, ended_with)
            || find(new).is_none_or(|s| exit_code(&s).is_some())
    })
}

fn exit_code(status: &ContainerStatus) -> Option<i32> {
    status.state.as_ref()?.terminated.as_ref().map(|t| t.exit_code)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const RULES: RestartRules = RestartRules { of_containers: true, of_pods: true };

    fn status(list: &str, state: serde_json::Value) -> PodStatus {
        let one = json!([{ "name": "x", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state }]);
        serde_json::from_value(json!({ list: one })).unwrap()
    }

    /// `TestCheckContainerStateTransition`
    #[test]
    fn ends_that_are_final_stay() {
        let ended = |code: i32| json!({ "terminated": { "exitCode": code } });
        let running = json!({ "running": {} });
        let waiting = json!({ "waiting": {} });
        let cases = [
            ("Always", "containers", ended(0), &running, true),
            ("Always", "initContainers", ended(0), &waiting, true),
            ("OnFailure", "containers", ended(0), &running, false),
            ("OnFailure", "containers", ended(1), &running, true),
            ("OnFailure", "initContainers", ended(0), &waiting, false),
            ("OnFailure", "initContainers", ended(1), &waiting, true),
            ("OnFailure", "initContainers", ended(0), &ended(1), true),
            ("Never", "containers", ended(1), &running, false),
            ("Never", "containers", running.clone(), &waiting, true),
            ("Never", "initContainers", ended(0), &waiting, false),
        ];
        for (policy, list, before, after, expected) in cases {
            let mut spec = json!({ "restartPolicy": policy, "containers": [] });
            spec[list] = json!([{ "name": "x" }]);
            let pod: Pod = serde_json::from_value(json!({ "spec": spec })).unwrap();
            let list = if list == "containers" { "containerStatuses" } else { "initContainerStatuses" };
            let (old, new) = (status(list, before.clone()), status(list, after.clone()));
            assert_eq!(is_allowed(RULES, &pod, &old, &new), expected, "{policy} {list} {before} {after}");
        }
        let sidecar = json!({ "restartPolicy": "Never", "containers": [], "initContainers": [{ "name": "x", "restartPolicy": "Always" }] });
        let pod: Pod = serde_json::from_value(json!({ "spec": sidecar })).unwrap();
        let (old, new) =
            (status("initContainerStatuses", ended(0)), status("initContainerStatuses", waiting));
        assert!(is_allowed(RULES, &pod, &old, &new), "sidecars always run again");
    }
}
