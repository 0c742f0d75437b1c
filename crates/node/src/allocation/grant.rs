//! What one pod was granted. Its object may ask for something else at any time (in-place resize, KEP-1287), which this node
//! does not do yet: everything goes on with what was granted, and the status says that the wish is infeasible.

use std::collections::BTreeMap;
use std::sync::Arc;

use checkpoints::PodResources;
use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, EmptyDirVolumeSource, PodSpec, PodStatus, ResourceRequirements, Volume,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use model::resources::ResourceList;
use model::{AllocatedPod, Pod, Quantity};
use serde::{Deserialize, Serialize};

use crate::settings::PodGates;

/// Resources as they were granted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Grant {
    /// Of each container, init containers among them, by name.
    containers: BTreeMap<String, Option<ResourceRequirements>>,
    /// Of the pod as a whole.
    pod: Option<ResourceRequirements>,
    /// Size limits of volumes in memory, by name.
    volumes: BTreeMap<String, ApiQuantity>,
}

impl Grant {
    /// All that a pod asks for.
    pub(crate) fn all(pod: &Pod) -> Self {
        let spec = pod.spec.as_ref();
        let volumes = spec.into_iter().flat_map(|spec| spec.volumes.iter().flatten());
        Self {
            containers: spec
                .into_iter()
                .flat_map(containers)
                .map(|c| (c.name.clone(), c.resources.clone()))
                .collect(),
            pod: spec.and_then(|s| s.resources.clone()),
            volumes: volumes.filter_map(|v| Some((v.name.clone(), size_limit(v)?.clone()))).collect(),
        }
    }

    /// What an earlier process gave a pod, as far as its status tells. What the pod asks for counts where the status
    /// agrees with it, or does not say.
    pub(crate) fn recalled(pod: &Pod, status: &PodStatus) -> Self {
        let mut grant = Self::all(pod);
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

    /// What an earlier process has written down of a pod. What the pod asks for counts where nothing was.
    pub(crate) fn restored(pod: &Pod, written: &PodResources, gates: PodGates) -> Self {
        let mut grant = Self::all(pod);
        for (name, asked) in &mut grant.containers {
            if let Some(given) = written.containers.get(name)
                && !is_same(Some(given), asked.as_ref())
            {
                *asked = Some(given.clone());
            }
        }
        if gates.grants_pod_level_resources {
            grant.pod.clone_from(&written.pod);
        }
        if gates.grants_volume_limits {
            grant.volumes.extend(written.volume_limits.clone());
        }
        grant
    }

    /// A pod's object as it goes on with this.
    pub(crate) fn applied_to(&self, object: &Arc<Pod>) -> Granted {
        match self.put_into(object) {
            Some(pod) => Granted::Otherwise(AllocatedPod::granted(Arc::new(pod))),
            None => Granted::AsAsked,
        }
    }

    /// The pod with this in place of what it asks for; `None` when that is the same.
    fn put_into(&self, pod: &Pod) -> Option<Pod> {
        let spec = pod.spec.as_ref()?;
        let has_own = |c: &Container| {
            self.containers.get(&c.name).is_none_or(|given| is_same(given.as_ref(), c.resources.as_ref()))
        };
        let has_limit = |v: &Volume| self.limit_of(v).is_none();
        if containers(spec).all(has_own)
            && is_same(self.pod.as_ref(), spec.resources.as_ref())
            && spec.volumes.iter().flatten().all(has_limit)
        {
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
        for volume in spec.volumes.iter_mut().flatten() {
            if let Some(limit) = self.limit_of(volume)
                && let Some(dir) = &mut volume.empty_dir
            {
                dir.size_limit = Some(limit.clone());
            }
        }
        Some(pod)
    }

    /// The limit that a volume in memory was granted, where it asks for another.
    fn limit_of(&self, volume: &Volume) -> Option<&ApiQuantity> {
        let (granted, asked) = (self.volumes.get(&volume.name)?, size_limit(volume)?);
        (Quantity::from_api(granted) != Quantity::from_api(asked)).then_some(granted)
    }
}

pub(super) fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

/// Of a volume in memory that has a limit.
pub(super) fn size_limit(volume: &Volume) -> Option<&ApiQuantity> {
    let is_in_memory = |dir: &&EmptyDirVolumeSource| dir.medium.as_deref() == Some("Memory");
    volume.empty_dir.as_ref().filter(is_in_memory)?.size_limit.as_ref()
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

/// What a pod was granted, beside what its object asks for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) enum Granted {
    /// Nothing: it was not let in yet.
    #[default]
    Nothing,
    /// All of it.
    AsAsked,
    /// Something else: the object with that in its place.
    Otherwise(AllocatedPod),
}

impl Granted {
    /// Whether it has anything.
    pub(crate) fn is_any(&self) -> bool {
        !matches!(self, Self::Nothing)
    }

    /// Whether the object asks for something else.
    pub(crate) fn is_resize_pending(&self) -> bool {
        matches!(self, Self::Otherwise(_))
    }

    /// The pod with what it was granted, given its object; `None` as long as that is nothing.
    pub(crate) fn pod(&self, object: &Arc<Pod>) -> Option<AllocatedPod> {
        match self {
            Self::Nothing => None,
            Self::AsAsked => Some(AllocatedPod::granted(object.clone())),
            Self::Otherwise(pod) => Some(pod.clone()),
        }
    }

    /// The same grant with a newer version of the object.
    pub(crate) fn carried_over(&self, old: Option<&Arc<Pod>>, new: &Arc<Pod>) -> Self {
        let Some(had) = old.and_then(|old| self.pod(old)) else { return Self::Nothing };
        if had.spec == new.spec {
            // What changes most: a status, a label.
            return Self::AsAsked;
        }
        Grant::all(&had).applied_to(new)
    }
}
