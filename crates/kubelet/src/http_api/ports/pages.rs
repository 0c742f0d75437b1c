//! What the node measures and counts.

use bytes::Bytes;
use server::endpoint::MetricsKind;
use server::ports::{SummaryParts, UsagePorts};
use telemetry::metrics::{Endpoint, Exposition};

use super::NodePorts;
use crate::observe::gauges;

impl UsagePorts for NodePorts {
    async fn metrics(&self, kind: MetricsKind) -> Result<Bytes, String> {
        let mut page = Exposition::new();
        let endpoint = match kind {
            MetricsKind::Kubelet => Endpoint::Main,
            MetricsKind::Probes => Endpoint::Probes,
            MetricsKind::Slis => Endpoint::Slis,
            MetricsKind::Resource => {
                let view = self.view.borrow().clone();
                self.usage.resource_metrics(&view, &mut page).await;
                return Ok(page.into_text().into());
            }
            MetricsKind::Cadvisor => {
                let view = self.view.borrow().clone();
                return self.cadvisor.page(&view).await;
            }
        };
        if endpoint == Endpoint::Main {
            gauges::count(&self.metrics, &self.view.borrow().clone(), self.clock.now());
            self.identity.publish();
            gauges::pod_certificates(&self.metrics, self.pod_certificates.as_ref());
            self.usage.disk_metrics(&self.view.borrow().clone(), &mut page);
        }
        self.metrics.write(endpoint, &mut page).map_err(|e| model::chain(&e))?;
        Ok(page.into_text().into())
    }

    fn reset_sli_metrics(&self) {
        self.metrics.healthcheck.retain(|_| false);
        self.metrics.healthchecks.retain(|_| false);
    }

    async fn summary(&self, parts: SummaryParts) -> Result<Bytes, String> {
        let view = self.view.borrow().clone();
        self.usage.summary(&view, parts).await
    }
}
