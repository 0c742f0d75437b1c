//! The few things a probe does with URLs: build one from an action, and follow a `Location`.
//!
//! A URL library would normalise what the user wrote; probes send paths as they stand, and error
//! texts show them as they stand.

use http::Uri;

use crate::text::join_host_port;

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    /// `http` or `https`, or something that cannot be spoken.
    pub(crate) scheme: String,
    /// Name or address, without brackets.
    pub(crate) host: String,
    /// As written after the host; `None` means the scheme's own.
    pub(crate) port: Option<u16>,
    /// Path and query, starting with `/`.
    pub(crate) path: String,
}

impl Url {
    /// From the parts of an action. The path may carry a query, and a fragment, which is not sent.
    pub(crate) fn new(scheme: &str, host: String, port: u16, path: &str) -> Self {
        Self { scheme: scheme.to_ascii_lowercase(), host, port: Some(port), path: request_path(path) }
    }

    /// The port to connect to.
    pub(crate) fn effective_port(&self) -> u16 {
        self.port.unwrap_or(if self.is_https() { 443 } else { 80 })
    }

    /// Whether TLS comes first.
    pub(crate) fn is_https(&self) -> bool {
        self.scheme == "https"
    }

    /// Host and, when written, port: the `Host` header's value.
    pub(crate) fn authority(&self) -> String {
        match self.port {
            Some(port) => join_host_port(&self.host, port),
            None if self.host.contains(':') => format!("[{}]", self.host),
            None => self.host.clone(),
        }
    }

    /// Where a `Location` seen at this URL leads; `None` when it cannot be understood.
    pub(crate) fn join(&self, location: &str) -> Option<Self> {
        let location = location.split('#').next().unwrap_or_default();
        if let Some(rest) = location.strip_prefix("//") {
            return Self::absolute(&format!("{}://{rest}", self.scheme));
        }
        if is_absolute(location) {
            return Self::absolute(location);
        }
        let (own_path, _own_query) = self.path.split_once('?').unwrap_or((&self.path, ""));
        let path = if location.is_empty() {
            self.path.clone()
        } else if location.starts_with('/') {
            without_dots(location)
        } else if location.starts_with('?') {
            format!("{own_path}{location}")
        } else {
            let folder = own_path.rfind('/').map_or("", |end| &own_path[..end]);
            without_dots(&format!("{folder}/{location}"))
        };
        Some(Self { path: request_path(&path), ..self.clone() })
    }

    fn absolute(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let uri = Uri::builder().scheme("http").authority(authority).path_and_query("/").build().ok()?;
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        Some(Self {
            scheme: scheme.to_ascii_lowercase(),
            host,
            port: uri.port_u16(),
            path: request_path(path),
        })
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority(), self.path)
    }
}

/// Whether a `Location` names a scheme of its own.
pub(crate) fn is_absolute(location: &str) -> bool {
    location.split_once("://").is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    })
}

/// A path as it goes on the wire: starts with `/`, no fragment, nothing that would end a request
/// line. What already is escaped stays; a `%` that escapes nothing is escaped itself, and then
/// the whole text counts as a path (no query), as upstream treats a path it cannot parse.
fn request_path(path: &str) -> String {
    let is_broken = has_broken_escape(path.split(['?', '#']).next().unwrap_or_default())
        || path.bytes().any(|b| b.is_ascii_control());
    let visible = if is_broken { path } else { path.split('#').next().unwrap_or_default() };
    let mut out = String::with_capacity(visible.len() + 1);
    if !visible.starts_with('/') {
        out.push('/');
    }
    let mut in_query = false;
    for byte in visible.bytes() {
        let is_sent = match byte {
            b'%' => !is_broken,
            b'?' => {
                let is_mark = !is_broken;
                in_query |= is_mark;
                is_mark
            }
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | b'#' => in_query && byte != b'#',
            b'[' | b']' => true,
            _ => byte.is_ascii_graphic(),
        };
        if is_sent { out.push(char::from(byte)) } else { out.push_str(&format!("%{byte:02X}")) }
    }
    out
}

fn has_broken_escape(path: &str) -> bool {
    let bytes = path.as_bytes();
    let is_hex = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_hexdigit);
    bytes.iter().enumerate().any(|(i, b)| *b == b'%' && !(is_hex(i + 1) && is_hex(i + 2)))
}

/// Resolves `.` and `..` segments of a path that may be followed by a query.
fn without_dots(path: &str) -> String {
    let (path, query) = path.split_once('?').map_or((path, None), |(p, q)| (p, Some(q)));
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    let path = format!("/{}", kept.join("/"));
    query.map_or(path.clone(), |query| format!("{path}?{query}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str) -> Url {
        Url::new("HTTP", "10.0.0.1".into(), 8080, path)
    }

    #[test]
    fn paths_are_sent_as_written() {
        for (path, want) in [
            ("", "http://10.0.0.1:8080/"),
            ("/", "http://10.0.0.1:8080/"),
            ("healthz", "http://10.0.0.1:8080/healthz"),
            ("/a?b=c&d=%20#frag", "http://10.0.0.1:8080/a?b=c&d=%20"),
            ("/a b", "http://10.0.0.1:8080/a%20b"),
            ("/é", "http://10.0.0.1:8080/%C3%A9"),
            ("/100%?x", "http://10.0.0.1:8080/100%25%3Fx"),
            ("/a\r\nX: y", "http://10.0.0.1:8080/a%0D%0AX:%20y"),
        ] {
            assert_eq!(at(path).to_string(), want, "{path:?}");
        }
    }

    #[test]
    fn locations_resolve_against_where_they_were_seen() {
        for (location, want) in [
            ("/x?y", Some("http://10.0.0.1:8080/x?y")),
            ("x", Some("http://10.0.0.1:8080/a/x")),
            ("../x", Some("http://10.0.0.1:8080/x")),
            ("./", Some("http://10.0.0.1:8080/a/")),
            ("?q", Some("http://10.0.0.1:8080/a/b?q")),
            ("https://10.0.0.1/z", Some("https://10.0.0.1/z")),
            ("http://[::1]:80/z", Some("http://[::1]:80/z")),
            ("//other:1", Some("http://other:1/")),
            ("ftp://other/x", Some("ftp://other/x")),
            ("http://", None),
            ("http://a b/", None),
        ] {
            let joined = at("/a/b?c").join(location).map(|u| u.to_string());
            assert_eq!(joined.as_deref(), want, "{location}");
        }
    }
}
