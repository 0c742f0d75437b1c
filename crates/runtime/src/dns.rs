//! A pod's DNS configuration, from its policy, the cluster's settings and the node's
//! `resolv.conf` (<https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/>).

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::PodDNSConfig;
use model::{Pod, pod};

const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARS: usize = 2048;
/// How many search domains a cluster has.
const CLUSTER_SEARCHES: usize = 3;
/// Longer ones make some resolvers abort.
const MAX_DOMAIN_CHARS: usize = 253;

/// What every pod's DNS depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsSettings {
    /// `clusterDNS`.
    pub cluster_dns: Vec<IpAddr>,
    /// `clusterDomain`; may be empty.
    pub cluster_domain: String,
    /// The node's own configuration; `None` when `resolvConf` is set to the empty text, which
    /// gives pods none.
    pub host: Option<ResolvConf>,
    /// The addresses the node was given (`--node-ip`).
    pub node_ips: Vec<IpAddr>,
}

/// Servers, search domains and options, in the order of their use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// `nameserver` lines.
    pub servers: Vec<String>,
    /// The last `search` line.
    pub searches: Vec<String>,
    /// All `options`; a later one replaces an earlier of the same name.
    pub options: Vec<String>,
}

/// What to tell the pod's owner about its DNS configuration, as event reason and message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsWarning {
    /// `DNSConfigForming` or `MissingClusterDNS`.
    pub reason: &'static str,
    /// The text.
    pub message: String,
    /// What to tell of the node on that occasion, under the same reason.
    pub of_node: Option<String>,
}

/// A pod's configuration and what was dropped to make it fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodDns {
    /// The configuration.
    pub config: ResolvConf,
    /// What was dropped or is missing.
    pub warnings: Vec<DnsWarning>,
}

/// A `nameserver` line without an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the resolver configuration names no server")]
pub struct ResolvConfError {
    line: usize,
}

impl ResolvConf {
    /// Parses a `resolv.conf`; unknown lines are ignored, as every resolver does.
    ///
    /// # Errors
    /// On a `nameserver` without an address.
    pub fn parse(text: &str) -> Result<Self, ResolvConfError> {
        let mut conf = Self::default();
        for (index, line) in text.lines().enumerate() {
            let mut fields = line.split_whitespace();
            match fields.next() {
                Some("nameserver") => match fields.next() {
                    Some(server) => conf.servers.push(server.to_owned()),
                    None => return Err(ResolvConfError { line: index + 1 }),
                },
                Some("search") => {
                    // Without the final dot, so that a domain written both ways counts once.
                    conf.searches = fields
                        .filter(|domain| *domain != ".")
                        .map(|domain| domain.strip_suffix('.').unwrap_or(domain).to_owned())
                        .collect();
                }
                Some("options") => fields.for_each(|option| set_option(&mut conf.options, option.to_owned())),
                _ => {}
            }
        }
        Ok(conf)
    }

    pub(crate) fn into_wire(self) -> crate::wire::DnsConfig {
        crate::wire::DnsConfig { servers: self.servers, searches: self.searches, options: self.options }
    }
}

/// The configuration of a pod.
pub fn for_pod(pod: &Pod, settings: &DnsSettings) -> PodDns {
    let spec = pod.spec.as_ref();
    let mut warnings = Vec::new();
    let mut config = match spec.and_then(|s| s.dns_policy.as_deref()) {
        Some("None") => ResolvConf::default(),
        Some("Default") => from_host(settings),
        None | Some("ClusterFirst") if pod::is_host_network(pod) => from_host(settings),
        // Anything else was refused by the API server; static pods get the default.
        _ if settings.cluster_dns.is_empty() => {
            warnings.push(missing_cluster_dns(pod));
            from_host(settings)
        }
        _ => from_cluster(pod, settings),
    };
    if let Some(own) = spec.and_then(|s| s.dns_config.as_ref()) {
        merge(&mut config, own);
    }
    limit_servers(&mut config.servers, &mut warnings);
    limit_searches(&mut config.searches, &mut warnings);
    PodDns { config, warnings }
}

fn from_host(settings: &DnsSettings) -> ResolvConf {
    if let Some(host) = &settings.host {
        return host.clone();
    }
    // No servers at all would mean "ask localhost" to a resolver; this says it openly, and the
    // search domain keeps the runtime from filling in the node's.
    let loopback = |ip: &IpAddr| if ip.is_ipv6() { "::1" } else { "127.0.0.1" }.to_owned();
    let mut servers: Vec<String> = settings.node_ips.iter().map(loopback).collect();
    if servers.is_empty() {
        servers.push("127.0.0.1".to_owned());
    }
    ResolvConf { servers, searches: vec![".".to_owned()], options: Vec::new() }
}

fn from_cluster(pod: &Pod, settings: &DnsSettings) -> ResolvConf {
    let host = settings.host.as_ref().map(|host| host.searches.clone()).unwrap_or_default();
    let domain = &settings.cluster_domain;
    let searches = if domain.is_empty() {
        host
    } else {
        let namespace = pod::key(pod).namespace;
        let mut all = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
        all.extend(host);
        without_duplicates(all)
    };
    ResolvConf {
        servers: settings.cluster_dns.iter().map(IpAddr::to_string).collect(),
        searches,
        options: vec!["ndots:5".to_owned()],
    }
}

fn merge(config: &mut ResolvConf, own: &PodDNSConfig) {
    config.servers.extend(own.nameservers.iter().flatten().cloned());
    config.servers = without_duplicates(std::mem::take(&mut config.servers));
    config.searches.extend(own.searches.iter().flatten().cloned());
    config.searches = without_duplicates(std::mem::take(&mut config.searches));
    for option in own.options.iter().flatten() {
        let name = option.name.as_deref().unwrap_or_default();
        let text = match option.value.as_deref() {
            None | Some("") => name.to_owned(),
            Some(value) => format!("{name}:{value}"),
        };
        set_option(&mut config.options, text);
    }
}

fn set_option(options: &mut Vec<String>, option: String) {
    fn name(option: &str) -> &str {
        option.split(':').next().unwrap_or(option)
    }
    match options.iter_mut().find(|known| name(known) == name(&option)) {
        Some(known) => *known = option,
        None => options.push(option),
    }
}

fn without_duplicates(all: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    all.into_iter().filter(|text| seen.insert(text.clone())).collect()
}

fn limit_servers(servers: &mut Vec<String>, warnings: &mut Vec<DnsWarning>) {
    if servers.len() > MAX_SERVERS {
        servers.truncate(MAX_SERVERS);
        let applied = servers.join(" ");
        warnings.push(DnsWarning {
            reason: "DNSConfigForming",
            message: format!(
                "Nameserver limits were exceeded, some nameservers have been omitted, \
                 the applied nameserver line is: {applied}"
            ),
            of_node: None,
        });
    }
}

fn limit_searches(searches: &mut Vec<String>, warnings: &mut Vec<DnsWarning>) {
    let before = searches.len();
    searches.truncate(MAX_SEARCHES);
    searches.retain(|domain| domain.len() <= MAX_DOMAIN_CHARS);
    // The list is one line with a space between two domains.
    while searches.iter().map(|domain| domain.len() + 1).sum::<usize>() > MAX_SEARCH_CHARS + 1 {
        searches.pop();
    }
    if searches.len() < before {
        let applied = searches.join(" ");
        warnings.push(DnsWarning {
            reason: "DNSConfigForming",
            message: format!(
                "Search Line limits were exceeded, some search paths have been omitted, \
                 the applied search line is: {applied}"
            ),
            of_node: None,
        });
    }
}

fn missing_cluster_dns(pod: &Pod) -> DnsWarning {
    let of_node = "kubelet does not have ClusterDNS IP configured and cannot create Pod using \"ClusterFirst\" policy. \
                   Falling back to \"Default\" policy.";
    DnsWarning {
        reason: "MissingClusterDNS",
        message: format!("pod: {:?}. {of_node}", crate::sandbox::describe(pod)),
        of_node: Some(of_node.to_owned()),
    }
}

/// What is the matter with the node's own configuration, read from `path`, before any pod has to do with it: more search
/// domains than a pod's resolver takes, together with those of the cluster if there are any.
pub fn excess(path: &str, conf: &ResolvConf, has_cluster_domain: bool) -> Option<String> {
    let domains = MAX_SEARCHES - if has_cluster_domain { CLUSTER_SEARCHES } else { 0 };
    if conf.searches.len() > domains {
        return Some(format!(
            "Resolv.conf file '{path}' contains search line consisting of more than {domains} domains!"
        ));
    }
    if conf.searches.iter().any(|domain| domain.len() > MAX_DOMAIN_CHARS) {
        return Some(format!(
            "Resolv.conf file {path:?} contains a search path which length is more than allowed {MAX_DOMAIN_CHARS} chars!"
        ));
    }
    (conf.searches.join(" ").len() > MAX_SEARCH_CHARS).then(|| {
        format!(
            "Resolv.conf file '{path}' contains search line which length is more than allowed {MAX_SEARCH_CHARS} chars!"
        )
    })
}

#[cfg(test)]
#[path = "dns_tests.rs"]
mod tests;
