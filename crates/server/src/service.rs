//! From a request to its answer.

use std::sync::Arc;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use rustls::pki_types::CertificateDer;
use telemetry::traces::{self, Span};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use crate::answer::{self, Answer};
use crate::auth::{Access, RequestHead};
use crate::endpoint::{self, Endpoint, Route, ServerKind};
use crate::ports::{Ports, ServedRequest, SummaryParts};
use crate::settings::Settings;
use crate::streaming::{self, Session};
use crate::tunnel::TunnelContext;
use crate::{debugflags, health, logs, metrics, nodelogs, pods};

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
    /// The certificate it showed, with intermediates; not verified yet.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) permit: Arc<OwnedSemaphorePermit>,
}

impl<P: Ports> Service<P> {
    /// Answers a request.
    pub(crate) async fn answer(&self, request: Request<Incoming>, peer: &Peer) -> Answer {
        let start = Instant::now();
        let method = method_label(request.method());
        let path = endpoint::metrics_bucket(request.uri().path());
        let span = self.span(&request, path);
        let (answer, is_long_running) = span.run(self.dispatch(request, peer)).await;
        span.set("http.response.status_code", i64::from(answer.status().as_u16()));
        if answer.status().is_server_error() {
            span.fail("");
        }
        if self.kind != ServerKind::Healthz {
            self.ports.observe(&ServedRequest {
                method,
                path,
                server_type: if self.kind == ServerKind::Main { "readwrite" } else { "readonly" },
                is_long_running,
                duration: start.elapsed(),
            });
        }
        answer
    }

    /// Health is asked for too often to be of interest.
    fn span(&self, request: &Request<Incoming>, route: &'static str) -> Span {
        if self.kind == ServerKind::Healthz {
            return Span::default();
        }
        let head = (request.method(), request.uri(), request.version(), request.headers());
        traces::serve(&self.ports.tracer(), route, self.kind == ServerKind::ReadOnly, head)
    }

    async fn dispatch(&self, request: Request<Incoming>, peer: &Peer) -> (Answer, bool) {
        let path = request.uri().path();
        let route = endpoint::route(self.kind, &self.settings.endpoints, request.method(), path);
        // What does not exist costs no question to the API server.
        if route == Route::NotFound {
            return (not_found(), false);
        }
        if let Some(access) = &self.access {
            let head = RequestHead { method: request.method(), path, headers: request.headers() };
            if let Err(refusal) = access.check(&self.ports, &peer.chain, &head).await {
                return (*refusal, false);
            }
        }
        match route {
            Route::Found(endpoint) => self.serve(endpoint, request, peer).await,
            Route::MethodNotAllowed(allow) => (answer::method_not_allowed(allow), false),
            Route::NotFoundBelow => (answer::text(StatusCode::NOT_FOUND, "404: Page Not Found"), false),
            Route::NotFound => (not_found(), false),
        }
    }

    async fn serve(&self, endpoint: Endpoint, request: Request<Incoming>, peer: &Peer) -> (Answer, bool) {
        let query = Query::parse(request.uri().query());
        let ports = &self.ports;
        let tunnel = || TunnelContext {
            idle_timeout: self.settings.streaming_idle_timeout,
            shutdown: self.shutdown.clone(),
            translates: self.settings.endpoints.translates_websockets,
            permit: peer.permit.clone(),
        };
        let answer = match endpoint {
            Endpoint::Health => health::all(ports, self.kind, &query),
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
            Endpoint::Config => {
                answer::json(serde_json::json!({ "kubeletconfig": ports.config() }).to_string())
            }
            Endpoint::NodeLogs(path) => {
                let (query, headers) = (request.uri().query(), request.headers());
                nodelogs::answer(&self.settings.system_logs, &path, query, headers).await
            }
            Endpoint::Verbosity => debugflags::answer(ports, request).await,
            Endpoint::ContainerLogs(path) => {
                let answer =
                    logs::answer(ports, &path, &query, self.settings.endpoints.has_log_streams).await;
                return (answer, query.first("follow").is_some_and(|f| f != "false" && f != "0"));
            }
            Endpoint::Exec(path) => {
                let session = streaming::session(ports, Session::Exec, path, &query, request, tunnel());
                return (session.await, true);
            }
            Endpoint::Attach(path) => {
                let session = streaming::session(ports, Session::Attach, path, &query, request, tunnel());
                return (session.await, true);
            }
            Endpoint::PortForward(path) => {
                return (streaming::port_forward(ports, &path, &query, request, tunnel()).await, true);
            }
            Endpoint::Run(path) => streaming::run(ports, path, &query).await,
            Endpoint::Disabled(text) => answer::error(StatusCode::METHOD_NOT_ALLOWED, text),
        };
        (answer, false)
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
