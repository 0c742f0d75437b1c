//! Events: what users see in `kubectl describe`.
//!
//! Recording never waits and never fails: a [`NewEvent`] goes into a bounded queue, the
//! [`EventTask`] writes it with a client that has a limit of its own. Repetitions become a count
//! ([`correlate`]), a flood about one object is cut off.

mod correlate;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Client;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::Request;
use model::{Pod, chain};
use serde_json::json;
use tokio::sync::mpsc;

use crate::call::{Purpose, RequestError, call_bytes};
use correlate::{Correlator, Verdict, Write};

/// Events waiting to be written. A node that starts 110 pods records some 600 within seconds and
/// the default limit writes 100 at once and 50 a second, so a thousand covers the start; each
/// takes about 300 bytes, and room is taken only when used.
const QUEUE: usize = 1000;
/// Attempts for one event while the server cannot be reached, and the pause between them.
const ATTEMPTS: u32 = 12;
const ATTEMPT_PAUSE: Duration = Duration::from_secs(10);
/// Longest object name, characters; the event's name has to be one.
const MAX_NAME: usize = 253;

/// Whether an event is good news.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// Things go on.
    Normal,
    /// Something needs a look.
    Warning,
}

impl EventType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InvolvedObject {
    /// `Pod`, `Node`, …
    pub kind: &'static str,
    /// Empty for a Node.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid; for a Node, as ever, its name.
    pub uid: String,
    /// `resourceVersion` known when it happened.
    pub resource_version: String,
    /// `spec.containers{name}`, empty when the event is about the whole object.
    pub field_path: String,
}

impl InvolvedObject {
    /// A pod, or a part of it. The mirror of a static pod has another uid: callers say which.
    pub fn pod(pod: &Pod, field_path: &str) -> Self {
        let meta = &pod.metadata;
        Self {
            kind: "Pod",
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            field_path: field_path.to_owned(),
        }
    }

    /// The node.
    pub fn node(name: &str) -> Self {
        Self {
            kind: "Node",
            namespace: String::new(),
            name: name.to_owned(),
            uid: name.to_owned(),
            resource_version: String::new(),
            field_path: String::new(),
        }
    }

    /// Events about cluster-wide objects live in `default`.
    fn event_namespace(&self) -> &str {
        if self.namespace.is_empty() { "default" } else { &self.namespace }
    }
}

/// Something to tell users.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// What it is about.
    pub object: InvolvedObject,
    /// Good or bad.
    pub event_type: EventType,
    /// One word, e.g. `Started`, from `model::reason`.
    pub reason: String,
    /// One sentence.
    pub message: String,
    /// When it happened.
    pub at: Timestamp,
}

/// Who writes events, and how fast.
#[derive(Clone, Debug)]
pub struct EventSettings {
    /// `source.component`: `kubelet`.
    pub component: String,
    /// `source.host`: the node's name.
    pub host: String,
}

/// Events that never reached the API, by cause.
#[derive(Debug, Default)]
pub struct EventCounters {
    /// The queue was full.
    pub queue_full: AtomicU64,
    /// One object had too many (burst 25, then one in 5 minutes).
    pub limited: AtomicU64,
    /// The server refused, or could not be reached for two minutes.
    pub failed: AtomicU64,
    /// Written.
    pub written: AtomicU64,
}

/// Records events. Cheap to clone.
#[derive(Clone, Debug)]
pub struct EventRecorder {
    queue: mpsc::Sender<NewEvent>,
    counters: Arc<EventCounters>,
}

impl EventRecorder {
    /// A recorder and the task that writes. `client` should have a limit of its own
    /// ([`crate::Connection::with_limit`] with `eventRecordQPS` and `eventBurst`).
    pub fn new(client: Client, settings: EventSettings) -> (Self, EventTask) {
        let (queue, events) = mpsc::channel(QUEUE);
        let counters = Arc::new(EventCounters::default());
        let recorder = Self { queue, counters: Arc::clone(&counters) };
        (recorder, EventTask { client, settings, events, counters, correlator: Correlator::default() })
    }

    /// Hands an event over; dropped and counted when the queue is full.
    pub fn record(&self, event: NewEvent) {
        if self.queue.try_send(event).is_err() {
            self.counters.queue_full.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was lost and written so far.
    pub fn counters(&self) -> &EventCounters {
        &self.counters
    }
}

/// Writes events until its recorders are gone or its future is dropped.
pub struct EventTask {
    client: Client,
    settings: EventSettings,
    events: mpsc::Receiver<NewEvent>,
    counters: Arc<EventCounters>,
    correlator: Correlator,
}

impl EventTask {
    /// Runs until the last [`EventRecorder`] is dropped and the queue is empty.
    pub async fn run(mut self) {
        while let Some(event) = self.events.recv().await {
            match self.correlator.observe(event) {
                Verdict::Write(write) => self.deliver(write).await,
                Verdict::Drop => {
                    self.counters.limited.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    async fn deliver(&mut self, write: Write) {
        let mut attempt = 0;
        loop {
            let error = match self.write(&write).await {
                Ok(()) => {
                    self.counters.written.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Err(error) => error,
            };
            attempt += 1;
            // A refusal stays one; only a server out of reach is worth waiting for.
            if error.code().is_some_and(|code| code < 500 && code != 429) || attempt >= ATTEMPTS {
                self.counters.failed.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(error = chain(&error), "Failed to write event; dropping it");
                return;
            }
            let pause = if attempt == 1 { ATTEMPT_PAUSE.mul_f64(fastrand::f64()) } else { ATTEMPT_PAUSE };
            tokio::time::sleep(pause.max(error.retry_after().unwrap_or_default())).await;
        }
    }

    async fn write(&self, write: &Write) -> Result<(), RequestError> {
        let namespace = write.event.object.event_namespace();
        let path = Request::new(format!("/api/v1/namespaces/{namespace}/events"));
        if write.count > 1 {
            let patch = json!({
                "count": write.count,
                "lastTimestamp": Time(write.event.at),
                "message": write.event.message,
            });
            let purpose = Purpose::new("patch event", format!("{namespace}/{}", write.name));
            let request = path.patch(&write.name, &PatchParams::default(), &Patch::Strategic(patch));
            match call_bytes(&self.client, &purpose, request).await {
                // Events expire after an hour: start a new one with the old count.
                Err(error) if error.is_not_found() => {}
                done => return done.map(drop),
            }
        }
        let purpose = Purpose::new("create event", format!("{namespace}/{}", write.name));
        let body =
            serde_json::to_vec(&event_of(write, &self.settings)).map_err(|error| purpose.build(error))?;
        match call_bytes(&self.client, &purpose, path.create(&PostParams::default(), body)).await {
            // An answer was lost and this is the second attempt.
            Err(error) if error.is_already_exists() => Ok(()),
            done => done.map(drop),
        }
    }
}

fn event_of(write: &Write, settings: &EventSettings) -> Event {
    let NewEvent { object, event_type, reason, message, at } = &write.event;
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Event {
        metadata: ObjectMeta {
            name: Some(write.name.clone()),
            namespace: Some(object.event_namespace().to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some(object.kind.to_owned()),
            namespace: some(&object.namespace),
            name: some(&object.name),
            uid: some(&object.uid),
            resource_version: some(&object.resource_version),
            field_path: some(&object.field_path),
        },
        type_: Some(event_type.as_str().to_owned()),
        reason: Some(reason.clone()),
        message: Some(message.clone()),
        count: Some(i32::try_from(write.count).unwrap_or(i32::MAX)),
        first_timestamp: Some(Time(write.first)),
        last_timestamp: Some(Time(*at)),
        source: Some(EventSource {
            component: Some(settings.component.clone()),
            host: Some(settings.host.clone()),
        }),
        reporting_component: Some(settings.component.clone()),
        reporting_instance: Some(settings.host.clone()),
        ..Event::default()
    }
}

/// `name.time`, unique enough and sorted by time.
fn event_name(object: &InvolvedObject, at: Timestamp) -> String {
    let suffix = format!(".{:x}", at.as_nanosecond());
    let room = MAX_NAME.saturating_sub(suffix.len());
    let end = object.name.char_indices().map(|(at, _)| at).chain([object.name.len()]);
    let end = end.take_while(|end| *end <= room).last().unwrap_or(0);
    format!("{}{suffix}", object.name[..end].trim_end_matches(['.', '-']))
}

#[cfg(test)]
mod tests;
