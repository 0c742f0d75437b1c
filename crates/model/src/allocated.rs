//! A pod as its node runs it: with the resources that it was granted (in-place resize, KEP-1287).

use std::ops::Deref;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ResourceRequirements;
use serde::{Deserialize, Serialize};

use crate::Pod;
use crate::resources::{self, ResourceList};

/// A pod whose resources are those that its node has granted, or offers before it lets the pod in.
///
/// What its object asks for may change at any time. Whatever takes effect by a pod's resources (cgroups, limits of
/// containers and volumes, what containers are told of themselves, status, the sums of the node) goes by this instead, and
/// the amounts can be had from nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AllocatedPod(Arc<Pod>);

impl AllocatedPod {
    /// A pod that has what was granted in place of what it asks for. To say so is the business of the core's `allocation`
    /// alone.
    pub fn granted(pod: Arc<Pod>) -> Self {
        Self(pod)
    }

    /// For those to whom its resources do not matter.
    pub fn shared(&self) -> &Arc<Pod> {
        &self.0
    }

    /// Effective requests, which the scheduler counts: overhead included.
    pub fn requests(&self) -> ResourceList {
        resources::pod_requests(self)
    }

    /// Effective limits: the sum of what containers are limited to; one without a limit adds nothing.
    pub fn limits(&self) -> ResourceList {
        resources::pod_limits(self)
    }

    /// The effective limits of cpu and memory that hold for the pod as a whole: those that every container, or the pod
    /// itself, declares. Other resources as in [`AllocatedPod::limits`].
    pub fn declared_limits(&self) -> ResourceList {
        resources::declared_limits(self)
    }

    /// The pod's own requirements, when it has a request or limit that may stand there (KEP-2837).
    pub fn own_resources(&self) -> Option<&ResourceRequirements> {
        resources::pod_level(self)
    }
}

impl Deref for AllocatedPod {
    type Target = Pod;

    fn deref(&self) -> &Pod {
        &self.0
    }
}
