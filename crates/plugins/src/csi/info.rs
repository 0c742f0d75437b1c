//! What a driver says of itself and of the node.

use model::storage::CsiCapabilities;
use node::CsiNodeInfo;

use super::call;
use crate::call::CallError;
use crate::wire::csi::node_client::NodeClient;
use crate::wire::csi::node_service_capability::rpc::Type as RpcType;
use crate::wire::csi::node_service_capability::{Rpc, Type};
use crate::wire::csi::{NodeGetCapabilitiesRequest, NodeGetInfoRequest};

/// What a driver calls this node, how many volumes of its the node can have, and where it says the node is. What it can do
/// is asked for by [`node_get_capabilities`].
///
/// # Errors
/// The driver cannot be reached, does not answer, or refuses.
pub async fn node_get_info(endpoint: &str) -> Result<CsiNodeInfo, CallError> {
    let ask = |channel| async move { NodeClient::new(channel).node_get_info(NodeGetInfoRequest {}).await };
    let answer = call("NodeGetInfo", endpoint).ask(ask).await?;
    Ok(CsiNodeInfo {
        node_id: answer.node_id,
        max_volumes: answer.max_volumes_per_node,
        topology: answer.accessible_topology.map(|topology| topology.segments).unwrap_or_default(),
        ..CsiNodeInfo::default()
    })
}

/// Which calls a driver has. Those that are not known here are left out.
///
/// # Errors
/// The driver cannot be reached, does not answer, or refuses.
pub async fn node_get_capabilities(endpoint: &str) -> Result<CsiCapabilities, CallError> {
    let ask = |channel| async move {
        NodeClient::new(channel).node_get_capabilities(NodeGetCapabilitiesRequest {}).await
    };
    let answer = call("NodeGetCapabilities", endpoint).ask(ask).await?;
    let mut has = CsiCapabilities::default();
    for capability in answer.capabilities {
        let Some(Type::Rpc(Rpc { r#type })) = capability.r#type else { continue };
        match RpcType::try_from(r#type) {
            Ok(RpcType::StageUnstageVolume) => has.stages = true,
            Ok(RpcType::GetVolumeStats) => has.tells_stats = true,
            Ok(RpcType::ExpandVolume) => has.expands = true,
            Ok(RpcType::SingleNodeMultiWriter) => has.knows_single_writers = true,
            Ok(RpcType::VolumeMountGroup) => has.mounts_with_group = true,
            Ok(RpcType::Unknown | RpcType::GetVolumeHealth | RpcType::GetStorageHealth) | Err(_) => {}
        }
    }
    Ok(has)
}
