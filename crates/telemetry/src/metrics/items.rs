//! Every metric of the kubelet, once: what it is, what it is called, and on which page it is.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use config::FeatureGates;

use super::exposition::{Exposition, Kind};
use super::process::{self, ProcessReadError};
use super::value::{Counter, Family, Gauge, Histogram, Labelled};

/// A page of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/metrics`
    Main,
    /// `/metrics/probes`
    Probes,
    /// `/metrics/slis`
    Slis,
}

/// Prometheus' usual buckets, in seconds.
const USUAL: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// For what takes from half a second to an hour.
const POD_START: &[f64] = &[
    0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0,
    480.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0,
];

const POD_STATUS_SYNC: &[f64] = &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0];

const IMAGE_PULL: &[f64] = &[
    1.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 480.0, 600.0, 900.0, 1200.0, 1800.0,
    2700.0, 3600.0,
];

const API_REQUEST: &[f64] = &[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];

const DNS: &[f64] = &[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0];

/// From 64 bytes to 16 MiB.
const API_BODY: &[f64] = &[
    64.0,
    256.0,
    512.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
];

/// Questions to the API server about those who ask this node.
const REVIEW: &[f64] = &[0.25, 0.5, 0.7, 1.0, 1.5, 3.0, 5.0, 10.0];

/// Up to ten minutes, for disks that take that long.
const VOLUME: &[f64] = &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 25.0, 50.0, 120.0, 300.0, 600.0];

/// From a minute to four years.
const CERTIFICATE_AGE: &[f64] = &[
    60.0,
    3600.0,
    14_400.0,
    86_400.0,
    604_800.0,
    2_592_000.0,
    7_776_000.0,
    15_552_000.0,
    31_104_000.0,
    124_416_000.0,
];

/// From ten minutes to four years.
const PLUGIN_CERTIFICATE_AGE: &[f64] = &[
    600.0,
    1800.0,
    3600.0,
    14_400.0,
    86_400.0,
    604_800.0,
    2_592_000.0,
    7_776_000.0,
    15_552_000.0,
    31_104_000.0,
    124_416_000.0,
];

/// From 5 ms, each two and a half times the one before. Multiplied step by step, so that the bounds
/// are upstream's to the last digit.
const RUNTIME: &[f64] = &exponential(0.005, 2.5);

const CONTAINERS_PER_POD: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0];

const fn exponential(start: f64, factor: f64) -> [f64; 14] {
    let mut bounds = [start; 14];
    let mut index = 1;
    while index < bounds.len() {
        bounds[index] = bounds[index - 1] * factor;
        index += 1;
    }
    bounds
}

/// The name of a label; those that are words of the language are declared with an underscore.
pub(super) fn label(declared: &'static str) -> &'static str {
    declared.strip_suffix('_').unwrap_or(declared)
}

/// Declares the struct, how it begins, and what is on which page. What has labels, even none (`[]`), is on its page
/// once it is used.
macro_rules! metrics {
    ($(
        $(#[$doc:meta])*
        $field:ident : $kind:ident $([$($label:ident),*])? $(($bounds:ident))? = $name:literal on $endpoint:ident, $help:literal;
    )*) => {
        /// Every metric of the kubelet.
        #[derive(Debug)]
        pub struct Metrics {
            $( $(#[$doc])* pub $field: metrics!(@type $kind $([$($label)*])?), )*
            description: OnceLock<Description>,
        }

        impl Default for Metrics {
            fn default() -> Self {
                Self {
                    $( $field: metrics!(@new $kind $([$($label)*])? $(($bounds))?), )*
                    description: OnceLock::new(),
                }
            }
        }

        impl Metrics {
            /// The names of all of them with their page, and their labels.
            #[cfg(test)]
            pub(super) const NAMES: &'static [(&'static str, &'static str, &'static [&'static str])] = &[
                $(($name, stringify!($endpoint), &[$($(stringify!($label)),*)?])),*
            ];

            fn write_fields(&self, endpoint: Endpoint, out: &mut Exposition) {
                $( if endpoint == Endpoint::$endpoint {
                    self.$field.write_family(out, $name, $help);
                } )*
            }
        }
    };
    (@type $kind:ident) => { $kind };
    (@type $kind:ident [$($label:ident)*]) => { Labelled<$kind, { <[&str]>::len(&[$(stringify!($label)),*]) }> };
    (@new $kind:ident) => { $kind::default() };
    (@new $kind:ident ($bounds:ident)) => { $kind::new($bounds) };
    (@new $kind:ident [$($label:ident)*]) => { Labelled::new([$(label(stringify!($label))),*], $kind::default) };
    (@new $kind:ident [$($label:ident)*] ($bounds:ident)) => {
        Labelled::new([$(label(stringify!($label))),*], || $kind::new($bounds))
    };
}

metrics! {
    /// How long token reviews took, in seconds, by HTTP status.
    token_review_duration: Histogram[code](REVIEW) = "apiserver_delegated_authn_request_duration_seconds" on Main, "[ALPHA] Seconds the API server took to say whose a token is, by HTTP status.";
    /// Token reviews asked for, by HTTP status.
    token_reviews: Counter[code] = "apiserver_delegated_authn_request_total" on Main, "[ALPHA] Times the API server was asked whose a token is, by HTTP status.";
    /// How long access reviews took, in seconds, by HTTP status.
    access_review_duration: Histogram[code](REVIEW) = "apiserver_delegated_authz_request_duration_seconds" on Main, "[ALPHA] Seconds the API server took to say whether somebody may do something, by HTTP status.";
    /// Access reviews asked for, by HTTP status.
    access_reviews: Counter[code] = "apiserver_delegated_authz_request_total" on Main, "[ALPHA] Times the API server was asked whether somebody may do something, by HTTP status.";
    /// Token reviews under way (`in_flight`), and requests that wait for one (`blocked`).
    token_reviews_active: Gauge[status] = "authentication_token_cache_active_fetch_count" on Main, "[ALPHA] Token reviews under way, and requests that wait for one.";
    /// Token reviews that ended, by `ok` or `error`.
    token_reviews_ended: Counter[status] = "authentication_token_cache_fetch_total" on Main, "[ALPHA] Token reviews that ended, by how they did.";
    /// How long it took to find out whose a token is, in seconds, by `hit` or `miss`.
    token_cache_duration: Histogram[status](USUAL) = "authentication_token_cache_request_duration_seconds" on Main, "[ALPHA] Seconds it took to find out whose a token is, by whether it was remembered.";
    /// Tokens looked up, by `hit` or `miss`.
    token_cache_requests: Counter[status] = "authentication_token_cache_request_total" on Main, "[ALPHA] Tokens looked up, by whether they were remembered.";
    /// How long calls of CSI drivers took, in seconds, by driver, code of gRPC, and call.
    csi_operations: Histogram[driver_name, grpc_status_code, method_name, migrated](VOLUME) = "csi_operations_seconds" on Main, "[ALPHA] Seconds that calls of CSI drivers took, by driver, code of gRPC, and call.";
    /// How long the pod that waits longest for something has waited for it, in seconds, by what it waits for.
    longest_wait: Gauge[on] = "ferrolet_longest_wait_seconds" on Main, "[ALPHA] Seconds for which the pod that waits longest for something has waited, by what it waits for. Not one of upstream's.";
    /// Pods that wait for something, by what.
    waits: Gauge[on] = "ferrolet_waits" on Main, "[ALPHA] Pods that wait for something, by what they wait for. kubelet explain tells which. Not one of upstream's.";
    /// Pods the kubelet works on, by whether they are static (`true`, `false` or empty).
    active_pods: Gauge[static_] = "kubelet_active_pods" on Main, "[ALPHA] Pods that the kubelet works on and that are not finished.";
    /// Pods turned away, by reason.
    admission_rejections: Counter[reason] = "kubelet_admission_rejections_total" on Main, "[ALPHA] Pods that the kubelet turned away, by reason.";
    /// Times another client certificate could not be had.
    certificate_client_renew_errors: Counter[] = "kubelet_certificate_manager_client_expiration_renew_errors" on Main, "[ALPHA] Times another client certificate could not be had.";
    /// Seconds the client certificate holds; infinite as long as there is none.
    certificate_client_ttl: Gauge[] = "kubelet_certificate_manager_client_ttl_seconds" on Main, "[ALPHA] Seconds until the client certificate expires, negative once it has. Infinite when there is none.";
    /// Age of serving certificates when they were replaced, in seconds.
    certificate_server_rotation_age: Histogram[](CERTIFICATE_AGE) = "kubelet_certificate_manager_server_rotation_seconds" on Main, "[ALPHA] Age of the serving certificate in seconds when it was replaced.";
    /// Seconds the serving certificate holds; infinite as long as there is none.
    certificate_server_ttl: Gauge[] = "kubelet_certificate_manager_server_ttl_seconds" on Main, "[ALPHA] Seconds until the serving certificate expires, negative once it has. Infinite when there is none.";
    /// 1 or 2.
    cgroup_version: Gauge = "kubelet_cgroup_version" on Main, "[ALPHA] Version of cgroups on this host.";
    /// How long changes of cgroups took, in seconds: `create`, `update`, `destroy`.
    cgroup_operations: Histogram[operation_type](USUAL) = "kubelet_cgroup_manager_duration_seconds" on Main, "[ALPHA] Seconds it took to change a cgroup, by kind of change.";
    /// Pods admitted, by who asks for resources (`container_level`, `pod_level`, `pod_and_container_level` or nobody) and by class.
    admitted_pods: Counter[config_mode, qos_class] = "kubelet_pod_level_resources_admission_total" on Main, "[ALPHA] Pods admitted, by whether they ask for resources as pods or by container, and by class of service.";
    /// Containers of each pod that was started.
    containers_per_pod: Histogram(CONTAINERS_PER_POD) = "kubelet_containers_per_pod_count" on Main, "[ALPHA] Containers of a pod.";
    /// The configuration of credential providers, by its digest.
    credential_provider_config: Gauge[hash] = "kubelet_credential_provider_config_info" on Main, "[ALPHA] Which configuration of credential providers is in effect. The value is always 1.";
    /// What the runtime is missing for later versions.
    cri_losing_support: Gauge[version] = "kubelet_cri_losing_support" on Main, "[ALPHA] The version of Kubernetes that will not work with this container runtime any more.";
    /// Pods the kubelet was told to run.
    desired_pods: Gauge[static_] = "kubelet_desired_pods" on Main, "[ALPHA] Pods that the kubelet was told to run.";
    /// How long the first pod with a network of its own took, in seconds.
    first_network_pod_start: Gauge = "kubelet_first_network_pod_start_sli_duration_seconds" on Main, "[INTERNAL] Seconds from the creation of the first pod with a network of its own to all its containers running, without pulls and init containers.";
    /// Requests being served.
    http_inflight_requests: Gauge[long_running, method, path, server_type] = "kubelet_http_inflight_requests" on Main, "[ALPHA] HTTP requests that are being served.";
    /// How long requests took, in seconds.
    http_requests_duration: Histogram[long_running, method, path, server_type](USUAL) = "kubelet_http_requests_duration_seconds" on Main, "[ALPHA] Seconds it took to serve an HTTP request.";
    /// Requests served. The path is that of the route, never the request's own.
    http_requests: Counter[long_running, method, path, server_type] = "kubelet_http_requests_total" on Main, "[ALPHA] HTTP requests served since the kubelet was started.";
    /// Images asked for, by whether they were there and by pull policy.
    ensured_images: Counter[present_locally, pull_policy, pull_required] = "kubelet_image_manager_ensure_image_requests_total" on Main, "[ALPHA] Images that were asked for, by whether they were there.";
    /// Image volumes of containers that were to start.
    image_volumes_requested: Counter = "kubelet_image_volume_requested_total" on Main, "[BETA] Images that containers were to mount as volumes.";
    /// Those of them that the runtime did not fail to mount.
    image_volumes_mounted: Counter = "kubelet_image_volume_mounted_succeed_total" on Main, "[BETA] Images that were mounted as volumes.";
    /// Those of them that it failed to mount.
    image_volumes_failed: Counter = "kubelet_image_volume_mounted_errors_total" on Main, "[BETA] Images that could not be mounted as volumes.";
    /// Images that were removed as nobody used them, by why.
    images_garbage_collected: Counter[reason] = "kubelet_image_garbage_collected_total" on Main, "[ALPHA] Total number of images garbage collected by the kubelet, whether through disk usage or image age.";
    /// Pods that were evicted, by the signal they went for.
    evictions: Counter[eviction_signal] = "kubelet_evictions" on Main, "[ALPHA] Number of pods that were evicted, by the signal they went for.";
    /// How old the measurement was by which a pod went.
    eviction_stats_age: Histogram[eviction_signal](USUAL) = "kubelet_eviction_stats_age_seconds" on Main, "[ALPHA] How long before an eviction it was measured what is left, by signal.";
    /// Whether pods may use an image that is present, by what came of it.
    image_pull_checks: Counter[result] = "kubelet_imagemanager_image_mustpull_checks_total" on Main, "[ALPHA] How often it was looked into whether a pod may use an image that is present, by what came of it.";
    /// How full the memory for notes of pulled images is.
    pull_records_in_memory: Gauge = "kubelet_imagemanager_inmemory_pulledrecords_usage_percent" on Main, "[ALPHA] How much of the memory for records of pulled images is used, in percent.";
    /// How full the memory for notes of pulls under way is.
    pull_intents_in_memory: Gauge = "kubelet_imagemanager_inmemory_pullintents_usage_percent" on Main, "[ALPHA] How much of the memory for records of pulls under way is used, in percent.";
    /// Notes of pulled images on disk.
    pull_records_on_disk: Gauge = "kubelet_imagemanager_ondisk_pulledrecords" on Main, "[ALPHA] Records of pulled images on disk.";
    /// Notes of pulls under way on disk.
    pull_intents_on_disk: Gauge = "kubelet_imagemanager_ondisk_pullintents" on Main, "[ALPHA] Records of pulls under way on disk.";
    /// How long pulls took, in seconds, by a class of size.
    image_pull_duration: Histogram[image_size_in_bytes](IMAGE_PULL) = "kubelet_image_pull_duration_seconds" on Main, "[ALPHA] Seconds it took to pull an image, by its size.";
    /// HTTPS hooks that were answered in plain HTTP.
    lifecycle_http_fallbacks: Counter = "kubelet_lifecycle_handler_http_fallbacks_total" on Main, "[ALPHA] Lifecycle hooks over HTTPS that were answered in plain HTTP and repeated that way.";
    /// Ephemeral containers of pods the kubelet was told to run.
    managed_ephemeral_containers: Gauge = "kubelet_managed_ephemeral_containers" on Main, "[ALPHA] Ephemeral containers of pods that the kubelet was told to run.";
    /// Memory that is taken away from Burstable pods last, bytes.
    memory_qos_node_low: Gauge = "kubelet_memory_qos_node_memory_low_bytes" on Main, "[ALPHA] Bytes of memory that Burstable pods request and that are taken away from them last (memory.low).";
    /// Memory that is never taken away from Guaranteed pods, bytes.
    memory_qos_node_min: Gauge = "kubelet_memory_qos_node_memory_min_bytes" on Main, "[ALPHA] Bytes of memory that Guaranteed pods request and that are never taken away from them (memory.min).";
    /// 1, with where the numbers on `/metrics/cadvisor` come from: `cadvisor` (read here) or `cri`.
    metrics_provider: Gauge[provider] = "kubelet_metrics_provider" on Main, "[ALPHA] Where the metrics of containers come from. The value is always 1.";
    /// Mirror pods.
    mirror_pods: Gauge = "kubelet_mirror_pods" on Main, "[ALPHA] Mirror pods on this node.";
    /// 1, with the name of the node.
    node_name: Gauge[node] = "kubelet_node_name" on Main, "[ALPHA] The name of the node. The value is always 1.";
    /// From the machine's start to the node being ready, in seconds.
    node_startup: Gauge = "kubelet_node_startup_duration_seconds" on Main, "[ALPHA] Seconds from the start of the machine to the node being ready.";
    /// From registration to the node being ready, in seconds.
    node_startup_post_registration: Gauge = "kubelet_node_startup_post_registration_duration_seconds" on Main, "[ALPHA] Seconds from the node's registration to its being ready.";
    /// From the machine's start to the kubelet's, in seconds.
    node_startup_pre_kubelet: Gauge = "kubelet_node_startup_pre_kubelet_duration_seconds" on Main, "[ALPHA] Seconds from the start of the machine to that of the kubelet.";
    /// From the kubelet's start to the first attempt to register, in seconds.
    node_startup_pre_registration: Gauge = "kubelet_node_startup_pre_registration_duration_seconds" on Main, "[ALPHA] Seconds from the start of the kubelet to its first attempt to register the node.";
    /// From the first attempt to register to success, in seconds.
    node_startup_registration: Gauge = "kubelet_node_startup_registration_duration_seconds" on Main, "[ALPHA] Seconds from the first attempt to register the node to its being registered.";
    /// Pods that are gone and whose folders are being removed.
    orphans_cleaned: Gauge = "kubelet_orphan_pod_cleaned_volumes" on Main, "[ALPHA] Pods that are gone and whose folders are still to be removed.";
    /// Those of them for which it failed.
    orphans_cleaned_errors: Gauge = "kubelet_orphan_pod_cleaned_volumes_errors" on Main, "[ALPHA] Pods that are gone and whose folders could not be removed so far.";
    /// Pods found running that nobody asked for.
    orphaned_runtime_pods: Counter = "kubelet_orphaned_runtime_pods_total" on Main, "[ALPHA] Pods found in the runtime that the kubelet was not told to run.";
    /// When the last full list was read, in seconds since 1970.
    pleg_last_seen: Gauge = "kubelet_pleg_last_seen_seconds" on Main, "[ALPHA] When pods were last listed in full, in seconds since 1970.";
    /// How long it took to read one pod again, in seconds.
    pleg_pod_relist_duration: Histogram(USUAL) = "kubelet_pleg_pod_relist_duration_seconds" on Main, "[ALPHA] Seconds it took to read one pod.";
    /// How long a full list took, in seconds.
    pleg_relist_duration: Histogram(USUAL) = "kubelet_pleg_relist_duration_seconds" on Main, "[ALPHA] Seconds it took to list all pods.";
    /// How long after the one before, in seconds.
    pleg_relist_interval: Histogram(USUAL) = "kubelet_pleg_relist_interval_seconds" on Main, "[ALPHA] Seconds between two lists of all pods.";
    /// Answers of the Pods API to `GetPod`, by version of the API and gRPC code.
    pod_requests_get: Counter[server_api_version, status_code] = "kubelet_pod_requests_get_total" on Main, "[ALPHA] Times the Pods API was asked for a pod, by version and by code of the answer.";
    /// Answers of the Pods API to `ListPods`, by version of the API and gRPC code.
    pod_requests_list: Counter[server_api_version, status_code] = "kubelet_pod_requests_list_total" on Main, "[ALPHA] Times the Pods API was asked for all pods, by version and by code of the answer.";
    /// Answers of the Pods API, by version of the API and gRPC code.
    pod_requests: Counter[server_api_version, status_code] = "kubelet_pod_requests_total" on Main, "[ALPHA] Times the Pods API was asked anything, by version and by code of the answer.";
    /// Watches of the Pods API that have ended, by version of the API and gRPC code.
    pod_requests_watch: Counter[server_api_version, status_code] = "kubelet_pod_requests_watch_total" on Main, "[ALPHA] Watches of the Pods API that have ended, by version and by code of the end.";
    /// From seeing a pod to its running, in seconds.
    pod_start_duration: Histogram(POD_START) = "kubelet_pod_start_duration_seconds" on Main, "[ALPHA] Seconds from first seeing a pod to its running.";
    /// From creation to running, without pulls and init containers, in seconds.
    pod_start_sli_duration: Histogram(POD_START) = "kubelet_pod_start_sli_duration_seconds" on Main, "[ALPHA] Seconds from the creation of a pod to all its containers running, without pulls and init containers.";
    /// From creation to running, all included, in seconds.
    pod_start_total_duration: Histogram(POD_START) = "kubelet_pod_start_total_duration_seconds" on Main, "[ALPHA] Seconds from the creation of a pod to all its containers running.";
    /// From a change to its being written to the API, in seconds.
    pod_status_sync_duration: Histogram(POD_STATUS_SYNC) = "kubelet_pod_status_sync_duration_seconds" on Main, "[ALPHA] Seconds from a change of a pod's status to its being written.";
    /// Time spent on a pod at a time, in seconds, by `create`, `update`, `sync` or `terminating`.
    pod_worker_duration: Histogram[operation_type](USUAL) = "kubelet_pod_worker_duration_seconds" on Main, "[ALPHA] Seconds it took to bring a pod up to date, by kind of change.";
    /// Watches of the Pods API that were ended because the client did not keep up.
    pod_watch_events_dropped: Counter = "kubelet_pod_watch_events_dropped_total" on Main, "[ALPHA] Events of pods that watches of the Pods API had no room for.";
    /// From seeing a pod to the start of work on it, in seconds.
    pod_worker_start_duration: Histogram(USUAL) = "kubelet_pod_worker_start_duration_seconds" on Main, "[ALPHA] Seconds from seeing a pod to beginning to work on it.";
    /// Pods that came back with another UID.
    restarted_pods: Counter[static_] = "kubelet_restarted_pods_total" on Main, "[ALPHA] Pods replaced by one of the same name while they ran.";
    /// How long it took to run sandboxes, in seconds.
    run_podsandbox_duration: Histogram[runtime_handler](USUAL) = "kubelet_run_podsandbox_duration_seconds" on Main, "[ALPHA] Seconds it took to run a pod sandbox.";
    /// Sandboxes that could not be run.
    run_podsandbox_errors: Counter[runtime_handler] = "kubelet_run_podsandbox_errors_total" on Main, "[ALPHA] Pod sandboxes that could not be run.";
    /// Containers by state: `created`, `running`, `exited`, `unknown`.
    running_containers: Gauge[container_state] = "kubelet_running_containers" on Main, "[ALPHA] Containers on this node, by state.";
    /// Pods with a running sandbox.
    running_pods: Gauge = "kubelet_running_pods" on Main, "[ALPHA] Pods with a running sandbox.";
    /// How long CRI calls took, in seconds.
    runtime_operations_duration: Histogram[operation_type](RUNTIME) = "kubelet_runtime_operations_duration_seconds" on Main, "[ALPHA] Seconds it took to call the container runtime, by call.";
    /// CRI calls that failed.
    runtime_operations_errors: Counter[operation_type] = "kubelet_runtime_operations_errors_total" on Main, "[ALPHA] Calls of the container runtime that failed, by call.";
    /// CRI calls.
    runtime_operations: Counter[operation_type] = "kubelet_runtime_operations_total" on Main, "[ALPHA] Calls of the container runtime, by call.";
    /// Hooks that were to sleep for longer than their container had left.
    sleeps_cut_short: Counter = "kubelet_sleep_action_terminated_early_total" on Main, "[ALPHA] Sleep hooks that ended before their time because the container did.";
    /// Times another serving certificate could not be had.
    certificate_server_renew_errors: Counter[] = "kubelet_server_expiration_renew_errors" on Main, "[ALPHA] Times another serving certificate could not be had.";
    /// Containers that could not be started.
    started_containers_errors: Counter[code, container_type] = "kubelet_started_containers_errors_total" on Main, "[ALPHA] Containers that could not be started, by kind and reason.";
    /// Containers started.
    started_containers: Counter[container_type] = "kubelet_started_containers_total" on Main, "[ALPHA] Containers started, by kind.";
    /// Pods that could not be started.
    started_pods_errors: Counter = "kubelet_started_pods_errors_total" on Main, "[ALPHA] Pods that could not be started.";
    /// Pods started in a user namespace that could not be.
    started_user_namespaced_pods_errors: Counter = "kubelet_started_user_namespaced_pods_errors_total" on Main, "[ALPHA] Pods with a user namespace that could not be started.";
    /// Pods started in a user namespace.
    started_user_namespaced_pods: Counter = "kubelet_started_user_namespaced_pods_total" on Main, "[ALPHA] Pods with a user namespace started.";
    /// Pods started.
    started_pods: Counter = "kubelet_started_pods_total" on Main, "[ALPHA] Pods started.";
    /// Containers that ended.
    terminated_containers: Counter[container_type, exit_code, reason] = "kubelet_terminated_containers_total" on Main, "[ALPHA] Containers that ended, by kind, exit code and reason.";
    /// How long it took to measure a volume, logs or a hosts file, in seconds, by `du` or `statfs`.
    volume_metric_collection_duration: Histogram[metric_source](USUAL) = "kubelet_volume_metric_collection_duration_seconds" on Main, "[ALPHA] Seconds it took to measure what a volume takes, by how it was measured.";
    /// Sessions over WebSocket that were translated for the runtime.
    websocket_sessions: Counter[subresource] = "kubelet_websocket_streaming_requests_total" on Main, "[ALPHA] Sessions over WebSocket that the kubelet translated for the container runtime, by kind.";
    /// Pods by where they are in their life.
    working_pods: Gauge[config, lifecycle, static_] = "kubelet_working_pods" on Main, "[ALPHA] Pods the kubelet works on, by stage of life and by where they are known from.";
    /// Sources of pods' certificates, by signer and by how far they are (`not_yet_issued`, `fresh`, `overdue_for_refresh`,
    /// `expired`, `denied`, `failed`).
    pod_certificates: Gauge[signer_name, state] = "kubelet_podcertificate_states" on Main, "[ALPHA] Sources of certificates in pods' projected volumes, by signer and by how far they are.";
    /// Plugins by the paths of the sockets they register at, there (`desired_state_of_world`) or taken (`actual_state_of_world`).
    plugins: Gauge[socket_path, state] = "plugin_manager_total_plugins" on Main, "[ALPHA] Plugins by the sockets they register at: those that are there, and those that are taken.";
    /// How long probes took, in seconds.
    probe_duration: Histogram[container, namespace, pod, probe_type](USUAL) = "prober_probe_duration_seconds" on Probes, "[ALPHA] Seconds a probe took.";
    /// Probes by result: `successful`, `failed`, `unknown`.
    probes: Counter[container, namespace, pod, pod_uid, probe_type, result] = "prober_probe_total" on Probes, "[BETA] Probes, by result.";
    /// How long programs that know registries' credentials ran, in seconds.
    credential_provider_duration: Histogram[plugin_name](USUAL) = "kubelet_credential_provider_plugin_duration" on Main, "[ALPHA] Seconds a credential provider ran.";
    /// Their runs that failed.
    credential_provider_errors: Counter[plugin_name] = "kubelet_credential_provider_plugin_errors_total" on Main, "[ALPHA] Failed runs of credential providers.";
    /// Runs of the credential plugin, by how they ended.
    exec_plugin_calls: Counter[call_status, code] = "rest_client_exec_plugin_call_total" on Main, "[ALPHA] Runs of the plugin that hands out the credentials for the API server, by result.";
    /// Age of its certificates when they were replaced, in seconds.
    exec_plugin_certificate_age: Histogram(PLUGIN_CERTIFICATE_AGE) = "rest_client_exec_plugin_certificate_rotation_age" on Main, "[ALPHA] Age of the plugin's certificate in seconds when it was replaced.";
    /// Seconds its certificate holds; infinite when there is none.
    exec_plugin_ttl: Gauge = "rest_client_exec_plugin_ttl_seconds" on Main, "[ALPHA] Seconds until the plugin's certificate expires, negative once it has. Infinite when there is none.";
    /// How long it took to look the API server's name up, in seconds.
    rest_client_dns_duration: Histogram[host](DNS) = "rest_client_dns_resolution_duration_seconds" on Main, "[ALPHA] Seconds it took to look the API server's name up.";
    /// How long requests to the API server took, in seconds.
    rest_client_request_duration: Histogram[host, verb](API_REQUEST) = "rest_client_request_duration_seconds" on Main, "[ALPHA] Seconds a request to the API server took.";
    /// How long the own limit held requests back, in seconds.
    rest_client_rate_limiter_duration: Histogram[host, verb](API_REQUEST) = "rest_client_rate_limiter_duration_seconds" on Main, "[ALPHA] Seconds the limit of requests a second held a request back.";
    /// Bodies of requests to the API server, in bytes.
    rest_client_request_size: Histogram[host, verb](API_BODY) = "rest_client_request_size_bytes" on Main, "[ALPHA] Bytes sent to the API server with a request.";
    /// Bodies of its answers, in bytes; those of watches are not counted.
    rest_client_response_size: Histogram[host, verb](API_BODY) = "rest_client_response_size_bytes" on Main, "[ALPHA] Bytes the API server answered a request with.";
    /// Requests to the API server.
    rest_client_requests: Counter[code, host, method] = "rest_client_requests_total" on Main, "[ALPHA] Requests to the API server, by answer.";
    /// How long it took to make volumes and to take them down, in seconds.
    storage_operations: Histogram[migrated, operation_name, status, volume_plugin](VOLUME) = "storage_operation_duration_seconds" on Main, "[BETA] Seconds it took to do something with a volume, by what it was and how it ended.";
    /// Volumes by kind, wanted (`desired_state_of_world`) and there (`actual_state_of_world`).
    volumes: Gauge[plugin_name, state] = "volume_manager_total_volumes" on Main, "[ALPHA] Volumes of this node's pods, wanted and there.";
    /// From wanting a volume to its being there, failures included, in seconds.
    volume_operations: Histogram[operation_name, plugin_name](VOLUME) = "volume_operation_total_seconds" on Main, "[BETA] Seconds from wanting something of a volume to its being done, failures included.";
    /// 1 for a health check that passes, else 0.
    healthcheck: Gauge[name, type_] = "kubernetes_healthcheck" on Slis, "[STABLE] Whether a health check passes.";
    /// Health checks by result.
    healthchecks: Counter[name, status, type_] = "kubernetes_healthchecks_total" on Slis, "[STABLE] Health checks, by result.";
}

/// What holds for the whole life of the process.
#[derive(Debug)]
struct Description {
    version: &'static str,
    major: &'static str,
    minor: &'static str,
    platform: String,
    gates: FeatureGates,
}

impl Metrics {
    /// Says which version this is and which features are on. Only the first call counts.
    pub fn describe(&self, gates: &FeatureGates) {
        self.description.get_or_init(|| Description {
            version: config::version::KUBELET_VERSION,
            major: config::version::KUBERNETES_MAJOR,
            minor: config::version::KUBERNETES_MINOR,
            platform: config::version::platform(),
            gates: gates.clone(),
        });
    }

    /// Forgets everything about a pod.
    pub fn forget_pod(&self, uid: &str) {
        let mut names = BTreeSet::new();
        self.probes.retain(|[_, namespace, pod, pod_uid, _, _]| {
            let is_of_pod = pod_uid == uid;
            if is_of_pod {
                names.insert((namespace.to_owned(), pod.to_owned()));
            }
            !is_of_pod
        });
        if !names.is_empty() {
            self.probe_duration.retain(|[_, namespace, pod, _]| {
                !names
                    .iter()
                    .any(|(in_namespace, name)| (in_namespace.as_str(), name.as_str()) == (namespace, pod))
            });
        }
    }

    /// Writes a page.
    ///
    /// # Errors
    /// If the kernel does not say how the process is doing; the rest of the page is there.
    pub fn write(&self, endpoint: Endpoint, out: &mut Exposition) -> Result<(), ProcessReadError> {
        self.write_fields(endpoint, out);
        match endpoint {
            Endpoint::Main => {
                if let Some(description) = self.description.get() {
                    description.write(out);
                }
                process::write(out)
            }
            Endpoint::Probes | Endpoint::Slis => process::write_start(out),
        }
    }
}

impl Description {
    fn write(&self, out: &mut Exposition) {
        let name = "kubernetes_build_info";
        out.family(name, "[BETA] Which version this is. The value is always 1.", Kind::Gauge);
        // Labels upstream has that mean nothing here are empty.
        let labels = [
            ("build_date", ""),
            ("compiler", "rustc"),
            ("git_commit", ""),
            ("git_tree_state", ""),
            ("git_version", self.version),
            ("go_version", ""),
            ("major", self.major),
            ("minor", self.minor),
            ("platform", self.platform.as_str()),
        ];
        out.sample(name, &labels, 1.0);
        let name = "kubernetes_feature_enabled";
        out.family(name, "[BETA] Whether a feature is on (1) or off (0).", Kind::Gauge);
        for (spec, enabled) in self.gates.iter() {
            let labels = [("name", spec.name), ("stage", spec.stage.as_metric_label())];
            out.sample(name, &labels, f64::from(u8::from(enabled)));
        }
    }
}
