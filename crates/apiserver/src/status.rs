//! A pod's status, written as the difference to what the server is known to have.

use std::fmt::Debug;

use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::PodStatus;
use kube::Client;
use kube::api::{Patch, PatchParams};
use model::json::to_tree;
use model::{Pod, PodKey, PodUid};
use serde_json::{Value, json};

use crate::call::{Purpose, RequestError, call};
use crate::patch::{ListKind, Lists, diff};
use crate::pods::pods_of;

/// Lists of a pod's status the API merges by key. Container statuses are not among them: they
/// are sent whole when one changed.
const LISTS: Lists = &[
    ("conditions", ListKind::Keyed { key: "type", delete: true }),
    // The key is the address itself and the order has a meaning (the first is the pod's IP).
    ("podIPs", ListKind::Replaced),
    ("hostIPs", ListKind::Replaced),
    ("resourceClaimStatuses", ListKind::Replaced),
    ("nodeAllocatableResourceClaimStatuses", ListKind::Replaced),
];

/// What became of a status.
#[derive(Debug)]
pub enum PatchOutcome {
    /// Nothing differs, nothing was sent.
    Unchanged,
    /// Written; the pod as the server has it now.
    Written(Box<Pod>),
    /// No pod of that name exists.
    Gone,
    /// The name belongs to another pod now.
    Replaced,
}

/// The patch that turns `old` into `new`, for a pod's `status` subresource; `None` when nothing
/// differs. Fields in neither are left alone, as are conditions neither has.
pub fn status_patch(old: &PodStatus, new: &PodStatus) -> Option<Value> {
    let (old, new) = (to_tree(old).ok()?, to_tree(new).ok()?);
    diff(&old, &new, LISTS).map(Value::Object)
}

/// Writes a pod's status: one request, no read before. `old` is what the server is believed to
/// have; fields in which it is wrong stay wrong until they change.
///
/// # Errors
/// The request failed; [`RequestError::is_retryable`] says whether trying again makes sense.
pub async fn patch_pod_status(
    client: &Client,
    key: &PodKey,
    uid: &PodUid,
    old: &PodStatus,
    new: &PodStatus,
) -> Result<PatchOutcome, RequestError> {
    let Some(status) = status_patch(old, new) else { return Ok(PatchOutcome::Unchanged) };
    let purpose = Purpose::new("patch status of pod", key.to_string());
    // The uid in the patch is a precondition: the server refuses to change it.
    let patch = Patch::Strategic(json!({
        "apiVersion": Pod::API_VERSION,
        "kind": Pod::KIND,
        "metadata": {"uid": uid.as_str()},
        "status": status,
    }));
    let request =
        pods_of(&key.namespace).patch_subresource("status", &key.name, &PatchParams::default(), &patch);
    match call::<Pod>(client, &purpose, request).await {
        Ok(pod) => Ok(PatchOutcome::Written(Box::new(pod))),
        Err(error) if error.is_not_found() => Ok(PatchOutcome::Gone),
        Err(error) if is_other_uid(&error) => Ok(PatchOutcome::Replaced),
        Err(error) => Err(error),
    }
}

/// Whether a refusal means that the uid was another one. The server says `Conflict` with
/// "Precondition failed: UID in precondition", or `Invalid` for an immutable `metadata.uid`.
pub(crate) fn is_other_uid(error: &RequestError) -> bool {
    match &error.cause {
        crate::Cause::Refused { code: 409, message, .. } => message.contains("UID"),
        crate::Cause::Refused { code: 422, message, .. } => message.contains("metadata.uid"),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
