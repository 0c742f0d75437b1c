//! The runtime's event stream. An event is a hint that a pod should be read again; what it
//! carries is not used. Losing the stream is an event too: until it is back, whoever listens
//! must look by itself more often.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, Stream};
use model::{ContainerId, PodUid};
use tokio::sync::Notify;
use tonic::{Request, Response, Status, Streaming};

use crate::client::Runtime;
use crate::error::RuntimeError;
use crate::labels;
use crate::wire::{ContainerEventResponse, ContainerEventType, GetEventsRequest};

/// First wait before the stream is opened anew; doubles up to `LAST_WAIT`.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(16);
/// Go's gRPC servers send no header before their first message, so a quiet node's stream never
/// seems to open. One that has not failed for this long counts as open.
const OPENING: Duration = Duration::from_secs(1);

/// Something happened, as the runtime tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeEvent {
    /// The stream is open. What happened before is unknown, so relist.
    Connected,
    /// The stream ended, or could not be opened. It is tried again.
    Lost(RuntimeError),
    /// A container or sandbox of a pod changed: read the pod again.
    PodChanged {
        /// The pod; `None` when the runtime does not say, which calls for a relist.
        uid: Option<PodUid>,
        /// The container, or the sandbox, which runtimes also count as one.
        container_id: ContainerId,
        /// What happened to it.
        change: ContainerChange,
    },
}

/// What happened to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerChange {
    /// It was created.
    Created,
    /// It was started.
    Started,
    /// It ended.
    Stopped,
    /// It was removed.
    Deleted,
}

type Opening =
    Pin<Box<dyn Future<Output = Result<Response<Streaming<ContainerEventResponse>>, Status>> + Send>>;

enum Phase {
    /// Wait, then open.
    Closed {
        wait: Duration,
    },
    /// Said to be connected, though the server has sent nothing yet.
    Opening {
        opening: Opening,
        wait: Duration,
    },
    Open {
        stream: Streaming<ContainerEventResponse>,
    },
}

impl Runtime {
    /// What happens at the runtime, for ever: it opens the stream again whenever it ends, after a pause that whoever
    /// learns sooner that the runtime `is_back` can cut short. Dropping it ends it.
    pub fn events(&self, is_back: Arc<Notify>) -> impl Stream<Item = RuntimeEvent> + Send + use<> {
        let first = (self.clone(), Phase::Closed { wait: Duration::ZERO });
        stream::unfold((first, is_back), |((runtime, phase), is_back)| async move {
            let (event, phase) = next(&runtime, phase, &is_back).await;
            Some((event, ((runtime, phase), is_back)))
        })
    }
}

async fn next(runtime: &Runtime, phase: Phase, is_back: &Notify) -> (RuntimeEvent, Phase) {
    match phase {
        Phase::Closed { wait } => {
            pause(wait, is_back).await;
            open(runtime, wait).await
        }
        Phase::Opening { opening, wait } => match opening.await {
            Ok(response) => receive(response.into_inner()).await,
            Err(status) => lost(status, wait),
        },
        Phase::Open { stream } => receive(stream).await,
    }
}

async fn pause(wait: Duration, is_back: &Notify) {
    // Cancel-safe on both sides: nothing is lost with a sleep, and a notice is taken only when it ends the pause.
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        () = is_back.notified() => {}
    }
}

async fn open(runtime: &Runtime, wait: Duration) -> (RuntimeEvent, Phase) {
    let mut client = runtime.runtime();
    let mut opening: Opening =
        Box::pin(async move { client.get_container_events(Request::new(GetEventsRequest {})).await });
    match tokio::time::timeout(OPENING, &mut opening).await {
        Ok(Ok(response)) => (RuntimeEvent::Connected, Phase::Open { stream: response.into_inner() }),
        Ok(Err(status)) => lost(status, wait),
        Err(_) => (RuntimeEvent::Connected, Phase::Opening { opening, wait }),
    }
}

async fn receive(mut stream: Streaming<ContainerEventResponse>) -> (RuntimeEvent, Phase) {
    match stream.message().await {
        Ok(Some(response)) => (pod_changed(response), Phase::Open { stream }),
        Ok(None) => lost(Status::unavailable("the runtime closed the event stream"), Duration::ZERO),
        Err(status) => lost(status, Duration::ZERO),
    }
}

fn lost(status: Status, waited: Duration) -> (RuntimeEvent, Phase) {
    let wait = if waited.is_zero() { FIRST_WAIT } else { (waited * 2).min(LAST_WAIT) };
    (RuntimeEvent::Lost(RuntimeError::new("GetContainerEvents", "", status)), Phase::Closed { wait })
}

fn pod_changed(event: ContainerEventResponse) -> RuntimeEvent {
    let change = match event.container_event_type() {
        ContainerEventType::ContainerCreatedEvent => ContainerChange::Created,
        ContainerEventType::ContainerStartedEvent => ContainerChange::Started,
        ContainerEventType::ContainerStoppedEvent => ContainerChange::Stopped,
        ContainerEventType::ContainerDeletedEvent => ContainerChange::Deleted,
    };
    let from_sandbox =
        event.pod_sandbox_status.and_then(|status| status.metadata).map(|metadata| metadata.uid);
    let uid = from_sandbox.filter(|uid| !uid.is_empty()).or_else(|| {
        event.containers_statuses.iter().find_map(|status| status.labels.get(labels::POD_UID).cloned())
    });
    RuntimeEvent::PodChanged {
        uid: uid.map(PodUid::from),
        container_id: ContainerId::from(event.container_id),
        change,
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pause_ends_when_the_runtime_is_known_to_be_back() {
        let (is_back, started) = (Notify::new(), Instant::now());
        pause(LAST_WAIT, &is_back).await;
        assert_eq!(started.elapsed().as_secs(), LAST_WAIT.as_secs());
        let started = Instant::now();
        is_back.notify_one();
        pause(LAST_WAIT, &is_back).await;
        assert_eq!(started.elapsed(), Duration::ZERO);
    }
}
