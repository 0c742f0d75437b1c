//! Builds `status` of the Node object.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, NodeAddress, NodeDaemonEndpoints, NodeFeatures, NodeRuntimeHandler,
    NodeRuntimeHandlerFeatures, NodeStatus, NodeSwapStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use model::{Now, Quantity, RuntimeHealth, time};

use super::capacity::{CPU, EPHEMERAL_STORAGE, HUGE_PAGES_PREFIX, MEMORY, PODS};
use super::readings::NodeImage;
use super::{NodeDescription, NodeHealth, conditions};

/// Images listed unless configured otherwise (`nodeStatusMaxImages`).
const DEFAULT_MAX_IMAGES: i32 = 50;
/// Names listed of one image.
const MAX_NAMES_PER_IMAGE: usize = 5;

/// The status to report now. What `previous` holds and this node has no say in stays: conditions
/// and resources of others, attached volumes, and times of transition.
pub(crate) fn status(
    node: NodeDescription<'_>,
    health: &NodeHealth<'_>,
    previous: &NodeStatus,
    now: Now,
) -> NodeStatus {
    let mut status = describe(node, previous);
    if let Some(runtime) = health.runtime {
        status.runtime_handlers = Some(runtime_handlers(runtime));
        status.features = Some(NodeFeatures {
            supplemental_groups_policy: Some(runtime.features.has_supplemental_groups_policy),
        });
    }
    let mut conditions = status.conditions.take().unwrap_or_default();
    let missing = missing_capacities(node, &status);
    conditions::update(&mut conditions, health, &missing, time::to_seconds(now.wall));
    status.conditions = Some(conditions);
    status
}

/// Resources that every node must have an amount of, and this one has not.
fn missing_capacities(node: NodeDescription<'_>, status: &NodeStatus) -> Vec<&'static str> {
    let has_storage = node.settings.capacity.is_local_storage_isolated;
    let required = [CPU, MEMORY, PODS].into_iter().chain(has_storage.then_some(EPHEMERAL_STORAGE));
    required.filter(|name| !status.capacity.as_ref().is_some_and(|all| all.contains_key(*name))).collect()
}

/// Everything of the status but what follows from the runtime's health.
pub(super) fn describe(node: NodeDescription<'_>, previous: &NodeStatus) -> NodeStatus {
    let (capacity, allocatable) = resources(node, previous);
    let object = &node.settings.object;
    NodeStatus {
        addresses: addresses(node, previous),
        capacity: Some(capacity),
        allocatable: Some(allocatable),
        node_info: Some(node_info(node)),
        images: Some(images(&node.readings.images, object.max_images.unwrap_or(DEFAULT_MAX_IMAGES))),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(object.kubelet_port) }),
        }),
        volumes_in_use: in_use(node),
        declared_features: (!object.declared_features.is_empty()).then(|| object.declared_features.clone()),
        ..previous.clone()
    }
}

fn in_use(node: NodeDescription<'_>) -> Option<Vec<String>> {
    Some(&node.readings.volumes_in_use).filter(|names| !names.is_empty()).cloned()
}

fn addresses(node: NodeDescription<'_>, previous: &NodeStatus) -> Option<Vec<NodeAddress>> {
    let has_previous = previous.addresses.as_ref().is_some_and(|list| !list.is_empty());
    let is_somebody_elses = node.settings.object.is_cloud_provider_external && has_previous;
    let Some(node_ips) = node.readings.addresses.as_ref().filter(|_| !is_somebody_elses) else {
        return previous.addresses.clone();
    };
    let address = |kind: &str, text: &str| NodeAddress { type_: kind.to_owned(), address: text.to_owned() };
    let ips = node_ips.iter().map(|ip| address("InternalIP", ip));
    Some(ips.chain([address("Hostname", &node.settings.node_name)]).collect())
}

/// The node's addresses as its pods see them, one of each family at most: internal ones before external ones, those of the
/// first one's family before the other.
pub(crate) fn host_ips(addresses: &[NodeAddress]) -> Vec<String> {
    let of_kind = |kind: &'static str| addresses.iter().filter(move |address| address.type_ == kind);
    let mut all =
        of_kind("InternalIP").chain(of_kind("ExternalIP")).filter_map(|a| a.address.parse::<IpAddr>().ok());
    let Some(first) = all.next() else { return Vec::new() };
    let second = all.find(|ip| ip.is_ipv6() != first.is_ipv6());
    [Some(first), second].into_iter().flatten().map(|ip| ip.to_string()).collect()
}

type Amounts = BTreeMap<String, ApiQuantity>;

/// Capacity and allocatable. Resources that somebody else advertised on the object stay, less what
/// is reserved of them; sizes of huge pages that this machine lacks go, and so does local storage
/// where it is no resource.
fn resources(node: NodeDescription<'_>, previous: &NodeStatus) -> (Amounts, Amounts) {
    let (own, has_storage) = (node.resources(), node.settings.capacity.is_local_storage_isolated);
    let mut capacity = previous.capacity.clone().unwrap_or_default();
    capacity
        .retain(|name, _| !name.starts_with(HUGE_PAGES_PREFIX) && (name != EPHEMERAL_STORAGE || has_storage));
    let mut allocatable: Amounts = capacity
        .iter()
        .map(|(name, amount)| match Quantity::from_api(amount) {
            Some(all) if !own.reserved(name).is_zero() => written((name.clone(), own.unreserved(name, all))),
            _ => (name.clone(), amount.clone()),
        })
        .collect();
    capacity.extend(own.capacity().into_iter().map(written));
    allocatable.extend(own.allocatable().into_iter().map(written));
    (capacity, allocatable)
}

fn written((name, amount): (String, Quantity)) -> (String, ApiQuantity) {
    // Of local storage upstream writes plain bytes.
    let is_binary = name == MEMORY || name.starts_with(HUGE_PAGES_PREFIX);
    (name, if is_binary { amount.to_binary_api() } else { amount.to_api() })
}

fn node_info(node: NodeDescription<'_>) -> NodeSystemInfo {
    let NodeDescription { settings, machine, readings } = node;
    let version = match readings.runtime_version.trim_start_matches('v') {
        "" => "Unknown",
        version => version,
    };
    NodeSystemInfo {
        architecture: machine.architecture.clone(),
        boot_id: machine.boot_id.clone(),
        container_runtime_version: format!("{}://{version}", readings.runtime_name),
        kernel_version: machine.kernel_version.clone(),
        // No longer reported: a kubelet does not know the proxy's version.
        kube_proxy_version: String::new(),
        kubelet_version: settings.object.kubelet_version.clone(),
        machine_id: machine.machine_id.clone(),
        operating_system: machine.operating_system.clone(),
        os_image: machine.os_image.clone(),
        running_in_user_namespace: machine.is_in_user_namespace,
        swap: (machine.swap_bytes > 0).then(|| NodeSwapStatus {
            capacity: Some(i64::try_from(machine.swap_bytes).unwrap_or(i64::MAX)),
        }),
        system_uuid: machine.system_uuid.clone(),
    }
}

/// The largest images first; equal ones by name, so that the list does not change by itself.
fn images(all: &[NodeImage], max: i32) -> Vec<ContainerImage> {
    let mut sorted: Vec<&NodeImage> = all.iter().collect();
    sorted.sort_by(|a, b| b.size_bytes.cmp(&a.size_bytes).then_with(|| a.names.cmp(&b.names)));
    sorted.truncate(usize::try_from(max).unwrap_or(usize::MAX));
    sorted
        .into_iter()
        .map(|image| ContainerImage {
            names: Some(image.names.iter().take(MAX_NAMES_PER_IMAGE).cloned().collect()),
            size_bytes: Some(i64::try_from(image.size_bytes).unwrap_or(i64::MAX)),
        })
        .collect()
}

/// Sorted by name, since the runtime's order may differ from answer to answer.
fn runtime_handlers(runtime: &RuntimeHealth) -> Vec<NodeRuntimeHandler> {
    let mut handlers: Vec<_> = runtime.handlers.iter().collect();
    handlers.sort_by(|a, b| a.name.cmp(&b.name));
    handlers
        .into_iter()
        .map(|handler| NodeRuntimeHandler {
            // The default handler's name is empty, which the API leaves out.
            name: (!handler.name.is_empty()).then(|| handler.name.clone()),
            features: Some(NodeRuntimeHandlerFeatures {
                recursive_read_only_mounts: Some(handler.has_recursive_read_only_mounts),
                user_namespaces: Some(handler.has_user_namespaces),
            }),
        })
        .collect()
}
