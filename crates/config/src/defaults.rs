//! What fields mean that nobody set.

use crate::codec::{Dict, List};
use crate::document::{KubeletConfiguration, LoggingConfiguration};
use crate::duration::GoDuration;
use crate::gates::FeatureGates;

/// The hard eviction thresholds of a node whose document does not give any.
pub(crate) const EVICTION_HARD: [(&str, &str); 5] = [
    ("memory.available", "100Mi"),
    ("nodefs.available", "10%"),
    ("nodefs.inodesFree", "5%"),
    ("imagefs.available", "15%"),
    ("imagefs.inodesFree", "5%"),
];

/// The port of the read-only server when the kubelet is configured by flags alone.
const LEGACY_READ_ONLY_PORT: i32 = 10_255;

/// Sets a field that Go takes for unset because it is zero.
fn fill<T: PartialEq + Default>(field: &mut T, default: T) {
    if *field == T::default() {
        *field = default;
    }
}

fn text(field: &mut String, default: &str) {
    if field.is_empty() {
        default.clone_into(field);
    }
}

/// Fills in everything that is unset, as upstream does for a document it has read.
pub(crate) fn apply(document: &mut KubeletConfiguration, gates: &FeatureGates) {
    server(document);
    node(document);
    images_and_logs(document);
    pods(document);
    resources(document);
    logging(&mut document.logging);
    if gates.enabled("KubeletCrashLoopBackOffMax") {
        let period = &mut document.crash_loop_back_off.max_container_restart_period;
        period.get_or_insert(GoDuration::from_secs(300));
    }
    if gates.enabled("KubeletEnsureSecretPulledImages") {
        text(&mut document.image_pull_credentials_verification_policy, "NeverVerifyPreloadedImages");
    }
}

/// What a kubelet without a document does differently: the API it serves is open, as it was before
/// there were documents.
pub(crate) fn apply_legacy(document: &mut KubeletConfiguration) {
    document.authentication.anonymous.enabled = Some(true);
    document.authentication.webhook.enabled = Some(false);
    "AlwaysAllow".clone_into(&mut document.authorization.mode);
    document.read_only_port = LEGACY_READ_ONLY_PORT;
}

/// The hard eviction thresholds of a document that was read from the file given to `--config`.
pub(crate) fn apply_eviction(document: &mut KubeletConfiguration) {
    let defaults = EVICTION_HARD.map(|(signal, value)| (signal.to_owned(), value.to_owned()));
    match &mut document.eviction_hard.0 {
        None => document.eviction_hard = Dict(Some(defaults.into())),
        Some(thresholds) if document.merge_default_eviction_settings == Some(true) => {
            for (signal, value) in defaults {
                thresholds.entry(signal).or_insert(value);
            }
        }
        Some(_) => {}
    }
}

fn server(document: &mut KubeletConfiguration) {
    document.enable_server.get_or_insert(true);
    text(&mut document.address, "0.0.0.0");
    fill(&mut document.port, 10_250);
    document.authentication.anonymous.enabled.get_or_insert(false);
    document.authentication.webhook.enabled.get_or_insert(true);
    fill(&mut document.authentication.webhook.cache_ttl, GoDuration::from_secs(120));
    text(&mut document.authorization.mode, "Webhook");
    fill(&mut document.authorization.webhook.cache_authorized_ttl, GoDuration::from_secs(300));
    fill(&mut document.authorization.webhook.cache_unauthorized_ttl, GoDuration::from_secs(30));
    document.enable_debugging_handlers.get_or_insert(true);
    document.enable_profiling_handler.get_or_insert(true);
    document.enable_debug_flags_handler.get_or_insert(true);
    document.enable_system_log_handler.get_or_insert(true);
    document.enable_system_log_query.get_or_insert(false);
    document.healthz_port.get_or_insert(10_248);
    text(&mut document.healthz_bind_address, "127.0.0.1");
    fill(&mut document.streaming_connection_idle_timeout, GoDuration::from_secs(4 * 3600));
}

fn node(document: &mut KubeletConfiguration) {
    // The report interval follows an update interval that was set by hand, so look before the
    // latter gets its default.
    let update = document.node_status_update_frequency;
    let report = if update == GoDuration::ZERO { GoDuration::from_secs(300) } else { update };
    fill(&mut document.node_status_report_frequency, report);
    fill(&mut document.node_status_update_frequency, GoDuration::from_secs(10));
    fill(&mut document.node_lease_duration_seconds, 40);
    document.register_node.get_or_insert(true);
    document.node_status_max_images.get_or_insert(50);
    text(&mut document.content_type, "application/vnd.kubernetes.protobuf");
    document.kube_api_qps.get_or_insert(50);
    fill(&mut document.kube_api_burst, 100);
    document.event_record_qps.get_or_insert(50);
    fill(&mut document.event_burst, 100);
    fill(&mut document.max_pods, 110);
    fill(&mut document.max_open_files, 1_000_000);
    document.oom_score_adj.get_or_insert(-999);
    document.fail_swap_on.get_or_insert(true);
    document.fail_cgroup_v1.get_or_insert(true);
}

fn images_and_logs(document: &mut KubeletConfiguration) {
    document.registry_pull_qps.get_or_insert(5);
    fill(&mut document.registry_burst, 10);
    fill(&mut document.image_minimum_gc_age, GoDuration::from_secs(120));
    document.image_gc_high_threshold_percent.get_or_insert(85);
    document.image_gc_low_threshold_percent.get_or_insert(80);
    let parallel = document.max_parallel_image_pulls.is_some_and(|limit| limit >= 2);
    document.serialize_image_pulls.get_or_insert(!parallel);
    text(&mut document.container_log_max_size, "10Mi");
    document.container_log_max_files.get_or_insert(5);
    document.container_log_max_workers.get_or_insert(1);
    document.container_log_monitor_interval.get_or_insert(GoDuration::from_secs(10));
    text(&mut document.pod_logs_dir, "/var/log/pods");
}

fn pods(document: &mut KubeletConfiguration) {
    fill(&mut document.sync_frequency, GoDuration::from_secs(60));
    fill(&mut document.file_check_frequency, GoDuration::from_secs(20));
    fill(&mut document.http_check_frequency, GoDuration::from_secs(20));
    text(&mut document.container_runtime_endpoint, "unix:///run/containerd/containerd.sock");
    fill(&mut document.runtime_request_timeout, GoDuration::from_secs(120));
    document.resolv_conf.get_or_insert("/etc/resolv.conf".to_owned());
    text(&mut document.hairpin_mode, "promiscuous-bridge");
    document.enable_controller_attach_detach.get_or_insert(true);
    document.make_iptables_util_chains.get_or_insert(true);
    document.iptables_masquerade_bit.get_or_insert(14);
    document.iptables_drop_bit.get_or_insert(15);
    text(&mut document.config_map_and_secret_change_detection_strategy, "Watch");
    text(&mut document.volume_plugin_dir, "/usr/libexec/kubernetes/kubelet-plugins/volume/exec/");
    fill(&mut document.volume_stats_agg_period, GoDuration::from_secs(60));
    document.seccomp_default.get_or_insert(false);
}

fn resources(document: &mut KubeletConfiguration) {
    document.cgroups_per_qos.get_or_insert(true);
    text(&mut document.cgroup_driver, "cgroupfs");
    text(&mut document.cpu_manager_policy, "none");
    fill(&mut document.cpu_manager_reconcile_period, GoDuration::from_secs(10));
    text(&mut document.memory_manager_policy, "None");
    text(&mut document.topology_manager_policy, "none");
    text(&mut document.topology_manager_scope, "container");
    text(&mut document.memory_reservation_policy, "None");
    document.cpu_cfs_quota.get_or_insert(true);
    document.cpu_cfs_quota_period.get_or_insert(GoDuration::from_millis(100));
    document.local_storage_capacity_isolation.get_or_insert(true);
    fill(&mut document.eviction_pressure_transition_period, GoDuration::from_secs(300));
    document.merge_default_eviction_settings.get_or_insert(false);
    // Any negative limit means the same: as many as the node has.
    if document.pod_pids_limit.is_none_or(|limit| limit < 0) {
        document.pod_pids_limit = Some(-1);
    }
    if document.enforce_node_allocatable.0.is_none() {
        document.enforce_node_allocatable = List(Some(vec!["pods".to_owned()]));
    }
}

fn logging(logging: &mut LoggingConfiguration) {
    text(&mut logging.format, "text");
    if logging.flush_frequency.duration == GoDuration::ZERO {
        logging.flush_frequency = GoDuration::from_secs(5).into();
    }
}
