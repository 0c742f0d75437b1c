//! Claims of pods on volumes (PersistentVolumeClaim), the volumes they are bound to (PersistentVolume), and what is said of the
//! volumes' attachments (VolumeAttachment). A node may get each that its pods need, and neither list nor watch them.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::Client;
use kube::api::GetParams;
use kube::core::Request;
use model::PodUid;
use model::storage::{BoundClaim, ClaimAnswer, ClaimName, ClaimProblem, ClaimSize, VolumeSpec};

use crate::call::{Cause, Purpose, RequestError, call};

/// Keeps a claim that is being deleted usable for the pods that use it.
const PROTECTION: &str = "kubernetes.io/pvc-protection";

/// It is not known what has come of a claim. The texts are upstream's.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The claim could not be read.
    #[error("failed to fetch PVC from API server")]
    Claim(#[source] RequestError),
    /// Its volume could not be read.
    #[error("failed to fetch PV {volume} from API server")]
    Volume {
        /// Its name.
        volume: String,
        /// Why.
        source: RequestError,
    },
}

impl ClaimError {
    /// Whether the node may not read it, usually because the server has not seen yet that a pod of this node needs it.
    pub fn is_forbidden(&self) -> bool {
        let (Self::Claim(source) | Self::Volume { source, .. }) = self;
        source.is_forbidden()
    }
}

/// Reads a claim, and the volume that it is bound to.
///
/// # Errors
/// A request failed, otherwise than that there is no such object.
pub async fn resolve_claim(client: &Client, claim: &ClaimName) -> Result<ClaimAnswer, ClaimError> {
    let purpose = Purpose::new("get PersistentVolumeClaim", claim.to_string());
    let path = format!("/api/v1/namespaces/{}/persistentvolumeclaims", claim.namespace);
    let request = Request::new(path).get(&claim.name, &GetParams::default());
    let claim: PersistentVolumeClaim = match call(client, &purpose, request).await {
        Ok(claim) => claim,
        Err(error) if error.is_not_found() => {
            return Ok(ClaimAnswer::Unusable(ClaimProblem::NotFound(message(&error))));
        }
        Err(error) => return Err(ClaimError::Claim(error)),
    };
    let volume = match bound_to(&claim) {
        Ok(volume) => volume,
        Err(problem) => return Ok(ClaimAnswer::Unusable(problem)),
    };
    let purpose = Purpose::new("get PersistentVolume", volume.clone());
    let request = Request::new("/api/v1/persistentvolumes").get(&volume, &GetParams::default());
    match call::<PersistentVolume>(client, &purpose, request).await {
        Ok(object) => Ok(answer(&claim, volume, &object)),
        Err(error) if error.is_not_found() => {
            Ok(ClaimAnswer::Unusable(ClaimProblem::VolumeNotFound { volume, error: message(&error) }))
        }
        Err(source) => Err(ClaimError::Volume { volume, source }),
    }
}

/// Reads a VolumeAttachment; `None` when there is none.
///
/// # Errors
/// The request failed.
pub async fn get_attachment(client: &Client, name: &str) -> Result<Option<VolumeAttachment>, RequestError> {
    let request = Request::new("/apis/storage.k8s.io/v1/volumeattachments").get(name, &GetParams::default());
    match call(client, &Purpose::new("get VolumeAttachment", name), request).await {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The name of the volume that a claim is bound to.
fn bound_to(claim: &PersistentVolumeClaim) -> Result<String, ClaimProblem> {
    let is_protected = claim.metadata.finalizers.iter().flatten().any(|name| name == PROTECTION);
    if claim.metadata.deletion_timestamp.is_some() && !is_protected {
        return Err(ClaimProblem::Deleting);
    }
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    if phase != Some("Bound") {
        return Err(ClaimProblem::NotBound);
    }
    let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone());
    volume.filter(|name| !name.is_empty()).ok_or(ClaimProblem::NoVolumeName)
}

/// What a claim and its volume say together.
fn answer(claim: &PersistentVolumeClaim, volume: String, object: &PersistentVolume) -> ClaimAnswer {
    let claim_uid = claim.metadata.uid.clone().unwrap_or_default();
    let claim_ref = object.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    let Some(claim_ref) = claim_ref else {
        return ClaimAnswer::Unusable(ClaimProblem::VolumeNotBound { volume });
    };
    let claim_ref = claim_ref.uid.clone().unwrap_or_default();
    if claim_ref != claim_uid {
        let problem = ClaimProblem::VolumeOfAnother { volume, claim_ref, claim: claim_uid };
        return ClaimAnswer::Unusable(problem);
    }
    let mut owners = claim.metadata.owner_references.iter().flatten();
    let owner = owners.find(|owner| owner.controller == Some(true) && owner.kind == "Pod");
    let owner = owner.map(|owner| PodUid::from(owner.uid.as_str()));
    match VolumeSpec::of_persistent(object) {
        Ok(spec) => {
            let size = ClaimSize::of(claim);
            ClaimAnswer::Bound(BoundClaim { volume: Arc::new(spec), owner, size })
        }
        Err(error) => ClaimAnswer::Unusable(ClaimProblem::NoPlugin { volume, error }),
    }
}

/// The server's own words.
fn message(error: &RequestError) -> String {
    match &error.cause {
        Cause::Refused { message, .. } => message.clone(),
        _ => model::chain(error),
    }
}

#[cfg(test)]
mod tests;
