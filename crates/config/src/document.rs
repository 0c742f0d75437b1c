//! The document as it is written: one struct per object of `kubelet.config.k8s.io/v1beta1`, with
//! the types Go gives the fields, so that "unset" means here what it means upstream. A plain
//! number, text or switch is unset when it is zero; an `Option` is unset when absent.
//!
//! Nothing here is validated beyond its type. The rest of the program uses
//! [`Config`](crate::Config) instead, except `/configz`, which shows this.

use crate::codec::{Dict, GoDuration, Headers, List, QuantityText, TextOrNanos, document};

document! {
    /// The document `kubelet.config.k8s.io/v1beta1` `KubeletConfiguration`.
    pub struct KubeletConfiguration {
        /// Serve the HTTPS API (default true).
        pub enable_server: Option<bool> = "enableServer",
        /// File or directory watched for static pod manifests; dot files ignored (relative path in the config
        /// file resolved against that file's directory).
        pub static_pod_path: String = "staticPodPath",
        /// Root of pod log tree (default /var/log/pods; must be absolute, cleaned, ASCII).
        pub pod_logs_dir: String = "podLogsDir",
        /// Longest interval between full pod resyncs (default 1m0s).
        pub sync_frequency: GoDuration = "syncFrequency",
        /// Poll interval of staticPodPath (default 20s).
        pub file_check_frequency: GoDuration = "fileCheckFrequency",
        /// Poll interval of staticPodURL (default 20s).
        pub http_check_frequency: GoDuration = "httpCheckFrequency",
        /// URL that returns a Pod or PodList.
        pub static_pod_url: String = "staticPodURL",
        /// HTTP headers sent to staticPodURL (values masked in the start-up log of the configuration).
        pub static_pod_url_header: Headers = "staticPodURLHeader",
        /// Bind IP of main and read-only servers (default 0.0.0.0).
        pub address: String = "address",
        /// HTTPS port (default 10250; 1..65535).
        pub port: i32 = "port",
        /// Plain HTTP read-only port, 0 disables; legacy flag default is 10255 (default 0; 0..65535).
        pub read_only_port: i32 = "readOnlyPort",
        /// Serving certificate file; empty generates self-signed pair in cert-dir (relative path resolved
        /// against config file directory).
        pub tls_cert_file: String = "tlsCertFile",
        /// Key for tlsCertFile (relative path resolved against config file directory).
        pub tls_private_key_file: String = "tlsPrivateKeyFile",
        /// Allowed TLS 1.2 cipher suites by Go constant name.
        pub tls_cipher_suites: List<String> = "tlsCipherSuites",
        /// Allowed TLS key-exchange groups by numeric IANA id (new in v1.36 types).
        pub tls_curve_preferences: List<i32> = "tlsCurvePreferences",
        /// Lowest TLS version (VersionTLS10..VersionTLS13); empty means TLS 1.2.
        pub tls_min_version: String = "tlsMinVersion",
        /// Rotate client certificate through CSR API (default false).
        pub rotate_certificates: bool = "rotateCertificates",
        /// Obtain serving certificate through CSR API (default false; needs RotateKubeletServerCertificate).
        pub server_tls_bootstrap: bool = "serverTLSBootstrap",
        /// Server authentication settings.
        pub authentication: KubeletAuthentication = "authentication",
        /// Server authorization settings.
        pub authorization: KubeletAuthorization = "authorization",
        /// Image pulls per second, 0 unlimited (default 5; >=0).
        pub registry_pull_qps: Option<i32> = "registryPullQPS",
        /// Pull burst when registryPullQPS>0 (default 10; >=0).
        pub registry_burst: i32 = "registryBurst",
        /// When to re-check pull credentials for present images: NeverVerify, NeverVerifyPreloadedImages,
        /// NeverVerifyAllowlistedImages, AlwaysVerify (default NeverVerifyPreloadedImages; gate
        /// KubeletEnsureSecretPulledImages).
        pub image_pull_credentials_verification_policy: String = "imagePullCredentialsVerificationPolicy",
        /// Image names (no tag/digest, optional trailing /*) exempt under NeverVerifyAllowlistedImages (only
        /// with that policy).
        pub preloaded_images_verification_allowlist: List<String> = "preloadedImagesVerificationAllowlist",
        /// Events per second; 0 means unlimited since 1.37 (default 50; >=0).
        pub event_record_qps: Option<i32> = "eventRecordQPS",
        /// Event burst (default 100; >=0).
        pub event_burst: i32 = "eventBurst",
        /// Register exec, attach, run, portForward, containerLogs, logs, debug, runningpods endpoints
        /// (default true).
        pub enable_debugging_handlers: Option<bool> = "enableDebuggingHandlers",
        /// Turn on block profiling (default false).
        pub enable_contention_profiling: bool = "enableContentionProfiling",
        /// Port of healthz server, 0 disables (default 10248; 0..65535).
        pub healthz_port: Option<i32> = "healthzPort",
        /// Bind IP of healthz server (default 127.0.0.1).
        pub healthz_bind_address: String = "healthzBindAddress",
        /// oom_score_adj of the kubelet process (default -999; -1000..1000).
        pub oom_score_adj: Option<i32> = "oomScoreAdj",
        /// DNS domain used in search list of ClusterFirst pods.
        pub cluster_domain: String = "clusterDomain",
        /// Nameservers for ClusterFirst pods.
        pub cluster_dns: List<String> = "clusterDNS",
        /// Formerly idle timeout of streaming connections (default 4h0m0s; no effect since 1.36/1.37 types).
        pub streaming_connection_idle_timeout: GoDuration = "streamingConnectionIdleTimeout",
        /// Interval of node status computation (default 10s).
        pub node_status_update_frequency: GoDuration = "nodeStatusUpdateFrequency",
        /// Longest interval of unchanged status posts; equals nodeStatusUpdateFrequency when that is set
        /// explicitly (default 5m0s).
        pub node_status_report_frequency: GoDuration = "nodeStatusReportFrequency",
        /// spec.leaseDurationSeconds of node lease; renew interval is a quarter (default 40; >0).
        pub node_lease_duration_seconds: i32 = "nodeLeaseDurationSeconds",
        /// Image must be unused this long before GC (default 2m0s; >=0).
        pub image_minimum_gc_age: GoDuration = "imageMinimumGCAge",
        /// Image unused longer than this is removed, 0 disables (default 0s; > imageMinimumGCAge).
        pub image_maximum_gc_age: GoDuration = "imageMaximumGCAge",
        /// Disk use that starts image GC, 100 disables (default 85; 0..100).
        pub image_gc_high_threshold_percent: Option<i32> = "imageGCHighThresholdPercent",
        /// Disk use target of image GC (default 80; < high threshold).
        pub image_gc_low_threshold_percent: Option<i32> = "imageGCLowThresholdPercent",
        /// Interval of volume usage calculation, negative disables (default 1m0s).
        pub volume_stats_agg_period: GoDuration = "volumeStatsAggPeriod",
        /// Cgroup to place the kubelet in.
        pub kubelet_cgroups: String = "kubeletCgroups",
        /// Cgroup for other system processes (needs cgroupRoot).
        pub system_cgroups: String = "systemCgroups",
        /// Parent of kubepods cgroup; default / when cgroupsPerQOS.
        pub cgroup_root: String = "cgroupRoot",
        /// Build QoS and pod cgroup hierarchy (default true; ignored with warning on Windows).
        pub cgroups_per_qos: Option<bool> = "cgroupsPerQOS",
        /// cgroupfs or systemd; overridden by CRI RuntimeConfig answer (default cgroupfs).
        pub cgroup_driver: String = "cgroupDriver",
        /// none or static (default none).
        pub cpu_manager_policy: String = "cpuManagerPolicy",
        /// When false container cgroups get memory.oom.group=1 (default nil (false on cgroup v2, true on v1);
        /// must be nil on other OS; false rejected on cgroup v1).
        pub single_process_oom_kill: Option<bool> = "singleProcessOOMKill",
        /// full-pcpus-only, distribute-cpus-across-numa, align-by-socket, distribute-cpus-across-cores,
        /// strict-cpu-reservation, prefer-align-cpus-by-uncorecache.
        pub cpu_manager_policy_options: Dict<String> = "cpuManagerPolicyOptions",
        /// Cpuset reconcile interval (default 10s).
        pub cpu_manager_reconcile_period: GoDuration = "cpuManagerReconcilePeriod",
        /// None, Static, or BestEffort (Windows) (default None).
        pub memory_manager_policy: String = "memoryManagerPolicy",
        /// none, best-effort, restricted, single-numa-node (default none).
        pub topology_manager_policy: String = "topologyManagerPolicy",
        /// container or pod (default container).
        pub topology_manager_scope: String = "topologyManagerScope",
        /// prefer-closest-numa-nodes, max-allowable-numa-nodes.
        pub topology_manager_policy_options: Dict<String> = "topologyManagerPolicyOptions",
        /// Percent of memory reserved for higher QoS tiers (gate QOSReserved; only memory).
        pub qos_reserved: Dict<String> = "qosReserved",
        /// CRI call timeout except pull, logs, exec, attach (default 2m0s).
        pub runtime_request_timeout: GoDuration = "runtimeRequestTimeout",
        /// promiscuous-bridge, hairpin-veth or none (default promiscuous-bridge; validated, no effect with
        /// CRI).
        pub hairpin_mode: String = "hairpinMode",
        /// Pod capacity (default 110; >=0).
        pub max_pods: i32 = "maxPods",
        /// Pod CIDR in standalone mode.
        pub pod_cidr: String = "podCIDR",
        /// pids.max of each pod cgroup, negative means node default (default -1).
        pub pod_pids_limit: Option<i64> = "podPidsLimit",
        /// Host resolver file; empty string disables host DNS (default /etc/resolv.conf (empty on Windows)).
        pub resolv_conf: Option<String> = "resolvConf",
        /// Formerly run once and exit (default false; true is rejected by validation).
        pub run_once: bool = "runOnce",
        /// Enforce CPU limits with CFS quota (default true).
        pub cpu_cfs_quota: Option<bool> = "cpuCFSQuota",
        /// cpu.cfs_period_us (default 100ms; 1ms..1s).
        pub cpu_cfs_quota_period: Option<GoDuration> = "cpuCFSQuotaPeriod",
        /// Images listed in node status, -1 unlimited (default 50; >=-1).
        pub node_status_max_images: Option<i32> = "nodeStatusMaxImages",
        /// RLIMIT_NOFILE of kubelet (default 1000000; >=0).
        pub max_open_files: i64 = "maxOpenFiles",
        /// API request content type (default application/vnd.kubernetes.protobuf).
        pub content_type: String = "contentType",
        /// API client QPS (default 50; >=0).
        pub kube_api_qps: Option<i32> = "kubeAPIQPS",
        /// API client burst (default 100; >=0).
        pub kube_api_burst: i32 = "kubeAPIBurst",
        /// Pull images one at a time (default true (false if maxParallelImagePulls>=2)).
        pub serialize_image_pulls: Option<bool> = "serializeImagePulls",
        /// Concurrent pull limit (>=1; >1 only with serializeImagePulls=false).
        pub max_parallel_image_pulls: Option<i32> = "maxParallelImagePulls",
        /// Hard eviction thresholds (default nil in type; when empty: linux memory.available=100Mi,nodefs.ava
        /// ilable=10%,nodefs.inodesFree=5%,imagefs.available=15%,imagefs.inodesFree=5%; windows
        /// memory.available=500Mi,nodefs.available=10%,imagefs.available=15%).
        pub eviction_hard: Dict<String> = "evictionHard",
        /// Soft eviction thresholds (each needs grace period).
        pub eviction_soft: Dict<String> = "evictionSoft",
        /// Grace period per soft signal.
        pub eviction_soft_grace_period: Dict<String> = "evictionSoftGracePeriod",
        /// Minimum time a pressure condition stays true (default 5m0s).
        pub eviction_pressure_transition_period: GoDuration = "evictionPressureTransitionPeriod",
        /// Cap in seconds of pod grace period in soft evictions (default 0).
        pub eviction_max_pod_grace_period: i32 = "evictionMaxPodGracePeriod",
        /// Extra amount to reclaim per signal.
        pub eviction_minimum_reclaim: Dict<String> = "evictionMinimumReclaim",
        /// Fill unspecified eviction signals from the defaults instead of zero (default false).
        pub merge_default_eviction_settings: Option<bool> = "mergeDefaultEvictionSettings",
        /// Pods per core cap, 0 none (default 0; >=0).
        pub pods_per_core: i32 = "podsPerCore",
        /// Leave attach/detach to the controller and annotate node (default true).
        pub enable_controller_attach_detach: Option<bool> = "enableControllerAttachDetach",
        /// Fail instead of changing kernel tunables (default false).
        pub protect_kernel_defaults: bool = "protectKernelDefaults",
        /// Create KUBE-IPTABLES-HINT and KUBE-KUBELET-CANARY chains (default true).
        pub make_iptables_util_chains: Option<bool> = "makeIPTablesUtilChains",
        /// Formerly KUBE-MARK-MASQ bit (default 14; 0..31, no effect).
        pub iptables_masquerade_bit: Option<i32> = "iptablesMasqueradeBit",
        /// Formerly KUBE-MARK-DROP bit (default 15; 0..31, no effect).
        pub iptables_drop_bit: Option<i32> = "iptablesDropBit",
        /// Gate overrides (unknown gate is an error).
        pub feature_gates: Dict<bool> = "featureGates",
        /// Refuse start when swap is on (default true).
        pub fail_swap_on: Option<bool> = "failSwapOn",
        /// Swap settings.
        pub memory_swap: MemorySwapConfiguration = "memorySwap",
        /// Log size that triggers rotation; negative disables (default 10Mi).
        pub container_log_max_size: String = "containerLogMaxSize",
        /// Files kept per container (default 5; >1).
        pub container_log_max_files: Option<i32> = "containerLogMaxFiles",
        /// Parallel rotation workers (default 1; >=1).
        pub container_log_max_workers: Option<i32> = "containerLogMaxWorkers",
        /// Rotation check interval (default 10s; >=3s).
        pub container_log_monitor_interval: Option<GoDuration> = "containerLogMonitorInterval",
        /// Get, Cache or Watch (default Watch).
        pub config_map_and_secret_change_detection_strategy: String = "configMapAndSecretChangeDetectionStrategy",
        /// Cpu, memory, ephemeral-storage, pid reserved for OS daemons.
        pub system_reserved: Dict<String> = "systemReserved",
        /// Cpu, memory, ephemeral-storage, pid reserved for Kubernetes daemons.
        pub kube_reserved: Dict<String> = "kubeReserved",
        /// Explicit CPU list reserved (excludes systemReservedCgroup and kubeReservedCgroup).
        pub reserved_system_cpus: String = "reservedSystemCPUs",
        /// Previous minor version whose hidden metrics are shown (format major.minor).
        pub show_hidden_metrics_for_version: String = "showHiddenMetricsForVersion",
        /// Cgroup used to enforce systemReserved.
        pub system_reserved_cgroup: String = "systemReservedCgroup",
        /// Cgroup used to enforce kubeReserved.
        pub kube_reserved_cgroup: String = "kubeReservedCgroup",
        /// none, pods, system-reserved, system-reserved-compressible, kube-reserved, kube-reserved-
        /// compressible (default ["pods"]).
        pub enforce_node_allocatable: List<String> = "enforceNodeAllocatable",
        /// Unsafe sysctls or patterns ending in *.
        pub allowed_unsafe_sysctls: List<String> = "allowedUnsafeSysctls",
        /// Namespaced sysctls applied to all pods unless the pod overrides (gate DefaultPodSysctls (alpha
        /// 1.37)).
        pub default_pod_sysctls: Dict<String> = "defaultPodSysctls",
        /// Flexvolume driver directory (default /usr/libexec/kubernetes/kubelet-plugins/volume/exec/).
        pub volume_plugin_dir: String = "volumePluginDir",
        /// node.spec.providerID set at registration.
        pub provider_id: String = "providerID",
        /// Use memcg notification for memory eviction (default false).
        pub kernel_memcg_notification: bool = "kernelMemcgNotification",
        /// Logging settings.
        pub logging: LoggingConfiguration = "logging",
        /// Serve /logs/ (default true).
        pub enable_system_log_handler: Option<bool> = "enableSystemLogHandler",
        /// Serve journal queries on /logs/ (default false; needs enableSystemLogHandler).
        pub enable_system_log_query: Option<bool> = "enableSystemLogQuery",
        /// Total node shutdown delay (default 0s; 0 or >=1s).
        pub shutdown_grace_period: GoDuration = "shutdownGracePeriod",
        /// Part reserved for critical pods (default 0s; <= shutdownGracePeriod).
        pub shutdown_grace_period_critical_pods: GoDuration = "shutdownGracePeriodCriticalPods",
        /// per-priority shutdown periods (excludes shutdownGracePeriod).
        pub shutdown_grace_period_by_pod_priority: List<ShutdownGracePeriodByPodPriority> = "shutdownGracePeriodByPodPriority",
        /// container restart back-off settings.
        pub crash_loop_back_off: CrashLoopBackOffConfig = "crashLoopBackOff",
        /// Per NUMA node memory withheld from the memory manager (sum must equal reserved+eviction).
        pub reserved_memory: List<MemoryReservation> = "reservedMemory",
        /// Serve /debug/pprof/ (default true).
        pub enable_profiling_handler: Option<bool> = "enableProfilingHandler",
        /// Serve PUT /debug/flags/v (default true).
        pub enable_debug_flags_handler: Option<bool> = "enableDebugFlagsHandler",
        /// RuntimeDefault for containers without seccomp profile (default false).
        pub seccomp_default: Option<bool> = "seccompDefault",
        /// Factor for cgroup v2 memory.high; nil leaves memory.high unset (default nil (0.9 before 1.37);
        /// >0..1.0; gate MemoryQoS).
        pub memory_throttling_factor: Option<f64> = "memoryThrottlingFactor",
        /// None or TieredReservation (memory.min for Guaranteed, memory.low for Burstable) (default None;
        /// gate MemoryQoS).
        pub memory_reservation_policy: String = "memoryReservationPolicy",
        /// Taints at first registration (timeAdded forbidden).
        pub register_with_taints: List<Taint> = "registerWithTaints",
        /// Create own Node object (default true).
        pub register_node: Option<bool> = "registerNode",
        /// OpenTelemetry settings.
        pub tracing: Option<TracingConfiguration> = "tracing",
        /// ephemeral-storage accounting and eviction (default true).
        pub local_storage_capacity_isolation: Option<bool> = "localStorageCapacityIsolation",
        /// CRI runtime endpoint (default unix:///run/containerd/containerd.sock; required).
        pub container_runtime_endpoint: String = "containerRuntimeEndpoint" always,
        /// CRI image endpoint, empty uses runtime endpoint.
        pub image_service_endpoint: String = "imageServiceEndpoint",
        /// Refuse start on cgroup v1 (default true).
        pub fail_cgroup_v1: Option<bool> = "failCgroupV1",
        /// User namespace settings (must be nil on other OS).
        pub user_namespaces: Option<UserNamespaces> = "userNamespaces",
    }
}

document! {
    /// The `authentication` object of the document.
    pub struct KubeletAuthentication {
        /// Client certificate settings.
        pub x509: KubeletX509Authentication = "x509",
        /// Bearer token settings.
        pub webhook: KubeletWebhookAuthentication = "webhook",
        /// Anonymous settings.
        pub anonymous: KubeletAnonymousAuthentication = "anonymous",
    }
}

document! {
    /// The `authentication.x509` object of the document.
    pub struct KubeletX509Authentication {
        /// CA bundle for client certificates (CN becomes user, O become groups) (relative path resolved
        /// against config file directory).
        pub client_ca_file: String = "clientCAFile",
    }
}

document! {
    /// The `authentication.webhook` object of the document.
    pub struct KubeletWebhookAuthentication {
        /// Authenticate bearer tokens with TokenReview; flag-only legacy default false (default true).
        pub enabled: Option<bool> = "enabled",
        /// Cache time of TokenReview results (default 2m0s).
        pub cache_ttl: GoDuration = "cacheTTL",
    }
}

document! {
    /// The `authentication.anonymous` object of the document.
    pub struct KubeletAnonymousAuthentication {
        /// Accept unauthenticated requests as system:anonymous; flag-only legacy default true (default false).
        pub enabled: Option<bool> = "enabled",
    }
}

document! {
    /// The `authorization` object of the document.
    pub struct KubeletAuthorization {
        /// AlwaysAllow or Webhook (SubjectAccessReview); flag-only legacy default AlwaysAllow (default
        /// Webhook).
        pub mode: String = "mode",
        /// Webhook cache settings.
        pub webhook: KubeletWebhookAuthorization = "webhook",
    }
}

document! {
    /// The `authorization.webhook` object of the document.
    pub struct KubeletWebhookAuthorization {
        /// Cache time of allowed answers (default 5m0s).
        pub cache_authorized_ttl: GoDuration = "cacheAuthorizedTTL",
        /// Cache time of denied answers (default 30s).
        pub cache_unauthorized_ttl: GoDuration = "cacheUnauthorizedTTL",
    }
}

document! {
    /// The `memorySwap` object of the document.
    pub struct MemorySwapConfiguration {
        /// "", NoSwap or LimitedSwap (default "" (NoSwap)).
        pub swap_behavior: String = "swapBehavior",
    }
}

document! {
    /// The `logging` object of the document.
    pub struct LoggingConfiguration {
        /// text or json (default text).
        pub format: String = "format",
        /// Log flush interval (string or integer nanoseconds) (default 5s).
        pub flush_frequency: TextOrNanos = "flushFrequency",
        /// -v level (default 0).
        pub verbosity: u32 = "verbosity" always,
        /// per-file verbosity (text format only).
        pub vmodule: List<VmoduleItem> = "vmodule",
        /// Format options.
        pub options: FormatOptions = "options",
    }
}

document! {
    /// The `logging.vmodule` object of the document.
    pub struct VmoduleItem {
        /// Glob of file base name.
        pub file_pattern: String = "filePattern" always,
        /// Level for matching files.
        pub verbosity: u32 = "verbosity" always,
    }
}

document! {
    /// The `logging.options` object of the document.
    pub struct FormatOptions {
        /// text options.
        pub text: OutputOptions = "text",
        /// json options.
        pub json: OutputOptions = "json",
    }
}

document! {
    /// The `logging.options.text` object of the document.
    pub struct OutputOptions {
        /// Info to stdout, errors to stderr (default false; gate LoggingAlphaOptions).
        pub split_stream: bool = "splitStream",
        /// Buffer of info stream (default 0; gate LoggingAlphaOptions).
        pub info_buffer_size: QuantityText = "infoBufferSize",
    }
}

document! {
    /// The `shutdownGracePeriodByPodPriority` object of the document.
    pub struct ShutdownGracePeriodByPodPriority {
        /// Lower bound priority.
        pub priority: i32 = "priority" always,
        /// Seconds.
        pub shutdown_grace_period_seconds: i64 = "shutdownGracePeriodSeconds" always,
    }
}

document! {
    /// The `crashLoopBackOff` object of the document.
    pub struct CrashLoopBackOffConfig {
        /// Cap of restart back-off (default 5m0s; 1s..300s; gate KubeletCrashLoopBackOffMax).
        pub max_container_restart_period: Option<GoDuration> = "maxContainerRestartPeriod",
    }
}

document! {
    /// The `reservedMemory` object of the document.
    pub struct MemoryReservation {
        /// NUMA node id.
        pub numa_node: i32 = "numaNode" always,
        /// Memory and `hugepages-<size>` amounts (non-zero, no duplicates).
        pub limits: Dict<QuantityText> = "limits" always,
    }
}

document! {
    /// The `registerWithTaints` object of the document.
    pub struct Taint {
        /// Taint key.
        pub key: String = "key" always,
        /// Taint value.
        pub value: String = "value",
        /// NoSchedule, PreferNoSchedule or NoExecute.
        pub effect: String = "effect" always,
        /// Must stay unset.
        pub time_added: Option<String> = "timeAdded",
    }
}

document! {
    /// The `tracing` object of the document.
    pub struct TracingConfiguration {
        /// OTLP gRPC collector (default localhost:4317 when nil).
        pub endpoint: Option<String> = "endpoint",
        /// Root span samples per million; nil follows parent (default nil (0); >=0).
        pub sampling_rate_per_million: Option<i32> = "samplingRatePerMillion",
    }
}

document! {
    /// The `userNamespaces` object of the document.
    pub struct UserNamespaces {
        /// UID/GID range length per pod (default 65536; multiple of 65536, <=2^32-1).
        pub ids_per_pod: Option<i64> = "idsPerPod",
    }
}
