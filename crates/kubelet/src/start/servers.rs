//! The ports of the kubelet: the API, or the health port alone.

use config::Config;
use plugins::{PodsPorts, PodsService};
use server::certificate::ServingCertificate;
use tokio_util::sync::CancellationToken;

use super::settings;
use crate::http_api::ports::NodePorts;

/// Opens the ports of the API, if it is served.
pub(super) async fn bind(
    config: &Config,
    node_name: &str,
    certificate: ServingCertificate,
) -> anyhow::Result<Option<server::Server>> {
    let Some(settings) = &config.server else { return Ok(None) };
    let settings = settings::of_server(config, settings, node_name);
    Ok(Some(server::Server::bind(settings, certificate).await?))
}

/// Where agents on the node ask for its pods, below the root folder.
const PODS_API: &str = "pods-api/pods-api.sock";

/// Serves the Pods API until `stop` is cancelled, if it is wanted.
///
/// # Errors
/// Its socket cannot be made.
pub(super) fn serve_pods(
    config: &Config,
    ports: PodsPorts,
    stop: CancellationToken,
) -> Result<(), plugins::SocketError> {
    if !config.gates.enabled("PodsAPI") {
        return Ok(());
    }
    let service = PodsService::new(ports);
    service.serve(&config.paths.root.join(PODS_API), async move { stop.cancelled().await })
}

/// Serves until `stop` is cancelled.
#[expect(clippy::disallowed_methods, reason = "the servers end when the node is told to stop")]
pub(super) async fn serve(server: Option<server::Server>, ports: NodePorts, stop: CancellationToken) {
    let until = async move { stop.cancelled().await };
    match (server, ports.config.healthz) {
        (Some(server), _) => drop(tokio::spawn(server.serve(ports, until))),
        // Without the API there is still the health port, as upstream.
        (None, Some(address)) => {
            let server = server::HealthServer::bind(address).await;
            drop(tokio::spawn(server.serve(ports, until)));
        }
        (None, None) => {}
    }
}
