//! The validated configuration: one section for each consumer. Everything here has its final type and
//! its unit; nothing here has to be checked again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;
use model::Quantity;

use crate::codec::{Dict, Headers, Wire};
use crate::credentials::CredentialProvider;
use crate::document::KubeletConfiguration;
use crate::eviction::EvictionThreshold;
use crate::gates::FeatureGates;

/// Everything the kubelet was told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who the node is.
    pub identity: Identity,
    /// Folders for the kubelet's own files.
    pub paths: Paths,
    /// How to reach the API server.
    pub api: ApiClient,
    /// How to reach the container runtime.
    pub runtime: Runtime,
    /// Pods that do not come from the API server.
    pub sources: Sources,
    /// The HTTP servers; `None` when `enableServer` is false.
    pub server: Option<Server>,
    /// Where liveness of the kubelet itself can be asked for; `None` when `healthzPort` is 0.
    pub healthz: Option<SocketAddr>,
    /// The node object.
    pub node: Node,
    /// How pods are run.
    pub pods: Pods,
    /// Container logs on disk.
    pub container_logs: ContainerLogs,
    /// Which dead containers stay.
    pub dead_containers: DeadContainers,
    /// The kubelet's own log.
    pub logging: Logging,
    /// Where spans go; `None` when there are none.
    pub tracing: Option<Tracing>,
    /// The process itself.
    pub process: Process,
    /// Which features are on.
    pub gates: FeatureGates,
    /// The document as it is in effect, for `/configz`.
    pub(crate) document: Box<KubeletConfiguration>,
}

impl Config {
    /// The document in effect: with upstream's keys, and without those that are unset.
    pub fn document_json(&self) -> serde_json::Value {
        encode(&self.document)
    }

    /// The container runtime has said who makes cgroups, which outranks the document and changes it.
    pub fn set_cgroup_driver(&mut self, driver: CgroupDriver) {
        self.pods.cgroup_driver = driver;
        driver.name().clone_into(&mut self.document.cgroup_driver);
    }

    /// The same as `/configz` shows it below `kubeletconfig`. As upstream, which writes them there once the node is
    /// being built, a certificate the kubelet makes for itself appears as if its files had been configured, and the
    /// CPUs of `reservedSystemCPUs` in place of the amounts they replace.
    pub fn configz_json(&self) -> serde_json::Value {
        let mut document = self.document.clone();
        let is_own = !document.server_tls_bootstrap
            && document.tls_cert_file.is_empty()
            && document.tls_private_key_file.is_empty();
        if is_own {
            let path = |file| self.paths.certificates.join(file).display().to_string();
            document.tls_cert_file = path("kubelet.crt");
            document.tls_private_key_file = path("kubelet.key");
        }
        if !self.node.reserved_cpus.is_empty() {
            if let Dict(Some(amounts)) = &mut document.kube_reserved {
                amounts.remove("cpu");
            }
            // Not where nothing was reserved for the system: upstream writes to a map of its own then, which is
            // not the one that is shown.
            if let Dict(Some(amounts)) = &mut document.system_reserved {
                amounts.insert("cpu".to_owned(), self.node.reserved_cpus.len().to_string());
            }
        }
        encode(&document)
    }

    /// The same for the log: the values of HTTP headers, which may be credentials, are masked.
    pub fn document_json_for_log(&self) -> serde_json::Value {
        let mut json = self.document_json();
        if let Some(headers) = json.pointer_mut("/staticPodURLHeader").and_then(|value| value.as_object_mut())
        {
            for value in headers.values_mut() {
                *value = vec!["<masked>"].into();
            }
        }
        json
    }

    /// The same as YAML, as upstream logs it.
    pub fn document_yaml_for_log(&self) -> String {
        let json = self.document_json_for_log();
        // JSON is YAML, too.
        serde_saphyr::to_string(&json).unwrap_or_else(|_| json.to_string())
    }

    /// The document in effect, with the types it is written in.
    pub fn document(&self) -> &KubeletConfiguration {
        &self.document
    }
}

fn encode(document: &KubeletConfiguration) -> serde_json::Value {
    let mut json = document.encode();
    if let Some(fields) = json.as_object_mut() {
        fields.insert("kind".to_owned(), "KubeletConfiguration".into());
        fields.insert("apiVersion".to_owned(), "kubelet.config.k8s.io/v1beta1".into());
    }
    json
}

/// Who the node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `--hostname-override`, which names the node instead of the host name.
    pub hostname_override: Option<String>,
    /// `--node-ip`: none, one address, or one of each family. An unspecified address (`0.0.0.0`,
    /// `::`) asks for a family only.
    pub node_ips: Vec<IpAddr>,
    /// Whether an external cloud provider completes the node.
    pub external_cloud_provider: bool,
    /// `spec.providerID`, if known beforehand.
    pub provider_id: Option<String>,
}

/// A host without a name cannot name a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("empty host name cannot name the node: set --hostname-override")]
pub struct EmptyNodeName;

impl Identity {
    /// The name of the node: the override or else the name of the host, trimmed, in lower case.
    ///
    /// # Errors
    /// If nothing is left of it.
    pub fn node_name(&self, hostname: &str) -> Result<String, EmptyNodeName> {
        let name = self.hostname_override.as_deref().unwrap_or(hostname).trim().to_lowercase();
        if name.is_empty() { Err(EmptyNodeName) } else { Ok(name) }
    }
}

/// Folders for the kubelet's own files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// All state, usually `/var/lib/kubelet`; absolute.
    pub root: PathBuf,
    /// Certificates, usually `/var/lib/kubelet/pki`; absolute.
    pub certificates: PathBuf,
    /// Logs of pods, usually `/var/log/pods`; absolute.
    pub pod_logs: PathBuf,
}

/// How to reach the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiClient {
    /// Credentials; `None` for a node without API server.
    pub kubeconfig: Option<PathBuf>,
    /// Credentials to obtain the former with, where those do not exist yet.
    pub bootstrap_kubeconfig: Option<PathBuf>,
    /// Whether the client certificate is renewed through the API.
    pub rotate_certificates: bool,
    /// Requests a second, without those of the node's lease.
    pub queries_per_second: u32,
    /// Requests that may exceed that at once.
    pub burst: u32,
    /// Events a second; 0 is unlimited.
    pub events_per_second: u32,
    /// Events that may exceed that at once.
    pub event_burst: u32,
}

/// How to reach the container runtime.
#[derive(Clone, Debug, PartialEq)]
pub struct Runtime {
    /// Where it listens, such as `unix:///run/containerd/containerd.sock`.
    pub endpoint: String,
    /// Where its image service listens; the same unless said otherwise.
    pub image_endpoint: String,
    /// Deadline of every call but those that take as long as they take (pull, exec, attach, logs).
    pub request_timeout: Duration,
    /// The cgroup the runtime runs in, if known.
    pub cgroup: Option<String>,
    /// Programs that know the credentials of registries, in the order in which they are asked.
    pub credential_providers: Vec<CredentialProvider>,
    /// Which configuration of theirs it is: `sha256:` and a digest; `None` when there is none.
    pub credential_providers_digest: Option<String>,
    /// Folder with the executables of these programs.
    pub credential_provider_bin: Option<PathBuf>,
}

/// Pods that do not come from the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// File or folder of manifests.
    pub static_pod_path: Option<PathBuf>,
    /// How often to read it again, whatever changes are seen.
    pub file_check_interval: Duration,
    /// Where to fetch manifests.
    pub static_pod_url: Option<String>,
    /// Headers of that request. They may be secret.
    pub static_pod_url_headers: Headers,
    /// How often to fetch them.
    pub http_check_interval: Duration,
}

/// The HTTP servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The API, by HTTPS.
    pub address: SocketAddr,
    /// The open part of it, by HTTP; `None` is off.
    pub read_only: Option<SocketAddr>,
    /// Certificates and what is negotiated.
    pub tls: Tls,
    /// Who is asking.
    pub authentication: Authentication,
    /// What they may do.
    pub authorization: Authorization,
    /// Whether exec, attach, port-forward, logs and running pods are served.
    pub debugging_handlers: bool,
    /// Whether `/debug/pprof` is served.
    pub profiling_handler: bool,
    /// Whether `/debug/flags/v` is served.
    pub debug_flags_handler: bool,
    /// Whether `/logs` is served.
    pub system_log_handler: bool,
    /// Whether queries of the system's log are answered there.
    pub system_log_query: bool,
    /// Without effect in v1.37, which leaves it to the runtime; shown by `/configz`.
    pub streaming_idle_timeout: Duration,
}

/// Certificates of the HTTPS server and what it negotiates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Certificate and key; `None` for a self-signed pair in the folder of certificates.
    pub files: Option<TlsFiles>,
    /// Whether the certificate is obtained through the API.
    pub bootstrap: bool,
    /// The oldest version spoken.
    pub min_version: TlsVersion,
    /// Cipher suites up to TLS 1.2 by their IANA names; empty for the usual ones.
    pub cipher_suites: Vec<String>,
    /// Key exchange groups by their IANA numbers; empty for the usual ones.
    pub key_exchange_groups: Vec<u16>,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, PEM.
    pub certificate: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.0, which this server does not speak: it counts as 1.2.
    V1_0,
    /// 1.1, which this server does not speak: it counts as 1.2.
    V1_1,
    /// 1.2
    V1_2,
    /// 1.3
    V1_3,
}

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authentication {
    /// Whether a request without credentials is `system:anonymous` rather than refused.
    pub anonymous: bool,
    /// Whether bearer tokens are reviewed by the API server, and for how long an answer holds.
    pub webhook: Option<Duration>,
    /// The authorities that vouch for client certificates.
    pub client_ca: Option<PathBuf>,
}

/// What they may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// Anything.
    AlwaysAllow,
    /// What the API server says.
    Webhook {
        /// How long a yes holds.
        authorized_ttl: Duration,
        /// How long a no holds.
        unauthorized_ttl: Duration,
    },
}

/// The node object.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Whether the kubelet creates it.
    pub register: bool,
    /// Labels it is created with.
    pub labels: BTreeMap<String, String>,
    /// Taints it is created with.
    pub taints: Vec<Taint>,
    /// How often its status is computed.
    pub status_update_interval: Duration,
    /// How often its status is written though nothing has changed.
    pub status_report_interval: Duration,
    /// How long its lease holds; it is renewed four times as often.
    pub lease_duration: Duration,
    /// How many images its status lists; `None` is all.
    pub status_max_images: Option<usize>,
    /// How many pods it takes.
    pub max_pods: u32,
    /// How many pods it takes for each core; 0 does not limit.
    pub pods_per_core: u32,
    /// Addresses for pods, where no API server assigns them.
    pub pod_cidr: Option<String>,
    /// Held back for the system, by resource: cpu (cores), memory, ephemeral-storage (bytes), pid.
    pub system_reserved: BTreeMap<String, Quantity>,
    /// Held back for Kubernetes' own processes, likewise.
    pub kube_reserved: BTreeMap<String, Quantity>,
    /// The CPUs that are held back, by number. What is held back of `cpu` for the system is as many.
    pub reserved_cpus: BTreeSet<u32>,
    /// Whether what is held back is kept from the cgroup of all pods.
    pub enforce_pods: bool,
    /// The cgroup that is limited to what is held back for the system, if one is.
    pub system_reserved_cgroup: Option<ReservedCgroup>,
    /// The same for Kubernetes' own processes.
    pub kube_reserved_cgroup: Option<ReservedCgroup>,
    /// When pods are evicted.
    pub eviction: Eviction,
    /// When images are removed that nobody uses.
    pub image_gc: ImageGc,
    /// Whether the attach-detach controller attaches volumes.
    pub controller_attaches: bool,
    /// Whether local storage is accounted for and evicted on.
    pub local_storage_isolation: bool,
}

/// A cgroup that is limited to what is held back for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReservedCgroup {
    /// Its name. It has to be there already.
    pub name: String,
    /// Whether only CPU time is, which nobody dies of lacking.
    pub is_compressible_only: bool,
}

/// When images are removed that nobody uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageGc {
    /// From which usage of their disk on, percent.
    pub high_percent: u8,
    /// Down to which usage, percent.
    pub low_percent: u8,
    /// Younger ones stay when space is needed.
    pub minimum_age: Duration,
    /// What nobody has used for longer goes in any case; `None` for no such age.
    pub maximum_age: Option<Duration>,
}

/// When pods are evicted.
#[derive(Clone, Debug, PartialEq)]
pub struct Eviction {
    /// The thresholds, hard ones first.
    pub thresholds: Vec<EvictionThreshold>,
    /// Whether pods may use what hard thresholds keep free
    /// (`--experimental-allocatable-ignore-eviction`).
    pub is_allocatable: bool,
    /// How long a pressure condition stays once it is gone.
    pub pressure_transition: Duration,
    /// The grace that a pod gets at most when a soft threshold is met, seconds.
    pub max_pod_grace_seconds: u32,
}

/// Which images a pod may use, though they are present, only with credentials that open them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageVerification {
    /// None.
    Never,
    /// Those that a kubelet has pulled; who put the others there meant them for everybody.
    Pulled,
    /// All but these: names without tag and digest; one that ends in `/*` stands for all that begin with what is
    /// before the star.
    Unlisted(Vec<String>),
    /// All.
    Always,
}

/// How pods are run.
#[derive(Clone, Debug, PartialEq)]
pub struct Pods {
    /// How often a pod is looked at though nothing has changed.
    pub sync_interval: Duration,
    /// How changed ConfigMaps and Secrets are found out.
    pub detection: Detection,
    /// The first wait before a container that keeps failing is started again, bounded by the longest.
    pub crash_loop_initial: Duration,
    /// The longest wait before a container that keeps failing is started again.
    pub crash_loop_max: Duration,
    /// DNS servers of pods with the policy `ClusterFirst`.
    pub cluster_dns: Vec<IpAddr>,
    /// The domain of the cluster; empty for none.
    pub cluster_domain: String,
    /// The host's resolver file; `None` keeps the host's settings from pods.
    pub resolv_conf: Option<PathBuf>,
    /// How many images are pulled at once; `None` does not limit.
    pub parallel_pulls: Option<u32>,
    /// Pulls a second; 0 does not limit.
    pub pulls_per_second: u32,
    /// Pulls that may exceed that at once.
    pub pull_burst: u32,
    /// `imagePullCredentialsVerificationPolicy`. `None` without the feature gate: nothing is noted of pulls then, and
    /// whatever is present is everybody's.
    pub image_verification: Option<ImageVerification>,
    /// The cgroup below which those of pods are made; empty is the root.
    pub cgroup_root: String,
    /// Whether each QoS class and each pod has a cgroup.
    pub cgroups_per_qos: bool,
    /// How cgroups are made; the runtime's own answer outranks it.
    pub cgroup_driver: CgroupDriver,
    /// `singleProcessOOMKill`: whether the kernel, out of memory, kills one process of a container instead of all. `None`
    /// leaves it to the version of cgroups: version 1 knows nothing else.
    pub single_process_oom_kill: Option<bool>,
    /// Whether the kubelet refuses a host with swap.
    pub fail_swap_on: bool,
    /// Whether containers of Burstable pods may swap, where the host can limit how much.
    pub may_swap: bool,
    /// How far between request and limit memory use is slowed down; `None` is never.
    pub memory_throttling_factor: Option<f64>,
    /// `memoryReservationPolicy: TieredReservation`: whether the kernel keeps for pods the memory they request.
    pub reserves_memory: bool,
    /// `qosReserved`: the percentage of requested memory that lower QoS classes cannot have, if any.
    pub qos_reserved_memory_percent: Option<u8>,
    /// Whether the kubelet refuses a host with cgroup v1.
    pub fail_cgroup_v1: bool,
    /// Whether containers without a seccomp profile get the runtime's.
    pub seccomp_default: bool,
    /// The period of CPU limits; `None` where CPU limits are not enforced.
    pub cpu_cfs_quota_period: Option<Duration>,
    /// How many processes a pod may have; `None` is as many as the node has.
    pub pids_limit: Option<u64>,
    /// How often the usage of volumes is measured; `None` is never.
    pub volume_stats_interval: Option<Duration>,
    /// Patterns of sysctls that are allowed though unsafe.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// How many user and group ids a pod with a user namespace of its own gets.
    pub ids_per_user_namespace: u32,
    /// Sysctls of pods that set no others, named with dots.
    pub default_sysctls: BTreeMap<String, String>,
    /// Whether iptables chains are made for others: a hint which kind is in use, and a shield for loopback addresses.
    pub iptables_chains: bool,
}

/// How changed ConfigMaps and Secrets are found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detection {
    /// They are watched.
    Watch,
    /// They are read whenever they are needed.
    Get,
    /// They are read when what is known is old.
    Cache,
}

/// How cgroups are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupDriver {
    /// By writing to the file system.
    Cgroupfs,
    /// By asking systemd.
    Systemd,
}

impl CgroupDriver {
    /// As the document has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cgroupfs => "cgroupfs",
            Self::Systemd => "systemd",
        }
    }
}

/// Container logs on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContainerLogs {
    /// Bytes at which a log is rotated; `None` is never.
    pub max_bytes: Option<u64>,
    /// Files kept for a container, the current one included.
    pub max_files: u32,
    /// Logs rotated at once.
    pub workers: u32,
    /// How often sizes are looked at.
    pub check_interval: Duration,
}

/// The kubelet's own log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// The form of a line.
    pub format: LogFormat,
    /// The `-v` level.
    pub verbosity: u32,
    /// The levels of single source files: a pattern for the file's name without `.rs`, a level.
    pub modules: Vec<(String, u32)>,
    /// Whether lines have the fields of what they are logged in the course of.
    pub is_contextual: bool,
    /// Whether messages go to standard output and only problems to standard error.
    pub split_stream: bool,
    /// How many bytes of messages may wait to be written, when streams are split; 0 is none.
    pub info_buffer_bytes: u64,
    /// How long they may wait.
    pub flush_interval: Duration,
}

/// What is in effect before there is a configuration.
impl Default for Logging {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            verbosity: 0,
            modules: Vec::new(),
            is_contextual: true,
            split_stream: false,
            info_buffer_bytes: 0,
            flush_interval: Duration::from_secs(5),
        }
    }
}

/// The form of a line of the kubelet's own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// klog's.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where spans go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracing {
    /// The collector, OTLP over gRPC; `None` is the usual one of this host.
    pub endpoint: Option<String>,
    /// Of how many traces in a million that start here spans are kept.
    pub samples_per_million: u32,
}

/// Which dead containers stay, of pods that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadContainers {
    /// Younger ones neither go nor count.
    pub minimum_age: Duration,
    /// How many of each container; `None` is all.
    pub of_each: Option<usize>,
    /// How many on the whole node; `None` is all.
    pub in_all: Option<usize>,
}

/// The process itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its `oom_score_adj`.
    pub oom_score_adj: i32,
    /// How many files it may have open.
    pub max_open_files: u64,
    /// Where what the core is told is recorded; `None` is nowhere.
    pub record: Option<PathBuf>,
    /// A file that is locked while it runs.
    pub lock_file: Option<PathBuf>,
    /// Whether it ends when somebody else opens that file.
    pub exit_on_lock_contention: bool,
    /// Whether kernel settings that are not as expected keep it from starting, instead of being set.
    pub protect_kernel_defaults: bool,
    /// The cgroup it keeps itself in; `None` is wherever it is started.
    pub cgroup: Option<String>,
    /// The cgroup into which it moves processes that have none; `None` leaves them alone.
    pub system_cgroup: Option<String>,
}
