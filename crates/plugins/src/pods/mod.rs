//! The Pods API (KEP-4188): pods with the status as this node knows it, for agents that would ask the API server
//! otherwise.
//!
//! A watch has a task of its own, which compares the pictures of the node that the core publishes and puts what happened
//! into a bounded queue. A client that lets the queue run full is sent away, as upstream does, and lists anew.

mod changes;
mod encode;

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use model::{Pod, PodUid};
use node::{PodView, View};
use telemetry::metrics::{Counter, Labelled, Metrics};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Code, Request, Response, Status};

use crate::limit::Limit;
use crate::socket::{self, SocketError};
use crate::wire::pods_server::{Pods, PodsServer};
use crate::wire::{
    EventType, GetPodRequest, GetPodResponse, ListPodsRequest, ListPodsResponse, WatchPodsEvent,
    WatchPodsRequest,
};
use changes::SentPods;

/// Requests a second, and at once; watches do not count. Upstream's.
const REQUESTS_PER_SECOND: u32 = 100;
const BURST: u32 = 10;
/// What happened and a client has not yet taken: two changes of each pod of a node of ordinary size. Upstream's.
const QUEUE: usize = 100;
/// The version in the labels of metrics.
const VERSION: &str = "v1alpha1";

/// What the service shows, and counts.
#[derive(Clone)]
pub struct PodsPorts {
    /// What the core publishes.
    pub view: watch::Receiver<Arc<View>>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// The service.
pub struct PodsService {
    ports: PodsPorts,
    limit: Limit,
}

impl PodsService {
    /// The service of a node.
    pub fn new(ports: PodsPorts) -> Self {
        Self { ports, limit: Limit::new(REQUESTS_PER_SECOND, BURST, Instant::now()) }
    }

    /// Listens on a socket and serves in the background until `stop` is ready.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn serve(
        self,
        path: &Path,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), SocketError> {
        let incoming = UnixListenerStream::new(socket::bind(path)?);
        #[expect(clippy::disallowed_methods, reason = "ends when the node is told to stop")]
        tokio::spawn(async move {
            let server = tonic::transport::Server::builder();
            let serving = server.serve_with_incoming(PodsServer::new(self), incoming);
            tokio::select! {
                // Watches last for as long as the node; they end with it.
                () = stop => {}
                ended = serving => if let Err(error) = ended {
                    tracing::error!(error = &error as &dyn std::error::Error, "Pods API server ended");
                },
            }
        });
        Ok(())
    }

    fn take_one(&self) -> Result<(), Status> {
        if self.limit.takes(Instant::now()) {
            return Ok(());
        }
        Err(Status::resource_exhausted("rejected by rate limit"))
    }

    fn ready_view(&self) -> Result<Arc<View>, Status> {
        let view = self.ports.view.borrow().clone();
        ready(&view).map(|()| view)
    }

    fn list(&self) -> Result<ListPodsResponse, Status> {
        let view = self.ready_view()?;
        let pods = changes::shown(&view).map(|pod| written(pod)).collect::<Result<_, _>>()?;
        Ok(ListPodsResponse { pods })
    }

    fn get(&self, uid: &str) -> Result<GetPodResponse, Status> {
        let view = self.ready_view()?;
        let pod = view.pods.get(&PodUid::from(uid)).filter(|pod| pod.is_wanted && pod.pod.is_some());
        let pod = pod.ok_or_else(|| Status::not_found(format!("pod with UID {uid} not found")))?;
        Ok(GetPodResponse { pod: written(pod)? })
    }

    fn watch(&self) -> Result<Events, Status> {
        let mut published = self.ports.view.clone();
        let view = published.borrow_and_update().clone();
        ready(&view)?;
        let told = SentPods::all(&view);
        let (queue, queued) = mpsc::channel(QUEUE);
        #[expect(clippy::disallowed_methods, reason = "ends when the client does, or the node")]
        tokio::spawn(follow(published, told, queue, self.ports.metrics.clone()));
        let event = |kind: EventType, pod: Bytes| WatchPodsEvent { r#type: kind.into(), pod };
        let first: Vec<_> = changes::shown(&view).cloned().collect();
        let first =
            stream::iter(first).map(move |pod| written(&pod).map(|written| event(EventType::Added, written)));
        let all_told = stream::iter([Ok(event(EventType::InitialSyncComplete, Bytes::new()))]);
        let later = ReceiverStream::new(queued).map(move |(kind, pod): (EventType, Arc<PodView>)| {
            let is_gone = kind == EventType::Deleted;
            let written = if is_gone { name_of(&pod) } else { written(&pod) };
            written.map(|written| event(kind, written))
        });
        // The queue ends when it ran full, and with the node.
        let end = stream::iter([Err(Status::resource_exhausted("watch client channel closed"))]);
        let all: Events = Box::pin(first.chain(all_told).chain(later).chain(end));
        Ok(Box::pin(Counted { events: all, end: Some(WatchEnd(self.ports.metrics.clone())) }))
    }
}

/// As upstream says it.
fn ready(view: &View) -> Result<(), Status> {
    if view.are_sources_synced { Ok(()) } else { Err(Status::failed_precondition("Kubelet is initializing")) }
}

/// Puts what happens into a watcher's queue until it is gone, or the queue is full.
async fn follow(
    mut published: watch::Receiver<Arc<View>>,
    mut told: SentPods,
    queue: mpsc::Sender<(EventType, Arc<PodView>)>,
    metrics: Arc<Metrics>,
) {
    loop {
        tokio::select! {
            // Cancel-safe: a change that was not taken is still there.
            changed = published.changed() => if changed.is_err() {
                return;
            },
            () = queue.closed() => return,
        }
        let view = published.borrow_and_update().clone();
        for change in told.changes(&view) {
            match queue.try_send(change) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Closed(_)) => return,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    tracing::info!("Pods API watcher is too slow; closing its watch");
                    metrics.pod_watch_events_dropped.increment();
                    return;
                }
            }
        }
    }
}

/// A pod as its source has it, whatever of that the node has given it.
fn written(view: &PodView) -> Result<Bytes, Status> {
    let Some(pod) = view.pod.as_ref() else { return Ok(Bytes::new()) };
    bytes(encode::pod(&pod.metadata, pod.spec.as_ref(), &status(view, pod)))
}

/// Of a pod that is gone, which it was.
fn name_of(view: &PodView) -> Result<Bytes, Status> {
    let metadata = ObjectMeta {
        name: Some(view.key.name.to_string()),
        namespace: Some(view.key.namespace.to_string()),
        uid: Some(view.uid.as_str().to_owned()),
        ..ObjectMeta::default()
    };
    bytes(encode::pod(&metadata, None, &PodStatus::default()))
}

fn bytes(written: Result<Vec<u8>, serde_json::Error>) -> Result<Bytes, Status> {
    written.map(Bytes::from).map_err(|error| Status::internal(format!("failed to marshal pod: {error}")))
}

/// The status of this node's own making. Before there is one, that of the object, which claims nothing that was not looked
/// at here.
fn status(view: &PodView, pod: &Pod) -> PodStatus {
    if view.status.phase.is_some() {
        return PodStatus::clone(&view.status);
    }
    let mut status = pod.status.clone().unwrap_or_default();
    status.phase.get_or_insert_with(|| "Pending".to_owned());
    let is_ready = |condition: &&mut PodCondition| condition.type_ == "Ready" && condition.status == "True";
    if let Some(condition) = status.conditions.iter_mut().flatten().find(is_ready) {
        condition.status = "False".to_owned();
        condition.reason = Some("ContainersNotReady".to_owned());
        condition.message = Some("Kubelet is initializing pod containers".to_owned());
    }
    status
}

type Events = Pin<Box<dyn Stream<Item = Result<WatchPodsEvent, Status>> + Send>>;

#[tonic::async_trait]
impl Pods for PodsService {
    type WatchPodsStream = Events;

    async fn watch_pods(&self, _: Request<WatchPodsRequest>) -> Result<Response<Events>, Status> {
        let events = self.watch();
        if let Err(refusal) = &events {
            let metrics = &self.ports.metrics;
            count(metrics, &metrics.pod_requests_watch, refusal.code());
        }
        events.map(Response::new)
    }

    async fn list_pods(&self, _: Request<ListPodsRequest>) -> Result<Response<ListPodsResponse>, Status> {
        self.take_one()?;
        let answer = self.list();
        let metrics = &self.ports.metrics;
        count(metrics, &metrics.pod_requests_list, code(&answer));
        answer.map(Response::new)
    }

    async fn get_pod(&self, request: Request<GetPodRequest>) -> Result<Response<GetPodResponse>, Status> {
        self.take_one()?;
        let answer = self.get(&request.get_ref().pod_uid);
        let metrics = &self.ports.metrics;
        count(metrics, &metrics.pod_requests_get, code(&answer));
        answer.map(Response::new)
    }
}

fn code<T>(answer: &Result<T, Status>) -> Code {
    answer.as_ref().map_or_else(Status::code, |_| Code::Ok)
}

/// What was refused for coming too often is not counted, as upstream has it.
fn count(metrics: &Metrics, method: &Labelled<Counter, 2>, code: Code) {
    let code = match code {
        Code::Ok => "OK".to_owned(),
        Code::Cancelled => "Canceled".to_owned(),
        code => format!("{code:?}"),
    };
    for counter in [&metrics.pod_requests, method] {
        counter.with([VERSION, &code]).increment();
    }
}

/// A watch, which counts when it has ended.
struct Counted {
    events: Events,
    end: Option<WatchEnd>,
}

struct WatchEnd(Arc<Metrics>);

impl WatchEnd {
    fn count(self, code: Code) {
        count(&self.0, &self.0.pod_requests_watch, code);
    }
}

impl Stream for Counted {
    type Item = Result<WatchPodsEvent, Status>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let next = self.events.as_mut().poll_next(cx);
        if let std::task::Poll::Ready(Some(Err(status))) = &next
            && let Some(end) = self.end.take()
        {
            end.count(status.code());
        }
        next
    }
}

impl Drop for Counted {
    /// The client went away.
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            end.count(Code::Cancelled);
        }
    }
}

#[cfg(test)]
mod tests;
