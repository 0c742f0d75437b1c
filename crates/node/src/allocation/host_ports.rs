//! The node's ports that pods take for themselves.

use model::{Pod, pod};

const ANY_ADDRESS: &str = "0.0.0.0";

/// A port of the node. Ordered so that those that can collide stand together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostPort {
    number: i32,
    protocol: String,
    address: String,
}

impl HostPort {
    /// Before all that can collide with it.
    pub(super) fn first(&self) -> Self {
        Self { number: self.number, protocol: self.protocol.clone(), address: String::new() }
    }

    /// Whether only the address can tell the two apart.
    pub(super) fn is_same_number(&self, other: &Self) -> bool {
        (self.number, &self.protocol) == (other.number, &other.protocol)
    }

    /// The same number on all addresses collides with it on any.
    pub(super) fn collides(&self, other: &Self) -> bool {
        self.is_same_number(other)
            && (self.address == other.address || self.address == ANY_ADDRESS || other.address == ANY_ADDRESS)
    }
}

/// The host ports of all containers that run as long as the pod does.
pub(crate) fn host_ports(pod: &Pod) -> impl Iterator<Item = HostPort> {
    let spec = pod.spec.as_ref();
    let sidecars =
        spec.into_iter().flat_map(|s| s.init_containers.iter().flatten()).filter(|c| pod::is_sidecar(c));
    let regular = spec.into_iter().flat_map(|s| &s.containers);
    sidecars.chain(regular).flat_map(|c| c.ports.iter().flatten()).filter_map(|port| {
        let number = port.host_port.filter(|number| *number > 0)?;
        Some(HostPort {
            number,
            protocol: or(port.protocol.as_ref(), "TCP").to_owned(),
            address: or(port.host_ip.as_ref(), ANY_ADDRESS).to_owned(),
        })
    })
}

fn or<'a>(field: Option<&'a String>, default: &'static str) -> &'a str {
    field.map(String::as_str).filter(|text| !text.is_empty()).unwrap_or(default)
}
