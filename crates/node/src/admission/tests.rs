//! Tables of pods that are let in and pods that are not.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Taint;
use model::{Pod, PodUid, Quantity};
use serde_json::{Value, json};

use super::*;
use crate::node_status::Resources;
use crate::settings::CapacitySettings;

fn pod(value: Value) -> Pod {
    serde_json::from_value(value).unwrap()
}

/// A pod of one container with these requests.
fn asking(requests: Value) -> Pod {
    pod(json!({"spec": {"containers": [{"name": "a", "resources": {"requests": requests}}]}}))
}

fn settings() -> Settings {
    let capacity = CapacitySettings {
        is_local_storage_isolated: true,
        max_pods: 3,
        system_reserved: BTreeMap::from([("cpu".to_owned(), Quantity::from_millis(500))]),
        ..CapacitySettings::default()
    };
    Settings { node_name: "here".to_owned(), capacity, ..Settings::for_tests() }
}

fn machine() -> Machine {
    Machine {
        cpus: 4,
        memory_bytes: 8 << 30,
        huge_pages: BTreeMap::from([(2 << 20, 64 << 20)]),
        kernel_version: "5.15.0-91-generic".to_owned(),
        ..Machine::default()
    }
}

struct Node {
    labels: BTreeMap<String, String>,
    taints: Vec<Taint>,
    active: Vec<Pod>,
    settings: Settings,
    machine: Machine,
    pressures: Pressures,
    is_static: bool,
    has_strict_groups: bool,
}

impl Node {
    fn new() -> Self {
        let labels = [("zone", "a"), ("size", "7"), ("word", "many")];
        Self {
            labels: labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            taints: Vec::new(),
            active: Vec::new(),
            settings: settings(),
            machine: machine(),
            pressures: Pressures::default(),
            is_static: false,
            has_strict_groups: false,
        }
    }

    fn with(active: Vec<Pod>) -> Self {
        Self { active, ..Self::new() }
    }

    fn admit(&self, pod: &Pod) -> Result<(), Rejection> {
        let mut ledger = Ledger::default();
        for (n, pod) in self.active.iter().enumerate() {
            ledger.reserve(&PodUid::from(n.to_string()), &offered(pod));
        }
        let storage_bytes = Some(100 << 30);
        let resources =
            Resources { settings: &self.settings.capacity, machine: &self.machine, storage_bytes };
        let mut allocatable = resources.allocatable();
        allocatable.insert("example.com/gpu".to_owned(), Quantity::from_units(2));
        let ctx = AdmissionContext {
            settings: &self.settings,
            machine: &self.machine,
            allocatable: &allocatable,
            labels: &self.labels,
            taints: &self.taints,
            has_strict_groups: self.has_strict_groups,
            is_static: self.is_static,
            ledger: &ledger,
            pressures: self.pressures,
        };
        admit(&offered(pod), &ctx)
    }

    /// The reason, or an empty text for a pod that is let in.
    fn verdict(&self, pod: &Pod) -> String {
        self.admit(pod).err().map(|rejection| rejection.reason.to_string()).unwrap_or_default()
    }
}

/// What it asks for.
fn offered(pod: &Pod) -> AllocatedPod {
    AllocatedPod::granted(Arc::new(pod.clone()))
}

#[test]
fn a_shortage_is_told_in_upstreams_words() {
    let used = asking(json!({"cpu": "1500m", "memory": "6Gi", "example.com/gpu": "1"}));
    for (requests, resource, numbers) in [
        (json!({"cpu": "2001m"}), "cpu", "requested: 2001, used: 1500, capacity: 3500"),
        (json!({"memory": "2Gi"}), "memory", "requested: 2147483648, used: 6442450944, capacity: 8522825728"),
        (
            json!({"ephemeral-storage": "101Gi"}),
            "ephemeral-storage",
            "requested: 108447924224, used: 0, capacity: 107374182400",
        ),
        (json!({"example.com/gpu": "2"}), "example.com/gpu", "requested: 2, used: 1, capacity: 2"),
        (
            json!({"hugepages-2Mi": "66Mi"}),
            "hugepages-2Mi",
            "requested: 69206016, used: 0, capacity: 67108864",
        ),
        (json!({"hugepages-1Gi": "1Gi"}), "hugepages-1Gi", "requested: 1073741824, used: 0, capacity: 0"),
        // Several at once: the first in upstream's order is told.
        (
            json!({"example.com/gpu": "9", "memory": "9Gi", "cpu": "9"}),
            "cpu",
            "requested: 9000, used: 1500, capacity: 3500",
        ),
    ] {
        let rejection = Node::with(vec![used.clone()]).admit(&asking(requests)).unwrap_err();
        assert_eq!(rejection.reason, Refusal::OutOf(resource.to_owned()));
        assert_eq!(rejection.message, format!("Node didn't have enough resource: {resource}, {numbers}"));
    }
}

#[test]
fn what_just_fits_is_let_in() {
    let used = asking(json!({"cpu": "1500m", "memory": "1Gi"}));
    for requests in [
        json!({"cpu": "2"}),
        json!({}),
        json!({"example.com/gpu": "2"}),
        // Not this node's to count.
        json!({"example.org/licence": "1000"}),
    ] {
        assert_eq!(Node::with(vec![used.clone()]).admit(&asking(requests.clone())), Ok(()), "{requests}");
    }
}

#[test]
fn pods_are_counted() {
    let small = asking(json!({}));
    assert_eq!(Node::with(vec![small.clone(); 2]).admit(&small), Ok(()));
    let rejection = Node::with(vec![small.clone(); 3]).admit(&small).unwrap_err();
    assert_eq!(rejection.reason, Refusal::OutOf("pods".to_owned()));
    assert_eq!(
        rejection.message,
        "Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3"
    );
}

#[test]
fn a_pod_counts_with_its_most_demanding_moment() {
    let container = |name: &str, cpu: &str| json!({"name": name, "resources": {"requests": {"cpu": cpu}}});
    let sidecar = |name: &str, cpu: &str| json!({"name": name, "restartPolicy": "Always", "resources": {"requests": {"cpu": cpu}}});
    for (spec, millis) in [
        (json!({"containers": [container("a", "1"), container("b", "200m")]}), 1200),
        (json!({"containers": [container("a", "1")], "initContainers": [container("i", "3")]}), 3000),
        (
            json!({"containers": [container("a", "1")], "initContainers": [sidecar("s", "2"), container("i", "500m")]}),
            3000,
        ),
        (
            json!({"containers": [container("a", "100m")], "initContainers": [sidecar("s", "2"), container("i", "500m")]}),
            2500,
        ),
        // A sidecar that starts after the init container is not beside it.
        (
            json!({"containers": [container("a", "100m")], "initContainers": [container("i", "500m"), sidecar("s", "100m")]}),
            500,
        ),
        (json!({"containers": [container("a", "1")], "overhead": {"cpu": "250m"}}), 1250),
        (
            json!({"containers": [container("a", "1")], "resources": {"requests": {"cpu": "2"}}, "overhead": {"cpu": "1"}}),
            3000,
        ),
        (json!({"containers": [container("a", "1")], "resources": {"limits": {"cpu": "2"}}}), 1000),
    ] {
        let requests = offered(&pod(json!({"spec": spec}))).requests();
        assert_eq!(requests.get("cpu").map(|amount| amount.millis()), Some(millis), "{spec}");
    }
}

#[test]
fn selectors_are_matched() {
    let expression = |key: &str, operator: &str, values: Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
    let field = |operator: &str, values: Value| json!({"matchFields": [{"key": "metadata.name", "operator": operator, "values": values}]});
    for (terms, is_match) in [
        (json!([expression("zone", "In", json!(["b", "a"]))]), true),
        (json!([expression("zone", "In", json!(["b"]))]), false),
        (json!([expression("none", "In", json!(["b"]))]), false),
        (json!([expression("zone", "NotIn", json!(["b"]))]), true),
        (json!([expression("zone", "NotIn", json!(["a"]))]), false),
        (json!([expression("none", "NotIn", json!(["a"]))]), true),
        (json!([expression("zone", "Exists", Value::Null)]), true),
        (json!([expression("none", "Exists", Value::Null)]), false),
        (json!([expression("none", "DoesNotExist", Value::Null)]), true),
        (json!([expression("zone", "DoesNotExist", Value::Null)]), false),
        (json!([expression("size", "Gt", json!(["6"]))]), true),
        (json!([expression("size", "Gt", json!(["7"]))]), false),
        (json!([expression("size", "Lt", json!(["8"]))]), true),
        (json!([expression("size", "Lt", json!(["7"]))]), false),
        (json!([expression("word", "Gt", json!(["1"]))]), false),
        (json!([expression("size", "Gt", json!(["1", "2"]))]), false),
        (json!([expression("zone", "Around", json!(["a"]))]), false),
        (json!([field("In", json!(["here"]))]), true),
        (json!([field("In", json!(["there"]))]), false),
        (json!([field("In", json!(["here", "there"]))]), false),
        (json!([field("NotIn", json!(["there"]))]), true),
        (json!([field("NotIn", json!(["here"]))]), false),
        (json!([field("Exists", json!(["here"]))]), false),
        // Terms are alternatives, and an empty one names no node.
        (json!([expression("zone", "In", json!(["b"])), field("In", json!(["here"]))]), true),
        (json!([{}]), false),
        (json!([]), false),
    ] {
        let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}});
        let verdict = Node::new().verdict(&pod(json!({"spec": {"containers": [], "affinity": affinity}})));
        assert_eq!(verdict, if is_match { "" } else { "NodeAffinity" }, "{terms}");
    }
    for (selector, is_match) in [
        (json!({"zone": "a", "size": "7"}), true),
        (json!({"zone": "a", "size": "8"}), false),
        (json!({"kubernetes.io/os": "linux"}), true),
        (json!({"kubernetes.io/os": "windows"}), false),
    ] {
        let verdict =
            Node::new().verdict(&pod(json!({"spec": {"containers": [], "nodeSelector": selector}})));
        assert_eq!(verdict, if is_match { "" } else { "NodeAffinity" }, "{selector}");
    }
    let rejection =
        Node::new().admit(&pod(json!({"spec": {"containers": [], "nodeSelector": {"zone": "b"}}})));
    assert_eq!(
        rejection.unwrap_err().message,
        "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
    );
}

#[test]
fn name_and_operating_system_are_matched() {
    for (value, reason) in [
        (json!({"spec": {"containers": [], "nodeName": "here"}}), ""),
        (json!({"spec": {"containers": [], "nodeName": "there"}}), "NodeName"),
        (json!({"spec": {"containers": [], "os": {"name": "linux"}}}), ""),
        (json!({"spec": {"containers": [], "os": {"name": "windows"}}}), "PodOSNotSupported"),
        (json!({"metadata": {"labels": {"kubernetes.io/os": "linux"}}, "spec": {"containers": []}}), ""),
        (
            json!({"metadata": {"labels": {"kubernetes.io/os": "windows"}}, "spec": {"containers": []}}),
            "PodOSSelectorNodeLabelDoesNotMatch",
        ),
    ] {
        assert_eq!(Node::new().verdict(&pod(value.clone())), reason, "{value}");
    }
}

#[test]
fn host_ports_collide_by_number_protocol_and_address() {
    let with = |ports: Value| pod(json!({"spec": {"containers": [{"name": "a", "ports": ports}]}}));
    let taken = with(json!([
        {"containerPort": 1, "hostPort": 80},
        {"containerPort": 1, "hostPort": 53, "protocol": "UDP", "hostIP": "10.0.0.1"},
    ]));
    for (ports, is_free) in [
        (json!([{"containerPort": 1, "hostPort": 80}]), false),
        (json!([{"containerPort": 1, "hostPort": 80, "hostIP": "10.0.0.1"}]), false),
        (json!([{"containerPort": 1, "hostPort": 80, "protocol": "UDP"}]), true),
        (json!([{"containerPort": 80}]), true),
        (json!([{"containerPort": 1, "hostPort": 53, "protocol": "UDP", "hostIP": "10.0.0.2"}]), true),
        (json!([{"containerPort": 1, "hostPort": 53, "protocol": "UDP", "hostIP": "10.0.0.1"}]), false),
        (json!([{"containerPort": 1, "hostPort": 53, "protocol": "UDP"}]), false),
    ] {
        let verdict = Node::with(vec![taken.clone()]).verdict(&with(ports.clone()));
        assert_eq!(verdict, if is_free { "" } else { "NodePorts" }, "{ports}");
    }
    let ports = json!([{"containerPort": 1, "hostPort": 80}]);
    let init = |policy: Value| {
        pod(json!({"spec": {"containers": [],
            "initContainers": [{"name": "i", "restartPolicy": policy, "ports": ports}]}}))
    };
    assert_eq!(Node::with(vec![taken.clone()]).verdict(&init(json!("Always"))), "NodePorts");
    assert_eq!(Node::with(vec![taken]).verdict(&init(Value::Null)), "");
}

#[test]
fn only_taints_that_expel_count() {
    let taint = |effect: &str| Taint {
        key: "k".to_owned(),
        value: Some("v".to_owned()),
        effect: effect.to_owned(),
        time_added: None,
    };
    let tolerating =
        |tolerations: Value| pod(json!({"spec": {"containers": [], "tolerations": tolerations}}));
    for (effect, tolerations, reason) in [
        ("NoSchedule", json!([]), ""),
        ("PreferNoSchedule", json!([]), ""),
        ("NoExecute", json!([]), "TaintToleration"),
        ("NoExecute", json!([{"key": "k", "operator": "Exists"}]), ""),
        ("NoExecute", json!([{"operator": "Exists"}]), ""),
        ("NoExecute", json!([{"key": "k", "value": "v"}]), ""),
        ("NoExecute", json!([{"key": "k", "operator": "Equal", "value": "v", "effect": "NoExecute"}]), ""),
        ("NoExecute", json!([{"key": "k", "value": "w"}]), "TaintToleration"),
        ("NoExecute", json!([{"key": "l", "operator": "Exists"}]), "TaintToleration"),
        ("NoExecute", json!([{"key": "k", "operator": "Exists", "effect": "NoSchedule"}]), "TaintToleration"),
        ("NoExecute", json!([{"key": "k", "operator": "Gt", "value": "1"}]), "TaintToleration"),
    ] {
        let mut node = Node { taints: vec![taint(effect)], ..Node::new() };
        let pod = tolerating(tolerations.clone());
        assert_eq!(node.verdict(&pod), reason, "{effect} {tolerations}");
        node.is_static = true;
        assert_eq!(node.verdict(&pod), "", "static: {effect} {tolerations}");
    }
}

#[test]
fn kernel_parameters_are_refused_unless_safe_or_allowed() {
    let setting = |name: &str, spec: Value| {
        let mut value = json!({"spec": {"containers": [],
            "securityContext": {"sysctls": [{"name": name, "value": "1"}]}}});
        for (field, flag) in spec.as_object().unwrap() {
            value["spec"][field] = flag.clone();
        }
        pod(value)
    };
    let allowed = ["kernel.msg*", "net.core.somaxconn", "user.max_user_namespaces", "vm.swappiness"];
    for (name, spec, error) in [
        ("kernel.shm_rmid_forced", json!({}), ""),
        ("kernel/shm_rmid_forced", json!({}), ""),
        (
            "kernel.shm_rmid_forced",
            json!({"hostIPC": true}),
            r#""kernel.shm_rmid_forced" not allowed with host IPC enabled"#,
        ),
        ("net.ipv4.tcp_rmem", json!({}), ""),
        (
            "net.ipv4.tcp_rmem",
            json!({"hostNetwork": true}),
            r#""net.ipv4.tcp_rmem" not allowed with host Net enabled"#,
        ),
        ("kernel.msgmax", json!({}), ""),
        ("kernel.msgmax", json!({"hostIPC": true}), r#""kernel.msgmax" not allowed with host IPC enabled"#),
        ("net.core.somaxconn", json!({}), ""),
        ("net.core.somaxconn2", json!({}), r#""net.core.somaxconn2" not allowlisted"#),
        ("user.max_user_namespaces", json!({"hostUsers": false}), ""),
        (
            "user.max_user_namespaces",
            json!({}),
            r#""user.max_user_namespaces" not allowed with host User enabled"#,
        ),
        ("kernel.shmmax", json!({}), r#""kernel.shmmax" not allowlisted"#),
        // The kernel has no such parameter for each pod, whatever the configuration says.
        ("vm.swappiness", json!({}), r#""vm.swappiness" not allowlisted"#),
    ] {
        let mut node = Node::new();
        node.settings.allowed_unsafe_sysctls = allowed.map(str::to_owned).to_vec();
        let rejection = node.admit(&setting(name, spec.clone())).err();
        let expected = (!error.is_empty())
            .then(|| Rejection::new(Refusal::SysctlForbidden, format!("forbidden sysctl: {error}")));
        assert_eq!(rejection, expected, "{name} {spec}");
    }
    for (kernel, name, is_safe) in [
        ("4.14.336", "net.ipv4.tcp_rmem", false),
        ("4.15.0", "net.ipv4.tcp_rmem", true),
        ("10.0-rc1", "net.ipv4.tcp_rmem", true),
        ("", "net.ipv4.tcp_rmem", false),
        ("", "net.ipv4.tcp_syncookies", true),
    ] {
        let mut node = Node::new();
        node.machine.kernel_version = kernel.to_owned();
        let verdict = node.verdict(&setting(name, json!({})));
        assert_eq!(verdict, if is_safe { "" } else { "SysctlForbidden" }, "{kernel} {name}");
    }
}

#[test]
fn a_node_in_need_takes_few() {
    let best_effort = asking(json!({}));
    let burstable = asking(json!({"cpu": "1m"}));
    let critical = pod(json!({"spec": {"containers": [], "priority": 2_000_000_000}}));
    let tolerating = pod(json!({"spec": {"containers": [], "tolerations": [
        {"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"}]}}));
    for (memory, disk, pod, message) in [
        (false, false, &best_effort, ""),
        (true, false, &best_effort, "The node had condition: [MemoryPressure]. "),
        (true, false, &burstable, ""),
        (true, false, &tolerating, ""),
        (true, false, &critical, ""),
        (false, true, &burstable, "The node had condition: [DiskPressure]. "),
        (true, true, &tolerating, "The node had condition: [MemoryPressure DiskPressure]. "),
        (true, true, &critical, ""),
    ] {
        let mut node = Node::new();
        node.pressures = Pressures { memory, disk, pids: false };
        let expected = (!message.is_empty()).then(|| Rejection::new(Refusal::Evicted, message));
        assert_eq!(node.admit(pod).err(), expected);
    }
}

#[test]
fn a_critical_pod_hears_first_what_no_room_would_mend() {
    let spec = |priority: i32| {
        pod(json!({"spec": {"priority": priority, "nodeName": "there",
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "9"}}}]}}))
    };
    assert_eq!(Node::new().verdict(&spec(0)), "OutOfcpu");
    assert_eq!(Node::new().verdict(&spec(2_000_000_000)), "NodeName");
    let mut fitting_name = spec(2_000_000_000);
    fitting_name.spec.as_mut().unwrap().node_name = None;
    assert_eq!(Node::new().verdict(&fitting_name), "OutOfcpu");
}

#[test]
fn tolerations_compare_numbers_with_their_gate_on() {
    let taint = |value: &str| Taint {
        key: "k".to_owned(),
        value: Some(value.to_owned()),
        effect: "NoExecute".to_owned(),
        time_added: None,
    };
    for (operator, tolerated, value, is_match) in [
        ("Gt", "5", "6", true),
        ("Gt", "5", "5", false),
        ("Lt", "5", "4", true),
        ("Lt", "5", "5", false),
        ("Lt", "5", "-6", true),
        ("Gt", "5", "word", false),
        ("Gt", "5", "06", false),
        ("Gt", "five", "6", false),
        ("Gt", "-0", "6", false),
        ("Gt", "5", "99999999999999999999", false),
    ] {
        let tolerations = json!([{"key": "k", "operator": operator, "value": tolerated}]);
        let pod = pod(json!({"spec": {"containers": [], "tolerations": tolerations}}));
        let mut node = Node { taints: vec![taint(value)], ..Node::new() };
        assert_eq!(node.verdict(&pod), "TaintToleration");
        node.settings.gates.compares_tolerations = true;
        let expected = if is_match { "" } else { "TaintToleration" };
        assert_eq!(node.verdict(&pod), expected, "{value} {operator} {tolerated}");
    }
}

#[test]
fn strict_groups_need_a_runtime_that_knows_them() {
    let policy = |name: &str| {
        pod(json!({"spec": {"containers": [], "securityContext": {"supplementalGroupsPolicy": name}}}))
    };
    let mut node = Node::new();
    assert_eq!(node.admit(&policy("Merge")), Ok(()));
    let refusal = Rejection::new(
        Refusal::SupplementalGroupsPolicyNotSupported,
        "SupplementalGroupsPolicy=Strict is not supported in this node",
    );
    assert_eq!(node.admit(&policy("Strict")), Err(refusal));
    node.has_strict_groups = true;
    assert_eq!(node.admit(&policy("Strict")), Ok(()));
}

#[test]
fn apparmor_profiles_need_a_host_that_enforces_them() {
    let key = "container.apparmor.security.beta.kubernetes.io/a";
    let field = |profile: Value| json!({"spec": {"containers": [{"name": "a", "securityContext": {"appArmorProfile": profile}}]}});
    let whole = |profile: Value| json!({"spec": {"containers": [{"name": "a"}], "securityContext": {"appArmorProfile": profile}}});
    let annotation = |value: &str| json!({"metadata": {"annotations": {key: value}}, "spec": {"containers": [{"name": "a"}]}});
    let unable = "Cannot enforce AppArmor: AppArmor is not enabled on the host";
    let nameless = |name: &str| {
        format!(
            "Cannot enforce AppArmor: invalid empty AppArmor profile name: \
             \"&AppArmorProfile{{Type:Localhost,LocalhostProfile:{name},}}\""
        )
    };
    for (value, without, with) in [
        (json!({"spec": {"containers": [{"name": "a"}]}}), "", String::new()),
        (field(json!({"type": "Unconfined"})), "", String::new()),
        (field(json!({"type": "RuntimeDefault"})), unable, String::new()),
        (field(json!({"type": "Localhost", "localhostProfile": "web"})), unable, String::new()),
        (field(json!({"type": "Localhost", "localhostProfile": " "})), unable, nameless("* ")),
        (whole(json!({"type": "RuntimeDefault"})), unable, String::new()),
        (whole(json!({"type": "Localhost"})), unable, nameless("nil")),
        (annotation("unconfined"), "", String::new()),
        (annotation("runtime/default"), unable, String::new()),
        (annotation("localhost/web"), unable, String::new()),
        (annotation("localhost/"), unable, nameless("*")),
    ] {
        let mut node = Node::new();
        let mut wanted = pod(value.clone());
        let message = |node: &Node, pod: &Pod| {
            node.admit(pod).err().map(|rejection| (rejection.reason, rejection.message))
        };
        let expected = |text: &str| (!text.is_empty()).then(|| (Refusal::AppArmor, text.to_owned()));
        assert_eq!(message(&node, &wanted), expected(without), "{value}");
        node.machine.has_apparmor = true;
        assert_eq!(message(&node, &wanted), expected(&with), "{value}");
        node.machine.has_apparmor = false;
        wanted.status.get_or_insert_default().phase = Some("Running".to_owned());
        assert_eq!(message(&node, &wanted), None, "running: {value}");
    }
}

#[test]
fn features_are_those_the_node_declares() {
    let rules = json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [1]}}]);
    let restarting = json!({"spec": {"containers": [{"name": "a", "restartPolicy": "Never", "restartPolicyRules": rules}]}});
    let mounting = json!({"spec": {"hostNetwork": true, "hostUsers": false, "containers": [
        {"name": "a", "volumeMounts": [{"name": "v", "mountPath": "/v", "bindMountOptions": ["noexec"]}]}]}});
    for (value, missing) in [
        (json!({"spec": {"containers": [{"name": "a"}]}}), ""),
        (restarting.clone(), "RestartAllContainersOnContainerExits"),
        (mounting, "UserNamespacesHostNetworkSupport, VolumeBindMountOptions"),
    ] {
        let expected = (!missing.is_empty()).then(|| {
            let message = format!("Pod requires node features that are not available: {missing}");
            Rejection::new(Refusal::PodFeatureUnsupported, message)
        });
        assert_eq!(Node::new().admit(&pod(value.clone())).err(), expected, "{value}");
    }
    let mut node = Node::new();
    node.settings.object.declared_features = vec!["RestartAllContainersOnContainerExits".to_owned()];
    assert_eq!(node.admit(&pod(restarting)), Ok(()));
}

#[test]
fn a_new_version_may_need_more_features() {
    let version = |cpu: &str, init: &str, limit: &str| {
        let resources = |cpu: &str| json!({"requests": {"cpu": cpu}});
        let volume = json!({"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": limit}});
        pod(json!({"spec": {"resources": resources(cpu), "volumes": [volume], "containers": [{"name": "a"}],
            "initContainers": [{"name": "i", "resources": resources(init)}]}}))
    };
    let old = version("1", "1", "1Mi");
    for (new, missing) in [
        (version("1", "1", "1Mi"), vec![]),
        (version("2", "1", "1Mi"), vec!["InPlacePodLevelResourcesVerticalScaling"]),
        (
            version("1", "2", "2Mi"),
            vec!["InPlacePodVerticalScalingInitContainers", "InPlacePodVerticalScalingMemoryBackedVolumes"],
        ),
    ] {
        assert_eq!(missing_for_update(&old, &new, &[]), missing);
    }
    let declared = ["InPlacePodLevelResourcesVerticalScaling".to_owned()];
    assert_eq!(missing_for_update(&old, &version("2", "1", "1Mi"), &declared), [""; 0]);
}

#[test]
fn resources_of_a_whole_pod_need_their_gate() {
    let with = |resources: Value| pod(json!({"spec": {"containers": [], "resources": resources}}));
    let mut node = Node::new();
    node.settings.gates.has_pod_level_resources = false;
    let refusal =
        Rejection::new(Refusal::PodLevelResourcesNotSupported, "PodLevelResources feature gate is disabled");
    assert_eq!(node.admit(&with(json!({"limits": {"cpu": "1"}}))), Err(refusal));
    assert_eq!(node.admit(&with(json!({"limits": {"example.com/gpu": "1"}}))), Ok(()));
    node.settings.gates.has_pod_level_resources = true;
    assert_eq!(node.admit(&with(json!({"limits": {"cpu": "1"}}))), Ok(()));
}
