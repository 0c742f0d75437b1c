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

use http::HeaderValue;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rustls::client::Resumption;
use thiserror::Error;
use tower::{BoxError, ServiceBuilder};

use crate::excerpt;
use crate::identity::{FileIdentity, IdentityError};
use crate::throttle::{RateLimit, Throttle};

/// Silence after which the peer is asked whether it lives.
const PING_AFTER: Duration = Duration::from_secs(10);
/// Time the peer has to answer: together with [`PING_AFTER`] less than 20 s.
const PING_ANSWER: Duration = Duration::from_secs(8);
/// Time unacknowledged data may be under way: the same promise for HTTP/1.1 peers.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(18);
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
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            user_agent: "kubelet".to_owned(),
            qps: 50.0,
            burst: 100,
            heartbeat_timeout: Duration::from_secs(10),
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
        source: Box<kube::Error>,
    },
    /// `tls-server-name` is no DNS name.
    #[error("tls-server-name {name:?} of kubeconfig {path}")]
    ServerName {
        /// The kubeconfig.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// It asks for a proxy.
    #[error("kubeconfig {path} asks for a proxy, which is not supported")]
    Proxy {
        /// The kubeconfig.
        path: PathBuf,
    },
    /// The user agent has characters a header cannot carry.
    #[error("user agent is not a header value")]
    UserAgent(#[source] http::header::InvalidHeaderValue),
}

/// Clients for one API server. Cheap to clone.
#[derive(Clone)]
pub struct Connection {
    /// Ordinary traffic, within QPS and burst.
    pub api: Client,
    /// Lease and node status: a connection of its own, no limit, short timeout, so that a
    /// heartbeat never waits behind other traffic.
    pub heartbeat: Client,
    wiring: Arc<Wiring>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("server", &self.wiring.config.cluster_url).finish_non_exhaustive()
    }
}

impl Connection {
    /// A client on a connection of its own that shares QPS and burst with [`Connection::api`].
    ///
    /// # Errors
    /// Those of [`connect`].
    pub fn another(&self) -> Result<Client, ConnectError> {
        self.wiring.client(HEAD_TIMEOUT, self.wiring.limit.clone())
    }

    /// A client on a connection of its own with its own limit, e.g. for events.
    ///
    /// # Errors
    /// Those of [`connect`].
    pub fn with_limit(&self, qps: f64, burst: u32) -> Result<Client, ConnectError> {
        self.wiring.client(HEAD_TIMEOUT, RateLimit::new(qps, burst))
    }

    /// The API server's address.
    pub fn server(&self) -> String {
        self.wiring.config.cluster_url.to_string()
    }
}

/// Reads a kubeconfig and prepares clients. Nothing is sent yet: a server that is down is no error.
///
/// Relative paths in the file are relative to it. Credentials may be inline, files (re-read for
/// each new connection) or a token file (re-read every minute).
///
/// # Errors
/// [`ConnectError`], naming the file.
pub async fn connect(kubeconfig: &Path, settings: ClientSettings) -> Result<Connection, ConnectError> {
    // The only error is that somebody chose a provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let fail = |source| ConnectError::Kubeconfig {
        path: kubeconfig.to_owned(),
        source: Box::new(excerpt::without(source)),
    };
    let document = Kubeconfig::read_from(kubeconfig).map_err(fail)?;
    let config =
        Config::from_custom_kubeconfig(document, &KubeConfigOptions::default()).await.map_err(fail)?;
    let wiring = Wiring::new(kubeconfig, config, &settings)?;
    let api = wiring.client(HEAD_TIMEOUT, wiring.limit.clone())?;
    let heartbeat = wiring.client(settings.heartbeat_timeout, None)?;
    Ok(Connection { api, heartbeat, wiring: Arc::new(wiring) })
}

/// What all clients of one kubeconfig share.
struct Wiring {
    path: PathBuf,
    config: Config,
    tls: rustls::ClientConfig,
    user_agent: HeaderValue,
    limit: Option<Arc<RateLimit>>,
}

impl Wiring {
    fn new(path: &Path, mut config: Config, settings: &ClientSettings) -> Result<Self, ConnectError> {
        let path = path.to_owned();
        if config.proxy_url.is_some() {
            return Err(ConnectError::Proxy { path });
        }
        let files = match (&config.auth_info.client_certificate, &config.auth_info.client_key) {
            (Some(certificate), Some(key)) if config.auth_info.client_certificate_data.is_none() => {
                Some((PathBuf::from(certificate), PathBuf::from(key)))
            }
            _ => None,
        };
        let identity = match &files {
            Some((certificate, key)) => {
                let provider = Arc::new(rustls::crypto::ring::default_provider());
                let identity = FileIdentity::open(certificate, key, provider);
                Some(identity.map_err(|source| ConnectError::Identity { path: path.clone(), source })?)
            }
            None => None,
        };
        if identity.is_some() {
            // Otherwise the library reads them once and for all.
            config.auth_info.client_certificate = None;
            config.auth_info.client_key = None;
        }
        let tls = config.rustls_client_config();
        let mut tls =
            tls.map_err(|source| ConnectError::Credentials { path: path.clone(), source: source.into() })?;
        if let Some(identity) = identity {
            tls.client_auth_cert_resolver = Arc::new(identity);
        }
        // A resumed session keeps the client certificate it was made with, which rotation may have
        // replaced. Connections are few and live long: nothing is gained by resuming.
        tls.resumption = Resumption::disabled();
        let user_agent = HeaderValue::from_str(&settings.user_agent).map_err(ConnectError::UserAgent)?;
        let limit = RateLimit::new(settings.qps, settings.burst);
        Ok(Self { path, config, tls, user_agent, limit })
    }

    fn client(&self, head_timeout: Duration, limit: Option<Arc<RateLimit>>) -> Result<Client, ConnectError> {
        let credentials = |source: kube::Error| ConnectError::Credentials {
            path: self.path.clone(),
            source: source.into(),
        };
        let mut builder = hyper_util::client::legacy::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(2)
            .http2_keep_alive_interval(PING_AFTER)
            .http2_keep_alive_timeout(PING_ANSWER)
            // Watches are open most of the time; without any request there is nothing to lose.
            .http2_keep_alive_while_idle(false);
        let transport = Throttle {
            inner: builder.build::<_, Body>(self.connector()?),
            user_agent: self.user_agent.clone(),
            limit,
            head_timeout,
        };
        let service = ServiceBuilder::new()
            .layer(self.config.base_uri_layer())
            .option_layer(self.config.auth_layer().map_err(credentials)?)
            .layer(self.config.extra_headers_layer().map_err(credentials)?)
            .map_err(BoxError::from)
            .service(transport);
        Ok(Client::new(service, self.config.default_namespace.clone()))
    }

    fn connector(&self) -> Result<HttpsConnector<HttpConnector>, ConnectError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_keepalive(Some(PING_AFTER));
        tcp.set_keepalive_interval(Some(Duration::from_secs(3)));
        tcp.set_keepalive_retries(Some(2));
        tcp.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
        let mut builder = HttpsConnectorBuilder::new().with_tls_config(self.tls.clone()).https_or_http();
        if let Some(name) = &self.config.tls_server_name {
            let parsed = name
                .clone()
                .try_into()
                .map_err(|_| ConnectError::ServerName { path: self.path.clone(), name: name.clone() })?;
            builder = builder.with_server_name_resolver(FixedServerNameResolver::new(parsed));
        }
        Ok(builder.enable_all_versions().wrap_connector(tcp))
    }
}

#[cfg(test)]
mod tests;
