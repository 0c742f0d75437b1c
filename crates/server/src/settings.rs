//! What an operator can set about the API, already validated.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Settings of the API's servers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node's name: the object that requests are authorized for.
    pub node_name: String,
    /// `address`: where the main and the read-only server listen.
    pub address: IpAddr,
    /// `port`; 0 takes any free one.
    pub port: u16,
    /// `readOnlyPort`; `None` for no such server.
    pub read_only_port: Option<u16>,
    /// `healthzBindAddress` and `healthzPort`; `None` for no such server.
    pub healthz: Option<SocketAddr>,
    /// Which optional endpoints there are.
    pub endpoints: EndpointSettings,
    /// The machine's own logs.
    pub system_logs: SystemLogSettings,
    /// Who may do what.
    pub access: AccessSettings,
    /// How TLS is spoken.
    pub tls: TlsSettings,
    /// `streamingConnectionIdleTimeout`: an exec, attach or port-forward connection on which
    /// nothing moves for so long is closed.
    pub streaming_idle_timeout: Duration,
}

impl Settings {
    /// Nothing but the health port.
    pub(crate) fn health_only(address: SocketAddr) -> Self {
        Self {
            node_name: String::new(),
            address: address.ip(),
            port: 0,
            read_only_port: None,
            healthz: Some(address),
            endpoints: EndpointSettings::default(),
            system_logs: SystemLogSettings {
                has_query: false,
                root: PathBuf::new(),
                journalctl: PathBuf::new(),
            },
            access: AccessSettings {
                is_anonymous_allowed: false,
                token_cache_ttl: None,
                client_ca_file: None,
                reloads_client_ca: true,
                reads_uid_from_certificates: false,
                authorization: Authorization::AlwaysAllow,
            },
            tls: TlsSettings::default(),
            streaming_idle_timeout: Duration::ZERO,
        }
    }
}

/// Which optional endpoints there are; by default none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointSettings {
    /// `enableDebuggingHandlers`: everything that reaches into containers, logs included.
    pub has_debugging: bool,
    /// `enableSystemLogHandler`.
    pub has_system_logs: bool,
    /// `enableProfilingHandler`.
    pub has_profiling: bool,
    /// `enableDebugFlagsHandler`.
    pub has_debug_flags: bool,
    /// Feature gate `KubeletAllocatedPodsEndpoint`.
    pub has_allocated_pods: bool,
    /// Feature gate `PodLogsQuerySplitStreams`.
    pub has_log_streams: bool,
    /// Feature gate `ExtendWebSocketsToKubelet`.
    pub translates_websockets: bool,
    /// Feature gate `ContainerCheckpoint`.
    pub has_checkpoint: bool,
    /// Feature gate `ComponentFlagz`.
    pub has_flags: bool,
    /// Feature gate `ComponentStatusz`.
    pub has_status: bool,
    /// Whether device plugins can register, so that their check has something to look at.
    pub has_device_plugins: bool,
}

/// The machine's own logs, behind `/logs/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemLogSettings {
    /// `enableSystemLogQuery`: services can be asked for, not files only.
    pub has_query: bool,
    /// The folder of logs, `/var/log`.
    pub root: PathBuf,
    /// The program that reads the journal; a bare name is looked for in `PATH`.
    pub journalctl: PathBuf,
}

/// Who may do what.
#[derive(Clone, Debug)]
pub struct AccessSettings {
    /// `authentication.anonymous.enabled`.
    pub is_anonymous_allowed: bool,
    /// `authentication.webhook.enabled`: bearer tokens are reviewed by the API server, answers
    /// kept for so long (`cacheTTL`). `None` ignores tokens.
    pub token_cache_ttl: Option<Duration>,
    /// `authentication.x509.clientCAFile`.
    pub client_ca_file: Option<PathBuf>,
    /// Whether another content of that file is taken (`ReloadKubeletClientCAFile`).
    pub reloads_client_ca: bool,
    /// Feature gate `AllowParsingUserUIDFromCertAuth`: client certificates may name the uid of their holder.
    pub reads_uid_from_certificates: bool,
    /// `authorization.mode`.
    pub authorization: Authorization,
}

/// `authorization.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// Whoever is authenticated may do everything.
    AlwaysAllow,
    /// The API server is asked (SubjectAccessReview).
    Webhook {
        /// How long a yes is kept.
        allowed_ttl: Duration,
        /// How long a no is kept.
        denied_ttl: Duration,
    },
}

/// How TLS is spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// `tlsMinVersion`: TLS 1.3 only. 1.2 is the least this server speaks in any case.
    pub is_tls13_only: bool,
    /// `tlsCipherSuites`, by IANA name; empty for the defaults. Those of TLS 1.3 are not
    /// configurable, as upstream.
    pub cipher_suites: Vec<String>,
    /// Whether a certificate that changed on disk is taken (`ReloadKubeletServerCertificateFile`).
    pub reloads_certificate: bool,
    /// `tlsCurvePreferences`, by IANA number; empty for the defaults. Their order says nothing, as upstream.
    pub key_exchange_groups: Vec<u16>,
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self {
            is_tls13_only: false,
            cipher_suites: Vec::new(),
            reloads_certificate: true,
            key_exchange_groups: Vec::new(),
        }
    }
}
