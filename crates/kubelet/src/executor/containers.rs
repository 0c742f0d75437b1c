//! Containers: everything one needs is gathered, then it is created, started, and read back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use config::Config;
use model::mount::ContainerMount;
use model::pod::{self, ContainerRef};
use model::{AllocatedPod, ContainerId, ImageRef, PodKey, PodUid, SandboxId};
use node::{ContainerStart, Failure, FailureKind, Outcome, RuntimeOutcome};
use runtime::container::{ContainerInputs, ContainerSpec};
use runtime::hostname::PodHostname;
use runtime::images::ImageUser;
use runtime::podfiles::PodFileError;
use runtime::{NodeSettings, Runtime, container, hostname, podfiles};
use tracing::warn;
use volumes::{MountInputs, Volumes};

use super::environment::Environments;
use super::failure;
use super::log_links::LogLinks;
use super::objects::ObjectPort;
use super::sandboxes::Sandboxes;

/// Makes, starts, stops and removes containers.
pub(crate) struct Containers {
    pub(crate) runtime: Runtime,
    pub(crate) node: Arc<NodeSettings>,
    pub(crate) config: Arc<Config>,
    pub(crate) sandboxes: Arc<Sandboxes>,
    pub(crate) environments: Environments,
    pub(crate) volumes: Arc<Volumes<ObjectPort>>,
    pub(crate) log_links: Arc<LogLinks>,
}

/// Where the log of a container is.
pub(crate) struct Log {
    pub(crate) uid: PodUid,
    pub(crate) key: PodKey,
    pub(crate) container: String,
    pub(crate) attempt: u32,
}

impl Containers {
    /// Creates and starts a container, and reads it back.
    pub(crate) async fn start(&self, mut start: ContainerStart) -> Outcome {
        let (uid, key) = (pod::uid(&start.pod), pod::key(&start.pod));
        let id = match self.create(&mut start).await {
            Ok(id) => id,
            Err(failure) => return Outcome::Failed(failure),
        };
        if let Err(error) = self.runtime.start_container(&id).await {
            return Outcome::Failed(failure::of_runtime(&error, FailureKind::ContainerStart));
        }
        self.link_log(&key, &uid, &start, &id).await;
        match self.runtime.container(&id, &start.sandbox).await {
            Ok(Some(container)) => Outcome::Runtime(RuntimeOutcome::ContainerStarted(container)),
            Ok(None) => failure::other(format!("container {id} vanished after its start")),
            Err(error) => failure::runtime(&error),
        }
    }

    async fn create(&self, start: &mut ContainerStart) -> Result<ContainerId, Failure> {
        let pod = start.pod.clone();
        let Some(spec) = pod::container(&pod, &start.container) else {
            return Err(config(format!("container {} is not in the pod's spec", start.container)));
        };
        let groups = start.volume_groups.clone();
        let (attempt, handler) = (start.sandbox_attempt, &start.handler);
        let sandbox_spec = self.sandboxes.spec(&start.pod, attempt, handler, groups).await?;
        let container_spec = self.describe(start, &spec, sandbox_spec.log_directory()).await?;
        self.runtime
            .create_container(&start.sandbox, &sandbox_spec, &container_spec)
            .await
            .map_err(|error| failure::of_runtime(&error, FailureKind::ContainerCreate))
    }

    async fn describe(
        &self,
        start: &mut ContainerStart,
        spec: &ContainerRef<'_>,
        log_dir: &Path,
    ) -> Result<ContainerSpec, Failure> {
        let pod = &start.pod.clone();
        let environment = self.environments.of(pod, spec, start.facts.clone()).await?;
        let variables: BTreeMap<String, String> =
            environment.iter().map(|v| (v.name.clone(), v.value.clone())).collect();
        let to_mount = MountInputs {
            environment: &variables,
            images: &start.image_volumes,
            published: &start.published_volumes,
            has_recursive_read_only_mounts: start.handler.has_recursive_read_only_mounts,
        };
        let mut mounts = self
            .volumes
            .mounts(pod, &spec.spec, &to_mount)
            .await
            .map_err(|error| config(model::chain(&error)))?;
        let hostname = podfiles::wants_hosts_file(pod, &mounts, &start.facts.pod_ips)
            .then(|| hostname::of(pod, &self.config.pods.cluster_domain))
            .transpose()
            .map_err(|error| config(error.to_string()))?;
        let files = Files {
            pod_dir: super::pod_dir(&self.config, &pod::uid(pod)),
            log_dir: log_dir.to_owned(),
            container: start.container.clone(),
            hosts: hostname.map(|hostname| (hostname, pod.clone(), start.facts.pod_ips.clone())),
        };
        let Made { next_attempt, hosts, termination_file } = blocking(move || files.make()).await?;
        mounts.extend(hosts);
        if start.attempt == 0 {
            // Nobody knows of an instance before this one. Its log does, after a reboot that the
            // runtime's containers did not outlive, and a static pod has no other memory.
            start.attempt = next_attempt;
        }
        let image_user = self.image_user(&start.image).await?;
        let inputs = ContainerInputs {
            attempt: start.attempt,
            image_ref: start.image.clone(),
            image_user,
            environment,
            mounts,
            handler: start.handler.name.clone(),
            termination_file: spec
                .spec
                .termination_message_path
                .as_deref()
                .is_none_or(|p| !p.is_empty())
                .then_some(termination_file),
            devices: Vec::new(),
            cdi_devices: Vec::new(),
            annotations: BTreeMap::new(),
            volume_groups: start.volume_groups.clone(),
            user_namespace: self.sandboxes.user_namespaces.ids_of(pod, &start.handler).await?,
            target: start.target.clone(),
            cpuset: container::CpuSet::default(),
        };
        container::spec(pod, spec, &inputs, &self.node).map_err(|error| config(error.to_string()))
    }

    async fn image_user(&self, image: &ImageRef) -> Result<ImageUser, Failure> {
        let facts = self
            .runtime
            .image_status(image.as_str())
            .await
            .map_err(|error| failure::of_runtime(&error, FailureKind::ContainerConfig))?;
        facts.map(|f| f.user).ok_or_else(|| config(format!("image {image} is not present any more")))
    }

    /// Makes the log appear where collectors look for it. A container without that link runs as well.
    async fn link_log(&self, key: &PodKey, uid: &PodUid, start: &ContainerStart, id: &ContainerId) {
        let log = podfiles::pod_log_dir(&self.config.paths.pod_logs, key, uid)
            .join(podfiles::container_log_path(&start.container, start.attempt));
        let name = podfiles::log_link_name(key, &start.container, id);
        let dir = self.log_links.folder().to_owned();
        if let Err(failure) = blocking(move || podfiles::link_log(&dir, &name, &log)).await {
            warn!(
                pod = %key,
                containerName = start.container,
                err = failure.message,
                "Failed to create container log symlink; log collectors will not find the log"
            );
        }
    }

    /// Removes a dead container, and its log with the links to it where that is not kept.
    pub(crate) async fn remove(&self, id: &ContainerId, log: Option<Log>) -> Outcome {
        if let Err(error) = self.runtime.remove_container(id).await {
            return failure::runtime(&error);
        }
        if let Some(Log { uid, key, container, attempt }) = log {
            let dir = podfiles::pod_log_dir(&self.config.paths.pod_logs, &key, &uid);
            let link = self.log_links.path(&key, &container, id);
            let path = dir.join(podfiles::container_log_path(&container, attempt));
            let removed = tokio::task::spawn_blocking(move || {
                // Gone is what they are meant to be.
                let _ = std::fs::remove_file(link);
                let _ = std::fs::remove_file(path);
            });
            let _ = removed.await;
        }
        Outcome::Done
    }
}

/// Ends a container and reads it back.
pub(crate) async fn stop(
    runtime: &Runtime,
    id: &ContainerId,
    sandbox: &SandboxId,
    grace: Duration,
) -> Outcome {
    if let Err(error) = runtime.stop_container(id, grace).await {
        return failure::runtime(&error);
    }
    match runtime.container(id, sandbox).await {
        Ok(container) => Outcome::Runtime(RuntimeOutcome::ContainerStopped(container)),
        Err(error) => failure::runtime(&error),
    }
}

/// What a container needs on disk beside its volumes: one visit, since the way to a thread that may block costs more than
/// what is done there.
struct Files {
    pod_dir: PathBuf,
    log_dir: PathBuf,
    container: String,
    /// What `/etc/hosts` is made from, unless the container has another.
    hosts: Option<(PodHostname, AllocatedPod, Vec<String>)>,
}

/// What came of it.
struct Made {
    /// By the logs of instances before it.
    next_attempt: u32,
    hosts: Option<ContainerMount>,
    termination_file: PathBuf,
}

impl Files {
    fn make(self) -> Result<Made, PodFileError> {
        podfiles::create_container_log_dir(&self.log_dir, &self.container)?;
        let hosts = self.hosts.map(|(hostname, pod, ips)| {
            podfiles::write_hosts_file(&self.pod_dir, &pod, &hostname, &ips, Path::new("/etc/hosts"))
        });
        Ok(Made {
            next_attempt: podfiles::next_attempt(&self.log_dir, &self.container),
            hosts: hosts.transpose()?,
            termination_file: podfiles::create_termination_file(&self.pod_dir, &self.container)?,
        })
    }
}

pub(super) fn config(message: String) -> Failure {
    Failure { kind: FailureKind::ContainerConfig, message }
}

async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, Failure>
where
    T: Send + 'static,
    E: std::error::Error + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(config(model::chain(&error))),
        Err(_) => Err(config("interrupted".to_owned())),
    }
}
