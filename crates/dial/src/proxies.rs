//! Which proxy is for which server. Nothing is asked of anybody: it is a matter of the server's URL alone.

use std::net::IpAddr;
use std::sync::Arc;

use http::uri::Scheme;
use http::{HeaderValue, Uri};

use crate::no_proxy::{Authority, NoProxy};
use crate::proxy::{Proxy, ProxyError};

/// Which proxy is for which server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Proxies(Arc<Choice>);

#[derive(Debug)]
enum Choice {
    Always(Proxy),
    ByVariables(Variables),
}

/// What the environment says. A proxy that cannot be used matters only to servers it is for.
#[derive(Debug)]
struct Variables {
    http: Option<Result<Proxy, ProxyError>>,
    https: Option<Result<Proxy, ProxyError>>,
    no_proxy: NoProxy,
    is_cgi: bool,
}

impl Proxies {
    /// One for all servers, this machine included: that of a kubeconfig.
    pub fn always(proxy: Proxy) -> Self {
        Self(Arc::new(Choice::Always(proxy)))
    }

    /// Those the environment names: `HTTP_PROXY` and `HTTPS_PROXY`, except for what is in `NO_PROXY`.
    pub fn of_environment() -> Self {
        Self::of_variables(|name| std::env::var(name).ok())
    }

    /// The same for other variables than those of this process. Capital letters go first, and an empty variable
    /// is none.
    pub fn of_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let first =
            |names: [&str; 2]| names.iter().filter_map(|name| variable(name)).find(|value| !value.is_empty());
        let proxy = |names| first(names).map(|value| Proxy::of_variable(&value));
        Self(Arc::new(Choice::ByVariables(Variables {
            http: proxy(["HTTP_PROXY", "http_proxy"]),
            https: proxy(["HTTPS_PROXY", "https_proxy"]),
            no_proxy: NoProxy::parse(&first(["NO_PROXY", "no_proxy"]).unwrap_or_default()),
            is_cgi: variable("REQUEST_METHOD").is_some_and(|value| !value.is_empty()),
        })))
    }

    /// The proxy for a server, if it is to be reached by one.
    ///
    /// # Errors
    /// [`ProxyError`], if there is one that cannot be used.
    pub fn for_server(&self, server: &Uri) -> Result<Option<&Proxy>, ProxyError> {
        let variables = match &*self.0 {
            Choice::Always(proxy) => return Ok(Some(proxy)),
            Choice::ByVariables(variables) => variables,
        };
        let proxy = match server.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => &variables.https,
            // Even if the server needs none, as with Go.
            Some(_) if variables.is_cgi && variables.http.is_some() => return Err(ProxyError::Cgi),
            Some(_) => &variables.http,
            None => return Ok(None),
        };
        match proxy {
            Some(proxy) if !is_local(server) && !variables.no_proxy.covers(called(server)) => {
                proxy.as_ref().map(Some).map_err(Clone::clone)
            }
            _ => Ok(None),
        }
    }

    /// The header that a request to a server has to carry for its proxy. Where the proxy does not see requests, it is
    /// told when the connection is made.
    pub fn authorization(&self, server: &Uri) -> Option<HeaderValue> {
        let proxy = self.for_server(server).ok().flatten()?;
        if proxy.forwards(server) { proxy.authorization() } else { None }
    }
}

/// Whether a server is this machine, going by its URL.
pub fn is_local(server: &Uri) -> bool {
    let Authority { host, address, .. } = called(server);
    host == "localhost" || address.is_some_and(|address| address.is_loopback())
}

/// What a server is called. A port that is not written is that of the scheme.
pub(crate) fn called(server: &Uri) -> Authority<'_> {
    let host = server.host().unwrap_or_default().trim_matches(['[', ']']);
    let usual_port = if server.scheme() == Some(&Scheme::HTTP) { 80 } else { 443 };
    Authority {
        host,
        address: host.parse().ok().map(|address: IpAddr| address.to_canonical()),
        port: server.port_u16().unwrap_or(usual_port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Variables in one line, e.g. `HTTP_PROXY=a no_proxy=b`.
    fn of(line: &str) -> Proxies {
        Proxies::of_variables(|name| {
            let pairs = line.split(' ').filter_map(|pair| pair.split_once('='));
            pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
        })
    }

    fn chosen(proxies: &Proxies, server: &str) -> String {
        match proxies.for_server(&server.parse().unwrap()) {
            Ok(Some(proxy)) => proxy.to_string(),
            Ok(None) => "direct".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_environment_names_proxies() {
        let bad = "the proxy \"ftp://p:1\" is none of";
        for (variables, server, proxy) in [
            ("", "https://a.example", "direct"),
            ("HTTPS_PROXY=p:1 HTTP_PROXY=q:1", "https://a.example", "http://p:1"),
            ("HTTPS_PROXY=p:1 HTTP_PROXY=q:1", "http://a.example", "http://q:1"),
            ("HTTP_PROXY=q:1", "https://a.example", "direct"),
            ("HTTPS_PROXY=p:1", "http://a.example", "direct"),
            ("ALL_PROXY=p:1 all_proxy=p:1", "https://a.example", "direct"),
            ("https_proxy=p:1", "https://a.example", "http://p:1"),
            ("HTTPS_PROXY=p:1 https_proxy=q:1", "https://a.example", "http://p:1"),
            ("HTTPS_PROXY= https_proxy=q:1", "https://a.example", "http://q:1"),
            ("HTTPS_PROXY=", "https://a.example", "direct"),
            ("HTTPS_PROXY=socks5h://u:p@p", "https://a.example", "socks5://p:1080"),
            ("HTTPS_PROXY=https://p", "https://a.example", "https://p:443"),
            // This machine, whatever its port.
            ("HTTPS_PROXY=p:1", "https://localhost:6443", "direct"),
            ("HTTPS_PROXY=p:1", "https://127.0.0.2:6443", "direct"),
            ("HTTPS_PROXY=p:1", "https://[::1]:6443", "direct"),
            ("HTTPS_PROXY=p:1", "https://[::ffff:127.0.0.1]", "direct"),
            ("HTTPS_PROXY=p:1", "https://localhost.example", "http://p:1"),
            ("HTTPS_PROXY=p:1", "https://10.0.0.1:6443", "http://p:1"),
            // Exceptions; those of the scheme's port, too.
            ("HTTPS_PROXY=p:1 NO_PROXY=a.example", "https://a.example", "direct"),
            ("HTTPS_PROXY=p:1 NO_PROXY=a.example:443", "https://a.example", "direct"),
            ("HTTPS_PROXY=p:1 NO_PROXY=a.example:6443", "https://A.example:6443", "direct"),
            ("HTTPS_PROXY=p:1 NO_PROXY=a.example:443", "https://a.example:6443", "http://p:1"),
            ("HTTP_PROXY=p:1 NO_PROXY=a.example:80", "http://a.example", "direct"),
            ("HTTPS_PROXY=p:1 no_proxy=a.example", "https://a.example", "direct"),
            ("HTTPS_PROXY=p:1 NO_PROXY=b.example no_proxy=a.example", "https://a.example", "http://p:1"),
            ("HTTPS_PROXY=p:1 NO_PROXY=fd00::/8", "https://[fd00::1]:6443", "direct"),
            // A bad proxy is in the way of those it is for.
            ("HTTPS_PROXY=ftp://u:secret@p:1", "https://a.example", bad),
            ("HTTPS_PROXY=ftp://u:secret@p:1", "http://a.example", "direct"),
            ("HTTPS_PROXY=ftp://u:secret@p:1 NO_PROXY=a.example", "https://a.example", "direct"),
            ("HTTPS_PROXY=ftp://u:secret@p:1", "https://localhost", "direct"),
            // CGI.
            ("HTTP_PROXY=p:1 REQUEST_METHOD=GET", "http://a.example", "HTTP_PROXY cannot be trusted"),
            (
                "HTTP_PROXY=p:1 REQUEST_METHOD=GET NO_PROXY=*",
                "http://a.example",
                "HTTP_PROXY cannot be trusted",
            ),
            ("HTTP_PROXY=p:1 REQUEST_METHOD=", "http://a.example", "http://p:1"),
            ("HTTPS_PROXY=p:1 REQUEST_METHOD=GET", "https://a.example", "http://p:1"),
            ("HTTPS_PROXY=p:1 REQUEST_METHOD=GET", "http://a.example", "direct"),
        ] {
            let found = chosen(&of(variables), server);
            assert!(found.starts_with(proxy), "{variables}: {server}: {found}");
            assert!(!found.contains("secret"), "{found}");
        }
    }

    #[test]
    fn a_chosen_proxy_is_for_all() {
        let proxies = Proxies::always(Proxy::parse("socks5://p").unwrap());
        for server in ["https://a.example", "http://a.example", "https://localhost:6443", "https://127.0.0.1"]
        {
            assert_eq!(chosen(&proxies, server), "socks5://p:1080", "{server}");
        }
    }

    #[test]
    fn who_sees_requests_gets_the_password_with_them() {
        let proxies = of("HTTP_PROXY=u:secret@p:1 HTTPS_PROXY=https://u:secret@p:2 NO_PROXY=b.example");
        let header = |server: &str| proxies.authorization(&server.parse().unwrap());
        assert!(header("http://a.example").is_some_and(|value| value.is_sensitive()));
        assert_eq!(header("https://a.example"), None);
        assert_eq!(header("http://b.example"), None);
        assert!(!format!("{proxies:?}").contains("secret"));
        let proxies = of("HTTP_PROXY=socks5://u:secret@p");
        assert_eq!(proxies.authorization(&Uri::from_static("http://a.example")), None);
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
