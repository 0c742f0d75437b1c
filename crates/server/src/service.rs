//! From a request to its answer.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{ACCEPT, AUTHORIZATION, HeaderMap};
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use telemetry::traces::{self, Span};
use tokio::sync::watch;

use crate::answer::{self, Answer};
use crate::auth::{Access, RequestHead};
use crate::counting::{self, Served};
use crate::endpoint::{self, Endpoint, Route, ServerKind};
use crate::identity::Shown;
use crate::ports::{Ports, RequestKind, SummaryParts};
use crate::settings::Settings;
use crate::slots::Slot;
use crate::streaming::{self, Session};
use crate::tunnel::TunnelContext;
use crate::unauthenticated::Authenticated;
use crate::{debugflags, health, logs, metrics, nodelogs, pods, pprof, zpages};

/// One of the servers, as every connection to it shares it.
pub(crate) struct Service<P> {
    pub(crate) kind: ServerKind,
    pub(crate) settings: Arc<Settings>,
    pub(crate) ports: P,
    /// Absent on the servers that ask nobody who they are.
    pub(crate) access: Option<Arc<Access>>,
    pub(crate) shutdown: watch::Receiver<bool>,
}

/// The other end of a connection.
pub(crate) struct Peer {
    /// The certificates it showed, which nobody has verified yet.
    pub(crate) shown: Shown,
    pub(crate) slot: Arc<Slot>,
    /// Made once a request with credentials was let in.
    pub(crate) authenticated: Authenticated,
}

impl<P: Ports> Service<P> {
    /// Answers a request. It counts as being served for as long as the second value is kept.
    pub(crate) async fn answer(&self, request: Request<Incoming>, peer: &Peer) -> (Answer, Option<Served>) {
        let method = method_label(request.method());
        // What is routed is what is authorized is what is counted: decoded, once.
        let path = percent_decode_str(request.uri().path()).decode_utf8().ok().map(Cow::into_owned);
        let bucket = endpoint::metrics_bucket(path.as_deref().unwrap_or_default());
        // Those about health are not counted.
        let served = (self.kind != ServerKind::Healthz).then(|| {
            let kind = RequestKind {
                method,
                path: bucket,
                server_type: if self.kind == ServerKind::Main { "readwrite" } else { "readonly" },
                is_long_running: endpoint::is_long_running(bucket),
            };
            counting::begin(&self.ports, kind)
        });
        let span = self.span(&request, bucket);
        let answer = match path {
            Some(path) => span.run(self.dispatch(request, &path, peer, served.as_ref())).await,
            None => not_found(),
        };
        span.set("http.response.status_code", i64::from(answer.status().as_u16()));
        if answer.status().is_server_error() {
            span.fail("");
        }
        (answer, served)
    }

    /// Health is asked for too often to be of interest.
    fn span(&self, request: &Request<Incoming>, route: &'static str) -> Span {
        if self.kind == ServerKind::Healthz {
            return Span::default();
        }
        let head = (request.method(), request.uri(), request.version(), request.headers());
        traces::serve(&self.ports.tracer(), route, self.kind == ServerKind::ReadOnly, head)
    }

    async fn dispatch(
        &self,
        request: Request<Incoming>,
        path: &str,
        peer: &Peer,
        served: Option<&Served>,
    ) -> Answer {
        let route = endpoint::route(self.kind, &self.settings.endpoints, request.method(), path);
        // What does not exist costs no question to the API server.
        if route == Route::NotFound {
            return not_found();
        }
        if let Some(access) = &self.access {
            let head = RequestHead { method: request.method(), path, headers: request.headers() };
            if let Err(refusal) = access.check(&self.ports, &peer.shown, &head).await {
                return *refusal;
            }
            if !peer.shown.is_empty() || head.headers.contains_key(AUTHORIZATION) {
                peer.authenticated.mark();
            }
        }
        match route {
            Route::Found(endpoint) => self.serve(endpoint, request, peer, served).await,
            Route::MethodNotAllowed(allow) => answer::method_not_allowed(allow),
            Route::NotFoundBelow => answer::text(StatusCode::NOT_FOUND, "404: Page Not Found"),
            Route::NotFound => not_found(),
        }
    }

    async fn serve(
        &self,
        endpoint: Endpoint,
        request: Request<Incoming>,
        peer: &Peer,
        served: Option<&Served>,
    ) -> Answer {
        if is_json_only(&endpoint) && !takes_json(request.headers()) {
            let text = "406: Not Acceptable\n\nAvailable representations: application/json";
            return answer::text(StatusCode::NOT_ACCEPTABLE, text);
        }
        let query = Query::parse(request.uri().query());
        let ports = &self.ports;
        let tunnel = || TunnelContext {
            idle_timeout: self.settings.streaming_idle_timeout,
            shutdown: self.shutdown.clone(),
            translates: self.settings.endpoints.translates_websockets,
            slot: peer.slot.clone(),
            served: served.cloned(),
            free_input: None,
        };
        match endpoint {
            Endpoint::Health => health::all(ports, self.kind, &self.settings.endpoints, &query),
            Endpoint::HealthOf(check) => health::one(ports, check),
            Endpoint::Pods => pods::list(Ok(ports.pods())),
            Endpoint::RunningPods => pods::list(ports.running_pods().await),
            Endpoint::AllocatedPods => pods::allocated(ports),
            Endpoint::AllocatedPod(path) => pods::allocated_one(ports, &path),
            Endpoint::Summary => self.summary(&query).await,
            Endpoint::Metrics(kind) => metrics::answer(ports.metrics(kind).await, request.headers()),
            Endpoint::ResetSlis => {
                ports.reset_sli_metrics();
                answer::text(StatusCode::OK, "metrics reset\n")
            }
            Endpoint::Config => answer::unsniffed(answer::json(
                serde_json::json!({ "kubeletconfig": ports.config() }).to_string(),
            )),
            Endpoint::Flags => zpages::flags(&ports.flags(), request.headers()),
            Endpoint::Status => {
                zpages::status(&ports.build_info(), &self.settings.endpoints, request.headers())
            }
            Endpoint::Checkpoint(path) => streaming::checkpoint(ports, path, &query).await,
            Endpoint::NodeLogs(path) => {
                let (query, headers) = (request.uri().query(), request.headers());
                nodelogs::answer(&self.settings.system_logs, &path, query, headers).await
            }
            Endpoint::Profile(name) => pprof::answer(&name, &query).await,
            Endpoint::Verbosity => debugflags::answer(ports, request).await,
            Endpoint::ContainerLogs(path) => {
                logs::answer(ports, &path, &query, self.settings.endpoints.has_log_streams).await
            }
            Endpoint::Exec(path) => {
                streaming::session(ports, Session::Exec, path, &query, request, tunnel()).await
            }
            Endpoint::Attach(path) => {
                streaming::session(ports, Session::Attach, path, &query, request, tunnel()).await
            }
            Endpoint::PortForward(path) => {
                streaming::port_forward(ports, &path, &query, request, tunnel()).await
            }
            Endpoint::Run(path) => streaming::run(ports, path, &query).await,
            Endpoint::Disabled(text) => answer::error(StatusCode::METHOD_NOT_ALLOWED, text),
        }
    }

    async fn summary(&self, query: &Query) -> Answer {
        let parts = match query.first("only_cpu_and_memory") {
            Some("true") => SummaryParts::CpuAndMemory,
            _ => SummaryParts::All,
        };
        match self.ports.summary(parts).await {
            Ok(json) => answer::json(json),
            Err(error) => answer::text(StatusCode::INTERNAL_SERVER_ERROR, format!("Internal Error: {error}")),
        }
    }
}

/// Whether there is an answer in JSON and no other.
fn is_json_only(endpoint: &Endpoint) -> bool {
    use Endpoint::{AllocatedPod, AllocatedPods, Checkpoint, Pods, RunningPods, Summary};
    matches!(endpoint, Pods | RunningPods | AllocatedPods | AllocatedPod(_) | Checkpoint(_) | Summary)
}

/// Whether a client takes JSON. Its preferences do not count, as upstream.
fn takes_json(headers: &HeaderMap) -> bool {
    let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.is_empty()
        || accepted
            .split(',')
            .map(|kind| kind.split(';').next().unwrap_or_default().trim())
            .any(|kind| kind == "*/*" || kind == "application/json")
}

/// The parameters of a request, decoded.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: Option<&str>) -> Self {
        Self(form_urlencoded::parse(text.unwrap_or_default().as_bytes()).into_owned().collect())
    }

    /// The first value of a parameter.
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// All values of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

fn not_found() -> Answer {
    answer::error(StatusCode::NOT_FOUND, "404 page not found")
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::OPTIONS => "OPTIONS",
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::TRACE => "TRACE",
        Method::CONNECT => "CONNECT",
        _ => "other",
    }
}
