//! Lists of pods, as JSON.

use std::borrow::Borrow;

use http::StatusCode;
use model::{Pod, PodKey};
use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};

use crate::answer::{self, Answer};
use crate::endpoint::PodPath;
use crate::ports::Ports;

/// `v1.PodList`. Written straight from the shared pods: nothing is copied to be listed.
struct PodList<'a, P>(&'a [P]);

impl<P: Borrow<Pod>> Serialize for PodList<'_, P> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Items<'a, P>(&'a [P]);
        impl<P: Borrow<Pod>> Serialize for Items<'_, P> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut items = serializer.serialize_seq(Some(self.0.len()))?;
                for pod in self.0 {
                    items.serialize_element(pod.borrow())?;
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

/// The list, or what the runtime said instead of one.
pub(crate) fn list<P: Borrow<Pod>>(pods: Result<Vec<P>, String>) -> Answer {
    match pods {
        Ok(pods) => to_json(&PodList(&pods)),
        Err(error) => answer::text(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

/// Allocated pods, whose status is nobody's business here.
pub(crate) fn allocated<P: Ports>(ports: &P) -> Answer {
    let pods = ports.allocated_pods();
    list(Ok(pods.iter().map(|pod| without_status(pod)).collect::<Vec<_>>()))
}

/// One of them.
pub(crate) fn allocated_one<P: Ports>(ports: &P, path: &PodPath) -> Answer {
    let key = PodKey::new(&path.namespace, &path.name);
    let pods = ports.allocated_pods();
    let matches_uid = |pod: &Pod| path.uid.is_none() || path.uid == pod.metadata.uid;
    match pods.iter().find(|pod| model::pod::key(pod) == key && matches_uid(pod)) {
        Some(pod) => to_json(&without_status(pod)),
        None => answer::text(StatusCode::NOT_FOUND, "pod not found"),
    }
}

fn without_status(pod: &Pod) -> Pod {
    Pod { status: Some(Default::default()), ..pod.clone() }
}

fn to_json(value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(bytes) => answer::json(bytes),
        Err(error) => answer::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}
