//! Calls of plugins: what they are, what has come of their registration, and what CSI drivers call the node.

use std::sync::Arc;

use node::{CsiNodeInfo, Outcome, PluginOutcome};
use plugins::{CallError, CallFailure, csi, registration};
use telemetry::metrics::Metrics;
use tokio::time::Instant;
use tracing::{info, warn};

use super::failure::{self, FailureLog};

/// Plugins as effects use them.
pub(crate) struct Plugins {
    refusals: FailureLog,
    metrics: Arc<Metrics>,
}

impl Plugins {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { refusals: FailureLog::default(), metrics }
    }

    pub(crate) async fn get_info(&self, socket: &str) -> Outcome {
        let failed = |CallError { source, .. }: CallError| match &source {
            CallFailure::Connect(error) => {
                format!("RegisterPlugin error -- dial failed at socket {socket}, err: {error}")
            }
            _ => format!(
                "RegisterPlugin error -- failed to get plugin info using RPC GetInfo at socket {socket}, err: {source}"
            ),
        };
        match registration::get_info(socket).await {
            Ok(info) => Outcome::Plugin(PluginOutcome::Info(info)),
            Err(error) => failure::other(failed(error)),
        }
    }

    /// One line says that a plugin is registered, and one why it is not, however often it is told.
    pub(crate) async fn notify(&self, socket: &str, refusal: Option<&str>) -> Outcome {
        let told = registration::notify(socket, refusal).await;
        match refusal {
            Some(refusal) if self.refusals.is_new(socket, refusal) => {
                warn!(err = refusal, "Plugin is not registered");
            }
            None if told.is_ok() => {
                self.refusals.succeeded(|| socket.to_owned());
                info!("Registered plugin");
            }
            _ => {}
        }
        let what = if refusal.is_some() { "error" } else { "registration status" };
        match told {
            Ok(()) => Outcome::Done,
            Err(CallError { source, .. }) => failure::other(format!(
                "RegisterPlugin error -- failed to send {what} at socket {socket}, err: {source}"
            )),
        }
    }

    /// What a driver calls the node, and what it can do there: how its volumes are made depends on that.
    pub(crate) async fn node_get_info(&self, driver: &str, endpoint: &str) -> Outcome {
        let asked = async {
            let info = self.counted(driver, "NodeGetInfo", csi::node_get_info(endpoint)).await?;
            let capabilities = csi::node_get_capabilities(endpoint);
            let capabilities = self.counted(driver, "NodeGetCapabilities", capabilities).await?;
            Ok::<_, CallError>(CsiNodeInfo { capabilities, ..info })
        };
        match asked.await {
            Ok(info) => Outcome::Plugin(PluginOutcome::NodeInfo(info)),
            Err(error) => failure::other(error.source.to_string()),
        }
    }

    async fn counted<T>(
        &self,
        driver: &str,
        call: &str,
        asked: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let began = Instant::now();
        let answer = asked.await;
        let code = answer.as_ref().map_or_else(|error| error.source.code(), |_| "OK".to_owned());
        let method = format!("/csi.v1.Node/{call}");
        let labels = [driver, code.as_str(), method.as_str(), "false"];
        self.metrics.csi_operations.with(labels).observe_duration(began.elapsed());
        answer
    }
}
