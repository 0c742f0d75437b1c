//! Containers as the runtime is told of them, field by field.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::node_settings::MemoryQos;
use crate::wire::security_profile::ProfileType;

fn pod(spec: Value, container: Value) -> AllocatedPod {
    let mut spec = spec;
    let mut container = container;
    container["name"] = json!("app");
    spec["containers"] = json!([container]);
    serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "ns", "uid": "u"}, "spec": spec}))
        .unwrap()
}

fn inputs() -> ContainerInputs {
    ContainerInputs {
        attempt: 3,
        image_ref: "sha256:1".into(),
        image_user: ImageUser::Uid(0),
        environment: vec![EnvVar { name: "A".into(), value: "a".into() }],
        mounts: Vec::new(),
        handler: String::new(),
        termination_file: None,
        devices: Vec::new(),
        cdi_devices: Vec::new(),
        annotations: BTreeMap::new(),
        volume_groups: Vec::new(),
        user_namespace: None,
        target: None,
        cpuset: CpuSet::default(),
    }
}

fn node() -> NodeSettings {
    NodeSettings { memory_capacity_bytes: 1000 << 20, honours_stop_signals: true, ..Default::default() }
}

fn build(pod: &AllocatedPod, inputs: &ContainerInputs) -> Result<wire::ContainerConfig, ContainerSpecError> {
    spec(pod, &pod::container(pod, "app").unwrap(), inputs, &node()).map(|spec| spec.config)
}

fn security(pod: &AllocatedPod, inputs: &ContainerInputs) -> wire::LinuxContainerSecurityContext {
    build(pod, inputs).unwrap().linux.unwrap().security_context.unwrap()
}

#[test]
fn carries_what_the_spec_says() {
    let pod = pod(
        json!({"terminationGracePeriodSeconds": 30}),
        json!({
            "image": "img:1", "command": ["run", "$(A)", "$$(A)"], "args": ["$(B)"], "workingDir": "/w",
            "stdin": true, "stdinOnce": true, "tty": true, "ports": [{"containerPort": 80}],
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            "lifecycle": {"stopSignal": "SIGUSR1", "preStop": {"sleep": {"seconds": 1}}},
        }),
    );
    let mut with = inputs();
    with.termination_file = Some("/pods/m".into());
    with.annotations = BTreeMap::from(
        [("plugin", "x"), (labels::CONTAINER_HASH, "forged")].map(|(k, v)| (k.to_owned(), v.to_owned())),
    );
    let config = build(&pod, &with).unwrap();
    assert_eq!(config.metadata, Some(wire::ContainerMetadata { name: "app".into(), attempt: 3 }));
    assert_eq!(
        (&config.command[..], &config.args[..]),
        (&["run", "a", "$(A)"].map(String::from)[..], &["$(B)".to_owned()][..])
    );
    assert_eq!((&*config.working_dir, &*config.log_path), ("/w", "app/3.log"));
    assert!(config.stdin && config.stdin_once && config.tty);
    assert_eq!(config.stop_signal(), wire::Signal::Sigusr1);
    let image = config.image.unwrap();
    assert_eq!((&*image.image, &*image.user_specified_image), ("sha256:1", "img:1"));
    let hash = format!("{:x}", model::hash::container_hash(&pod.spec.as_ref().unwrap().containers[0]));
    let expect = [
        ("plugin", "x"),
        (labels::CONTAINER_HASH, &hash),
        (labels::CONTAINER_RESTART_COUNT, "3"),
        (labels::TERMINATION_MESSAGE_PATH, "/dev/termination-log"),
        (labels::TERMINATION_MESSAGE_POLICY, "File"),
        (labels::POD_TERMINATION_GRACE, "30"),
        (labels::PRE_STOP_HANDLER, r#"{"sleep":{"seconds":1}}"#),
        (labels::CONTAINER_PORTS, r#"[{"containerPort":80}]"#),
    ];
    assert_eq!(config.annotations, expect.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    assert_eq!(config.labels.get(labels::CONTAINER_NAME).map(String::as_str), Some("app"));
    assert_eq!(config.mounts.len(), 1);
    assert_eq!(
        (&*config.mounts[0].host_path, &*config.mounts[0].container_path),
        ("/pods/m", "/dev/termination-log")
    );
    assert!(!format!("{:?}", config.envs).contains("[97]"));
}

#[test]
fn refuses_root_where_it_is_forbidden() {
    let by_uid = |uid| ImageUser::Uid(uid);
    let by_name = ImageUser::Name("app".into());
    for (whole, own, user, expect) in [
        (json!({}), json!({}), by_uid(0), Ok(())),
        (json!({}), json!({"runAsNonRoot": true}), by_uid(7), Ok(())),
        (json!({"runAsNonRoot": true}), json!({"runAsNonRoot": false}), by_uid(0), Ok(())),
        (json!({}), json!({"runAsNonRoot": true, "runAsUser": 5}), by_uid(0), Ok(())),
        (json!({"runAsUser": 5}), json!({"runAsNonRoot": true}), by_name.clone(), Ok(())),
        (
            json!({"runAsNonRoot": true}),
            json!({}),
            by_uid(0),
            Err("container has runAsNonRoot and image will run as root (pod: \"web_ns(u)\", container: app)"),
        ),
        (
            json!({"runAsUser": 0}),
            json!({"runAsNonRoot": true}),
            by_uid(7),
            Err("container's runAsUser breaks non-root policy (pod: \"web_ns(u)\", container: app)"),
        ),
        (
            json!({}),
            json!({"runAsNonRoot": true}),
            by_name,
            Err("container has runAsNonRoot and image has non-numeric user (app), cannot verify user is \
                 non-root (pod: \"web_ns(u)\", container: app)"),
        ),
        (
            json!({}),
            json!({"runAsNonRoot": true}),
            by_uid(1 << 40),
            Err("container has runAsNonRoot and image has an invalid user id (1099511627776). (Must be \
                 1-(2147483647)): must be between 0 and 2147483647, inclusive (pod: \"web_ns(u)\", container: app)"),
        ),
    ] {
        let pod = pod(json!({"securityContext": whole}), json!({"securityContext": own}));
        let with = ContainerInputs { image_user: user, ..inputs() };
        let result = build(&pod, &with).map(|_| ()).map_err(|e| e.to_string());
        assert_eq!(result, expect.map_err(str::to_owned));
    }
}

#[test]
fn merges_pod_and_container() {
    let pod = pod(
        json!({"securityContext": {
            "runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4],
            "seLinuxOptions": {"level": "s0"}, "supplementalGroupsPolicy": "Strict",
        }}),
        json!({"securityContext": {
            "runAsUser": 9, "privileged": true, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
            "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}, "procMount": "Unmasked",
        }}),
    );
    let made = security(&pod, &ContainerInputs { volume_groups: vec![5], ..inputs() });
    assert_eq!((made.run_as_user.unwrap().value, made.run_as_group.unwrap().value), (9, 2));
    assert_eq!(made.supplemental_groups, [3, 4, 5]);
    assert!(made.privileged && made.readonly_rootfs && made.no_new_privs);
    let capabilities = made.capabilities.unwrap();
    assert_eq!(
        (&*capabilities.add_capabilities[0], &*capabilities.drop_capabilities[0]),
        ("NET_ADMIN", "ALL")
    );
    assert!(made.masked_paths.is_empty() && made.readonly_paths.is_empty());
    assert_eq!(made.selinux_options.unwrap().level, "s0");

    let plain = self::pod(json!({}), json!({}));
    let made = security(&plain, &ContainerInputs { image_user: ImageUser::Name("app".into()), ..inputs() });
    assert_eq!((made.run_as_user, &*made.run_as_username), (None, "app"));
    assert_eq!((made.masked_paths.len(), made.readonly_paths.len()), (12, 5));
    assert!(!made.no_new_privs);
    let made = security(&plain, &inputs());
    assert_eq!((made.run_as_user, &*made.run_as_username), (Some(wire::Int64Value { value: 0 }), ""));
}

/// CVE-2023-2431: an empty profile is refused, and not taken for none.
#[test]
fn chooses_the_seccomp_profile() {
    use ProfileType::{Localhost, RuntimeDefault, Unconfined};
    let local = |name: Value| json!({"type": "Localhost", "localhostProfile": name});
    for (whole, own, is_default, expect) in [
        (json!(null), json!(null), false, Ok((Unconfined, ""))),
        (json!(null), json!(null), true, Ok((RuntimeDefault, ""))),
        (json!({"type": "RuntimeDefault"}), json!(null), false, Ok((RuntimeDefault, ""))),
        (json!({"type": "RuntimeDefault"}), json!({"type": "Unconfined"}), true, Ok((Unconfined, ""))),
        (json!(null), local(json!("a/b.json")), false, Ok((Localhost, "/var/lib/kubelet/seccomp/a/b.json"))),
        (
            json!(null),
            local(json!("")),
            false,
            Err("localhostProfile must be set if seccompProfile type is Localhost."),
        ),
        (
            json!(null),
            local(json!(null)),
            false,
            Err("localhostProfile must be set if seccompProfile type is Localhost."),
        ),
        (
            json!(null),
            local(json!("../x")),
            false,
            Err("seccomp localhostProfile \"../x\" is not a relative path below the profile folder"),
        ),
    ] {
        let pod = pod(
            json!({"securityContext": {"seccompProfile": whole}}),
            json!({"securityContext": {"seccompProfile": own}}),
        );
        let node = NodeSettings { seccomp_default: is_default, ..node() };
        let made = spec(&pod, &pod::container(&pod, "app").unwrap(), &inputs(), &node);
        let shown = made.map_err(|e| e.to_string()).map(|made| {
            let profile = made.config.linux.unwrap().security_context.unwrap().seccomp.unwrap();
            (profile.profile_type(), profile.localhost_ref)
        });
        assert_eq!(shown, expect.map(|(k, p)| (k, p.to_owned())).map_err(str::to_owned));
    }
}

#[test]
fn chooses_the_apparmor_profile() {
    for (annotation, whole, own, expect) in [
        (None, json!(null), json!(null), None),
        (None, json!({"type": "RuntimeDefault"}), json!(null), Some("runtime/default")),
        (Some("localhost/x"), json!({"type": "RuntimeDefault"}), json!(null), Some("localhost/x")),
        (Some("localhost/x"), json!(null), json!({"type": "Unconfined"}), Some("unconfined")),
        (Some("nonsense"), json!(null), json!(null), None),
        (None, json!(null), json!({"type": "Localhost", "localhostProfile": "p"}), Some("localhost/p")),
    ] {
        let pod = pod(
            json!({"securityContext": {"appArmorProfile": whole}}),
            json!({"securityContext": {"appArmorProfile": own}}),
        );
        let mut pod = Pod::clone(&pod);
        pod.metadata.annotations = annotation.map(|value: &str| {
            BTreeMap::from([(
                "container.apparmor.security.beta.kubernetes.io/app".to_owned(),
                value.to_owned(),
            )])
        });
        let pod = AllocatedPod::granted(std::sync::Arc::new(pod));
        #[allow(deprecated)]
        let text = security(&pod, &inputs()).apparmor_profile;
        assert_eq!(text, expect.unwrap_or_default());
    }
    let missing = pod(json!({}), json!({"securityContext": {"appArmorProfile": {"type": "Localhost"}}}));
    assert_eq!(build(&missing, &inputs()), Err(ContainerSpecError::AppArmorProfileMissing));
}

#[test]
fn turns_amounts_into_limits() {
    let v1 = NodeSettings { has_cgroup_v2: false, ..node() };
    let swap = NodeSettings { has_swap_control: true, ..v1.clone() };
    let unlimited = NodeSettings { enforces_cpu_quota: false, ..v1.clone() };
    let short = NodeSettings { cpu_quota_period: Duration::from_millis(10), ..v1.clone() };
    for (whole, own, node, shares, quota, memory, memory_swap) in [
        (json!({}), json!({}), &v1, 2, 0, 0, 0),
        (json!({}), json!({"requests": {"cpu": "250m"}}), &v1, 256, 0, 0, 0),
        (json!({}), json!({"requests": {"cpu": "1m"}}), &v1, 2, 0, 0, 0),
        (json!({}), json!({"requests": {"cpu": "1000"}}), &v1, 262_144, 0, 0, 0),
        (json!({}), json!({"limits": {"cpu": "500m", "memory": "1Mi"}}), &v1, 512, 50_000, 1 << 20, 0),
        (
            json!({}),
            json!({"limits": {"cpu": "500m", "memory": "1Mi"}}),
            &swap,
            512,
            50_000,
            1 << 20,
            1 << 20,
        ),
        (json!({}), json!({"limits": {"cpu": "500m"}}), &unlimited, 512, 0, 0, 0),
        (json!({}), json!({"limits": {"cpu": "1m"}}), &short, 2, 1000, 0, 0),
        (json!({"limits": {"cpu": "2", "memory": "4Mi"}}), json!({}), &v1, 2048, 200_000, 4 << 20, 0),
        (json!({"limits": {"cpu": "2"}}), json!({"limits": {"cpu": "1"}}), &v1, 1024, 100_000, 0, 0),
    ] {
        let pod = pod(json!({"resources": whole}), json!({"resources": own}));
        let made = limits(&pod, &pod::container(&pod, "app").unwrap(), &CpuSet::default(), node).0;
        let shown =
            (made.cpu_shares, made.cpu_quota, made.memory_limit_in_bytes, made.memory_swap_limit_in_bytes);
        assert_eq!(shown, (shares, quota, memory, memory_swap), "{whole} {own}");
        assert!(made.unified.is_empty());
    }
    let exclusive = CpuSet { cpus: "2-3".into(), memory_nodes: "0".into(), is_exclusive: true };
    let pod = pod(json!({}), json!({"resources": {"limits": {"cpu": "2", "hugepages-2Mi": "4Mi"}}}));
    let sizes =
        NodeSettings { hugepage_sizes: vec!["2MB".into(), "1GB".into()], has_swap_control: true, ..node() };
    let made = limits(&pod, &pod::container(&pod, "app").unwrap(), &exclusive, &sizes).0;
    assert_eq!((made.cpu_quota, &*made.cpuset_cpus, &*made.cpuset_mems), (-1, "2-3", "0"));
    let pages: Vec<_> = made.hugepage_limits.iter().map(|l| (&*l.page_size, l.limit)).collect();
    assert_eq!(pages, [("2MB", 4 << 20), ("1GB", 0)]);
    let unified: Vec<_> = made.unified.iter().map(|(k, v)| (&**k, &**v)).collect();
    assert_eq!(unified, [("memory.high", "max"), ("memory.oom.group", "1"), ("memory.swap.max", "0")]);
}

fn unified(pod: &AllocatedPod, node: &NodeSettings, name: &str) -> Option<String> {
    let made = limits(pod, &pod::container(pod, "app").unwrap(), &CpuSet::default(), node).0;
    made.unified.get(name).cloned()
}

/// The node has 1000 MiB of memory and 100 MiB of swap.
#[test]
fn burstable_containers_swap_as_much_as_they_request() {
    let limited = NodeSettings { has_swap_control: true, swap_bytes_for_pods: Some(100 << 20), ..node() };
    let none = NodeSettings { swap_bytes_for_pods: None, ..limited.clone() };
    let uncontrolled = NodeSettings { has_swap_control: false, ..limited.clone() };
    let critical = json!({"priorityClassName": "system-node-critical", "priority": 2_000_001_000});
    let burstable = json!({"requests": {"memory": "100Mi"}});
    for (spec, own, node, expect) in [
        (json!({}), burstable.clone(), &limited, Some(10 << 20)),
        (
            json!({}),
            json!({"requests": {"memory": "100Mi"}, "limits": {"memory": "200Mi"}}),
            &limited,
            Some(10 << 20),
        ),
        (json!({}), json!({"requests": {"memory": "1"}}), &limited, Some(0)),
        (json!({}), json!({"requests": {"memory": "2000Mi"}}), &limited, Some(0)),
        (
            json!({}),
            json!({"requests": {"memory": "100Mi"}, "limits": {"memory": "100Mi"}}),
            &limited,
            Some(0),
        ),
        (json!({}), json!({"requests": {"cpu": "1"}}), &limited, Some(0)),
        (json!({}), json!({}), &limited, Some(0)),
        (critical, burstable.clone(), &limited, Some(0)),
        (json!({}), burstable.clone(), &none, Some(0)),
        (json!({}), burstable, &uncontrolled, None),
    ] {
        let pod = pod(spec, json!({"resources": own}));
        let found = unified(&pod, node, "memory.swap.max");
        assert_eq!(found, expect.map(|bytes: u64| bytes.to_string()), "{own}");
    }
}

/// 1000 MiB can be had by pods, and a page is a part of a MiB everywhere.
#[test]
fn memory_is_slowed_down_between_request_and_limit() {
    let qos = |throttling_factor| {
        Some(MemoryQos { throttling_factor, reserves_requests: false, allocatable_bytes: 1000 << 20 })
    };
    let on = NodeSettings { memory_qos: qos(Some(0.5)), ..node() };
    let without = NodeSettings { memory_qos: qos(None), ..node() };
    let whole = json!({"resources": {"limits": {"memory": "1Gi"}}});
    for (spec, own, node, high, min) in [
        (
            json!({}),
            json!({"requests": {"memory": "100Mi"}, "limits": {"memory": "200Mi"}}),
            &on,
            Some(150 << 20),
            Some("0"),
        ),
        (json!({}), json!({"limits": {"memory": "200Mi"}}), &on, Some(100 << 20), Some("0")),
        (json!({}), json!({"requests": {"memory": "100Mi"}}), &on, Some(550 << 20), Some("0")),
        (json!({}), json!({}), &on, Some(500 << 20), Some("0")),
        (
            json!({}),
            json!({"requests": {"memory": "100Mi"}, "limits": {"memory": "100Mi"}}),
            &on,
            None,
            Some("0"),
        ),
        (whole, json!({}), &on, None, Some("0")),
        (json!({}), json!({}), &without, None, Some("0")),
    ] {
        let pod = pod(spec, json!({"resources": own}));
        let found = unified(&pod, node, "memory.high");
        assert_eq!(found, high.map(|bytes: u64| bytes.to_string()), "{own}");
        assert_eq!(unified(&pod, node, "memory.min").as_deref(), min);
    }
    assert_eq!(unified(&pod(json!({}), json!({})), &node(), "memory.high").as_deref(), Some("max"));
}

#[test]
fn pods_with_a_limit_of_their_own_are_slowed_down_as_a_whole() {
    let mib = |n: u64| Some(n << 20);
    for (of_pod, of_container, high) in [
        (json!({"requests": {"memory": "100Mi"}, "limits": {"memory": "200Mi"}}), json!({}), mib(150)),
        (json!({"limits": {"memory": "200Mi"}}), json!({"requests": {"memory": "50Mi"}}), mib(125)),
        (json!({"requests": {"memory": "100Mi"}}), json!({"limits": {"memory": "200Mi"}}), mib(150)),
        (json!({"requests": {"memory": "100Mi"}}), json!({}), None),
        (json!({"requests": {"memory": "100Mi"}, "limits": {"memory": "100Mi"}}), json!({}), None),
        (json!({}), json!({"requests": {"memory": "100Mi"}, "limits": {"memory": "200Mi"}}), None),
    ] {
        let pod = pod(json!({"resources": of_pod}), json!({"resources": of_container}));
        assert_eq!(super::pod_memory_high(&pod, 0.5), high, "{of_pod} {of_container}");
    }
}

#[test]
fn requested_memory_is_kept_where_configured() {
    let qos = |reserves_requests| NodeSettings {
        memory_qos: Some(MemoryQos { throttling_factor: None, reserves_requests, allocatable_bytes: 0 }),
        ..node()
    };
    let guaranteed =
        json!({"limits": {"cpu": "1", "memory": "64Mi"}, "requests": {"cpu": "1", "memory": "64Mi"}});
    let zero = || Some("0".to_owned());
    let request = || Some((64 << 20).to_string());
    for (own, is_on, min, low) in [
        (guaranteed.clone(), true, request(), None),
        (json!({"requests": {"memory": "64Mi"}}), true, None, request()),
        (json!({"requests": {"cpu": "1"}}), true, zero(), zero()),
        (json!({}), true, zero(), zero()),
        (guaranteed, false, zero(), zero()),
    ] {
        let pod = pod(json!({}), json!({"resources": own}));
        let node = qos(is_on);
        let found = (unified(&pod, &node, "memory.min"), unified(&pod, &node, "memory.low"));
        assert_eq!(found, (min, low), "{own} {is_on}");
    }
}

/// The node has 1000 MiB, so that one MiB requested is one point.
#[test]
fn ranks_containers_for_the_oom_killer() {
    let requests = |memory: &str| json!({"resources": {"requests": {"memory": memory}}});
    let critical = json!({"priorityClassName": "system-node-critical", "priority": 2_000_001_000});
    let guaranteed = json!({"resources": {"limits": {"cpu": "1", "memory": "1Mi"},
                                          "requests": {"cpu": "1", "memory": "1Mi"}}});
    for (spec, container, expect) in [
        (json!({}), json!({}), 1000),
        (critical, json!({}), -997),
        (json!({}), guaranteed, -997),
        (json!({}), requests("100Mi"), 900),
        (json!({}), requests("1Ki"), 999),
        (json!({}), requests("999Mi"), 3),
        (json!({}), requests("5000Mi"), 3),
        (json!({"resources": {"requests": {"memory": "300Mi"}}}), requests("100Mi"), 700),
        (json!({"resources": {"requests": {"memory": "300Mi"}}}), json!({}), 700),
    ] {
        let pod = pod(spec.clone(), container.clone());
        let made = limits(&pod, &pod::container(&pod, "app").unwrap(), &CpuSet::default(), &node());
        assert_eq!(made.0.oom_score_adj, expect, "{spec} {container}");
    }
    let init =
        json!([{"name": "side", "restartPolicy": "Always", "resources": {"requests": {"memory": "10Mi"}}}]);
    let pod = pod(json!({"initContainers": init}), requests("200Mi"));
    let side = limits(&pod, &pod::container(&pod, "side").unwrap(), &CpuSet::default(), &node());
    assert_eq!(side.0.oom_score_adj, 800);
}

#[test]
fn shares_processes_with_a_target() {
    let with = ContainerInputs { target: Some("t".into()), ..inputs() };
    let options = security(&pod(json!({}), json!({})), &with).namespace_options.unwrap();
    assert_eq!((options.pid(), &*options.target_id), (wire::NamespaceMode::Target, "t"));
    let shared = pod(json!({"shareProcessNamespace": true}), json!({}));
    let options = security(&shared, &with).namespace_options.unwrap();
    assert_eq!((options.pid(), &*options.target_id), (wire::NamespaceMode::Pod, ""));
}

#[test]
fn maps_users_in_mounts() {
    let mount = ContainerMount {
        host_path: "/v".into(),
        image: None,
        container_path: "/m".into(),
        is_read_only: true,
        is_recursive_read_only: false,
        is_relabelled: true,
        bind_options: vec!["nosuid".to_owned()],
        propagation: MountPropagation::Bidirectional,
    };
    let mounted = MountedImage { image: "sha256:2".into(), reference: "img:2".into(), sub_path: "s".into() };
    let image = ContainerMount {
        host_path: Default::default(),
        image: Some(mounted),
        container_path: "/i".into(),
        ..mount.clone()
    };
    let range = IdRange { first_host_id: 65536, length: 65536 };
    let with = ContainerInputs {
        mounts: vec![mount, image],
        handler: "runsc".to_owned(),
        user_namespace: Some(range),
        ..inputs()
    };
    let config = build(&pod(json!({"hostUsers": false}), json!({})), &with).unwrap();
    assert_eq!(config.mounts.len(), 2);
    assert!(
        config.mounts.iter().all(|m| m.uid_mappings.len() == 1 && m.gid_mappings.len() == 1 && m.readonly)
    );
    assert_eq!(config.mounts[0].propagation(), wire::MountPropagation::PropagationBidirectional);
    assert_eq!(config.mounts[0].mount_options, ["nosuid"]);
    assert_eq!((&*config.mounts[1].image_sub_path, &*config.mounts[1].host_path), ("s", ""));
    let image = config.mounts[1].image.as_ref().unwrap();
    assert_eq!((&*image.image, &*image.user_specified_image), ("sha256:2", "img:2"));
    assert_eq!(image.runtime_handler, "runsc");
    assert_eq!(config.mounts[0].image, None);
}

/// What is the kubelet's own is labelled, on nodes where that means anything.
#[test]
fn labels_what_is_the_kubelets_own() {
    let mount = |path: &str, is_relabelled| ContainerMount {
        host_path: "/v".into(),
        image: None,
        container_path: path.into(),
        is_read_only: false,
        is_recursive_read_only: false,
        is_relabelled,
        bind_options: Vec::new(),
        propagation: MountPropagation::Private,
    };
    let with = ContainerInputs {
        mounts: vec![mount("/own", true), mount("/host", false)],
        termination_file: Some("/t".into()),
        ..inputs()
    };
    let pod = pod(json!({}), json!({"terminationMessagePath": "/message"}));
    for has_selinux in [false, true] {
        let node = NodeSettings { has_selinux, ..node() };
        let container = pod::container(&pod, "app").unwrap();
        let config = spec(&pod, &container, &with, &node).unwrap().config;
        let labelled = config.mounts.iter().filter(|m| m.selinux_relabel).map(|m| &*m.container_path);
        let want: &[&str] = if has_selinux { &["/own", "/message"] } else { &[] };
        assert_eq!(labelled.collect::<Vec<_>>(), want);
    }
}
