//! Which request is which endpoint: a pure table of methods and paths.

use http::Method;

use crate::settings::EndpointSettings;

/// Which of the three servers a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerKind {
    /// HTTPS, 10250.
    Main,
    /// Plain, 10255: a few harmless endpoints for anyone.
    ReadOnly,
    /// Plain, 10248: is the process alive.
    Healthz,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// All health checks.
    Health,
    /// One of them.
    HealthOf(HealthCheck),
    /// `/pods`.
    Pods,
    /// `/runningpods/`.
    RunningPods,
    /// `/allocatedPods`.
    AllocatedPods,
    /// `/allocatedPods/{namespace}/{pod}[/{uid}]`.
    AllocatedPod(PodPath),
    /// `/stats/summary`.
    Summary,
    /// `/metrics` and those below it.
    Metrics(MetricsKind),
    /// `DELETE /metrics/slis`.
    ResetSlis,
    /// `/configz`.
    Config,
    /// `/flagz`.
    Flags,
    /// `/statusz`.
    Status,
    /// `/checkpoint/…`.
    Checkpoint(ContainerPath),
    /// `/debug/pprof/…`, with what comes after the last slash.
    Profile(String),
    /// `/debug/flags/v`.
    Verbosity,
    /// `/logs/…`, with what comes after the second slash.
    NodeLogs(String),
    /// `/containerLogs/…`.
    ContainerLogs(ContainerPath),
    /// `/exec/…`.
    Exec(ContainerPath),
    /// `/attach/…`.
    Attach(ContainerPath),
    /// `/run/…`.
    Run(ContainerPath),
    /// `/portForward/…`.
    PortForward(PodPath),
    /// An endpoint an operator has switched off: 405 with this text.
    Disabled(&'static str),
}

/// A pod in a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPath {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid, when the path has one.
    pub uid: Option<String>,
}

/// A container in a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPath {
    /// Its pod.
    pub pod: PodPath,
    /// Its name.
    pub container: String,
}

/// One health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthCheck {
    /// The server answers.
    Ping,
    /// Log output works.
    Log,
    /// The core takes inputs.
    SyncLoop,
    /// Device plugins can register.
    DevicePlugin,
}

impl HealthCheck {
    /// All of them, in the order they are listed to clients.
    pub const ALL: [Self; 4] = [Self::Ping, Self::Log, Self::SyncLoop, Self::DevicePlugin];

    /// Those a server has, in that order. The health port is asked whether the process is there, and no more.
    pub(crate) fn of(server: ServerKind, settings: &EndpointSettings) -> impl Iterator<Item = Self> {
        let has_device_plugins = settings.has_device_plugins;
        Self::ALL.into_iter().filter(move |check| match check {
            Self::Ping => true,
            Self::Log | Self::SyncLoop => server != ServerKind::Healthz,
            // A check that has nothing to look at would pass whatever happens.
            Self::DevicePlugin => server != ServerKind::Healthz && has_device_plugins,
        })
    }

    /// The name in paths and lists.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Log => "log",
            Self::SyncLoop => "syncloop",
            Self::DevicePlugin => "device-plugin",
        }
    }
}

/// One of the metrics endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsKind {
    /// `/metrics`: the node's own.
    Kubelet,
    /// `/metrics/cadvisor`: containers and machine.
    Cadvisor,
    /// `/metrics/resource`: CPU and memory of node, pods and containers.
    Resource,
    /// `/metrics/probes`.
    Probes,
    /// `/metrics/slis`: health checks.
    Slis,
}

/// What a method and path come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// An endpoint.
    Found(Endpoint),
    /// There is one, but not for this method; these are the ones allowed.
    MethodNotAllowed(&'static str),
    /// None at this path, though there are some below its first part; asked only by those who may.
    NotFoundBelow,
    /// None.
    NotFound,
}

const DEBUGGING_DISABLED: &str = "Debug endpoints are disabled.";

/// Looks a request up. A trailing slash matters only where upstream's router lets it.
pub fn route(server: ServerKind, settings: &EndpointSettings, method: &Method, path: &str) -> Route {
    let health = match path {
        "/healthz" => Some(Endpoint::Health),
        _ => path
            .strip_prefix("/healthz/")
            .and_then(|name| HealthCheck::of(server, settings).find(|check| check.as_str() == name))
            .map(Endpoint::HealthOf),
    };
    match (health, server) {
        (Some(endpoint), _) => Route::Found(endpoint),
        (None, ServerKind::Healthz) => Route::NotFound,
        (None, ServerKind::ReadOnly) => harmless(method, path).unwrap_or_else(|| without_debugging(path)),
        (None, ServerKind::Main) => harmless(method, path).unwrap_or_else(|| {
            if settings.has_debugging { debugging(settings, method, path) } else { without_debugging(path) }
        }),
    }
}

/// Endpoints of both the main and the read-only server.
fn harmless(method: &Method, path: &str) -> Option<Route> {
    let metrics = |kind| Some(Route::Found(Endpoint::Metrics(kind)));
    match path {
        "/pods" | "/pods/" => Some(get_only(method, Endpoint::Pods)),
        _ if path.starts_with("/pods/") => Some(Route::NotFoundBelow),
        "/stats/summary" | "/stats/summary/" => Some(match *method {
            Method::GET | Method::POST => Route::Found(Endpoint::Summary),
            _ => Route::MethodNotAllowed("GET, POST"),
        }),
        _ if path == "/stats" || path.starts_with("/stats/") => Some(Route::NotFoundBelow),
        "/metrics" => metrics(MetricsKind::Kubelet),
        "/metrics/cadvisor" => metrics(MetricsKind::Cadvisor),
        "/metrics/resource" => metrics(MetricsKind::Resource),
        "/metrics/probes" => metrics(MetricsKind::Probes),
        "/metrics/slis" if *method == Method::DELETE => Some(Route::Found(Endpoint::ResetSlis)),
        "/metrics/slis" => metrics(MetricsKind::Slis),
        _ => None,
    }
}

fn without_debugging(path: &str) -> Route {
    const PREFIXES: [&str; 8] = [
        "/run/",
        "/exec/",
        "/attach/",
        "/portForward/",
        "/containerLogs/",
        "/runningpods/",
        "/debug/pprof/",
        "/logs/",
    ];
    if PREFIXES.iter().any(|prefix| path.starts_with(prefix)) {
        Route::Found(Endpoint::Disabled(DEBUGGING_DISABLED))
    } else {
        Route::NotFound
    }
}

fn debugging(settings: &EndpointSettings, method: &Method, path: &str) -> Route {
    match path {
        "/configz" => return Route::Found(Endpoint::Config),
        "/flagz" if settings.has_flags => return Route::Found(Endpoint::Flags),
        "/statusz" if settings.has_status => return Route::Found(Endpoint::Status),
        "/runningpods" | "/runningpods/" => return get_only(method, Endpoint::RunningPods),
        _ if path.starts_with("/logs/") && !settings.has_system_logs => {
            return Route::Found(Endpoint::Disabled("logs endpoint is disabled."));
        }
        _ if path.starts_with("/logs/") => {
            let below = path.strip_prefix("/logs/").unwrap_or_default();
            return get_only(method, Endpoint::NodeLogs(below.to_owned()));
        }
        _ if path.starts_with("/debug/pprof/") && !settings.has_profiling => {
            return Route::Found(Endpoint::Disabled("profiling endpoint is disabled."));
        }
        _ if path.starts_with("/debug/pprof/") => {
            let name = path.strip_prefix("/debug/pprof/").unwrap_or_default();
            return get_only(method, Endpoint::Profile(name.to_owned()));
        }
        "/debug/flags/v" if !settings.has_debug_flags => {
            return Route::Found(Endpoint::Disabled("flags endpoint is disabled."));
        }
        // Any method: the answer to a wrong one is its own.
        "/debug/flags/v" => return Route::Found(Endpoint::Verbosity),
        _ => {}
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    if parts.iter().any(|part| part.is_empty()) {
        return nothing_below(settings, &parts);
    }
    of_a_pod(settings, method, &parts)
}

/// The endpoints whose path names a pod.
fn of_a_pod(settings: &EndpointSettings, method: &Method, parts: &[&str]) -> Route {
    let stream = |endpoint| match *method {
        Method::GET | Method::POST => Route::Found(endpoint),
        _ => Route::MethodNotAllowed("GET, POST"),
    };
    match parts {
        ["containerLogs", namespace, pod, container] => {
            get_only(method, Endpoint::ContainerLogs(container_path(namespace, pod, None, container)))
        }
        ["checkpoint", namespace, pod, container] if settings.has_checkpoint => {
            post_only(method, Endpoint::Checkpoint(container_path(namespace, pod, None, container)))
        }
        ["exec", namespace, pod, container] => {
            stream(Endpoint::Exec(container_path(namespace, pod, None, container)))
        }
        ["exec", namespace, pod, uid, container] => {
            stream(Endpoint::Exec(container_path(namespace, pod, Some(uid), container)))
        }
        ["attach", namespace, pod, container] => {
            stream(Endpoint::Attach(container_path(namespace, pod, None, container)))
        }
        ["attach", namespace, pod, uid, container] => {
            stream(Endpoint::Attach(container_path(namespace, pod, Some(uid), container)))
        }
        ["portForward", namespace, pod] => stream(Endpoint::PortForward(pod_path(namespace, pod, None))),
        ["portForward", namespace, pod, uid] => {
            stream(Endpoint::PortForward(pod_path(namespace, pod, Some(uid))))
        }
        ["run", namespace, pod, container] => {
            post_only(method, Endpoint::Run(container_path(namespace, pod, None, container)))
        }
        ["run", namespace, pod, uid, container] => {
            post_only(method, Endpoint::Run(container_path(namespace, pod, Some(uid), container)))
        }
        ["allocatedPods", rest @ ..] if settings.has_allocated_pods => match rest {
            [] => get_only(method, Endpoint::AllocatedPods),
            [namespace, pod] => get_only(method, Endpoint::AllocatedPod(pod_path(namespace, pod, None))),
            [namespace, pod, uid] => {
                get_only(method, Endpoint::AllocatedPod(pod_path(namespace, pod, Some(uid))))
            }
            _ => Route::NotFoundBelow,
        },
        parts => nothing_below(settings, parts),
    }
}

/// No endpoint, but perhaps others that begin with the same part.
fn nothing_below(settings: &EndpointSettings, parts: &[&str]) -> Route {
    match parts.first().copied().unwrap_or_default() {
        "containerLogs" | "exec" | "attach" | "run" | "portForward" | "runningpods" => Route::NotFoundBelow,
        "checkpoint" if settings.has_checkpoint => Route::NotFoundBelow,
        "allocatedPods" if settings.has_allocated_pods => Route::NotFoundBelow,
        _ => Route::NotFound,
    }
}

fn get_only(method: &Method, endpoint: Endpoint) -> Route {
    if *method == Method::GET { Route::Found(endpoint) } else { Route::MethodNotAllowed("GET") }
}

fn post_only(method: &Method, endpoint: Endpoint) -> Route {
    if *method == Method::POST { Route::Found(endpoint) } else { Route::MethodNotAllowed("POST") }
}

fn pod_path(namespace: &str, name: &str, uid: Option<&str>) -> PodPath {
    PodPath { namespace: namespace.into(), name: name.into(), uid: uid.map(Into::into) }
}

fn container_path(namespace: &str, pod: &str, uid: Option<&str>, container: &str) -> ContainerPath {
    ContainerPath { pod: pod_path(namespace, pod, uid), container: container.into() }
}

/// The first part of a path as the HTTP metrics name it (two parts below `metrics`); anything
/// unknown is `other`, so that a client cannot make up labels.
pub fn metrics_bucket(path: &str) -> &'static str {
    const BUCKETS: [&str; 20] = [
        "healthz",
        "pods",
        "stats",
        "metrics",
        "metrics/cadvisor",
        "metrics/probes",
        "metrics/resource",
        "run",
        "exec",
        "attach",
        "portForward",
        "containerLogs",
        "configz",
        "flagz",
        "statusz",
        "runningpods",
        "allocatedPods",
        "checkpoint",
        "logs",
        "debug",
    ];
    let path = path.strip_prefix('/').unwrap_or(path);
    let ends = path.match_indices('/').map(|(at, _)| at).nth(usize::from(path.starts_with("metrics/")));
    let root = path.get(..ends.unwrap_or(path.len())).unwrap_or(path);
    BUCKETS.into_iter().find(|bucket| *bucket == root).unwrap_or("other")
}

/// Whether the HTTP metrics count a path's requests among those that last. Forwarded ports are not
/// among them, as upstream.
pub fn is_long_running(bucket: &str) -> bool {
    matches!(bucket, "exec" | "attach" | "debug")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: EndpointSettings = EndpointSettings {
        has_debugging: true,
        has_system_logs: false,
        has_profiling: false,
        has_debug_flags: false,
        has_allocated_pods: true,
        has_log_streams: false,
        translates_websockets: true,
        has_checkpoint: true,
        has_flags: true,
        has_status: true,
        has_device_plugins: false,
    };

    fn of(server: ServerKind, settings: EndpointSettings, method: &str, path: &str) -> String {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        match route(server, &settings, &method, path) {
            Route::Found(endpoint) => {
                let name = format!("{endpoint:?}");
                name.replace("PodPath { ", "").replace("ContainerPath { ", "").replace(" }", "")
            }
            Route::MethodNotAllowed(allow) => format!("405 {allow}"),
            Route::NotFoundBelow => "404 below".into(),
            Route::NotFound => "404".into(),
        }
    }

    #[test]
    fn main_server() {
        for (method, path, want) in [
            ("GET", "/healthz", "Health"),
            ("POST", "/healthz/syncloop", "HealthOf(SyncLoop)"),
            ("GET", "/healthz/nope", "404"),
            ("GET", "/healthz/", "404"),
            ("GET", "/pods", "Pods"),
            ("GET", "/pods/", "Pods"),
            ("POST", "/pods", "405 GET"),
            ("GET", "/runningpods/", "RunningPods"),
            ("POST", "/stats/summary", "Summary"),
            ("DELETE", "/stats/summary", "405 GET, POST"),
            ("GET", "/stats/container", "404 below"),
            ("GET", "/metrics", "Metrics(Kubelet)"),
            ("GET", "/metrics/cadvisor", "Metrics(Cadvisor)"),
            ("GET", "/metrics/nope", "404"),
            ("DELETE", "/metrics/slis", "ResetSlis"),
            ("GET", "/configz", "Config"),
            ("GET", "/flagz", "Flags"),
            ("POST", "/statusz", "Status"),
            ("GET", "/statusz/x", "404"),
            (
                "POST",
                "/checkpoint/ns/p/c",
                "Checkpoint(pod: namespace: \"ns\", name: \"p\", uid: None, container: \"c\")",
            ),
            ("GET", "/checkpoint/ns/p/c", "405 POST"),
            ("POST", "/checkpoint/ns/p", "404 below"),
            ("GET", "/stats", "404 below"),
            (
                "GET",
                "/containerLogs/ns/p/c",
                "ContainerLogs(pod: namespace: \"ns\", name: \"p\", uid: None, container: \"c\")",
            ),
            ("GET", "/containerLogs/ns/p", "404 below"),
            ("GET", "/pods/x", "404 below"),
            ("GET", "/allocatedPods/x", "404 below"),
            ("POST", "/containerLogs/ns/p/c", "405 GET"),
            (
                "POST",
                "/exec/ns/p/u/c",
                "Exec(pod: namespace: \"ns\", name: \"p\", uid: Some(\"u\"), container: \"c\")",
            ),
            ("PUT", "/exec/ns/p/c", "405 GET, POST"),
            ("GET", "/exec/ns//c", "404 below"),
            (
                "GET",
                "/attach/ns/p/c",
                "Attach(pod: namespace: \"ns\", name: \"p\", uid: None, container: \"c\")",
            ),
            ("GET", "/portForward/ns/p", "PortForward(namespace: \"ns\", name: \"p\", uid: None)"),
            ("GET", "/run/ns/p/c", "405 POST"),
            ("GET", "/allocatedPods", "AllocatedPods"),
            ("GET", "/logs/syslog", "Disabled(\"logs endpoint is disabled.\")"),
            ("GET", "/debug/pprof/heap", "Disabled(\"profiling endpoint is disabled.\")"),
            ("GET", "/", "404"),
            ("GET", "/execute", "404"),
        ] {
            assert_eq!(of(ServerKind::Main, ALL, method, path), want, "{method} {path}");
        }
    }

    #[test]
    fn checks_that_have_something_to_look_at() {
        let on = EndpointSettings { has_device_plugins: true, ..ALL };
        for (server, settings, name, want) in [
            (ServerKind::Main, ALL, "log", "HealthOf(Log)"),
            (ServerKind::Main, ALL, "device-plugin", "404"),
            (ServerKind::Main, on, "device-plugin", "HealthOf(DevicePlugin)"),
            (ServerKind::ReadOnly, on, "device-plugin", "HealthOf(DevicePlugin)"),
            (ServerKind::Healthz, on, "device-plugin", "404"),
            (ServerKind::Healthz, on, "log", "404"),
        ] {
            assert_eq!(of(server, settings, "GET", &format!("/healthz/{name}")), want, "{server:?} {name}");
        }
    }

    #[test]
    fn profiles() {
        let on = EndpointSettings { has_profiling: true, ..ALL };
        for (method, path, want) in [
            ("GET", "/debug/pprof/", "Profile(\"\")"),
            ("GET", "/debug/pprof/heap", "Profile(\"heap\")"),
            ("POST", "/debug/pprof/symbol", "405 GET"),
            ("GET", "/debug/pprof", "404"),
        ] {
            assert_eq!(of(ServerKind::Main, on, method, path), want, "{method} {path}");
        }
    }

    #[test]
    fn logs_of_the_machine() {
        let on = EndpointSettings { has_system_logs: true, ..ALL };
        for (method, path, want) in [
            ("GET", "/logs/", "NodeLogs(\"\")"),
            ("GET", "/logs/pods/x.log", "NodeLogs(\"pods/x.log\")"),
            ("POST", "/logs/", "405 GET"),
            ("GET", "/logs", "404"),
        ] {
            assert_eq!(of(ServerKind::Main, on, method, path), want, "{method} {path}");
        }
    }

    #[test]
    fn without_debugging_and_on_other_ports() {
        let off = EndpointSettings { has_debugging: false, ..ALL };
        let disabled = "Disabled(\"Debug endpoints are disabled.\")";
        for (server, settings, method, path, want) in [
            (ServerKind::Main, off, "GET", "/exec/ns/p/c", disabled),
            (ServerKind::Main, off, "GET", "/logs/x", disabled),
            (ServerKind::Main, off, "GET", "/configz", "404"),
            (ServerKind::Main, off, "GET", "/pods", "Pods"),
            (ServerKind::ReadOnly, ALL, "GET", "/exec/ns/p/c", disabled),
            (ServerKind::ReadOnly, ALL, "GET", "/configz", "404"),
            (ServerKind::ReadOnly, ALL, "GET", "/pods", "Pods"),
            (ServerKind::ReadOnly, ALL, "POST", "/stats/summary", "Summary"),
            (ServerKind::ReadOnly, ALL, "PUT", "/stats/summary", "405 GET, POST"),
            (ServerKind::ReadOnly, ALL, "GET", "/statusz", "404"),
            (ServerKind::ReadOnly, ALL, "GET", "/flagz", "404"),
            (ServerKind::ReadOnly, ALL, "POST", "/checkpoint/ns/p/c", "404"),
            (ServerKind::Main, off, "GET", "/statusz", "404"),
            (ServerKind::Healthz, ALL, "GET", "/healthz", "Health"),
            (ServerKind::Healthz, ALL, "GET", "/healthz/ping", "HealthOf(Ping)"),
            (ServerKind::Healthz, ALL, "GET", "/healthz/syncloop", "404"),
            (ServerKind::Healthz, ALL, "GET", "/pods", "404"),
        ] {
            assert_eq!(of(server, settings, method, path), want, "{server:?} {method} {path}");
        }
    }

    #[test]
    fn clients_cannot_make_up_metric_labels() {
        for (path, want) in [
            ("/exec/ns/p/c", "exec"),
            ("/metrics", "metrics"),
            ("/metrics/cadvisor", "metrics/cadvisor"),
            ("/metrics/cadvisor/x", "metrics/cadvisor"),
            ("/metrics/slis", "other"),
            ("/metrics/", "other"),
            ("/debug/pprof/heap", "debug"),
            ("/podsx", "other"),
            ("/", "other"),
        ] {
            assert_eq!(metrics_bucket(path), want);
        }
    }
}
