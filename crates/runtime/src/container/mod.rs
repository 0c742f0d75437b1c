//! From a container's spec to what the runtime creates: a pure translation, every fact an
//! argument. What it depends on is split by subject into the modules below.

mod annotations;
mod memory;
pub(crate) mod resources;
pub(crate) mod security;
pub(crate) mod signal;

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::Container;
use model::mount::{ContainerMount, MountPropagation, MountedImage};
use model::pod::ContainerRef;
use model::{AllocatedPod, ContainerId, ImageRef, Pod, pod};

pub use memory::pod_memory_high;
pub use resources::{ContainerLimits, limits};
pub use security::thermal_paths;

use crate::environment::EnvVar;
use crate::expand::expand;
use crate::images::ImageUser;
use crate::node_settings::NodeSettings;
use crate::sandbox::IdRange;
use crate::{labels, podfiles, wire};

/// What a container needs besides its pod and the node's settings.
#[derive(Clone, Debug)]
pub struct ContainerInputs {
    /// The restart count: how many containers of this name the pod had before.
    pub attempt: u32,
    /// What to create it from.
    pub image_ref: ImageRef,
    /// As whom the image wants to run.
    pub image_user: ImageUser,
    /// From [`crate::environment::build`].
    pub environment: Vec<EnvVar>,
    /// Volumes, the hosts file, plugins' mounts.
    pub mounts: Vec<ContainerMount>,
    /// Name of the runtime handler that runs the pod, which images in [`Self::mounts`] are meant for; mostly empty.
    pub handler: String,
    /// From [`podfiles::create_termination_file`]; mounted at `terminationMessagePath`.
    pub termination_file: Option<PathBuf>,
    /// Block volumes and plugins' devices.
    pub devices: Vec<DeviceMapping>,
    /// Fully qualified CDI names.
    pub cdi_devices: Vec<String>,
    /// From device plugins; what a kubelet itself writes outranks them.
    pub annotations: BTreeMap<String, String>,
    /// Groups that own the pod's volumes.
    pub volume_groups: Vec<i64>,
    /// For pods with `hostUsers: false`.
    pub user_namespace: Option<IdRange>,
    /// The container whose processes an ephemeral container shares.
    pub target: Option<ContainerId>,
    /// CPUs and NUMA nodes it is bound to, as lists (`0-3,8`); empty for all.
    pub cpuset: CpuSet,
}

/// CPUs and memory nodes a container is bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuSet {
    /// CPUs, as a list (`0-3,8`); empty for all.
    pub cpus: String,
    /// NUMA nodes, as a list; empty for all.
    pub memory_nodes: String,
    /// Whether the CPUs are its alone, so that a quota would only hurt.
    pub is_exclusive: bool,
}

/// A device made available in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceMapping {
    /// On the node.
    pub host_path: PathBuf,
    /// In the container.
    pub container_path: String,
    /// Of `r`, `w` and `m`.
    pub permissions: String,
}

/// A container to be created.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerSpec {
    pub(crate) config: wire::ContainerConfig,
}

impl ContainerSpec {
    /// The container's name.
    pub fn name(&self) -> &str {
        self.config.metadata.as_ref().map_or("", |m| &m.name)
    }

    /// Where its log goes, below the pod's log directory.
    pub fn log_path(&self) -> &str {
        &self.config.log_path
    }
}

/// Why a container cannot be described to the runtime: reason `CreateContainerConfigError`, with
/// this text as the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContainerSpecError {
    /// `runAsUser: 0` beside `runAsNonRoot`.
    #[error("container's runAsUser breaks non-root policy (pod: {pod:?}, container: {container})")]
    RunsAsRoot {
        /// Which pod.
        pod: String,
        /// Which container.
        container: String,
    },
    /// The image's user is a name, and only the image knows whose.
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is \
         non-root (pod: {pod:?}, container: {container})"
    )]
    UnknownUser {
        /// The name.
        user: String,
        /// Which pod.
        pod: String,
        /// Which container.
        container: String,
    },
    /// The image's user is root.
    #[error("container has runAsNonRoot and image will run as root (pod: {pod:?}, container: {container})")]
    ImageRunsAsRoot {
        /// Which pod.
        pod: String,
        /// Which container.
        container: String,
    },
    /// The image's user is no valid id.
    #[error(
        "container has runAsNonRoot and image has an invalid user id ({uid}). (Must be 1-({max})): must be \
         between 0 and {max}, inclusive (pod: {pod:?}, container: {container})", max = i32::MAX
    )]
    InvalidUser {
        /// The id.
        uid: i64,
        /// Which pod.
        pod: String,
        /// Which container.
        container: String,
    },
    /// Type `Localhost` without a profile.
    #[error("localhostProfile must be set if seccompProfile type is Localhost.")]
    SeccompProfileMissing,
    /// Type `Localhost` with a path that leaves the folder of profiles.
    #[error("seccomp localhostProfile {0:?} is not a relative path below the profile folder")]
    SeccompProfileOutside(String),
    /// Type `Localhost` without a profile.
    #[error("missing localhost apparmor profile name")]
    AppArmorProfileMissing,
    /// A word this node does not know.
    #[error("unknown apparmor profile type: {0:?}")]
    AppArmorType(String),
    /// A word this node does not know.
    #[error("unsupported supplementalGroupsPolicy: {0}")]
    SupplementalGroupsPolicy(String),
    /// Nothing to map the pod's users to.
    #[error("pod wants a user namespace of its own and no ids are reserved for it")]
    NoUserNamespace,
}

/// Translates one container of a pod.
///
/// # Errors
/// When the spec asks for what cannot be had.
pub fn spec(
    pod: &AllocatedPod,
    container: &ContainerRef<'_>,
    inputs: &ContainerInputs,
    node: &NodeSettings,
) -> Result<ContainerSpec, ContainerSpecError> {
    let c = &*container.spec;
    let mut security = security::context(pod, container, inputs, node)?;
    let mut options = security.namespace_options.take().unwrap_or_default();
    if let Some(target) = &inputs.target
        && options.pid() == wire::NamespaceMode::Container
    {
        options.pid = wire::NamespaceMode::Target.into();
        options.target_id = target.to_string();
    }
    let mounts = mounts(pod, c, inputs, options.userns_options.as_ref(), node.has_selinux);
    security.namespace_options = Some(options);
    let lookup = |name: &str| inputs.environment.iter().find(|v| v.name == name).map(|v| v.value.as_str());
    let expanded =
        |words: &Option<Vec<String>>| words.iter().flatten().map(|word| expand(word, lookup)).collect();
    let config = wire::ContainerConfig {
        metadata: Some(wire::ContainerMetadata { name: c.name.clone(), attempt: inputs.attempt }),
        image: Some(wire::ImageSpec {
            image: inputs.image_ref.to_string(),
            user_specified_image: c.image.clone().unwrap_or_default(),
            ..Default::default()
        }),
        command: expanded(&c.command),
        args: expanded(&c.args),
        working_dir: c.working_dir.clone().unwrap_or_default(),
        envs: inputs
            .environment
            .iter()
            .map(|v| wire::KeyValue { key: v.name.clone(), value: v.value.clone().into_bytes() })
            .collect(),
        mounts,
        devices: inputs.devices.iter().map(device).collect(),
        cdi_devices: inputs.cdi_devices.iter().map(|name| wire::CdiDevice { name: name.clone() }).collect(),
        labels: container_labels(pod, &c.name),
        annotations: annotations::of(pod, c, inputs),
        log_path: podfiles::container_log_path(&c.name, inputs.attempt),
        stdin: c.stdin.unwrap_or(false),
        stdin_once: c.stdin_once.unwrap_or(false),
        tty: c.tty.unwrap_or(false),
        linux: Some(wire::LinuxContainerConfig {
            resources: Some(limits(pod, container, &inputs.cpuset, node).0),
            security_context: Some(security),
        }),
        windows: None,
        stop_signal: signal::of(c, node).into(),
    };
    Ok(ContainerSpec { config })
}

fn container_labels(pod: &Pod, name: &str) -> BTreeMap<String, String> {
    let key = pod::key(pod);
    BTreeMap::from([
        (labels::POD_NAME.to_owned(), key.name.to_string()),
        (labels::POD_NAMESPACE.to_owned(), key.namespace.to_string()),
        (labels::POD_UID.to_owned(), pod::uid(pod).to_string()),
        (labels::CONTAINER_NAME.to_owned(), name.to_owned()),
    ])
}

fn device(device: &DeviceMapping) -> wire::Device {
    wire::Device {
        host_path: device.host_path.display().to_string(),
        container_path: device.container_path.clone(),
        permissions: device.permissions.clone(),
    }
}

fn mounts(
    pod: &Pod,
    c: &Container,
    inputs: &ContainerInputs,
    users: Option<&wire::UserNamespace>,
    has_selinux: bool,
) -> Vec<wire::Mount> {
    let volumes = inputs.mounts.iter().map(|mount| wire::Mount {
        host_path: mount.host_path.display().to_string(),
        container_path: mount.container_path.clone(),
        readonly: mount.is_read_only,
        recursive_read_only: mount.is_recursive_read_only,
        selinux_relabel: mount.is_relabelled && has_selinux,
        mount_options: mount.bind_options.clone(),
        propagation: match mount.propagation {
            MountPropagation::Private => wire::MountPropagation::PropagationPrivate,
            MountPropagation::HostToContainer => wire::MountPropagation::PropagationHostToContainer,
            MountPropagation::Bidirectional => wire::MountPropagation::PropagationBidirectional,
        }
        .into(),
        image: mount.image.as_ref().map(|image| mounted_image(pod, image, &inputs.handler)),
        image_sub_path: mount.image.as_ref().map(|image| image.sub_path.clone()).unwrap_or_default(),
        ..Default::default()
    });
    let message_path = c.termination_message_path.as_deref().filter(|path| !path.is_empty());
    let message = inputs.termination_file.as_ref().zip(message_path).map(|(file, path)| wire::Mount {
        host_path: file.display().to_string(),
        container_path: absolute(path),
        selinux_relabel: has_selinux,
        ..Default::default()
    });
    let mut all: Vec<wire::Mount> = volumes.chain(message).collect();
    if let Some(users) = users {
        for mount in &mut all {
            mount.uid_mappings = users.uids.clone();
            mount.gid_mappings = users.gids.clone();
        }
    }
    all
}

/// As upstream tells of it: with the handler and all annotations of the pod.
fn mounted_image(pod: &Pod, mounted: &MountedImage, handler: &str) -> wire::ImageSpec {
    wire::ImageSpec {
        image: mounted.image.to_string(),
        user_specified_image: mounted.reference.clone(),
        runtime_handler: handler.to_owned(),
        annotations: pod.metadata.annotations.clone().unwrap_or_default(),
        ..Default::default()
    }
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

#[cfg(test)]
mod tests;
