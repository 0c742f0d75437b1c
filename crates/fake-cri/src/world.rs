//! What the runtime holds: pods with their sandboxes and containers. A plain value: calls change
//! it, and every change is announced to whoever listens for events.
//!
//! The protocol's own types are the state; lists and statuses are read from them. Pods are the
//! first level, so that what concerns one pod costs the same on a node with a thousand.

use std::collections::{BTreeMap, HashMap, VecDeque};

use runtime::labels;
use runtime::wire::{
    Container, ContainerConfig, ContainerEventResponse, ContainerEventType, ContainerFilter,
    ContainerResources, ContainerState, ContainerStatus, LinuxContainerResources, LinuxPodSandboxStatus,
    Namespace, PodSandbox, PodSandboxConfig, PodSandboxFilter, PodSandboxNetworkStatus, PodSandboxState,
    PodSandboxStatus,
};
use tokio::sync::broadcast;
use tonic::Status;

use crate::annotation;
use crate::images::{image_id, image_ref};

/// Events kept for a slow listener: a thousand pods started at once announce 3,000.
const EVENTS: usize = 16_384;
/// Ends remembered for each pod.
const ENDS: usize = 64;
/// A process that was asked to end.
const TERMINATED: i32 = 143;
/// A process that was killed.
const KILLED: i32 = 137;

/// A sandbox and what its config said about its containers.
struct Sandbox {
    status: PodSandboxStatus,
    log_directory: String,
}

struct Held {
    status: ContainerStatus,
    sandbox: String,
    exit: Option<annotation::Exit>,
}

/// The sandboxes and containers of one pod.
#[derive(Default)]
struct Pod {
    /// `namespace/name`.
    key: String,
    sandboxes: Vec<Sandbox>,
    containers: Vec<Held>,
}

/// A container that was started.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Started {
    /// Where its log goes, if anywhere.
    pub(crate) log: Option<String>,
    /// Whether it ends by itself.
    pub(crate) exit: Option<annotation::Exit>,
}

/// Everything the runtime holds.
pub(crate) struct World {
    /// By uid.
    pods: BTreeMap<String, Pod>,
    /// The uid of the pod that an id belongs to.
    owners: HashMap<String, String>,
    ends: BTreeMap<String, VecDeque<(String, i64)>>,
    made: u32,
    events: broadcast::Sender<ContainerEventResponse>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            pods: BTreeMap::new(),
            owners: HashMap::new(),
            ends: BTreeMap::new(),
            made: 0,
            events: broadcast::Sender::new(EVENTS),
        }
    }

    /// What happens from now on.
    pub(crate) fn listen(&self) -> broadcast::Receiver<ContainerEventResponse> {
        self.events.subscribe()
    }

    /// The pod (`namespace/name`) that a sandbox or container belongs to.
    pub(crate) fn pod_of(&self, id: &str) -> Option<String> {
        Some(self.pods.get(self.owners.get(id)?)?.key.clone())
    }

    /// The pod with this uid.
    pub(crate) fn pod_with(&self, uid: &str) -> Option<String> {
        Some(self.pods.get(uid)?.key.clone())
    }

    /// Makes a sandbox and returns its id.
    pub(crate) fn run_sandbox(&mut self, config: PodSandboxConfig, handler: String, now: i64) -> String {
        let (id, ip) = self.identity("sandbox");
        let metadata = config.metadata.unwrap_or_default();
        let uid = metadata.uid.clone();
        let options = config.linux.and_then(|linux| linux.security_context?.namespace_options);
        let status = PodSandboxStatus {
            id: id.clone(),
            state: PodSandboxState::SandboxReady.into(),
            created_at: now,
            network: Some(PodSandboxNetworkStatus { ip, additional_ips: Vec::new() }),
            linux: Some(LinuxPodSandboxStatus { namespaces: Some(Namespace { options }) }),
            labels: config.labels,
            annotations: config.annotations,
            runtime_handler: handler,
            metadata: Some(metadata.clone()),
        };
        let pod = self.pods.entry(uid.clone()).or_default();
        pod.key = key(&metadata.namespace, &metadata.name);
        pod.sandboxes.push(Sandbox { status, log_directory: config.log_directory });
        self.owners.insert(id.clone(), uid);
        self.announce(&id, ContainerEventType::ContainerCreatedEvent, now);
        self.announce(&id, ContainerEventType::ContainerStartedEvent, now);
        id
    }

    /// Ends all in a sandbox. Repeatable.
    pub(crate) fn stop_sandbox(&mut self, id: &str, now: i64) {
        for container in self.containers_in(id) {
            self.end(&container, KILLED, now);
        }
        let Some(sandbox) =
            self.pod_mut(id).and_then(|pod| pod.sandboxes.iter_mut().find(|s| s.status.id == id))
        else {
            return;
        };
        let not_ready = PodSandboxState::SandboxNotready;
        if sandbox.status.state() != not_ready {
            sandbox.status.set_state(not_ready);
            sandbox.status.network = None;
            self.announce(id, ContainerEventType::ContainerStoppedEvent, now);
        }
    }

    /// Deletes a sandbox and all in it. Repeatable.
    pub(crate) fn remove_sandbox(&mut self, id: &str, now: i64) {
        self.stop_sandbox(id, now);
        for container in self.containers_in(id) {
            self.remove_container(&container, now);
        }
        let Some(uid) = self.owners.get(id).cloned() else { return };
        self.announce(id, ContainerEventType::ContainerDeletedEvent, now);
        self.owners.remove(id);
        if let Some(pod) = self.pods.get_mut(&uid) {
            pod.sandboxes.retain(|sandbox| sandbox.status.id != id);
            if pod.sandboxes.is_empty() && pod.containers.is_empty() {
                self.pods.remove(&uid);
            }
        }
    }

    /// Prepares a container in a ready sandbox and returns its id.
    pub(crate) fn create_container(
        &mut self,
        sandbox_id: &str,
        config: ContainerConfig,
        now: i64,
    ) -> Result<String, Status> {
        let (id, _) = self.identity("container");
        let no_sandbox = || Status::not_found(format!("there is no sandbox {sandbox_id}"));
        let pod = self.pod_mut(sandbox_id).ok_or_else(no_sandbox)?;
        let sandbox = pod.sandboxes.iter().find(|s| s.status.id == sandbox_id).ok_or_else(no_sandbox)?;
        if sandbox.status.state() != PodSandboxState::SandboxReady {
            return Err(Status::failed_precondition(format!("sandbox {sandbox_id} is not ready")));
        }
        let exit = annotation::exit(&sandbox.status.annotations).map_err(Status::invalid_argument)?;
        let log_path = match (sandbox.log_directory.as_str(), config.log_path.as_str()) {
            ("", _) | (_, "") => String::new(),
            (folder, path) => format!("{folder}/{path}"),
        };
        let image = config.image.unwrap_or_default();
        let resources = config.linux.and_then(|linux| linux.resources);
        let status = ContainerStatus {
            id: id.clone(),
            metadata: config.metadata,
            state: ContainerState::ContainerCreated.into(),
            created_at: now,
            image_ref: image_ref(&image.user_specified_image),
            image_id: image_id(&image.image),
            image: Some(image),
            labels: config.labels,
            annotations: config.annotations,
            mounts: config.mounts,
            log_path,
            resources: resources.map(|linux| ContainerResources { linux: Some(linux), windows: None }),
            stop_signal: config.stop_signal,
            ..Default::default()
        };
        let uid = sandbox.status.metadata.as_ref().map(|metadata| metadata.uid.clone()).unwrap_or_default();
        pod.containers.push(Held { status, sandbox: sandbox_id.to_owned(), exit });
        self.owners.insert(id.clone(), uid);
        self.announce(&id, ContainerEventType::ContainerCreatedEvent, now);
        Ok(id)
    }

    /// Starts a created container.
    pub(crate) fn start_container(&mut self, id: &str, now: i64) -> Result<Started, Status> {
        let container = self.container_mut(id)?;
        if container.status.state() != ContainerState::ContainerCreated {
            return Err(Status::failed_precondition(format!("container {id} was started before")));
        }
        container.status.set_state(ContainerState::ContainerRunning);
        container.status.started_at = now;
        let log = Some(container.status.log_path.clone()).filter(|path| !path.is_empty());
        let exit = container.exit;
        self.announce(id, ContainerEventType::ContainerStartedEvent, now);
        Ok(Started { log, exit })
    }

    /// Ends a container as SIGTERM does. Repeatable.
    pub(crate) fn stop_container(&mut self, id: &str, now: i64) -> Result<(), Status> {
        self.container_mut(id)?;
        self.end(id, TERMINATED, now);
        Ok(())
    }

    /// A container's process ends. Nothing happens unless it runs.
    pub(crate) fn end(&mut self, id: &str, code: i32, now: i64) -> bool {
        let Ok(container) = self.container_mut(id) else { return false };
        let status = &mut container.status;
        match status.state() {
            ContainerState::ContainerRunning => {}
            // Stopped before it ever ran.
            ContainerState::ContainerCreated => status.started_at = now,
            _ => return false,
        }
        status.set_state(ContainerState::ContainerExited);
        status.exit_code = code;
        status.finished_at = now;
        status.reason = if code == 0 { "Completed" } else { "Error" }.to_owned();
        let name = status.metadata.as_ref().map(|metadata| metadata.name.clone()).unwrap_or_default();
        let ends = self.pod_of(id).map(|key| self.ends.entry(key).or_default());
        if let Some(ends) = ends {
            if ends.len() == ENDS {
                ends.pop_front();
            }
            ends.push_back((name, now));
        }
        self.announce(id, ContainerEventType::ContainerStoppedEvent, now);
        true
    }

    /// Ends all running containers of a pod, or those of a name, and returns how many.
    pub(crate) fn end_pod(&mut self, key: &str, name: Option<&str>, code: i32, now: i64) -> usize {
        let pods = self.pods.values().filter(|pod| pod.key == key);
        let is_named = |held: &&Held| {
            let metadata = held.status.metadata.as_ref();
            name.is_none_or(|name| metadata.is_some_and(|metadata| metadata.name == name))
        };
        let containers = pods.flat_map(|pod| &pod.containers).filter(is_named);
        let running = containers.filter(|held| held.status.state() == ContainerState::ContainerRunning);
        let running: Vec<String> = running.map(|held| held.status.id.clone()).collect();
        running.iter().filter(|id| self.end(id, code, now)).count()
    }

    /// The containers of a pod that have ended: their names and when.
    pub(crate) fn ended(&self, key: &str) -> Vec<(String, i64)> {
        self.ends.get(key).map(|ends| ends.iter().cloned().collect()).unwrap_or_default()
    }

    /// The options of what the containers of a pod have mounted at a path.
    pub(crate) fn mount_options(&self, key: &str, path: &str) -> Option<Vec<String>> {
        let pods = self.pods.values().filter(|pod| pod.key == key);
        let mut mounts = pods.flat_map(|pod| &pod.containers).flat_map(|held| &held.status.mounts);
        mounts.find(|mount| mount.container_path == path).map(|mount| mount.mount_options.clone())
    }

    /// Deletes a container, killing it if it runs. Repeatable.
    pub(crate) fn remove_container(&mut self, id: &str, now: i64) {
        self.end(id, KILLED, now);
        let Some(uid) = self.owners.get(id).cloned() else { return };
        self.announce(id, ContainerEventType::ContainerDeletedEvent, now);
        self.owners.remove(id);
        if let Some(pod) = self.pods.get_mut(&uid) {
            pod.containers.retain(|held| held.status.id != id);
        }
    }

    /// Changes a container's limits.
    pub(crate) fn update_resources(
        &mut self,
        id: &str,
        linux: LinuxContainerResources,
    ) -> Result<(), Status> {
        let container = self.container_mut(id)?;
        container.status.resources = Some(ContainerResources { linux: Some(linux), windows: None });
        Ok(())
    }

    /// The sandboxes a filter lets through.
    pub(crate) fn sandboxes(&self, filter: Option<PodSandboxFilter>) -> Vec<PodSandbox> {
        let filter = filter.unwrap_or_default();
        let wanted = |sandbox: &&Sandbox| {
            let status = &sandbox.status;
            (filter.id.is_empty() || status.id.starts_with(&filter.id))
                && filter.state.is_none_or(|state| state.state == status.state)
                && has_labels(&status.labels, &filter.label_selector)
        };
        let all = self.selected(&filter.label_selector).flat_map(|pod| &pod.sandboxes);
        all.filter(wanted).map(|sandbox| sandbox_in_list(&sandbox.status)).collect()
    }

    /// The containers a filter lets through.
    pub(crate) fn containers(&self, filter: Option<ContainerFilter>) -> Vec<Container> {
        let filter = filter.unwrap_or_default();
        let wanted = |held: &&Held| {
            let status = &held.status;
            (filter.id.is_empty() || status.id.starts_with(&filter.id))
                && filter.state.is_none_or(|state| state.state == status.state)
                && (filter.pod_sandbox_id.is_empty() || held.sandbox == filter.pod_sandbox_id)
                && has_labels(&status.labels, &filter.label_selector)
        };
        let all = self.selected(&filter.label_selector).flat_map(|pod| &pod.containers);
        all.filter(wanted).map(container_in_list).collect()
    }

    /// One sandbox in full.
    pub(crate) fn sandbox(&self, id: &str) -> Result<PodSandboxStatus, Status> {
        let pod = self.owners.get(id).and_then(|uid| self.pods.get(uid));
        let found = pod.and_then(|pod| pod.sandboxes.iter().find(|sandbox| sandbox.status.id == id));
        let found = found.ok_or_else(|| Status::not_found(format!("there is no sandbox {id}")))?;
        Ok(found.status.clone())
    }

    /// One container in full.
    pub(crate) fn container(&self, id: &str) -> Result<ContainerStatus, Status> {
        let pod = self.owners.get(id).and_then(|uid| self.pods.get(uid));
        let found = pod.and_then(|pod| pod.containers.iter().find(|held| held.status.id == id));
        Ok(found.ok_or_else(|| no_container(id))?.status.clone())
    }

    /// The pods a selector may mean; kubelets select a pod by its uid.
    fn selected(&self, selector: &BTreeMap<String, String>) -> impl Iterator<Item = &Pod> {
        let one = selector.get(labels::POD_UID);
        let all = one.is_none().then(|| self.pods.values());
        one.and_then(|uid| self.pods.get(uid)).into_iter().chain(all.into_iter().flatten())
    }

    fn containers_in(&self, sandbox: &str) -> Vec<String> {
        let pod = self.owners.get(sandbox).and_then(|uid| self.pods.get(uid));
        let all = pod.map(|pod| pod.containers.as_slice()).unwrap_or_default().iter();
        all.filter(|held| held.sandbox == sandbox).map(|held| held.status.id.clone()).collect()
    }

    fn pod_mut(&mut self, id: &str) -> Option<&mut Pod> {
        self.pods.get_mut(self.owners.get(id)?)
    }

    fn container_mut(&mut self, id: &str) -> Result<&mut Held, Status> {
        let found =
            self.pod_mut(id).and_then(|pod| pod.containers.iter_mut().find(|held| held.status.id == id));
        found.ok_or_else(|| no_container(id))
    }

    /// An id of the usual form, and an address.
    fn identity(&mut self, kind: &str) -> (String, String) {
        self.made += 1;
        let id = crate::images::digest(&format!("{kind} {}", self.made));
        // Host parts 1 to 2^20: what a node needs in a day, and not the network's own address.
        let [_, a, b, c] = (self.made % (1 << 20) + 1).to_be_bytes();
        (id, format!("10.{}.{b}.{c}", 64 + a))
    }

    /// Tells listeners, if there are any, with the pod as it now is.
    fn announce(&self, id: &str, kind: ContainerEventType, now: i64) {
        if self.events.receiver_count() == 0 {
            return;
        }
        let pod = self.owners.get(id).and_then(|uid| self.pods.get(uid));
        let Some(pod) = pod else { return };
        let event = ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind.into(),
            created_at: now,
            pod_sandbox_status: pod.sandboxes.last().map(|sandbox| sandbox.status.clone()),
            containers_statuses: pod.containers.iter().map(|held| held.status.clone()).collect(),
        };
        // The last listener may just have gone.
        let _ = self.events.send(event);
    }
}

/// How pods are named to people.
pub(crate) fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

fn no_container(id: &str) -> Status {
    Status::not_found(format!("there is no container {id}"))
}

fn has_labels(labels: &BTreeMap<String, String>, selector: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn sandbox_in_list(status: &PodSandboxStatus) -> PodSandbox {
    PodSandbox {
        id: status.id.clone(),
        metadata: status.metadata.clone(),
        state: status.state,
        created_at: status.created_at,
        labels: status.labels.clone(),
        annotations: status.annotations.clone(),
        runtime_handler: status.runtime_handler.clone(),
    }
}

fn container_in_list(held: &Held) -> Container {
    let status = &held.status;
    Container {
        id: status.id.clone(),
        pod_sandbox_id: held.sandbox.clone(),
        metadata: status.metadata.clone(),
        image: status.image.clone(),
        image_ref: status.image_ref.clone(),
        state: status.state,
        created_at: status.created_at,
        labels: status.labels.clone(),
        annotations: status.annotations.clone(),
        image_id: status.image_id.clone(),
    }
}
