//! Plugin registration
//! (<https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/#device-plugin-implementation>,
//! API `pluginregistration` v1): the folder of sockets, and what is asked at one.

mod sockets;

use std::time::Duration;

use node::PluginInfo;

use crate::call::{Call, CallError};
use crate::wire::registration::registration_client::RegistrationClient;
use crate::wire::registration::{InfoRequest, RegistrationStatus};

pub use sockets::watch_sockets;

/// For a plugin that has made its socket to listen there. Upstream's.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// For an answer to `GetInfo`. Upstream's.
const INFO_DEADLINE: Duration = Duration::from_secs(1);
/// For an answer to `NotifyRegistrationStatus`. Upstream's.
const NOTIFY_DEADLINE: Duration = Duration::from_secs(5);

/// What is behind a socket.
///
/// # Errors
/// It cannot be reached, does not answer, or refuses.
pub async fn get_info(socket: &str) -> Result<PluginInfo, CallError> {
    let call = Call { name: "GetInfo", socket, patience: CONNECT_PATIENCE, deadline: INFO_DEADLINE };
    let ask = |channel| async move { RegistrationClient::new(channel).get_info(InfoRequest {}).await };
    let answer = call.ask(ask).await?;
    Ok(PluginInfo {
        kind: answer.r#type,
        name: answer.name,
        endpoint: answer.endpoint,
        versions: answer.supported_versions,
    })
}

/// Tells a plugin that it is registered, or why it is not.
///
/// # Errors
/// It cannot be reached, does not answer, or refuses.
pub async fn notify(socket: &str, refusal: Option<&str>) -> Result<(), CallError> {
    let call = Call {
        name: "NotifyRegistrationStatus",
        socket,
        patience: CONNECT_PATIENCE,
        deadline: NOTIFY_DEADLINE,
    };
    let status = RegistrationStatus {
        plugin_registered: refusal.is_none(),
        error: refusal.unwrap_or_default().to_owned(),
    };
    let ask =
        |channel| async move { RegistrationClient::new(channel).notify_registration_status(status).await };
    call.ask(ask).await.map(drop)
}
