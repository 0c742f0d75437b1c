//! What is authorized: verb and subresource of the node, by method and path (KEP-2862).

use http::Method;

/// One question to the authorizer: may someone do this to `nodes/<name>/<subresource>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attributes {
    /// `get`, `create`, `update`, `patch`, `delete`; empty for other methods, which then need a
    /// rule for all verbs.
    pub verb: &'static str,
    /// The node.
    pub node_name: String,
    /// `proxy`, `stats`, `log`, `metrics`, `healthz`, `pods`, `configz`, `checkpoint`, `statusz`.
    pub subresource: &'static str,
    /// The request's path.
    pub path: String,
}

/// The verb of a method.
pub(crate) fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::GET => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

/// The subresources one of which must be allowed, in the order to ask. All that reaches into
/// containers is `proxy`; a WebSocket exec is a GET and thus needs only `get` (as upstream).
pub(crate) fn subresources(path: &str) -> &'static [&'static str] {
    let below =
        |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    const TABLE: [(&str, &[&str]); 11] = [
        ("/allocatedPods", &["pods", "proxy"]),
        ("/pods", &["pods", "proxy"]),
        ("/healthz", &["healthz", "proxy"]),
        ("/configz", &["configz", "proxy"]),
        ("/runningpods", &["pods", "proxy"]),
        ("/stats", &["stats"]),
        ("/metrics", &["metrics"]),
        ("/logs", &["log"]),
        ("/checkpoint", &["checkpoint"]),
        ("/statusz", &["statusz"]),
        ("/flagz", &["configz"]),
    ];
    TABLE.iter().find(|(root, _)| below(root)).map_or(&["proxy"], |(_, names)| *names)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Upstream: `TestGetRequestAttributes` in pkg/kubelet/server/auth_test.go.
    #[test]
    fn paths_map_to_subresources() {
        for (path, want) in [
            ("/allocatedPods", &["pods", "proxy"][..]),
            ("/allocatedPods/ns/p/u", &["pods", "proxy"]),
            ("/attach/ns/p/c", &["proxy"]),
            ("/attach/ns/p/u/c", &["proxy"]),
            ("/checkpoint/ns/p/c", &["checkpoint"]),
            ("/checkpoints", &["proxy"]),
            ("/configz", &["configz", "proxy"]),
            ("/configz/x", &["configz", "proxy"]),
            ("/containerLogs/ns/p/c", &["proxy"]),
            ("/debug/flags/v", &["proxy"]),
            ("/debug/pprof/", &["proxy"]),
            ("/debug/pprof/profile", &["proxy"]),
            ("/exec/ns/p/c", &["proxy"]),
            // No way back to the proxy for these: they are younger than the fine-grained ones.
            ("/flagz", &["configz"]),
            ("/statusz", &["statusz"]),
            ("/statuszz", &["proxy"]),
            ("/healthz", &["healthz", "proxy"]),
            ("/healthz/", &["healthz", "proxy"]),
            ("/healthz/log", &["healthz", "proxy"]),
            ("/healthz/ping", &["healthz", "proxy"]),
            ("/healthz/syncloop", &["healthz", "proxy"]),
            ("/healthzz", &["proxy"]),
            ("/logs", &["log"]),
            ("/logs/", &["log"]),
            ("/logs/x/y", &["log"]),
            ("/logsx", &["proxy"]),
            ("/metrics", &["metrics"]),
            ("/metrics/cadvisor", &["metrics"]),
            ("/metrics/probes", &["metrics"]),
            ("/metrics/resource", &["metrics"]),
            ("/metrics/slis", &["metrics"]),
            ("/metricsx", &["proxy"]),
            ("/pods", &["pods", "proxy"]),
            ("/pods/", &["pods", "proxy"]),
            ("/podsx", &["proxy"]),
            ("/Pods", &["proxy"]),
            ("//pods", &["proxy"]),
            ("/portForward/ns/p", &["proxy"]),
            ("/run/ns/p/c", &["proxy"]),
            ("/runningpods", &["pods", "proxy"]),
            ("/runningpods/", &["pods", "proxy"]),
            ("/runningpodsx", &["proxy"]),
            ("/stats", &["stats"]),
            ("/stats/", &["stats"]),
            ("/stats/summary", &["stats"]),
            ("/statsx", &["proxy"]),
            ("/", &["proxy"]),
            ("", &["proxy"]),
        ] {
            assert_eq!(subresources(path), want, "{path}");
        }
    }

    #[test]
    fn methods_map_to_verbs() {
        for (method, want) in [
            ("GET", "get"),
            ("POST", "create"),
            ("PUT", "update"),
            ("PATCH", "patch"),
            ("DELETE", "delete"),
            ("HEAD", ""),
        ] {
            assert_eq!(verb(&Method::from_bytes(method.as_bytes()).unwrap()), want);
        }
    }
}
