//! Tables of facts and the Node objects that follow from them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeAddress, NodeCondition, NodeStatus, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use model::{Now, Quantity, RuntimeCondition, RuntimeFeatures, RuntimeHealth, observed::RuntimeHandler};
use serde_json::{Value, json};

use super::*;
use crate::pressure::{Amount, Limit, Sample, Signal};
use crate::settings::{CapacitySettings, ObjectSettings};

const HEALTHY: NodeHealth<'_> = NodeHealth {
    runtime_errors: &[],
    network_error: None,
    storage_error: None,
    runtime: None,
    pressures: FINE,
    is_shutting_down: false,
};
const FINE: Pressures = Pressures { memory: false, disk: false, pids: false };

/// A node and all that its object is made from.
#[derive(Clone)]
struct Facts {
    settings: Settings,
    machine: Machine,
    readings: Readings,
}

impl Facts {
    fn node(&self) -> NodeDescription<'_> {
        NodeDescription { settings: &self.settings, machine: &self.machine, readings: &self.readings }
    }

    fn has_storage(&mut self, bytes: Option<u64>) {
        let amount = |bytes| (Signal::NodeFs, Amount { available: 0, capacity: bytes });
        let signals = bytes.map(amount).into_iter().collect();
        self.readings.sample = Some(Sample { signals, ..Sample::default() });
    }
}

fn facts() -> Facts {
    let object = ObjectSettings {
        is_attach_by_controller: true,
        kubelet_port: 10250,
        kubelet_version: "v1.37.2".to_owned(),
        ..ObjectSettings::default()
    };
    let capacity = CapacitySettings {
        is_local_storage_isolated: true,
        max_pods: 110,
        kept_free: BTreeMap::from([
            ("memory".to_owned(), Limit::amount(100 << 20)),
            ("ephemeral-storage".to_owned(), Limit::amount(10_386_530_304)),
        ]),
        ..CapacitySettings::default()
    };
    let machine = Machine {
        cpus: 8,
        memory_bytes: 24_570_120 * 1024,
        machine_id: "machine".to_owned(),
        system_uuid: "uuid".to_owned(),
        boot_id: "boot".to_owned(),
        kernel_version: "6.1.0".to_owned(),
        os_image: "Debian".to_owned(),
        architecture: "amd64".to_owned(),
        operating_system: "linux".to_owned(),
        is_in_user_namespace: Some(false),
        ..Machine::default()
    };
    let readings = Readings {
        addresses: Some(vec!["10.0.0.1".to_owned(), "fd00::1".to_owned()]),
        runtime_name: "containerd".to_owned(),
        runtime_version: "v2.3.7".to_owned(),
        ..Readings::default()
    };
    let settings = Settings { node_name: "n1".to_owned(), object, capacity, ..Settings::for_tests() };
    let mut facts = Facts { settings, machine, readings };
    facts.has_storage(Some(101_430_960 * 1024));
    facts
}

/// The status at that second.
fn status_of(facts: &Facts, health: &NodeHealth<'_>, previous: &NodeStatus, second: i64) -> NodeStatus {
    status(facts.node(), health, previous, at(second))
}

fn at(second: i64) -> Now {
    Now { wall: jiff::Timestamp::new(second, 500_000_000).unwrap(), mono: std::time::Duration::ZERO }
}

fn time(second: i64) -> Option<Time> {
    Some(Time(jiff::Timestamp::from_second(second).unwrap()))
}

fn condition<'a>(status: &'a NodeStatus, kind: &str) -> &'a NodeCondition {
    status.conditions.as_ref().unwrap().iter().find(|c| c.type_ == kind).unwrap()
}

fn parse(value: Value) -> NodeStatus {
    serde_json::from_value(value).unwrap()
}

#[test]
fn a_first_status_reads_as_upstreams() {
    let mut facts = facts();
    facts.machine.swap_bytes = 4096;
    let status = status_of(&facts, &HEALTHY, &NodeStatus::default(), 100);
    let of = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": "1970-01-01T00:01:40Z", "lastTransitionTime": "1970-01-01T00:01:40Z"})
    };
    let expected = json!({
        "addresses": [
            {"type": "InternalIP", "address": "10.0.0.1"},
            {"type": "InternalIP", "address": "fd00::1"},
            {"type": "Hostname", "address": "n1"},
        ],
        "capacity": {"cpu": "8", "memory": "24570120Ki", "ephemeral-storage": "103865303040", "pods": "110"},
        "allocatable": {"cpu": "8", "memory": "24467720Ki", "ephemeral-storage": "93478772736", "pods": "110"},
        "conditions": [
            of("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            of("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            of("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            of("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        "images": [],
        "nodeInfo": {
            "architecture": "amd64", "bootID": "boot", "containerRuntimeVersion": "containerd://2.3.7",
            "kernelVersion": "6.1.0", "kubeProxyVersion": "", "kubeletVersion": "v1.37.2", "machineID": "machine",
            "operatingSystem": "linux", "osImage": "Debian", "runningInUserNamespace": false,
            "swap": {"capacity": 4096}, "systemUUID": "uuid",
        },
    });
    assert_eq!(serde_json::to_value(&status).unwrap(), expected);
}

#[test]
fn allocatable_is_what_reservations_and_huge_pages_leave() {
    let amount = |text: &str| text.parse::<Quantity>().unwrap();
    let mut facts = facts();
    facts.settings.capacity.kube_reserved =
        BTreeMap::from([("cpu".to_owned(), amount("100m")), ("memory".to_owned(), amount("1Gi"))]);
    facts.settings.capacity.system_reserved =
        BTreeMap::from([("cpu".to_owned(), amount("50m")), ("pid".to_owned(), amount("1000"))]);
    facts.machine.huge_pages = BTreeMap::from([(2 << 20, 2 << 30), (1 << 30, 0)]);
    let expected = [
        ("cpu", "7850m"),
        ("memory", "21321992Ki"),
        ("ephemeral-storage", "93478772736"),
        ("pods", "110"),
        ("hugepages-2Mi", "2Gi"),
        ("hugepages-1Gi", "0"),
    ];
    let expected: BTreeMap<_, _> =
        expected.into_iter().map(|(name, text)| (name.to_owned(), amount(text))).collect();
    assert_eq!(facts.node().resources().allocatable(), expected);
    facts.settings.capacity.kube_reserved = BTreeMap::from([("memory".to_owned(), amount("100Gi"))]);
    assert_eq!(
        facts.node().resources().allocatable()["memory"],
        Quantity::ZERO,
        "more reserved than there is"
    );
}

#[test]
fn ephemeral_storage_that_is_no_multiple_of_ki_is_written_plain() {
    let mut facts = facts();
    let kept = Limit::amount(10_386_530_305);
    facts.settings.capacity.kept_free.insert("ephemeral-storage".to_owned(), kept);
    let status = status_of(&facts, &HEALTHY, &NodeStatus::default(), 1);
    assert_eq!(status.allocatable.unwrap()["ephemeral-storage"].0, "93478772735");
}

#[test]
fn readiness_names_every_cause_once() {
    let errors = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let network = "container runtime network not ready: NetworkReady=false reason:R message:M";
    for (runtime, network, is_shutting_down, has_storage, message) in [
        (&[][..], None, false, true, None),
        (&[], Some(network), false, true, Some(network.to_owned())),
        (&["container runtime is down"], None, false, true, Some("container runtime is down".to_owned())),
        (
            &["container runtime is down", "PLEG is not healthy: x"],
            Some(network),
            false,
            true,
            Some(format!("[container runtime is down, PLEG is not healthy: x, {network}]")),
        ),
        (&["a", "a"], None, false, true, Some("a".to_owned())),
        (&[], None, true, true, Some("node is shutting down".to_owned())),
        (&[], None, false, false, Some("missing node capacity for resources: ephemeral-storage".to_owned())),
    ] {
        let runtime = errors(runtime);
        let health =
            NodeHealth { runtime_errors: &runtime, network_error: network, is_shutting_down, ..HEALTHY };
        let mut facts = facts();
        if !has_storage {
            facts.has_storage(None);
        }
        let status = status_of(&facts, &health, &NodeStatus::default(), 1);
        let ready = condition(&status, "Ready");
        let (word, reason) =
            if message.is_none() { ("True", "KubeletReady") } else { ("False", "KubeletNotReady") };
        assert_eq!((ready.status.as_str(), ready.reason.as_deref()), (word, Some(reason)));
        let message = message.unwrap_or_else(|| "kubelet is posting ready status".to_owned());
        assert_eq!(ready.message.as_deref(), Some(message.as_str()));
    }
}

#[test]
fn a_transition_time_moves_with_the_status_alone() {
    let first = status_of(&facts(), &HEALTHY, &NodeStatus::default(), 100);
    let down = ["down".to_owned()];
    let pressures = Pressures { disk: true, ..FINE };
    let facts = facts();
    let second = status_of(&facts, &NodeHealth { runtime_errors: &down, pressures, ..HEALTHY }, &first, 200);
    for (kind, transition) in
        [("MemoryPressure", 100), ("DiskPressure", 200), ("PIDPressure", 100), ("Ready", 200)]
    {
        let condition = condition(&second, kind);
        assert_eq!(condition.last_heartbeat_time, time(200), "{kind}");
        assert_eq!(condition.last_transition_time, time(transition), "{kind}");
    }
    assert_eq!(condition(&second, "DiskPressure").reason.as_deref(), Some("KubeletHasDiskPressure"));
    let other = ["down for another reason".to_owned()];
    let third = status_of(&facts, &NodeHealth { runtime_errors: &other, pressures, ..HEALTHY }, &second, 300);
    assert_eq!(condition(&third, "Ready").last_transition_time, time(200));
    assert_eq!(condition(&third, "Ready").message.as_deref(), Some("down for another reason"));
}

#[test]
fn what_others_wrote_stays() {
    let previous = parse(json!({
        "conditions": [
            {"type": "NetworkUnavailable", "status": "False", "reason": "RouteCreated"},
            {"type": "Ready", "status": "Unknown"},
            {"type": "Odd", "status": "True"},
        ],
        "capacity": {"example.com/dongle": "4", "hugepages-2Mi": "2Gi", "cpu": "2"},
        "allocatable": {"example.com/dongle": "3", "hugepages-2Mi": "2Gi", "gone.example.com/x": "1"},
        "volumesAttached": [{"name": "v", "devicePath": "/dev/v"}],
        "features": {"supplementalGroupsPolicy": true},
        "addresses": [{"type": "ExternalIP", "address": "192.0.2.1"}],
    }));
    let status = status_of(&facts(), &HEALTHY, &previous, 1);
    let kinds: Vec<&str> = status.conditions.as_ref().unwrap().iter().map(|c| c.type_.as_str()).collect();
    assert_eq!(
        kinds,
        ["NetworkUnavailable", "Ready", "Odd", "MemoryPressure", "DiskPressure", "PIDPressure"]
    );
    assert_eq!(condition(&status, "NetworkUnavailable"), condition(&previous, "NetworkUnavailable"));
    assert_eq!(status.volumes_attached, previous.volumes_attached);
    assert_eq!(status.features, previous.features, "nothing is known of the runtime yet");
    let (capacity, allocatable) = (status.capacity.unwrap(), status.allocatable.unwrap());
    assert_eq!(
        (capacity["example.com/dongle"].0.as_str(), allocatable["example.com/dongle"].0.as_str()),
        ("4", "4")
    );
    assert_eq!(capacity["cpu"].0, "8");
    assert!(!capacity.contains_key("hugepages-2Mi") && !allocatable.contains_key("hugepages-2Mi"));
    assert!(!allocatable.contains_key("gone.example.com/x"));
    assert_eq!(status.addresses.unwrap().len(), 3);
}

#[test]
fn addresses_are_the_cloud_providers_once_it_set_them() {
    let previous = parse(json!({"addresses": [{"type": "ExternalIP", "address": "192.0.2.1"}]}));
    let kinds = |facts: &Facts, previous: &NodeStatus| {
        let addresses = status_of(facts, &HEALTHY, previous, 1).addresses.unwrap_or_default();
        addresses.into_iter().map(|a| a.type_).collect::<Vec<_>>()
    };
    let mut cloud = facts();
    cloud.settings.object.is_cloud_provider_external = true;
    assert_eq!(kinds(&cloud, &previous), ["ExternalIP"]);
    assert_eq!(kinds(&cloud, &NodeStatus::default()), ["InternalIP", "InternalIP", "Hostname"]);
    let mut waiting = cloud.clone();
    waiting.readings.addresses = Some(Vec::new());
    assert_eq!(kinds(&waiting, &NodeStatus::default()), ["Hostname"]);
    assert_eq!(kinds(&waiting, &previous), ["ExternalIP"]);
    cloud.readings.addresses = None;
    assert!(kinds(&cloud, &NodeStatus::default()).is_empty());
    let mut unresolved = facts();
    unresolved.readings.addresses = None;
    assert_eq!(kinds(&unresolved, &previous), ["ExternalIP"]);
}

#[test]
fn pods_see_one_address_of_each_family_and_internal_ones_first() {
    for (addresses, seen) in [
        ("", ""),
        ("Hostname n1", ""),
        ("Hostname n1,InternalIP 10.0.0.1", "10.0.0.1"),
        ("InternalIP 10.0.0.1,InternalIP 10.0.0.2,InternalIP fd00::1", "10.0.0.1,fd00::1"),
        ("ExternalIP 192.0.2.1,InternalIP fd00::1", "fd00::1,192.0.2.1"),
        ("ExternalIP 192.0.2.1,InternalIP 10.0.0.1", "10.0.0.1"),
        ("InternalDNS n1.internal,ExternalIP nonsense,ExternalIP 192.0.2.1", "192.0.2.1"),
    ] {
        let parsed = addresses
            .split(',')
            .filter_map(|text| text.split_once(' '))
            .map(|(kind, address)| NodeAddress { type_: kind.to_owned(), address: address.to_owned() });
        assert_eq!(host_ips(&parsed.collect::<Vec<_>>()).join(","), seen, "{addresses}");
    }
}

#[test]
fn the_largest_images_are_listed() {
    let image = |size: u64, names: usize| NodeImage {
        id: "id".into(),
        is_pinned: false,
        names: (0..names).map(|n| format!("image-{size}-{n}")).collect(),
        size_bytes: size,
    };
    let images = |max_images| {
        let mut facts = facts();
        facts.settings.object.max_images = max_images;
        facts.readings.images = (1..=60).map(|size| image(size, 7)).collect();
        status_of(&facts, &HEALTHY, &NodeStatus::default(), 1).images.unwrap()
    };
    let listed = images(None);
    assert_eq!(listed.len(), 50);
    assert_eq!((listed[0].size_bytes, listed[49].size_bytes), (Some(60), Some(11)));
    assert!(listed.iter().all(|image| image.names.as_ref().unwrap().len() == 5));
    assert_eq!(images(Some(-1)).len(), 60);
    assert_eq!(images(Some(0)).len(), 0);
}

#[test]
fn the_runtimes_handlers_are_listed_by_name() {
    let met = RuntimeCondition { is_met: true, reason: String::new(), message: String::new() };
    let handler = |name: &str| RuntimeHandler {
        name: name.to_owned(),
        has_recursive_read_only_mounts: true,
        has_user_namespaces: false,
    };
    let runtime = RuntimeHealth {
        runtime: met.clone(),
        network: met,
        handlers: vec![handler("runc"), handler("")],
        features: RuntimeFeatures { has_supplemental_groups_policy: true, ..RuntimeFeatures::default() },
    };
    let health = NodeHealth { runtime: Some(&runtime), ..HEALTHY };
    let status = serde_json::to_value(status_of(&facts(), &health, &NodeStatus::default(), 1)).unwrap();
    let features = json!({"recursiveReadOnlyMounts": true, "userNamespaces": false});
    assert_eq!(
        status["runtimeHandlers"],
        json!([{"features": features}, {"name": "runc", "features": features}])
    );
    assert_eq!(status["features"], json!({"supplementalGroupsPolicy": true}));
}

#[test]
fn only_news_is_written_before_its_time() {
    let written = status_of(&facts(), &HEALTHY, &NodeStatus::default(), 100);
    let later = status_of(&facts(), &HEALTHY, &written, 200);
    assert!(!has_changed(&written, &later), "a heartbeat is no news");
    let mut respelt = later.clone();
    respelt.capacity.as_mut().unwrap().get_mut("cpu").unwrap().0 = "8000m".to_owned();
    respelt.images = None;
    respelt.conditions.as_mut().unwrap().reverse();
    assert!(!has_changed(&written, &respelt), "nor is another way to put it");
    let changes: [fn(&mut Facts); 6] = [
        |facts| facts.machine.cpus = 4,
        |facts| facts.machine.boot_id = "other".to_owned(),
        |facts| {
            facts.readings.images = vec![NodeImage {
                id: "i".into(),
                names: vec!["i".to_owned()],
                size_bytes: 1,
                is_pinned: false,
            }]
        },
        |facts| facts.readings.addresses = Some(vec!["10.0.0.2".to_owned()]),
        |facts| facts.settings.object.kubelet_port = 1,
        |facts| facts.settings.object.declared_features = vec!["F".to_owned()],
    ];
    for (index, change) in changes.iter().enumerate() {
        let mut facts = facts();
        change(&mut facts);
        let current = status_of(&facts, &HEALTHY, &written, 200);
        assert!(has_changed(&written, &current), "change {index}");
    }
    let health = NodeHealth { pressures: Pressures { pids: true, ..FINE }, ..HEALTHY };
    assert!(has_changed(&written, &status_of(&facts(), &health, &written, 200)));
}

#[test]
fn transitions_are_told_by_events() {
    let reasons = |old: &NodeStatus, new: &NodeStatus| {
        transition_events(old, new, "n1").into_iter().map(|(reason, _)| reason).collect::<Vec<_>>()
    };
    let first = status_of(&facts(), &HEALTHY, &NodeStatus::default(), 1);
    assert_eq!(
        reasons(&NodeStatus::default(), &first),
        ["NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID"]
    );
    assert_eq!(reasons(&first, &status_of(&facts(), &HEALTHY, &first, 2)), [""; 0]);
    let pressures = Pressures { memory: true, disk: true, pids: true };
    let down = ["down".to_owned()];
    let second = status_of(&facts(), &NodeHealth { runtime_errors: &down, pressures, ..HEALTHY }, &first, 3);
    assert_eq!(
        reasons(&first, &second),
        ["NodeHasInsufficientMemory", "NodeHasDiskPressure", "NodeHasInsufficientPID", "NodeNotReady"]
    );
    let events = transition_events(&second, &first, "n1");
    assert_eq!(events.last(), Some(&("NodeReady", "Node n1 status is now: NodeReady".to_owned())));
}

#[test]
fn a_reboot_is_told_once_the_boot_is_another() {
    let of = |boot_id: &str| {
        let mut facts = facts();
        facts.machine.boot_id = boot_id.to_owned();
        status_of(&facts, &HEALTHY, &NodeStatus::default(), 1)
    };
    assert_eq!(reboot_event(&NodeStatus::default(), &of("a"), "n1"), None);
    assert_eq!(reboot_event(&of("a"), &of("a"), "n1"), None);
    let event = reboot_event(&of("a"), &of("b"), "n1");
    assert_eq!(event, Some(("Rebooted", "Node n1 has been rebooted, boot id: b".to_owned())));
}

#[test]
fn a_node_is_registered_with_labels_annotations_and_taints() {
    let taint = Taint { key: "k".to_owned(), value: None, effect: "NoSchedule".to_owned(), time_added: None };
    let mut facts = facts();
    facts.settings.object = ObjectSettings {
        labels: BTreeMap::from([
            ("team".to_owned(), "a".to_owned()),
            ("kubernetes.io/hostname".to_owned(), "mine".to_owned()),
        ]),
        taints: vec![taint],
        provider_id: "p://1".to_owned(),
        is_cloud_provider_external: true,
        provided_node_ips: vec!["10.0.0.1".to_owned()],
        ..facts.settings.object
    };
    let node = serde_json::to_value(initial_node(facts.node())).unwrap();
    assert_eq!(
        node["metadata"],
        json!({
            "name": "n1",
            "labels": {
                "beta.kubernetes.io/arch": "amd64", "beta.kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux",
                "kubernetes.io/hostname": "mine", "team": "a",
            },
            "annotations": {
                "alpha.kubernetes.io/provided-node-ip": "10.0.0.1",
                "volumes.kubernetes.io/controller-managed-attach-detach": "true",
            },
        })
    );
    assert_eq!(
        node["spec"],
        json!({
            "providerID": "p://1",
            "taints": [
                {"key": "k", "effect": "NoSchedule"},
                {"key": "node.cloudprovider.kubernetes.io/uninitialized", "value": "true", "effect": "NoSchedule"},
            ],
        })
    );
    assert_eq!(node["status"]["capacity"]["pods"], "110");
}

#[test]
fn the_metadata_of_an_existing_node_is_kept_right() {
    let mut external = facts();
    external.settings.object.is_cloud_provider_external = true;
    external.settings.object.provided_node_ips = vec!["10.0.0.1".to_owned(), "fd00::1".to_owned()];
    let (mine, stale) = (Some("10.0.0.1,fd00::1"), Some("192.0.2.1"));
    let existing = |os: Option<&str>, ips: Option<&str>| -> Node {
        let (mut labels, mut annotations) =
            (json!({"kubernetes.io/arch": "amd64", "own": "1"}), json!({"own": "1"}));
        if let Some(os) = os {
            labels["kubernetes.io/os"] = os.into();
        }
        if let Some(ips) = ips {
            annotations["alpha.kubernetes.io/provided-node-ip"] = ips.into();
        }
        serde_json::from_value(json!({"metadata": {"labels": labels, "annotations": annotations}})).unwrap()
    };
    let nothing = (None, None);
    for (facts, os, ips, change) in [
        (&external, Some("linux"), mine, nothing),
        (&external, Some("linux"), stale, (None, Some(mine))),
        (&external, Some("linux"), None, (None, Some(mine))),
        (&facts(), Some("linux"), stale, (None, Some(None))),
        (&facts(), Some("linux"), None, nothing),
        (&facts(), Some("windows"), None, (Some("linux"), None)),
        (&facts(), None, None, (Some("linux"), None)),
    ] {
        let found = metadata_change(facts.node(), &existing(os, ips));
        let annotation =
            found.annotations.get("alpha.kubernetes.io/provided-node-ip").map(|ips| ips.as_deref());
        assert_eq!(
            (found.labels.get("kubernetes.io/os").map(String::as_str), annotation),
            change,
            "{os:?} {ips:?}"
        );
        assert_eq!(found.is_empty(), change == nothing);
        assert!(found.labels.len() + found.annotations.len() <= 1, "{found:?}");
    }
}
