//! Network, of the node and of sandboxes.

use host::cgroup::stats::InterfaceCounters;

use super::{Family, Samples, counter, labelled, number};
use crate::cadvisor::group::Group;

/// A family with a sample for each interface.
const fn by_interface(family: Family) -> Family {
    labelled(family, &["interface"])
}

pub(super) const FAMILIES: &[Family] = &[
    by_interface(counter("container_network_receive_bytes_total", "Bytes received.", |g, out| {
        each(g, out, |i| i.received_bytes)
    })),
    by_interface(counter(
        "container_network_receive_errors_total",
        "Packets received with errors.",
        |g, out| each(g, out, |i| i.receive_errors),
    )),
    by_interface(counter(
        "container_network_receive_packets_dropped_total",
        "Packets dropped when received.",
        |g, out| each(g, out, |i| i.receive_drops),
    )),
    by_interface(counter("container_network_receive_packets_total", "Packets received.", |g, out| {
        each(g, out, |i| i.received_packets)
    })),
    by_interface(counter("container_network_transmit_bytes_total", "Bytes sent.", |g, out| {
        each(g, out, |i| i.sent_bytes)
    })),
    by_interface(counter(
        "container_network_transmit_errors_total",
        "Packets not sent for errors.",
        |g, out| each(g, out, |i| i.send_errors),
    )),
    by_interface(counter(
        "container_network_transmit_packets_dropped_total",
        "Packets dropped instead of sent.",
        |g, out| each(g, out, |i| i.send_drops),
    )),
    by_interface(counter("container_network_transmit_packets_total", "Packets sent.", |g, out| {
        each(g, out, |i| i.sent_packets)
    })),
];

fn each(group: &Group, out: &mut Samples<'_>, count: fn(&InterfaceCounters) -> u64) -> Option<()> {
    for interface in &group.interfaces {
        out.of(group, [&interface.name], number(count(interface)));
    }
    Some(())
}
