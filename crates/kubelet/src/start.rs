//! From a configuration to a running node: checks, connections, the shell with its feeds, the
//! server. Everything is built here once, in this order, and handed on; nothing is set later.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use apiserver::{
    ClientSettings, Detection, EventRecorder, EventSettings, LeaseRenewerTask, LeaseSettings, ObjectCache,
    ServiceIndex,
};
use arc_swap::ArcSwap;
use config::Config;
use host::cgroup::{CgroupMounts, CgroupTree};
use host::machine::MachineFacts;
use model::Quantity;
use node::{Input, Node, Settings, Source, View};
use runtime::images::CredentialPrograms;
use runtime::{MemoryQos, NodeSettings, Runtime, RuntimeSettings};
use server::certificate::ServingCertificate;
use telemetry::log::LogHandle;
use telemetry::traces::{Tracer, collect};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use volumes::Volumes;

use crate::cadvisor::CadvisorPage;
use crate::checks;
use crate::identity::{self, IdentityMetrics, ServingNames};
use crate::notify::Notifier;
use crate::ports::{self, NodePorts};
use crate::shell::adapters::Adapters;
use crate::shell::api::{Api, Remote};
use crate::shell::cgroups::Driver;
use crate::shell::facts::Measurer;
use crate::shell::metering::{self, Metering};
use crate::shell::objects::ObjectPort;
use crate::shell::pulse::Pulse;
use crate::shell::turns::Turns;
use crate::shell::user_namespaces::UserNamespaces;
use crate::shell::{self, Clock, Hands, Shell, cgroups, feeds, rotation};
use crate::usage::Usage;

/// What a node shares with the process around it.
pub(crate) struct Process {
    /// The log, whose level can be changed.
    pub(crate) log: LogHandle,
    /// Whether the core is alive.
    pub(crate) pulse: Arc<Pulse>,
    /// Who is told when the node has started.
    pub(crate) notifier: Notifier,
    /// The flags in effect, for `/flagz`.
    pub(crate) flags: Arc<BTreeMap<&'static str, String>>,
}

/// Runs a node until `stop` is cancelled.
pub(crate) async fn run(mut config: Config, process: Process, stop: CancellationToken) -> anyhow::Result<()> {
    let mounts = CgroupMounts::detect().context("find the cgroup hierarchies")?;
    checks::host(&config, &mounts)?;
    let hostname = host::machine::host_name();
    let node_name = config.identity.node_name(&hostname)?;
    let traces = collect(config.tracing.as_ref(), &node_name)?;
    let tracer = traces.tracer();
    let machine = MachineFacts::read().context("read what this machine is")?;
    checks::reserved_cpus(&config, &machine.cpu_list)?;
    make_folders(&config)?;
    let tasks = TaskTracker::new();

    let metrics = Arc::new(telemetry::metrics::Metrics::default());
    metrics.cgroup_version.set(f64::from(mounts.version()));
    if let Some(digest) = &config.runtime.credential_providers_digest {
        metrics.credential_provider_config.with([digest]).set(1.0);
    }
    let runtime = Runtime::connect(
        &config.runtime.endpoint,
        Some(&config.runtime.image_endpoint),
        RuntimeSettings {
            request_timeout: config.runtime.request_timeout,
            observer: metering::calls::runtime(&metrics),
            tracer: tracer.clone(),
        },
    )?;
    config.set_cgroup_driver(checks::runtime(&config, &runtime, &metrics).await?);
    let config = Arc::new(config);
    checks::process(&config);
    checks::kernel(&config)?;
    // Last: from here on the API server is told that this node is alive.
    let identity_metrics = IdentityMetrics::new(metrics.clone());
    let connecting = connect_api(&config, &node_name, &identity_metrics, &tracer, &tasks);
    let Some(remote) = unless_stopped(&stop, connecting).await.transpose()? else { return Ok(()) };
    let node_ips = node_ips(&config, remote.as_ref().map(|r| r.connection.server()));
    info!(node = node_name, nodeIPs = ?node_ips, "Starting the node");

    let cgroups = CgroupTree::new(mounts, cgroup_driver(&config), &config.pods.cgroup_root)
        .context("use the cgroup root")?;
    let for_cgroups = cgroups::Machine { cpus: machine.cpu_list.clone(), max_pids: machine.max_pids };
    let measurer = Arc::new(Measurer::new(&config, &node_name, &hostname, &node_ips, machine.clone()));
    let objects = ObjectPort::new(
        remote
            .as_ref()
            .map(|r| (ObjectCache::with(r.connection.clone(), detection(&config)), r.connection.clone())),
    );
    let (view, published) = watch::channel(Arc::new(View::default()));
    let adapters = Arc::new(Adapters {
        node_ips: node_ips.clone(),
        runtime,
        runtime_node: runtime_settings(&config, &machine, cgroups.mounts()),
        volumes: Volumes::new(&config.paths.root, objects.clone()),
        objects,
        cgroup_driver: Driver::new(cgroups.clone()),
        cgroups,
        api: Api::new(node_name.clone(), remote),
        metrics: metrics.clone(),
        pulls: config.pods.parallel_pulls.map(|n| Semaphore::new(n.max(1) as usize)),
        sandbox_turns: Turns::new(sandboxes_at_once()),
        credential_programs: CredentialPrograms::new(
            &config.runtime.credential_providers,
            config.runtime.credential_provider_bin.as_deref().unwrap_or(Path::new("")),
            &metrics,
        ),
        user_namespaces: Arc::new(UserNamespaces::new(&config)?),
        images_changed: Arc::new(Notify::new()),
        log_links: PathBuf::from("/var/log/containers"),
        facts: ArcSwap::from_pointee(node::node_status::NodeFacts::default()),
        view: published.clone(),
        config: config.clone(),
        failures: shell::failure::FailureLog::default(),
        endings: shell::endings::Endings::default(),
        tracer,
    });
    let facts = measurer.measure(&adapters).await;
    checks::reservations(&facts)?;
    cgroups::prepare(&adapters, &facts, &for_cgroups).await?;
    cgroups::keep(&adapters).await?;

    let (results, inbox) = shell::inbox();
    let (certificate, serving_names) = identity::serving_certificate(
        &config,
        [&hostname, &node_name],
        &node_ips,
        adapters.api.connection(),
        &identity_metrics,
        &tasks,
    )?;
    let server = bind_server(&config, &node_name, certificate).await?;
    spawn_feeds(&adapters, &measurer, &node_name, serving_names, &results, &tasks);
    let driver = Shell {
        core: Node::new(core_settings(&config, &node_name, &node_ips, adapters.api.connection().is_some())),
        clock: Clock::start(),
        hands: Hands::new(adapters.clone()),
        inbox,
        results: results.clone(),
        view,
        tasks: tasks.clone(),
        running: HashMap::new(),
        pulse: process.pulse.clone(),
        metering: Metering::new(metrics.clone()),
    };
    let found = found_on_host(&adapters);
    // The inbox is empty so far and holds this.
    results.try_send(Input::FoundOnHost { pods: found }).ok();
    record_start(&adapters);
    let driver = tokio::spawn(driver.run(stop.clone()));
    if server.is_some() || config.healthz.is_some() {
        metrics.describe(&config.gates);
        metrics.node_name.with([&node_name]).set(1.0);
        let cadvisor = Arc::new(CadvisorPage::new(&adapters, &machine));
        let (usage, disk_task) = Usage::new(&adapters, &node_name, &machine);
        // Ends with the server, which alone asks.
        tokio::spawn(disk_task.run());
        let health = config.healthz;
        let ports = NodePorts {
            adapters,
            config,
            metrics,
            identity: identity_metrics,
            view: published,
            pulse: process.pulse,
            usage: Arc::new(usage),
            cadvisor,
            log: process.log,
            flags: process.flags,
        };
        let until = stop.clone();
        let until = async move { until.cancelled().await };
        match (server, health) {
            (Some(server), _) => drop(tokio::spawn(server.serve(ports, until))),
            // Without the API there is still the health port, as upstream.
            (None, Some(address)) => {
                let server = server::HealthServer::bind(address).await;
                drop(tokio::spawn(server.serve(ports, until)));
            }
            (None, None) => {}
        }
    }
    info!("Started kubelet");
    process.notifier.ready();
    // A driver that ends before it is told to has panicked: the node is of no use without it.
    let result = driver.await.map_err(|error| anyhow::anyhow!("the core failed: {error}"));
    let _ = tokio::task::spawn_blocking(move || traces.end()).await;
    result
}

/// `None` when the process is told to stop first.
async fn unless_stopped<T>(stop: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        // Cancel-safe: the only work is a request for the first certificate, which the next process
        // takes up.
        done = work => Some(done),
        // Cancel-safe: it stays cancelled.
        () = stop.cancelled() => None,
    }
}

fn make_folders(config: &Config) -> anyhow::Result<()> {
    let root = &config.paths.root;
    let make = |path: &Path, mode: u32| {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(path)
            .with_context(|| format!("make folder {}", path.display()))
    };
    for name in ["", "pods", "plugins", "plugins_registry"] {
        make(&root.join(name), 0o750)?;
    }
    // Its files hold the memory of processes.
    make(&root.join(ports::CHECKPOINTS), 0o700)?;
    make(&config.paths.certificates, 0o750)?;
    make(&config.paths.pod_logs, 0o750)?;
    make(Path::new("/var/log/containers"), 0o755)?;
    if let Err(error) = host::mount::make_recursively_shared(root) {
        warn!(
            path = %root.display(),
            err = shell::failure::chain(&error),
            "Mounts below the root folder do not travel to containers that ask for it"
        );
    }
    Ok(())
}

async fn connect_api(
    config: &Config,
    node_name: &str,
    metrics: &Arc<IdentityMetrics>,
    tracer: &Tracer,
    tasks: &TaskTracker,
) -> anyhow::Result<Option<Remote>> {
    let settings = ClientSettings {
        user_agent: format!("kubelet/{} ({})", config::version::KUBELET_VERSION, config::version::platform()),
        qps: f64::from(config.api.queries_per_second),
        burst: config.api.burst,
        heartbeat_timeout: config.node.status_update_interval.min(config.node.lease_duration),
        observer: metrics.observer(),
        requests: metering::calls::api(metrics.all()),
        tracer: tracer.clone(),
        ..ClientSettings::default()
    };
    let Some(connection) = identity::connect(config, node_name, settings, tasks).await? else {
        info!("Standalone mode, no API client: this node runs static pods only and nobody is told of it");
        return Ok(None);
    };
    let (services, service_task) = ServiceIndex::new(connection.api.clone());
    tasks.spawn(service_task.run());
    let client = connection.with_limit(f64::from(config.api.events_per_second), config.api.event_burst)?;
    let recorder = EventSettings { component: "kubelet".to_owned(), host: node_name.to_owned() };
    let (events, event_task) = EventRecorder::new(client, recorder);
    tasks.spawn(event_task.run());
    if config.node.register {
        let lease = LeaseSettings {
            node_name: node_name.to_owned(),
            duration_seconds: u32::try_from(config.node.lease_duration.as_secs()).unwrap_or(40),
        };
        tasks.spawn(LeaseRenewerTask::new(connection.heartbeat.clone(), lease).run());
    }
    Ok(Some(Remote { connection, events, services }))
}

/// The node's addresses: the configured ones, or the one packets to the API server leave from.
fn node_ips(config: &Config, server: Option<String>) -> Vec<IpAddr> {
    let fixed: Vec<IpAddr> =
        config.identity.node_ips.iter().copied().filter(|ip| !ip.is_unspecified()).collect();
    if !fixed.is_empty() {
        return fixed;
    }
    let host =
        server.and_then(|url| url.parse::<http::Uri>().ok()).and_then(|u| u.host()?.parse::<IpAddr>().ok());
    // Connecting a datagram socket sends nothing; it only looks up the route. TEST-NET-1 stands
    // for "somewhere else", which is what a default route is for.
    let targets = [host, Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)))];
    for target in targets.into_iter().flatten().filter(|ip| !ip.is_loopback()) {
        let any: SocketAddr =
            if target.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
        let local = UdpSocket::bind(any).and_then(|s| {
            s.connect((target, 9))?;
            s.local_addr()
        });
        if let Ok(local) = local
            && !local.ip().is_loopback()
            && !local.ip().is_unspecified()
        {
            return vec![local.ip()];
        }
    }
    warn!("No address of this node can be told from its routes: set --node-ip");
    Vec::new()
}

fn detection(config: &Config) -> Detection {
    match config.pods.detection {
        config::Detection::Watch => Detection::Watch,
        config::Detection::Get => Detection::Get,
        config::Detection::Cache => Detection::Cache,
    }
}

/// One sandbox for each processor: making one keeps several short-lived processes busy all along.
fn sandboxes_at_once() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn runtime_settings(config: &Config, machine: &MachineFacts, cgroups: &CgroupMounts) -> NodeSettings {
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
        masked_paths: runtime::container::thermal_paths(Path::new("/sys/devices/system/cpu")),
        ..NodeSettings::default()
    }
}

fn cgroup_driver(config: &Config) -> host::cgroup::CgroupDriver {
    match config.pods.cgroup_driver {
        config::CgroupDriver::Cgroupfs => host::cgroup::CgroupDriver::Cgroupfs,
        config::CgroupDriver::Systemd => host::cgroup::CgroupDriver::Systemd,
    }
}

fn core_settings(config: &Config, node_name: &str, ips: &[IpAddr], has_api: bool) -> Settings {
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
        node_ips: ips.iter().map(IpAddr::to_string).collect(),
        is_registering: has_api && config.node.register,
        has_api,
        max_pods: config.node.max_pods,
        limits_class_memory: config.pods.reserves_memory || config.pods.qos_reserved_memory_percent.is_some(),
        max_restart_backoff: config.pods.crash_loop_max,
        node_status_update_every: config.node.status_update_interval,
        node_status_report_every: config.node.status_report_interval,
        sources,
    }
}

fn spawn_feeds(
    adapters: &Arc<Adapters>,
    measurer: &Arc<Measurer>,
    node_name: &str,
    serving: Option<ServingNames>,
    inbox: &mpsc::Sender<Input>,
    tasks: &TaskTracker,
) {
    tasks.spawn(feeds::runtime_health(adapters.clone(), measurer.clone(), inbox.clone()));
    tasks.spawn(feeds::runtime_events(adapters.clone(), inbox.clone()));
    tasks.spawn(feeds::measurements(adapters.clone(), measurer.clone(), inbox.clone()));
    tasks.spawn(rotation::run(adapters.clone()));
    if let (Some(connection), Some(cache)) = (adapters.api.connection(), adapters.objects.cache()) {
        let (client, name) = (connection.api.clone(), node_name.to_owned());
        tasks.spawn(feeds::api_pods(client.clone(), name.clone(), cache.clone(), inbox.clone()));
        tasks.spawn(feeds::node_object(client, name, serving, cache.clone(), inbox.clone()));
        let every = adapters.config.pods.sync_interval;
        tasks.spawn(feeds::object_changes(cache.clone(), every, inbox.clone()));
    }
    if let Some(path) = &adapters.config.sources.static_pod_path {
        let settings = sources::FileSettings {
            path: path.clone(),
            node_name: node_name.to_owned(),
            check_every: adapters.config.sources.file_check_interval,
        };
        tasks.spawn(feeds::static_pods(settings, inbox.clone()));
    }
    if let Some(url) = &adapters.config.sources.static_pod_url {
        let settings = sources::UrlSettings {
            url: url.clone(),
            headers: adapters.config.sources.static_pod_url_headers.0.clone(),
            node_name: node_name.to_owned(),
            check_every: adapters.config.sources.http_check_interval,
        };
        tasks.spawn(feeds::static_pods_from_url(settings, inbox.clone()));
    }
}

/// Pods of which an earlier process left a folder, a cgroup or logs.
fn found_on_host(adapters: &Adapters) -> Vec<model::PodUid> {
    let mut found = adapters.volumes.pods_on_disk().unwrap_or_else(|error| {
        warn!(err = shell::failure::chain(&error), "Cannot list the pods' folders");
        Vec::new()
    });
    match adapters.cgroups.pods() {
        Ok(pods) => found.extend(pods.into_iter().map(|(uid, _)| uid)),
        Err(error) => warn!(err = shell::failure::chain(&error), "Cannot list the pods' cgroups"),
    }
    found.extend(pods_with_logs(&adapters.config.paths.pod_logs));
    found.sort();
    found.dedup();
    found
}

/// The uids in the names of log folders, `<namespace>_<name>_<uid>`.
fn pods_with_logs(root: &Path) -> Vec<model::PodUid> {
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    let uid = |name: &str| name.rsplit_once('_').map(|(_, uid)| model::PodUid::from(uid));
    entries.flatten().filter_map(|entry| uid(entry.file_name().to_str()?)).collect()
}

/// Says that the node starts, and what is the matter with it that nobody would notice otherwise.
fn record_start(adapters: &Adapters) {
    let record = |is_warning, reason, message: &str| {
        let about = node::EventObject::Node;
        adapters.api.record(node::EventRecord { about, is_warning, reason, message: message.to_owned() });
    };
    record(false, model::reason::event::STARTING, "Starting kubelet.");
    if checks::may_swap_volumes(&adapters.config.paths.root) {
        let message = "There is swap, and tmpfs cannot be kept from it here (noswap): what pods keep in volumes in \
                       memory, secrets among it, may be written to a disk.";
        record(true, model::reason::event::POSSIBLE_MEMORY_BACKED_VOLUMES_ON_DISK, message);
    }
}

async fn bind_server(
    config: &Config,
    node_name: &str,
    certificate: ServingCertificate,
) -> anyhow::Result<Option<server::Server>> {
    let Some(settings) = &config.server else { return Ok(None) };
    let settings = server::Settings {
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
        },
        streaming_idle_timeout: settings.streaming_idle_timeout,
    };
    let server = server::Server::bind(settings, certificate).await?;
    Ok(Some(server))
}
