//! A runtime without containers, behind a real socket. It answers from a script and remembers
//! what it was asked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use runtime::wire::image_service_server::{ImageService, ImageServiceServer};
use runtime::wire::runtime_service_server::{RuntimeService, RuntimeServiceServer};
use runtime::wire::*;
use runtime::{Runtime, RuntimeSettings, labels};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, transport::Server};

type Answer<T> = Result<Response<T>, Status>;

/// What the runtime holds, shared with the test.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) sandboxes: Vec<PodSandbox>,
    pub(crate) statuses: BTreeMap<String, ContainerStatus>,
    /// Listed, and gone when asked for.
    pub(crate) ghosts: Vec<Container>,
    pub(crate) ips: Vec<String>,
    pub(crate) pull_answers: Vec<Result<String, Status>>,
    pub(crate) pull_users: Vec<String>,
    pub(crate) images: Vec<Image>,
    /// Whether lists are given in chunks.
    pub(crate) gives_chunks: bool,
    /// The lists that were asked for, in order.
    pub(crate) asked: Vec<&'static str>,
    /// Receivers of events, one for each stream opened.
    pub(crate) watchers: Vec<mpsc::Sender<Result<ContainerEventResponse, Status>>>,
}

#[derive(Clone, Default)]
pub(crate) struct Fake(pub(crate) Arc<Mutex<World>>);

/// A running server; dropping it closes every connection.
pub(crate) struct Served {
    pub(crate) socket: PathBuf,
    task: tokio::task::JoinHandle<()>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Served {
    pub(crate) fn start(fake: &Fake, dir: &Path) -> Self {
        let socket = dir.join("cri.sock");
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListenerStream::new(UnixListener::bind(&socket).unwrap());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let router = Server::builder()
            .add_service(RuntimeServiceServer::new(fake.clone()))
            .add_service(ImageServiceServer::new(fake.clone()));
        let task = tokio::spawn(async move {
            let ended = async {
                let _ = stopped.await;
            };
            router.serve_with_incoming_shutdown(listener, ended).await.unwrap();
        });
        Self { socket, task, stop: Some(stop) }
    }

    pub(crate) fn connect(&self, settings: RuntimeSettings) -> Runtime {
        Runtime::connect(&format!("unix://{}", self.socket.display()), None, settings).unwrap()
    }

    /// Ends it gracefully; streams must have been closed.
    pub(crate) async fn end(mut self) {
        let _ = self.stop.take().unwrap().send(());
        self.task.await.unwrap();
    }
}

pub(crate) fn pod_labels(uid: &str, container: &str) -> BTreeMap<String, String> {
    BTreeMap::from(
        [
            (labels::POD_UID, uid),
            (labels::POD_NAME, "web"),
            (labels::POD_NAMESPACE, "default"),
            (labels::CONTAINER_NAME, container),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned())),
    )
}

fn is_selected(labels: &BTreeMap<String, String>, selector: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(k, v)| labels.get(k) == Some(v))
}

impl Fake {
    /// Notes the call, and refuses it if it is not known here.
    fn chunks(&self, call: &'static str) -> Result<(), Status> {
        let mut world = self.0.lock().unwrap();
        world.asked.push(call);
        if world.gives_chunks { Ok(()) } else { Err(Status::unimplemented("unknown method")) }
    }
}

/// One after another.
fn in_chunks<I: Send + 'static, C: Send + 'static>(
    all: Vec<I>,
    chunk: fn(Vec<I>) -> C,
) -> Answer<BoxStream<C>> {
    let chunks = all.into_iter().map(move |one| Ok(chunk(vec![one])));
    Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
}

fn two_stats() -> Vec<ContainerStats> {
    let stats = |id: &str| ContainerStats {
        attributes: Some(ContainerAttributes { id: id.into(), ..Default::default() }),
        ..Default::default()
    };
    vec![stats("c-1"), stats("c-2")]
}

#[tonic::async_trait]
impl RuntimeService for Fake {
    async fn version(&self, _: Request<VersionRequest>) -> Answer<VersionResponse> {
        Ok(Response::new(VersionResponse {
            version: "0.1.0".into(),
            runtime_name: "fake".into(),
            runtime_version: "1.2".into(),
            runtime_api_version: "v1".into(),
        }))
    }

    async fn stream_pod_sandboxes(
        &self,
        r: Request<StreamPodSandboxesRequest>,
    ) -> Answer<BoxStream<StreamPodSandboxesResponse>> {
        self.chunks("StreamPodSandboxes")?;
        let filter = r.into_inner().filter;
        let all =
            self.list_pod_sandbox(Request::new(ListPodSandboxRequest { filter })).await?.into_inner().items;
        in_chunks(all, |pod_sandboxes| StreamPodSandboxesResponse { pod_sandboxes })
    }

    async fn stream_containers(
        &self,
        r: Request<StreamContainersRequest>,
    ) -> Answer<BoxStream<StreamContainersResponse>> {
        self.chunks("StreamContainers")?;
        let filter = r.into_inner().filter;
        let all = self
            .list_containers(Request::new(ListContainersRequest { filter }))
            .await?
            .into_inner()
            .containers;
        in_chunks(all, |containers| StreamContainersResponse { containers })
    }

    async fn stream_container_stats(
        &self,
        _: Request<StreamContainerStatsRequest>,
    ) -> Answer<BoxStream<StreamContainerStatsResponse>> {
        self.chunks("StreamContainerStats")?;
        in_chunks(two_stats(), |container_stats| StreamContainerStatsResponse { container_stats })
    }

    async fn list_container_stats(
        &self,
        _: Request<ListContainerStatsRequest>,
    ) -> Answer<ListContainerStatsResponse> {
        self.0.lock().unwrap().asked.push("ListContainerStats");
        Ok(Response::new(ListContainerStatsResponse { stats: two_stats() }))
    }

    async fn list_pod_sandbox(&self, r: Request<ListPodSandboxRequest>) -> Answer<ListPodSandboxResponse> {
        let selector = r.into_inner().filter.unwrap_or_default().label_selector;
        let mut world = self.0.lock().unwrap();
        world.asked.push("ListPodSandbox");
        let items = world.sandboxes.iter().filter(|s| is_selected(&s.labels, &selector)).cloned().collect();
        Ok(Response::new(ListPodSandboxResponse { items }))
    }

    async fn list_containers(&self, r: Request<ListContainersRequest>) -> Answer<ListContainersResponse> {
        let selector = r.into_inner().filter.unwrap_or_default().label_selector;
        let mut world = self.0.lock().unwrap();
        world.asked.push("ListContainers");
        let listed = world.statuses.values().map(|status| Container {
            id: status.id.clone(),
            pod_sandbox_id: "sb-1".into(),
            metadata: status.metadata.clone(),
            state: status.state,
            created_at: status.created_at,
            labels: status.labels.clone(),
            annotations: status.annotations.clone(),
            ..Default::default()
        });
        let all = listed.chain(world.ghosts.iter().cloned());
        let containers = all.filter(|c| is_selected(&c.labels, &selector)).collect();
        Ok(Response::new(ListContainersResponse { containers }))
    }

    async fn pod_sandbox_status(
        &self,
        r: Request<PodSandboxStatusRequest>,
    ) -> Answer<PodSandboxStatusResponse> {
        let id = r.into_inner().pod_sandbox_id;
        let world = self.0.lock().unwrap();
        let Some(sandbox) = world.sandboxes.iter().find(|s| s.id == id) else {
            return Err(Status::not_found("no such sandbox"));
        };
        let mut ips = world.ips.iter().cloned();
        let network = PodSandboxNetworkStatus {
            ip: ips.next().unwrap_or_default(),
            additional_ips: ips.map(|ip| PodIp { ip }).collect(),
        };
        let status = PodSandboxStatus {
            id,
            state: sandbox.state,
            metadata: sandbox.metadata.clone(),
            network: Some(network),
            ..Default::default()
        };
        Ok(Response::new(PodSandboxStatusResponse { status: Some(status), ..Default::default() }))
    }

    async fn container_status(&self, r: Request<ContainerStatusRequest>) -> Answer<ContainerStatusResponse> {
        let id = r.into_inner().container_id;
        let status = self.0.lock().unwrap().statuses.get(&id).cloned();
        match status {
            Some(status) => {
                Ok(Response::new(ContainerStatusResponse { status: Some(status), ..Default::default() }))
            }
            None => Err(Status::not_found("no such container")),
        }
    }

    async fn stop_container(&self, _: Request<StopContainerRequest>) -> Answer<StopContainerResponse> {
        Err(Status::not_found("no such container"))
    }

    async fn start_container(&self, _: Request<StartContainerRequest>) -> Answer<StartContainerResponse> {
        // A runtime that hangs.
        std::future::pending().await
    }

    async fn exec_sync(&self, r: Request<ExecSyncRequest>) -> Answer<ExecSyncResponse> {
        let request = r.into_inner();
        Ok(Response::new(ExecSyncResponse {
            stdout: request.timeout.to_string().into_bytes(),
            stderr: request.cmd.join(" ").into_bytes(),
            exit_code: 7,
        }))
    }

    async fn get_container_events(
        &self,
        _: Request<GetEventsRequest>,
    ) -> Answer<BoxStream<ContainerEventResponse>> {
        // Four events are sent at most by any test.
        let (sender, receiver) = mpsc::channel(4);
        self.0.lock().unwrap().watchers.push(sender);
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

#[tonic::async_trait]
impl ImageService for Fake {
    async fn image_status(&self, _: Request<ImageStatusRequest>) -> Answer<ImageStatusResponse> {
        Ok(Response::new(ImageStatusResponse::default()))
    }

    async fn stream_images(
        &self,
        _: Request<StreamImagesRequest>,
    ) -> Answer<BoxStream<StreamImagesResponse>> {
        self.chunks("StreamImages")?;
        in_chunks(self.0.lock().unwrap().images.clone(), |images| StreamImagesResponse { images })
    }

    async fn list_images(&self, _: Request<ListImagesRequest>) -> Answer<ListImagesResponse> {
        let mut world = self.0.lock().unwrap();
        world.asked.push("ListImages");
        let images = world.images.clone();
        Ok(Response::new(ListImagesResponse { images }))
    }

    async fn pull_image(&self, r: Request<PullImageRequest>) -> Answer<PullImageResponse> {
        let mut world = self.0.lock().unwrap();
        world.pull_users.push(r.into_inner().auth.map(|a| a.username).unwrap_or_default());
        let image_ref = world.pull_answers.remove(0)?;
        Ok(Response::new(PullImageResponse { image_ref }))
    }
}
