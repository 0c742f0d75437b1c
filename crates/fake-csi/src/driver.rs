//! The services Registration and Identity: who the driver is.

use std::sync::Arc;

use plugins::wire::csi::identity_server::Identity;
use plugins::wire::csi::plugin_capability::{self as capability, service, volume_expansion};
use plugins::wire::csi::{
    GetPluginCapabilitiesRequest, GetPluginCapabilitiesResponse, GetPluginInfoRequest, GetPluginInfoResponse,
    PluginCapability, ProbeRequest, ProbeResponse,
};
use plugins::wire::registration::registration_server::Registration;
use plugins::wire::registration::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};
use tonic::{Request, Response, Status};

use crate::server::State;

/// The state as the generated servers want it.
#[derive(Clone)]
pub(crate) struct Service(pub(crate) Arc<State>);

#[tonic::async_trait]
impl Registration for Service {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        self.0.gate.pass("GetInfo").await?;
        let driver = &self.0.driver;
        Ok(Response::new(PluginInfo {
            r#type: driver.kind.clone(),
            name: driver.name.clone(),
            endpoint: self.0.endpoint.clone(),
            supported_versions: driver.versions.clone(),
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        self.0.gate.pass("NotifyRegistrationStatus").await?;
        let RegistrationStatus { plugin_registered, error } = request.into_inner();
        self.0.gate.say(if plugin_registered { "registered".to_owned() } else { error });
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

#[tonic::async_trait]
impl Identity for Service {
    async fn get_plugin_info(
        &self,
        _: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        self.0.gate.pass("GetPluginInfo").await?;
        let (name, vendor_version) = (self.0.driver.name.clone(), env!("CARGO_PKG_VERSION").to_owned());
        Ok(Response::new(GetPluginInfoResponse { name, vendor_version, ..GetPluginInfoResponse::default() }))
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        self.0.gate.pass("GetPluginCapabilities").await?;
        let driver = &self.0.driver;
        let service =
            |kind: service::Type| capability::Type::Service(capability::Service { r#type: kind.into() });
        let online = volume_expansion::Type::Online.into();
        let growth = capability::Type::VolumeExpansion(capability::VolumeExpansion { r#type: online });
        let is_here = !driver.topology.is_empty();
        let all = [
            driver.has_controller.then(|| service(service::Type::ControllerService)),
            is_here.then(|| service(service::Type::VolumeAccessibilityConstraints)),
            driver.has_controller.then_some(growth),
        ];
        let one = |kind| PluginCapability { r#type: Some(kind) };
        let capabilities = all.into_iter().flatten().map(one).collect();
        Ok(Response::new(GetPluginCapabilitiesResponse { capabilities }))
    }

    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        self.0.gate.pass("Probe").await?;
        Ok(Response::new(ProbeResponse { ready: Some(true) }))
    }
}
