//! DNS policies, merges and limits, as tables.

use serde_json::json;

use super::*;

fn pod(spec: serde_json::Value) -> Pod {
    let mut spec = spec;
    spec["containers"] = json!([]);
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": spec}))
        .unwrap()
}

fn settings() -> DnsSettings {
    DnsSettings {
        cluster_dns: vec!["10.96.0.10".parse().unwrap()],
        cluster_domain: "cluster.local".into(),
        host: Some(ResolvConf {
            servers: vec!["192.0.2.1".into()],
            searches: vec!["example.com".into(), "cluster.local".into()],
            options: vec!["timeout:2".into()],
        }),
        node_ips: vec!["192.0.2.9".parse().unwrap(), "2001:db8::9".parse().unwrap()],
    }
}

fn shown(config: &ResolvConf) -> String {
    [&config.servers, &config.searches, &config.options].map(|list| list.join(" ")).join(" | ")
}

#[test]
fn follows_the_policy() {
    let cluster = "10.96.0.10 | ns.svc.cluster.local svc.cluster.local cluster.local example.com | ndots:5";
    let host = "192.0.2.1 | example.com cluster.local | timeout:2";
    for (spec, expect) in [
        (json!({"dnsPolicy": "ClusterFirst"}), cluster),
        (json!({}), cluster),
        (json!({"dnsPolicy": "ClusterFirst", "hostNetwork": true}), host),
        (json!({"hostNetwork": true}), host),
        (json!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true}), cluster),
        (json!({"dnsPolicy": "Default"}), host),
        (json!({"dnsPolicy": "None"}), " |  | "),
        (
            json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["a"],
                   "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}),
            "1.1.1.1 | a | ndots:2 edns0",
        ),
        (
            json!({"dnsPolicy": "Default", "dnsConfig": {"nameservers": ["192.0.2.1", "1.1.1.1"],
                   "searches": ["example.com", "b"], "options": [{"name": "timeout", "value": "9"}]}}),
            "192.0.2.1 1.1.1.1 | example.com cluster.local b | timeout:9",
        ),
    ] {
        let dns = for_pod(&pod(spec.clone()), &settings());
        assert_eq!(shown(&dns.config), expect, "{spec}");
        assert!(dns.warnings.is_empty());
    }
}

#[test]
fn does_without_what_the_node_lacks() {
    let no_cluster = DnsSettings { cluster_dns: Vec::new(), ..settings() };
    let dns = for_pod(&pod(json!({"dnsPolicy": "ClusterFirst"})), &no_cluster);
    assert_eq!(shown(&dns.config), "192.0.2.1 | example.com cluster.local | timeout:2");
    assert_eq!(dns.warnings[0].reason, "MissingClusterDNS");

    let no_host = DnsSettings { host: None, ..settings() };
    let dns = for_pod(&pod(json!({"dnsPolicy": "Default"})), &no_host);
    assert_eq!(shown(&dns.config), "127.0.0.1 ::1 | . | ");

    let no_domain = DnsSettings { cluster_domain: String::new(), ..settings() };
    let dns = for_pod(&pod(json!({})), &no_domain);
    assert_eq!(shown(&dns.config), "10.96.0.10 | example.com cluster.local | ndots:5");
}

#[test]
fn drops_what_exceeds_the_limits() {
    let config = |servers: usize, searches: Vec<String>| {
        let servers: Vec<String> = (0..servers).map(|n| format!("10.0.0.{n}")).collect();
        let spec = json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": servers, "searches": searches}});
        for_pod(&pod(spec), &settings())
    };
    let domains = |count: usize, length: usize| -> Vec<String> {
        (0..count).map(|n| format!("{n:03}{}", "x".repeat(length - 3))).collect()
    };
    // 16 domains of 127 characters and 15 spaces are 2047 characters, 17 of 119 are 2039.
    for (servers, searches, kept_servers, kept_searches, warnings) in [
        (3, domains(32, 10), 3, 32, 0),
        (4, domains(33, 10), 3, 32, 2),
        (1, domains(16, 127), 1, 16, 0),
        (1, domains(17, 127), 1, 16, 1),
        (1, domains(1, 254), 1, 0, 1),
        (1, domains(1, 253), 1, 1, 0),
    ] {
        let dns = config(servers, searches);
        let kept = (dns.config.servers.len(), dns.config.searches.len(), dns.warnings.len());
        assert_eq!(kept, (kept_servers, kept_searches, warnings));
    }
}

#[test]
fn parses_resolv_conf() {
    let text = "# comment\n; other\nnameserver 1.1.1.1\n  nameserver 2.2.2.2 extra\nsearch old\n\
                search a.example. b .\noptions ndots:1 timeout:2\noptions ndots:3\ndomain ignored\n";
    let conf = ResolvConf::parse(text).unwrap();
    assert_eq!(shown(&conf), "1.1.1.1 2.2.2.2 | a.example b | ndots:3 timeout:2");
    let error = ResolvConf::parse("\nnameserver\n").unwrap_err();
    assert_eq!(error.to_string(), "line 2 of the resolver configuration names no server");
}

#[test]
fn what_is_too_much_for_any_pod_is_told_of_the_node() {
    let domains = |count: usize, length: usize| ResolvConf {
        searches: (0..count).map(|n| format!("{n:0>length$}")).collect(),
        ..ResolvConf::default()
    };
    let is_more = |searches: &ResolvConf, has_cluster| excess("/etc/resolv.conf", searches, has_cluster);
    assert_eq!(is_more(&domains(29, 10), true), None);
    assert_eq!(
        is_more(&domains(30, 10), true).as_deref(),
        Some("Resolv.conf file '/etc/resolv.conf' contains search line consisting of more than 29 domains!")
    );
    assert_eq!(is_more(&domains(32, 10), false), None);
    assert_eq!(
        is_more(&domains(33, 10), false).as_deref(),
        Some("Resolv.conf file '/etc/resolv.conf' contains search line consisting of more than 32 domains!")
    );
    assert_eq!(
        is_more(&domains(1, 254), true).as_deref(),
        Some(
            "Resolv.conf file \"/etc/resolv.conf\" contains a search path which length is more than allowed 253 chars!"
        )
    );
    assert_eq!(is_more(&domains(8, 253), true), None);
    assert_eq!(
        is_more(&domains(9, 253), true).as_deref(),
        Some(
            "Resolv.conf file '/etc/resolv.conf' contains search line which length is more than allowed 2048 chars!"
        )
    );
}
