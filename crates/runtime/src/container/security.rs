//! A container's security context: the pod's and its own put together, its own first
//! (<https://kubernetes.io/docs/tasks/configure-pod-container/security-context/>).

use std::path::{Component, Path};

use k8s_openapi::api::core::v1::{
    AppArmorProfile, Capabilities, PodSecurityContext, SELinuxOptions, SeccompProfile, SecurityContext,
};
use model::pod::ContainerRef;
use model::{Pod, pod};

use super::{ContainerInputs, ContainerSpecError};
use crate::node_settings::NodeSettings;
use crate::sandbox::{IdRange, describe};
use crate::wire::{self, NamespaceMode, SupplementalGroupsPolicy, security_profile::ProfileType};

/// Deprecated annotation in which static pods may still name an AppArmor profile.
const APPARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

const MASKED_PATHS: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Paths below the `cpu` folder of sysfs (`/sys/devices/system/cpu`) that leak when this machine
/// is hot, which is a side channel: masked where they exist. Reads the folder, so call it once.
pub fn thermal_paths(cpu_folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(cpu_folder) else { return Vec::new() };
    let is_cpu = |name: &str| {
        name.strip_prefix("cpu").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    let mut paths: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(is_cpu))
        .map(|entry| entry.path().join("thermal_throttle"))
        .filter(|path| path.exists())
        .map(|path| path.display().to_string())
        .collect();
    paths.sort();
    paths
}

pub(super) fn context(
    pod: &Pod,
    container: &ContainerRef<'_>,
    inputs: &ContainerInputs,
    node: &NodeSettings,
) -> Result<wire::LinuxContainerSecurityContext, ContainerSpecError> {
    let none = SecurityContext::default();
    let own = container.spec.security_context.as_ref().unwrap_or(&none);
    let whole = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    verify_non_root(pod, container, inputs)?;
    let run_as_user = own.run_as_user.or(whole.and_then(|w| w.run_as_user));
    let is_unmasked = own.proc_mount.as_deref() == Some("Unmasked");
    let (apparmor, apparmor_profile) = match apparmor(pod, &container.spec.name, own)? {
        Some((profile, text)) => (Some(profile), text),
        None => (None, String::new()),
    };
    #[allow(deprecated)]
    Ok(wire::LinuxContainerSecurityContext {
        capabilities: own.capabilities.as_ref().map(capabilities),
        privileged: own.privileged.unwrap_or(false),
        namespace_options: Some(
            namespaces(pod, inputs.user_namespace).ok_or(ContainerSpecError::NoUserNamespace)?,
        ),
        selinux_options: own
            .se_linux_options
            .as_ref()
            .or(whole.and_then(|w| w.se_linux_options.as_ref()))
            .map(selinux),
        run_as_user: run_as_user.or(inputs.image_user.uid()).map(|value| wire::Int64Value { value }),
        run_as_username: match run_as_user {
            Some(_) => String::new(),
            None => inputs.image_user.name().to_owned(),
        },
        run_as_group: own
            .run_as_group
            .or(whole.and_then(|w| w.run_as_group))
            .map(|value| wire::Int64Value { value }),
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: groups(whole, &inputs.volume_groups),
        supplemental_groups_policy: supplemental_groups_policy(pod)
            .map_err(ContainerSpecError::SupplementalGroupsPolicy)?
            .into(),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: if is_unmasked { Vec::new() } else { masked_paths(node) },
        readonly_paths: if is_unmasked { Vec::new() } else { READ_ONLY_PATHS.map(String::from).to_vec() },
        seccomp: Some(seccomp(own, whole, node)?),
        apparmor,
        apparmor_profile,
        ..Default::default()
    })
}

/// Which namespaces a pod has of its own; `None` when it wants a user namespace and none is
/// reserved.
pub(crate) fn namespaces(pod: &Pod, users: Option<IdRange>) -> Option<wire::NamespaceOption> {
    let spec = pod.spec.as_ref();
    let node_or_pod = |is_node: Option<bool>| match is_node {
        Some(true) => NamespaceMode::Node,
        _ => NamespaceMode::Pod,
    };
    let pid = match spec {
        Some(s) if s.host_pid == Some(true) => NamespaceMode::Node,
        Some(s) if s.share_process_namespace == Some(true) => NamespaceMode::Pod,
        _ => NamespaceMode::Container,
    };
    let userns_options = match (spec.and_then(|s| s.host_users), users) {
        (None, _) => None,
        (Some(true), _) => {
            Some(wire::UserNamespace { mode: NamespaceMode::Node.into(), ..Default::default() })
        }
        (Some(false), Some(range)) => Some(user_namespace(range)),
        (Some(false), None) => return None,
    };
    Some(wire::NamespaceOption {
        network: node_or_pod(spec.and_then(|s| s.host_network)).into(),
        pid: pid.into(),
        ipc: node_or_pod(spec.and_then(|s| s.host_ipc)).into(),
        target_id: String::new(),
        userns_options,
    })
}

fn user_namespace(range: IdRange) -> wire::UserNamespace {
    let mapping = wire::IdMapping { host_id: range.first_host_id, container_id: 0, length: range.length };
    wire::UserNamespace { mode: NamespaceMode::Pod.into(), uids: vec![mapping], gids: vec![mapping] }
}

/// The policy; the unknown word as the error.
pub(crate) fn supplemental_groups_policy(pod: &Pod) -> Result<SupplementalGroupsPolicy, String> {
    let context = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    match context.and_then(|c| c.supplemental_groups_policy.as_deref()) {
        None => Ok(SupplementalGroupsPolicy::Merge),
        Some(word) => SupplementalGroupsPolicy::from_str_name(word).ok_or_else(|| word.to_owned()),
    }
}

pub(crate) fn selinux(options: &SELinuxOptions) -> wire::SeLinuxOption {
    wire::SeLinuxOption {
        user: options.user.clone().unwrap_or_default(),
        role: options.role.clone().unwrap_or_default(),
        r#type: options.type_.clone().unwrap_or_default(),
        level: options.level.clone().unwrap_or_default(),
    }
}

fn groups(whole: Option<&PodSecurityContext>, volume_groups: &[i64]) -> Vec<i64> {
    let mut groups: Vec<i64> = whole.and_then(|w| w.fs_group).into_iter().collect();
    groups.extend(whole.and_then(|w| w.supplemental_groups.as_ref()).into_iter().flatten());
    groups.extend(volume_groups);
    groups
}

fn capabilities(capabilities: &Capabilities) -> wire::Capability {
    wire::Capability {
        add_capabilities: capabilities.add.clone().unwrap_or_default(),
        drop_capabilities: capabilities.drop.clone().unwrap_or_default(),
        add_ambient_capabilities: Vec::new(),
    }
}

fn masked_paths(node: &NodeSettings) -> Vec<String> {
    MASKED_PATHS.iter().map(|path| (*path).to_owned()).chain(node.masked_paths.iter().cloned()).collect()
}

/// Refuses a container that must not run as root and would, or might.
fn verify_non_root(
    pod: &Pod,
    container: &ContainerRef<'_>,
    inputs: &ContainerInputs,
) -> Result<(), ContainerSpecError> {
    let own = container.spec.security_context.as_ref();
    let whole = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    let must = own.and_then(|o| o.run_as_non_root).or(whole.and_then(|w| w.run_as_non_root));
    if must != Some(true) {
        return Ok(());
    }
    let (pod, container) = (describe(pod), container.spec.name.clone());
    match own.and_then(|o| o.run_as_user).or(whole.and_then(|w| w.run_as_user)) {
        Some(0) => return Err(ContainerSpecError::RunsAsRoot { pod, container }),
        Some(_) => return Ok(()),
        None => {}
    }
    match (inputs.image_user.uid(), inputs.image_user.name()) {
        (Some(0), _) => Err(ContainerSpecError::ImageRunsAsRoot { pod, container }),
        (Some(uid), _) if !(0..=i64::from(i32::MAX)).contains(&uid) => {
            Err(ContainerSpecError::InvalidUser { uid, pod, container })
        }
        (Some(_), _) => Ok(()),
        (None, user) if !user.is_empty() => {
            Err(ContainerSpecError::UnknownUser { user: user.to_owned(), pod, container })
        }
        (None, _) => Ok(()),
    }
}

fn seccomp(
    own: &SecurityContext,
    whole: Option<&PodSecurityContext>,
    node: &NodeSettings,
) -> Result<wire::SecurityProfile, ContainerSpecError> {
    let wanted = own.seccomp_profile.as_ref().or(whole.and_then(|w| w.seccomp_profile.as_ref()));
    let Some(wanted) = wanted else {
        let default =
            if node.seccomp_default { ProfileType::RuntimeDefault } else { ProfileType::Unconfined };
        return Ok(profile(default, String::new()));
    };
    match wanted.type_.as_str() {
        "RuntimeDefault" => Ok(profile(ProfileType::RuntimeDefault, String::new())),
        "Localhost" => Ok(profile(ProfileType::Localhost, seccomp_path(wanted, node)?)),
        _ => Ok(profile(ProfileType::Unconfined, String::new())),
    }
}

fn seccomp_path(wanted: &SeccompProfile, node: &NodeSettings) -> Result<String, ContainerSpecError> {
    let name = wanted.localhost_profile.as_deref().filter(|name| !name.is_empty());
    let name = name.ok_or(ContainerSpecError::SeccompProfileMissing)?;
    // The API server refuses these; files and URLs do not.
    if !Path::new(name).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(ContainerSpecError::SeccompProfileOutside(name.to_owned()));
    }
    Ok(node.seccomp_root.join(name).display().to_string())
}

/// The profile, and the text in which older runtimes expect it.
fn apparmor(
    pod: &Pod,
    container: &str,
    own: &SecurityContext,
) -> Result<Option<(wire::SecurityProfile, String)>, ContainerSpecError> {
    let whole = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    let annotated = apparmor_from_annotation(pod, container);
    let wanted = own
        .app_armor_profile
        .as_ref()
        .or(annotated.as_ref())
        .or(whole.and_then(|w| w.app_armor_profile.as_ref()));
    let Some(wanted) = wanted else { return Ok(None) };
    let (kind, reference, text) = match wanted.type_.as_str() {
        "RuntimeDefault" => (ProfileType::RuntimeDefault, String::new(), "runtime/default".to_owned()),
        "Unconfined" => (ProfileType::Unconfined, String::new(), "unconfined".to_owned()),
        "Localhost" => {
            let name = wanted.localhost_profile.clone().ok_or(ContainerSpecError::AppArmorProfileMissing)?;
            let text = format!("localhost/{name}");
            (ProfileType::Localhost, name, text)
        }
        other => return Err(ContainerSpecError::AppArmorType(other.to_owned())),
    };
    Ok(Some((profile(kind, reference), text)))
}

fn apparmor_from_annotation(pod: &Pod, container: &str) -> Option<AppArmorProfile> {
    let value = pod::annotation(pod, &format!("{APPARMOR_ANNOTATION}{container}"))?;
    let (kind, name) = match value {
        "runtime/default" => ("RuntimeDefault", None),
        "unconfined" => ("Unconfined", None),
        _ => ("Localhost", Some(value.strip_prefix("localhost/")?.to_owned())),
    };
    Some(AppArmorProfile { type_: kind.to_owned(), localhost_profile: name })
}

fn profile(kind: ProfileType, localhost_ref: String) -> wire::SecurityProfile {
    wire::SecurityProfile { profile_type: kind.into(), localhost_ref }
}
