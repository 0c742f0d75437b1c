//! A container runtime that is there and does nothing: it answers who it is.

use std::path::Path;

use runtime::wire::image_service_server::{ImageService, ImageServiceServer};
use runtime::wire::runtime_service_server::{RuntimeService, RuntimeServiceServer};
use runtime::wire::{VersionRequest, VersionResponse};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

#[derive(Clone)]
struct Idle;

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
}

#[tonic::async_trait]
impl ImageService for Idle {}

/// Serves at a socket until the test ends.
pub(crate) fn serve(socket: &Path) {
    let listener = UnixListenerStream::new(UnixListener::bind(socket).unwrap());
    let server = Server::builder()
        .add_service(RuntimeServiceServer::new(Idle))
        .add_service(ImageServiceServer::new(Idle))
        .serve_with_incoming(listener);
    tokio::spawn(server);
}
