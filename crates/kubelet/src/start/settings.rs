//! From the configuration to what each part of the node is told of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use config::Config;
use host::cgroup::CgroupMounts;
use host::machine::MachineFacts;
use model::{Quantity, RuntimeFeatures};
use node::{CapacitySettings, Machine, ObjectSettings, Settings, Source};
use prober::ProbeGates;
use runtime::images::{PullLimits, PullRecords};
use runtime::{MemoryQos, NodeSettings};
use sources::ManifestGates;
use telemetry::metrics::Metrics;
use volumes::VolumeSettings;

use crate::declared_features::declared;
use crate::watchers::signals;

/// What every sandbox and container is made with.
pub(super) fn of_runtime(config: &Config, machine: &MachineFacts, cgroups: &CgroupMounts) -> NodeSettings {
    let period = config.pods.cpu_cfs_quota_period;
    let reserved = |held: &BTreeMap<String, Quantity>| held.get("memory").map_or(0, |q| q.units());
    let reserved = reserved(&config.node.kube_reserved) + reserved(&config.node.system_reserved);
    let memory_qos = MemoryQos {
        throttling_factor: config.pods.memory_throttling_factor,
        reserves_requests: config.pods.reserves_memory,
        allocatable_bytes: machine.memory_bytes.saturating_sub(u64::try_from(reserved).unwrap_or(0)),
    };
    NodeSettings {
        has_cgroup_v2: cgroups.version() == 2,
        memory_capacity_bytes: machine.memory_bytes,
        hugepage_sizes: machine
            .huge_pages
            .iter()
            .map(|h| host::cgroup::huge_page_name(h.page_bytes))
            .collect(),
        enforces_cpu_quota: period.is_some(),
        cpu_quota_period: period.unwrap_or(Duration::from_millis(100)),
        has_swap_control: cgroups.can_limit_swap(),
        swap_bytes_for_pods: config.pods.may_swap.then_some(machine.swap_bytes),
        memory_qos: config.gates.enabled("MemoryQoS").then_some(memory_qos),
        kills_single_process: config.pods.single_process_oom_kill.unwrap_or(cgroups.version() == 1),
        default_sysctls: config.pods.default_sysctls.clone(),
        seccomp_default: config.pods.seccomp_default,
        seccomp_root: config.paths.root.join("seccomp"),
        has_selinux: host::selinux::is_enabled(),
        honours_stop_signals: config.gates.enabled("ContainerStopSignals"),
        masked_paths: runtime::container::thermal_paths(Path::new("/sys/devices/system/cpu")),
    }
}

/// How manifests of static pods are read.
pub(super) fn of_manifests(config: &Config) -> ManifestGates {
    ManifestGates {
        has_http_protocols: config.gates.enabled("H2CContainerProbe"),
        has_users_on_host_network: config.gates.enabled("UserNamespacesHostNetworkSupport"),
        has_no_empty_resources: config.gates.enabled("PodLevelResourcesFixKubeletQOSClass"),
    }
}

/// How volumes are made.
pub(super) fn of_volumes(config: &Config) -> VolumeSettings {
    VolumeSettings {
        honours_file_users: config.gates.enabled("AtomicWriteVolumeUserFields"),
        honours_folder_modes: config.gates.enabled("EmptyDirVolumeMode"),
    }
}

/// What is noted of image pulls: nothing with the feature gate off.
pub(super) fn pull_records(config: &Config, metrics: &Arc<Metrics>) -> anyhow::Result<Option<PullRecords>> {
    let Some(verification) = config.pods.image_verification.clone() else { return Ok(None) };
    let limits = PullLimits {
        pods: config.node.max_pods as usize,
        parallel: config.pods.parallel_pulls.unwrap_or(0) as usize,
    };
    let records = PullRecords::open(&config.paths.root, verification, limits, metrics.clone());
    records.map(Some).context("keep records of image pulls")
}

/// Which kinds of probes there are.
pub(super) fn of_probes(config: &Config) -> ProbeGates {
    ProbeGates {
        is_h2c_enabled: config.gates.enabled("H2CContainerProbe"),
        is_grpc_tls_enabled: config.gates.enabled("GRPCContainerProbeTLS"),
    }
}

/// Who makes cgroups.
pub(super) fn cgroup_driver(config: &Config) -> host::cgroup::CgroupDriver {
    match config.pods.cgroup_driver {
        config::CgroupDriver::Cgroupfs => host::cgroup::CgroupDriver::Cgroupfs,
        config::CgroupDriver::Systemd => host::cgroup::CgroupDriver::Systemd,
    }
}

/// What the core goes by.
pub(super) fn of_core(config: &Config, node_name: &str, runtime: RuntimeFeatures, has_api: bool) -> Settings {
    let mut sources = Vec::new();
    if has_api {
        sources.push(Source::Api);
    }
    if config.sources.static_pod_path.is_some() {
        sources.push(Source::File);
    }
    if config.sources.static_pod_url.is_some() {
        sources.push(Source::Http);
    }
    Settings {
        node_name: node_name.to_owned(),
        is_ipv6_first: config.identity.node_ips.first().is_some_and(IpAddr::is_ipv6),
        is_registering: config.node.register,
        has_api,
        object: of_object(config, runtime),
        capacity: of_capacity(config),
        pod_cidr: config.node.pod_cidr.clone().unwrap_or_default(),
        allowed_unsafe_sysctls: config.pods.allowed_unsafe_sysctls.clone(),
        gates: node::PodGates {
            has_pod_level_resources: config.gates.enabled("PodLevelResources"),
            grants_pod_level_resources: config.gates.enabled("InPlacePodLevelResourcesVerticalScaling"),
            grants_volume_limits: config.gates.enabled("InPlacePodVerticalScalingMemoryBackedVolumes"),
            compares_tolerations: config.gates.enabled("TaintTolerationComparisonOperators"),
            names_volume_images: config.gates.enabled("ImageVolumeWithDigest"),
        },
        dead_containers: node::DeadContainers {
            of_each: config.dead_containers.of_each,
            in_all: config.dead_containers.in_all,
            minimum_age: config.dead_containers.minimum_age,
        },
        resync_interval: config.pods.sync_interval,
        limits_qos_memory: config.pods.reserves_memory || config.pods.qos_reserved_memory_percent.is_some(),
        forgets_readiness: config.gates.enabled("ChangeContainerStatusOnKubeletRestart"),
        restart_delays: node::Delays {
            initial: config.pods.crash_loop_initial,
            max: config.pods.crash_loop_max,
        },
        restart_rules: node::RestartRules {
            of_containers: config.gates.enabled("ContainerRestartRules"),
            of_pods: config.gates.enabled("RestartAllContainersOnContainerExits"),
        },
        node_status_update_every: config.node.status_update_interval,
        node_status_report_every: config.node.status_report_interval,
        thresholds: signals::thresholds(config),
        leaves_huge_pages_out: config.gates.enabled("HugepageAwareEviction"),
        pressure_transition: config.node.eviction.pressure_transition,
        max_eviction_grace_seconds: config.node.eviction.max_pod_grace_seconds.into(),
        image_gc: node::ImageGcPolicy {
            high_percent: config.node.image_gc.high_percent,
            low_percent: config.node.image_gc.low_percent,
            minimum_age: config.node.image_gc.minimum_age,
            maximum_age: config.node.image_gc.maximum_age,
        },
        seed: seed(),
        sources,
    }
}

/// What the Node object is made with.
fn of_object(config: &Config, runtime: RuntimeFeatures) -> ObjectSettings {
    let node_ips = config.identity.node_ips.iter();
    ObjectSettings {
        provided_node_ips: node_ips.filter(|ip| !ip.is_unspecified()).map(IpAddr::to_string).collect(),
        is_cloud_provider_external: config.identity.external_cloud_provider,
        is_attach_by_controller: config.node.controller_attaches,
        provider_id: config.identity.provider_id.clone().unwrap_or_default(),
        labels: config.node.labels.clone(),
        taints: config.node.taints.clone(),
        kubelet_port: config.server.as_ref().map_or(10250, |s| s.address.port()),
        kubelet_version: config::version::KUBELET_VERSION.to_owned(),
        declared_features: declared(&config.gates, runtime),
        max_images: config.node.status_max_images.map(|n| i32::try_from(n).unwrap_or(i32::MAX)).or(Some(-1)),
    }
}

/// How much of the machine is for pods.
fn of_capacity(config: &Config) -> CapacitySettings {
    CapacitySettings {
        is_local_storage_isolated: config.node.local_storage_isolation,
        max_pods: config.node.max_pods,
        pods_per_core: config.node.pods_per_core,
        kube_reserved: config.node.kube_reserved.clone(),
        system_reserved: config.node.system_reserved.clone(),
        kept_free: signals::kept_free(config),
    }
}

/// The machine as the core is told of it.
pub(super) fn machine(config: &Config, facts: &MachineFacts) -> Machine {
    let facts = facts.clone();
    Machine {
        cpus: facts.cpus,
        memory_bytes: facts.memory_bytes,
        swap_bytes: facts.swap_bytes,
        huge_pages: facts.huge_pages.iter().map(|h| (h.page_bytes, h.page_bytes * h.count)).collect(),
        machine_id: facts.machine_id,
        system_uuid: facts.system_uuid,
        boot_id: facts.boot_id,
        kernel_version: facts.kernel_version,
        os_image: facts.os_image,
        architecture: facts.architecture.to_owned(),
        operating_system: "linux".to_owned(),
        is_in_user_namespace: config
            .gates
            .enabled("KubeletInUserNamespace")
            .then(host::process::is_in_user_namespace),
        has_apparmor: facts.has_apparmor,
    }
}

/// Another one in each process, from what the standard library keeps hash tables from being guessed by.
fn seed() -> u64 {
    std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0)
}

/// What the server listens to, and whom it lets in.
pub(super) fn of_server(config: &Config, settings: &config::Server, node_name: &str) -> server::Settings {
    server::Settings {
        node_name: node_name.to_owned(),
        address: settings.address.ip(),
        port: settings.address.port(),
        read_only_port: settings.read_only.map(|a| a.port()),
        healthz: config.healthz,
        endpoints: server::settings::EndpointSettings {
            has_debugging: settings.debugging_handlers,
            has_system_logs: settings.system_log_handler,
            has_profiling: settings.profiling_handler,
            has_debug_flags: settings.debug_flags_handler,
            has_allocated_pods: config.gates.enabled("KubeletAllocatedPodsEndpoint"),
            has_log_streams: config.gates.enabled("PodLogsQuerySplitStreams"),
            translates_websockets: config.gates.enabled("ExtendWebSocketsToKubelet"),
            has_checkpoint: config.gates.enabled("ContainerCheckpoint"),
            has_flags: config.gates.enabled("ComponentFlagz"),
            has_status: config.gates.enabled("ComponentStatusz"),
            has_device_plugins: false,
        },
        system_logs: server::settings::SystemLogSettings {
            has_query: settings.system_log_query && config.gates.enabled("NodeLogQuery"),
            root: PathBuf::from("/var/log"),
            journalctl: PathBuf::from("journalctl"),
        },
        access: server::settings::AccessSettings {
            is_anonymous_allowed: settings.authentication.anonymous,
            token_cache_ttl: settings.authentication.webhook,
            client_ca_file: settings.authentication.client_ca.clone(),
            reloads_client_ca: config.gates.enabled("ReloadKubeletClientCAFile"),
            reads_uid_from_certificates: config.gates.enabled("AllowParsingUserUIDFromCertAuth"),
            authorization: match settings.authorization {
                config::Authorization::AlwaysAllow => server::settings::Authorization::AlwaysAllow,
                config::Authorization::Webhook { authorized_ttl, unauthorized_ttl } => {
                    server::settings::Authorization::Webhook {
                        allowed_ttl: authorized_ttl,
                        denied_ttl: unauthorized_ttl,
                    }
                }
            },
        },
        tls: server::settings::TlsSettings {
            is_tls13_only: settings.tls.min_version == config::TlsVersion::V1_3,
            cipher_suites: settings.tls.cipher_suites.clone(),
            reloads_certificate: config.gates.enabled("ReloadKubeletServerCertificateFile"),
            key_exchange_groups: settings.tls.key_exchange_groups.clone(),
        },
        streaming_idle_timeout: settings.streaming_idle_timeout,
    }
}

/// How changed objects are found out.
pub(super) fn detection(config: &Config) -> apiserver::Detection {
    match config.pods.detection {
        config::Detection::Watch => apiserver::Detection::Watch,
        config::Detection::Get => apiserver::Detection::Get,
        config::Detection::Cache => apiserver::Detection::Cache,
    }
}
