//! The way to the collector.

use std::sync::atomic::{AtomicBool, Ordering};

use config::Tracing;
use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData};
use tonic::transport::{Channel, Endpoint};
use tracing::{info, warn};

use super::Traces;

/// OTLP's own.
const DEFAULT_ENDPOINT: &str = "localhost:4317";
const PER_MILLION: f64 = 1_000_000.0;

/// Spans cannot be sent anywhere.
#[derive(Debug, thiserror::Error)]
pub enum CollectorError {
    /// The endpoint's form.
    #[error("tracing.endpoint {endpoint:?}: want host:port, dns:///host:port or unix:///path")]
    Endpoint {
        /// What is configured.
        endpoint: String,
        /// What is wrong with it.
        #[source]
        source: Option<tonic::transport::Error>,
    },
    /// The environment (`OTEL_EXPORTER_OTLP_…`) asks for something that cannot be had.
    #[error("prepare to send spans")]
    Exporter(#[source] opentelemetry_otlp::ExporterBuildError),
}

/// Starts to send spans, within a tokio runtime; without a configuration that is nothing. Nothing is
/// connected before there is a span, and a collector that is away keeps nobody from anything.
///
/// # Errors
/// [`CollectorError`].
pub fn collect(settings: Option<&Tracing>, node_name: &str) -> Result<Traces, CollectorError> {
    let Some(settings) = settings else { return Ok(Traces::default()) };
    let channel =
        channel(settings.endpoint.as_deref().filter(|e| !e.is_empty()).unwrap_or(DEFAULT_ENDPOINT))?;
    let exporter = SpanExporter::builder().with_tonic().with_channel(channel).build();
    let exporter = exporter.map_err(CollectorError::Exporter)?;
    let rate = f64::from(settings.samples_per_million) / PER_MILLION;
    let resource = Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", "kubelet"),
            KeyValue::new("host.name", node_name.to_owned()),
        ])
        .build();
    let provider = SdkTracerProvider::builder()
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(rate))))
        .with_batch_exporter(Reporting { inner: exporter, is_away: AtomicBool::new(false) })
        .with_resource(resource)
        .build();
    Ok(Traces(Some(provider)))
}

/// gRPC's names for endpoints, as far as upstream allows them. The authority of `dns://` names a DNS
/// server, for which there is no use here.
fn channel(endpoint: &str) -> Result<Channel, CollectorError> {
    let invalid = |source| CollectorError::Endpoint { endpoint: endpoint.to_owned(), source };
    let uri = if let Some(name) = endpoint.strip_prefix("dns://") {
        let (_, address) = name.split_once('/').ok_or_else(|| invalid(None))?;
        format!("http://{address}")
    } else if endpoint.starts_with("unix:") {
        endpoint.to_owned()
    } else if endpoint.contains("//") {
        return Err(invalid(None));
    } else {
        format!("http://{endpoint}")
    };
    Ok(Endpoint::from_shared(uri).map_err(|error| invalid(Some(error)))?.connect_lazy())
}

/// Says once when the collector goes away, and once when it is back.
#[derive(Debug)]
struct Reporting<E> {
    inner: E,
    is_away: AtomicBool,
}

impl<E: opentelemetry_sdk::trace::SpanExporter> opentelemetry_sdk::trace::SpanExporter for Reporting<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.inner.export(batch).await;
        match &result {
            Err(error) if !self.is_away.swap(true, Ordering::Relaxed) => {
                warn!(err = %error, "Failed to export spans to the collector; dropping them until it answers");
            }
            Ok(()) if self.is_away.swap(false, Ordering::Relaxed) => {
                info!("Exporting spans succeeded after failures");
            }
            _ => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: std::time::Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
