//! List once, then follow: the loop behind every watch here.
//!
//! Starts again by itself whatever happens, with a growing, jittered pause after failures, and
//! says so in the log once when it begins to fail and once when it works again.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use futures::Stream;
use futures::StreamExt;
use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{ListParams, VersionMatch, WatchParams};
use kube::core::{ObjectList, Request, WatchEvent};
use model::chain;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::call::{Cause, Purpose, RequestError, call, open, refusal_of};

/// First pause after a failure.
const PAUSE_FIRST: Duration = Duration::from_millis(800);
/// Refusals of a first read that may be due to the authorizer being a moment late, and the pause
/// after each.
const LATE_AUTHORIZATIONS: u32 = 8;
const LATE_AUTHORIZATION_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause, before jitter of up to as much again.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A watch is asked to last this long, plus up to as much again so that a node's watches do not
/// all end together.
const WATCH_SECONDS: u64 = 300;
/// What the server may take longer than asked before the watch counts as lost.
const WATCH_GRACE: Duration = Duration::from_secs(15);
/// Longest line accepted: etcd holds objects up to 1.5 MiB, `managedFields` and quoting included.
const MAX_LINE: usize = 32 << 20;

/// An object that can be watched: a whole API object, or a part of one that is all we keep.
pub(crate) trait Watched: DeserializeOwned + Clone {
    /// `metadata.resourceVersion`.
    fn version(&self) -> Option<&str>;
}

impl<K: Metadata<Ty = ObjectMeta> + DeserializeOwned + Clone> Watched for K {
    fn version(&self) -> Option<&str> {
        self.metadata().resource_version.as_deref()
    }
}

/// What happened to the watched set.
#[derive(Debug)]
pub(crate) enum Change<K> {
    /// The whole set; whatever is not in it is gone.
    Listed(Vec<K>),
    /// One object is there or changed.
    Applied(K),
    /// One object is gone.
    Deleted(K),
}

/// How fresh the first list has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// What the server has at hand (`resourceVersion=0`), as the kubelet's informers ask.
    Cached,
    /// Everything written before the request.
    Latest,
}

/// A watch of all objects of a kind that a field selector picks.
pub(crate) struct Watch<K> {
    client: Client,
    request: Request,
    fields: Option<String>,
    purpose: Purpose,
    state: State<K>,
    /// Last seen version; empty: a list has to be the latest.
    version: String,
    not_before: Option<Instant>,
    failures: u32,
    /// The version expired, and no event has come since: starting over once more has to wait.
    has_expired: bool,
    freshness: Freshness,
    /// Class of the last error told to the log.
    told: Option<String>,
}

enum State<K> {
    List,
    Start,
    Open(Lines<K>),
}

impl<K: Watched> Watch<K> {
    /// `path` is the collection's URL path; `purpose` names the watch in errors and the log.
    pub(crate) fn new(
        client: Client,
        path: &str,
        fields: Option<String>,
        freshness: Freshness,
        purpose: Purpose,
    ) -> Self {
        Self {
            client,
            request: Request::new(path),
            fields,
            purpose,
            state: State::List,
            freshness,
            version: if freshness == Freshness::Cached { "0".to_owned() } else { String::new() },
            not_before: None,
            failures: 0,
            has_expired: false,
            told: None,
        }
    }

    /// The next change, however long it takes. Cancel-safe: nothing is lost when dropped.
    pub(crate) async fn next(&mut self) -> Change<K> {
        loop {
            if let Ok(change) = self.try_next().await {
                return change;
            }
        }
    }

    /// The next change or the next failure, which is in the log already; the call after a
    /// failure first waits out the pause. Cancel-safe like [`Self::next`].
    pub(crate) async fn try_next(&mut self) -> Result<Change<K>, RequestError> {
        loop {
            if let Some(at) = self.not_before {
                tokio::time::sleep_until(at).await;
                self.not_before = None;
            }
            match self.step().await {
                Ok(Some(change)) => {
                    self.succeeded();
                    return Ok(change);
                }
                Ok(None) => {}
                Err(error) => {
                    self.failed(&error);
                    return Err(error);
                }
            }
        }
    }

    async fn step(&mut self) -> Result<Option<Change<K>>, RequestError> {
        match &mut self.state {
            State::List => self.list().await.map(Some),
            State::Start => {
                self.start().await?;
                Ok(None)
            }
            State::Open(lines) => match lines.next().await {
                Some(Ok(event)) => self.take(event),
                // The stream itself is sound, and asking again would bring the same event again.
                Some(Err(cause @ Cause::Decode(_))) => Err(self.purpose.error(cause)),
                Some(Err(cause)) => {
                    self.state = State::Start;
                    Err(self.purpose.error(cause))
                }
                None => {
                    // Ended by the server, as asked. One that ends at once is not to be hammered.
                    if lines.opened.elapsed() < Duration::from_secs(1) {
                        self.pause(None);
                    }
                    self.state = State::Start;
                    Ok(None)
                }
            },
        }
    }

    async fn list(&mut self) -> Result<Change<K>, RequestError> {
        let mut params = ListParams { field_selector: self.fields.clone(), ..ListParams::default() };
        if !self.version.is_empty() {
            params.resource_version = Some(self.version.clone());
            params.version_match = (self.version != "0").then_some(VersionMatch::NotOlderThan);
        }
        let list: ObjectList<K> = call(&self.client, &self.purpose, self.request.list(&params)).await?;
        self.version = list.metadata.resource_version.unwrap_or_default();
        self.state = State::Start;
        Ok(Change::Listed(list.items))
    }

    async fn start(&mut self) -> Result<(), RequestError> {
        let seconds = WATCH_SECONDS + fastrand::u64(0..WATCH_SECONDS);
        let params = WatchParams {
            field_selector: self.fields.clone(),
            // Above 295 s the library refuses: set below.
            timeout: None,
            bookmarks: true,
            ..WatchParams::default()
        };
        let version = if self.version.is_empty() { "0" } else { &self.version };
        let request = self.request.watch(&params, version);
        let request = request.map(|request| with_timeout(request, seconds));
        let response = open(&self.client, &self.purpose, request).await?;
        let limit = Duration::from_secs(seconds) + WATCH_GRACE;
        self.state = State::Open(Lines::new(response.into_body(), limit));
        self.succeeded();
        Ok(())
    }

    fn take(&mut self, event: WatchEvent<K>) -> Result<Option<Change<K>>, RequestError> {
        let change = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => Change::Applied(object),
            WatchEvent::Deleted(object) => Change::Deleted(object),
            WatchEvent::Bookmark(bookmark) => {
                self.version = bookmark.metadata.resource_version;
                self.has_expired = false;
                return Ok(None);
            }
            WatchEvent::Error(status) => {
                self.state = State::Start;
                return Err(self.purpose.error(refusal_of(*status)));
            }
        };
        if let Change::Applied(object) | Change::Deleted(object) = &change
            && let Some(version) = object.version()
        {
            version.clone_into(&mut self.version);
        }
        self.has_expired = false;
        Ok(Some(change))
    }

    fn succeeded(&mut self) {
        self.failures = 0;
        if self.told.take().is_some() {
            tracing::info!(
                operation = self.purpose.operation,
                object = self.purpose.object,
                "Watch established again after failures"
            );
        }
    }

    fn failed(&mut self, error: &RequestError) {
        if error.is_expired() {
            // Start over with the latest list; told as nothing, it is ordinary after a long break.
            self.state = State::List;
            self.version.clear();
            tracing::debug!(error = chain(error), "Watch expired; listing again");
            // The first time at once. A list that works in between is no sign that it helped.
            if self.failures > 0 || self.has_expired {
                self.pause(error.retry_after());
            }
            self.has_expired = true;
            self.failures = self.failures.saturating_add(1);
            return;
        }
        if self.is_authorization_late(error) {
            self.not_before = Some(Instant::now() + LATE_AUTHORIZATION_PAUSE);
            self.failures = self.failures.saturating_add(1);
            tracing::debug!(error = chain(error), "Watch is not authorized yet");
            return;
        }
        self.pause(error.retry_after());
        self.failures = self.failures.saturating_add(1);
        let class = match &error.cause {
            Cause::Refused { code, reason, .. } => format!("{code} {reason}"),
            other => other.to_string(),
        };
        if self.told.as_ref() == Some(&class) {
            tracing::debug!(error = chain(error), "Failed to watch again");
        } else {
            tracing::warn!(error = chain(error), object = self.purpose.object, "Failed to watch, will retry");
            self.told = Some(class);
        }
    }

    /// The node may read an object as soon as the API server's authorizer has seen that one of its
    /// pods names it, which may be a moment later than the node itself has.
    fn is_authorization_late(&self, error: &RequestError) -> bool {
        self.freshness == Freshness::Latest && error.is_forbidden() && self.failures < LATE_AUTHORIZATIONS
    }

    fn pause(&mut self, asked: Option<Duration>) {
        let pause = PAUSE_FIRST.saturating_mul(1 << self.failures.min(6)).min(PAUSE_MAX);
        let pause = pause.mul_f64(1.0 + fastrand::f64()).max(asked.unwrap_or_default());
        self.not_before = Some(Instant::now() + pause);
    }
}

/// How long to wait before an attempt that follows `failures` failed ones.
pub(crate) fn retry_pause(failures: u32, first: Duration, max: Duration) -> Duration {
    first.saturating_mul(1 << failures.min(16)).min(max).mul_f64(1.0 + fastrand::f64() / 2.0)
}

fn with_timeout(mut request: http::Request<Vec<u8>>, seconds: u64) -> http::Request<Vec<u8>> {
    // The builder writes its own default; the last word has to be ours.
    let uri = request.uri().to_string();
    let mut text = String::with_capacity(uri.len() + 24);
    let (path, query) = uri.split_once('?').unwrap_or((&uri, ""));
    text.push_str(path);
    text.push('?');
    for pair in query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("timeoutSeconds=")) {
        text.push_str(pair);
        text.push('&');
    }
    text.push_str("timeoutSeconds=");
    text.push_str(&seconds.to_string());
    if let Ok(uri) = text.parse() {
        *request.uri_mut() = uri;
    }
    request
}

type Chunks =
    Pin<Box<dyn Stream<Item = Result<bytes::Bytes, Box<dyn std::error::Error + Send + Sync>>> + Send>>;

/// A watch's body, cut into events. Cancel-safe: what was read stays in the buffer.
struct Lines<K> {
    chunks: Chunks,
    buffer: Vec<u8>,
    events: VecDeque<Result<WatchEvent<K>, Cause>>,
    opened: Instant,
    ends: Instant,
}

impl<K: DeserializeOwned> Lines<K> {
    fn new(body: kube::client::Body, limit: Duration) -> Self {
        let opened = Instant::now();
        let chunks = http_body_util::BodyStream::new(body).filter_map(|frame| async {
            match frame {
                Ok(frame) => frame.into_data().ok().map(Ok),
                Err(error) => Some(Err(error.into())),
            }
        });
        Self {
            chunks: Box::pin(chunks),
            buffer: Vec::new(),
            events: VecDeque::new(),
            opened,
            ends: opened + limit,
        }
    }

    async fn next(&mut self) -> Option<Result<WatchEvent<K>, Cause>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            match tokio::time::timeout_at(self.ends, self.chunks.next()).await {
                Ok(Some(Ok(chunk))) => {
                    if let Err(cause) = self.split(&chunk) {
                        return Some(Err(cause));
                    }
                }
                Ok(Some(Err(error))) => return Some(Err(Cause::Body(error))),
                // Over, or overdue: either way the next watch goes on from the last version.
                Ok(None) | Err(_) => return None,
            }
        }
    }

    fn split(&mut self, chunk: &[u8]) -> Result<(), Cause> {
        let mut rest = chunk;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, next) = (&rest[..end], &rest[end + 1..]);
            rest = next;
            if self.buffer.is_empty() {
                self.decode(line);
            } else {
                let mut whole = std::mem::take(&mut self.buffer);
                whole.extend_from_slice(line);
                self.decode(&whole);
            }
        }
        if self.buffer.len() + rest.len() > MAX_LINE {
            return Err(Cause::Body("an event of the watch is too long".into()));
        }
        self.buffer.extend_from_slice(rest);
        Ok(())
    }

    fn decode(&mut self, line: &[u8]) {
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        self.events.push_back(event(line).map_err(Cause::Decode));
    }
}

/// One line of a watch.
#[derive(serde::Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a serde_json::value::RawValue,
}

/// Decodes an event in two steps. In one, the object's type would be compiled a second time for
/// the buffer that an event's two fields in either order need, which for pods is a megabyte.
fn event<K: DeserializeOwned>(line: &[u8]) -> Result<WatchEvent<K>, serde_json::Error> {
    let envelope: Envelope<'_> = serde_json::from_slice(line)?;
    let object = envelope.object.get().as_bytes();
    Ok(match envelope.kind {
        "ADDED" => WatchEvent::Added(serde_json::from_slice(object)?),
        "MODIFIED" => WatchEvent::Modified(serde_json::from_slice(object)?),
        "DELETED" => WatchEvent::Deleted(serde_json::from_slice(object)?),
        "BOOKMARK" => WatchEvent::Bookmark(serde_json::from_slice(object)?),
        "ERROR" => WatchEvent::Error(serde_json::from_slice(object)?),
        other => {
            let unknown = serde::de::Error::unknown_variant(
                other,
                &["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"],
            );
            return Err(unknown);
        }
    })
}

#[cfg(test)]
mod tests;
