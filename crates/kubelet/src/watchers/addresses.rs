//! Which addresses a node has. The order of choice is upstream's (`nodestatus/setters.go`): those it was given, a host name that
//! is an address, what DNS says of the node's name, and the interface with the default route.

use std::net::IpAddr;
use std::time::Duration;

use config::Config;
use host::network::{Interface, Network, NetworkError};
use node::Input;
use tokio::sync::mpsc::Sender;
use tracing::{error, info};

use crate::executor::failure::FailureLog;

/// The node's addresses, looked for again and again, since they may change.
pub(crate) struct AddressWatch {
    choice: AddressChoice,
    /// As last looked for; `None` where they could not be found.
    found: Option<Vec<IpAddr>>,
    /// Why they could not be found, so that the log tells of it once.
    failures: FailureLog,
}

impl AddressWatch {
    /// Of a node that has none yet.
    pub(crate) fn new(config: &Config, node_name: &str) -> Self {
        Self { choice: AddressChoice::new(config, node_name), found: None, failures: FailureLog::default() }
    }

    /// Looks for them. Returns whether they have changed.
    pub(crate) async fn find(&mut self) -> bool {
        const ACTION: &str = "find addresses";
        let found = match self.choice.find().await {
            Ok(found) => {
                self.failures.succeeded(|| ACTION.to_owned());
                Some(found)
            }
            Err(error) => {
                let message = model::chain(&error);
                if self.failures.is_new(ACTION, &message) {
                    error!(err = message, "Failed to set node addresses; keeping those last reported");
                }
                None
            }
        };
        let has_changed = self.found != found;
        self.found = found;
        has_changed
    }

    /// As last found; none where there was none to be found.
    pub(crate) fn addresses(&self) -> &[IpAddr] {
        self.found.as_deref().unwrap_or_default()
    }

    /// As the core is told of them.
    pub(crate) fn input(&self) -> Input {
        Input::NodeAddresses(self.found.as_ref().map(|all| all.iter().map(IpAddr::to_string).collect()))
    }

    /// Looks for them every so often, and tells the core when they have changed.
    pub(crate) async fn run(mut self, every: Duration, inbox: Sender<Input>) {
        loop {
            if self.find().await {
                info!(nodeIPs = ?self.addresses(), "Node addresses changed");
                if inbox.send(self.input()).await.is_err() {
                    return;
                }
            }
            tokio::time::sleep(every).await;
        }
    }
}

/// What the addresses of a node are chosen by, beside the network as it is.
#[derive(Clone, Debug, Default)]
struct AddressChoice {
    /// `--node-ip`: none, one, or one of each family. An unspecified one (`::`) only says which family comes first.
    given: Vec<IpAddr>,
    /// Which may be an address (`--hostname-override`).
    node_name: String,
    is_cloud_provider_external: bool,
}

/// Why a node has no address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddressError {
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error("the first address of --node-ip: {0}")]
    Given(#[source] UnusableAddress),
    #[error("the second address of --node-ip: {0}")]
    Second(#[source] UnusableAddress),
    #[error("node {node} has no address: {why}")]
    NotFound { node: String, why: &'static str },
}

/// Why an address cannot be a node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnusableAddress {
    #[error("a loopback address leads nobody here")]
    Loopback,
    #[error("a multicast address is nobody's own")]
    Multicast,
    #[error("a link-local address is good on one link only")]
    LinkLocal,
    #[error("an unspecified address names no machine")]
    Unspecified,
    #[error("no network interface of this machine has {0}")]
    NotHere(IpAddr),
}

impl AddressChoice {
    /// The choice of a node.
    fn new(config: &Config, node_name: &str) -> Self {
        Self {
            given: config.identity.node_ips.clone(),
            node_name: node_name.to_owned(),
            is_cloud_provider_external: config.identity.external_cloud_provider,
        }
    }

    /// Looks for the node's addresses, the primary one first. None is an answer, too: then a cloud provider is to tell.
    async fn find(&self) -> Result<Vec<IpAddr>, AddressError> {
        let mut resolved = Vec::new();
        if self.asks_dns() {
            let answer = tokio::net::lookup_host((self.node_name.as_str(), 0)).await;
            resolved = answer.map(|all| all.map(|socket| socket.ip()).collect()).unwrap_or_default();
        }
        let network = tokio::task::spawn_blocking(Network::read).await;
        let unread =
            |_| AddressError::NotFound { node: self.node_name.clone(), why: "the kernel was not asked" };
        self.choose(&network.map_err(unread)??, &resolved)
    }

    fn specified(&self) -> impl Iterator<Item = IpAddr> {
        self.given.iter().copied().filter(|ip| !ip.is_unspecified())
    }

    fn waits_for_cloud(&self) -> bool {
        self.is_cloud_provider_external && self.given.is_empty()
    }

    fn asks_dns(&self) -> bool {
        self.specified().next().is_none()
            && self.node_name.parse::<IpAddr>().is_err()
            && !self.waits_for_cloud()
    }

    fn choose(&self, network: &Network, resolved: &[IpAddr]) -> Result<Vec<IpAddr>, AddressError> {
        let given: Vec<IpAddr> = self.specified().collect();
        if let Some(first) = given.first() {
            fit(*first, network).map_err(AddressError::Given)?;
        }
        if let Some(second) = given.get(1) {
            fit(*second, network).map_err(AddressError::Second)?;
        }
        if !given.is_empty() || self.waits_for_cloud() {
            return Ok(given);
        }
        if let Ok(address) = self.node_name.parse() {
            return Ok(vec![address]);
        }
        let is_ipv6_first = self.given.first().is_some_and(IpAddr::is_ipv6);
        let mut here = resolved.iter().filter(|ip| fit(**ip, network).is_ok());
        let first = here.clone().next();
        if let Some(address) = here.find(|ip| ip.is_ipv6() == is_ipv6_first).or(first) {
            return Ok(vec![*address]);
        }
        match by_default_route(network, is_ipv6_first) {
            Ok(address) => Ok(vec![address]),
            Err(why) => Err(AddressError::NotFound { node: self.node_name.clone(), why }),
        }
    }
}

/// Whether an address can be a node's: one of this machine that others can reach.
fn fit(address: IpAddr, network: &Network) -> Result<(), UnusableAddress> {
    if address.is_loopback() {
        return Err(UnusableAddress::Loopback);
    }
    if address.is_multicast() {
        return Err(UnusableAddress::Multicast);
    }
    if is_link_local(address) {
        return Err(UnusableAddress::LinkLocal);
    }
    if address.is_unspecified() {
        return Err(UnusableAddress::Unspecified);
    }
    if network.has(address) { Ok(()) } else { Err(UnusableAddress::NotHere(address)) }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn is_global(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(ip) if ip.is_broadcast());
    let is_special = address.is_unspecified() || address.is_loopback() || address.is_multicast();
    !(is_broadcast || is_special || is_link_local(address))
}

/// The address of the interface with a default route, or where no routes are told, of any interface.
fn by_default_route(network: &Network, is_ipv6_first: bool) -> Result<IpAddr, &'static str> {
    let families = [is_ipv6_first, !is_ipv6_first];
    let global = |interface: &Interface, is_ipv6: bool| {
        let mut own = interface.addresses.iter().copied();
        own.find(|ip| interface.is_up && ip.is_ipv6() == is_ipv6 && is_global(*ip))
    };
    let Some(routes) = &network.default_routes else {
        let mut real = network.interfaces.iter().filter(|i| !i.is_loopback && !i.is_point_to_point);
        let found = families.iter().find_map(|is_ipv6| real.clone().find_map(|i| global(i, *is_ipv6)));
        real.next().ok_or("there is no network interface beside loopback")?;
        return found.ok_or("no network interface has an address that others can reach");
    };
    if routes.is_empty() {
        return Err("there is no default route, and --node-ip names no address");
    }
    for is_ipv6 in families {
        for route in routes.iter().filter(|route| route.is_ipv6 == is_ipv6) {
            let own = network.interface(&route.interface).and_then(|i| global(i, is_ipv6));
            // Where routers speak over link-local addresses only (RFC 5549), the machine's own is on the loopback interface.
            let loopback =
                || network.interfaces.iter().filter(|i| i.is_loopback).find_map(|i| global(i, is_ipv6));
            if let Some(address) = own.or_else(loopback) {
                return Ok(address);
            }
        }
    }
    Err("no interface of a default route has an address that others can reach")
}

#[cfg(test)]
mod tests;
