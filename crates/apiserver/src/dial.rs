//! TCP to the API server, directly or through an HTTP proxy.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::{BoxError, Service};

use crate::resolve::Resolver;

/// A proxy that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the proxy {0:?} is not one of the form http://HOST:PORT")]
pub struct ProxyError(String);

/// Opens connections. Cheap to clone.
#[derive(Clone)]
pub(crate) enum Dial {
    Direct(HttpConnector<Resolver>),
    Proxied(Tunnel<HttpConnector<Resolver>>),
}

impl Dial {
    /// `chosen` is the kubeconfig's `proxy-url`; without one, the environment decides
    /// (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`), as for every Go program.
    pub(crate) fn new(
        tcp: HttpConnector<Resolver>,
        server: &Uri,
        chosen: Option<&str>,
    ) -> Result<Self, ProxyError> {
        let matcher = match chosen {
            Some(url) if !url.starts_with("http://") => return Err(ProxyError(without_secret(url))),
            Some(url) => Matcher::builder().all(url).build(),
            // Go never uses the environment's proxy for the machine itself.
            None if is_local(server) => return Ok(Self::Direct(tcp)),
            None => Matcher::from_env(),
        };
        let Some(proxy) = matcher.intercept(server) else {
            return match chosen {
                Some(url) => Err(ProxyError(without_secret(url))),
                None => Ok(Self::Direct(tcp)),
            };
        };
        if proxy.uri().scheme_str() != Some("http") {
            return Err(ProxyError(without_secret(&proxy.uri().to_string())));
        }
        let tunnel = Tunnel::new(proxy.uri().clone(), tcp);
        Ok(Self::Proxied(match proxy.basic_auth() {
            Some(password) => tunnel.with_auth(password.clone()),
            None => tunnel,
        }))
    }
}

/// Whether a server is this machine.
pub(crate) fn is_local(server: &Uri) -> bool {
    let host = server.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A URL without user and password.
pub(crate) fn without_secret(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}{}", &url[..scheme + 3], &url[at + 1..]),
        _ => url.to_owned(),
    }
}

impl Service<Uri> for Dial {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<TcpStream>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self {
            Self::Direct(tcp) => tcp.poll_ready(cx).map_err(Into::into),
            Self::Proxied(tunnel) => tunnel.poll_ready(cx).map_err(Into::into),
        }
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        match self {
            Self::Direct(tcp) => {
                let opened = tcp.call(target);
                Box::pin(async move { opened.await.map_err(Into::into) })
            }
            Self::Proxied(tunnel) => {
                let opened = tunnel.call(target);
                Box::pin(async move { opened.await.map_err(Into::into) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::news::Observer;

    #[test]
    fn only_plain_proxies_are_taken_and_passwords_not_told() {
        let server = Uri::from_static("https://api.example:6443");
        let dial = |chosen| {
            Dial::new(HttpConnector::new_with_resolver(Resolver::new(Observer::default())), &server, chosen)
        };
        assert!(matches!(dial(Some("http://user:secret@proxy:3128")), Ok(Dial::Proxied(_))));
        for bad in ["https://user:secret@proxy:1", "socks5://user:secret@proxy:1", "http://", "nonsense"] {
            let error = dial(Some(bad)).err().unwrap_or_else(|| panic!("{bad} is taken"));
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn what_is_local() {
        for (url, want) in [
            ("https://localhost:6443", true),
            ("https://127.0.0.2:6443", true),
            ("https://[::1]:6443", true),
            ("https://10.0.0.1:6443", false),
            ("https://localhost.example:6443", false),
        ] {
            assert_eq!(is_local(&Uri::from_static(url)), want, "{url}");
        }
    }
}
