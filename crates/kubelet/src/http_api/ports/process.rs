//! The process: what it was told, what it is, and how it fares.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use server::endpoint::HealthCheck;
use server::ports::{BuildInfo, ProcessPorts};
use tracing::info;

use super::NodePorts;

impl ProcessPorts for NodePorts {
    fn config(&self) -> serde_json::Value {
        self.config.configz_json()
    }

    fn flags(&self) -> Arc<BTreeMap<&'static str, String>> {
        self.flags.clone()
    }

    fn build_info(&self) -> BuildInfo {
        let started = telemetry::metrics::process_start_seconds()
            .ok()
            .and_then(|seconds| Timestamp::from_second(seconds as i64).ok());
        let version = config::version::KUBELET_VERSION.trim_start_matches('v');
        BuildInfo {
            started: started.unwrap_or_default(),
            version: version.to_owned(),
            emulated: format!("{}.{}", config::version::KUBERNETES_MAJOR, config::version::KUBERNETES_MINOR),
        }
    }

    fn set_verbosity(&self, level: u32) {
        info!(from = self.log.verbosity(), to = level, "Log verbosity changed");
        self.log.set_verbosity(level);
    }

    fn check_health(&self, check: HealthCheck) -> Result<(), String> {
        match check {
            HealthCheck::SyncLoop => self.health.sync_loop.check(),
            HealthCheck::Log => self.health.log(),
            // The first is the answer itself; the second is not offered.
            HealthCheck::Ping | HealthCheck::DevicePlugin => Ok(()),
        }
    }

    fn observe_health(&self, check: HealthCheck, is_healthy: bool) {
        const KIND: &str = "healthz";
        let status = if is_healthy { "success" } else { "error" };
        self.metrics.healthcheck.with([check.as_str(), KIND]).set(f64::from(u8::from(is_healthy)));
        self.metrics.healthchecks.with([check.as_str(), status, KIND]).increment();
    }
}
