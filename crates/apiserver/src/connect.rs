//! From a kubeconfig to clients whose connections notice a dead peer.
//!
//! HTTP/2 puts many requests on one connection, with two consequences. A connection that died
//! silently would hold all of them until TCP gives up after a quarter of an hour, so pings
//! replace it within 20 s. And the API server allows 100 requests at a time on one connection
//! (`http2-max-streams-per-connection`), of which every open watch takes one for good, so
//! watches of single objects get further connections of their own ([`Connection::another`]).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dial::{Dial, Proxies, ProxyError};
use http::HeaderValue;
use http::header::PROXY_AUTHORIZATION;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::ConfigExt;
use kube::{Client, Config};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::ServerName;
use telemetry::traces::{TracedClient, Tracer};
use thiserror::Error;
use tower::{BoxError, ServiceBuilder};

use crate::credentials::{Authenticate, Credentials};
use crate::identity::{FileIdentity, IdentityError, Renewals, ShownIdentity};
use crate::kubeconfig::{self, Identity, KubeconfigFinding, Loaded, impersonation};
use crate::observer::{CredentialEvent, Observer, RequestEvent};
use crate::pool::Pool;
use crate::resolve::Resolver;
use crate::server_trust;
use crate::throttle::{RateLimit, Throttle};

/// Silence after which the peer is asked whether it lives.
const PING_AFTER: Duration = Duration::from_secs(10);
/// Time the peer has to answer.
const PING_ANSWER: Duration = Duration::from_secs(8);
/// Longest that a dead connection is taken for one that lives.
const REPLACED_WITHIN: Duration = Duration::from_secs(20);
const _: () = assert!(PING_AFTER.as_secs() + PING_ANSWER.as_secs() < REPLACED_WITHIN.as_secs());
/// Time unacknowledged data may be under way: the same promise for HTTP/1.1 peers.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(18);
const _: () = assert!(TCP_USER_TIMEOUT.as_secs() < REPLACED_WITHIN.as_secs());
/// Time to set up TCP and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time from a request to the head of its answer.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection nobody uses is closed after this time, as the API server does.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// How to talk to the API server. Numbers and meanings are those of the kubelet's configuration.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// Sent with every request, e.g. `kubelet/v1.37.2 (linux/amd64)`.
    pub user_agent: String,
    /// `kubeAPIQPS`: sustained requests a second; 0 or less: no limit.
    pub qps: f64,
    /// `kubeAPIBurst`: requests that may go at once.
    pub burst: u32,
    /// Limit for a heartbeat's answer: the smaller of lease duration and node status frequency.
    pub heartbeat_timeout: Duration,
    /// Hears what happens to the credentials.
    pub observer: Observer<CredentialEvent>,
    /// Hears of every request.
    pub requests: Observer<RequestEvent>,
    /// How a dead peer is found out.
    pub ping: Ping,
    /// Every request is a span.
    pub tracer: Tracer,
}

/// When a peer counts as dead.
#[derive(Clone, Copy, Debug)]
pub struct Ping {
    /// Silence after which it is asked.
    pub after: Duration,
    /// Time it has to answer.
    pub answer: Duration,
}

impl Default for Ping {
    fn default() -> Self {
        Self { after: PING_AFTER, answer: PING_ANSWER }
    }
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            user_agent: "kubelet".to_owned(),
            qps: 50.0,
            burst: 100,
            heartbeat_timeout: Duration::from_secs(10),
            observer: Observer::default(),
            requests: Observer::default(),
            ping: Ping::default(),
            tracer: Tracer::default(),
        }
    }
}

/// A kubeconfig that cannot be used.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Not readable, not a kubeconfig, or one of its parts (context, CA file …) is missing.
    #[error("read kubeconfig {path}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<kube::config::KubeconfigError>,
    },
    /// It says things that do not go together.
    #[error("kubeconfig {path}: {}", list(findings))]
    Contradictory {
        /// The file.
        path: PathBuf,
        /// All of them.
        findings: Vec<KubeconfigFinding>,
    },
    /// The client certificate or key it names.
    #[error("client certificate of kubeconfig {path}")]
    Identity {
        /// The kubeconfig.
        path: PathBuf,
        /// Why.
        #[source]
        source: IdentityError,
    },
    /// Its CA, key, token or user cannot be used.
    #[error("credentials of kubeconfig {path}")]
    Credentials {
        /// The kubeconfig.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It names an authentication provider, which upstream has removed too.
    #[error("kubeconfig {path} has an auth-provider, which is not supported; use exec")]
    AuthProvider {
        /// The kubeconfig.
        path: PathBuf,
    },
    /// `tls-server-name` is no DNS name.
    #[error("tls-server-name {name:?} of kubeconfig {path}")]
    ServerName {
        /// The kubeconfig.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// The proxy it or the environment asks for cannot be used.
    #[error("proxy to the server of kubeconfig {path}")]
    Proxy {
        /// The kubeconfig.
        path: PathBuf,
        /// Why.
        #[source]
        source: ProxyError,
    },
    /// The user agent has characters a header cannot carry.
    #[error("user agent is not a header value")]
    UserAgent(#[source] http::header::InvalidHeaderValue),
}

fn list(findings: &[KubeconfigFinding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Opens connections to the API server.
pub(crate) type Connector = HttpsConnector<Dial<HttpConnector<Resolver>>>;

/// Clients for one API server. Cheap to clone.
#[derive(Clone)]
pub struct Connection {
    /// Ordinary traffic, within QPS and burst.
    pub api: Client,
    /// Lease and node status: a connection of its own, no limit, short timeout, so that a
    /// heartbeat never waits behind other traffic.
    pub heartbeat: Client,
    template: Arc<ClientTemplate>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("server", &self.template.config.cluster_url)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// A client on a connection of its own that shares QPS and burst with [`Connection::api`].
    ///
    /// # Errors
    /// Those of [`connect`].
    pub fn another(&self) -> Result<Client, ConnectError> {
        self.template.client(HEAD_TIMEOUT, self.template.limit.clone())
    }

    /// A client on a connection of its own with its own limit, e.g. for events.
    ///
    /// # Errors
    /// Those of [`connect`].
    pub fn with_limit(&self, qps: f64, burst: u32) -> Result<Client, ConnectError> {
        self.template.client(HEAD_TIMEOUT, RateLimit::new(qps, burst))
    }

    /// A client on a connection of its own without limit, for what must not wait.
    ///
    /// # Errors
    /// Those of [`connect`].
    pub fn unlimited(&self) -> Result<Client, ConnectError> {
        self.template.client(HEAD_TIMEOUT, None)
    }

    /// The API server's address.
    pub fn server(&self) -> String {
        self.template.config.cluster_url.to_string()
    }
}

/// Reads a kubeconfig and prepares clients. Nothing is sent yet: a server that is down is no error.
///
/// Relative paths in the file are relative to it. Credentials may be inline, files (looked at every
/// minute), a token file (the same) or a plugin (run when something is sent).
///
/// # Errors
/// [`ConnectError`], naming the file.
pub async fn connect(kubeconfig: &Path, settings: ClientSettings) -> Result<Connection, ConnectError> {
    install_crypto();
    let loaded = kubeconfig::load(kubeconfig).await?;
    let (shown, renewals) = (ShownIdentity::empty(), Renewals::new());
    let credentials = loaded.credentials(&shown, &renewals, &settings.observer)?;
    let fail = |source| ConnectError::Identity { path: loaded.path.clone(), source };
    let files = match loaded.identity().map_err(fail)? {
        Identity::None => None,
        Identity::Inline(pair) => {
            shown.show(&pair);
            None
        }
        Identity::Files(certificate, key) => Some(Arc::new(loaded.open_files(&certificate, &key)?)),
    };
    let shown: Arc<dyn ResolvesClientCert> = match &files {
        Some(files) => files.clone(),
        None => shown,
    };
    ClientTemplate::new(loaded, &settings, shown, files, renewals, credentials)?.connection(&settings)
}

/// The same for a certificate that is rotated: it is shown, and nothing else of the kubeconfig's
/// user. Whoever rotates it shows it and has connections renewed.
pub(crate) fn connect_rotating(
    loaded: Loaded,
    settings: ClientSettings,
) -> Result<(Connection, Arc<ShownIdentity>, Renewals), ConnectError> {
    let (shown, renewals) = (ShownIdentity::empty(), Renewals::new());
    let template =
        ClientTemplate::new(loaded, &settings, shown.clone(), None, renewals.clone(), Credentials::None)?;
    Ok((template.connection(&settings)?, shown, renewals))
}

/// The only error is that somebody chose an implementation of cryptography already.
pub(crate) fn install_crypto() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A kubeconfig to ask for certificates with. It is read each time: its token may be replaced.
pub(crate) struct Initial {
    pub(crate) kubeconfig: PathBuf,
    pub(crate) settings: ClientSettings,
}

impl Initial {
    pub(crate) async fn client(&self) -> Result<Client, ConnectError> {
        connect(&self.kubeconfig, self.settings.clone()).await?.unlimited()
    }
}

/// What all clients of one kubeconfig share.
struct ClientTemplate {
    path: PathBuf,
    config: Config,
    tls: rustls::ClientConfig,
    proxies: Proxies,
    user_agent: HeaderValue,
    limit: Option<Arc<RateLimit>>,
    credentials: Arc<Credentials>,
    files: Option<Arc<FileIdentity>>,
    renewals: Renewals,
    ping: Ping,
    requests: Observer<RequestEvent>,
    tracer: Tracer,
}

impl ClientTemplate {
    fn new(
        loaded: Loaded,
        settings: &ClientSettings,
        shown: Arc<dyn ResolvesClientCert>,
        files: Option<Arc<FileIdentity>>,
        renewals: Renewals,
        credentials: Credentials,
    ) -> Result<Self, ConnectError> {
        let path = loaded.path;
        // What is wrong with a proxy is better known before the first request.
        loaded
            .proxies
            .for_server(&loaded.config.cluster_url)
            .map_err(|source| ConnectError::Proxy { path: path.clone(), source })?;
        let tls = server_trust::client_config(&loaded.config);
        let mut tls =
            tls.map_err(|source| ConnectError::Credentials { path: path.clone(), source: source.into() })?;
        tls.client_auth_cert_resolver = shown;
        // A resumed session keeps the client certificate it was made with, which rotation may have
        // replaced. Connections are few and live long: nothing is gained by resuming.
        tls.resumption = Resumption::disabled();
        let user_agent = HeaderValue::from_str(&settings.user_agent).map_err(ConnectError::UserAgent)?;
        let limit = RateLimit::new(settings.qps, settings.burst);
        let mut config = loaded.config;
        config.auth_info = impersonation(loaded.user);
        let authorization = loaded.proxies.authorization(&config.cluster_url);
        config.headers.extend(authorization.map(|value| (PROXY_AUTHORIZATION, value)));
        Ok(Self {
            path,
            tls,
            proxies: loaded.proxies,
            config,
            user_agent,
            limit,
            credentials: Arc::new(credentials),
            files,
            renewals,
            ping: settings.ping,
            requests: settings.requests.clone(),
            tracer: settings.tracer.clone(),
        })
    }

    fn connection(self, settings: &ClientSettings) -> Result<Connection, ConnectError> {
        let api = self.client(HEAD_TIMEOUT, self.limit.clone())?;
        let heartbeat = self.client(settings.heartbeat_timeout, None)?;
        Ok(Connection { api, heartbeat, template: Arc::new(self) })
    }

    fn client(&self, head_timeout: Duration, limit: Option<Arc<RateLimit>>) -> Result<Client, ConnectError> {
        let mut builder = hyper_util::client::legacy::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(2)
            .http2_keep_alive_interval(self.ping.after)
            .http2_keep_alive_timeout(self.ping.answer)
            // A connection that died while nothing was sent would cost the next request its time.
            .http2_keep_alive_while_idle(true);
        let pool = Pool::new(
            builder,
            self.connector()?,
            self.renewals.clone(),
            self.files.clone(),
            self.requests.clone(),
        );
        let pool = TracedClient::new(pool, self.tracer.clone());
        let transport = Throttle {
            inner: pool,
            user_agent: self.user_agent.clone(),
            limit,
            head_timeout,
            observer: self.requests.clone(),
        };
        let authenticated = Authenticate { inner: transport, credentials: self.credentials.clone() };
        let headers = self.config.extra_headers_layer();
        let headers = headers
            .map_err(|source| ConnectError::Credentials { path: self.path.clone(), source: source.into() })?;
        let service = ServiceBuilder::new()
            .layer(self.config.base_uri_layer())
            .layer(headers)
            .map_err(BoxError::from)
            .service(authenticated);
        Ok(Client::new(service, self.config.default_namespace.clone()))
    }

    fn connector(&self) -> Result<Connector, ConnectError> {
        let mut tcp = HttpConnector::new_with_resolver(Resolver::new(self.requests.clone()));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_keepalive(Some(self.ping.after));
        tcp.set_keepalive_interval(Some(Duration::from_secs(3)));
        tcp.set_keepalive_retries(Some(2));
        tcp.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
        let name = self.server_name()?;
        let dial = Dial::new(tcp, self.proxies.clone(), self.tls.clone(), name.clone());
        let mut builder = HttpsConnectorBuilder::new().with_tls_config(self.tls.clone()).https_or_http();
        if let Some(name) = name {
            builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
        }
        // Upstream's way out of trouble with HTTP/2.
        Ok(if std::env::var_os("DISABLE_HTTP2").is_some_and(|value| !value.is_empty()) {
            builder.enable_http1().wrap_connector(dial)
        } else {
            builder.enable_all_versions().wrap_connector(dial)
        })
    }

    /// What the server's certificate is to be for, if that is not its address.
    fn server_name(&self) -> Result<Option<ServerName<'static>>, ConnectError> {
        let Some(name) = &self.config.tls_server_name else { return Ok(None) };
        let parsed = ServerName::try_from(name.clone());
        let parsed =
            parsed.map_err(|_| ConnectError::ServerName { path: self.path.clone(), name: name.clone() })?;
        Ok(Some(parsed))
    }
}

#[cfg(test)]
mod tests;
