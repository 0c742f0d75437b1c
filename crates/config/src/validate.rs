//! Rules about single fields and pairs of fields, the same as upstream's. Fields that become
//! something typed (addresses, thresholds, labels) are checked where they become it, in `build`.

use crate::document::KubeletConfiguration;
use crate::duration::GoDuration;
use crate::finding::{Finding, Findings};
use crate::gates::FeatureGates;

mod compute;
mod names;

/// The highest verbosity there is.
const MOST_VERBOSE: u32 = i32::MAX.unsigned_abs();

/// Checks a document whose defaults are filled in.
pub(crate) fn check(document: &KubeletConfiguration, gates: &FeatureGates, findings: &mut Findings) {
    numbers(document, gates, findings);
    images(document, gates, findings);
    logs(document, findings);
    logging(document, gates, findings);
    shutdown(document, gates, findings);
    crash_loop(document, gates, findings);
    enforcement(document, findings);
    policies(document, gates, findings);
    resources(document, gates, findings);
    taints(document, findings);
    compute::check(document, gates, findings);
    names::check(document, gates, findings);
}

fn error(findings: &mut Findings, path: &str, message: impl Into<String>) {
    findings.push(Finding::error(path, message));
}

fn not_negative(findings: &mut Findings, path: &str, value: i64) {
    if value < 0 {
        error(findings, path, format!("{value} must not be a negative number"));
    }
}

fn within(findings: &mut Findings, path: &str, value: i64, low: i64, high: i64) {
    if !(low..=high).contains(&value) {
        error(findings, path, format!("{value} must be between {low} and {high}, inclusive"));
    }
}

fn one_of(findings: &mut Findings, path: &str, value: &str, allowed: &[&str]) {
    if !allowed.contains(&value) {
        error(findings, path, format!("{value:?} must be one of {allowed:?}"));
    }
}

fn numbers(document: &KubeletConfiguration, gates: &FeatureGates, findings: &mut Findings) {
    if document.node_lease_duration_seconds <= 0 {
        error(findings, "nodeLeaseDurationSeconds", "must be greater than 0");
    }
    for (path, value) in [
        ("eventBurst", document.event_burst),
        ("eventRecordQPS", document.event_record_qps.unwrap_or_default()),
        ("kubeAPIBurst", document.kube_api_burst),
        ("kubeAPIQPS", document.kube_api_qps.unwrap_or_default()),
        ("maxPods", document.max_pods),
        ("podsPerCore", document.pods_per_core),
        ("registryBurst", document.registry_burst),
        ("registryPullQPS", document.registry_pull_qps.unwrap_or_default()),
    ] {
        not_negative(findings, path, i64::from(value));
    }
    not_negative(findings, "maxOpenFiles", document.max_open_files);
    within(findings, "port", i64::from(document.port), 1, 65_535);
    within(findings, "readOnlyPort", i64::from(document.read_only_port), 0, 65_535);
    for (path, value, low, high) in [
        ("healthzPort", document.healthz_port, 0, 65_535),
        ("oomScoreAdj", document.oom_score_adj, -1000, 1000),
        ("iptablesDropBit", document.iptables_drop_bit, 0, 31),
        ("iptablesMasqueradeBit", document.iptables_masquerade_bit, 0, 31),
    ] {
        within(findings, path, i64::from(value.unwrap_or_default()), low, high);
    }
    if let Some(images) = document.node_status_max_images.filter(|images| *images < -1) {
        error(findings, "nodeStatusMaxImages", format!("{images} must be -1 or greater"));
    }
    let period = document.cpu_cfs_quota_period.unwrap_or_default();
    if !gates.enabled("CustomCPUCFSQuotaPeriod") {
        if period != GoDuration::from_millis(100) {
            error(
                findings,
                "cpuCFSQuotaPeriod",
                format!("{period} requires feature gate CustomCPUCFSQuotaPeriod"),
            );
        }
    } else if !(GoDuration::from_millis(1)..=GoDuration::from_secs(1)).contains(&period) {
        error(findings, "cpuCFSQuotaPeriod", format!("{period} must be between 1ms and 1sec, inclusive"));
    }
    if document.run_once {
        error(findings, "runOnce", "has no effect any more and must not be set");
    }
}

fn images(document: &KubeletConfiguration, gates: &FeatureGates, findings: &mut Findings) {
    let high = i64::from(document.image_gc_high_threshold_percent.unwrap_or_default());
    let low = i64::from(document.image_gc_low_threshold_percent.unwrap_or_default());
    within(findings, "imageGCHighThresholdPercent", high, 0, 100);
    within(findings, "imageGCLowThresholdPercent", low, 0, 100);
    if low >= high {
        let message = format!("{low} must be less than imageGCHighThresholdPercent {high}");
        error(findings, "imageGCLowThresholdPercent", message);
    }
    let (minimum, maximum) = (document.image_minimum_gc_age, document.image_maximum_gc_age);
    if maximum != GoDuration::ZERO && !gates.enabled("ImageMaximumGCAge") {
        error(findings, "imageMaximumGCAge", "requires feature gate ImageMaximumGCAge");
    }
    for (path, age) in [("imageMinimumGCAge", minimum), ("imageMaximumGCAge", maximum)] {
        if age < GoDuration::ZERO {
            error(findings, path, format!("{age} must not be negative"));
        }
    }
    if maximum > GoDuration::ZERO && maximum <= minimum {
        let message = format!("{maximum} must be greater than imageMinimumGCAge {minimum}");
        error(findings, "imageMaximumGCAge", message);
    }
    if let Some(limit) = document.max_parallel_image_pulls {
        if limit < 1 {
            error(findings, "maxParallelImagePulls", format!("{limit} must be a positive number"));
        }
        if limit > 1 && document.serialize_image_pulls == Some(true) {
            let message = "cannot be larger than 1 unless serializeImagePulls is set to false";
            error(findings, "maxParallelImagePulls", message);
        }
    }
}

fn logs(document: &KubeletConfiguration, findings: &mut Findings) {
    if document.container_log_max_files.unwrap_or_default() <= 1 {
        error(findings, "containerLogMaxFiles", "must be greater than 1");
    }
    if document.container_log_max_workers.unwrap_or_default() < 1 {
        error(findings, "containerLogMaxWorkers", "must be greater than or equal to 1");
    }
    if document.container_log_monitor_interval.unwrap_or_default() < GoDuration::from_secs(3) {
        error(findings, "containerLogMonitorInterval", "must be greater than or equal to 3s");
    }
    let path = document.pod_logs_dir.as_str();
    if !path.starts_with('/') {
        error(findings, "podLogsDir", format!("{path:?} must be an absolute path"));
    } else if path.len() > 1 && path[1..].split('/').any(|part| matches!(part, "" | "." | "..")) {
        error(findings, "podLogsDir", format!("{path:?} must be normalized"));
    }
    if !path.is_ascii() {
        // It is a label of a metric.
        error(findings, "podLogsDir", format!("{path:?} must contain ASCII characters only"));
    }
}

fn logging(document: &KubeletConfiguration, gates: &FeatureGates, findings: &mut Findings) {
    one_of(findings, "logging.format", &document.logging.format, &["text", "json"]);
    if document.logging.format == "json" && !gates.enabled("LoggingBetaOptions") {
        error(findings, "logging.format", "log format json requires feature gate LoggingBetaOptions");
    }
    if document.logging.flush_frequency.duration <= GoDuration::ZERO {
        error(findings, "logging.flushFrequency", "must be greater than zero");
    }
    if document.logging.verbosity > MOST_VERBOSE {
        error(findings, "logging.verbosity", format!("must be at most {MOST_VERBOSE}"));
    }
    let options = &document.logging.options;
    for (form, options) in [("text", &options.text), ("json", &options.json)] {
        let buffers = !matches!(options.info_buffer_size.0.as_str(), "" | "0");
        for (field, is_set) in [("splitStream", options.split_stream), ("infoBufferSize", buffers)] {
            if is_set && !gates.enabled("LoggingAlphaOptions") {
                let path = format!("logging.options.{form}.{field}");
                error(findings, &path, "requires feature gate LoggingAlphaOptions");
            }
        }
    }
    let modules = document.logging.vmodule.items();
    if document.logging.format != "text" && !modules.is_empty() {
        error(findings, "logging.vmodule", "only supported for text log format");
    }
    for (index, module) in modules.iter().enumerate() {
        let path = format!("logging.vmodule[{index}].filePattern");
        if module.file_pattern.is_empty() {
            error(findings, &path, "file pattern is empty");
        } else if module.file_pattern.contains(['=', ',']) {
            error(findings, &path, "file pattern must not contain equal sign or comma");
        }
        if module.verbosity > MOST_VERBOSE {
            let path = format!("logging.vmodule[{index}].verbosity");
            error(findings, &path, format!("must be at most {MOST_VERBOSE}"));
        }
    }
}

fn shutdown(document: &KubeletConfiguration, gates: &FeatureGates, findings: &mut Findings) {
    let (total, critical) = (document.shutdown_grace_period, document.shutdown_grace_period_critical_pods);
    let by_priority = !document.shutdown_grace_period_by_pod_priority.items().is_empty();
    if gates.enabled("GracefulNodeShutdown") {
        if critical > total {
            let message = format!("{critical} must be <= shutdownGracePeriod {total}");
            error(findings, "shutdownGracePeriodCriticalPods", message);
        }
        for (path, period) in [("shutdownGracePeriod", total), ("shutdownGracePeriodCriticalPods", critical)]
        {
            if period != GoDuration::ZERO && period < GoDuration::from_secs(1) {
                error(findings, path, format!("{period} must be either zero or otherwise >= 1 sec"));
            }
        }
    } else if total > GoDuration::ZERO || critical > GoDuration::ZERO {
        error(findings, "shutdownGracePeriod", "requires feature gate GracefulNodeShutdown");
    }
    let path = "shutdownGracePeriodByPodPriority";
    if by_priority && !gates.enabled("GracefulNodeShutdownBasedOnPodPriority") {
        error(findings, path, "requires feature gate GracefulNodeShutdownBasedOnPodPriority");
    } else if by_priority && (total > GoDuration::ZERO || critical > GoDuration::ZERO) {
        error(findings, path, "cannot be set together with shutdownGracePeriod");
    }
}

fn crash_loop(document: &KubeletConfiguration, gates: &FeatureGates, findings: &mut Findings) {
    let path = "crashLoopBackOff.maxContainerRestartPeriod";
    let Some(period) = document.crash_loop_back_off.max_container_restart_period else { return };
    if !gates.enabled("KubeletCrashLoopBackOffMax") {
        error(findings, path, "must not be set while feature gate KubeletCrashLoopBackOffMax is off");
    } else if !(GoDuration::from_secs(1)..=GoDuration::from_secs(300)).contains(&period) {
        error(findings, path, format!("{period} must be set between 1s and 300s"));
    }
}

fn enforcement(document: &KubeletConfiguration, findings: &mut Findings) {
    const PATH: &str = "enforceNodeAllocatable";
    let list = document.enforce_node_allocatable.items();
    let has = |key: &str| list.iter().any(|item| item == key);
    for (whole, part) in
        [("system-reserved", "system-reserved-compressible"), ("kube-reserved", "kube-reserved-compressible")]
    {
        if has(whole) && has(part) {
            error(findings, PATH, format!("both {whole:?} and {part:?} cannot be specified together"));
        }
    }
    for (index, key) in list.iter().enumerate() {
        if list[..index].contains(key) {
            error(findings, PATH, format!("duplicated enforcements {key:?}"));
            continue;
        }
        let cgroup = match key.as_str() {
            "pods" => None,
            "system-reserved" | "system-reserved-compressible" => {
                Some(("systemReservedCgroup", &document.system_reserved_cgroup))
            }
            "kube-reserved" | "kube-reserved-compressible" => {
                Some(("kubeReservedCgroup", &document.kube_reserved_cgroup))
            }
            "none" => {
                if list.len() > 1 {
                    error(findings, PATH, "may not contain additional enforcements beside \"none\"");
                }
                continue;
            }
            _ => {
                let known = "pods, system-reserved, system-reserved-compressible, kube-reserved, \
                             kube-reserved-compressible or none";
                error(findings, PATH, format!("{key:?} is not a valid option, want {known}"));
                continue;
            }
        };
        if let Some((path, _)) = cgroup.filter(|(_, name)| name.is_empty()) {
            error(findings, path, format!("must be specified when {key:?} is in {PATH}"));
        }
        if document.cgroups_per_qos != Some(true) {
            error(findings, "cgroupsPerQOS", format!("must be true when {key:?} is in {PATH}"));
        }
    }
}

fn policies(document: &KubeletConfiguration, gates: &FeatureGates, findings: &mut Findings) {
    for (path, value, allowed) in [
        ("authorization.mode", &document.authorization.mode, &["AlwaysAllow", "Webhook"][..]),
        ("cpuManagerPolicy", &document.cpu_manager_policy, &["none", "static"]),
        ("memoryManagerPolicy", &document.memory_manager_policy, &["None", "Static"]),
        (
            "topologyManagerPolicy",
            &document.topology_manager_policy,
            &["none", "best-effort", "restricted", "single-numa-node"],
        ),
        ("topologyManagerScope", &document.topology_manager_scope, &["container", "pod"]),
        ("hairpinMode", &document.hairpin_mode, &["promiscuous-bridge", "hairpin-veth", "none"]),
        ("memorySwap.swapBehavior", &document.memory_swap.swap_behavior, &["", "NoSwap", "LimitedSwap"]),
        ("memoryReservationPolicy", &document.memory_reservation_policy, &["None", "TieredReservation"]),
        (
            "configMapAndSecretChangeDetectionStrategy",
            &document.config_map_and_secret_change_detection_strategy,
            &["Get", "Cache", "Watch"],
        ),
    ] {
        one_of(findings, path, value, allowed);
    }
    let path = "imagePullCredentialsVerificationPolicy";
    let (policy, list) = (
        document.image_pull_credentials_verification_policy.as_str(),
        document.preloaded_images_verification_allowlist.items(),
    );
    if gates.enabled("KubeletEnsureSecretPulledImages") {
        let allowed =
            ["NeverVerify", "NeverVerifyPreloadedImages", "NeverVerifyAllowlistedImages", "AlwaysVerify"];
        one_of(findings, path, policy, &allowed);
    } else if !policy.is_empty() {
        error(findings, path, "must not be set if feature gate KubeletEnsureSecretPulledImages is off");
    }
    if !list.is_empty() && policy != "NeverVerifyAllowlistedImages" {
        let message = format!("cannot be set unless {path} is NeverVerifyAllowlistedImages");
        error(findings, "preloadedImagesVerificationAllowlist", message);
    }
    if document.enable_system_log_query == Some(true) && !gates.enabled("NodeLogQuery") {
        error(findings, "enableSystemLogQuery", "requires feature gate NodeLogQuery");
    }
    // As upstream: which driver there is, a runtime usually says itself, and what it says counts.
    if !matches!(document.cgroup_driver.as_str(), "cgroupfs" | "systemd") {
        let message = format!("{:?} is no cgroup driver, cgroupfs is taken", document.cgroup_driver);
        findings.push(Finding::warning("cgroupDriver", message));
    }
    if document.enable_system_log_query == Some(true) && document.enable_system_log_handler != Some(true) {
        error(findings, "enableSystemLogHandler", "is required for enableSystemLogQuery");
    }
}

fn resources(document: &KubeletConfiguration, gates: &FeatureGates, findings: &mut Findings) {
    if !document.system_cgroups.is_empty() && document.cgroup_root.is_empty() {
        error(findings, "systemCgroups", "was specified and cgroupRoot was not specified");
    }
    if document.server_tls_bootstrap && !gates.enabled("RotateKubeletServerCertificate") {
        error(findings, "serverTLSBootstrap", "requires feature gate RotateKubeletServerCertificate");
    }
    let has_cgroup = !document.system_reserved_cgroup.is_empty() || !document.kube_reserved_cgroup.is_empty();
    if has_cgroup && !document.reserved_system_cpus.is_empty() {
        let message = "cannot be used with systemReservedCgroup or kubeReservedCgroup";
        error(findings, "reservedSystemCPUs", message);
    }
    let (own, reserved) = (&document.kubelet_cgroups, &document.kube_reserved_cgroup);
    if !own.is_empty() && !reserved.is_empty() && !own.starts_with(reserved.as_str()) {
        let message =
            format!("{own:?} is not within kubeReservedCgroup {reserved:?}, which is not supported");
        findings.push(Finding::warning("kubeletCgroups", message));
    }
    if let Some(factor) = document.memory_throttling_factor {
        // 0.9 was the default before v1.37, so that files still carry it.
        if !gates.enabled("MemoryQoS") && (factor - 0.9).abs() > f64::EPSILON {
            error(findings, "memoryThrottlingFactor", "must not be set when feature gate MemoryQoS is off");
        }
        if factor <= 0.0 || factor > 1.0 {
            let message = format!("{factor} must be greater than 0 and less than or equal to 1.0");
            error(findings, "memoryThrottlingFactor", message);
        }
    }
    if !gates.enabled("MemoryQoS") && document.memory_reservation_policy == "TieredReservation" {
        error(findings, "memoryReservationPolicy", "requires feature gate MemoryQoS");
    }
    if let Some(ids) = document.user_namespaces.as_ref().and_then(|settings| settings.ids_per_pod) {
        let path = "userNamespaces.idsPerPod";
        if ids < 65_536 {
            error(findings, path, "must not be less than 65536");
        } else if ids % 65_536 != 0 {
            error(findings, path, "must be a multiple of 65536");
        } else if ids > i64::from(u32::MAX) {
            error(findings, path, format!("must not be more than {}", u32::MAX));
        }
    }
    if let Some(rate) = document.tracing.as_ref().and_then(|tracing| tracing.sampling_rate_per_million) {
        within(findings, "tracing.samplingRatePerMillion", i64::from(rate), 0, 1_000_000);
    }
}

fn taints(document: &KubeletConfiguration, findings: &mut Findings) {
    for (index, taint) in document.register_with_taints.items().iter().enumerate() {
        let path = format!("registerWithTaints[{index}]");
        if let Some(reason) = crate::label::key_problem(&taint.key) {
            error(findings, &path, format!("invalid taint key {:?}: {reason}", taint.key));
        }
        if let Some(reason) = crate::label::value_problem(&taint.value) {
            error(findings, &path, format!("invalid taint value {:?}: {reason}", taint.value));
        }
        if taint.time_added.is_some() {
            error(findings, &format!("{path}.timeAdded"), "must not be set");
        }
        // As upstream, a taint may lack an effect.
        if !taint.effect.is_empty() {
            let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
            one_of(findings, &format!("{path}.effect"), &taint.effect, &effects);
        }
    }
}
