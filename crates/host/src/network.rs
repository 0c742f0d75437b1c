//! The machine's network interfaces and default routes, as far as an address of the machine is chosen by them.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;

use crate::FileError;
use crate::text;

const IPV4_ROUTES: &str = "/proc/self/net/route";
const IPV6_ROUTES: &str = "/proc/self/net/ipv6_route";

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Such as `eth0`.
    pub name: String,
    /// Whether it is switched on.
    pub is_up: bool,
    /// Whether it leads to this machine only.
    pub is_loopback: bool,
    /// Whether there is one machine at its other end.
    pub is_point_to_point: bool,
    /// In the kernel's order.
    pub addresses: Vec<IpAddr>,
}

/// A route to everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultRoute {
    /// The interface it goes over.
    pub interface: String,
    /// Whether it is one for IPv6.
    pub is_ipv6: bool,
}

/// What addresses are chosen by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// In the kernel's order.
    pub interfaces: Vec<Interface>,
    /// Those of IPv4 first; `None` where the kernel does not tell routes.
    pub default_routes: Option<Vec<DefaultRoute>>,
}

/// Why the network cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The kernel did not list the interfaces.
    #[error("list network interfaces")]
    Interfaces(#[source] io::Error),
    /// The kernel did not list the routes.
    #[error(transparent)]
    Routes(#[from] FileError),
}

impl Network {
    /// The network of this process as it is now.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn read() -> Result<Self, NetworkError> {
        let default_routes = match text::read(IPV4_ROUTES) {
            Err(error) if error.is_not_found() => None,
            table => {
                let mut routes = ipv4_default_routes(&table?);
                // A kernel may be built without IPv6.
                routes.extend(ipv6_default_routes(&text::read(IPV6_ROUTES).unwrap_or_default()));
                Some(routes)
            }
        };
        Ok(Self { interfaces: interfaces().map_err(NetworkError::Interfaces)?, default_routes })
    }

    /// Whether an interface of this machine has the address.
    pub fn has(&self, address: IpAddr) -> bool {
        self.interfaces.iter().any(|interface| interface.addresses.contains(&address))
    }

    /// The interface of that name.
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.name == name)
    }
}

fn interfaces() -> io::Result<Vec<Interface>> {
    let mut all: Vec<Interface> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for entry in getifaddrs()? {
        let place = *places.entry(entry.interface_name.clone()).or_insert_with(|| {
            all.push(Interface {
                name: entry.interface_name.clone(),
                is_up: entry.flags.contains(InterfaceFlags::IFF_UP),
                is_loopback: entry.flags.contains(InterfaceFlags::IFF_LOOPBACK),
                is_point_to_point: entry.flags.contains(InterfaceFlags::IFF_POINTOPOINT),
                addresses: Vec::new(),
            });
            all.len() - 1
        });
        if let (Some(address), Some(interface)) = (entry.address.as_ref().and_then(ip), all.get_mut(place)) {
            interface.addresses.push(address);
        }
    }
    Ok(all)
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
}

/// Interface and destination are the first two columns, below a heading.
fn ipv4_default_routes(table: &str) -> Vec<DefaultRoute> {
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter_map(|row| match row.as_slice() {
        [interface, "00000000", ..] => {
            Some(DefaultRoute { interface: (*interface).to_owned(), is_ipv6: false })
        }
        _ => None,
    })
    .collect()
}

/// Destination, its length, source, its length and gateway are the first five columns, the interface is the last of ten. A
/// route without a gateway stands for an unreachable network.
fn ipv6_default_routes(table: &str) -> Vec<DefaultRoute> {
    let is_zero = |hex: &str| hex.bytes().all(|digit| digit == b'0');
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter_map(|row| match row.as_slice() {
        [to, _, _, _, gateway, .., interface] if row.len() == 10 && is_zero(to) && !is_zero(gateway) => {
            Some(DefaultRoute { interface: (*interface).to_owned(), is_ipv6: true })
        }
        _ => None,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_loopback_interface() {
        let network = Network::read().unwrap();
        let loopback = network.interface("lo").unwrap();
        assert!(loopback.is_loopback && !loopback.is_point_to_point);
        if loopback.is_up {
            assert!(network.has("127.0.0.1".parse().unwrap()), "{loopback:?}");
        }
        assert!(!network.has("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn default_routes_are_told_from_others() {
        let v4 = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                  eth0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
                  eth0\t0000A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n\
                  ppp0\t00000000\t00000000\t0001\t0\t0\t200\t00000000\t0\t0\t0\n";
        let names = |routes: Vec<DefaultRoute>| -> Vec<(String, bool)> {
            routes.into_iter().map(|route| (route.interface, route.is_ipv6)).collect()
        };
        assert_eq!(names(ipv4_default_routes(v4)), [("eth0".to_owned(), false), ("ppp0".to_owned(), false)]);
        let zero = "0".repeat(32);
        let gateway = "fe80000000000000000000000000fffe";
        let v6 = format!(
            "fd000000000000000000000000000000 40 {zero} 00 {zero} 00000100 1 0 00000001 eth0\n\
             {zero} 00 {zero} 00 {gateway} 00000400 1 0 00000003 eth1\n\
             {zero} 00 {zero} 00 {zero} ffffffff 1 0 00200200 lo\n"
        );
        assert_eq!(names(ipv6_default_routes(&v6)), [("eth1".to_owned(), true)]);
        assert!(ipv4_default_routes("").is_empty() && ipv6_default_routes("nonsense\n").is_empty());
    }
}
