//! Lists of pods, as JSON.

use std::sync::Arc;

use http::StatusCode;
use k8s_openapi::api::core::v1::PodStatus;
use model::PodKey;
use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, SerializeStruct, Serializer};

use crate::answer::{self, Answer};
use crate::endpoint::PodPath;
use crate::ports::{PodPorts, PodWithStatus};

/// `v1.PodList`.
struct PodList<'a, P>(&'a [P]);

impl<P: Serialize> Serialize for PodList<'_, P> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Items<'a, P>(&'a [P]);
        impl<P: Serialize> Serialize for Items<'_, P> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut items = serializer.serialize_seq(Some(self.0.len()))?;
                for pod in self.0 {
                    items.serialize_element(pod)?;
                }
                items.end()
            }
        }
        let mut list = serializer.serialize_map(Some(4))?;
        list.serialize_entry("kind", "PodList")?;
        list.serialize_entry("apiVersion", "v1")?;
        list.serialize_entry("metadata", &serde_json::Map::new())?;
        list.serialize_entry("items", &Items(self.0))?;
        list.end()
    }
}

/// `v1.Pod`.
impl Serialize for PodWithStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut pod = serializer.serialize_struct("Pod", 5)?;
        pod.serialize_field("apiVersion", "v1")?;
        pod.serialize_field("kind", "Pod")?;
        pod.serialize_field("metadata", &self.metadata)?;
        match &self.pod.spec {
            Some(spec) => pod.serialize_field("spec", spec)?,
            None => pod.skip_field("spec")?,
        }
        pod.serialize_field("status", &*self.status)?;
        pod.end()
    }
}

/// The list, or what the runtime said instead of one.
pub(crate) fn list<P: Serialize>(pods: Result<Vec<P>, String>) -> Answer {
    match pods {
        Ok(pods) => to_json(&PodList(&pods)),
        Err(error) => answer::text(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

/// Allocated pods, whose status is nobody's business here.
pub(crate) fn allocated<P: PodPorts>(ports: &P) -> Answer {
    let nothing = Arc::<PodStatus>::default();
    let without_status = |pod| PodWithStatus { status: nothing.clone(), ..pod };
    list(Ok(ports.allocated_pods().into_iter().map(without_status).collect()))
}

/// One of them.
pub(crate) fn allocated_one<P: PodPorts>(ports: &P, path: &PodPath) -> Answer {
    let key = PodKey::new(&path.namespace, &path.name);
    let is_wanted = |shown: &PodWithStatus| {
        model::pod::key(&shown.pod) == key && (path.uid.is_none() || path.uid == shown.metadata.uid)
    };
    match ports.allocated_pods().into_iter().find(is_wanted) {
        Some(pod) => to_json(&PodWithStatus { status: Arc::default(), ..pod }),
        None => answer::text(StatusCode::NOT_FOUND, "pod not found"),
    }
}

fn to_json(value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(bytes) => answer::json(bytes),
        Err(error) => answer::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodSpec;
    use model::Pod;
    use serde_json::{json, to_value};

    use super::*;

    #[test]
    fn a_pod_looks_as_if_it_were_one_object() {
        let status = PodStatus { phase: Some("Running".into()), ..PodStatus::default() };
        for spec in [Some(PodSpec::default()), None] {
            let mut pod = Pod { spec, ..Pod::default() };
            pod.metadata.name = Some("web".into());
            let mut shown = PodWithStatus {
                metadata: pod.metadata.clone(),
                pod: Arc::new(pod.clone()),
                status: Arc::new(status.clone()),
            };
            let whole = Pod { status: Some(status.clone()), ..pod };
            assert_eq!(to_value(&shown).unwrap(), to_value(&whole).unwrap());
            shown.metadata.annotations = Some([("a".to_owned(), "b".to_owned())].into());
            assert_eq!(
                to_value(&shown).unwrap()["metadata"],
                json!({ "name": "web", "annotations": { "a": "b" } })
            );
        }
    }
}
