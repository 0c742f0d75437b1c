//! From a pod to the sandbox it runs in: a pure translation, every fact an argument.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::ContainerPort;
use model::sysctl::{Namespace, namespace_of};
use model::{Pod, Quantity, pod};

use crate::container::resources::{ContainerLimits, linux_resources};
use crate::container::security::{namespaces, selinux, supplemental_groups_policy};
use crate::dns::ResolvConf;
use crate::hostname::{self, HostnameError};
use crate::labels;
use crate::node_settings::{NodeSettings, PodTotals};
use crate::wire;

/// The ids a pod with a user namespace of its own has on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// The node's id that is 0 inside.
    pub first_host_id: u32,
    /// How many there are.
    pub length: u32,
}

/// What a sandbox needs besides its pod and the node's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxInputs {
    /// How many sandboxes the pod had before.
    pub attempt: u32,
    /// The pod's cgroup as the runtime's driver names it; empty without QoS cgroups.
    pub cgroup_parent: String,
    /// `podLogsDir`.
    pub log_root: PathBuf,
    /// `clusterDomain`, for host names that are whole domain names.
    pub cluster_domain: String,
    /// From [`crate::dns::for_pod`].
    pub dns: ResolvConf,
    /// From the pod's runtime class; empty for the default one.
    pub runtime_handler: String,
    /// What the containers together request and may use, without overhead.
    pub totals: PodTotals,
    /// Groups that own the pod's volumes.
    pub volume_groups: Vec<i64>,
    /// For pods with `hostUsers: false`.
    pub user_namespace: Option<IdRange>,
}

/// A sandbox to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct SandboxSpec {
    pub(crate) config: wire::PodSandboxConfig,
    pub(crate) runtime_handler: String,
}

/// Why no sandbox can be made of a pod. The texts reach users in events.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SandboxSpecError {
    /// The host name.
    #[error(transparent)]
    Hostname(#[from] HostnameError),
    /// A word this node does not know.
    #[error("unsupported supplementalGroupsPolicy: {0}")]
    SupplementalGroupsPolicy(String),
    /// Nothing to map the pod's users to.
    #[error("pod wants a user namespace of its own and no ids are reserved for it")]
    NoUserNamespace,
}

impl SandboxSpec {
    /// Absolute path of the folder below which the containers' logs go.
    pub fn log_directory(&self) -> &Path {
        Path::new(&self.config.log_directory)
    }

    /// The host name inside; empty in the host's network.
    pub fn hostname(&self) -> &str {
        &self.config.hostname
    }

    /// `namespace/name` of the pod.
    pub(crate) fn object(&self) -> String {
        self.config.metadata.as_ref().map(|m| format!("{}/{}", m.namespace, m.name)).unwrap_or_default()
    }
}

/// Translates a pod.
///
/// # Errors
/// When the pod asks for what cannot be had; an event should carry the text.
pub fn spec(pod: &Pod, inputs: &SandboxInputs, node: &NodeSettings) -> Result<SandboxSpec, SandboxSpecError> {
    let key = pod::key(pod);
    let uid = pod::uid(pod);
    let mut labels = pod.metadata.labels.clone().unwrap_or_default();
    labels.insert(labels::POD_NAME.to_owned(), key.name.to_string());
    labels.insert(labels::POD_NAMESPACE.to_owned(), key.namespace.to_string());
    labels.insert(labels::POD_UID.to_owned(), uid.to_string());
    let hostname = if pod::is_host_network(pod) {
        String::new()
    } else {
        hostname::of(pod, &inputs.cluster_domain)?.for_kernel(pod)?
    };
    let config = wire::PodSandboxConfig {
        metadata: Some(wire::PodSandboxMetadata {
            name: key.name.to_string(),
            namespace: key.namespace.to_string(),
            uid: uid.to_string(),
            attempt: inputs.attempt,
        }),
        hostname,
        log_directory: crate::podfiles::pod_log_dir(&inputs.log_root, &key, &uid).display().to_string(),
        dns_config: Some(inputs.dns.clone().into_wire()),
        port_mappings: port_mappings(pod),
        labels,
        annotations: pod.metadata.annotations.clone().unwrap_or_default(),
        linux: Some(linux(pod, inputs, node)?),
        windows: None,
    };
    Ok(SandboxSpec { config, runtime_handler: inputs.runtime_handler.clone() })
}

/// `name_namespace(uid)`: how messages name a pod.
pub(crate) fn describe(pod: &Pod) -> String {
    let key = pod::key(pod);
    format!("{}_{}({})", key.name, key.namespace, pod::uid(pod))
}

/// The limits a pod's overhead stands for; nothing when it has none.
pub fn overhead_limits(pod: &Pod, node: &NodeSettings) -> ContainerLimits {
    let Some(overhead) = pod.spec.as_ref().and_then(|s| s.overhead.as_ref()) else {
        return ContainerLimits(wire::LinuxContainerResources::default());
    };
    let amount = |name: &str| overhead.get(name).and_then(Quantity::from_api).unwrap_or(Quantity::ZERO);
    // Requested and limited alike: it is known beforehand.
    ContainerLimits(linux_resources(Some(amount("cpu")), amount("cpu"), amount("memory"), false, node))
}

/// The limits of a pod's containers together.
pub fn total_limits(totals: &PodTotals, node: &NodeSettings) -> ContainerLimits {
    let request = totals.cpu_request.or(Some(totals.cpu_limit));
    let exclusive = totals.has_exclusive_cpus;
    ContainerLimits(linux_resources(request, totals.cpu_limit, totals.memory_limit, exclusive, node))
}

fn linux(
    pod: &Pod,
    inputs: &SandboxInputs,
    node: &NodeSettings,
) -> Result<wire::LinuxPodSandboxConfig, SandboxSpecError> {
    Ok(wire::LinuxPodSandboxConfig {
        cgroup_parent: inputs.cgroup_parent.clone(),
        security_context: Some(security_context(pod, inputs)?),
        sysctls: sysctls(pod, node),
        overhead: Some(overhead_limits(pod, node).0),
        resources: Some(total_limits(&inputs.totals, node).0),
    })
}

/// The node's sysctls, as far as they are of namespaces that the pod has for itself, and the pod's own over them.
fn sysctls(pod: &Pod, node: &NodeSettings) -> BTreeMap<String, String> {
    let Some(spec) = &pod.spec else { return BTreeMap::new() };
    let is_host = |of: Option<bool>| of.unwrap_or(false);
    let is_own = |name: &str| match namespace_of(name) {
        // What only stands for several is none.
        _ if matches!(name, "kernel.shm" | "kernel.msg") => false,
        Some(Namespace::Ipc) => !is_host(spec.host_ipc),
        // Pods in the host's network have its names, too.
        Some(Namespace::Net | Namespace::Uts) => !is_host(spec.host_network),
        Some(Namespace::User) => spec.host_users == Some(false),
        None => false,
    };
    let defaults = node.default_sysctls.iter().filter(|(name, _)| is_own(name));
    let mut all: BTreeMap<String, String> = defaults.map(|(n, v)| (n.clone(), v.clone())).collect();
    let own = spec.security_context.iter().flat_map(|context| context.sysctls.iter().flatten());
    all.extend(own.map(|s| (s.name.clone(), s.value.clone())));
    all
}

fn security_context(
    pod: &Pod,
    inputs: &SandboxInputs,
) -> Result<wire::LinuxSandboxSecurityContext, SandboxSpecError> {
    let context = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    let mut groups = Vec::new();
    groups.extend(context.and_then(|c| c.fs_group));
    groups.extend(&inputs.volume_groups);
    groups.extend(context.and_then(|c| c.supplemental_groups.as_ref()).into_iter().flatten());
    let policy = supplemental_groups_policy(pod).map_err(SandboxSpecError::SupplementalGroupsPolicy)?;
    Ok(wire::LinuxSandboxSecurityContext {
        namespace_options: Some(
            namespaces(pod, inputs.user_namespace).ok_or(SandboxSpecError::NoUserNamespace)?,
        ),
        selinux_options: context.and_then(|c| c.se_linux_options.as_ref()).map(selinux),
        run_as_user: context.and_then(|c| c.run_as_user).map(|value| wire::Int64Value { value }),
        run_as_group: context.and_then(|c| c.run_as_group).map(|value| wire::Int64Value { value }),
        supplemental_groups: groups,
        supplemental_groups_policy: policy.into(),
        privileged: has_privileged_container(pod),
        // Whatever the containers run with: the sandbox's own process needs no more.
        seccomp: Some(wire::SecurityProfile {
            profile_type: wire::security_profile::ProfileType::RuntimeDefault.into(),
            localhost_ref: String::new(),
        }),
        ..Default::default()
    })
}

fn has_privileged_container(pod: &Pod) -> bool {
    pod::containers(pod).any(|c| c.spec.security_context.as_ref().and_then(|s| s.privileged).unwrap_or(false))
}

/// Ports of regular containers and of sidecars' neighbours alike come from `spec.containers`
/// only, as upstream maps them.
fn port_mappings(pod: &Pod) -> Vec<wire::PortMapping> {
    let containers = pod.spec.iter().flat_map(|s| &s.containers);
    containers.flat_map(|c| distinct(c.ports.as_deref().unwrap_or_default())).map(port_mapping).collect()
}

/// The ports without those that repeat a name, or are alike and have none.
fn distinct(ports: &[ContainerPort]) -> Vec<&ContainerPort> {
    let mut names = std::collections::BTreeSet::new();
    let name = |port: &ContainerPort| match port.name.as_deref() {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => {
            let ip = port.host_ip.as_deref().unwrap_or_default();
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            format!("-{protocol}-{ip}:{}:{}", port.container_port, port.host_port.unwrap_or(0))
        }
    };
    ports.iter().filter(|port| names.insert(name(port))).collect()
}

fn port_mapping(port: &ContainerPort) -> wire::PortMapping {
    let protocol = match port.protocol.as_deref() {
        Some("UDP") => wire::Protocol::Udp,
        Some("SCTP") => wire::Protocol::Sctp,
        _ => wire::Protocol::Tcp,
    };
    wire::PortMapping {
        protocol: protocol.into(),
        container_port: port.container_port,
        host_port: port.host_port.unwrap_or(0),
        host_ip: port.host_ip.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
#[path = "sandbox_tests.rs"]
mod tests;
