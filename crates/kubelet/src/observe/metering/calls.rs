//! Calls to the runtime and requests to the API server, counted where they end.

use std::sync::Arc;

use apiserver::{Observer, RequestEvent};
use runtime::{CallEnded, CallObserver};
use telemetry::metrics::Metrics;

/// Counts calls to the runtime.
pub(crate) fn runtime(metrics: &Arc<Metrics>) -> CallObserver {
    let metrics = metrics.clone();
    CallObserver::new(move |event| call(&metrics, event))
}

fn call(metrics: &Metrics, event: CallEnded<'_>) {
    let operation = [operation(event.call)];
    metrics.runtime_operations.with(operation).increment();
    metrics.runtime_operations_duration.with(operation).observe_duration(event.took);
    if !event.is_ok {
        metrics.runtime_operations_errors.with(operation).increment();
    }
    if let Some(handler) = event.handler {
        metrics.run_podsandbox_duration.with([handler]).observe_duration(event.took);
        if !event.is_ok {
            metrics.run_podsandbox_errors.with([handler]).increment();
        }
    }
}

/// Counts requests to the API server.
pub(crate) fn api(metrics: &Arc<Metrics>) -> Observer<RequestEvent> {
    let metrics = metrics.clone();
    Observer::new(move |event: RequestEvent| request(&metrics, &event))
}

fn request(metrics: &Metrics, event: &RequestEvent) {
    let event = match event {
        RequestEvent::Answered(event) => event,
        RequestEvent::Received { method, host, bytes } => {
            // Far below what a float holds exactly, here and below.
            metrics.rest_client_response_size.with([host, method.as_str()]).observe(*bytes as f64);
            return;
        }
        RequestEvent::Resolved { host, took } => {
            metrics.rest_client_dns_duration.with([host]).observe_duration(*took);
            return;
        }
    };
    let (method, host) = (event.method.as_str(), event.host.as_str());
    let code = event.code.map(|code| code.to_string());
    if let Some(bytes) = event.sent_bytes {
        metrics.rest_client_request_size.with([host, method]).observe(bytes as f64);
    }
    metrics.rest_client_requests.with([code.as_deref().unwrap_or("<error>"), host, method]).increment();
    metrics.rest_client_request_duration.with([host, method]).observe_duration(event.took);
    metrics.rest_client_rate_limiter_duration.with([host, method]).observe_duration(event.held_back);
}

/// Upstream's name of a CRI method.
fn operation(call: &'static str) -> &'static str {
    match call {
        "Version" => "version",
        "Status" => "status",
        "RuntimeConfig" => "runtime_config",
        "UpdateRuntimeConfig" => "update_runtime_config",
        "RunPodSandbox" => "run_podsandbox",
        "StopPodSandbox" => "stop_podsandbox",
        "RemovePodSandbox" => "remove_podsandbox",
        "PodSandboxStatus" => "podsandbox_status",
        "ListPodSandbox" | "StreamPodSandboxes" => "list_podsandbox",
        "UpdatePodSandboxResources" => "update_podsandbox_resources",
        "CreateContainer" => "create_container",
        "StartContainer" => "start_container",
        "StopContainer" => "stop_container",
        "RemoveContainer" => "remove_container",
        "ContainerStatus" => "container_status",
        "ListContainers" | "StreamContainers" => "list_containers",
        "UpdateContainerResources" => "update_container",
        "ReopenContainerLog" => "reopen_container_log",
        "CheckpointContainer" => "checkpoint_container",
        "ExecSync" => "exec_sync",
        "Exec" => "exec",
        "Attach" => "attach",
        "PortForward" => "port_forward",
        "ContainerStats" => "container_stats",
        "ListContainerStats" | "StreamContainerStats" => "list_container_stats",
        "PodSandboxStats" => "podsandbox_stats",
        "ListPodSandboxStats" | "StreamPodSandboxStats" => "list_podsandbox_stats",
        "ListMetricDescriptors" => "list_metric_descriptors",
        "ListPodSandboxMetrics" | "StreamPodSandboxMetrics" => "list_podsandbox_metrics",
        "PullImage" => "pull_image",
        "ImageStatus" => "image_status",
        "ListImages" | "StreamImages" => "list_images",
        "RemoveImage" => "remove_image",
        "ImageFsInfo" => "image_fs_info",
        "GetContainerEvents" => "get_container_events",
        // A call that is new here is counted under its own name until it gets upstream's.
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use apiserver::AnsweredRequest;
    use telemetry::metrics::{Endpoint, Exposition};

    use super::*;

    #[test]
    fn calls_are_counted_under_upstreams_names() {
        let metrics = Metrics::default();
        let event = CallEnded {
            call: "RunPodSandbox",
            took: Duration::from_millis(20),
            is_ok: false,
            handler: Some(""),
        };
        call(&metrics, event);
        request(
            &metrics,
            &RequestEvent::Answered(AnsweredRequest {
                method: http::Method::PATCH,
                host: "10.0.0.1:6443".to_owned(),
                code: None,
                sent_bytes: Some(300),
                held_back: Duration::ZERO,
                took: Duration::from_millis(7),
            }),
        );
        let took = Duration::from_millis(20);
        request(&metrics, &RequestEvent::Resolved { host: "api.example".to_owned(), took });
        let (method, host) = (http::Method::PATCH, "10.0.0.1:6443".to_owned());
        request(&metrics, &RequestEvent::Received { method, host, bytes: 5000 });
        let mut page = Exposition::new();
        metrics.write(Endpoint::Main, &mut page).unwrap();
        let page = page.into_text();
        for line in [
            "kubelet_runtime_operations_total{operation_type=\"run_podsandbox\"} 1\n",
            "kubelet_runtime_operations_errors_total{operation_type=\"run_podsandbox\"} 1\n",
            "kubelet_run_podsandbox_errors_total{runtime_handler=\"\"} 1\n",
            "kubelet_run_podsandbox_duration_seconds_count{runtime_handler=\"\"} 1\n",
            "rest_client_requests_total{code=\"<error>\",host=\"10.0.0.1:6443\",method=\"PATCH\"} 1\n",
            "rest_client_request_size_bytes_sum{host=\"10.0.0.1:6443\",verb=\"PATCH\"} 300\n",
            "rest_client_response_size_bytes_bucket{host=\"10.0.0.1:6443\",verb=\"PATCH\",le=\"4096\"} 0\n",
            "rest_client_response_size_bytes_bucket{host=\"10.0.0.1:6443\",verb=\"PATCH\",le=\"16384\"} 1\n",
            "rest_client_dns_resolution_duration_seconds_bucket{host=\"api.example\",le=\"0.025\"} 1\n",
            "rest_client_request_duration_seconds_count{host=\"10.0.0.1:6443\",verb=\"PATCH\"} 1\n",
        ] {
            assert!(page.contains(line), "{line} in {page}");
        }
    }
}
