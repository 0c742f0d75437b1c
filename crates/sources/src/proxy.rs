//! How the web server with static pods is reached: directly, or through the HTTP proxy that the environment names
//! (`HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`), as by every Go program.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderValue, Uri, uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;
use tower::{BoxError, Service};

/// A proxy that cannot be used.
#[derive(Debug, Error)]
#[error("the proxy {0} that the environment names is not one of the form http://HOST:PORT")]
pub(crate) struct ProxyError(String);

/// Which proxy is for which server. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Proxies(Arc<Matcher>);

impl Proxies {
    /// Those the environment names. Unlike the library, and like Go, this takes no notice of `ALL_PROXY` and of
    /// variables that are empty.
    pub(crate) fn of_environment() -> Self {
        let first = |names: [&str; 2]| {
            names
                .iter()
                .filter_map(|name| std::env::var(name).ok())
                .find(|value| !value.is_empty())
                .unwrap_or_default()
        };
        Self::new(
            &first(["HTTP_PROXY", "http_proxy"]),
            &first(["HTTPS_PROXY", "https_proxy"]),
            &first(["NO_PROXY", "no_proxy"]),
        )
    }

    /// Proxies for plain HTTP and for TLS, and hosts that need none. Empty is none.
    pub(crate) fn new(http: &str, https: &str, no: &str) -> Self {
        Self(Arc::new(
            Matcher::builder().http(http.to_owned()).https(https.to_owned()).no(no.to_owned()).build(),
        ))
    }

    /// The credentials that a request to this server has to carry for its proxy. Where there is a tunnel, they are sent
    /// when it is made.
    pub(crate) fn credentials(&self, server: &Uri) -> Option<HeaderValue> {
        let proxy = self.of(server).filter(|_| server.scheme() == Some(&uri::Scheme::HTTP))?;
        proxy.basic_auth().cloned().map(sensitive)
    }

    fn of(&self, server: &Uri) -> Option<Intercept> {
        // Go never uses a proxy for the machine itself.
        if is_local(server) { None } else { self.0.intercept(server) }
    }
}

fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

/// Whether a server is this machine.
fn is_local(server: &Uri) -> bool {
    let host = server.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Opens connections to servers.
#[derive(Clone)]
pub(crate) struct Dial {
    pub(crate) tcp: HttpConnector,
    pub(crate) proxies: Proxies,
}

impl Service<Uri> for Dial {
    type Response = Link;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Link, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        let Some(proxy) = self.proxies.of(&server) else {
            let opened = self.tcp.call(server);
            return Box::pin(async move { Ok(Link { stream: opened.await?, is_forwarded: false }) });
        };
        if proxy.uri().scheme() != Some(&uri::Scheme::HTTP) {
            let shown = crate::url::shown(&proxy.uri().to_string());
            return Box::pin(async move { Err(ProxyError(shown).into()) });
        }
        if server.scheme() == Some(&uri::Scheme::HTTP) {
            let opened = self.tcp.call(proxy.uri().clone());
            return Box::pin(async move { Ok(Link { stream: opened.await?, is_forwarded: true }) });
        }
        let mut tunnel = Tunnel::new(proxy.uri().clone(), self.tcp.clone());
        if let Some(password) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(password.clone());
        }
        let opened = tunnel.call(server);
        Box::pin(async move { Ok(Link { stream: opened.await?, is_forwarded: false }) })
    }
}

/// An open connection.
pub(crate) struct Link {
    stream: TokioIo<TcpStream>,
    /// Whether requests go to a proxy that passes them on, which has to be told the whole URL.
    is_forwarded: bool,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("is_forwarded", &self.is_forwarded).finish_non_exhaustive()
    }
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        self.stream.connected().proxy(self.is_forwarded)
    }
}

impl Read for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl Write for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn proxies_are_for_what_is_elsewhere() {
        let proxies = Proxies::new("http://user:secret@proxy:1", "tls-proxy:2", "own.example,10.0.0.0/8");
        let of = |url: &'static str| proxies.of(&Uri::from_static(url)).map(|proxy| proxy.uri().to_string());
        for (url, proxy) in [
            ("http://pods.example/x", Some("http://proxy:1/")),
            ("https://pods.example/x", Some("http://tls-proxy:2/")),
            ("https://own.example/x", None),
            ("http://sub.own.example/x", None),
            ("http://10.1.2.3/x", None),
            ("http://localhost/x", None),
            ("http://127.0.0.2:80/x", None),
            ("http://[::1]:80/x", None),
        ] {
            assert_eq!(of(url).as_deref(), proxy, "{url}");
        }
        let credentials = |url| proxies.credentials(&Uri::from_static(url));
        assert!(credentials("http://pods.example/x").is_some_and(|value| value.is_sensitive()));
        assert_eq!(credentials("https://pods.example/x"), None);
        assert_eq!(credentials("http://own.example/x"), None);
        assert!(!format!("{proxies:?}").contains("secret"));
    }

    /// What happens inside the tunnel is not the proxy's business, nor that of this test.
    #[tokio::test]
    async fn with_tls_a_proxy_is_asked_for_a_tunnel() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = listener.local_addr().unwrap();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            String::from_utf8(head).unwrap().to_lowercase()
        });
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        let proxies = Proxies::new("", &format!("http://user:secret@{proxy}"), "");
        let link = Dial { tcp, proxies }.call(Uri::from_static("https://pods.example/all")).await.unwrap();
        assert!(!link.is_forwarded);
        let head = served.await.unwrap();
        assert!(head.starts_with("connect pods.example:443 http/1.1\r\n"), "{head}");
        assert!(head.contains("proxy-authorization: basic dxnlcjpzzwnyzxq="), "{head}");
    }
}
