//! A proxy's URL taken apart. Its user and password are never shown.

use std::fmt;

use base64::Engine as _;
use http::uri::Authority;
use http::{HeaderValue, Uri};
use percent_encoding::percent_decode_str;
use thiserror::Error;

/// A proxy that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProxyError {
    /// No proxy's URL, or one of a kind that is not known.
    #[error("the proxy {0:?} is none of http://HOST:PORT, https://HOST:PORT and socks5://HOST:PORT")]
    Unusable(String),
    /// Whoever sends a request to a CGI program can set its `HTTP_PROXY`. Go refuses it, too.
    #[error("HTTP_PROXY cannot be trusted where REQUEST_METHOD is set")]
    Cgi,
}

/// How a proxy is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Http,
    Https,
    /// Names are looked up by the proxy, whichever of its two schemes is written.
    Socks5,
}

/// Who we are to a proxy.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) user: Vec<u8>,
    pub(crate) password: Vec<u8>,
}

impl Credentials {
    fn parse(text: &str) -> Self {
        let (user, password) = text.split_once(':').unwrap_or((text, ""));
        Self { user: percent_decode_str(user).collect(), password: percent_decode_str(password).collect() }
    }

    /// As the header `Proxy-Authorization`.
    fn header(&self) -> Option<HeaderValue> {
        let pair = [&self.user[..], b":", &self.password[..]].concat();
        let text = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// One proxy. As text it is its URL without user and password.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    pub(crate) kind: Kind,
    host: String,
    port: u16,
    pub(crate) credentials: Option<Credentials>,
}

impl Proxy {
    /// A kubeconfig's `proxy-url`, for which client-go takes three schemes.
    ///
    /// # Errors
    /// [`ProxyError::Unusable`], without its password.
    pub fn parse(url: &str) -> Result<Self, ProxyError> {
        let (scheme, _) = url.split_once("://").unwrap_or_default();
        let found = Self::read(url).filter(|_| !scheme.eq_ignore_ascii_case("socks5h"));
        found.ok_or_else(|| ProxyError::Unusable(without_secret(url)))
    }

    /// A variable's value, which may lack the scheme, and for which Go takes one more.
    pub(crate) fn of_variable(value: &str) -> Result<Self, ProxyError> {
        let found =
            if value.contains("://") { Self::read(value) } else { Self::read(&format!("http://{value}")) };
        found.ok_or_else(|| ProxyError::Unusable(without_secret(value)))
    }

    fn read(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let (kind, usual_port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (Kind::Http, 80),
            "https" => (Kind::Https, 443),
            "socks5" | "socks5h" => (Kind::Socks5, 1080),
            _ => return None,
        };
        let authority = rest.split(['/', '?', '#']).next()?;
        let (credentials, address) = match authority.rsplit_once('@') {
            Some((who, address)) => (Some(Credentials::parse(who)), address),
            None => (None, authority),
        };
        let address: Authority = address.parse().ok()?;
        let host = address.host().to_owned();
        let port = match address.as_str().strip_prefix(&host)?.strip_prefix(':').unwrap_or_default() {
            "" => usual_port,
            port => port.parse().ok()?,
        };
        (!host.is_empty()).then_some(Self { kind, host, port, credentials })
    }

    /// Whether the proxy itself is spoken to by TLS.
    pub fn has_tls(&self) -> bool {
        self.kind == Kind::Https
    }

    /// Whether requests to this server are sent to the proxy as they are, to be passed on.
    pub(crate) fn forwards(&self, server: &Uri) -> bool {
        self.kind != Kind::Socks5 && server.scheme() == Some(&http::uri::Scheme::HTTP)
    }

    /// Who we are, as a header.
    pub(crate) fn authorization(&self) -> Option<HeaderValue> {
        self.credentials.as_ref()?.header()
    }

    /// Where the proxy is, for a connector that knows plain connections and TLS.
    pub(crate) fn uri(&self) -> Result<Uri, http::Error> {
        let scheme = if self.has_tls() { "https" } else { "http" };
        let authority = format!("{}:{}", self.host, self.port);
        Uri::builder().scheme(scheme).authority(authority).path_and_query("/").build()
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            Kind::Http => "http",
            Kind::Https => "https",
            Kind::Socks5 => "socks5",
        };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// A proxy's URL without user, password and query, even if it is none.
pub fn without_secret(url: &str) -> String {
    let is_scheme = |text: &str| text.chars().all(|letter| letter.is_ascii_alphanumeric());
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme), rest),
        _ => (None, url),
    };
    // The last one of all: in a URL that is none, a password may hold any letter.
    let rest = rest.rsplit_once('@').map_or(rest, |(_, address)| address);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    scheme.map_or_else(|| rest.to_owned(), |scheme| format!("{scheme}://{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(found: Result<Proxy, ProxyError>) -> String {
        let Ok(proxy) = found else { return "-".to_owned() };
        let credentials = proxy.credentials.as_ref().map(|who| {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            format!(" {}|{}", text(&who.user), text(&who.password))
        });
        format!("{proxy}{}", credentials.unwrap_or_default())
    }

    #[test]
    fn what_a_variable_may_hold() {
        for (value, proxy) in [
            ("http://proxy.example:3128", "http://proxy.example:3128"),
            ("HTTP://proxy.example/", "http://proxy.example:80"),
            ("https://proxy.example", "https://proxy.example:443"),
            ("socks5://proxy.example", "socks5://proxy.example:1080"),
            ("socks5h://proxy.example:1", "socks5://proxy.example:1"),
            ("proxy.example:3128", "http://proxy.example:3128"),
            ("proxy.example", "http://proxy.example:80"),
            ("10.0.0.1:3128", "http://10.0.0.1:3128"),
            ("http://[fd00::1]:3128", "http://[fd00::1]:3128"),
            ("[fd00::1]", "http://[fd00::1]:80"),
            ("http://proxy.example:", "http://proxy.example:80"),
            ("me:pass@proxy.example:1", "http://proxy.example:1 me|pass"),
            ("http://m%40e:p%3Aa%25ss@proxy.example:1/?x", "http://proxy.example:1 m@e|p:a%ss"),
            ("http://me:pa@ss@proxy.example:1", "http://proxy.example:1 me|pa@ss"),
            ("http://me@proxy.example:1", "http://proxy.example:1 me|"),
            ("http://@proxy.example:1", "http://proxy.example:1 |"),
            ("http://", "-"),
            ("http://:80", "-"),
            ("http://me:pass@", "-"),
            ("http://proxy.example:port", "-"),
            ("http://proxy.example:99999", "-"),
            ("http://fd00::1", "-"),
            ("http://proxy example:1", "-"),
            ("socks4://proxy.example:1", "-"),
            ("ftp://proxy.example:1", "-"),
            ("http:proxy.example:1", "-"),
        ] {
            assert_eq!(shown(Proxy::of_variable(value)), proxy, "{value}");
        }
    }

    #[test]
    fn a_kubeconfig_has_to_be_exact() {
        for (url, proxy) in [
            ("http://me:pass@proxy.example:3128", "http://proxy.example:3128 me|pass"),
            ("https://proxy.example", "https://proxy.example:443"),
            ("socks5://proxy.example", "socks5://proxy.example:1080"),
            ("socks5h://proxy.example", "-"),
            ("Socks5H://proxy.example", "-"),
            ("proxy.example:3128", "-"),
            ("10.0.0.1:3128", "-"),
            ("nonsense", "-"),
        ] {
            assert_eq!(shown(Proxy::parse(url)), proxy, "{url}");
        }
    }

    #[test]
    fn passwords_are_not_told() {
        for (url, said) in [
            ("ftp://user:secret@proxy:1/x?secret", "ftp://proxy:1/x"),
            ("http://user:sec?secret@proxy:1", "http://proxy:1"),
            ("http://user:sec/secret@proxy:1", "http://proxy:1"),
            ("user:secret@proxy:port", "proxy:port"),
            ("user:http://secret@proxy", "proxy"),
            ("secret@http://proxy", "http://proxy"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(without_secret(url), said, "{url}");
            let error = Proxy::parse(url).unwrap_err();
            assert!(!error.to_string().contains("secret") && !format!("{error:?}").contains("secret"));
        }
        let proxy = Proxy::parse("http://user:secret@proxy:1").unwrap();
        assert_eq!(format!("{proxy:?}"), "Proxy(http://proxy:1)");
        let header = proxy.authorization().unwrap();
        assert!(header.is_sensitive());
        assert_eq!(header, "Basic dXNlcjpzZWNyZXQ=");
    }
}
