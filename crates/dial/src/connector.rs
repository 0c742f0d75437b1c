//! Opens connections for an HTTP client.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{
    DefaultServerNameResolver, FixedServerNameResolver, HttpsConnector, MaybeHttpsStream, ResolveServerName,
};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::net::TcpStream;
use tower::{BoxError, Service};

use crate::link::{Link, Stream};
use crate::proxies::{Proxies, called};
use crate::proxy::{Kind, Proxy, ProxyError};
use crate::{socks, tunnel};

/// Time a proxy has until there is a connection to the server; Go's number for its answer.
const PROXY_TIMEOUT: Duration = Duration::from_secs(60);

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum DialError {
    /// The server is not there.
    #[error("connect to {server}")]
    Direct {
        /// Host and port.
        server: String,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// There is a proxy that cannot be used.
    #[error(transparent)]
    Unusable(#[from] ProxyError),
    /// The proxy is not there, or not who it should be.
    #[error("connect to the proxy {proxy}")]
    Proxy {
        /// Without user and password.
        proxy: String,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// The proxy does not lead to the server.
    #[error("ask the proxy {proxy} for a connection to {server}")]
    Server {
        /// Without user and password.
        proxy: String,
        /// Host and port.
        server: String,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// The proxy takes too long.
    #[error("the proxy {proxy} has made no connection to {server} within a minute")]
    Slow {
        /// Without user and password.
        proxy: String,
        /// Host and port.
        server: String,
    },
}

/// Opens connections by means of a connector for plain TCP. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Dial<C> {
    tcp: C,
    to_proxy: HttpsConnector<C>,
    proxies: Proxies,
}

impl<C: Clone> Dial<C> {
    /// `tls` and `name` are those for the server: as in Go, they hold for a proxy that is spoken to by TLS as well. So
    /// it is verified by the same authorities, and is shown the same client certificate.
    pub fn new(tcp: C, proxies: Proxies, mut tls: ClientConfig, name: Option<ServerName<'static>>) -> Self {
        // A proxy is asked by HTTP/1.1, whatever the server is offered.
        tls.alpn_protocols.clear();
        let names: Arc<dyn ResolveServerName + Send + Sync> = match name {
            Some(name) => Arc::new(FixedServerNameResolver::new(name)),
            None => Arc::new(DefaultServerNameResolver::default()),
        };
        let to_proxy = HttpsConnector::new(tcp.clone(), tls, false, names);
        Self { tcp, to_proxy, proxies }
    }
}

type Opening = Pin<Box<dyn Future<Output = Result<Link, BoxError>> + Send>>;

impl<C> Service<Uri> for Dial<C>
where
    C: Service<Uri, Response = TokioIo<TcpStream>>,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    type Response = Link;
    type Error = BoxError;
    type Future = Opening;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        ready!(self.tcp.poll_ready(cx)).map_err(Into::into)?;
        self.to_proxy.poll_ready(cx)
    }

    fn call(&mut self, server: Uri) -> Opening {
        let chosen = self.proxies.for_server(&server).map(|proxy| proxy.cloned());
        let proxy = match chosen {
            Ok(Some(proxy)) => proxy,
            Ok(None) => {
                let at = address(&server);
                let opened = self.tcp.call(server);
                return Box::pin(async move {
                    let absent = |error: C::Error| DialError::Direct { server: at, source: error.into() };
                    let stream = MaybeHttpsStream::Http(opened.await.map_err(absent)?);
                    Ok(Link { stream, is_forwarded: false })
                });
            }
            Err(error) => return Box::pin(async move { Err(DialError::from(error).into()) }),
        };
        let opened = proxy.uri().map(|uri| self.to_proxy.call(uri));
        Box::pin(async move {
            let unreachable = |source| DialError::Proxy { proxy: proxy.to_string(), source };
            let opened = opened.map_err(|error| unreachable(error.into()))?;
            let through = async {
                let stream = opened.await.map_err(unreachable)?;
                if proxy.forwards(&server) {
                    return Ok(Link { stream, is_forwarded: true });
                }
                let stream = lead(&proxy, stream, &server).await;
                let stream = stream.map_err(|source| {
                    let (proxy, server) = (proxy.to_string(), address(&server));
                    DialError::Server { proxy, server, source }
                })?;
                Ok(Link { stream, is_forwarded: false })
            };
            let opened: Result<Link, DialError> = match tokio::time::timeout(PROXY_TIMEOUT, through).await {
                Ok(opened) => opened,
                Err(_) => Err(DialError::Slow { proxy: proxy.to_string(), server: address(&server) }),
            };
            opened.map_err(Into::into)
        })
    }
}

/// Makes of a connection to a proxy one to a server.
async fn lead(proxy: &Proxy, stream: Stream, server: &Uri) -> Result<Stream, BoxError> {
    let at = called(server);
    if proxy.kind == Kind::Socks5 {
        let mut stream = TokioIo::new(stream);
        socks::open(&mut stream, at, proxy.credentials.as_ref()).await?;
        return Ok(stream.into_inner());
    }
    Ok(tunnel::open(stream, address(server), proxy.authorization()).await?)
}

/// A server's host and port, both always there.
fn address(server: &Uri) -> String {
    format!("{}:{}", server.host().unwrap_or_default(), called(server).port)
}
