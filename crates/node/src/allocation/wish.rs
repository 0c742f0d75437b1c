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
    struct Wish<'a> {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        init_containers: Vec<Asked<'a>>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        containers: Vec<Asked<'a>>,
        generation: i64,
        error: &'a str,
    }
    #[derive(Serialize)]
    struct Asked<'a> {
        name: &'a str,
        resources: ResourceRequirements,
    }
    fn asked(container: &Container) -> Asked<'_> {
        Asked { name: &container.name, resources: container.resources.clone().unwrap_or_default() }
    }
    let spec = pod.spec.as_ref();
    let wish = Wish {
        init_containers: spec.iter().flat_map(|s| s.init_containers.iter().flatten()).map(asked).collect(),
        containers: spec.iter().flat_map(|s| &s.containers).map(asked).collect(),
        generation: pod.metadata.generation.unwrap_or_default(),
        error: RESIZE_IS_INFEASIBLE,
    };
    // A document of texts and numbers cannot fail to be written.
    let text = serde_json::to_string(&wish).unwrap_or_default();
    format!("Pod resize Infeasible: {text}")
}
