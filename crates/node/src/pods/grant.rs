//! What a pod was given of its node. Its object may ask for something else at any time (in-place resize,
//! KEP-1287), which this node does not do yet: everything goes on with what was given, and the status
//! says that the wish is infeasible.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, PodStatus, ResourceRequirements};
use model::Pod;
use model::resources::ResourceList;
use serde::{Deserialize, Serialize};

use crate::status;

/// Resources as they were granted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Grant {
    /// Of each container, by name.
    containers: BTreeMap<String, Option<ResourceRequirements>>,
    /// Of the pod as a whole.
    pod: Option<ResourceRequirements>,
}

impl Grant {
    /// All that a pod asks for.
    pub(crate) fn all(pod: &Pod) -> Self {
        let spec = pod.spec.as_ref();
        let own = |c: &Container| (c.name.clone(), c.resources.clone());
        let containers =
            spec.into_iter().flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers));
        Self { containers: containers.map(own).collect(), pod: spec.and_then(|s| s.resources.clone()) }
    }

    /// What an earlier process gave a pod that runs, as far as its status tells. What the pod asks for
    /// counts where the status agrees with it, or does not say.
    pub(crate) fn recalled(pod: &Pod, status: &PodStatus) -> Self {
        let mut grant = Self::all(pod);
        let is_current = status.observed_generation.is_some()
            && status.observed_generation == pod.metadata.generation
            && !status::is_resize_pending(status);
        if is_current {
            return grant;
        }
        let said = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
        for said in said {
            if let Some(asked) = grant.containers.get_mut(&said.name)
                && let Some(given) = given(said, asked.as_ref())
            {
                *asked = Some(given);
            }
        }
        grant
    }

    /// The pod with what was granted in place of what it asks for; `None` when that is the same.
    pub(crate) fn applied_to(&self, pod: &Pod) -> Option<Pod> {
        let spec = pod.spec.as_ref()?;
        let has_own = |c: &Container| {
            self.containers.get(&c.name).is_none_or(|given| is_same(given.as_ref(), c.resources.as_ref()))
        };
        let mut containers = spec.init_containers.iter().flatten().chain(&spec.containers);
        if containers.all(has_own) && is_same(self.pod.as_ref(), spec.resources.as_ref()) {
            return None;
        }
        let mut pod = pod.clone();
        let spec = pod.spec.as_mut()?;
        spec.resources.clone_from(&self.pod);
        for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
            if let Some(given) = self.containers.get(&container.name) {
                container.resources.clone_from(given);
            }
        }
        Some(pod)
    }
}

/// What a status says was given, if that is not what is asked for. Limits are as the runtime has them,
/// in thousandths of a processor and whole bytes.
fn given(said: &ContainerStatus, asked: Option<&ResourceRequirements>) -> Option<ResourceRequirements> {
    let limits = said.resources.as_ref()?.limits.clone();
    let given = ResourceRequirements {
        claims: asked.and_then(|r| r.claims.clone()),
        requests: said.allocated_resources.clone(),
        limits,
    };
    (!is_same(Some(&given), asked)).then_some(given)
}

/// Whether two come to the same for the node.
fn is_same(a: Option<&ResourceRequirements>, b: Option<&ResourceRequirements>) -> bool {
    let amounts = |r: Option<&ResourceRequirements>| {
        let sides = [r.and_then(|r| r.requests.as_ref()), r.and_then(|r| r.limits.as_ref())];
        sides.map(|side| {
            let all = ResourceList::from_api(side);
            let rounded = all.iter().map(|(name, amount)| {
                let is_cpu = name == "cpu";
                (name.to_owned(), if is_cpu { amount.millis() } else { amount.units() })
            });
            rounded.collect::<Vec<_>>()
        })
    };
    a == b || amounts(a) == amounts(b)
}

/// What the event about a wish says, in upstream's form.
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
        error: status::RESIZE_IS_INFEASIBLE,
    };
    // A document of texts and numbers cannot fail to be written.
    let text = serde_json::to_string(&wish).unwrap_or_default();
    format!("Pod resize Infeasible: {text}")
}

/// The newest version of a pod: what is asked for, and what goes on in its place.
pub(crate) struct Version {
    /// What the node works with.
    pub(crate) given: Arc<Pod>,
    /// The object as it is, where that asks for something else.
    pub(crate) asked: Option<Arc<Pod>>,
}

impl Version {
    /// Compares with what was granted.
    pub(crate) fn of(pod: Arc<Pod>, grant: Option<&Grant>) -> Self {
        match grant.and_then(|grant| grant.applied_to(&pod)) {
            Some(given) => Self { given: Arc::new(given), asked: Some(pod) },
            None => Self { given: pod, asked: None },
        }
    }
}
