//! From a configuration to a running node: checks, connections, the driver with its watchers, the
//! server. Everything is built here once, in this order, and handed on; nothing is set later.

mod adapters;
mod connect;
mod control;
mod folders;
mod record;
mod restore;
mod servers;
mod settings;
mod state_files;
mod watchers;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use config::Config;
use host::cgroup::CgroupMounts;
use host::machine::MachineFacts;
use model::RuntimeFeatures;
use node::node_status::Resources;
use node::pressure::Signal;
use node::{EventObject, EventRecord, Input, Machine, Node, Settings, View};
use plugins::PodsPorts;
use runtime::dns::ResolvConf;
use runtime::images::PullRecords;
use runtime::logs::LogWatches;
use runtime::{Runtime, RuntimeSettings, RuntimeVersion};
use telemetry::log::LogHandle;
use telemetry::metrics::Metrics;
use telemetry::traces::{Tracer, collect};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use crate::checks;
use crate::control::Stage;
use crate::executor::cgroups;
use crate::http_api::cadvisor::CadvisorPage;
use crate::http_api::ports::NodePorts;
use crate::identity::{self, IdentityMetrics};
use crate::notify::Notifier;
use crate::observe::health::Health;

use crate::driver::{self, Clock, Driver, Executor};
use crate::executor::measurements::Measurements;
use crate::executor::user_namespaces::UserNamespaces;
use crate::observe::metering::{self, Metering};
use crate::usage::{self, Usage};
use crate::watchers::addresses::AddressWatch;
use crate::watchers::sampler::Sampler;

use adapters::Shared;

/// How long the start waits for the node's addresses.
const ADDRESS_PATIENCE: Duration = Duration::from_secs(2);

/// What a node shares with the process around it.
pub(crate) struct Process {
    /// The log, whose level can be changed.
    pub(crate) log: LogHandle,
    /// Whether all of it is alive.
    pub(crate) health: Health,
    /// Who is told when the node has started.
    pub(crate) notifier: Notifier,
    /// The flags in effect, for `/flagz`.
    pub(crate) flags: Arc<BTreeMap<&'static str, String>>,
}

/// Runs a node until `stop` is cancelled.
pub(crate) async fn run(config: Config, process: Process, stop: CancellationToken) -> anyhow::Result<()> {
    let host = Host::examine(&config)?;
    make_folders(&config, &host.node_name).await?;
    let traces = collect(config.tracing.as_ref(), &host.node_name)?;
    let prerequisites = Prerequisites::prepare(config, host, traces.tracer()).await?;
    let clock = Clock::start();
    let (view, published) = watch::channel(Arc::new(View::default()));
    let control::Control { stage, context, recorder_commands } =
        control::begin(&prerequisites, clock, published.clone(), stop.clone())?;
    // Last: from here on the API server is told that this node is alive.
    let connecting = connect::api(&prerequisites);
    let Some(remote) = unless_stopped(&stop, connecting).await.transpose()? else { return Ok(()) };
    context.renews(remote.as_ref().map(|remote| remote.lease.clone()));
    stage.send_replace(Stage::Preparing);
    let (config, host) = (prerequisites.config.clone(), prerequisites.host.clone());

    let shared = prerequisites.shared(remote)?;
    let has_api = shared.api.connection().is_some();
    let of_core = settings::of_core(&config, &host.node_name, prerequisites.runtime_features, has_api);
    let machine = settings::machine(&config, &host.machine);
    let mut readers = Readers::new(&prerequisites, &shared, clock);
    let readings = prerequisites.measure(&shared, (&of_core, &machine), &mut readers).await?;
    let (results, inbox) = driver::inbox();
    let restoring = restore::restore(config.clone(), shared.clone(), machine, readings, results.clone());
    prerequisites.tasks.spawn(restoring);
    let (certificate, serving_names) = identity::serving_certificate(
        &config,
        [&host.hostname, &host.node_name],
        readers.addresses.addresses(),
        shared.api.connection(),
        &prerequisites.identity,
        &prerequisites.tasks,
    )?;
    let server = servers::bind(&config, &host.node_name, certificate).await?;
    let usage = prerequisites.usage(&shared);
    let measurements = Measurements { sampler: readers.sampler.clone(), usage: usage.clone() };
    watchers::spawn(&prerequisites, &shared, &published, readers, serving_names, &results);
    let recorder = record::begin(&config, &of_core).await?;
    let driver = Driver {
        core: Node::new(of_core),
        clock,
        executor: Executor::new(Arc::new(prerequisites.adapters(&shared, measurements))),
        inbox,
        results: results.clone(),
        view,
        tasks: prerequisites.tasks.clone(),
        running: HashMap::new(),
        sync_loop: process.health.sync_loop.clone(),
        metering: Metering::new(prerequisites.metrics.clone()),
        recorder,
        recorder_commands,
    };
    record_start(&config, &shared);
    #[expect(clippy::disallowed_methods, reason = "is awaited below")]
    let driver = tokio::spawn(driver.run(stop.clone()));
    stage.send_replace(Stage::Started);
    let notifier = process.notifier.clone();
    let ports = prerequisites.ports(shared, usage, (published, clock), process);
    let of_pods = PodsPorts { view: ports.view.clone(), metrics: ports.metrics.clone() };
    servers::serve_pods(&config, of_pods, stop.clone())?;
    servers::serve(server, ports, stop).await;
    info!("Started kubelet");
    notifier.ready();
    // A driver that ends before it is told to has panicked: the node is of no use without it.
    let result = driver.await.map_err(|error| anyhow::anyhow!("the core failed: {error}"));
    let _ = tokio::task::spawn_blocking(move || traces.end()).await;
    result
}

/// A node that has no place for what it keeps is of no use, and says so.
async fn make_folders(config: &Config, node_name: &str) -> anyhow::Result<()> {
    let made = folders::make(config);
    if let Err(error) = &made {
        connect::tell_setup_failed(config, node_name, error).await;
    }
    made
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

/// Where this process runs.
#[derive(Clone)]
struct Host {
    mounts: CgroupMounts,
    machine: MachineFacts,
    hostname: String,
    node_name: String,
}

impl Host {
    /// Looks at the machine, and checks that a node can be made of it.
    fn examine(config: &Config) -> anyhow::Result<Self> {
        let mounts = CgroupMounts::detect().context("find the cgroup hierarchies")?;
        checks::host(config, &mounts)?;
        let hostname = host::machine::host_name();
        let node_name = config.identity.node_name(&hostname)?;
        let machine = MachineFacts::read().context("read what this machine is")?;
        checks::reserved_cpus(config, &machine.cpu_list)?;
        Ok(Self { mounts, machine, hostname, node_name })
    }
}

/// What reads of the node what changes, from the start on.
struct Readers {
    sampler: Arc<Sampler>,
    addresses: AddressWatch,
}

impl Readers {
    fn new(prerequisites: &Prerequisites, shared: &Shared, clock: Clock) -> Self {
        let Prerequisites { config, runtime, host, .. } = prerequisites;
        Self {
            sampler: Arc::new(Sampler::new(config, shared.cgroups.tree(), runtime.clone(), clock)),
            addresses: AddressWatch::new(config, &host.node_name),
        }
    }
}

/// Prerequisites of the node: what there is before the API server is told of it.
struct Prerequisites {
    config: Arc<Config>,
    host: Host,
    metrics: Arc<Metrics>,
    identity: Arc<IdentityMetrics>,
    tracer: Tracer,
    tasks: TaskTracker,
    runtime: Runtime,
    runtime_version: RuntimeVersion,
    runtime_features: RuntimeFeatures,
    pull_records: Option<PullRecords>,
    user_namespaces: Arc<UserNamespaces>,
}

impl Prerequisites {
    /// Connects to the runtime, and sets up kernel and process.
    async fn prepare(mut config: Config, host: Host, tracer: Tracer) -> anyhow::Result<Self> {
        let user_namespaces = UserNamespaces::new(&config).context("find ids for user namespaces")?;
        let metrics = Arc::new(Metrics::default());
        metrics.cgroup_version.set(f64::from(host.mounts.version()));
        if let Some(digest) = &config.runtime.credential_providers_digest {
            metrics.credential_provider_config.with([digest]).set(1.0);
        }
        let runtime = Runtime::connect(
            &config.runtime.endpoint,
            Some(&config.runtime.image_endpoint),
            RuntimeSettings {
                request_timeout: config.runtime.request_timeout,
                has_chunked_lists: config.gates.enabled("CRIListStreaming"),
                observer: metering::calls::runtime(&metrics),
                tracer: tracer.clone(),
                reports_stop_signals: config.gates.enabled("ContainerStopSignals"),
            },
        )?;
        let (runtime_version, driver) = checks::runtime(&config, &runtime, &metrics).await?;
        config.set_cgroup_driver(driver);
        let runtime_features = checks::runtime_features(&config, &runtime).await;
        checks::process(&config);
        checks::kernel(&config)?;
        let pull_records = settings::pull_records(&config, &metrics)?;
        if let Some(records) = &pull_records {
            records.adopt(&runtime).await;
        }
        Ok(Self {
            config: Arc::new(config),
            host,
            identity: IdentityMetrics::new(metrics.clone()),
            metrics,
            tracer,
            tasks: TaskTracker::new(),
            runtime,
            runtime_version,
            runtime_features,
            pull_records,
            user_namespaces: Arc::new(user_namespaces),
        })
    }

    /// Reads for the first time what changes of the node, and makes the cgroups whose limits follow from that. Returns what
    /// the core is told of it.
    async fn measure(
        &self,
        shared: &Shared,
        (settings, machine): (&Settings, &Machine),
        Readers { sampler, addresses }: &mut Readers,
    ) -> anyhow::Result<[Input; 3]> {
        let host = &self.host;
        // Cancel-safe: they are looked for again and again. Static pods do not wait for name servers that do not answer.
        let _ = tokio::time::timeout(ADDRESS_PATIENCE, addresses.find()).await;
        info!(node = host.node_name, nodeIPs = ?addresses.addresses(), "Starting the node");
        let sample = sampler.sample().await;
        let storage_bytes = sample.capacity(Signal::NodeFs);
        let resources = Resources { settings: &settings.capacity, machine, storage_bytes };
        checks::reservations(resources)?;
        let limits =
            cgroups::MachineLimits { cpus: host.machine.cpu_list.clone(), max_pids: host.machine.max_pids };
        cgroups::prepare(&shared.cgroups, &shared.api, resources.capacity(), &limits).await?;
        cgroups::keep(&self.config, shared.cgroups.tree().mounts()).await?;
        let RuntimeVersion { name, version, .. } = self.runtime_version.clone();
        Ok([Input::RuntimeVersion { name, version }, addresses.input(), Input::Sample(sample)])
    }

    /// What is known of usage, for scrapers and for decisions.
    fn usage(&self, shared: &Shared) -> Arc<Usage> {
        let Self { config, runtime, host, metrics, .. } = self;
        let cgroups = shared.cgroups.tree();
        let node = usage::node(config, cgroups, &host.node_name, &host.machine);
        let (usage, disk_task) =
            Usage::new(config, runtime, cgroups, &shared.volumes, &shared.csi, node, metrics.clone());
        #[expect(clippy::disallowed_methods, reason = "ends with the last who may ask")]
        tokio::spawn(disk_task.run());
        Arc::new(usage)
    }

    /// What the server asks of the node.
    fn ports(
        self,
        shared: Shared,
        usage: Arc<Usage>,
        (view, clock): (watch::Receiver<Arc<View>>, Clock),
        process: Process,
    ) -> NodePorts {
        let Self { config, host, metrics, identity, runtime, tracer, .. } = self;
        metrics.describe(&config.gates);
        metrics.node_name.with([&host.node_name]).set(1.0);
        let provider = if config.gates.enabled("PodAndContainerStatsFromCRI") { "cri" } else { "cadvisor" };
        metrics.metrics_provider.with([provider]).set(1.0);
        let cgroups = shared.cgroups.tree();
        let cadvisor = Arc::new(CadvisorPage::new(&config, runtime.clone(), cgroups, &host.machine));
        NodePorts {
            view,
            clock,
            runtime,
            api: shared.api,
            tracer,
            config,
            metrics,
            identity,
            health: process.health,
            usage,
            cadvisor,
            log: process.log,
            flags: process.flags,
            log_watches: LogWatches::default(),
            pod_certificates: shared.objects.pod_certificates().cloned(),
        }
    }
}

/// Says that the node starts, and what is the matter with it that nobody would notice otherwise.
fn record_start(config: &Config, shared: &Shared) {
    let record = |is_warning, reason: &'static str, message: &str| {
        let about = EventObject::Node;
        shared.api.record(EventRecord {
            about,
            is_warning,
            reason: reason.into(),
            message: message.to_owned(),
        });
    };
    record(false, model::reason::event::STARTING, "Starting kubelet.");
    if let Some(message) = resolver_excess(config) {
        record(true, model::reason::event::CHECK_LIMITS_FOR_RESOLV_CONF, &message);
    }
    if shared.cgroups.tree().mounts().version() == 1 {
        let message = "cgroup v1 detected. cgroup v1 support is deprecated and will be removed in a future release. Please \
                       migrate to cgroup v2. More information at \
                       https://git.k8s.io/enhancements/keps/sig-node/5573-remove-cgroup-v1";
        record(true, model::reason::event::CGROUP_V1, message);
    }
    if checks::may_swap_volumes(&config.paths.root) {
        let message = "There is swap, and tmpfs cannot be kept from it here (noswap): what pods keep in volumes in \
                       memory, secrets among it, may be written to a disk.";
        record(true, model::reason::event::POSSIBLE_MEMORY_BACKED_VOLUMES_ON_DISK, message);
    }
}

/// What is the matter with the node's resolver configuration, of which pods get a part.
fn resolver_excess(config: &Config) -> Option<String> {
    let path = config.pods.resolv_conf.as_ref()?;
    let has_cluster_domain = !config.pods.cluster_domain.is_empty();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return Some(format!("open {}: {error}", path.display())),
    };
    match ResolvConf::parse(&text) {
        Ok(conf) => runtime::dns::excess(&path.to_string_lossy(), &conf, has_cluster_domain),
        Err(error) => Some(error.to_string()),
    }
}
