//! What the API needs of the rest of the node.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use model::{Pod, PodKey};
use telemetry::traces::Tracer;

use crate::attributes::Attributes;
use crate::endpoint::{HealthCheck, MetricsKind};

/// A pod as clients are shown it. What is large in it is shared with the node, not copied.
#[derive(Clone, Debug)]
pub struct PodWithStatus {
    /// Its metadata, with what a node adds.
    pub metadata: ObjectMeta,
    /// Whose spec it is.
    pub pod: Arc<Pod>,
    /// Its status as it is now.
    pub status: Arc<PodStatus>,
}

/// The rest of the node, as the API sees it. Cheap to clone: every request gets its own.
///
/// Errors are texts for the client, except where a type says which HTTP status they mean.
pub trait Ports: PodPorts + StreamPorts + UsagePorts + ProcessPorts + AccessPorts + RequestPorts {}

impl<P: PodPorts + StreamPorts + UsagePorts + ProcessPorts + AccessPorts + RequestPorts> Ports for P {}

/// The pods of the node, and the logs of their containers.
pub trait PodPorts: Clone + Send + Sync + 'static {
    /// All pods the node knows, with the node's view of their status.
    fn pods(&self) -> Vec<PodWithStatus>;

    /// One of them, as it is in its source. For a static pod, asked for by the name both share, this is the static pod.
    fn pod(&self, key: &PodKey) -> Option<Arc<Pod>>;

    /// Pods with the spec the node has allocated resources for.
    fn allocated_pods(&self) -> Vec<PodWithStatus>;

    /// Pods rebuilt from what the runtime runs.
    fn running_pods(&self) -> impl Future<Output = Result<Vec<Pod>, String>> + Send;

    /// The log of a pod's container. The stream ends with the log, or, when following, with the
    /// container; an error before it is the client's (400).
    fn container_log(
        &self,
        pod: &Arc<Pod>,
        container: &str,
        query: LogQuery,
    ) -> impl Future<Output = Result<BoxStream<'static, io::Result<Bytes>>, String>> + Send;
}

/// What is reached in containers, through the runtime.
pub trait StreamPorts: Clone + Send + Sync + 'static {
    /// The runtime's URL for a command in a container (CRI `Exec`).
    fn exec_url(
        &self,
        target: &ContainerTarget,
        command: Vec<String>,
        streams: Streams,
    ) -> impl Future<Output = Result<String, StreamError>> + Send;

    /// The runtime's URL for a container's first process (CRI `Attach`).
    fn attach_url(
        &self,
        target: &ContainerTarget,
        streams: Streams,
    ) -> impl Future<Output = Result<String, StreamError>> + Send;

    /// Reads away the input of programs in a container that have ended without reading it, where the runtime does not
    /// notice that nobody will. Returns whether there was some.
    fn free_input(&self, target: &ContainerTarget) -> impl Future<Output = bool> + Send;

    /// The runtime's URL for a pod's ports (CRI `PortForward`).
    fn port_forward_url(
        &self,
        pod: &Arc<Pod>,
        ports: Vec<u16>,
    ) -> impl Future<Output = Result<String, StreamError>> + Send;

    /// Runs a command to its end (CRI `ExecSync`) and answers with both its outputs. A non-zero
    /// exit status is an error.
    fn exec_sync(
        &self,
        target: &ContainerTarget,
        command: Vec<String>,
    ) -> impl Future<Output = Result<Vec<u8>, String>> + Send;

    /// Has the runtime write all that is in a container to a file (CRI `CheckpointContainer`), and
    /// answers with where it is. `timeout` is in seconds; zero leaves it to the runtime.
    fn checkpoint(
        &self,
        target: &ContainerTarget,
        timeout: i64,
    ) -> impl Future<Output = Result<String, String>> + Send;

    /// Told of every session over WebSocket that is translated, for metrics: `exec`, `attach` or
    /// `portforward`.
    fn websocket_session(&self, kind: &'static str);
}

/// What the node measures and counts.
pub trait UsagePorts: Clone + Send + Sync + 'static {
    /// Metrics in the Prometheus text format.
    fn metrics(&self, kind: MetricsKind) -> impl Future<Output = Result<Bytes, String>> + Send;

    /// Sets the counters behind `/metrics/slis` back.
    fn reset_sli_metrics(&self);

    /// The stats summary (v1alpha1), as JSON.
    fn summary(&self, parts: SummaryParts) -> impl Future<Output = Result<Bytes, String>> + Send;
}

/// The process: what it was told, what it is, and how it fares.
pub trait ProcessPorts: Clone + Send + Sync + 'static {
    /// `KubeletConfiguration` with all defaults, `kind` and `apiVersion`.
    fn config(&self) -> serde_json::Value;

    /// Every flag with the value in effect; none of them a secret.
    fn flags(&self) -> Arc<BTreeMap<&'static str, String>>;

    /// What runs here, and since when.
    fn build_info(&self) -> BuildInfo;

    /// Sets the log's verbosity.
    fn set_verbosity(&self, level: u32);

    /// One health check; an error's text goes to the log and, for a single check, to the client.
    fn check_health(&self, check: HealthCheck) -> Result<(), String>;

    /// Told of every health check that was made for a list of them, for metrics.
    fn observe_health(&self, check: HealthCheck, is_healthy: bool);
}

/// Who may ask, by the word of the API server.
pub trait AccessPorts: Clone + Send + Sync + 'static {
    /// Asks the API server whose token this is (TokenReview); `None` when it is nobody's.
    fn authenticate_token(
        &self,
        token: &str,
    ) -> impl Future<Output = Result<Option<UserInfo>, String>> + Send;

    /// Asks the API server whether the user may (SubjectAccessReview).
    fn authorize(
        &self,
        user: &UserInfo,
        attributes: &Attributes,
    ) -> impl Future<Output = Result<Decision, String>> + Send;

    /// Told of what becomes of tokens, for metrics.
    fn token_review_event(&self, event: TokenReviewEvent);
}

/// Who is told of requests.
pub trait RequestPorts: Clone + Send + Sync + 'static {
    /// Makes a span of every request.
    fn tracer(&self) -> Tracer {
        Tracer::default()
    }

    /// Told of every request when it has come, for metrics.
    fn request_begins(&self, request: &RequestKind);

    /// Told of every one of them again when all that follows from it is over.
    fn request_ended(&self, request: &ServedRequest);
}

/// Someone, as authentication found them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserInfo {
    /// Name.
    pub name: String,
    /// Unique id; may be empty.
    pub uid: String,
    /// Groups, with `system:authenticated` or `system:unauthenticated` among them.
    pub groups: Vec<String>,
    /// Whatever else the authenticator knows.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The answer to "may they".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes.
    Allow,
    /// No, or no opinion, which comes to the same.
    Deny,
}

/// A container of a pod, by name.
#[derive(Clone, Debug)]
pub struct ContainerTarget {
    /// The pod.
    pub pod: Arc<Pod>,
    /// The uid the client asked for, when it did; the port compares it.
    pub uid: Option<String>,
    /// The container's name in the spec.
    pub container: String,
}

/// Which streams of an exec or attach the client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    /// Standard input.
    pub has_stdin: bool,
    /// Standard output.
    pub has_stdout: bool,
    /// Standard error; never together with a terminal.
    pub has_stderr: bool,
    /// A terminal.
    pub is_tty: bool,
}

/// Why the runtime gives no URL. The text is the runtime's, for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// gRPC `NotFound`: 404.
    #[error("{0}")]
    NotFound(String),
    /// gRPC `ResourceExhausted`: 429.
    #[error("{0}")]
    Exhausted(String),
    /// Anything else: 500.
    #[error("{0}")]
    Other(String),
}

/// `v1.PodLogOptions`, validated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// The container's attempt before the present one.
    pub is_previous: bool,
    /// Go on until the container has ended.
    pub is_follow: bool,
    /// Put the time before each line.
    pub has_timestamps: bool,
    /// The last so many lines.
    pub tail_lines: Option<u64>,
    /// At most so many bytes.
    pub limit_bytes: Option<u64>,
    /// Nothing older.
    pub since: Option<Timestamp>,
    /// One of the two streams; both when absent.
    pub stream: Option<LogStream>,
}

/// One of a container's two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How much of the summary is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SummaryParts {
    /// All of it.
    All,
    /// CPU and memory only, freshly sampled.
    CpuAndMemory,
}

/// The process, as `/statusz` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildInfo {
    /// When it was started.
    pub started: Timestamp,
    /// The version of Kubernetes whose behaviour it has, `1.37.2`.
    pub version: String,
    /// The version it behaves as, `1.37`.
    pub emulated: String,
}

/// A request, as the HTTP metrics tell one from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestKind {
    /// The method, or `other`.
    pub method: &'static str,
    /// The first part of the path, or `other`.
    pub path: &'static str,
    /// `readwrite` or `readonly`.
    pub server_type: &'static str,
    /// Whether the path is one of those whose requests may last.
    pub is_long_running: bool,
}

/// A request that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServedRequest {
    /// Which kind it was of.
    pub kind: RequestKind,
    /// Until the last byte of its answer, or the end of its session.
    pub duration: Duration,
}

/// What becomes of a bearer token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenReviewEvent {
    /// It is known whose it is, or that nobody could tell.
    LookedUp {
        /// Whether that was remembered.
        is_hit: bool,
        /// How long it took.
        took: Duration,
    },
    /// The API server is asked.
    ReviewBegins,
    /// It has answered, or the question was given up.
    ReviewEnded {
        /// Whether it has answered.
        is_ok: bool,
    },
}
