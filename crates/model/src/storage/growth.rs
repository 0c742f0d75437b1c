//! Growth of volumes: what a claim says of the size of its volume, and what of that is the node's to do
//! (<https://kubernetes.io/docs/concepts/storage/persistent-volumes/#expanding-persistent-volumes-claims>, KEP-284, KEP-1790).

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use serde::{Deserialize, Serialize};

use crate::Quantity;

const STORAGE: &str = "storage";
/// Set by a resizer that has grown all of it: there is nothing to be done on nodes.
const NOT_REQUIRED: &str = "volume.kubernetes.io/node-expansion-not-required";

/// What a claim says of the size of its volume, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimSize {
    /// The claim's uid.
    pub uid: String,
    /// `spec.resources.requests`.
    pub requested: u64,
    /// `status.capacity`: what pods can use.
    pub capacity: u64,
    /// `status.allocatedResources`: what it is being grown to.
    pub allocated: Option<u64>,
    /// `status.allocatedResourceStatuses`: how far that is.
    pub step: Option<ResizeStep>,
    /// Whether pods of several nodes write to it, each of which has to grow it (`ReadWriteMany`).
    pub is_shared: bool,
    /// Whether nodes have nothing to do for it.
    pub is_not_required: bool,
}

/// How far the growth of a volume is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResizeStep {
    /// It is the node's turn, or the node is at it (`NodeResizePending`, `NodeResizeInProgress`).
    Node,
    /// Any other: it is the controller's, or nobody's.
    Other,
}

/// What a node has to do so that a volume grows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Growth {
    /// To how many bytes.
    pub size: u64,
    /// Whether the claim says the steps (KEP-1790), and wants to be told of each.
    pub has_steps: bool,
    /// Whether the claim says that it has grown, as it has on another node.
    pub is_told: bool,
    /// Whether a user has asked for another size since: then a failure ends this growth, so that the other one can begin.
    pub is_outdated: bool,
}

impl ClaimSize {
    /// What this one says.
    pub fn of(claim: &PersistentVolumeClaim) -> Self {
        let (spec, status) = (claim.spec.as_ref(), claim.status.as_ref());
        let bytes = |amount: &ApiQuantity| {
            u64::try_from(Quantity::from_api(amount).map_or(0, Quantity::units)).unwrap_or_default()
        };
        let requests = spec.and_then(|spec| spec.resources.as_ref()?.requests.as_ref()?.get(STORAGE));
        let step = status.and_then(|status| status.allocated_resource_statuses.as_ref()?.get(STORAGE));
        let step = step.filter(|step| !step.is_empty()).map(|step| match step.as_str() {
            "NodeResizePending" | "NodeResizeInProgress" => ResizeStep::Node,
            _ => ResizeStep::Other,
        });
        let modes = spec.and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default();
        Self {
            uid: claim.metadata.uid.clone().unwrap_or_default(),
            requested: requests.map(bytes).unwrap_or_default(),
            capacity: status
                .and_then(|status| status.capacity.as_ref()?.get(STORAGE))
                .map(bytes)
                .unwrap_or_default(),
            allocated: status
                .and_then(|status| status.allocated_resources.as_ref())
                .map(|allocated| allocated.get(STORAGE).map(bytes).unwrap_or_default()),
            step,
            is_shared: modes.iter().any(|mode| mode == "ReadWriteMany"),
            is_not_required: claim
                .metadata
                .annotations
                .as_ref()
                .is_some_and(|all| all.contains_key(NOT_REQUIRED)),
        }
    }

    /// What is to be done on a node which knows the volume to have `known` bytes, while the volume itself has `capacity`;
    /// `None` when that is nothing, or nothing yet. The rules are upstream's.
    pub fn growth(&self, known: u64, capacity: u64) -> Option<Growth> {
        if known == 0 || capacity <= known {
            return None;
        }
        if self.step.is_none() && self.allocated.is_none() {
            // A resizer that knows no steps.
            return Some(Growth {
                size: capacity,
                has_steps: false,
                is_told: self.capacity >= capacity,
                is_outdated: false,
            });
        }
        let size = self.allocated.unwrap_or_default();
        let is_told = self.capacity >= size && self.step.is_none();
        let is_wanted = match is_told {
            true => self.is_shared && !self.is_not_required,
            false => self.step == Some(ResizeStep::Node),
        };
        is_wanted.then_some(Growth { size, has_steps: true, is_told, is_outdated: self.requested != size })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn claim(metadata: Value, modes: &[&str], status: Value) -> ClaimSize {
        let spec = json!({ "accessModes": modes, "resources": { "requests": { "storage": "2Ki" } } });
        let object = json!({ "metadata": metadata, "spec": spec, "status": status });
        ClaimSize::of(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn what_is_to_be_done() {
        let old = json!({ "storage": "1Ki" });
        let new = json!({ "storage": "2Ki" });
        let step = |step: &str| json!({ "storage": step });
        let growth = |has_steps, is_told| Some(Growth { size: 2048, has_steps, is_told, is_outdated: false });
        let plain = json!({ "uid": "u" });
        let no = json!({ "annotations": { NOT_REQUIRED: "true" } });
        let (one, many) = (&["ReadWriteOnce"][..], &["ReadWriteMany"][..]);
        for (metadata, modes, status, known, wanted) in [
            (&plain, one, json!({ "capacity": old }), 2048, None),
            (&plain, one, json!({ "capacity": old }), 0, None),
            (&plain, one, json!({ "capacity": old }), 1024, growth(false, false)),
            (&plain, one, json!({ "capacity": new }), 1024, growth(false, true)),
            (
                &plain,
                one,
                json!({ "capacity": old, "allocatedResources": new,
                    "allocatedResourceStatuses": step("NodeResizePending") }),
                1024,
                growth(true, false),
            ),
            (
                &plain,
                one,
                json!({ "capacity": old, "allocatedResources": new,
                    "allocatedResourceStatuses": step("NodeResizeInProgress") }),
                1024,
                growth(true, false),
            ),
            (
                &plain,
                one,
                json!({ "capacity": old, "allocatedResources": new,
                    "allocatedResourceStatuses": step("NodeResizeInfeasible") }),
                1024,
                None,
            ),
            (&plain, one, json!({ "capacity": old, "allocatedResources": new }), 1024, None),
            (&plain, one, json!({ "capacity": new, "allocatedResources": new }), 1024, None),
            (&plain, many, json!({ "capacity": new, "allocatedResources": new }), 1024, growth(true, true)),
            (&no, many, json!({ "capacity": new, "allocatedResources": new }), 1024, None),
        ] {
            assert_eq!(
                claim(metadata.clone(), modes, status.clone()).growth(known, 2048),
                wanted,
                "{status}"
            );
        }
        let status = json!({ "capacity": old, "allocatedResources": { "storage": "3Ki" },
            "allocatedResourceStatuses": step("NodeResizePending") });
        let other = claim(plain, one, status);
        assert_eq!((other.uid.as_str(), other.requested), ("u", 2048));
        let growth = other.growth(1024, 3072).unwrap();
        assert!(growth.is_outdated && growth.size == 3072);
    }
}
