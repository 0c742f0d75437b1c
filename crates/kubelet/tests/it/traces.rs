//! Spans that a collector gets.

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::process::{DEADLINE, Lab, Systemd, ended, signal};
use crate::runtime;

struct Collector(mpsc::Sender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let _ = self.0.send(request.into_inner()).await;
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test]
async fn a_collector_sees_the_calls_to_the_runtime() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, mut received) = mpsc::channel(64);
    let service = TraceServiceServer::new(Collector(sender));
    tokio::spawn(
        Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)),
    );

    let lab = Lab::new()
        .with(&format!("tracing: {{endpoint: '{address}', samplingRatePerMillion: 1000000}}\n"))
        .variable("OTEL_BSP_SCHEDULE_DELAY", "50")
        .flag("--hostname-override=node-1");
    runtime::serve(&lab.path("cri.sock"));
    let path = lab.path("notify");
    let systemd = Systemd::listen(&path);
    let lab = lab.variable("NOTIFY_SOCKET", path.display().to_string());
    let mut child = lab.start();
    assert_eq!(systemd.notice(&mut child).await, "READY=1");
    let mut calls = Vec::new();
    while !calls.iter().any(|name| name == "runtime.v1.RuntimeService/Version") {
        let request = tokio::time::timeout(DEADLINE, received.recv()).await.expect("no such span").unwrap();
        for spans in request.resource_spans {
            let resource = format!("{:?}", spans.resource);
            assert!(resource.contains("\"kubelet\"") && resource.contains("\"node-1\""), "{resource}");
            calls.extend(spans.scope_spans.into_iter().flat_map(|scope| scope.spans).map(|span| span.name));
        }
    }
    signal(&child, Signal::TERM);
    let ended = ended(child).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("not implemented yet"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_collector_that_is_away_is_told_of_once_and_keeps_nobody() {
    let lab = Lab::new()
        .with("tracing: {endpoint: '127.0.0.1:1', samplingRatePerMillion: 1000000}\n")
        .variable("OTEL_BSP_SCHEDULE_DELAY", "50");
    runtime::serve(&lab.path("cri.sock"));
    let mut child = lab.start();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let told = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("Failed to export spans to the collector") {
                return;
            }
        }
        panic!("it ended");
    };
    tokio::time::timeout(DEADLINE, told).await.unwrap();
    signal(&child, Signal::TERM);
    assert_eq!(ended(child).await.code, Some(0));
    while let Some(line) = lines.next_line().await.unwrap() {
        assert!(!line.contains("Failed to export spans"), "{line}");
    }
}
