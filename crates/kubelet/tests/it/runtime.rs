//! A container runtime that is there and does nothing: it answers who it is, and notes which list of sandboxes is wanted.

use std::path::Path;

use runtime::wire::image_service_server::{ImageService, ImageServiceServer};
use runtime::wire::runtime_service_server::{RuntimeService, RuntimeServiceServer};
use runtime::wire::{
    ListPodSandboxRequest, ListPodSandboxResponse, StreamPodSandboxesRequest, StreamPodSandboxesResponse,
    VersionRequest, VersionResponse,
};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::codegen::BoxStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

#[derive(Clone)]
struct Idle {
    lists: mpsc::Sender<&'static str>,
}

#[tonic::async_trait]
impl RuntimeService for Idle {
    async fn version(&self, _: Request<VersionRequest>) -> Result<Response<VersionResponse>, Status> {
        Ok(Response::new(VersionResponse {
            version: "0.1.0".into(),
            runtime_name: "idle".into(),
            runtime_version: "1.2".into(),
            runtime_api_version: "v1".into(),
        }))
    }

    async fn list_pod_sandbox(
        &self,
        _: Request<ListPodSandboxRequest>,
    ) -> Result<Response<ListPodSandboxResponse>, Status> {
        // Whoever does not care hears the first ones at most.
        let _ = self.lists.try_send("whole");
        Err(Status::unimplemented("idle"))
    }

    async fn stream_pod_sandboxes(
        &self,
        _: Request<StreamPodSandboxesRequest>,
    ) -> Result<Response<BoxStream<StreamPodSandboxesResponse>>, Status> {
        let _ = self.lists.try_send("chunks");
        Err(Status::unimplemented("idle"))
    }
}

#[tonic::async_trait]
impl ImageService for Idle {}

/// Serves at a socket until the test ends. What is returned tells in which way the sandboxes are listed.
pub(crate) fn serve(socket: &Path) -> mpsc::Receiver<&'static str> {
    let (lists, told) = mpsc::channel(16);
    let idle = Idle { lists };
    let listener = UnixListenerStream::new(UnixListener::bind(socket).unwrap());
    let server = Server::builder()
        .add_service(RuntimeServiceServer::new(idle.clone()))
        .add_service(ImageServiceServer::new(idle))
        .serve_with_incoming(listener);
    tokio::spawn(server);
    told
}
