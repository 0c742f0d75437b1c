//! What is written down of a pod in upstream's state files, and what is read from them.

use std::collections::BTreeMap;

use checkpoints::PodResources;
use k8s_openapi::api::core::v1::{ResourceRequirements, Volume};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use model::{AllocatedPod, Pod, Quantity, pod};

use super::grant::{containers, size_limit};
use crate::settings::PodGates;

/// What a pod was granted (`allocated_pods_state`).
pub(crate) fn allocated(pod: &AllocatedPod, gates: PodGates) -> PodResources {
    let own = |pod: &Pod| pod.spec.as_ref()?.resources.clone();
    PodResources {
        pod: own(pod).filter(|_| gates.grants_pod_level_resources),
        ..resources(pod, gates, |own| own)
    }
}

/// What is in effect for it once its containers run (`actuated_pods_state`). Upstream has what was granted there first, and
/// each container's limits when it is started; they follow from what was granted.
pub(crate) fn actuated(pod: &AllocatedPod, gates: PodGates) -> PodResources {
    let own = pod.spec.as_ref().and_then(|spec| spec.resources.clone());
    PodResources {
        pod: own.filter(|own| own.requests.is_some() || own.limits.is_some()),
        ..resources(pod, gates, |own| with_pod_limits(pod, own, gates))
    }
}

/// The same of one container; `None` when the pod has none of that name.
pub(crate) fn actuated_container(
    pod: &AllocatedPod,
    name: &str,
    gates: PodGates,
) -> Option<ResourceRequirements> {
    let container = pod::container(pod, name)?;
    Some(with_pod_limits(pod, container.spec.resources.clone().unwrap_or_default(), gates))
}

fn resources(
    pod: &Pod,
    gates: PodGates,
    of_container: impl Fn(ResourceRequirements) -> ResourceRequirements,
) -> PodResources {
    let Some(spec) = &pod.spec else { return PodResources::default() };
    let volumes = spec.volumes.iter().flatten().filter(|_| gates.grants_volume_limits);
    PodResources {
        containers: containers(spec)
            .map(|c| (c.name.clone(), of_container(c.resources.clone().unwrap_or_default())))
            .collect(),
        pod: None,
        volume_limits: volumes.filter_map(|v| Some((v.name.clone(), limit(v)?.clone()))).collect(),
    }
}

/// Of a volume in memory that has a limit; none is as good as zero.
fn limit(volume: &Volume) -> Option<&ApiQuantity> {
    size_limit(volume).filter(|limit| !Quantity::from_api(limit).unwrap_or_default().is_zero())
}

/// A container without a limit of its own is limited as its pod is.
fn with_pod_limits(pod: &Pod, mut own: ResourceRequirements, gates: PodGates) -> ResourceRequirements {
    let whole = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.limits.as_ref());
    let Some(whole) = whole.filter(|_| gates.grants_pod_level_resources) else { return own };
    let amount = |limits: &BTreeMap<String, ApiQuantity>, name: &str| {
        limits.get(name).and_then(Quantity::from_api).filter(|amount| !amount.is_zero())
    };
    for name in ["cpu", "memory"] {
        let has_own = own.limits.as_ref().is_some_and(|limits| amount(limits, name).is_some());
        if !has_own && amount(whole, name).is_some() {
            let limit = whole.get(name).cloned();
            own.limits.get_or_insert_default().extend(limit.map(|limit| (name.to_owned(), limit)));
        }
    }
    own
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::super::grant::{Grant, Granted};
    use super::*;

    #[test]
    fn what_is_written_is_what_upstream_would_write() {
        let pod: AllocatedPod = serde_json::from_value(json!({ "spec": {
            "resources": { "limits": { "cpu": "2", "memory": "1Gi" } },
            "initContainers": [{ "name": "i" }],
            "containers": [
                { "name": "a", "resources": { "requests": { "cpu": "1" }, "limits": { "memory": "5Mi" } } },
            ],
            "ephemeralContainers": [{ "name": "e" }],
            "volumes": [
                { "name": "v", "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } },
                { "name": "unlimited", "emptyDir": { "medium": "Memory", "sizeLimit": "0" } },
                { "name": "disk", "emptyDir": { "sizeLimit": "1Mi" } },
            ],
        }}))
        .unwrap();
        let text = |resources: &PodResources| {
            let all = resources.containers.iter().map(|(name, r)| format!("{name} {}", json!(r)));
            let all =
                all.chain([format!("{}", json!(resources.pod)), format!("{:?}", resources.volume_limits)]);
            all.collect::<Vec<_>>().join("\n")
        };
        let off = PodGates { grants_pod_level_resources: false, ..PodGates::default() };
        let own = r#"{"limits":{"memory":"5Mi"},"requests":{"cpu":"1"}}"#;
        let whole = r#"{"limits":{"cpu":"2","memory":"1Gi"}}"#;
        let in_effect = r#"{"limits":{"cpu":"2","memory":"5Mi"},"requests":{"cpu":"1"}}"#;
        for (written, expected) in [
            (allocated(&pod, PodGates::default()), format!("a {own}\ni {{}}\n{whole}\n{{}}")),
            (allocated(&pod, off), format!("a {own}\ni {{}}\nnull\n{{}}")),
            (actuated(&pod, PodGates::default()), format!("a {in_effect}\ni {whole}\n{whole}\n{{}}")),
            (actuated(&pod, off), format!("a {own}\ni {{}}\n{whole}\n{{}}")),
            (
                allocated(&pod, PodGates { grants_volume_limits: true, ..off }),
                format!("a {own}\ni {{}}\nnull\n{{\"v\": Quantity(\"1Mi\")}}"),
            ),
        ] {
            assert_eq!(text(&written), expected);
        }
        let of_debugger = actuated_container(&pod, "e", off).unwrap();
        assert_eq!(of_debugger, ResourceRequirements::default());
    }

    /// A container that was granted nothing goes on with nothing, as its object says it.
    #[test]
    fn what_was_written_counts_where_it_is_something_else() {
        let container =
            |name: &str, cpu: &str| json!({ "name": name, "resources": { "requests": { "cpu": cpu } } });
        let object: Pod = serde_json::from_value(json!({ "spec": {
            "containers": [container("a", "3"), container("b", "0.5"), { "name": "c" }],
        }}))
        .unwrap();
        let written = |name: &str, cpu: &str| {
            (name.to_owned(), serde_json::from_value(container(name, cpu)["resources"].clone()).unwrap())
        };
        let nothing = ("c".to_owned(), ResourceRequirements::default());
        let written = PodResources {
            containers: [written("a", "1"), written("b", "500m"), nothing].into(),
            ..PodResources::default()
        };
        let granted = Grant::restored(&object, &written, PodGates::default()).applied_to(&Arc::new(object));
        let Granted::Otherwise(pod) = granted else { panic!("{granted:?}") };
        let has: Vec<_> = pod.spec.as_ref().unwrap().containers.iter().map(|c| json!(c.resources)).collect();
        let cpu = |cpu: &str| json!({ "requests": { "cpu": cpu } });
        assert_eq!(has, [cpu("1"), cpu("0.5"), json!(null)]);
    }
}
