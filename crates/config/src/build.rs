//! From a checked document and the node's own flags to the parts of a [`Config`].

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;
use model::Quantity;
use model::sysctl::with_dots;

use crate::codec::{Dict, GoDuration};
use crate::cpus::cpu_list;
use crate::credentials;
use crate::document::KubeletConfiguration;
use crate::eviction;
use crate::finding::{Finding, Findings};
use crate::flags::LocalFlags;
use crate::gates::FeatureGates;
use crate::label;
use crate::sections::{
    ApiClient, Authentication, Authorization, CgroupDriver, Config, ContainerLogs, DeadContainers, Detection,
    Eviction, Identity, ImageGc, ImageVerification, LogFormat, Logging, Node, Paths, Pods, Process,
    ReservedCgroup, Runtime, Server, Sources, Tls, TlsFiles, TlsVersion, Tracing,
};

/// Builds the parts. What a finding of severity error is about has some value or other in the
/// result: the caller drops the result when there is one.
pub(crate) fn build(
    document: KubeletConfiguration,
    local: &LocalFlags,
    gates: FeatureGates,
    findings: &mut Findings,
) -> Config {
    Config {
        identity: identity(&document, local, findings),
        paths: Paths {
            root: absolute("--root-dir", &local.root_dir, findings),
            certificates: absolute("--cert-dir", &local.cert_dir, findings),
            pod_logs: document.pod_logs_dir.clone().into(),
        },
        api: api(&document, local),
        runtime: runtime(&document, local, &gates, findings),
        sources: Sources {
            static_pod_path: path(&document.static_pod_path),
            file_check_interval: document.file_check_frequency.to_std(),
            static_pod_url: some(&document.static_pod_url),
            static_pod_url_headers: document.static_pod_url_header.clone(),
            http_check_interval: document.http_check_frequency.to_std(),
        },
        server: document.enable_server.unwrap_or(true).then(|| server(&document, findings)),
        healthz: healthz(&document, findings),
        node: node(&document, local, findings),
        pods: pods(&document, local, &gates, findings),
        container_logs: container_logs(&document, findings),
        logging: logging(&document, &gates),
        tracing: document.tracing.as_ref().map(|tracing| Tracing {
            endpoint: tracing.endpoint.clone(),
            samples_per_million: unsigned(tracing.sampling_rate_per_million.unwrap_or_default()),
        }),
        process: Process {
            oom_score_adj: document.oom_score_adj.unwrap_or_default(),
            max_open_files: u64::try_from(document.max_open_files).unwrap_or(0),
            record: path(&local.record),
            lock_file: path(&local.lock_file),
            exit_on_lock_contention: local.exit_on_lock_contention,
            protect_kernel_defaults: document.protect_kernel_defaults,
            cgroup: some(&document.kubelet_cgroups),
            system_cgroup: some(&document.system_cgroups),
        },
        dead_containers: DeadContainers {
            minimum_age: local.minimum_container_ttl_duration.to_std(),
            of_each: usize::try_from(local.maximum_dead_containers_per_container).ok(),
            in_all: usize::try_from(local.maximum_dead_containers).ok(),
        },
        gates,
        document: Box::new(document),
    }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn path(text: &str) -> Option<PathBuf> {
    some(text).map(PathBuf::from)
}

/// Reads an address as Go once did: numbers may start with zeros.
pub(crate) fn sloppy_ip(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let mut digits = Vec::new();
    for part in text.split('.') {
        if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let number = part.trim_start_matches('0');
        digits.push(if number.is_empty() { "0" } else { number });
    }
    digits.join(".").parse::<std::net::Ipv4Addr>().ok().map(IpAddr::from)
}

fn absolute(flag: &str, text: &str, findings: &mut Findings) -> PathBuf {
    std::path::absolute(text).unwrap_or_else(|error| {
        findings.push(Finding::error(flag, format!("cannot make {text:?} an absolute path: {error}")));
        text.into()
    })
}

fn unsigned(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

/// Validation has told of what is none.
fn percent(number: Option<i32>) -> u8 {
    number.and_then(|number| u8::try_from(number).ok()).unwrap_or(100)
}

fn port(number: i32) -> u16 {
    u16::try_from(number).unwrap_or(0)
}

/// An address, or the unspecified one and a finding.
fn ip(place: &str, text: &str, findings: &mut Findings) -> IpAddr {
    sloppy_ip(text).unwrap_or_else(|| {
        findings.push(Finding::error(place, format!("{text:?} is not an IP address")));
        IpAddr::from([0, 0, 0, 0])
    })
}

fn identity(document: &KubeletConfiguration, local: &LocalFlags, findings: &mut Findings) -> Identity {
    let external = match local.cloud_provider.as_str() {
        "" => false,
        "external" => true,
        other => {
            let message = format!("{other:?} is not supported, want \"external\" or nothing");
            findings.push(Finding::error("--cloud-provider", message));
            false
        }
    };
    Identity {
        hostname_override: some(&local.hostname_override),
        node_ips: node_ips(&local.node_ip, findings),
        external_cloud_provider: external,
        provider_id: some(&document.provider_id),
    }
}

/// One address, or one of each family. As upstream, what is no address is left out with a warning.
fn node_ips(text: &str, findings: &mut Findings) -> Vec<IpAddr> {
    let mut ips: Vec<IpAddr> = Vec::new();
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        match sloppy_ip(item) {
            Some(ip) => ips.push(ip),
            None => findings.push(Finding::warning(
                "--node-ip",
                format!("{item:?} is not an IP address and is left out"),
            )),
        }
    }
    let pair = matches!(ips.as_slice(), [first, second] if first.is_ipv4() != second.is_ipv4());
    let unspecified = ips.iter().any(IpAddr::is_unspecified);
    if ips.len() > 1 && (!pair || unspecified) {
        let message = format!("{text:?} must be a single address or one address of each family");
        findings.push(Finding::error("--node-ip", message));
    }
    ips
}

fn api(document: &KubeletConfiguration, local: &LocalFlags) -> ApiClient {
    ApiClient {
        kubeconfig: path(&local.kubeconfig),
        bootstrap_kubeconfig: path(&local.bootstrap_kubeconfig),
        rotate_certificates: document.rotate_certificates,
        queries_per_second: unsigned(document.kube_api_qps.unwrap_or_default()),
        burst: unsigned(document.kube_api_burst),
        events_per_second: unsigned(document.event_record_qps.unwrap_or_default()),
        event_burst: unsigned(document.event_burst),
    }
}

fn runtime(
    document: &KubeletConfiguration,
    local: &LocalFlags,
    gates: &FeatureGates,
    findings: &mut Findings,
) -> Runtime {
    let endpoint = document.container_runtime_endpoint.clone();
    if endpoint.is_empty() {
        findings.push(Finding::error("containerRuntimeEndpoint", "was not specified or empty"));
    }
    let credential_providers = credentials::load(
        &local.image_credential_provider_config,
        &local.image_credential_provider_bin_dir,
        gates,
        findings,
    );
    Runtime {
        image_endpoint: some(&document.image_service_endpoint).unwrap_or_else(|| endpoint.clone()),
        endpoint,
        request_timeout: document.runtime_request_timeout.to_std(),
        cgroup: some(&local.runtime_cgroups),
        credential_providers: credential_providers.providers,
        credential_providers_digest: credential_providers.digest,
        credential_provider_bin: path(&local.image_credential_provider_bin_dir),
    }
}

fn server(document: &KubeletConfiguration, findings: &mut Findings) -> Server {
    let address = ip("address", &document.address, findings);
    let (authentication, authorization) = (&document.authentication, &document.authorization);
    Server {
        address: SocketAddr::new(address, port(document.port)),
        read_only: (document.read_only_port > 0)
            .then(|| SocketAddr::new(address, port(document.read_only_port))),
        tls: tls(document, findings),
        authentication: Authentication {
            anonymous: authentication.anonymous.enabled.unwrap_or(false),
            webhook: authentication
                .webhook
                .enabled
                .unwrap_or(false)
                .then(|| authentication.webhook.cache_ttl.to_std()),
            client_ca: path(&authentication.x509.client_ca_file),
        },
        authorization: match authorization.mode.as_str() {
            "AlwaysAllow" => Authorization::AlwaysAllow,
            _ => Authorization::Webhook {
                authorized_ttl: authorization.webhook.cache_authorized_ttl.to_std(),
                unauthorized_ttl: authorization.webhook.cache_unauthorized_ttl.to_std(),
            },
        },
        debugging_handlers: document.enable_debugging_handlers.unwrap_or(true),
        profiling_handler: document.enable_profiling_handler.unwrap_or(true),
        debug_flags_handler: document.enable_debug_flags_handler.unwrap_or(true),
        system_log_handler: document.enable_system_log_handler.unwrap_or(true),
        system_log_query: document.enable_system_log_query.unwrap_or(false),
        streaming_idle_timeout: document.streaming_connection_idle_timeout.to_std(),
    }
}

fn tls(document: &KubeletConfiguration, findings: &mut Findings) -> Tls {
    let min_version = match document.tls_min_version.as_str() {
        "" | "VersionTLS12" => TlsVersion::V1_2,
        "VersionTLS13" => TlsVersion::V1_3,
        old @ ("VersionTLS10" | "VersionTLS11") => {
            let message = format!("{old} is not spoken any more; the oldest version is TLS 1.2");
            findings.push(Finding::warning("tlsMinVersion", message));
            if old == "VersionTLS10" { TlsVersion::V1_0 } else { TlsVersion::V1_1 }
        }
        other => {
            let message = format!("unknown tls version {other:?}");
            findings.push(Finding::error("tlsMinVersion", message).hint("want VersionTLS12 or VersionTLS13"));
            TlsVersion::V1_2
        }
    };
    let files = match (path(&document.tls_cert_file), path(&document.tls_private_key_file)) {
        (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
        // Half a pair counts as none, as upstream has it.
        (Some(_), None) | (None, Some(_)) => {
            let message = "is used together with tlsPrivateKeyFile only; a self-signed certificate is made";
            findings.push(Finding::warning("tlsCertFile", message));
            None
        }
        (None, None) => None,
    };
    Tls {
        files,
        bootstrap: document.server_tls_bootstrap,
        min_version,
        cipher_suites: document.tls_cipher_suites.items().to_vec(),
        key_exchange_groups: key_exchange_groups(document, findings),
    }
}

/// The key exchange groups the server's TLS has, of those the document may name: P-256, P-384 and X25519.
const KEY_EXCHANGE_GROUPS: [u16; 3] = [23, 24, 29];

/// What is asked for as a restriction must not end in the usual choice, so that there has to be one of them.
fn key_exchange_groups(document: &KubeletConfiguration, findings: &mut Findings) -> Vec<u16> {
    let numbers = document.tls_curve_preferences.items().iter();
    let groups: Vec<u16> = numbers.filter_map(|number| u16::try_from(*number).ok()).collect();
    for (index, group) in groups.iter().enumerate() {
        if !KEY_EXCHANGE_GROUPS.contains(group) {
            let message = format!("key exchange group {group} is not implemented yet and is left out");
            findings.push(Finding::warning(format!("tlsCurvePreferences[{index}]"), message));
        }
    }
    if !groups.is_empty() && !groups.iter().any(|group| KEY_EXCHANGE_GROUPS.contains(group)) {
        let message = "none of these key exchange groups is implemented yet";
        findings.push(Finding::error("tlsCurvePreferences", message).hint("add 23, 24 or 29"));
    }
    groups
}

fn healthz(document: &KubeletConfiguration, findings: &mut Findings) -> Option<SocketAddr> {
    let number = document.healthz_port.filter(|number| *number > 0)?;
    let text = document.healthz_bind_address.as_str();
    let address = match text {
        // The one name that needs no resolver.
        "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
        text => sloppy_ip(text),
    };
    if address.is_none() {
        // As upstream, which says so every few seconds and serves everything else.
        let message = format!("{text:?} is not an IP address: healthz is not served");
        findings.push(Finding::warning("healthzBindAddress", message));
    }
    Some(SocketAddr::new(address?, port(number)))
}

fn node(document: &KubeletConfiguration, local: &LocalFlags, findings: &mut Findings) -> Node {
    let mut system_reserved = reserved("systemReserved", &document.system_reserved, findings);
    let mut kube_reserved = reserved("kubeReserved", &document.kube_reserved, findings);
    // A list that cannot be read has been told of.
    let reserved_cpus = cpu_list(&document.reserved_system_cpus).unwrap_or_default();
    if !reserved_cpus.is_empty() {
        // They take the place of any other amount, as upstream.
        let count = i64::try_from(reserved_cpus.len()).unwrap_or(i64::MAX);
        system_reserved.insert("cpu".to_owned(), Quantity::from_units(count));
        kube_reserved.remove("cpu");
    }
    let images = document.node_status_max_images.unwrap_or(-1);
    Node {
        register: document.register_node.unwrap_or(true),
        labels: labels(&local.node_labels, findings),
        taints: taints(document),
        status_update_interval: document.node_status_update_frequency.to_std(),
        status_report_interval: document.node_status_report_frequency.to_std(),
        lease_duration: Duration::from_secs(u64::from(unsigned(document.node_lease_duration_seconds))),
        status_max_images: usize::try_from(images).ok(),
        max_pods: unsigned(document.max_pods),
        pods_per_core: unsigned(document.pods_per_core),
        pod_cidr: some(&document.pod_cidr),
        system_reserved,
        kube_reserved,
        reserved_cpus,
        enforce_pods: enforces(document, "pods"),
        system_reserved_cgroup: reserved_cgroup(
            document,
            "system-reserved",
            &document.system_reserved_cgroup,
        ),
        kube_reserved_cgroup: reserved_cgroup(document, "kube-reserved", &document.kube_reserved_cgroup),
        eviction: Eviction {
            thresholds: eviction::thresholds(document, findings),
            is_allocatable: local.experimental_allocatable_ignore_eviction,
            pressure_transition: document.eviction_pressure_transition_period.to_std(),
            max_pod_grace_seconds: unsigned(document.eviction_max_pod_grace_period),
        },
        image_gc: ImageGc {
            high_percent: percent(document.image_gc_high_threshold_percent),
            low_percent: percent(document.image_gc_low_threshold_percent),
            minimum_age: document.image_minimum_gc_age.to_std(),
            maximum_age: Some(document.image_maximum_gc_age.to_std()).filter(|age| !age.is_zero()),
        },
        controller_attaches: document.enable_controller_attach_detach.unwrap_or(true),
        local_storage_isolation: document.local_storage_capacity_isolation.unwrap_or(true),
    }
}

fn labels(labels: &Dict<String>, findings: &mut Findings) -> BTreeMap<String, String> {
    for (key, value) in labels.iter() {
        let problem = label::key_problem(key).or_else(|| label::value_problem(value));
        if let Some(reason) = problem {
            findings.push(Finding::error("--node-labels", format!("{key}={value}: {reason}")));
        } else if !label::is_allowed(key) {
            let message = format!("unknown 'kubernetes.io' or 'k8s.io' label {key}");
            findings.push(Finding::error("--node-labels", message).hint(
                "a node may give itself labels below kubelet.kubernetes.io and node.kubernetes.io, and a few well-known ones",
            ));
        }
    }
    labels.0.clone().unwrap_or_default()
}

fn taints(document: &KubeletConfiguration) -> Vec<Taint> {
    let convert = |taint: &crate::document::Taint| Taint {
        key: taint.key.clone(),
        value: some(&taint.value),
        effect: taint.effect.clone(),
        time_added: None,
    };
    document.register_with_taints.items().iter().map(convert).collect()
}

fn enforces(document: &KubeletConfiguration, key: &str) -> bool {
    document.enforce_node_allocatable.items().iter().any(|item| item == key)
}

fn reserved_cgroup(document: &KubeletConfiguration, key: &str, name: &str) -> Option<ReservedCgroup> {
    let is_compressible_only = enforces(document, &format!("{key}-compressible"));
    let is_enforced = is_compressible_only || enforces(document, key);
    is_enforced.then(|| ReservedCgroup { name: name.to_owned(), is_compressible_only })
}

fn reserved(place: &str, amounts: &Dict<String>, findings: &mut Findings) -> BTreeMap<String, Quantity> {
    let mut all = BTreeMap::new();
    for (name, text) in amounts.iter() {
        let message = match text.parse::<Quantity>() {
            _ if !matches!(name, "cpu" | "memory" | "ephemeral-storage" | "pid") => {
                format!("cannot reserve {name:?} resource, want cpu, memory, ephemeral-storage or pid")
            }
            Err(error) => error.to_string(),
            Ok(amount) if amount < Quantity::ZERO => {
                format!("resource quantity for {name:?} cannot be negative: {text}")
            }
            Ok(amount) => {
                all.insert(name.to_owned(), amount);
                continue;
            }
        };
        findings.push(Finding::error(format!("{place}[{name}]"), message));
    }
    all
}

fn image_verification(document: &KubeletConfiguration) -> ImageVerification {
    match document.image_pull_credentials_verification_policy.as_str() {
        "NeverVerify" => ImageVerification::Never,
        "NeverVerifyAllowlistedImages" => {
            ImageVerification::Unlisted(document.preloaded_images_verification_allowlist.items().to_vec())
        }
        "AlwaysVerify" => ImageVerification::Always,
        _ => ImageVerification::Pulled,
    }
}

/// How many ids there are in an ordinary namespace.
const IDS_PER_USER_NAMESPACE: u32 = 1 << 16;

fn pods(
    document: &KubeletConfiguration,
    local: &LocalFlags,
    gates: &FeatureGates,
    findings: &mut Findings,
) -> Pods {
    let parallel = match (document.serialize_image_pulls, document.max_parallel_image_pulls) {
        (Some(true), _) => Some(1),
        (_, limit) => limit.map(unsigned),
    };
    let quota = document.cpu_cfs_quota.unwrap_or(true);
    // As upstream the longest wait is the reduced one only where no other can be set: the document has a default.
    let is_reduced = gates.enabled("ReduceDefaultCrashLoopBackOffDecay");
    let (initial, max) = if is_reduced { (1, 60) } else { (10, 300) };
    let volume_stats = document.volume_stats_agg_period;
    Pods {
        sync_interval: document.sync_frequency.to_std(),
        detection: match document.config_map_and_secret_change_detection_strategy.as_str() {
            "Get" => Detection::Get,
            "Cache" => Detection::Cache,
            _ => Detection::Watch,
        },
        crash_loop_initial: Duration::from_secs(initial),
        crash_loop_max: document
            .crash_loop_back_off
            .max_container_restart_period
            .map_or(Duration::from_secs(max), GoDuration::to_std),
        cluster_dns: cluster_dns(document, findings),
        cluster_domain: document.cluster_domain.clone(),
        resolv_conf: document.resolv_conf.as_deref().and_then(path),
        parallel_pulls: parallel,
        pulls_per_second: unsigned(document.registry_pull_qps.unwrap_or_default()),
        pull_burst: unsigned(document.registry_burst),
        image_verification: gates
            .enabled("KubeletEnsureSecretPulledImages")
            .then(|| image_verification(document)),
        cgroup_root: document.cgroup_root.clone(),
        cgroups_per_qos: document.cgroups_per_qos.unwrap_or(true),
        cgroup_driver: match document.cgroup_driver.as_str() {
            "systemd" => CgroupDriver::Systemd,
            _ => CgroupDriver::Cgroupfs,
        },
        single_process_oom_kill: document.single_process_oom_kill,
        fail_swap_on: document.fail_swap_on.unwrap_or(true),
        may_swap: document.memory_swap.swap_behavior == "LimitedSwap",
        memory_throttling_factor: document.memory_throttling_factor,
        reserves_memory: document.memory_reservation_policy == "TieredReservation",
        qos_reserved_memory_percent: qos_reserved(document).filter(|_| gates.enabled("QOSReserved")),
        fail_cgroup_v1: document.fail_cgroup_v1.unwrap_or(true),
        seccomp_default: local.seccomp_default || document.seccomp_default.unwrap_or(false),
        cpu_cfs_quota_period: document.cpu_cfs_quota_period.filter(|_| quota).map(GoDuration::to_std),
        pids_limit: document.pod_pids_limit.and_then(|limit| u64::try_from(limit).ok()),
        volume_stats_interval: (volume_stats > GoDuration::ZERO).then(|| volume_stats.to_std()),
        allowed_unsafe_sysctls: document.allowed_unsafe_sysctls.items().to_vec(),
        ids_per_user_namespace: document
            .user_namespaces
            .as_ref()
            .and_then(|settings| settings.ids_per_pod)
            .and_then(|ids| u32::try_from(ids).ok())
            .unwrap_or(IDS_PER_USER_NAMESPACE),
        default_sysctls: document
            .default_pod_sysctls
            .iter()
            .map(|(name, value)| (with_dots(name), value.clone()))
            .collect(),
        iptables_chains: document.make_iptables_util_chains.unwrap_or(true),
    }
}

/// Only memory can be held back. A percentage that cannot be read has been told of.
fn qos_reserved(document: &KubeletConfiguration) -> Option<u8> {
    let text = document.qos_reserved.iter().find_map(|(name, text)| (name == "memory").then_some(text))?;
    text.trim_end_matches('%').parse().ok()
}

/// As upstream, what is no address is left out with a warning.
fn cluster_dns(document: &KubeletConfiguration, findings: &mut Findings) -> Vec<IpAddr> {
    let mut servers = Vec::new();
    for (index, text) in document.cluster_dns.items().iter().enumerate() {
        match sloppy_ip(text) {
            Some(ip) => servers.push(ip),
            None => {
                let message = format!("{text:?} is not an IP address and is left out");
                findings.push(Finding::warning(format!("clusterDNS[{index}]"), message));
            }
        }
    }
    servers
}

fn container_logs(document: &KubeletConfiguration, findings: &mut Findings) -> ContainerLogs {
    let max_bytes = match document.container_log_max_size.parse::<Quantity>() {
        Ok(size) if Quantity::from_units(size.units()) != size => {
            findings.push(Finding::error("containerLogMaxSize", "must be a whole number of bytes"));
            None
        }
        Ok(size) => u64::try_from(size.units()).ok(),
        Err(error) => {
            findings.push(Finding::error("containerLogMaxSize", error.to_string()));
            None
        }
    };
    ContainerLogs {
        max_bytes,
        max_files: unsigned(document.container_log_max_files.unwrap_or_default()),
        workers: unsigned(document.container_log_max_workers.unwrap_or_default()),
        check_interval: document.container_log_monitor_interval.unwrap_or_default().to_std(),
    }
}

fn logging(document: &KubeletConfiguration, gates: &FeatureGates) -> Logging {
    let logging = &document.logging;
    let is_json = logging.format == "json";
    let options = if is_json { &logging.options.json } else { &logging.options.text };
    let buffer = options.info_buffer_size.0.parse::<Quantity>().map_or(0, Quantity::units);
    Logging {
        format: if is_json { LogFormat::Json } else { LogFormat::Text },
        verbosity: logging.verbosity,
        modules: logging.vmodule.items().iter().map(|m| (m.file_pattern.clone(), m.verbosity)).collect(),
        is_contextual: gates.enabled("ContextualLogging"),
        split_stream: options.split_stream,
        info_buffer_bytes: u64::try_from(buffer).unwrap_or(0),
        flush_interval: logging.flush_frequency.duration.to_std(),
    }
}
