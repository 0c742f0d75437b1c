//! Which addresses a node has, in tables of hosts and settings.

use std::net::IpAddr;

use host::network::{DefaultRoute, Interface, Network};

use super::AddressChoice;

fn ips(text: &str) -> Vec<IpAddr> {
    text.split_whitespace().map(|ip| ip.parse().unwrap()).collect()
}

fn interface(name: &str, addresses: &str) -> Interface {
    let is_loopback = name == "lo";
    let is_point_to_point = name.starts_with("ppp");
    Interface {
        name: name.to_owned(),
        is_up: true,
        is_loopback,
        is_point_to_point,
        addresses: ips(addresses),
    }
}

/// A machine with two network cards, the first of which leads to everywhere.
fn machine(routes: &str) -> Network {
    let route = |name: &str| DefaultRoute {
        interface: name.trim_end_matches("/6").to_owned(),
        is_ipv6: name.ends_with("/6"),
    };
    Network {
        interfaces: vec![
            interface("lo", "127.0.0.1 ::1"),
            interface("eth0", "169.254.0.9 10.0.0.5 10.0.0.6 fe80::5 fd00::5"),
            interface("eth1", "10.1.0.5 fd01::5"),
            interface("ppp0", "10.2.0.5"),
        ],
        default_routes: Some(routes.split_whitespace().map(route).collect()),
    }
}

struct Case {
    what: &'static str,
    given: &'static str,
    hostname: &'static str,
    dns: &'static str,
    routes: &'static str,
    result: &'static str,
}

const USUAL: Case =
    Case { what: "", given: "", hostname: "node-1", dns: "", routes: "eth0 eth0/6", result: "10.0.0.5" };

fn chosen(case: &Case, network: &Network, is_external: bool) -> String {
    let choice = AddressChoice {
        given: ips(case.given),
        node_name: case.hostname.to_owned(),
        is_cloud_provider_external: is_external,
    };
    match choice.choose(network, &ips(case.dns)) {
        Ok(found) => found.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" "),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_order_of_choice_is_upstreams() {
    let cases = [
        Case { what: "the default route's interface", ..USUAL },
        Case { what: "the other one", routes: "eth1", result: "10.1.0.5", ..USUAL },
        Case { what: "IPv4 first, wherever it is", routes: "eth1/6 eth0", ..USUAL },
        Case { what: "IPv6 where there is nothing else", routes: "eth1/6", result: "fd01::5", ..USUAL },
        Case { what: "IPv6 if asked for", given: "::", result: "fd00::5", ..USUAL },
        Case { what: "IPv6 asked for in vain", given: "::", routes: "eth1", result: "10.1.0.5", ..USUAL },
        Case { what: "IPv4 if asked for", given: "0.0.0.0", ..USUAL },
        Case { what: "DNS before routes", dns: "10.1.0.5", result: "10.1.0.5", ..USUAL },
        Case { what: "IPv4 of DNS", dns: "fd01::5 10.1.0.5", result: "10.1.0.5", ..USUAL },
        Case { what: "IPv6 of DNS", given: "::", dns: "10.1.0.5 fd01::5", result: "fd01::5", ..USUAL },
        Case { what: "the wrong family of DNS", dns: "fd01::5", result: "fd01::5", ..USUAL },
        Case { what: "strangers of DNS do not count", dns: "192.0.2.9 127.0.0.1 fe80::5", ..USUAL },
        Case { what: "a host name that is an address", hostname: "192.0.2.7", result: "192.0.2.7", ..USUAL },
        Case { what: "given", given: "10.1.0.5", hostname: "192.0.2.7", result: "10.1.0.5", ..USUAL },
        Case {
            what: "given of both families",
            given: "fd01::5 10.0.0.5",
            result: "fd01::5 10.0.0.5",
            ..USUAL
        },
        Case {
            what: "not of this machine",
            given: "192.0.2.9",
            result: "the first address of --node-ip: no network interface of this machine has 192.0.2.9",
            ..USUAL
        },
        Case {
            what: "the second not of this machine",
            given: "10.0.0.5 fd99::9",
            result: "the second address of --node-ip: no network interface of this machine has fd99::9",
            ..USUAL
        },
        Case {
            what: "loopback",
            given: "127.0.0.1",
            result: "the first address of --node-ip: a loopback address leads nobody here",
            ..USUAL
        },
        Case {
            what: "link-local",
            given: "fe80::5",
            result: "the first address of --node-ip: a link-local address is good on one link only",
            ..USUAL
        },
        Case {
            what: "multicast",
            given: "224.0.0.1",
            result: "the first address of --node-ip: a multicast address is nobody's own",
            ..USUAL
        },
        Case {
            what: "no route",
            routes: "",
            result: "node node-1 has no address: there is no default route, and --node-ip names no address",
            ..USUAL
        },
        Case {
            what: "a route over nothing",
            routes: "eth9",
            result: "node node-1 has no address: no interface of a default route has an address that others can reach",
            ..USUAL
        },
    ];
    for case in &cases {
        assert_eq!(chosen(case, &machine(case.routes), false), case.result, "{}", case.what);
    }
}

#[test]
fn an_external_cloud_provider_is_waited_for_unless_an_address_is_given() {
    let network = machine("eth0 eth0/6");
    for (given, result) in [("", ""), ("10.1.0.5", "10.1.0.5"), ("::", "fd00::5"), ("0.0.0.0", "10.0.0.5")] {
        assert_eq!(chosen(&Case { given, dns: "10.1.0.9", ..USUAL }, &network, true), result, "{given:?}");
    }
}

#[test]
fn addresses_on_the_loopback_interface_serve_where_routers_need_none() {
    let mut network = machine("eth0");
    network.interfaces[1].addresses = ips("fe80::5");
    network.interfaces[0].addresses = ips("127.0.0.1 203.0.113.5");
    assert_eq!(chosen(&USUAL, &network, false), "203.0.113.5");
    network.interfaces[0].is_up = false;
    assert!(
        chosen(&USUAL, &network, false)
            .ends_with("no interface of a default route has an address that others can reach")
    );
}

#[test]
fn without_routes_any_real_interface_serves() {
    let mut network = machine("");
    network.default_routes = None;
    assert_eq!(chosen(&USUAL, &network, false), "10.0.0.5");
    network.interfaces[1].is_up = false;
    assert_eq!(chosen(&USUAL, &network, false), "10.1.0.5");
    assert_eq!(chosen(&Case { given: "::", ..USUAL }, &network, false), "fd01::5");
    network.interfaces[2].is_up = false;
    assert!(
        chosen(&USUAL, &network, false)
            .ends_with("no network interface has an address that others can reach")
    );
}
