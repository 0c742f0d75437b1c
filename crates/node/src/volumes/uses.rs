//! What pods want of volumes that are mounted one by one.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Volume;
use model::storage::{ClaimName, VolumeName, is_mounted_alone};
use model::{Pod, pod};
use serde::{Deserialize, Serialize};

/// What one pod wants and has.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct PodUses {
    /// What it wants, by the names of its volumes.
    pub(super) wanted: BTreeMap<String, Use>,
    /// The volumes that it has, or may have.
    pub(super) volumes: BTreeSet<VolumeName>,
}

/// A volume of a pod.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Use {
    pub(super) source: UseSource,
    /// Which volume it is; `None` as long as its claim has none.
    pub(super) volume: Option<VolumeName>,
    /// The claim is not the pod's own, and has to be.
    pub(super) is_refused: bool,
    told: Told,
}

/// Where a pod says what a volume is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum UseSource {
    /// In itself (`csi`, `nfs`).
    Inline,
    /// In a claim (`persistentVolumeClaim`, `ephemeral`).
    Claim {
        name: ClaimName,
        is_read_only: bool,
        /// The claim was made for the pod, and has to be the pod's own.
        is_own: bool,
    },
}

/// What was last told of a failure.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Told {
    error: String,
    failures: u32,
}

impl Use {
    pub(super) fn new(source: UseSource) -> Self {
        Self { source, volume: None, is_refused: false, told: Told::default() }
    }

    /// Whether it is what a claim has.
    pub(super) fn is_of(&self, claim: &ClaimName) -> bool {
        matches!(&self.source, UseSource::Claim { name, .. } if name == claim)
    }

    /// Whether a failure is to be told: each is when it is new, and the same again less and less often, as the pauses grow.
    pub(super) fn is_news(&mut self, error: &str, failures: u32) -> bool {
        let is_first = self.told.error != error;
        if !is_first && self.told.failures == failures {
            return false;
        }
        self.told = Told { error: error.to_owned(), failures };
        is_first || failures.is_power_of_two()
    }

    /// Nothing is wrong with it.
    pub(super) fn is_well(&mut self) {
        self.told = Told::default();
    }
}

impl UseSource {
    /// What a volume of a pod says; `None` when it is made with the others of the pod.
    pub(super) fn of(pod: &Pod, volume: &Volume) -> Option<Self> {
        if volume.csi.is_some() || volume.nfs.is_some() {
            return Some(Self::Inline);
        }
        let claim = volume.persistent_volume_claim.as_ref();
        let is_read_only = claim.and_then(|claim| claim.read_only).unwrap_or(false);
        Some(Self::Claim { name: ClaimName::of(pod, volume)?, is_read_only, is_own: claim.is_none() })
    }
}

/// Whether a pod has any such volume.
pub(super) fn has_any(pod: &Pod) -> bool {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.into_iter().any(is_mounted_alone)
}

/// Whether a container mounts a volume, and whether one has it as a device.
pub(super) fn ways_of_use(pod: &Pod, name: &str) -> (bool, bool) {
    let (mut is_mounted, mut is_device) = (false, false);
    for container in pod::containers(pod) {
        is_mounted |= container.spec.volume_mounts.iter().flatten().any(|mount| mount.name == name);
        is_device |= container.spec.volume_devices.iter().flatten().any(|device| device.name == name);
    }
    (is_mounted, is_device)
}

/// A claim that is somebody else's, in upstream's words.
pub(super) fn not_own(claim: &ClaimName, pod: &Pod) -> String {
    let key = pod::key(pod);
    format!("PVC {claim} was not created for pod {}/{} (pod is not owner)", key.namespace, key.name)
}
