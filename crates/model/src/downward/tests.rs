//! Cases of upstream's `TestExtractFieldPathAsString`, `TestFormatMap`,
//! `TestExtractContainerResourceValue` and `TestMakeEnvironmentVariables`, and our own.

use super::*;

fn pod() -> AllocatedPod {
    serde_json::from_value(serde_json::json!({
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "u-1",
            "labels": {"app": "web", "example.com/tier": "front"},
            "annotations": {"Www.k8s.io/test": "1", "note": "two\nlines \"quoted\""},
        },
        "spec": {
            "serviceAccountName": "robot",
            "resources": {"limits": {"memory": "1Gi"}},
            "initContainers": [{"name": "setup", "resources": {"limits": {"cpu": "300m"}}}],
            "containers": [
                {"name": "main", "resources": {
                    "limits": {"cpu": "9", "memory": "100Mi", "hugepages-2Mi": "4Mi"},
                    "requests": {"cpu": "1001m", "memory": "1", "ephemeral-storage": "3Gi", "hugepages-2Mi": "4Mi"},
                }},
                {"name": "bare"},
            ],
        },
    }))
    .unwrap()
}

fn facts() -> PodFacts {
    PodFacts {
        node_name: "n1".into(),
        host_ips: vec!["10.0.0.1".into(), "fd00::1".into()],
        pod_ips: vec!["10.1.0.7".into(), "fd01::7".into()],
        allocatable: [
            ("cpu", "8"),
            ("memory", "16Gi"),
            ("ephemeral-storage", "50Gi"),
            ("hugepages-2Mi", "8Mi"),
        ]
        .map(|(k, v)| (k.to_owned(), v.parse().unwrap()))
        .into(),
    }
}

#[test]
fn fields() {
    for (path, want) in [
        ("metadata.name", "web"),
        ("metadata.namespace", "shop"),
        ("metadata.uid", "u-1"),
        ("metadata.labels", "app=\"web\"\nexample.com/tier=\"front\""),
        ("metadata.annotations", "Www.k8s.io/test=\"1\"\nnote=\"two\\nlines \\\"quoted\\\"\""),
        ("metadata.labels['app']", "web"),
        ("metadata.labels['example.com/tier']", "front"),
        ("metadata.labels['absent']", ""),
        ("metadata.annotations['Www.k8s.io/test']", "1"),
        ("spec.nodeName", "n1"),
        ("spec.host", "n1"),
        ("spec.serviceAccountName", "robot"),
        ("status.hostIP", "10.0.0.1"),
        ("status.hostIPs", "10.0.0.1,fd00::1"),
        ("status.podIP", "10.1.0.7"),
        ("status.podIPs", "10.1.0.7,fd01::7"),
    ] {
        assert_eq!(field(&pod(), &facts(), path).as_deref(), Ok(want), "{path}");
    }
}

#[test]
fn fields_that_do_not_exist() {
    for path in ["", "metadata.whoops", "metadata.labels.app", "spec", "metadata.labels['app'", "['app']"] {
        let error = field(&pod(), &facts(), path).unwrap_err();
        assert_eq!(error, DownwardError::UnsupportedField { path: path.into() }, "{path}");
    }
    let long = format!("metadata.labels['{}']", "a".repeat(64));
    for path in [
        "metadata.labels['']",
        "metadata.labels['Www.k8s.io/test']",
        "metadata.labels['_a']",
        "metadata.labels['a/b/c']",
        "metadata.annotations['a[b]c']",
        "metadata.annotations['-x.io/a']",
        "metadata.name['x']",
        &long,
    ] {
        let error = field(&pod(), &facts(), path).unwrap_err();
        assert_eq!(error, DownwardError::InvalidSubscript { path: path.into() }, "{path}");
    }
}

#[test]
fn places() {
    for (path, in_env, in_volume) in [
        ("metadata.name", true, true),
        ("metadata.labels", false, true),
        ("metadata.labels['a']", true, true),
        ("metadata.name['a']", false, false),
        ("status.podIP", true, false),
        ("spec.nodeName", true, false),
        ("spec.restartPolicy", false, false),
    ] {
        assert_eq!(
            (is_allowed(path, FieldUse::Env), is_allowed(path, FieldUse::Volume)),
            (in_env, in_volume),
            "{path}"
        );
    }
}

#[test]
fn resources_in_units_of_the_divisor() {
    for (container, name, divisor, want) in [
        (None, "limits.cpu", None, "9"),
        (None, "limits.cpu", Some("1m"), "9000"),
        (None, "limits.cpu", Some("0"), "9"),
        (None, "requests.cpu", None, "2"),
        (None, "requests.cpu", Some("100m"), "11"),
        (None, "limits.memory", Some("1Mi"), "100"),
        (None, "limits.memory", Some("1Gi"), "1"),
        (None, "requests.memory", Some("1Mi"), "1"),
        (None, "requests.ephemeral-storage", Some("1Gi"), "3"),
        (None, "limits.hugepages-2Mi", Some("1Mi"), "4"),
        (None, "requests.hugepages-2Mi", None, "4194304"),
        (None, "requests.hugepages-1Gi", None, "0"),
        (None, "limits.ephemeral-storage", Some("1Gi"), "50"),
        (Some("bare"), "requests.cpu", None, "0"),
        (Some("bare"), "limits.cpu", None, "8"),
        // The pod's own limit comes before the node's.
        (Some("bare"), "limits.memory", Some("1Mi"), "1024"),
        // Huge pages are never overcommitted, so nothing stands in for them.
        (Some("bare"), "limits.hugepages-2Mi", None, "0"),
        (Some("setup"), "limits.cpu", Some("1m"), "300"),
    ] {
        let selector = ResourceFieldSelector {
            container_name: container.map(str::to_owned),
            divisor: divisor.map(|d| k8s_openapi::apimachinery::pkg::api::resource::Quantity(d.to_owned())),
            resource: name.to_owned(),
        };
        assert_eq!(
            resource(&pod(), &facts(), &selector, "main").as_deref(),
            Ok(want),
            "{container:?} {name} {divisor:?}"
        );
    }
}

#[test]
fn resources_that_do_not_exist() {
    for name in ["", "cpu", "limits.", "limits.gpu", "claims.cpu", "limits.cpu.extra"] {
        let selector = ResourceFieldSelector { resource: name.to_owned(), ..Default::default() };
        let error = resource(&pod(), &facts(), &selector, "main").unwrap_err();
        assert_eq!(error, DownwardError::UnsupportedResource { resource: name.into() }, "{name}");
    }
    let selector = ResourceFieldSelector {
        resource: "limits.cpu".into(),
        container_name: Some("ghost".into()),
        ..Default::default()
    };
    let error = resource(&pod(), &facts(), &selector, "main").unwrap_err();
    assert_eq!(error, DownwardError::NoSuchContainer { name: "ghost".into() });
}
