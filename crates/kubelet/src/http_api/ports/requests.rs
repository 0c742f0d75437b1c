//! Requests are counted, and become spans.

use server::ports::{RequestKind, RequestPorts, ServedRequest};
use telemetry::traces::Tracer;

use super::NodePorts;

fn labels(request: &RequestKind) -> [&'static str; 4] {
    let is_long = if request.is_long_running { "true" } else { "false" };
    [is_long, request.method, request.path, request.server_type]
}

impl RequestPorts for NodePorts {
    fn tracer(&self) -> Tracer {
        self.tracer.clone()
    }

    fn request_begins(&self, request: &RequestKind) {
        let labels = labels(request);
        self.metrics.http_requests.with(labels).increment();
        self.metrics.http_inflight_requests.with(labels).add(1.0);
    }

    fn request_ended(&self, request: &ServedRequest) {
        let labels = labels(&request.kind);
        self.metrics.http_inflight_requests.with(labels).add(-1.0);
        self.metrics.http_requests_duration.with(labels).observe_duration(request.duration);
    }
}
