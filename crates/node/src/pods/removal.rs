//! Stops and takes away what the runtime holds of a pod. Each is asked for once at a time.

use std::time::Duration;

use model::{ContainerId, SandboxId};

use super::life::Life;
use super::record::PodRecord;
use crate::effect::RuntimeAction;
use crate::outbox::Outbox;
use crate::tasks::PodTask;

impl PodRecord {
    /// Stops a sandbox.
    pub(crate) fn stop_sandbox(&mut self, id: SandboxId, out: &mut Outbox) {
        let task = PodTask::StopSandbox(id.clone());
        if !self.tasks.is_open(&task) {
            let action = RuntimeAction::StopSandbox { uid: self.uid.clone(), key: self.key.clone(), id };
            self.start(task, action, out);
        }
    }

    /// Stops a running container.
    pub(crate) fn stop_container(&mut self, id: &ContainerId, grace: Duration, out: &mut Outbox) {
        let Some(held) = self.held(id) else { return };
        let action = RuntimeAction::StopContainer {
            uid: self.uid.clone(),
            key: self.key.clone(),
            container: held.name.clone(),
            id: id.clone(),
            sandbox: held.sandbox_id.clone(),
            grace,
        };
        self.start(PodTask::StopContainer(id.clone()), action, out);
    }

    /// Removes a stopped sandbox.
    pub(crate) fn remove_sandbox(&mut self, id: SandboxId, out: &mut Outbox) {
        let task = PodTask::RemoveSandbox(id.clone());
        if !self.tasks.is_open(&task) {
            let action = RuntimeAction::RemoveSandbox { uid: self.uid.clone(), key: self.key.clone(), id };
            self.start(task, action, out);
        }
    }

    /// Removes a dead container.
    pub(crate) fn remove_container(&mut self, id: &ContainerId, keeps_log: bool, out: &mut Outbox) {
        let Some(held) = self.held(id).filter(|_| !self.is_removing(id)) else { return };
        let action = RuntimeAction::RemoveContainer {
            uid: self.uid.clone(),
            key: self.key.clone(),
            container: held.name.clone(),
            id: id.clone(),
            attempt: held.attempt,
            keeps_log,
        };
        self.start(PodTask::RemoveContainer(id.clone()), action, out);
    }

    /// Removes the containers of a pod that has ended and whose status tells of them, though others may want their logs: what
    /// they have written is needed. A static pod's own status tells nothing, and they alone know that it has ended.
    pub(crate) fn remove_remains(&mut self, out: &mut Outbox) {
        if !self.life.has_ended() || self.desired.is_static() || !self.is_reported() {
            return;
        }
        let held = self.seen.fresh().into_iter().flat_map(|observed| &observed.containers);
        let dead: Vec<ContainerId> = held.filter(|c| !c.state.is_running()).map(|c| c.id.clone()).collect();
        dead.iter().for_each(|id| self.remove_container(id, false, out));
    }

    /// Whether containers of a pod that has ended are being removed.
    pub(crate) fn is_removing_remains(&self) -> bool {
        self.life.has_ended() && self.tasks.any(|task| matches!(task, PodTask::RemoveContainer(_)))
    }

    /// Whether a pod has ended, and neither processes, volumes nor containers of it are left.
    pub(crate) fn has_left_nothing(&self) -> bool {
        let is_empty = self.seen.last().is_some_and(|observed| observed.containers.is_empty());
        matches!(&self.life, Life::Terminated(end) if end.is_clean()) && is_empty
    }

    /// Whether a container is being removed.
    pub(crate) fn is_removing(&self, id: &ContainerId) -> bool {
        self.tasks.is_open(&PodTask::RemoveContainer(id.clone()))
    }
}
