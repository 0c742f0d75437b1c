//! The service Controller.

use plugins::wire::csi::controller_server::Controller;
use plugins::wire::csi::controller_service_capability::rpc::Type;
use plugins::wire::csi::controller_service_capability::{self as capability, Rpc};
use plugins::wire::csi::list_volumes_response::{Entry, VolumeStatus};
use plugins::wire::csi::validate_volume_capabilities_response::Confirmed;
use plugins::wire::csi::{
    ControllerExpandVolumeRequest, ControllerExpandVolumeResponse, ControllerGetCapabilitiesRequest,
    ControllerGetCapabilitiesResponse, ControllerPublishVolumeRequest, ControllerPublishVolumeResponse,
    ControllerServiceCapability, ControllerUnpublishVolumeRequest, ControllerUnpublishVolumeResponse,
    CreateVolumeRequest, CreateVolumeResponse, DeleteVolumeRequest, DeleteVolumeResponse, GetCapacityRequest,
    GetCapacityResponse, ListVolumesRequest, ListVolumesResponse, ValidateVolumeCapabilitiesRequest,
    ValidateVolumeCapabilitiesResponse, Volume,
};
use serde_json::json;
use tonic::{Request, Response, Status};

use crate::check::{is_supported, required, required_use, required_uses};
use crate::driver::Service;
use crate::journal::{shown_attributes, shown_secrets, shown_use};
use crate::provisioned::Page;
use crate::volumes::Capability;

/// What the service can do, whatever the flags say.
const CAPABILITIES: [Type; 7] = [
    Type::CreateDeleteVolume,
    Type::PublishUnpublishVolume,
    Type::ListVolumes,
    Type::GetCapacity,
    Type::PublishReadonly,
    Type::ExpandVolume,
    Type::ListVolumesPublishedNodes,
];

#[tonic::async_trait]
impl Controller for Service {
    async fn controller_get_capabilities(
        &self,
        _: Request<ControllerGetCapabilitiesRequest>,
    ) -> Result<Response<ControllerGetCapabilitiesResponse>, Status> {
        self.0.gate.pass("ControllerGetCapabilities").await?;
        let has_writers = self.0.driver.capabilities.contains(&Capability::SingleNodeWriters);
        let all = CAPABILITIES.into_iter().chain(has_writers.then_some(Type::SingleNodeMultiWriter));
        let one = |kind: Type| ControllerServiceCapability {
            r#type: Some(capability::Type::Rpc(Rpc { r#type: kind.into() })),
        };
        Ok(Response::new(ControllerGetCapabilitiesResponse { capabilities: all.map(one).collect() }))
    }

    async fn create_volume(
        &self,
        request: Request<CreateVolumeRequest>,
    ) -> Result<Response<CreateVolumeResponse>, Status> {
        let request = request.into_inner();
        required("name", &request.name)?;
        required_uses(&request.volume_capabilities)?;
        let shown = json!({
            "parameters": shown_attributes(&request.parameters), "secrets": shown_secrets(&request.secrets),
        });
        self.0.journal.note("CreateVolume", &request.name, shown);
        let work = || self.0.volumes.create(&request, &self.0.driver.topology);
        let volume: Volume = self.0.gate.pass_with("CreateVolume", work).await?;
        Ok(Response::new(CreateVolumeResponse { volume: Some(volume) }))
    }

    async fn delete_volume(
        &self,
        request: Request<DeleteVolumeRequest>,
    ) -> Result<Response<DeleteVolumeResponse>, Status> {
        let DeleteVolumeRequest { volume_id, secrets } = request.into_inner();
        required("volume_id", &volume_id)?;
        self.0.journal.note("DeleteVolume", &volume_id, json!({ "secrets": shown_secrets(&secrets) }));
        self.0.gate.pass_with("DeleteVolume", || self.0.volumes.delete(&volume_id)).await?;
        Ok(Response::new(DeleteVolumeResponse {}))
    }

    async fn controller_publish_volume(
        &self,
        request: Request<ControllerPublishVolumeRequest>,
    ) -> Result<Response<ControllerPublishVolumeResponse>, Status> {
        let request = request.into_inner();
        required("volume_id", &request.volume_id)?;
        required("node_id", &request.node_id)?;
        required_use(request.volume_capability.as_ref())?;
        let shown = json!({
            "node": request.node_id,
            "use": shown_use(request.volume_capability.as_ref()),
            "readOnly": request.readonly,
            "attributes": shown_attributes(&request.volume_context),
            "secrets": shown_secrets(&request.secrets),
        });
        self.0.journal.note("ControllerPublishVolume", &request.volume_id, shown);
        let work = || {
            self.0.volumes.exists(&request.volume_id)?;
            self.is_known_node(&request.node_id)?;
            self.0.volumes.attach(&request, self.0.gate.max_volumes())
        };
        let publish_context = self.0.gate.pass_with("ControllerPublishVolume", work).await?;
        Ok(Response::new(ControllerPublishVolumeResponse { publish_context }))
    }

    async fn controller_unpublish_volume(
        &self,
        request: Request<ControllerUnpublishVolumeRequest>,
    ) -> Result<Response<ControllerUnpublishVolumeResponse>, Status> {
        let ControllerUnpublishVolumeRequest { volume_id, node_id, secrets } = request.into_inner();
        required("volume_id", &volume_id)?;
        let shown = json!({ "node": node_id, "secrets": shown_secrets(&secrets) });
        self.0.journal.note("ControllerUnpublishVolume", &volume_id, shown);
        let work = || {
            if !node_id.is_empty() {
                self.is_known_node(&node_id)?;
            }
            self.0.volumes.detach(&volume_id, &self.0.journal)
        };
        self.0.gate.pass_with("ControllerUnpublishVolume", work).await?;
        Ok(Response::new(ControllerUnpublishVolumeResponse {}))
    }

    async fn validate_volume_capabilities(
        &self,
        request: Request<ValidateVolumeCapabilitiesRequest>,
    ) -> Result<Response<ValidateVolumeCapabilitiesResponse>, Status> {
        let request = request.into_inner();
        required("volume_id", &request.volume_id)?;
        required_uses(&request.volume_capabilities)?;
        let exists = || self.0.volumes.exists(&request.volume_id);
        self.0.gate.pass_with("ValidateVolumeCapabilities", exists).await?;
        if !request.volume_capabilities.iter().all(is_supported) {
            let message = "volumes of this driver cannot be used so".to_owned();
            return Ok(Response::new(ValidateVolumeCapabilitiesResponse { confirmed: None, message }));
        }
        let confirmed = Confirmed {
            volume_context: request.volume_context,
            volume_capabilities: request.volume_capabilities,
            parameters: request.parameters,
            ..Confirmed::default()
        };
        let message = String::new();
        Ok(Response::new(ValidateVolumeCapabilitiesResponse { confirmed: Some(confirmed), message }))
    }

    async fn list_volumes(
        &self,
        request: Request<ListVolumesRequest>,
    ) -> Result<Response<ListVolumesResponse>, Status> {
        let ListVolumesRequest { max_entries, starting_token } = request.into_inner();
        let work = || self.0.volumes.page(&starting_token, max_entries);
        let Page { volumes, next } = self.0.gate.pass_with("ListVolumes", work).await?;
        let node = &self.0.driver.node_id;
        let entry = |(volume, is_attached): (Volume, bool)| Entry {
            volume: Some(volume),
            status: Some(VolumeStatus {
                published_node_ids: is_attached.then(|| node.clone()).into_iter().collect(),
            }),
        };
        let entries = volumes.into_iter().map(entry).collect();
        Ok(Response::new(ListVolumesResponse { entries, next_token: next }))
    }

    async fn get_capacity(
        &self,
        _: Request<GetCapacityRequest>,
    ) -> Result<Response<GetCapacityResponse>, Status> {
        let work = || Ok(self.0.volumes.free_bytes());
        let available_capacity = self.0.gate.pass_with("GetCapacity", work).await?;
        Ok(Response::new(GetCapacityResponse { available_capacity, ..GetCapacityResponse::default() }))
    }

    async fn controller_expand_volume(
        &self,
        request: Request<ControllerExpandVolumeRequest>,
    ) -> Result<Response<ControllerExpandVolumeResponse>, Status> {
        let ControllerExpandVolumeRequest { volume_id, capacity_range, secrets, volume_capability } =
            request.into_inner();
        required("volume_id", &volume_id)?;
        let range = capacity_range.ok_or_else(|| Status::invalid_argument("capacity_range is missing"))?;
        let shown = json!({
            "bytes": range.required_bytes,
            "use": shown_use(volume_capability.as_ref()),
            "secrets": shown_secrets(&secrets),
        });
        self.0.journal.note("ControllerExpandVolume", &volume_id, shown);
        let work = || self.0.volumes.grow(&volume_id, &range);
        let capacity_bytes = self.0.gate.pass_with("ControllerExpandVolume", work).await?;
        let node_expansion_required = self.0.driver.capabilities.contains(&Capability::Expand);
        Ok(Response::new(ControllerExpandVolumeResponse { capacity_bytes, node_expansion_required }))
    }
}

impl Service {
    fn is_known_node(&self, node: &str) -> Result<(), Status> {
        match node == self.0.driver.node_id {
            true => Ok(()),
            false => Err(Status::not_found(format!("there is no node {node}"))),
        }
    }
}
