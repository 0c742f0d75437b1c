//! The service Node.

use plugins::wire::csi::node_server::Node;
use plugins::wire::csi::node_service_capability::{Rpc, Type};
use plugins::wire::csi::volume_capability::AccessType;
use plugins::wire::csi::{
    NodeExpandVolumeRequest, NodeExpandVolumeResponse, NodeGetCapabilitiesRequest,
    NodeGetCapabilitiesResponse, NodeGetInfoRequest, NodeGetInfoResponse, NodeGetVolumeStatsRequest,
    NodeGetVolumeStatsResponse, NodePublishVolumeRequest, NodePublishVolumeResponse, NodeServiceCapability,
    NodeStageVolumeRequest, NodeStageVolumeResponse, NodeUnpublishVolumeRequest, NodeUnpublishVolumeResponse,
    NodeUnstageVolumeRequest, NodeUnstageVolumeResponse, Topology, VolumeCapability,
};
use serde_json::json;
use tonic::{Request, Response, Status};

use crate::check::{required, required_use};
use crate::driver::Service;
use crate::journal::{shown_attributes, shown_secrets, shown_use};
use crate::volumes::Capability;

/// The attribute that says whether a volume is one of a single pod.
const EPHEMERAL: &str = "csi.storage.k8s.io/ephemeral";

impl Service {
    /// Hands a volume to its group, if that is the driver's to do.
    fn give_to_group(&self, volume: &str, capability: Option<&VolumeCapability>) -> Result<(), Status> {
        match capability.and_then(|capability| capability.access_type.as_ref()) {
            Some(AccessType::Mount(mount)) if !mount.volume_mount_group.is_empty() => {
                if !self.0.driver.capabilities.contains(&Capability::Group) {
                    return Err(self.0.journal.forbidden("a group is named, which is no capability"));
                }
                self.0.volumes.give_to_group(volume, &mount.volume_mount_group)
            }
            _ => Ok(()),
        }
    }
}

#[tonic::async_trait]
impl Node for Service {
    async fn node_get_capabilities(
        &self,
        _: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        self.0.gate.pass("NodeGetCapabilities").await?;
        let one = |capability: &Capability| NodeServiceCapability {
            r#type: Some(Type::Rpc(Rpc { r#type: capability.wire().into() })),
        };
        let capabilities = self.0.driver.capabilities.iter().map(one).collect();
        Ok(Response::new(NodeGetCapabilitiesResponse { capabilities }))
    }

    async fn node_get_info(
        &self,
        _: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        self.0.gate.pass("NodeGetInfo").await?;
        let driver = &self.0.driver;
        let topology = (!driver.topology.is_empty()).then(|| Topology { segments: driver.topology.clone() });
        Ok(Response::new(NodeGetInfoResponse {
            node_id: driver.node_id.clone(),
            max_volumes_per_node: self.0.gate.max_volumes(),
            accessible_topology: topology,
        }))
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<NodeGetVolumeStatsRequest>,
    ) -> Result<Response<NodeGetVolumeStatsResponse>, Status> {
        let NodeGetVolumeStatsRequest { volume_id, volume_path, .. } = request.into_inner();
        self.0.journal.note("NodeGetVolumeStats", &volume_id, json!({ "path": volume_path }));
        self.0.gate.pass("NodeGetVolumeStats").await?;
        let usage = self.0.volumes.usage(&volume_id, &volume_path)?;
        Ok(Response::new(NodeGetVolumeStatsResponse { usage }))
    }

    async fn node_expand_volume(
        &self,
        request: Request<NodeExpandVolumeRequest>,
    ) -> Result<Response<NodeExpandVolumeResponse>, Status> {
        let request = request.into_inner();
        let size = request.capacity_range.map(|range| range.required_bytes).unwrap_or_default();
        let shown = json!({
            "path": request.volume_path,
            "from": request.staging_target_path,
            "size": size,
            "use": shown_use(request.volume_capability.as_ref()),
            "secrets": shown_secrets(&request.secrets),
        });
        let _under_way = self.0.journal.begin("NodeExpandVolume", &request.volume_id, shown)?;
        let can_expand = self.0.driver.capabilities.contains(&Capability::Expand);
        let work = || {
            if !can_expand {
                return Err(self.0.journal.forbidden("a volume is to be expanded, which is no capability"));
            }
            self.0.volumes.check_expandable(&request.volume_id, &request.volume_path)
        };
        self.0.gate.pass_with("NodeExpandVolume", work).await?;
        Ok(Response::new(NodeExpandVolumeResponse { capacity_bytes: size }))
    }

    async fn node_stage_volume(
        &self,
        request: Request<NodeStageVolumeRequest>,
    ) -> Result<Response<NodeStageVolumeResponse>, Status> {
        let request = request.into_inner();
        required("volume_id", &request.volume_id)?;
        required("staging_target_path", &request.staging_target_path)?;
        required_use(request.volume_capability.as_ref())?;
        let shown = json!({
            "path": request.staging_target_path,
            "use": shown_use(request.volume_capability.as_ref()),
            "publishContext": request.publish_context,
            "attributes": shown_attributes(&request.volume_context),
            "secrets": shown_secrets(&request.secrets),
        });
        let _under_way = self.0.journal.begin("NodeStageVolume", &request.volume_id, shown)?;
        let work = || {
            self.0.volumes.stage(&request, &self.0.journal)?;
            self.give_to_group(&request.volume_id, request.volume_capability.as_ref())
        };
        self.0.gate.pass_with("NodeStageVolume", work).await?;
        Ok(Response::new(NodeStageVolumeResponse {}))
    }

    async fn node_unstage_volume(
        &self,
        request: Request<NodeUnstageVolumeRequest>,
    ) -> Result<Response<NodeUnstageVolumeResponse>, Status> {
        let NodeUnstageVolumeRequest { volume_id, staging_target_path } = request.into_inner();
        required("volume_id", &volume_id)?;
        required("staging_target_path", &staging_target_path)?;
        let shown = json!({ "path": staging_target_path });
        let _under_way = self.0.journal.begin("NodeUnstageVolume", &volume_id, shown)?;
        let work = || self.0.volumes.unstage(&volume_id, &staging_target_path, &self.0.journal);
        self.0.gate.pass_with("NodeUnstageVolume", work).await?;
        Ok(Response::new(NodeUnstageVolumeResponse {}))
    }

    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let request = request.into_inner();
        required("volume_id", &request.volume_id)?;
        required("target_path", &request.target_path)?;
        required_use(request.volume_capability.as_ref())?;
        let shown = json!({
            "path": request.target_path,
            "from": request.staging_target_path,
            "use": shown_use(request.volume_capability.as_ref()),
            "readOnly": request.readonly,
            "publishContext": request.publish_context,
            "attributes": shown_attributes(&request.volume_context),
            "secrets": shown_secrets(&request.secrets),
        });
        let _under_way = self.0.journal.begin("NodePublishVolume", &request.volume_id, shown)?;
        let is_ephemeral = request.staging_target_path.is_empty()
            && request.volume_context.get(EPHEMERAL).is_some_and(|is| is == "true");
        let work = || {
            self.0.volumes.publish(&request, is_ephemeral, &self.0.journal)?;
            self.give_to_group(&request.volume_id, request.volume_capability.as_ref())
        };
        self.0.gate.pass_with("NodePublishVolume", work).await?;
        Ok(Response::new(NodePublishVolumeResponse {}))
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let NodeUnpublishVolumeRequest { volume_id, target_path } = request.into_inner();
        required("volume_id", &volume_id)?;
        required("target_path", &target_path)?;
        let shown = json!({ "path": target_path });
        let _under_way = self.0.journal.begin("NodeUnpublishVolume", &volume_id, shown)?;
        let work = || self.0.volumes.unpublish(&volume_id, &target_path);
        self.0.gate.pass_with("NodeUnpublishVolume", work).await?;
        Ok(Response::new(NodeUnpublishVolumeResponse {}))
    }
}
