//! What the runtime and the API server of a scenario do when an action goes well.

use model::observed::ContainerExit;
use model::probe::ProbeOutcome;
use model::{
    ContainerId, ContainerObservation, ContainerState, ImageRef, Pod, PodKey, PodObservation, PodUid,
    SandboxId, SandboxObservation, pod,
};

use super::scenario::Scenario;
use crate::{
    Action, ApiAction, ApiOutcome, CheckpointAction, ImageAction, ImageAnswer, ImageOutcome, Input, Outcome,
    ProbeAction, RuntimeAction, RuntimeChange, RuntimeOutcome, VolumeAction, VolumeOutcome,
};

/// Exit code of a container that was told to stop.
const STOPPED: i32 = 143;

impl Scenario {
    pub(super) fn perform(&mut self, action: &Action) -> Outcome {
        match action {
            Action::Volume(VolumeAction::Sync { .. }) => {
                Outcome::Volume(VolumeOutcome::Synced { refresh_after: None })
            }
            Action::Image(ImageAction::Inspect { .. }) => {
                Outcome::Image(ImageOutcome::Inspected(ImageAnswer::Accessible(ImageRef::from("image"))))
            }
            Action::Image(ImageAction::Pull { .. }) => Outcome::Image(ImageOutcome::Pulled {
                image: ImageRef::from("image"),
                size_bytes: 7,
                took: std::time::Duration::from_secs(1),
                took_with_wait: std::time::Duration::from_secs(2),
            }),
            Action::Runtime(RuntimeAction::RunSandbox { pod, attempt, .. }) => {
                Outcome::Runtime(RuntimeOutcome::SandboxStarted(self.add_sandbox(pod, *attempt)))
            }
            Action::Runtime(RuntimeAction::StopSandbox { id, .. }) => {
                let all = self.runtime.values_mut().flat_map(|o| &mut o.sandboxes);
                all.filter(|s| s.id == *id).for_each(|s| s.is_ready = false);
                Outcome::Done
            }
            Action::Runtime(RuntimeAction::RemoveSandbox { id, .. }) => {
                for held in self.runtime.values_mut() {
                    held.sandboxes.retain(|s| s.id != *id);
                    held.containers.retain(|c| c.sandbox_id != *id);
                }
                self.runtime.retain(|_, held| !held.sandboxes.is_empty() || !held.containers.is_empty());
                Outcome::Done
            }
            Action::Runtime(RuntimeAction::StartContainer(start)) => {
                Outcome::Runtime(RuntimeOutcome::ContainerStarted(self.add_container(
                    &start.pod,
                    &start.container,
                    &start.sandbox,
                    start.attempt,
                )))
            }
            Action::Runtime(RuntimeAction::StopContainer { uid, id, .. }) => {
                Outcome::Runtime(RuntimeOutcome::ContainerStopped(self.end_container(uid, id, STOPPED)))
            }
            Action::Runtime(RuntimeAction::RemoveContainer { uid, id, .. }) => {
                self.runtime.get_mut(uid).unwrap().containers.retain(|c| c.id != *id);
                Outcome::Done
            }
            Action::Probe(ProbeAction::Attempt { .. }) => Outcome::Probed(ProbeOutcome::Success),
            Action::Api(ApiAction::WriteStatus { uid, new, .. }) => {
                self.statuses.insert(uid.clone(), new.clone());
                self.version += 1;
                Outcome::Api(ApiOutcome::Written { version: self.version })
            }
            Action::Checkpoint(CheckpointAction::Write(write)) => {
                self.files.insert(write.file, write.content.clone());
                Outcome::Done
            }
            _ => Outcome::Done,
        }
    }

    fn held(&mut self, uid: PodUid, key: PodKey) -> &mut PodObservation {
        self.runtime.entry(uid.clone()).or_insert_with(|| PodObservation::empty(uid, key))
    }

    fn add_sandbox(&mut self, pod: &Pod, attempt: u32) -> SandboxObservation {
        let sandbox = SandboxObservation {
            id: SandboxId::from(format!("box{attempt}")),
            attempt,
            is_ready: true,
            created_at: self.now().wall,
            ips: vec!["10.0.0.1".into(), "fd00::1".into()],
        };
        let held = self.held(pod::uid(pod), pod::key(pod));
        held.sandboxes.push(sandbox.clone());
        held.sort();
        sandbox
    }

    fn add_container(
        &mut self,
        pod: &Pod,
        name: &str,
        in_: &SandboxId,
        attempt: u32,
    ) -> ContainerObservation {
        let now = self.now().wall;
        let id = ContainerId::from(format!("{name}#{attempt}"));
        let running = ContainerState::Running { started_at: Some(now) };
        let container = ContainerObservation {
            attempt,
            created_at: now,
            spec_hash: Some(model::hash::container_hash(&pod::container(pod, name).unwrap().spec)),
            image: "image".into(),
            image_id: "image@sha256:0".into(),
            ..ContainerObservation::bare(id, in_.clone(), name, running)
        };
        let held = self.held(pod::uid(pod), pod::key(pod));
        held.containers.push(container.clone());
        held.sort();
        container
    }

    fn end_container(&mut self, uid: &PodUid, id: &ContainerId, code: i32) -> Option<ContainerObservation> {
        let now = self.now().wall;
        let container = self.runtime.get_mut(uid)?.containers.iter_mut().find(|c| c.id == *id)?;
        let started_at = match container.state {
            ContainerState::Running { started_at } => started_at,
            _ => None,
        };
        container.state = ContainerState::Exited(ContainerExit {
            exit_code: code,
            reason: if code == 0 { "Completed".into() } else { "Error".into() },
            started_at,
            finished_at: Some(now),
            ..ContainerExit::default()
        });
        Some(container.clone())
    }

    /// A container of the pod `u` ends by itself, and nobody says so.
    pub(super) fn ends_silently(&mut self, id: &str, code: i32) {
        self.end_container(&PodUid::from("u"), &ContainerId::from(id), code).unwrap();
    }

    /// A container of the pod `u` ends by itself, and the runtime says so.
    pub(super) fn exits(&mut self, id: &str, code: i32) -> String {
        self.ends_silently(id, code);
        self.hint(id, RuntimeChange::Stopped)
    }

    /// The process of a sandbox of the pod `u` dies, and nobody says so.
    pub(super) fn sandbox_dies(&mut self, id: &str) {
        let held = self.runtime.get_mut(&PodUid::from("u")).unwrap();
        held.sandboxes.iter_mut().find(|s| s.id.as_str() == id).unwrap().is_ready = false;
    }

    /// The runtime no longer knows what became of a container of the pod `u`.
    pub(super) fn is_lost(&mut self, id: &str) {
        let held = self.runtime.get_mut(&PodUid::from("u")).unwrap();
        held.containers.iter_mut().find(|c| c.id.as_str() == id).unwrap().state = ContainerState::Unknown;
    }

    /// The runtime hints at something about the pod `u`.
    pub(super) fn hint(&mut self, id: &str, change: RuntimeChange) -> String {
        self.tell(Input::RuntimeHint { uid: PodUid::from("u"), container: ContainerId::from(id), change })
    }
}
