//! What is said of an object that asks for other resources than its pod was granted.

use k8s_openapi::api::core::v1::{Container, ResourceRequirements};
use model::Pod;
use serde::Serialize;

/// Why a resize is not made.
pub(crate) const RESIZE_IS_INFEASIBLE: &str = "In-place resize is not supported by this kubelet";

/// What the event about it says, in upstream's form.
pub(crate) fn pending_event(pod: &Pod) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct PendingResize<'a> {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        init_containers: Vec<ContainerResources<'a>>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        containers: Vec<ContainerResources<'a>>,
        generation: i64,
        error: &'a str,
    }
    #[derive(Serialize)]
    struct ContainerResources<'a> {
        name: &'a str,
        resources: ResourceRequirements,
    }
    fn asked(container: &Container) -> ContainerResources<'_> {
        ContainerResources {
            name: &container.name,
            resources: container.resources.clone().unwrap_or_default(),
        }
    }
    let spec = pod.spec.as_ref();
    let resize = PendingResize {
        init_containers: spec.iter().flat_map(|s| s.init_containers.iter().flatten()).map(asked).collect(),
        containers: spec.iter().flat_map(|s| &s.containers).map(asked).collect(),
        generation: pod.metadata.generation.unwrap_or_default(),
        error: RESIZE_IS_INFEASIBLE,
    };
    // A document of texts and numbers cannot fail to be written.
    let text = serde_json::to_string(&resize).unwrap_or_default();
    format!("Pod resize Infeasible: {text}")
}
