//! What a pod needs of its node that not every node has: resources of the whole pod, and features that a node
//! declares (KEP-5328).

use k8s_openapi::api::core::v1::{PodSpec, Volume};
use model::reason::Refusal;
use model::{AllocatedPod, Pod, pod};

use super::{AdmissionContext, Rejection};

/// The features that pods are found to need, by name.
const RESTART_ALL: &str = "RestartAllContainersOnContainerExits";
const HOST_NETWORK_USERS: &str = "UserNamespacesHostNetworkSupport";
const MOUNT_OPTIONS: &str = "VolumeBindMountOptions";
const POD_RESIZE: &str = "InPlacePodLevelResourcesVerticalScaling";
const INIT_RESIZE: &str = "InPlacePodVerticalScalingInitContainers";
const VOLUME_RESIZE: &str = "InPlacePodVerticalScalingMemoryBackedVolumes";

pub(super) fn check(pod: &AllocatedPod, ctx: &AdmissionContext<'_>) -> Result<(), Rejection> {
    if !ctx.settings.gates.has_pod_level_resources && pod.own_resources().is_some() {
        return Err(Rejection::new(
            Refusal::PodLevelResourcesNotSupported,
            "PodLevelResources feature gate is disabled",
        ));
    }
    let needed = needed_to_run(pod);
    let missing = without(&needed, &ctx.settings.object.declared_features);
    if missing.is_empty() {
        return Ok(());
    }
    Err(Rejection::new(
        Refusal::PodFeatureUnsupported,
        format!("Pod requires node features that are not available: {}", missing.join(", ")),
    ))
}

/// The features, sorted, that a new version of a pod needs and that the node does not declare.
pub(crate) fn missing_for_update(old: &Pod, new: &Pod, declared: &[String]) -> Vec<&'static str> {
    let (Some(old), Some(new)) = (&old.spec, &new.spec) else { return Vec::new() };
    let needed = [
        (POD_RESIZE, old.resources != new.resources),
        (INIT_RESIZE, resizes_init_containers(old, new)),
        (VOLUME_RESIZE, resizes_volumes_in_memory(old, new)),
    ];
    let needed: Vec<&str> =
        needed.into_iter().filter_map(|(name, is_needed)| is_needed.then_some(name)).collect();
    without(&needed, declared)
}

fn needed_to_run(pod: &Pod) -> Vec<&'static str> {
    let spec = pod.spec.as_ref();
    let restarts_all = pod::containers(pod).any(|container| {
        let mut rules = container.spec.restart_policy_rules.iter().flatten();
        rules.any(|rule| rule.action == "RestartAllContainers")
    });
    let has_users_on_host_network =
        spec.is_some_and(|spec| spec.host_network == Some(true) && spec.host_users == Some(false));
    let has_mount_options = pod::containers(pod).any(|container| {
        let mut mounts = container.spec.volume_mounts.iter().flatten();
        mounts.any(|mount| mount.bind_mount_options.as_ref().is_some_and(|options| !options.is_empty()))
    });
    [
        (RESTART_ALL, restarts_all),
        (HOST_NETWORK_USERS, has_users_on_host_network),
        (MOUNT_OPTIONS, has_mount_options),
    ]
    .into_iter()
    .filter_map(|(name, is_needed)| is_needed.then_some(name))
    .collect()
}

fn without(needed: &[&'static str], declared: &[String]) -> Vec<&'static str> {
    needed.iter().copied().filter(|name| !declared.iter().any(|other| other == name)).collect()
}

fn resizes_init_containers(old: &PodSpec, new: &PodSpec) -> bool {
    let (old, new) = (old.init_containers.iter().flatten(), new.init_containers.iter().flatten());
    old.zip(new).any(|(old, new)| !pod::is_sidecar(old) && old.resources != new.resources)
}

fn resizes_volumes_in_memory(old: &PodSpec, new: &PodSpec) -> bool {
    let limit = |volume: &Volume| {
        let dir = volume.empty_dir.as_ref().filter(|dir| dir.medium.as_deref() == Some("Memory"))?;
        dir.size_limit.clone()
    };
    let (old, new) = (old.volumes.iter().flatten(), new.volumes.iter().flatten());
    old.zip(new).any(|(old, new)| {
        old.name == new.name && limit(old).zip(limit(new)).is_some_and(|(old, new)| old != new)
    })
}
