//! Sandboxes as the runtime is told of them, field by field.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::wire::NamespaceMode;

fn pod(spec: serde_json::Value) -> Pod {
    let mut spec = spec;
    if spec.get("containers").is_none() {
        spec["containers"] = json!([{"name": "app"}]);
    }
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "u", "labels": {"a": "b"}, "annotations": {"c": "d"}},
        "spec": spec,
    }))
    .unwrap()
}

fn inputs() -> SandboxInputs {
    SandboxInputs {
        attempt: 2,
        cgroup_parent: "/kubepods/podu".into(),
        log_root: "/var/log/pods".into(),
        cluster_domain: "cluster.local".into(),
        runtime_handler: "kata".into(),
        ..Default::default()
    }
}

fn linux(spec_: serde_json::Value) -> wire::LinuxPodSandboxConfig {
    spec(&pod(spec_), &inputs(), &NodeSettings::default()).unwrap().config.linux.unwrap()
}

#[test]
fn carries_who_the_pod_is() {
    let made = spec(&pod(json!({})), &inputs(), &NodeSettings::default()).unwrap();
    let config = &made.config;
    let metadata = config.metadata.as_ref().unwrap();
    assert_eq!(
        (&*metadata.name, &*metadata.namespace, &*metadata.uid, metadata.attempt),
        ("web", "ns", "u", 2)
    );
    assert_eq!(
        config.labels,
        BTreeMap::from(
            [("a", "b"), (labels::POD_NAME, "web"), (labels::POD_NAMESPACE, "ns"), (labels::POD_UID, "u")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
        )
    );
    assert_eq!(config.annotations, BTreeMap::from([("c".to_owned(), "d".to_owned())]));
    assert_eq!((made.hostname(), &*config.log_directory), ("web", "/var/log/pods/ns_web_u"));
    assert_eq!((&*made.runtime_handler, made.object()), ("kata", "ns/web".to_owned()));
    assert_eq!(config.linux.as_ref().unwrap().cgroup_parent, "/kubepods/podu");
    let host = spec(&pod(json!({"hostNetwork": true})), &inputs(), &NodeSettings::default()).unwrap();
    assert_eq!(host.hostname(), "");
}

#[test]
fn chooses_namespaces() {
    use NamespaceMode::{Container, Node, Pod};
    for (fields, network, pid, ipc) in [
        (json!({}), Pod, Container, Pod),
        (json!({"hostNetwork": true}), Node, Container, Pod),
        (json!({"hostPID": true}), Pod, Node, Pod),
        (json!({"shareProcessNamespace": true}), Pod, Pod, Pod),
        (json!({"hostIPC": true, "hostPID": true, "shareProcessNamespace": true}), Pod, Node, Node),
    ] {
        let options = linux(fields.clone()).security_context.unwrap().namespace_options.unwrap();
        assert_eq!((options.network(), options.pid(), options.ipc()), (network, pid, ipc), "{fields}");
        assert_eq!(options.userns_options, None);
    }
}

#[test]
fn the_nodes_sysctls_are_those_of_namespaces_a_pod_has_for_itself() {
    const NAMES: [&str; 6] = [
        "net.core.somaxconn",
        "kernel.sem",
        "fs.mqueue.msg_max",
        "kernel.domainname",
        "user.max_user_namespaces",
        "kernel.shm",
    ];
    let node = NodeSettings {
        default_sysctls: NAMES.map(|name| (name.to_owned(), "1".to_owned())).into(),
        ..NodeSettings::default()
    };
    let range = IdRange { first_host_id: 65536, length: 65536 };
    let inputs = SandboxInputs { user_namespace: Some(range), ..inputs() };
    for (fields, expected) in [
        (
            json!({}),
            vec!["fs.mqueue.msg_max=1", "kernel.domainname=1", "kernel.sem=1", "net.core.somaxconn=1"],
        ),
        (json!({"hostNetwork": true}), vec!["fs.mqueue.msg_max=1", "kernel.sem=1"]),
        (json!({"hostIPC": true}), vec!["kernel.domainname=1", "net.core.somaxconn=1"]),
        (
            json!({"hostIPC": true, "hostNetwork": true, "hostUsers": false}),
            vec!["user.max_user_namespaces=1"],
        ),
        (
            json!({"hostIPC": true, "securityContext": {"sysctls": [
                {"name": "net.core.somaxconn", "value": "9"}, {"name": "kernel.msgmax", "value": "2"},
            ]}}),
            vec!["kernel.domainname=1", "kernel.msgmax=2", "net.core.somaxconn=9"],
        ),
    ] {
        let made = spec(&pod(fields.clone()), &inputs, &node).unwrap().config.linux.unwrap().sysctls;
        let shown: Vec<String> = made.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(shown, expected, "{fields}");
    }
}

#[test]
fn maps_users_when_asked_to() {
    let node = NodeSettings::default();
    let own = pod(json!({"hostUsers": false}));
    assert_eq!(spec(&own, &inputs(), &node), Err(SandboxSpecError::NoUserNamespace));
    let range = IdRange { first_host_id: 65536, length: 65536 };
    let mapped = SandboxInputs { user_namespace: Some(range), ..inputs() };
    let made = spec(&own, &mapped, &node).unwrap();
    let users =
        made.config.linux.unwrap().security_context.unwrap().namespace_options.unwrap().userns_options;
    let users = users.unwrap();
    assert_eq!((users.mode(), &users.uids), (NamespaceMode::Pod, &users.gids));
    assert_eq!(users.uids, [wire::IdMapping { host_id: 65536, container_id: 0, length: 65536 }]);
}

#[test]
fn translates_the_security_context() {
    let context = linux(json!({
        "securityContext": {
            "runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4, 5],
            "supplementalGroupsPolicy": "Strict", "seLinuxOptions": {"level": "s0:c1"},
            "sysctls": [{"name": "net.core.somaxconn", "value": "9"}],
            "seccompProfile": {"type": "Unconfined"},
        },
        "containers": [{"name": "a"}, {"name": "b", "securityContext": {"privileged": true}}],
    }));
    assert_eq!(context.sysctls.get("net.core.somaxconn").map(String::as_str), Some("9"));
    let security = context.security_context.unwrap();
    assert_eq!((security.run_as_user.unwrap().value, security.run_as_group.unwrap().value), (1, 2));
    assert_eq!(security.supplemental_groups, [3, 4, 5]);
    assert_eq!(security.supplemental_groups_policy, i32::from(wire::SupplementalGroupsPolicy::Strict));
    assert_eq!(security.selinux_options.unwrap().level, "s0:c1");
    assert!(security.privileged);
    let seccomp = security.seccomp.unwrap();
    assert_eq!(seccomp.profile_type(), wire::security_profile::ProfileType::RuntimeDefault);

    let odd = pod(json!({"securityContext": {"supplementalGroupsPolicy": "Odd"}}));
    let error = spec(&odd, &inputs(), &NodeSettings::default()).unwrap_err();
    assert_eq!(error.to_string(), "unsupported supplementalGroupsPolicy: Odd");
}

#[test]
fn maps_ports_once() {
    let made = spec(
        &pod(json!({
            "initContainers": [{"name": "i", "ports": [{"containerPort": 1}]}],
            "containers": [
                {"name": "a", "ports": [
                    {"containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1", "protocol": "UDP"},
                    {"containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1", "protocol": "UDP"},
                    {"name": "x", "containerPort": 81}, {"name": "x", "containerPort": 82},
                ]},
                {"name": "b", "ports": [{"containerPort": 83, "protocol": "SCTP"}]},
            ],
        })),
        &inputs(),
        &NodeSettings::default(),
    )
    .unwrap();
    let shown: Vec<_> = made
        .config
        .port_mappings
        .iter()
        .map(|p| (p.protocol().as_str_name(), p.container_port, p.host_port, &*p.host_ip))
        .collect();
    assert_eq!(shown, [("UDP", 80, 8080, "127.0.0.1"), ("TCP", 81, 0, ""), ("SCTP", 83, 0, "")]);
}

#[test]
fn states_resources_and_overhead() {
    let node = NodeSettings { cpu_quota_period: Duration::from_millis(50), ..Default::default() };
    let totals = PodTotals {
        cpu_request: Some(Quantity::from_millis(250)),
        cpu_limit: Quantity::from_units(1),
        memory_limit: Quantity::from_units(1 << 20),
        has_exclusive_cpus: false,
    };
    let with = SandboxInputs { totals, ..inputs() };
    let made = spec(&pod(json!({"overhead": {"cpu": "100m", "memory": "2Mi"}})), &with, &node).unwrap();
    let linux = made.config.linux.unwrap();
    let shown =
        |r: wire::LinuxContainerResources| (r.cpu_shares, r.cpu_quota, r.cpu_period, r.memory_limit_in_bytes);
    assert_eq!(shown(linux.resources.unwrap()), (256, 50_000, 50_000, 1 << 20));
    assert_eq!(shown(linux.overhead.unwrap()), (102, 5_000, 50_000, 2 << 20));
    let without = spec(&pod(json!({})), &inputs(), &node).unwrap().config.linux.unwrap();
    assert_eq!(without.overhead, Some(wire::LinuxContainerResources::default()));
    assert_eq!(shown(without.resources.unwrap()), (2, 0, 50_000, 0));
}
