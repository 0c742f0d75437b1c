//! A container runtime without containers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use model::observed::ContainerExit;
use model::{
    ContainerId, ContainerObservation, ContainerState, ImageMountObservation, ImageRef, ImageUse, Pod,
    PodKey, PodObservation, PodUid, SandboxId, SandboxObservation, mounted_images, pod,
};
use node::RuntimeChange;

use crate::world::World;

/// A sandbox.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) uid: PodUid,
    pub(crate) key: PodKey,
    pub(crate) seen: SandboxObservation,
    /// Nobody was told that it would come to be: its creation outlived whoever asked for it.
    pub(crate) is_ghost: bool,
    /// Its namespace, address and host ports are taken: a process that dies does not give them back.
    pub(crate) has_network: bool,
}

/// A container.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) uid: PodUid,
    pub(crate) seen: ContainerObservation,
    pub(crate) is_ghost: bool,
    /// Its creation outlived whoever asked for it, and so its number may have been counted already.
    pub(crate) is_late: bool,
    /// How long after SIGTERM it ends; `None` when it ignores the signal.
    pub(crate) obeys_after: Option<Duration>,
    /// When its process began, by the world's time.
    pub(crate) began: Duration,
}

/// All the runtime holds.
#[derive(Debug, Default)]
pub(crate) struct Runtime {
    pub(crate) sandboxes: BTreeMap<SandboxId, Sandbox>,
    pub(crate) containers: BTreeMap<ContainerId, Container>,
    pub(crate) images: BTreeSet<String>,
    /// Who has pulled [`PRIVATE_IMAGE`].
    pub(crate) has_pulled: BTreeSet<PodUid>,
    /// Names of what is being made, which are taken until that is over.
    pub(crate) reserved: BTreeSet<String>,
    pub(crate) is_away: bool,
    next: u32,
}

/// The image that is not everybody's for being there.
pub(crate) const PRIVATE_IMAGE: &str = "image-0";

pub(crate) fn sandbox_name(uid: &PodUid, attempt: u32) -> String {
    format!("{uid}/{attempt}")
}

pub(crate) fn container_name(uid: &PodUid, name: &str, attempt: u32) -> String {
    format!("{uid}/{name}/{attempt}")
}

impl Runtime {
    /// Whether an image that is there may be used without a pull.
    pub(crate) fn may_use(&self, uid: &PodUid, image: &str) -> bool {
        image != PRIVATE_IMAGE || self.has_pulled.contains(uid)
    }

    /// Takes a name; false when somebody has it.
    pub(crate) fn reserve_sandbox(&mut self, uid: &PodUid, attempt: u32) -> bool {
        let is_taken = self.sandboxes.values().any(|s| s.uid == *uid && s.seen.attempt == attempt);
        !is_taken && self.reserved.insert(sandbox_name(uid, attempt))
    }

    /// Takes a name; false when somebody has it.
    pub(crate) fn reserve_container(&mut self, uid: &PodUid, name: &str, attempt: u32) -> bool {
        let is_taken = self
            .containers
            .values()
            .any(|c| c.uid == *uid && c.seen.name == name && c.seen.attempt == attempt);
        !is_taken && self.reserved.insert(container_name(uid, name, attempt))
    }

    pub(crate) fn make_sandbox(
        &mut self,
        pod: &Pod,
        attempt: u32,
        is_ghost: bool,
        now: Timestamp,
    ) -> SandboxId {
        self.next += 1;
        let id = SandboxId::from(format!("sandbox-{}", self.next));
        let ips = if pod::is_host_network(pod) {
            vec![]
        } else {
            vec![format!("10.0.{}.{}", self.next / 256, self.next % 256)]
        };
        let seen = SandboxObservation { id: id.clone(), attempt, is_ready: true, created_at: now, ips };
        self.sandboxes.insert(
            id.clone(),
            Sandbox { uid: pod::uid(pod), key: pod::key(pod), seen, is_ghost, has_network: true },
        );
        id
    }

    pub(crate) fn make_container(&mut self, made: NewContainer<'_>, now: Timestamp) -> ContainerId {
        self.next += 1;
        let id = ContainerId::from(format!("container-{}", self.next));
        let spec = pod::container(made.pod, made.name).map(|c| c.spec.into_owned());
        let image = |used_by: ImageUse| Some(ImageRef::from(used_by.wanted(made.pod)?.reference));
        let volumes = spec.iter().flat_map(|spec| mounted_images(made.pod, spec));
        let mount = |volume: &str| {
            let image = image(ImageUse::Volume(volume.to_owned()))?;
            Some(ImageMountObservation { container_path: format!("/{volume}"), image })
        };
        let image_mounts = volumes.filter_map(mount).collect();
        let seen = ContainerObservation {
            attempt: made.attempt,
            created_at: now,
            spec_hash: spec.as_ref().map(model::hash::container_hash),
            image_used: image(ImageUse::Container(made.name.to_owned())),
            image_mounts,
            image: spec.and_then(|s| s.image).unwrap_or_default(),
            image_id: "sha256:1".to_owned(),
            pod_grace_seconds: Some(pod::grace_seconds(made.pod)),
            ..ContainerObservation::bare(id.clone(), made.sandbox.clone(), made.name, ContainerState::Created)
        };
        let container = Container {
            uid: pod::uid(made.pod),
            seen,
            is_ghost: made.is_ghost,
            is_late: made.is_ghost,
            obeys_after: made.obeys_after,
            began: Duration::ZERO,
        };
        self.containers.insert(id.clone(), container);
        id
    }

    /// Ends a container's process. Returns whether it ran.
    pub(crate) fn end(&mut self, id: &ContainerId, exit_code: i32, now: Timestamp) -> bool {
        let Some(container) = self.containers.get_mut(id) else { return false };
        let ContainerState::Running { started_at } = container.seen.state else { return false };
        container.seen.state = ContainerState::Exited(ContainerExit {
            exit_code,
            signal: 0,
            reason: if exit_code == 0 { "Completed".to_owned() } else { "Error".to_owned() },
            message: String::new(),
            started_at,
            finished_at: Some(now),
        });
        true
    }

    /// Ends a sandbox's process and everything in it. Returns the containers that ran.
    pub(crate) fn end_sandbox(&mut self, id: &SandboxId, now: Timestamp) -> Vec<ContainerId> {
        let Some(sandbox) = self.sandboxes.get_mut(id) else { return Vec::new() };
        sandbox.seen.is_ready = false;
        sandbox.seen.ips.clear();
        let inside: Vec<ContainerId> = self
            .containers
            .values()
            .filter(|c| c.seen.sandbox_id == *id)
            .map(|c| c.seen.id.clone())
            .collect();
        inside.into_iter().filter(|c| self.end(c, 137, now)).collect()
    }

    pub(crate) fn remove_sandbox(&mut self, id: &SandboxId) {
        self.sandboxes.remove(id);
        self.containers.retain(|_, c| c.seen.sandbox_id != *id);
    }

    /// Everything there is of one pod.
    pub(crate) fn observe(&self, uid: &PodUid, key: &PodKey) -> PodObservation {
        let mut pod = PodObservation::empty(uid.clone(), key.clone());
        pod.sandboxes = self.sandboxes.values().filter(|s| s.uid == *uid).map(|s| s.seen.clone()).collect();
        pod.containers = self.containers.values().filter(|c| c.uid == *uid).map(|c| c.seen.clone()).collect();
        pod.sort();
        pod
    }

    /// The outline of every pod.
    pub(crate) fn relist(&self) -> Vec<PodObservation> {
        let mut pods: BTreeMap<PodUid, PodObservation> = BTreeMap::new();
        for sandbox in self.sandboxes.values() {
            let pod = pods
                .entry(sandbox.uid.clone())
                .or_insert_with(|| PodObservation::empty(sandbox.uid.clone(), sandbox.key.clone()));
            pod.sandboxes.push(SandboxObservation { ips: Vec::new(), ..sandbox.seen.clone() });
        }
        for container in self.containers.values() {
            let Some(pod) = pods.get_mut(&container.uid) else { continue };
            let state = match &container.seen.state {
                ContainerState::Running { .. } => ContainerState::Running { started_at: None },
                ContainerState::Exited(_) => ContainerState::Exited(ContainerExit::default()),
                other => other.clone(),
            };
            pod.containers.push(ContainerObservation {
                state,
                image: String::new(),
                image_used: None,
                image_mounts: Vec::new(),
                ..container.seen.clone()
            });
        }
        pods.into_values().collect()
    }

    /// The running containers of a pod.
    pub(crate) fn running<'a>(&'a self, uid: &'a PodUid) -> impl Iterator<Item = &'a Container> {
        self.containers.values().filter(move |c| c.uid == *uid && c.seen.state.is_running())
    }

    /// The sandboxes of a pod whose network has not been taken down.
    pub(crate) fn networks<'a>(&'a self, uid: &'a PodUid) -> impl Iterator<Item = &'a Sandbox> {
        self.sandboxes.values().filter(move |s| s.uid == *uid && s.has_network)
    }

    /// The ready sandboxes of a pod.
    pub(crate) fn ready<'a>(&'a self, uid: &'a PodUid) -> impl Iterator<Item = &'a Sandbox> {
        self.sandboxes.values().filter(move |s| s.uid == *uid && s.seen.is_ready)
    }
}

/// What a container is made from.
pub(crate) struct NewContainer<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) name: &'a str,
    pub(crate) sandbox: &'a SandboxId,
    pub(crate) attempt: u32,
    pub(crate) is_ghost: bool,
    pub(crate) obeys_after: Option<Duration>,
}

/// What ends in the runtime, and how the agent hears of it.
impl World {
    /// Ends a container's process and tells of it. Returns whether it ran.
    pub(crate) fn end_container(&mut self, id: &ContainerId, code: i32) -> bool {
        let now = self.clock();
        if !self.runtime.end(id, code, now) {
            return false;
        }
        self.ended(id, code);
        true
    }

    /// Takes note of a container that has ended.
    pub(crate) fn ended(&mut self, id: &ContainerId, code: i32) {
        let Some(container) = self.runtime.containers.get(id) else { return };
        let (uid, sandbox, name) =
            (container.uid.clone(), container.seen.sandbox_id.clone(), container.seen.name.clone());
        if code == 0 {
            self.truth.passed.insert((sandbox, name));
        }
        self.hint(&uid, id.as_str(), RuntimeChange::Stopped);
    }

    /// Stops a sandbox with its network and tells of everything that ended with it.
    pub(crate) fn stop_sandbox(&mut self, id: &SandboxId) {
        self.end_sandbox(id);
        if let Some(sandbox) = self.runtime.sandboxes.get_mut(id) {
            sandbox.has_network = false;
        }
    }

    pub(crate) fn end_sandbox(&mut self, id: &SandboxId) {
        let ended = self.runtime.end_sandbox(id, self.clock());
        for container in ended {
            self.ended(&container, 137);
        }
        if let Some(sandbox) = self.runtime.sandboxes.get(id) {
            let uid = sandbox.uid.clone();
            self.hint(&uid, id.as_str(), RuntimeChange::Stopped);
        }
    }
}
