//! Images: whichever is asked for is there. Those that were asked for are listed.

use std::collections::BTreeSet;

use futures::stream;
use runtime::wire::image_service_server::ImageService;
use runtime::wire::{
    FilesystemIdentifier, FilesystemUsage, Image, ImageFsInfoRequest, ImageFsInfoResponse, ImageSpec,
    ImageStatusRequest, ImageStatusResponse, Int64Value, ListImagesRequest, ListImagesResponse,
    PullImageRequest, PullImageResponse, RemoveImageRequest, RemoveImageResponse, StreamImagesRequest,
    StreamImagesResponse, UInt64Value,
};
use sha2::{Digest as _, Sha256};
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use crate::gate::now;
use crate::server::{Service, State};
use crate::world;

/// What every image takes, as far as anybody asks.
const SIZE_BYTES: u64 = 1_000_000;

/// The names of images that somebody asked for.
pub(crate) type Images = BTreeSet<String>;

/// A text as a hexadecimal SHA-256, the form of all ids.
pub(crate) fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The id of an image, which may be asked for by its id too.
pub(crate) fn image_id(name: &str) -> String {
    if name.starts_with("sha256:") { name.to_owned() } else { format!("sha256:{}", digest(name)) }
}

/// An image's reference by its manifest, which is not its id.
pub(crate) fn image_ref(name: &str) -> String {
    let repository = name.rsplit_once(':').map_or(name, |(repository, _)| repository);
    format!("{repository}@sha256:{}", digest(&format!("manifest {name}")))
}

fn image(name: &str) -> Image {
    Image {
        id: image_id(name),
        repo_tags: Some(name.to_owned()).filter(|name| !name.starts_with("sha256:")).into_iter().collect(),
        repo_digests: Some(image_ref(name)).filter(|_| !name.starts_with("sha256:")).into_iter().collect(),
        size: SIZE_BYTES,
        uid: Some(Int64Value { value: 0 }),
        spec: Some(ImageSpec { image: name.to_owned(), ..Default::default() }),
        ..Default::default()
    }
}

fn remember(state: &State, name: &str) {
    // By its id it was only asked for by somebody who knows its name.
    if !name.is_empty() && !name.starts_with("sha256:") && !state.images().contains(name) {
        state.images().insert(name.to_owned());
    }
}

#[tonic::async_trait]
impl ImageService for Service {
    async fn list_images(
        &self,
        request: Request<ListImagesRequest>,
    ) -> Result<Response<ListImagesResponse>, Status> {
        let _running = self.gate.enter("ListImages", None).await?;
        let filter = request.into_inner().filter.and_then(|filter| filter.image);
        let wanted = filter.map(|spec| spec.image).filter(|name| !name.is_empty());
        let known = self.images();
        let listed = known.iter().filter(|name| wanted.as_ref().is_none_or(|wanted| wanted == *name));
        Ok(Response::new(ListImagesResponse { images: listed.map(|name| image(name)).collect() }))
    }

    /// One image a message.
    async fn stream_images(
        &self,
        _: Request<StreamImagesRequest>,
    ) -> Result<Response<BoxStream<StreamImagesResponse>>, Status> {
        let _running = self.gate.enter("StreamImages", None).await?;
        let all: Vec<Image> = self.images().iter().map(|name| image(name)).collect();
        let chunk = |one| Ok(StreamImagesResponse { images: vec![one] });
        Ok(Response::new(Box::pin(stream::iter(all.into_iter().map(chunk)))))
    }

    async fn image_status(
        &self,
        request: Request<ImageStatusRequest>,
    ) -> Result<Response<ImageStatusResponse>, Status> {
        let _running = self.gate.enter("ImageStatus", None).await?;
        let name = request.into_inner().image.unwrap_or_default().image;
        remember(self, &name);
        Ok(Response::new(ImageStatusResponse { image: Some(image(&name)), ..Default::default() }))
    }

    async fn pull_image(
        &self,
        request: Request<PullImageRequest>,
    ) -> Result<Response<PullImageResponse>, Status> {
        let request = request.into_inner();
        let metadata = request.sandbox_config.and_then(|config| config.metadata);
        let pod = metadata.map(|metadata| world::key(&metadata.namespace, &metadata.name));
        let _running = self.gate.enter("PullImage", pod.as_deref()).await?;
        let name = request.image.unwrap_or_default().image;
        remember(self, &name);
        Ok(Response::new(PullImageResponse { image_ref: image_id(&name) }))
    }

    async fn remove_image(
        &self,
        request: Request<RemoveImageRequest>,
    ) -> Result<Response<RemoveImageResponse>, Status> {
        let name = request.into_inner().image.unwrap_or_default().image;
        let id = image_id(&name);
        self.images().retain(|known| image_id(known) != id);
        Ok(Response::new(RemoveImageResponse {}))
    }

    async fn image_fs_info(
        &self,
        _: Request<ImageFsInfoRequest>,
    ) -> Result<Response<ImageFsInfoResponse>, Status> {
        let _running = self.gate.enter("ImageFsInfo", None).await?;
        let mountpoint = self.image_folder.to_string_lossy().into_owned();
        let count = self.images().len() as u64;
        let usage = FilesystemUsage {
            timestamp: now(),
            fs_id: Some(FilesystemIdentifier { mountpoint }),
            used_bytes: Some(UInt64Value { value: count * SIZE_BYTES }),
            inodes_used: Some(UInt64Value { value: count }),
        };
        Ok(Response::new(ImageFsInfoResponse {
            image_filesystems: vec![usage.clone()],
            container_filesystems: vec![usage],
        }))
    }
}
