//! What objects say of CSI drivers and of their volumes
//! (<https://github.com/container-storage-interface/spec/blob/v1.13.0/spec.md>).

use std::collections::BTreeMap;
use std::ops::Deref;
use std::time::Duration;

use k8s_openapi::api::core::v1::{CSIPersistentVolumeSource, CSIVolumeSource, SecretReference};
use k8s_openapi::api::storage::v1::CSIDriver;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::VolumeSpec;
use crate::PodUid;

/// A Secret. Who needs what is in it fetches it: it is in nothing that is decided about, or recorded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SecretName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A volume of a CSI driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CsiSource {
    /// The driver's name.
    pub driver: String,
    /// What the driver calls the volume.
    pub handle: String,
    /// `fsType`, empty for the driver's own choice.
    pub fs_type: String,
    /// Whether the volume itself may only be read.
    pub read_only: bool,
    /// `volumeAttributes`.
    pub attributes: BTreeMap<String, String>,
    /// What the driver is given with `NodeStageVolume`.
    pub stage_secret: Option<SecretName>,
    /// What the driver is given with `NodePublishVolume`.
    pub publish_secret: Option<SecretName>,
    /// What the driver is given with `NodeExpandVolume`.
    pub expand_secret: Option<SecretName>,
    /// Whether it lives and dies with its pod: it is neither attached nor staged.
    pub is_ephemeral: bool,
}

impl CsiSource {
    pub(super) fn of_persistent(source: &CSIPersistentVolumeSource) -> Self {
        Self {
            driver: source.driver.clone(),
            handle: source.volume_handle.clone(),
            fs_type: source.fs_type.clone().unwrap_or_default(),
            read_only: source.read_only.unwrap_or(false),
            attributes: source.volume_attributes.clone().unwrap_or_default(),
            stage_secret: secret(source.node_stage_secret_ref.as_ref()),
            publish_secret: secret(source.node_publish_secret_ref.as_ref()),
            expand_secret: secret(source.node_expand_secret_ref.as_ref()),
            is_ephemeral: false,
        }
    }

    /// The handle is the kubelet's own making, as upstream makes it.
    pub(super) fn of_inline(uid: &PodUid, namespace: &str, volume: &str, source: &CSIVolumeSource) -> Self {
        let secret = |name: &String| SecretName { namespace: namespace.to_owned(), name: name.clone() };
        Self {
            driver: source.driver.clone(),
            handle: format!("csi-{}", sha256_hex(&[uid.as_str(), volume])),
            fs_type: source.fs_type.clone().unwrap_or_default(),
            read_only: source.read_only.unwrap_or(false),
            attributes: source.volume_attributes.clone().unwrap_or_default(),
            stage_secret: None,
            publish_secret: source.node_publish_secret_ref.as_ref().map(|reference| secret(&reference.name)),
            expand_secret: None,
            is_ephemeral: true,
        }
    }
}

/// A volume of a CSI driver, with what is said of it as of any other.
#[derive(Clone, Copy, Debug)]
pub struct CsiVolume<'a> {
    spec: &'a VolumeSpec,
    source: &'a CsiSource,
}

impl<'a> CsiVolume<'a> {
    pub(super) fn new(spec: &'a VolumeSpec, source: &'a CsiSource) -> Self {
        Self { spec, source }
    }

    /// What concerns the driver alone.
    pub fn csi(&self) -> &'a CsiSource {
        self.source
    }
}

impl Deref for CsiVolume<'_> {
    type Target = VolumeSpec;

    fn deref(&self) -> &VolumeSpec {
        self.spec
    }
}

fn secret(reference: Option<&SecretReference>) -> Option<SecretName> {
    let reference = reference?;
    Some(SecretName { namespace: reference.namespace.clone()?, name: reference.name.clone()? })
}

/// The name of the VolumeAttachment by which a volume is attached to a node.
pub fn attachment_name(driver: &str, handle: &str, node: &str) -> String {
    format!("csi-{}", sha256_hex(&[handle, driver, node]))
}

fn sha256_hex(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A driver as it can be called: all that calls of it go by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CsiDriver {
    /// Its name.
    pub name: String,
    /// The path of the socket it works on.
    pub endpoint: String,
    /// What it can do.
    pub capabilities: CsiCapabilities,
    /// What its CSIDriver object says, or what holds without one.
    pub object: CsiDriverObject,
}

/// What a driver says that it can do on a node (`NodeGetCapabilities`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CsiCapabilities {
    /// `STAGE_UNSTAGE_VOLUME`: volumes are made ready for the node before they are for pods.
    pub stages: bool,
    /// `EXPAND_VOLUME`.
    pub expands: bool,
    /// `GET_VOLUME_STATS`.
    pub tells_stats: bool,
    /// `SINGLE_NODE_MULTI_WRITER`: it tells a single writer from a single node.
    pub knows_single_writers: bool,
    /// `VOLUME_MOUNT_GROUP`: it sees to `fsGroup` itself.
    pub mounts_with_group: bool,
}

/// What a CSIDriver object says (<https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/csi-driver-v1/>).
/// The default is what holds where there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CsiDriverObject {
    /// Whether there is such an object.
    pub is_there: bool,
    /// `nodeAllocatableUpdatePeriodSeconds`: how often the driver is asked how many volumes the node can have; `None` for never.
    pub allocatable_update_period: Option<Duration>,
    /// `attachRequired`: whether volumes have to be attached to the node before anything else.
    pub attach_required: bool,
    /// `podInfoOnMount`: whether it is told for which pod a volume is.
    pub tells_pod_info: bool,
    /// `fsGroupPolicy`.
    pub fs_group_policy: FsGroupPolicy,
    /// Whether `volumeLifecycleModes` has `Persistent`.
    pub is_persistent: bool,
    /// Whether `volumeLifecycleModes` has `Ephemeral`.
    pub is_ephemeral: bool,
    /// `tokenRequests`: tokens of the pod's service account that it is given.
    pub token_requests: Vec<CsiTokenRequest>,
    /// `serviceAccountTokenInSecrets`: they are among the secrets, not among the attributes.
    pub has_tokens_in_secrets: bool,
    /// `requiresRepublish`: whether it is asked to publish a volume again and again.
    pub requires_republish: bool,
    /// `seLinuxMount`.
    pub mounts_with_selinux: bool,
}

/// A token that a driver is given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CsiTokenRequest {
    /// Empty for that of the API server.
    pub audience: String,
    /// For how many seconds it holds; `None` for the API server's choice.
    pub expiration_seconds: Option<i64>,
}

/// `spec.fsGroupPolicy`: whether the kubelet changes whose the files are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FsGroupPolicy {
    /// Where a type of file system is named and one node alone may write.
    #[default]
    ReadWriteOnceWithFsType,
    /// Always.
    File,
    /// Never.
    None,
}

impl Default for CsiDriverObject {
    fn default() -> Self {
        Self {
            is_there: false,
            allocatable_update_period: None,
            attach_required: true,
            tells_pod_info: false,
            fs_group_policy: FsGroupPolicy::default(),
            is_persistent: true,
            is_ephemeral: false,
            token_requests: Vec::new(),
            has_tokens_in_secrets: false,
            requires_republish: false,
            mounts_with_selinux: false,
        }
    }
}

impl CsiDriverObject {
    /// What this one says.
    pub fn of(object: &CSIDriver) -> Self {
        let spec = &object.spec;
        let modes = spec.volume_lifecycle_modes.as_deref().unwrap_or_default();
        let has_mode = |mode: &str| modes.iter().any(|named| named == mode);
        let requests = spec.token_requests.iter().flatten();
        let seconds = spec.node_allocatable_update_period_seconds;
        Self {
            is_there: true,
            allocatable_update_period: seconds
                .and_then(|seconds| u64::try_from(seconds).ok())
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
            attach_required: spec.attach_required.unwrap_or(true),
            tells_pod_info: spec.pod_info_on_mount.unwrap_or(false),
            fs_group_policy: match spec.fs_group_policy.as_deref() {
                Some("File") => FsGroupPolicy::File,
                Some("None") => FsGroupPolicy::None,
                _ => FsGroupPolicy::ReadWriteOnceWithFsType,
            },
            is_persistent: modes.is_empty() || has_mode("Persistent"),
            is_ephemeral: has_mode("Ephemeral"),
            token_requests: requests
                .map(|request| CsiTokenRequest {
                    audience: request.audience.clone(),
                    expiration_seconds: request.expiration_seconds,
                })
                .collect(),
            has_tokens_in_secrets: spec.service_account_token_in_secrets.unwrap_or(false),
            requires_republish: spec.requires_republish.unwrap_or(false),
            mounts_with_selinux: spec.se_linux_mount.unwrap_or(false),
        }
    }
}
