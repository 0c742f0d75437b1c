//! Nothing is stuck without saying so: a pod that is not as it should be, by what the node knows, waits for something, and
//! says since when. What holds up pods because it fails on the node, the node itself waits for as well.

use model::pod::{self, ContainerKind, ContainerRef, RestartPolicy};
use model::{ContainerState, Pod};
use node::{Phase, PodView, WaitOn};

use crate::api::is_terminal;
use crate::specs::FAILED;
use crate::world::World;

impl World {
    /// Judges every pod that the node knows.
    pub(crate) fn check_explained(&mut self) {
        let now = self.process.mono(self.at);
        let view = self.process.node.view();
        for pod in view.pods.values() {
            if let Some(wait) = pod.waits.iter().find(|wait| wait.since > now) {
                self.broke(format!("{} waits for {} since a time to come", pod.uid, wait.on));
            }
            if pod.waits.is_empty()
                && let Err(why) = is_as_it_should_be(pod)
            {
                self.broke(format!("{} is {:?} and waits for nothing, although {why}", pod.uid, pod.phase));
            }
        }
        self.check_plugins_explained();
        for file in self.process.knows.unwritten.clone() {
            let on = WaitOn::StateFile(file);
            let holds_up = view.pods.values().any(|pod| pod.waits.iter().any(|wait| wait.on == on));
            let is_told = view.waits.iter().any(|wait| wait.on == on && wait.error.is_some());
            if holds_up && !is_told {
                self.broke(format!(
                    "{} cannot be written, pods wait for it, and the node does not",
                    file.name()
                ));
            }
        }
    }
}

/// By what the node knows of it, which may not be the newest.
fn is_as_it_should_be(view: &PodView) -> Result<(), String> {
    let Some(pod) = view.pod.as_deref().filter(|_| view.is_wanted) else {
        return Err("nobody wants it".to_owned());
    };
    if pod.metadata.deletion_timestamp.is_some() {
        return Err("it is to be deleted".to_owned());
    }
    match view.phase {
        // A static pod may have lost everything that would tell how it ended.
        Phase::Terminated if view.is_static || is_terminal(&view.status) => Ok(()),
        Phase::Running => {
            pod::containers(pod).try_for_each(|container| is_container_well(view, pod, &container))
        }
        _ => Err("that is no state to stay in".to_owned()),
    }
}

fn is_container_well(view: &PodView, pod: &Pod, container: &ContainerRef<'_>) -> Result<(), String> {
    let name = &container.spec.name;
    let all = view.status.container_statuses.iter().chain(&view.status.init_container_statuses).flatten();
    let said = all.into_iter().find(|said| said.name == *name);
    let policy = match container.spec.restart_policy.as_deref() {
        Some("Never") => RestartPolicy::Never,
        _ => pod::restart_policy(pod),
    };
    let code = match view.container(name).map(|held| &held.state) {
        Some(ContainerState::Running { .. }) if container.kind == ContainerKind::Init => {
            return Err(format!("init container {name} runs"));
        }
        Some(ContainerState::Running { .. }) => {
            let is_ready = said.is_some_and(|said| said.ready);
            return if is_ready { Ok(()) } else { Err(format!("{name} is not ready")) };
        }
        Some(ContainerState::Exited(exit)) => Some(exit.exit_code),
        Some(ContainerState::Created | ContainerState::Unknown) => None,
        None => said.and_then(|said| said.state.as_ref()?.terminated.as_ref()).map(|ended| ended.exit_code),
    };
    if code == Some(FAILED) && container.spec.restart_policy_rules.is_some() {
        return Err(format!("all are to be restarted after {name}"));
    }
    let is_over = match (container.kind, policy, code) {
        // Once others were there, it has had its turn.
        (ContainerKind::Init, ..) => true,
        (ContainerKind::Sidecar, ..) | (_, RestartPolicy::Always, _) | (.., None) => false,
        (_, RestartPolicy::OnFailure, Some(code)) => code == 0,
        (_, RestartPolicy::Never, Some(_)) => true,
    };
    if is_over { Ok(()) } else { Err(format!("{name} does not run")) }
}
