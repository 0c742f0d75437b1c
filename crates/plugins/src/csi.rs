//! CSI drivers, as a node asks them (<https://github.com/container-storage-interface/spec>, v1.13).

use std::time::Duration;

use node::CsiNodeInfo;

use crate::call::{Call, CallError};
use crate::wire::csi::NodeGetInfoRequest;
use crate::wire::csi::node_client::NodeClient;

/// For any call of a driver. Upstream's.
const DEADLINE: Duration = Duration::from_secs(120);

/// What a driver calls this node, how many volumes of its the node can have, and where it says the node is.
///
/// # Errors
/// The driver cannot be reached, does not answer, or refuses.
pub async fn node_get_info(endpoint: &str) -> Result<CsiNodeInfo, CallError> {
    let call = Call { name: "NodeGetInfo", socket: endpoint, patience: Duration::ZERO, deadline: DEADLINE };
    let ask = |channel| async move { NodeClient::new(channel).node_get_info(NodeGetInfoRequest {}).await };
    let answer = call.ask(ask).await?;
    Ok(CsiNodeInfo {
        node_id: answer.node_id,
        max_volumes: answer.max_volumes_per_node,
        topology: answer.accessible_topology.map(|topology| topology.segments).unwrap_or_default(),
        ..CsiNodeInfo::default()
    })
}
