//! Against a collector that speaks OTLP on a real socket.

use std::convert::Infallible;
use std::net::SocketAddr;

use config::Tracing;
use http::{HeaderMap, Request, Response};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span as WireSpan;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tower::{Service as _, ServiceExt as _};

use super::*;

struct Collector(mpsc::Sender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let _ = self.0.send(request.into_inner()).await;
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn collector() -> (SocketAddr, mpsc::Receiver<ExportTraceServiceRequest>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, received) = mpsc::channel(16);
    let service = TraceServiceServer::new(Collector(sender));
    let serving = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
    (address, received)
}

fn traces(address: SocketAddr, samples_per_million: u32) -> Traces {
    let settings = Tracing { endpoint: Some(address.to_string()), samples_per_million };
    collect(Some(&settings), "node-1").unwrap()
}

/// Ends tracing and gives everything that arrived.
async fn ended(
    traces: Traces,
    mut received: mpsc::Receiver<ExportTraceServiceRequest>,
) -> Vec<ExportTraceServiceRequest> {
    tokio::task::spawn_blocking(move || traces.end()).await.unwrap();
    let mut all = Vec::new();
    while let Ok(request) = received.try_recv() {
        all.push(request);
    }
    all
}

fn spans(requests: &[ExportTraceServiceRequest]) -> Vec<WireSpan> {
    let resources = requests.iter().flat_map(|request| &request.resource_spans);
    let mut spans: Vec<WireSpan> =
        resources.flat_map(|r| &r.scope_spans).flat_map(|s| s.spans.clone()).collect();
    spans.sort_by_key(|span| span.start_time_unix_nano);
    spans
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    match attributes.iter().find(|a| a.key == key)?.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(text) => Some(text.clone()),
        any_value::Value::IntValue(number) => Some(number.to_string()),
        _ => None,
    }
}

const NONE: [Attribute; 0] = [];
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_spans_with_their_parents_and_the_node() {
    let (address, received) = collector().await;
    let traces = traces(address, 1_000_000);
    let tracer = traces.tracer();
    {
        let outer = tracer.work("syncPod", || [("k8s.pod", Value::from("ns/web"))]);
        let inner = outer.run(async { tracer.call(|| "runtime/Version".into(), || NONE) }).await;
        inner.fail("no answer");
        drop(inner);
        outer.set("kubelet.action", "start container");
    }
    let requests = ended(traces, received).await;
    let resource = requests[0].resource_spans[0].resource.clone().unwrap();
    assert_eq!(text(&resource.attributes, "service.name").as_deref(), Some("kubelet"));
    assert_eq!(text(&resource.attributes, "host.name").as_deref(), Some("node-1"));
    let spans = spans(&requests);
    let [outer, inner] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((outer.name.as_str(), inner.name.as_str()), ("syncPod", "runtime/Version"));
    assert_eq!(inner.parent_span_id, outer.span_id);
    assert_eq!(inner.trace_id, outer.trace_id);
    assert!(outer.parent_span_id.is_empty());
    assert_eq!(text(&outer.attributes, "k8s.pod").as_deref(), Some("ns/web"));
    assert_eq!(text(&outer.attributes, "kubelet.action").as_deref(), Some("start container"));
    assert_eq!(inner.status.as_ref().unwrap().message, "no answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_decides_and_otherwise_the_rate() {
    let sampled = HeaderMap::from_iter([("traceparent".parse().unwrap(), PARENT.parse().unwrap())]);
    let unsampled = PARENT.strip_suffix('1').unwrap().to_owned() + "0";
    let unsampled = HeaderMap::from_iter([("traceparent".parse().unwrap(), unsampled.parse().unwrap())]);
    let strange = HeaderMap::from_iter([("traceparent".parse().unwrap(), "00-x".parse().unwrap())]);
    for (rate, headers, is_public, expect) in [
        (0, &HeaderMap::new(), false, None),
        (1_000_000, &HeaderMap::new(), false, Some((false, 0))),
        (0, &sampled, false, Some((true, 0))),
        (0, &sampled, true, None),
        (1_000_000, &sampled, true, Some((false, 1))),
        (1_000_000, &unsampled, false, None),
        (1_000_000, &strange, false, Some((false, 0))),
    ] {
        let (address, received) = collector().await;
        let traces = traces(address, rate);
        let request = Request::get("/metrics/cadvisor?x=1").body(()).unwrap();
        let head = (request.method(), request.uri(), request.version(), headers);
        let span = serve(&traces.tracer(), "metrics/cadvisor", is_public, head);
        assert_eq!(span.is_recorded(), expect.is_some());
        drop(span);
        let spans = spans(&ended(traces, received).await);
        let found = spans.first().map(|span| (!span.parent_span_id.is_empty(), span.links.len()));
        assert_eq!(found, expect, "{rate} {headers:?} {is_public}");
        if let Some(span) = spans.first() {
            assert_eq!(span.name, "/metrics/cadvisor");
            assert_eq!(text(&span.attributes, "url.path").as_deref(), Some("/metrics/cadvisor"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tells_the_other_end() {
    let (address, received) = collector().await;
    let traces = traces(address, 1_000_000);
    let tracer = traces.tracer();
    let work = tracer.work("syncPod", || NONE);
    let server = tower::service_fn(|request: Request<()>| async move {
        let parent = request.headers().get("traceparent").cloned().unwrap();
        Ok::<_, Infallible>(Response::builder().status(404).body(parent).unwrap())
    });
    let mut client = TracedClient::new(server, tracer.clone());
    let request = Request::get("https://api:6443/api").body(()).unwrap();
    let answer = work.run(async { client.ready().await.unwrap().call(request).await }).await.unwrap();
    let metadata = work.run(async {
        tonic::service::Interceptor::call(&mut PropagateContext, tonic::Request::new(()))
            .unwrap()
            .into_parts()
            .0
    });
    let metadata = metadata.await.get("traceparent").unwrap().to_str().unwrap().to_owned();
    drop(work);
    let spans = spans(&ended(traces, received).await);
    let [work, call] = &spans[..] else { panic!("{spans:?}") };
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(metadata, format!("00-{}-{}-01", hex(&work.trace_id), hex(&work.span_id)));
    assert_eq!(*answer.body(), format!("00-{}-{}-01", hex(&work.trace_id), hex(&call.span_id)));
    assert_eq!(text(&call.attributes, "http.response.status_code").as_deref(), Some("404"));
    assert_eq!(text(&call.attributes, "server.port").as_deref(), Some("6443"));
    assert_eq!(call.name, "HTTP GET");
}

#[tokio::test]
async fn endpoints_are_grpcs_names() {
    for (endpoint, is_fine) in [
        ("localhost:4317", true),
        ("dns:///localhost:4317", true),
        ("dns://8.8.8.8/collector:4317", true),
        ("unix:///run/otel.sock", true),
        ("dns://localhost", false),
        ("https://localhost:4317", false),
        ("local host", false),
    ] {
        let settings = Tracing { endpoint: Some(endpoint.to_owned()), samples_per_million: 0 };
        assert_eq!(collect(Some(&settings), "n").is_ok(), is_fine, "{endpoint}");
    }
}

#[test]
fn off_is_nothing() {
    let traces = collect(None, "node").unwrap();
    let span = traces.tracer().work("syncPod", || -> [Attribute; 0] { unreachable!("nobody will see it") });
    assert!(!span.is_recorded());
    traces.end();
}
