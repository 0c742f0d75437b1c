//! Spans that a collector gets of a pod's start and of a request.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::certificates::{Line, admin_pair};
use super::scene::{SOON, Scene, shell};
use crate::cluster::Changes;
use crate::process::Service;

struct Receiver(mpsc::Sender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        // The scenario may be over.
        let _ = self.0.send(request.into_inner()).await;
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A collector, and all spans it has.
struct Collector {
    address: String,
    received: mpsc::Receiver<ExportTraceServiceRequest>,
    spans: Vec<Span>,
}

impl Collector {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen for spans")?;
        let address = listener.local_addr().context("listen for spans")?.to_string();
        // A batch has up to 512 spans; a kubelet that has to wait keeps them meanwhile.
        let (sender, received) = mpsc::channel(64);
        let service = TraceServiceServer::new(Receiver(sender));
        tokio::spawn(
            Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)),
        );
        Ok(Self { address, received, spans: Vec::new() })
    }

    /// Waits until a span is among all.
    async fn until(&mut self, what: &str, find: impl Fn(&[Span]) -> Option<Span>) -> Result<Span> {
        let deadline = tokio::time::Instant::now() + SOON;
        loop {
            if let Some(found) = find(&self.spans) {
                return Ok(found);
            }
            let next = tokio::time::timeout_at(deadline, self.received.recv()).await;
            let next = next.ok().flatten().with_context(|| {
                let names: BTreeSet<&str> = self.spans.iter().map(|span| span.name.as_str()).collect();
                format!("no span {what} among {names:?}")
            })?;
            for resource in next.resource_spans {
                let from = format!("{:?}", resource.resource);
                ensure!(from.contains("kubelet"), "spans come from the kubelet: {from}");
                self.spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
            }
        }
    }
}

/// The text of a span's attribute.
fn attribute<'a>(span: &'a Span, key: &str) -> &'a str {
    let found = span.attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()) {
        Some(Any::StringValue(text)) => text,
        _ => "",
    }
}

/// The cluster's kubelet stopped, and one in its place that tells the collector everything.
async fn traced(scene: &Scene, collector: &Collector, name: &'static str) -> Result<Service> {
    scene.cluster.kubelet.stop().await?;
    let fields = json!({ "tracing": { "endpoint": collector.address, "samplingRatePerMillion": 1_000_000 } });
    // Batches are sent when they are this old, milliseconds.
    let environment = vec![("OTEL_BSP_SCHEDULE_DELAY", "200".into())];
    let kubelet =
        scene.cluster.kubelet_changed(name, Changes { fields, environment, ..Changes::default() })?;
    kubelet.start().await?;
    Ok(kubelet)
}

pub(super) async fn of_a_pods_start(scene: Scene) -> Result<()> {
    let mut collector = Collector::start().await?;
    let kubelet = traced(&scene, &collector, "traced").await?;
    let spec = json!({ "containers": [shell("main", "sleep 100000")] });
    // Cancel-safe: both only watch; the pod stays for the end of the scenario.
    let pod = tokio::select! {
        ready = scene.ready_pod("traced", spec) => ready?,
        died = kubelet.died() => return Err(died),
    };
    let uid = pod.metadata.uid.context("the pod's uid")?;

    // The work on the pod, and within it the calls to the runtime.
    let is_work = |span: &Span| span.name == "syncPod" && attribute(span, "k8s.pod.uid") == uid;
    for call in ["RunPodSandbox", "CreateContainer", "StartContainer"] {
        let name = format!("runtime.v1.RuntimeService/{call}");
        let within = |all: &[Span]| {
            let work: Vec<_> = all.iter().filter(|span| is_work(span)).map(|span| &span.trace_id).collect();
            all.iter().find(|span| span.name == name && work.contains(&&span.trace_id)).cloned()
        };
        collector.until(&format!("{name} for the pod"), within).await?;
    }
    kubelet.stop().await
}

/// A request that belongs to a trace of its caller: the span is part of it or points to it. Upstream's does neither.
pub(super) async fn of_a_request_with_a_trace(scene: Scene) -> Result<()> {
    let mut collector = Collector::start().await?;
    let kubelet = traced(&scene, &collector, "traced-requests").await?;
    let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let pair = admin_pair(&scene.cluster.paths)?;
    let mut line = kubelet.answers(SOON, || Line::open(&scene.cluster.paths, &pair)).await?;
    let header = format!("00-{trace}-{parent}-01");
    line.get("/pods", Some(("traceparent", &header))).await?;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let belongs = |span: &Span| {
        hex(&span.trace_id) == trace && hex(&span.parent_span_id) == parent
            || span.links.iter().any(|link| hex(&link.trace_id) == trace && hex(&link.span_id) == parent)
    };
    let of_request = |all: &[Span]| all.iter().find(|span| belongs(span)).cloned();
    let served = collector.until("of the request", of_request).await?;
    ensure!(served.name.contains("/pods"), "it is called {}", served.name);
    kubelet.stop().await
}
