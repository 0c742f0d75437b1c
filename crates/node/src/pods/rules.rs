//! Whether a container that ended is started again, and whether all others of its pod are: the restart rules and
//! policies of containers (KEP-5307, KEP-5532), then the policy of the pod.

use k8s_openapi::api::core::v1::{Container, ContainerRestartRule};
use model::Pod;
use model::pod::{self, ContainerKind, RestartPolicy};
use serde::{Deserialize, Serialize};

const RESTART: &str = "Restart";
const RESTART_ALL: &str = "RestartAllContainers";

/// Which rules of containers are obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartRules {
    /// Policies and rules of single containers (feature gate `ContainerRestartRules`). A sidecar is one in any case.
    pub of_containers: bool,
    /// The rule that restarts all containers of a pod (feature gate `RestartAllContainersOnContainerExits`).
    pub of_pods: bool,
}

impl RestartRules {
    /// Whether a container that ended with this code is started again.
    pub(crate) fn restarts_after(self, pod: &Pod, spec: &Container, kind: ContainerKind, code: i32) -> bool {
        match kind {
            ContainerKind::Sidecar => return true,
            ContainerKind::Ephemeral => return false,
            ContainerKind::Init | ContainerKind::Regular => {}
        }
        match self.matching(spec, code).map(|rule| rule.action.as_str()) {
            Some(RESTART) => return true,
            Some(RESTART_ALL) if self.of_pods => return true,
            _ => {}
        }
        match self.policy(pod, spec) {
            RestartPolicy::Always => kind == ContainerKind::Regular || code != 0,
            RestartPolicy::OnFailure => code != 0,
            RestartPolicy::Never => false,
        }
    }

    /// The restart policy of a container: its own or its pod's.
    pub(crate) fn policy(self, pod: &Pod, spec: &Container) -> RestartPolicy {
        match spec.restart_policy.as_deref().filter(|_| self.of_containers) {
            Some("Always") => RestartPolicy::Always,
            Some("OnFailure") => RestartPolicy::OnFailure,
            Some("Never") => RestartPolicy::Never,
            _ => pod::restart_policy(pod),
        }
    }

    /// Whether all containers of a pod are restarted after one of them ended with this code.
    pub(crate) fn restarts_all_after(self, spec: &Container, code: i32) -> bool {
        self.of_pods && self.matching(spec, code).is_some_and(|rule| rule.action == RESTART_ALL)
    }

    /// Whether some exit of some container restarts all of them.
    pub(crate) fn may_restart_all(self, pod: &Pod) -> bool {
        let mut own = pod::containers(pod).filter(|c| c.kind != ContainerKind::Ephemeral);
        let is_asked = |rules: &[ContainerRestartRule]| rules.iter().any(|rule| rule.action == RESTART_ALL);
        self.of_pods && own.any(|c| c.spec.restart_policy_rules.as_deref().is_some_and(is_asked))
    }

    /// The first rule that is about this code, whatever its action: later ones are not asked.
    fn matching(self, spec: &Container, code: i32) -> Option<&ContainerRestartRule> {
        if !self.of_containers || spec.restart_policy.is_none() {
            return None;
        }
        spec.restart_policy_rules.iter().flatten().find(|rule| {
            let Some(codes) = &rule.exit_codes else { return false };
            let is_listed = codes.values.iter().flatten().any(|v| *v == code);
            match codes.operator.as_str() {
                "In" => is_listed,
                "NotIn" => !is_listed,
                _ => false,
            }
        })
    }
}
