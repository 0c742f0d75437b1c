//! Cases of upstream's `TestPodResourceRequests`, `TestPodResourceLimits` and `TestResourceConfigForPod`,
//! and our own.

use serde_json::{Value, json};

use super::*;

fn pod(spec: Value) -> Pod {
    let mut spec = spec;
    for list in ["containers", "initContainers"] {
        for (i, container) in spec[list].as_array_mut().into_iter().flatten().enumerate() {
            container["name"] = json!(format!("{list}-{i}"));
        }
    }
    if spec["containers"].is_null() {
        spec["containers"] = json!([]);
    }
    serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
}

fn list(items: &[(&str, &str)]) -> ResourceList {
    ResourceList(items.iter().map(|(name, amount)| ((*name).to_owned(), amount.parse().unwrap())).collect())
}

fn req(cpu: &str, memory: &str) -> Value {
    json!({"resources": {"requests": {"cpu": cpu, "memory": memory}}})
}

fn lim(cpu: &str, memory: &str) -> Value {
    json!({"resources": {"limits": {"cpu": cpu, "memory": memory}}})
}

fn sidecar(mut container: Value) -> Value {
    container["restartPolicy"] = json!("Always");
    container
}

#[test]
fn requests() {
    let pod_level = |requests: Value, limits: Value, containers: Value| {
        pod(json!({"resources": {"requests": requests, "limits": limits}, "containers": containers}))
    };
    for (case, pod, want) in [
        ("nothing", pod(json!({"containers": [{}]})), list(&[])),
        (
            "sum",
            pod(json!({"containers": [req("1", "1Gi"), req("2", "2Gi")]})),
            list(&[("cpu", "3"), ("memory", "3Gi")]),
        ),
        (
            "a limit stands in for a missing request",
            pod(
                json!({"containers": [{"resources": {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "1"}}}]}),
            ),
            list(&[("cpu", "1"), ("memory", "1Gi")]),
        ),
        (
            "the largest init container counts",
            pod(
                json!({"containers": [req("1", "1Gi")], "initContainers": [req("3", "512Mi"), req("2", "2Gi")]}),
            ),
            list(&[("cpu", "3"), ("memory", "2Gi")]),
        ),
        (
            "sidecars add to the regular ones",
            pod(json!({"containers": [req("1", "1Gi")], "initContainers": [sidecar(req("2", "1Gi"))]})),
            list(&[("cpu", "3"), ("memory", "2Gi")]),
        ),
        (
            "an init container runs beside the sidecars before it only",
            pod(json!({"containers": [req("1", "0")],
                "initContainers": [req("3", "0"), sidecar(req("2", "0")), req("5", "0"), sidecar(req("3", "0"))]})),
            list(&[("cpu", "7"), ("memory", "0")]),
        ),
        (
            "several sidecars",
            pod(json!({"containers": [req("1", "0")],
                "initContainers": [sidecar(req("2", "0")), req("1", "0"), sidecar(req("3", "0"))]})),
            list(&[("cpu", "6"), ("memory", "0")]),
        ),
        (
            "overhead",
            pod(json!({"containers": [req("1", "1Gi")], "overhead": {"cpu": "250m", "memory": "120Mi"}})),
            list(&[("cpu", "1250m"), ("memory", "1144Mi")]),
        ),
        (
            "the pod's request replaces the sum",
            pod_level(json!({"cpu": "5"}), json!({}), json!([req("1", "1Gi")])),
            list(&[("cpu", "5"), ("memory", "1Gi")]),
        ),
        (
            "the pod's limit stands in where nobody requests",
            pod_level(
                json!({}),
                json!({"cpu": "5", "memory": "4Gi"}),
                json!([{"resources": {"requests": {"cpu": "1"}}}]),
            ),
            list(&[("cpu", "1"), ("memory", "4Gi")]),
        ),
        (
            "a resource no pod can have as a whole is ignored",
            pod_level(json!({"example.com/gpu": "1", "cpu": "1"}), json!({}), json!([{}])),
            list(&[("cpu", "1")]),
        ),
    ] {
        assert_eq!(pod_requests(&pod), want, "{case}");
    }
}

#[test]
fn limits() {
    for (case, pod, want) in [
        (
            "sum",
            pod(json!({"containers": [lim("1", "1Gi"), lim("2", "2Gi")]})),
            list(&[("cpu", "3"), ("memory", "3Gi")]),
        ),
        (
            "overhead only where limited",
            pod(
                json!({"containers": [{"resources": {"limits": {"cpu": "1"}}}], "overhead": {"cpu": "1", "memory": "1Gi"}}),
            ),
            list(&[("cpu", "2")]),
        ),
        (
            "the pod's limit replaces the sum",
            pod(json!({"resources": {"limits": {"cpu": "5"}}, "containers": [lim("1", "1Gi")]})),
            list(&[("cpu", "5"), ("memory", "1Gi")]),
        ),
        (
            "sidecars",
            pod(
                json!({"containers": [lim("1", "1Gi")], "initContainers": [sidecar(lim("1", "1Gi")), lim("4", "1")]}),
            ),
            list(&[("cpu", "5"), ("memory", "2Gi")]),
        ),
    ] {
        assert_eq!(pod_limits(&pod), want, "{case}");
    }
}

#[test]
fn a_limit_holds_for_the_pod_only_when_all_containers_have_one() {
    for (case, pod, want) in [
        (
            "all",
            pod(json!({"containers": [lim("1", "1Gi"), lim("1", "1Gi")]})),
            list(&[("cpu", "2"), ("memory", "2Gi")]),
        ),
        (
            "one resource",
            pod(json!({"containers": [lim("1", "1Gi"), {"resources": {"limits": {"cpu": "1"}}}]})),
            list(&[("cpu", "2")]),
        ),
        (
            "an init container without",
            pod(json!({"containers": [lim("1", "1Gi")], "initContainers": [{}]})),
            list(&[]),
        ),
        (
            "the pod's own",
            pod(json!({"resources": {"limits": {"memory": "1Gi"}}, "containers": [lim("1", "1Mi"), {}]})),
            list(&[("memory", "1Gi")]),
        ),
    ] {
        assert_eq!(declared_limits(&pod), want, "{case}");
    }
}

#[test]
fn writes_each_amount_as_it_was_read() {
    let api = list(&[("cpu", "1500m"), ("memory", "2048Mi"), ("example.com/gpu", "1024")]).to_api();
    let texts: Vec<_> = api.iter().map(|(name, amount)| format!("{name}={}", amount.0)).collect();
    assert_eq!(texts, ["cpu=1500m", "example.com/gpu=1024", "memory=2Gi"]);
}
