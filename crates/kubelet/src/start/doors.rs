//! The ports of the kubelet: the API, or the health port alone.

use config::Config;
use server::certificate::ServingCertificate;
use tokio_util::sync::CancellationToken;

use super::settings;
use crate::ports::NodePorts;

/// Opens the ports of the API, if it is served.
pub(super) fn bind(
    config: &Config,
    node_name: &str,
    certificate: ServingCertificate,
) -> anyhow::Result<Option<server::Server>> {
    let Some(settings) = &config.server else { return Ok(None) };
    let settings = settings::of_server(config, settings, node_name);
    Ok(Some(server::Server::bind(settings, certificate)?))
}

/// Serves until `stop` is cancelled.
pub(super) async fn serve(server: Option<server::Server>, ports: NodePorts, stop: CancellationToken) {
    let until = async move { stop.cancelled().await };
    match (server, ports.config.healthz) {
        (Some(server), _) => drop(tokio::spawn(server.serve(ports, until))),
        // Without the API there is still the health port, as upstream.
        (None, Some(address)) => {
            let server = server::HealthServer::bind(address);
            drop(tokio::spawn(server.serve(ports, until)));
        }
        (None, None) => {}
    }
}
