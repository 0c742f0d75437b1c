//! Whether the host ports a pod wants are free.

use model::{Pod, pod};

use model::reason::Refusal;

use super::Rejection;

const ANY_ADDRESS: &str = "0.0.0.0";

pub(super) fn check(pod: &Pod, active: &[&Pod]) -> Result<(), Rejection> {
    let is_taken = host_ports(pod)
        .any(|wanted| active.iter().any(|other| host_ports(other).any(|p| p.collides(&wanted))));
    if is_taken {
        return Err(Rejection::predicate(
            Refusal::NodePorts,
            "node(s) didn't have free ports for the requested pod ports",
        ));
    }
    Ok(())
}

#[derive(PartialEq, Eq)]
struct HostPort<'a> {
    address: &'a str,
    protocol: &'a str,
    number: i32,
}

impl HostPort<'_> {
    /// The same number on all addresses collides with it on any.
    fn collides(&self, other: &HostPort<'_>) -> bool {
        (self.number, self.protocol) == (other.number, other.protocol)
            && (self.address == other.address || self.address == ANY_ADDRESS || other.address == ANY_ADDRESS)
    }
}

/// The host ports of all containers that run as long as the pod does.
fn host_ports(pod: &Pod) -> impl Iterator<Item = HostPort<'_>> {
    let spec = pod.spec.as_ref();
    let sidecars =
        spec.into_iter().flat_map(|s| s.init_containers.iter().flatten()).filter(|c| pod::is_sidecar(c));
    let regular = spec.into_iter().flat_map(|s| &s.containers);
    sidecars.chain(regular).flat_map(|c| c.ports.iter().flatten()).filter_map(|port| {
        let number = port.host_port.filter(|number| *number > 0)?;
        Some(HostPort {
            address: or(port.host_ip.as_ref(), ANY_ADDRESS),
            protocol: or(port.protocol.as_ref(), "TCP"),
            number,
        })
    })
}

fn or<'a>(field: Option<&'a String>, default: &'static str) -> &'a str {
    field.map(String::as_str).filter(|text| !text.is_empty()).unwrap_or(default)
}
