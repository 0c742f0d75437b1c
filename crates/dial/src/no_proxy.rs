//! Servers that need no proxy: the rules of `NO_PROXY`, as Go reads them.
//!
//! | entry | servers |
//! |---|---|
//! | `*` | all, whatever else is listed |
//! | `10.0.0.0/8`, `fd00::/8` | with an address in the network |
//! | `10.0.0.1`, `10.0.0.1:80`, `fd00::1`, `[fd00::1]:80` | with this address |
//! | `example.com`, `example.com:80` | with this name or one below |
//! | `.example.com`, `*.example.com` | with a name below, but not this one |
//!
//! A port, where there is one, has to be the same, too. Names are never looked up for this, and are compared in
//! the form they have in a URL: ASCII.

use std::net::IpAddr;

/// All entries of a list.
#[derive(Clone, Debug, Default)]
pub(crate) struct NoProxy(Vec<Rule>);

#[derive(Clone, Debug)]
enum Rule {
    All,
    Network { address: IpAddr, bits: u32 },
    Address { address: IpAddr, port: String },
    Domain { below: String, is_itself: bool, port: String },
}

/// What a server is called in its URL.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Authority<'a> {
    /// Without brackets.
    pub(crate) host: &'a str,
    /// Its host, if that is an address.
    pub(crate) address: Option<IpAddr>,
    pub(crate) port: u16,
}

impl NoProxy {
    /// Reads a list. What cannot be meant is skipped.
    pub(crate) fn parse(list: &str) -> Self {
        let entries = list.split(',').map(|entry| entry.trim().to_lowercase());
        let found: Vec<_> = entries.filter_map(|entry| Rule::parse(&entry)).collect();
        Self(found)
    }

    /// Whether a server is one of them.
    pub(crate) fn covers(&self, server: Authority<'_>) -> bool {
        let name = server.host.to_lowercase();
        self.0.iter().any(|exception| exception.holds(&name, server.address, server.port))
    }
}

impl Rule {
    fn parse(entry: &str) -> Option<Self> {
        if entry == "*" {
            return Some(Self::All);
        }
        if let Some((address, bits)) = network(entry) {
            return Some(Self::Network { address, bits });
        }
        let (host, port) = host_and_port(entry).unwrap_or((entry, ""));
        let port = port.to_owned();
        if let Ok(address) = host.parse::<IpAddr>() {
            return Some(Self::Address { address: address.to_canonical(), port });
        }
        let host = if host.starts_with("*.") { &host[1..] } else { host };
        match host.chars().next()? {
            '.' => Some(Self::Domain { below: host.to_owned(), is_itself: false, port }),
            _ => Some(Self::Domain { below: format!(".{host}"), is_itself: true, port }),
        }
    }

    fn holds(&self, name: &str, is: Option<IpAddr>, at: u16) -> bool {
        let same_port = |port: &str| port.is_empty() || port == at.to_string();
        match (self, is) {
            (Self::All, _) => true,
            (Self::Network { address, bits }, Some(is)) => is_within(is, *address, *bits),
            (Self::Address { address, port }, Some(is)) => *address == is && same_port(port),
            (Self::Domain { below, is_itself, port }, None) => {
                (name.ends_with(below) || (*is_itself && name == &below[1..])) && same_port(port)
            }
            _ => false,
        }
    }
}

/// A network and the number of its leading bits. One of IPv4 may be written as one of IPv6.
fn network(entry: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = entry.split_once('/')?;
    let (written, bits): (IpAddr, u32) = (address.parse().ok()?, bits.parse().ok()?);
    match (written, written.to_canonical()) {
        (IpAddr::V4(_), address) if bits <= 32 => Some((address, bits)),
        (IpAddr::V6(_), address @ IpAddr::V4(_)) if (96..=128).contains(&bits) => Some((address, bits - 96)),
        (IpAddr::V6(_), _) if bits <= 128 => Some((written, bits)),
        _ => None,
    }
}

fn is_within(is: IpAddr, network: IpAddr, bits: u32) -> bool {
    // All bits shifted out is what no bits to compare comes to.
    match (is, network) {
        (IpAddr::V4(is), IpAddr::V4(network)) => {
            (is.to_bits() ^ network.to_bits()).checked_shr(32 - bits).is_none_or(|rest| rest == 0)
        }
        (IpAddr::V6(is), IpAddr::V6(network)) => {
            (is.to_bits() ^ network.to_bits()).checked_shr(128 - bits).is_none_or(|rest| rest == 0)
        }
        _ => false,
    }
}

/// `HOST:PORT` or `[HOST]:PORT`, nothing else.
fn host_and_port(entry: &str) -> Option<(&str, &str)> {
    let (host, port) = match entry.strip_prefix('[') {
        Some(rest) => rest.split_once("]:")?,
        None => entry.split_once(':')?,
    };
    (!port.contains(':')).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_servers_an_entry_is_about() {
        let hosts = [
            "example.com:443",
            "example.com:80",
            "www.example.com:443",
            "badexample.com:443",
            "10.1.2.3:443",
            "10.1.2.3:80",
            "11.0.0.1:443",
            "[fd00::1]:443",
            "[fe80::1]:443",
            "[::ffff:10.1.2.3]:443",
        ];
        let all = "0123456789";
        for (list, expect) in [
            ("", ""),
            (" , ,", ""),
            ("*", all),
            ("other.example, * ", all),
            ("example.com", "012"),
            (" EXAMPLE.com ", "012"),
            ("example.com:443", "02"),
            ("example.com:80", "1"),
            ("example.com:", "012"),
            ("example.com:https", ""),
            (".example.com", "2"),
            ("*.example.com", "2"),
            ("*.example.com:443", "2"),
            (".example.com:80", ""),
            ("com", "0123"),
            ("*.com", "0123"),
            ("*com", ""),
            ("*:443", ""),
            ("example.com other.example", ""),
            ("https://example.com", ""),
            ("10.1.2.3", "459"),
            ("10.1.2.3:80", "5"),
            ("10.0.0.0/8", "459"),
            ("10.1.2.3/8", "459"),
            ("10.1.2.2/31", "459"),
            ("10.1.2.2/32", ""),
            ("0.0.0.0/0", "4569"),
            ("10.0.0.0/33", ""),
            ("10.0.0.0/8:443", ""),
            ("10.", ""),
            ("10.1.2.3.", ""),
            ("fd00::1", "7"),
            ("fd00::/8", "7"),
            ("[fd00::1]:443", "7"),
            ("[fd00::1]:80", ""),
            ("[fd00::1]", ""),
            ("::/0", "78"),
            ("::ffff:10.0.0.0/104", "459"),
            ("::ffff:10.1.2.3", "459"),
            (":443", ""),
            ("example.com,.example.com:80, 11.0.0.1", "0126"),
        ] {
            let no_proxy = NoProxy::parse(list);
            let held = |at: &&str| {
                let (host, port) = at.rsplit_once(':').unwrap();
                let host = host.trim_matches(['[', ']']);
                let address = host.parse().ok().map(|address: IpAddr| address.to_canonical());
                no_proxy.covers(Authority { host, address, port: port.parse().unwrap() })
            };
            let found: String =
                hosts.iter().zip(all.chars()).filter(|(at, _)| held(at)).map(|(_, n)| n).collect();
            assert_eq!(found, expect, "{list}");
        }
    }
}
