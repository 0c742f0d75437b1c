//! Metrics that the runtime collects itself, ready to be shown: the page `/metrics/cadvisor` with the
//! gate `PodAndContainerStatsFromCRI`.

use crate::client::Runtime;
use crate::error::RuntimeError;
use crate::lists::List;
use crate::wire;

/// A family of metrics as the runtime describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricDescriptor {
    /// Its name.
    pub name: String,
    /// What it counts.
    pub help: String,
    /// The names of its samples' labels.
    pub labels: Vec<String>,
}

/// One sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricSample {
    /// The name of its family.
    pub name: String,
    /// Whether it only grows.
    pub is_counter: bool,
    /// Values for the family's labels, in their order.
    pub label_values: Vec<String>,
    /// Its value.
    pub value: u64,
    /// When it was measured, nanoseconds since 1970; `None` for "just now".
    pub at_nanos: Option<i64>,
}

impl Runtime {
    /// The families that [`Runtime::pod_metrics`] may have samples of.
    ///
    /// # Errors
    /// When the runtime does not answer or does not know this call.
    pub async fn metric_descriptors(&self) -> Result<Vec<MetricDescriptor>, RuntimeError> {
        let mut client = self.runtime();
        let request = self.request(wire::ListMetricDescriptorsRequest {});
        let answer = self.call("ListMetricDescriptors", "", client.list_metric_descriptors(request)).await?;
        let descriptors = answer.descriptors.into_iter();
        let descriptor =
            |d: wire::MetricDescriptor| MetricDescriptor { name: d.name, help: d.help, labels: d.label_keys };
        Ok(descriptors.map(descriptor).collect())
    }

    /// The metrics of all pods and their containers. This makes the runtime measure.
    ///
    /// # Errors
    /// When the runtime does not answer or does not know this call.
    pub async fn pod_metrics(&self) -> Result<Vec<MetricSample>, RuntimeError> {
        let (mut client, mut other) = (self.runtime(), self.runtime());
        let list = List {
            calls: ("StreamPodSandboxMetrics", "ListPodSandboxMetrics"),
            object: "",
            has_chunks: &self.chunks().runtime,
            chunks: Box::pin(
                client.stream_pod_sandbox_metrics(self.request(wire::StreamPodSandboxMetricsRequest {})),
            ),
            whole: Box::pin(
                other.list_pod_sandbox_metrics(self.request(wire::ListPodSandboxMetricsRequest {})),
            ),
        };
        let pods =
            self.list(list, |chunk| chunk.pod_sandbox_metrics, |whole| whole.pod_metrics).await?.into_iter();
        let metrics = pods.flat_map(|pod| {
            let containers = pod.container_metrics.into_iter().flat_map(|c| c.metrics);
            pod.metrics.into_iter().chain(containers)
        });
        Ok(metrics.map(sample).collect())
    }
}

fn sample(metric: wire::Metric) -> MetricSample {
    MetricSample {
        is_counter: metric.metric_type() == wire::MetricType::Counter,
        name: metric.name,
        label_values: metric.label_values,
        value: metric.value.map_or(0, |v| v.value),
        at_nanos: Some(metric.timestamp).filter(|nanos| *nanos != 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_keep_what_the_runtime_says() {
        let metric = wire::Metric {
            name: "container_threads".into(),
            timestamp: 5,
            metric_type: wire::MetricType::Gauge.into(),
            label_values: vec!["a".into()],
            value: Some(wire::UInt64Value { value: 7 }),
        };
        let expected = MetricSample {
            name: "container_threads".into(),
            is_counter: false,
            label_values: vec!["a".into()],
            value: 7,
            at_nanos: Some(5),
        };
        assert_eq!(sample(metric.clone()), expected);
        let counter = wire::MetricType::Counter.into();
        let bare = wire::Metric { timestamp: 0, metric_type: counter, value: None, ..metric };
        let bare = sample(bare);
        assert_eq!((bare.is_counter, bare.value, bare.at_nanos), (true, 0, None));
    }
}
