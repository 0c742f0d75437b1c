//! Reasons: the CamelCase words that scripts and dashboards match on. They are a public surface,
//! so each stands here once, spelled as upstream v1.37 spells it.

use serde::{Deserialize, Serialize};

/// Reasons of a waiting container (`containerStatuses[].state.waiting.reason`).
pub mod waiting {
    /// Nothing started yet in a pod without init containers.
    pub const CONTAINER_CREATING: &str = "ContainerCreating";
    /// Nothing started yet in a pod with init containers.
    pub const POD_INITIALIZING: &str = "PodInitializing";
    /// A container that ended waits out its back-off.
    pub const CRASH_LOOP_BACK_OFF: &str = "CrashLoopBackOff";
    /// Its pod restarts all containers in their place.
    pub const RESTARTING_ALL_CONTAINERS: &str = "RestartingAllContainers";
    /// A pull just failed.
    pub const ERR_IMAGE_PULL: &str = "ErrImagePull";
    /// A pull failed and waits out its back-off.
    pub const IMAGE_PULL_BACK_OFF: &str = "ImagePullBackOff";
    /// Policy `Never` and the image is absent.
    pub const ERR_IMAGE_NEVER_PULL: &str = "ErrImageNeverPull";
    /// The image name cannot be parsed.
    pub const INVALID_IMAGE_NAME: &str = "InvalidImageName";
    /// The runtime could not say whether the image is there.
    pub const IMAGE_INSPECT_ERROR: &str = "ImageInspectError";
    /// A pull failed because the registry does not answer.
    pub const REGISTRY_UNAVAILABLE: &str = "RegistryUnavailable";
    /// A pull failed because the image's signature is not one the runtime's policy asks for.
    pub const SIGNATURE_VALIDATION_FAILED: &str = "SignatureValidationFailed";
    /// A referenced object or key is missing, or the security context cannot be met.
    pub const CREATE_CONTAINER_CONFIG_ERROR: &str = "CreateContainerConfigError";
    /// The runtime refused to create the container.
    pub const CREATE_CONTAINER_ERROR: &str = "CreateContainerError";
    /// The runtime could not start the container.
    pub const RUN_CONTAINER_ERROR: &str = "RunContainerError";
    /// The postStart hook failed.
    pub const POST_START_HOOK_ERROR: &str = "PostStartHookError";

    /// All of them.
    const ALL: &[&str] = &[
        CONTAINER_CREATING,
        POD_INITIALIZING,
        CRASH_LOOP_BACK_OFF,
        RESTARTING_ALL_CONTAINERS,
        ERR_IMAGE_PULL,
        IMAGE_PULL_BACK_OFF,
        ERR_IMAGE_NEVER_PULL,
        INVALID_IMAGE_NAME,
        IMAGE_INSPECT_ERROR,
        REGISTRY_UNAVAILABLE,
        SIGNATURE_VALIDATION_FAILED,
        CREATE_CONTAINER_CONFIG_ERROR,
        CREATE_CONTAINER_ERROR,
        RUN_CONTAINER_ERROR,
        POST_START_HOOK_ERROR,
    ];

    /// The one that reads so.
    #[must_use]
    pub fn known(text: &str) -> Option<&'static str> {
        ALL.iter().find(|reason| **reason == text).copied()
    }

    /// Whether a reason says that the image is not ready, so that it is over when the image is.
    #[must_use]
    pub fn is_about_image(reason: &str) -> bool {
        matches!(
            reason,
            ERR_IMAGE_PULL
                | IMAGE_PULL_BACK_OFF
                | ERR_IMAGE_NEVER_PULL
                | INVALID_IMAGE_NAME
                | IMAGE_INSPECT_ERROR
                | REGISTRY_UNAVAILABLE
                | SIGNATURE_VALIDATION_FAILED
        )
    }
}

/// Why a pod was refused: `status.reason`, and the reason of the event that tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// A profile that this host cannot enforce, or one without a name.
    AppArmor,
    /// The node runs short of something.
    Evicted,
    /// The node's labels are not those asked for.
    NodeAffinity,
    /// The pod belongs to another node.
    NodeName,
    /// A port of the host is taken.
    NodePorts,
    /// Not enough is left of a resource.
    OutOf(String),
    /// The pod needs something that the node does not declare.
    PodFeatureUnsupported,
    /// Resources of the whole pod, with their gate off.
    PodLevelResourcesNotSupported,
    /// Made for another operating system, by `spec.os`.
    PodOsNotSupported,
    /// Made for another operating system, by its label.
    PodOsSelectorNodeLabelDoesNotMatch,
    /// Strict groups, which the runtime does not know.
    SupplementalGroupsPolicyNotSupported,
    /// A kernel parameter that pods may not set here.
    SysctlForbidden,
    /// A taint that expels the pod.
    TaintToleration,
}

impl Refusal {
    const NAMED: [(Self, &'static str); 12] = [
        (Self::AppArmor, "AppArmor"),
        (Self::Evicted, "Evicted"),
        (Self::NodeAffinity, "NodeAffinity"),
        (Self::NodeName, "NodeName"),
        (Self::NodePorts, "NodePorts"),
        (Self::PodFeatureUnsupported, "PodFeatureUnsupported"),
        (Self::PodLevelResourcesNotSupported, "PodLevelResourcesNotSupported"),
        (Self::PodOsNotSupported, "PodOSNotSupported"),
        (Self::PodOsSelectorNodeLabelDoesNotMatch, "PodOSSelectorNodeLabelDoesNotMatch"),
        (Self::SupplementalGroupsPolicyNotSupported, "SupplementalGroupsPolicyNotSupported"),
        (Self::SysctlForbidden, "SysctlForbidden"),
        (Self::TaintToleration, "TaintToleration"),
    ];
    const SHORTAGE: &'static str = "OutOf";

    /// Reads it back from a status.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(resource) = text.strip_prefix(Self::SHORTAGE) {
            return Some(Self::OutOf(resource.to_owned()));
        }
        Self::NAMED.into_iter().find(|(_, name)| *name == text).map(|(reason, _)| reason)
    }

    /// The label of `kubelet_admission_rejections_total`, one of few whatever resources are called. Reasons that the
    /// scheduler has as well share `Other`, as upstream.
    #[must_use]
    pub fn metric_label(&self) -> &'static str {
        match self {
            Self::OutOf(resource) => match resource.as_str() {
                "cpu" => "OutOfcpu",
                "memory" => "OutOfmemory",
                "ephemeral-storage" => "OutOfephemeral-storage",
                "pods" => "OutOfpods",
                _ => "OutOfExtendedResources",
            },
            Self::NodeAffinity | Self::NodeName | Self::NodePorts | Self::TaintToleration => "Other",
            _ => self.name(),
        }
    }

    fn name(&self) -> &'static str {
        Self::NAMED.iter().find(|(reason, _)| reason == self).map_or(Self::SHORTAGE, |(_, name)| *name)
    }
}

/// As status and event spell it.
impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::OutOf(resource) => f.write_str(resource),
            _ => Ok(()),
        }
    }
}

/// Event reasons.
pub mod event {
    /// A state file cannot be used and was set aside.
    pub const STATE_FILE_DAMAGED: &str = "StateFileDamaged";
    /// A volume has grown.
    pub const FILE_SYSTEM_RESIZE_SUCCESSFUL: &str = "FileSystemResizeSuccessful";
    /// A volume has to grow, and is only read.
    pub const FILE_SYSTEM_RESIZE_FAILED: &str = "FileSystemResizeFailed";
    /// A volume that is mounted could not be grown.
    pub const VOLUME_RESIZE_FAILED: &str = "VolumeResizeFailed";
    /// Container created.
    pub const CREATED: &str = "Created";
    /// Container started.
    pub const STARTED: &str = "Started";
    /// Container could not be pulled, created or started.
    pub const FAILED: &str = "Failed";
    /// Container is being stopped.
    pub const KILLING: &str = "Killing";
    /// The files of a volume belong to the group of another pod.
    pub const ALREADY_MOUNTED_VOLUME: &str = "AlreadyMountedVolume";
    /// A secret for pulls could not be read.
    pub const FAILED_TO_RETRIEVE_PULL_SECRET: &str = "FailedToRetrieveImagePullSecret";
    /// Restart or pull waits.
    pub const BACK_OFF: &str = "BackOff";
    /// A pull begins.
    pub const PULLING: &str = "Pulling";
    /// An image is present.
    pub const PULLED: &str = "Pulled";
    /// The runtime could not be asked for an image.
    pub const INSPECT_FAILED: &str = "InspectFailed";
    /// Policy `Never` and the image is absent.
    pub const ERR_IMAGE_NEVER_PULL: &str = "ErrImageNeverPull";
    /// `activeDeadlineSeconds` are over.
    pub const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";
    /// A pod goes, as the node runs short or it uses more than it may.
    pub const EVICTED: &str = "Evicted";
    /// The node runs short of something.
    pub const EVICTION_THRESHOLD_MET: &str = "EvictionThresholdMet";
    /// The sandbox could not be made.
    pub const FAILED_CREATE_POD_SANDBOX: &str = "FailedCreatePodSandBox";
    /// The sandbox was made, and the runtime cannot tell of it.
    pub const FAILED_POD_SANDBOX_STATUS: &str = "FailedPodSandBoxStatus";
    /// What the runtime holds of a pod cannot be told.
    pub const FAILED_SYNC: &str = "FailedSync";
    /// What the runtime holds of dead containers cannot be told.
    pub const CONTAINER_GC_FAILED: &str = "ContainerGCFailed";
    /// Images that nobody uses could not be removed, twice in a row.
    pub const IMAGE_GC_FAILED: &str = "ImageGCFailed";
    /// Removing them has not made enough space.
    pub const FREE_DISK_SPACE_FAILED: &str = "FreeDiskSpaceFailed";
    /// The file system of images has no size.
    pub const INVALID_DISK_CAPACITY: &str = "InvalidDiskCapacity";
    /// The kernel has killed a process as the machine ran out of memory.
    pub const SYSTEM_OOM: &str = "SystemOOM";
    /// The sandbox died under a pod.
    pub const SANDBOX_CHANGED: &str = "SandboxChanged";
    /// The pod could not be ended.
    pub const FAILED_KILL_POD: &str = "FailedKillPod";
    /// The pod's cgroup could not be made.
    pub const FAILED_CREATE_POD_CONTAINER: &str = "FailedCreatePodContainer";
    /// The runtime has no network yet.
    pub const NETWORK_NOT_READY: &str = "NetworkNotReady";
    /// A pod of a source was not taken.
    pub const FAILED_VALIDATION: &str = "FailedValidation";
    /// A volume could not be mounted.
    pub const FAILED_MOUNT: &str = "FailedMount";
    /// A probe failed.
    pub const UNHEALTHY: &str = "Unhealthy";
    /// A probe succeeded with a remark.
    pub const PROBE_WARNING: &str = "ProbeWarning";
    /// A postStart hook failed.
    pub const FAILED_POST_START_HOOK: &str = "FailedPostStartHook";
    /// A preStop hook failed.
    pub const FAILED_PRE_STOP_HOOK: &str = "FailedPreStopHook";
    /// A new version of a pod needs what the node does not declare.
    pub const FAILED_NODE_DECLARED_FEATURES_CHECK: &str = "FailedNodeDeclaredFeaturesCheck";
    /// The pod's object asks for other resources than it can be given.
    pub const RESIZE_INFEASIBLE: &str = "ResizeInfeasible";
    /// The node agent cannot start: what it needs on the node cannot be made.
    pub const KUBELET_SETUP_FAILED: &str = "KubeletSetupFailed";
    /// The node agent started.
    pub const STARTING: &str = "Starting";
    /// Pods may come to the node again.
    pub const NODE_SCHEDULABLE: &str = "NodeSchedulable";
    /// No pod may come to the node.
    pub const NODE_NOT_SCHEDULABLE: &str = "NodeNotSchedulable";
    /// The resolver configuration is too much for pods.
    pub const CHECK_LIMITS_FOR_RESOLV_CONF: &str = "CheckLimitsForResolvConf";
    /// The node has the first version of cgroups.
    pub const CGROUP_V1: &str = "CgroupV1";
    /// The boot id changed.
    pub const REBOOTED: &str = "Rebooted";
    /// A limit that keeps something of the node from pods was set.
    pub const NODE_ALLOCATABLE_ENFORCED: &str = "NodeAllocatableEnforced";
    /// Such a limit could not be set.
    pub const FAILED_NODE_ALLOCATABLE_ENFORCEMENT: &str = "FailedNodeAllocatableEnforcement";
    /// What is in memory for volumes may be swapped.
    pub const POSSIBLE_MEMORY_BACKED_VOLUMES_ON_DISK: &str = "PossibleMemoryBackedVolumesOnDisk";
}

#[cfg(test)]
mod tests {
    use super::Refusal;

    #[test]
    fn refusals_are_read_back_and_have_few_labels() {
        for (text, label) in [
            ("AppArmor", "AppArmor"),
            ("OutOfcpu", "OutOfcpu"),
            ("OutOfhugepages-2Mi", "OutOfExtendedResources"),
            ("OutOfexample.com/gpu", "OutOfExtendedResources"),
            ("PodOSNotSupported", "PodOSNotSupported"),
            ("TaintToleration", "Other"),
            ("NodeAffinity", "Other"),
        ] {
            let refusal = Refusal::parse(text).unwrap();
            assert_eq!((refusal.to_string().as_str(), refusal.metric_label()), (text, label));
        }
        assert_eq!(Refusal::parse("Preempting"), None);
    }
}
