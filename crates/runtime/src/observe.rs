//! Reading what the runtime holds: everything roughly ([`Runtime::relist`]), or one pod in full
//! ([`Runtime::observe`]).

use std::collections::BTreeMap;

use futures::future::{join_all, try_join};
use jiff::Timestamp;
use model::observed::{ContainerExit, ContainerResources, ContainerUser};
use model::{
    ContainerId, ContainerObservation, ContainerState, ImageMountObservation, ImageRef, PodKey,
    PodObservation, PodUid, SandboxId, SandboxObservation,
};

use crate::client::Runtime;
use crate::container::signal;
use crate::error::RuntimeError;
use crate::labels::{self, text};
use crate::lists::List;
use crate::{termination, wire};

impl Runtime {
    /// Every pod the runtime holds something of, in the order of uids. States and ids only: what
    /// a status adds (addresses, exit codes, images) is absent. Objects that no kubelet labelled
    /// are left out.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub async fn relist(&self) -> Result<Vec<PodObservation>, RuntimeError> {
        let (sandboxes, containers) = try_join(self.list_sandboxes(None), self.list_containers(None)).await?;
        let mut pods = BTreeMap::new();
        for sandbox in sandboxes {
            if let Some(pod) = pod_of(&mut pods, &sandbox.labels) {
                pod.sandboxes.push(sandbox_from_list(sandbox));
            }
        }
        for container in containers {
            if let Some(pod) = pod_of(&mut pods, &container.labels) {
                pod.containers.push(container_from_list(container));
            }
        }
        Ok(pods
            .into_values()
            .map(|mut pod| {
                pod.sort();
                pod
            })
            .collect())
    }

    /// One pod in full. A container that vanishes between the list and its status is skipped:
    /// removals elsewhere are ordinary.
    ///
    /// # Errors
    /// When the runtime does not answer, or fails to describe an object it listed and still has.
    pub async fn observe(&self, uid: &PodUid, key: &PodKey) -> Result<PodObservation, RuntimeError> {
        let (sandboxes, containers) =
            try_join(self.list_sandboxes(Some(uid)), self.list_containers(Some(uid))).await?;
        let mut pod = PodObservation::empty(uid.clone(), key.clone());
        pod.sandboxes = sandboxes.into_iter().map(sandbox_from_list).collect();
        pod.sort();
        let newest = pod.sandboxes.first().map(|sandbox| sandbox.id.clone());
        let statuses =
            join_all(containers.into_iter().map(|c| self.container_status(c.id, c.pod_sandbox_id)));
        let (ips, statuses) = futures::future::join(self.sandbox_ips(newest.as_ref()), statuses).await;
        match ips? {
            Some(status) => {
                if let Some(sandbox) = pod.sandboxes.first_mut() {
                    sandbox.is_ready = status.is_ready;
                    sandbox.ips = status.ips;
                }
            }
            None if newest.is_some() => {
                pod.sandboxes.remove(0);
            }
            None => {}
        }
        for status in statuses {
            pod.containers.extend(status?);
        }
        pod.sort();
        Ok(pod)
    }

    /// One container in full; `None` when it is gone.
    ///
    /// # Errors
    /// When the runtime does not answer, or fails to describe it.
    pub async fn container(
        &self,
        id: &ContainerId,
        sandbox: &SandboxId,
    ) -> Result<Option<ContainerObservation>, RuntimeError> {
        self.container_status(id.to_string(), sandbox.to_string()).await
    }

    /// One sandbox in full; `None` when it is gone.
    ///
    /// # Errors
    /// When the runtime does not answer, or fails to describe it.
    pub async fn sandbox(&self, id: &SandboxId) -> Result<Option<SandboxObservation>, RuntimeError> {
        let Some(status) = self.sandbox_status(id).await? else { return Ok(None) };
        Ok(Some(SandboxObservation {
            id: id.clone(),
            attempt: status.metadata.as_ref().map_or(0, |m| m.attempt),
            is_ready: status.state() == wire::PodSandboxState::SandboxReady,
            created_at: timestamp(status.created_at).unwrap_or_default(),
            ips: addresses(status.network.unwrap_or_default()),
        }))
    }

    async fn list_sandboxes(&self, uid: Option<&PodUid>) -> Result<Vec<wire::PodSandbox>, RuntimeError> {
        let filter =
            uid.map(|uid| wire::PodSandboxFilter { label_selector: selector(uid), ..Default::default() });
        let (mut client, mut other) = (self.runtime(), self.runtime());
        let chunks = self.request(wire::StreamPodSandboxesRequest { filter: filter.clone() });
        let whole = self.request(wire::ListPodSandboxRequest { filter });
        let list = List {
            calls: ("StreamPodSandboxes", "ListPodSandbox"),
            object: uid.map_or("", PodUid::as_str),
            has_chunks: &self.chunks().runtime,
            chunks: Box::pin(client.stream_pod_sandboxes(chunks)),
            whole: Box::pin(other.list_pod_sandbox(whole)),
        };
        self.list(list, |chunk| chunk.pod_sandboxes, |whole| whole.items).await
    }

    async fn list_containers(&self, uid: Option<&PodUid>) -> Result<Vec<wire::Container>, RuntimeError> {
        let filter =
            uid.map(|uid| wire::ContainerFilter { label_selector: selector(uid), ..Default::default() });
        let (mut client, mut other) = (self.runtime(), self.runtime());
        let chunks = self.request(wire::StreamContainersRequest { filter: filter.clone() });
        let whole = self.request(wire::ListContainersRequest { filter });
        let list = List {
            calls: ("StreamContainers", "ListContainers"),
            object: uid.map_or("", PodUid::as_str),
            has_chunks: &self.chunks().runtime,
            chunks: Box::pin(client.stream_containers(chunks)),
            whole: Box::pin(other.list_containers(whole)),
        };
        self.list(list, |chunk| chunk.containers, |whole| whole.containers).await
    }

    /// `None` when there is no sandbox or it vanished meanwhile.
    async fn sandbox_ips(&self, id: Option<&SandboxId>) -> Result<Option<SandboxStatus>, RuntimeError> {
        let Some(id) = id else { return Ok(None) };
        let status = self.sandbox_status(id).await?;
        Ok(status.map(|status| SandboxStatus {
            is_ready: status.state() == wire::PodSandboxState::SandboxReady,
            ips: addresses(status.network.unwrap_or_default()),
        }))
    }

    /// The image a sandbox was made from, by name; empty when the runtime does not tell. containerd and CRI-O
    /// tell it among what they say of themselves only, which is costly: to be asked once.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub async fn sandbox_image(&self, id: &SandboxId) -> Result<String, RuntimeError> {
        let mut client = self.runtime();
        let request =
            self.request(wire::PodSandboxStatusRequest { pod_sandbox_id: id.to_string(), verbose: true });
        let answer = self.call("PodSandboxStatus", id.as_str(), client.pod_sandbox_status(request)).await?;
        Ok(answer.info.get("info").map(|text| image_in(text)).unwrap_or_default())
    }

    async fn sandbox_status(&self, id: &SandboxId) -> Result<Option<wire::PodSandboxStatus>, RuntimeError> {
        let mut client = self.runtime();
        let request =
            self.request(wire::PodSandboxStatusRequest { pod_sandbox_id: id.to_string(), verbose: false });
        let answer =
            match self.call("PodSandboxStatus", id.as_str(), client.pod_sandbox_status(request)).await {
                Ok(answer) => answer,
                Err(error) if error.is_not_found() => return Ok(None),
                Err(error) => return Err(error),
            };
        answer
            .status
            .map(Some)
            .ok_or_else(|| RuntimeError::incomplete("PodSandboxStatus", id.as_str(), "status"))
    }

    /// `None` when the container vanished meanwhile.
    async fn container_status(
        &self,
        id: String,
        sandbox_id: String,
    ) -> Result<Option<ContainerObservation>, RuntimeError> {
        let mut client = self.runtime();
        let request = self.request(wire::ContainerStatusRequest { container_id: id.clone(), verbose: false });
        let answer = match self.call("ContainerStatus", &id, client.container_status(request)).await {
            Ok(answer) => answer,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut status =
            answer.status.ok_or_else(|| RuntimeError::incomplete("ContainerStatus", &*id, "status"))?;
        if status.state() == wire::ContainerState::ContainerExited
            && let Some(source) = termination::source(&status)
        {
            // Disk I/O, so off the executor. A panic inside would only lose the message.
            let words = tokio::task::spawn_blocking(move || source.read()).await.unwrap_or_default();
            append_words(&mut status.message, &words);
        }
        let mut container = container_from_status(status, sandbox_id);
        if !self.settings.reports_stop_signals {
            container.stop_signal = None;
        }
        Ok(Some(container))
    }
}

/// The image in what a runtime says of a sandbox beyond the protocol: a document of its own.
fn image_in(info: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Info {
        #[serde(default)]
        image: String,
    }
    serde_json::from_str::<Info>(info).map(|info| info.image).unwrap_or_default()
}

struct SandboxStatus {
    is_ready: bool,
    ips: Vec<String>,
}

fn append_words(message: &mut String, words: &str) {
    if !words.is_empty() {
        if !message.is_empty() {
            message.push_str(": ");
        }
        message.push_str(words);
    }
}

fn selector(uid: &PodUid) -> BTreeMap<String, String> {
    BTreeMap::from([(labels::POD_UID.to_owned(), uid.to_string())])
}

fn pod_of<'a>(
    pods: &'a mut BTreeMap<PodUid, PodObservation>,
    labels: &BTreeMap<String, String>,
) -> Option<&'a mut PodObservation> {
    let uid = PodUid::from(labels.get(labels::POD_UID)?.as_str());
    Some(pods.entry(uid.clone()).or_insert_with(|| {
        let key = PodKey::new(text(labels, labels::POD_NAMESPACE), text(labels, labels::POD_NAME));
        PodObservation::empty(uid, key)
    }))
}

fn sandbox_from_list(sandbox: wire::PodSandbox) -> SandboxObservation {
    SandboxObservation {
        is_ready: sandbox.state() == wire::PodSandboxState::SandboxReady,
        attempt: sandbox.metadata.as_ref().map_or(0, |m| m.attempt),
        created_at: timestamp(sandbox.created_at).unwrap_or_default(),
        id: sandbox.id.into(),
        ips: Vec::new(),
    }
}

fn container_from_list(container: wire::Container) -> ContainerObservation {
    let state = match container.state() {
        wire::ContainerState::ContainerCreated => ContainerState::Created,
        wire::ContainerState::ContainerRunning => ContainerState::Running { started_at: None },
        wire::ContainerState::ContainerExited => ContainerState::Exited(ContainerExit::default()),
        wire::ContainerState::ContainerUnknown => ContainerState::Unknown,
    };
    let identity = Identity::of(container.metadata, &container.labels, &container.annotations);
    let sandbox = container.pod_sandbox_id.into();
    ContainerObservation {
        attempt: identity.attempt,
        created_at: timestamp(container.created_at).unwrap_or_default(),
        spec_hash: identity.spec_hash,
        pod_grace_seconds: identity.pod_grace_seconds,
        ..ContainerObservation::bare(container.id.into(), sandbox, identity.name, state)
    }
}

fn container_from_status(status: wire::ContainerStatus, sandbox_id: String) -> ContainerObservation {
    let stop_signal = signal::text(status.stop_signal());
    let recursive = status.mounts.iter().filter(|mount| mount.recursive_read_only);
    let recursive_read_only = recursive.map(|mount| mount.container_path.clone()).collect();
    let image_mounts = status.mounts.iter().filter_map(|mount| {
        let image = mount.image.as_ref().map(|spec| spec.image.as_str()).filter(|image| !image.is_empty())?;
        Some(ImageMountObservation { container_path: mount.container_path.clone(), image: image.into() })
    });
    let image_mounts = image_mounts.collect();
    let state = match status.state() {
        wire::ContainerState::ContainerCreated => ContainerState::Created,
        wire::ContainerState::ContainerRunning => {
            ContainerState::Running { started_at: timestamp(status.started_at) }
        }
        wire::ContainerState::ContainerExited => ContainerState::Exited(ContainerExit {
            exit_code: status.exit_code,
            signal: 0,
            reason: status.reason,
            message: status.message,
            // One that never ran started with the epoch, as Go's time of 0 ns is written.
            started_at: timestamp(status.started_at).or(Some(Timestamp::UNIX_EPOCH)),
            finished_at: timestamp(status.finished_at),
        }),
        wire::ContainerState::ContainerUnknown => ContainerState::Unknown,
    };
    let identity = Identity::of(status.metadata, &status.labels, &status.annotations);
    ContainerObservation {
        id: ContainerId::from(status.id),
        sandbox_id: sandbox_id.into(),
        name: identity.name,
        attempt: identity.attempt,
        state,
        created_at: timestamp(status.created_at).unwrap_or_default(),
        spec_hash: identity.spec_hash,
        image: status.image.map(|image| image.image).unwrap_or_default(),
        image_used: image_used(status.image_id, &status.image_ref),
        image_id: status.image_ref,
        pod_grace_seconds: identity.pod_grace_seconds,
        resources: status.resources.and_then(|r| r.linux).map(|linux| ContainerResources {
            cpu_shares: linux.cpu_shares,
            cpu_quota: linux.cpu_quota,
            cpu_period: linux.cpu_period,
            memory_limit_bytes: linux.memory_limit_in_bytes,
        }),
        user: status.user.and_then(|u| u.linux).map(|linux| ContainerUser {
            uid: linux.uid,
            gid: linux.gid,
            supplemental_groups: linux.supplemental_groups,
        }),
        stop_signal,
        recursive_read_only,
        image_mounts,
    }
}

/// The image's id, which older runtimes say only in the other field, or a name of it.
fn image_used(id: String, reference: &str) -> Option<ImageRef> {
    let told = if id.is_empty() { reference.to_owned() } else { id };
    (!told.is_empty()).then(|| told.into())
}

/// What lists and statuses say alike.
struct Identity {
    name: String,
    attempt: u32,
    spec_hash: Option<u64>,
    pod_grace_seconds: Option<u64>,
}

impl Identity {
    fn of(
        metadata: Option<wire::ContainerMetadata>,
        labels: &BTreeMap<String, String>,
        annotations: &BTreeMap<String, String>,
    ) -> Self {
        let metadata = metadata.unwrap_or_default();
        let name = labels.get(labels::CONTAINER_NAME).cloned().unwrap_or(metadata.name);
        let attempt = text(annotations, labels::CONTAINER_RESTART_COUNT).parse().unwrap_or(metadata.attempt);
        Self {
            name,
            attempt,
            spec_hash: annotations
                .get(labels::CONTAINER_HASH)
                .and_then(|hash| u64::from_str_radix(hash, 16).ok()),
            pod_grace_seconds: text(annotations, labels::POD_TERMINATION_GRACE).parse().ok(),
        }
    }
}

/// Nanoseconds since 1970; zero (or less) is "never".
pub(crate) fn timestamp(nanos: i64) -> Option<Timestamp> {
    (nanos > 0).then(|| Timestamp::from_nanosecond(i128::from(nanos)).ok()).flatten()
}

/// The addresses, primary first; none at all when one is nonsense, so that no half truth is used.
fn addresses(network: wire::PodSandboxNetworkStatus) -> Vec<String> {
    let additional = network.additional_ips.into_iter().map(|ip| ip.ip);
    let all: Vec<String> =
        Some(network.ip).filter(|ip| !ip.is_empty()).into_iter().chain(additional).collect();
    if all.iter().all(|ip| ip.parse::<std::net::IpAddr>().is_ok()) { all } else { Vec::new() }
}
