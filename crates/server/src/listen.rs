//! Sockets, limits, and the end of it all.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use host::listeners::{self, Listener};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::auth::Access;
use crate::certificate::ServingCertificate;
use crate::counting::Served;
use crate::endpoint::ServerKind;
use crate::file_watch::FileWatch;
use crate::identity::{ClientTrust, Shown};
use crate::ports::Ports;
use crate::service::{Peer, Service};
use crate::settings::Settings;
use crate::slots::{Slot, Slots};
use crate::socket;
use crate::tls;
use crate::unauthenticated::{Authenticated, UnauthenticatedConnections};

/// For an idle connection to end in good order.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Connections (tunnels included) to one server at a time. The API server keeps a few, scrapers one
/// each, every exec, attach and port-forward one: this leaves room for thousands. Those without
/// credentials are far fewer, see [`unauthenticated`](crate::unauthenticated).
const MAX_CONNECTIONS: usize = 4096;
/// For the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// For the first request's head: who connects and says nothing is not waited for.
const FIRST_TIMEOUT: Duration = Duration::from_secs(30);
/// After this long without a further request a connection is closed; upstream's number.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// The largest request head, bytes. Commands of an exec are part of it.
const MAX_HEAD_BYTES: usize = 128 * 1024;
/// How often certificate files are looked at when nothing is heard of them; upstream's number.
const RELOAD_PERIOD: Duration = Duration::from_secs(60);
/// Between two looks: folders in which much happens are no reason to look all the time.
const RELOAD_PAUSE: Duration = Duration::from_secs(1);
/// Before the health port is tried again; upstream's number.
const HEALTHZ_RETRY: Duration = Duration::from_secs(5);
/// After a failed accept, which is the node running out of something.
const ACCEPT_RETRY: Duration = Duration::from_secs(1);

/// The servers, listening and not yet answering.
pub struct Server {
    settings: Arc<Settings>,
    certificate: ServingCertificate,
    trust: Option<Arc<ClientTrust>>,
    tls: Arc<ArcSwap<ServerConfig>>,
    main: TcpListener,
    read_only: Option<TcpListener>,
    healthz: Option<TcpListener>,
}

/// Where they listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// HTTPS.
    pub main: SocketAddr,
    /// Plain, when set.
    pub read_only: Option<SocketAddr>,
    /// Health, when set and bound.
    pub healthz: Option<SocketAddr>,
}

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken or not ours.
    #[error("failed to listen on {address}{holders}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Who listens there, if somebody does and can be seen.
        holders: PortHolders,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// The client CA file is of no use.
    #[error("failed to load client CA file {path:?}")]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The TLS settings do not work out.
    #[error("failed to set TLS up")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The processes that have a port which is taken, as words to be put behind the address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortHolders(Vec<Listener>);

impl fmt::Display for PortHolders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, holder) in self.0.iter().enumerate() {
            let word = if place == 0 { ", where there is" } else { " and" };
            write!(f, "{word} {holder}")?;
        }
        Ok(())
    }
}

impl Server {
    /// Takes the addresses, waiting up to 2 s for one that somebody else has. Reads the client CA file, and thus blocks on the
    /// disk for a moment.
    pub async fn bind(settings: Settings, certificate: ServingCertificate) -> Result<Self, ListenError> {
        let trust = match &settings.access.client_ca_file {
            Some(path) => {
                let client_ca =
                    |source| ListenError::ClientCa { path: path.clone(), source: Box::new(source) };
                Some(Arc::new(
                    ClientTrust::load(path, settings.access.reads_uid_from_certificates)
                        .map_err(client_ca)?,
                ))
            }
            None => None,
        };
        let config = tls::config(&settings.tls, &certificate, trust.as_deref());
        let config = config.map_err(|error| ListenError::Tls(Box::new(error)))?;
        let main = bind(SocketAddr::new(settings.address, settings.port)).await?;
        let read_only = match settings.read_only_port {
            Some(port) => Some(bind(SocketAddr::new(settings.address, port)).await?),
            None => None,
        };
        let healthz = match settings.healthz {
            // Tried again while serving: a node without this port still works.
            Some(address) => bind(address).await.inspect_err(warn_healthz).ok(),
            None => None,
        };
        let (settings, tls) = (Arc::new(settings), Arc::new(ArcSwap::new(config)));
        Ok(Self { settings, certificate, trust, tls, main, read_only, healthz })
    }

    /// Where the servers listen.
    pub fn addresses(&self) -> io::Result<Addresses> {
        let of = |listener: &Option<TcpListener>| listener.as_ref().map(TcpListener::local_addr).transpose();
        Ok(Addresses {
            main: self.main.local_addr()?,
            read_only: of(&self.read_only)?,
            healthz: of(&self.healthz)?,
        })
    }

    /// Answers until `shutdown` ends; then closes every connection and returns.
    pub async fn serve<P: Ports>(self, ports: P, shutdown: impl Future<Output = ()> + Send) {
        let (stop, stopped) = watch::channel(false);
        let access = Arc::new(Access::new(
            self.settings.access.clone(),
            self.settings.node_name.clone(),
            self.trust.clone(),
        ));
        let service = |kind, access| {
            Arc::new(Service {
                kind,
                settings: self.settings.clone(),
                ports: ports.clone(),
                access,
                shutdown: stopped.clone(),
            })
        };
        let mut servers = JoinSet::new();
        let main = service(ServerKind::Main, Some(access));
        servers.spawn(accept(self.main, main, Some(self.tls.clone())));
        if let Some(listener) = self.read_only {
            servers.spawn(accept(listener, service(ServerKind::ReadOnly, None), None));
        }
        if let Some(address) = self.settings.healthz {
            let healthz = service(ServerKind::Healthz, None);
            servers.spawn(accept_later(self.healthz, address, healthz));
        }
        servers.spawn(reload(self.settings.clone(), self.certificate, self.trust, self.tls));
        shutdown.await;
        // Nobody listening means that all tunnels are gone already.
        let _ = stop.send(true);
        servers.shutdown().await;
    }
}

/// The health port alone: what is left of the API on a node that has none (`enableServer: false`).
pub struct HealthServer {
    listener: Option<TcpListener>,
    address: SocketAddr,
}

impl HealthServer {
    /// Takes the address, if it can be had; else it is tried again while serving.
    pub async fn bind(address: SocketAddr) -> Self {
        let listener = bind(address).await.inspect_err(warn_healthz).ok();
        Self { listener, address }
    }

    /// Where it listens; nothing as long as the address is another's.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.as_ref()?.local_addr().ok()
    }

    /// Answers until `shutdown` ends.
    pub async fn serve<P: Ports>(self, ports: P, shutdown: impl Future<Output = ()> + Send) {
        // Nothing is tunnelled here, so nobody waits for the end.
        let (_stop, stopped) = watch::channel(false);
        let service = Service {
            kind: ServerKind::Healthz,
            settings: Arc::new(Settings::health_only(self.address)),
            ports,
            access: None,
            shutdown: stopped,
        };
        tokio::select! {
            // Cancel-safe: connections end with it, which is what the end of the node means.
            () = accept_later(self.listener, self.address, Arc::new(service)) => {}
            // Cancel-safe: it stays over.
            () = shutdown => {}
        }
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    socket::take(address).await.map_err(|source| {
        let is_taken = source.kind() == io::ErrorKind::AddrInUse;
        let holders = is_taken.then(|| listeners::at_port(address.port()).unwrap_or_default());
        ListenError::Bind { address, holders: PortHolders(holders.unwrap_or_default()), source }
    })
}

fn warn_healthz(error: &ListenError) {
    tracing::warn!(error = error as &dyn std::error::Error, "Failed to start the healthz server, will retry");
}

async fn accept_later<P: Ports>(
    listener: Option<TcpListener>,
    address: SocketAddr,
    service: Arc<Service<P>>,
) {
    let mut bound = listener;
    let listener = loop {
        if let Some(listener) = bound {
            break listener;
        }
        tokio::time::sleep(HEALTHZ_RETRY).await;
        bound = bind(address).await.inspect_err(warn_healthz).ok();
    };
    accept(listener, service, None).await;
}

/// Picks up certificates and authorities that changed on disk.
async fn reload(
    settings: Arc<Settings>,
    certificate: ServingCertificate,
    trust: Option<Arc<ClientTrust>>,
    tls: Arc<ArcSwap<ServerConfig>>,
) {
    let trust = trust.filter(|_| settings.access.reloads_client_ca);
    let is_reloading = settings.tls.reloads_certificate;
    let files = certificate.files().filter(|_| is_reloading).chain(trust.iter().map(|trust| trust.path()));
    let folders = FileWatch::of(files);
    loop {
        tokio::time::sleep(RELOAD_PAUSE).await;
        // Too long without events, or none to be had, are reasons to look, too. Cancel-safe: events stay queued.
        let _ = tokio::time::timeout(RELOAD_PERIOD, folders.changed()).await;
        let (settings, certificate) = (settings.clone(), certificate.clone());
        let (trust, tls) = (trust.clone(), tls.clone());
        let reading = tokio::task::spawn_blocking(move || {
            if is_reloading && let Err(error) = certificate.reload() {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "Failed to reload serving certificate; keeping the old one"
                );
            }
            let Some(trust) = trust else { return };
            match trust.reload() {
                Ok(false) => {}
                // New connections get to see the new authorities' names.
                Ok(true) => match tls::config(&settings.tls, &certificate, Some(&trust)) {
                    Ok(config) => tls.store(config),
                    Err(error) => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "Failed to reload TLS configuration; keeping the old one"
                        );
                    }
                },
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "Failed to reload client CA file; keeping the old one"
                    );
                }
            }
        });
        if reading.await.is_err() {
            return;
        }
    }
}

/// Takes connections, as many as there may be. Dropped, it takes its connections with it.
async fn accept<P: Ports>(
    listener: TcpListener,
    service: Arc<Service<P>>,
    tls: Option<Arc<ArcSwap<ServerConfig>>>,
) {
    let slots = Slots::new(MAX_CONNECTIONS);
    let mut connections = JoinSet::new();
    // Goes with the connections.
    connections.spawn(slots.clone().tidy_up());
    let mut unauthenticated = UnauthenticatedConnections::default();
    loop {
        let Some(slot) = slots.take().await else { return };
        let stream = loop {
            tokio::select! {
                // Cancel-safe: a connection not yet taken stays in the backlog.
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => break stream,
                    Err(error) => {
                        tracing::warn!(%error, "Failed to accept a connection");
                        tokio::time::sleep(ACCEPT_RETRY).await;
                    }
                },
                // Cancel-safe: a finished task not yet taken stays in the set.
                Some(_) = connections.join_next() => {}
            }
        };
        let (service, config) = (service.clone(), tls.as_ref().map(|tls| tls.load_full()));
        let authenticated = Authenticated::default();
        let task = connections.spawn(connection(stream, config, service, slot, authenticated.clone()));
        unauthenticated.join(task, authenticated);
        while connections.try_join_next().is_some() {}
    }
}

async fn connection<P: Ports>(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    service: Arc<Service<P>>,
    slot: Slot,
    authenticated: Authenticated,
) {
    // Both only better how it feels; a socket that refuses still works. Keep-alive finds peers that
    // vanished while a log was followed.
    let _ = stream.set_nodelay(true);
    let _ = rustix::net::sockopt::set_socket_keepalive(&stream, true);
    let slot = Arc::new(slot);
    let Some(config) = tls else {
        return requests(stream, service, Peer { shown: Shown::default(), slot, authenticated }).await;
    };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => {
            let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
            let shown = Shown::new(chain);
            requests(stream, service, Peer { shown, slot, authenticated }).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => tracing::debug!("TLS handshake timed out"),
    }
}

/// Answers the requests of one connection until it ends or idles.
async fn requests<S, P>(stream: S, service: Arc<Service<P>>, peer: Peer)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    P: Ports,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE_TIMEOUT).max_buf_size(MAX_HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(250)
        .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX));
    let (busy, peer) = (Arc::new(Busy::default()), Arc::new(peer));
    let answering = service_fn(|request| {
        let (service, peer, guard) = (service.clone(), peer.clone(), busy.begin());
        async move {
            let (answer, served) = service.answer(request, &peer).await;
            Ok::<_, Infallible>(answer.map(|body| Guarded { body, _guard: guard, _served: served }))
        }
    });
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), answering);
    tokio::pin!(connection);
    tokio::select! {
        // Whichever arm ends first, the connection ends with it.
        ended = &mut connection => {
            if let Err(error) = ended {
                tracing::debug!(error, "connection ended");
            }
        }
        () = busy.idle() => {
            connection.as_mut().graceful_shutdown();
            // What does not end by itself now is dropped.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, &mut connection).await;
        }
    }
}

/// How many requests of a connection are being answered, their bodies included.
#[derive(Default)]
struct Busy {
    requests: AtomicUsize,
    has_begun: AtomicBool,
    changed: Notify,
}

struct BusyGuard(Arc<Busy>);

impl Busy {
    fn begin(self: &Arc<Self>) -> BusyGuard {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.has_begun.store(true, Ordering::Relaxed);
        self.changed.notify_one();
        BusyGuard(self.clone())
    }

    /// Ends when there was no request for too long.
    async fn idle(&self) {
        loop {
            if self.requests.load(Ordering::Relaxed) > 0 {
                self.changed.notified().await;
                continue;
            }
            let has_begun = self.has_begun.load(Ordering::Relaxed);
            tokio::select! {
                () = tokio::time::sleep(if has_begun { IDLE_TIMEOUT } else { FIRST_TIMEOUT }) => return,
                // Cancel-safe: a notice that was not taken stays.
                () = self.changed.notified() => {}
            }
        }
    }
}

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
        self.0.changed.notify_one();
    }
}

/// A body that keeps its connection busy and its request counted.
struct Guarded {
    body: crate::answer::Body,
    _guard: BusyGuard,
    _served: Option<Served>,
}

impl hyper::body::Body for Guarded {
    type Data = bytes::Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        std::pin::Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    /// An expired pair that a kubelet of another version left while this one runs.
    #[tokio::test(start_paused = true)]
    async fn an_expired_certificate_is_replaced_while_the_server_runs() {
        let folder = tempfile::tempdir().unwrap();
        let (file, key) = (folder.path().join("kubelet.crt"), folder.path().join("kubelet.key"));
        let certificate = ServingCertificate::self_signed(folder.path(), &["n".into()], &[]).unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["n".into()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        params.distinguished_name.push(rcgen::DnType::CommonName, "n@1546300800");
        let pair = rcgen::KeyPair::generate().unwrap();
        let expired = params.self_signed(&pair).unwrap().pem();
        std::fs::write(&key, pair.serialize_pem()).unwrap();
        std::fs::write(&file, &expired).unwrap();
        let settings = Arc::new(Settings::health_only(([127, 0, 0, 1], 0).into()));
        let config = tls::config(&settings.tls, &certificate, None).unwrap();
        let reloading =
            tokio::spawn(reload(settings, certificate.clone(), None, Arc::new(ArcSwap::new(config))));
        // The clock stands still while files are read, so that this ends after one round.
        tokio::time::timeout(RELOAD_PERIOD * 10, async {
            while std::fs::read_to_string(&file).unwrap() == expired {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        })
        .await
        .unwrap();
        reloading.abort();
        assert!(!certificate.reload().unwrap(), "what is shown is what is there");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_connection_and_an_answer_under_way_does_not() {
        let busy = Arc::new(Busy::default());
        let start = Instant::now();
        busy.idle().await;
        assert_eq!(start.elapsed().as_secs(), 30);

        let guard = busy.begin();
        let waiting = tokio::spawn({
            let busy = busy.clone();
            async move { busy.idle().await }
        });
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(!waiting.is_finished());
        let start = Instant::now();
        drop(guard);
        waiting.await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 90);
    }
}
