//! What the HTTP server shows and reaches: the published view, the runtime's streams, container
//! logs on disk, and the API server's word on who may ask.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use apiserver::{AccessQuestion, Caller, RequestError, TokenAnswer};
use bytes::Bytes;
use config::Config;
use futures::stream::{BoxStream, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ContainerStateTerminated;
use model::{AllocatedPod, ContainerId, ContainerObservation, Pod, PodKey, PodObservation, pod};
use node::{Phase, PodView, View};
use runtime::logs::{LogOptions, LogPath, LogReader, LogWatches, StreamSelection};
use runtime::{Runtime, RuntimeError, podfiles};
use server::endpoint::{HealthCheck, MetricsKind};
use server::ports::{
    BuildInfo, ContainerTarget, LogQuery, LogStream, PodWithStatus, RequestKind, ServedRequest, StreamError,
    Streams, SummaryParts, TokenReviewEvent,
};
use server::{Attributes, Decision, Ports, UserInfo};
use telemetry::log::LogHandle;
use telemetry::metrics::{Counter, Endpoint, Exposition, Histogram, Labelled, Metrics};
use telemetry::traces::Tracer;
use tokio::sync::watch;
use tracing::info;

use crate::driver::Clock;
use crate::executor::api::Api;
use crate::http_api::cadvisor::CadvisorPage;
use crate::http_api::orphaned_input;
use crate::http_api::usage::Usage;
use crate::identity::IdentityMetrics;
use crate::observe::gauges;
use crate::observe::health::Health;

/// Where checkpoints of containers are written, below the root folder.
pub(crate) const CHECKPOINTS: &str = "checkpoints";

/// The server's ports onto this node.
#[derive(Clone)]
pub(crate) struct NodePorts {
    pub(crate) runtime: Runtime,
    pub(crate) api: Arc<Api>,
    pub(crate) tracer: Tracer,
    pub(crate) config: Arc<Config>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) identity: Arc<IdentityMetrics>,
    pub(crate) view: watch::Receiver<Arc<View>>,
    /// The clock of the view's times.
    pub(crate) clock: Clock,
    pub(crate) health: Health,
    pub(crate) cadvisor: Arc<CadvisorPage>,
    pub(crate) usage: Arc<Usage>,
    pub(crate) log: LogHandle,
    pub(crate) flags: Arc<BTreeMap<&'static str, String>>,
    pub(crate) log_watches: LogWatches,
}

impl NodePorts {
    fn views(&self) -> Vec<Arc<PodView>> {
        self.view.borrow().pods.values().filter(|p| p.is_wanted && p.pod.is_some()).cloned().collect()
    }

    fn view_of(&self, pod: &Pod) -> Option<Arc<PodView>> {
        self.view.borrow().pods.get(&pod::uid(pod)).cloned()
    }

    /// The running container a stream is for. A static pod is asked for by its mirror's uid, so
    /// only a uid that is neither is wrong.
    fn target(&self, target: &ContainerTarget) -> Option<ContainerObservation> {
        let view = self.view_of(&target.pod)?;
        let is_meant = |uid: &String| view.is_static || view.uid.as_str() == uid;
        if !target.uid.as_ref().is_none_or(is_meant) {
            return None;
        }
        view.container(&target.container).filter(|c| c.state.is_running()).cloned()
    }
}

fn labels(request: &RequestKind) -> [&'static str; 4] {
    let is_long = if request.is_long_running { "true" } else { "false" };
    [is_long, request.method, request.path, request.server_type]
}

/// Counts a question to the API server about a caller, by its HTTP status.
fn count_review(
    count: &Labelled<Counter, 1>,
    took: &Labelled<Histogram, 1>,
    begun: Instant,
    error: Option<&RequestError>,
) {
    let code = match error {
        // What is asked is an object that the server creates.
        None => "201".to_owned(),
        Some(error) => error.code().map_or_else(|| "<error>".to_owned(), |code| code.to_string()),
    };
    count.with([&code]).increment();
    took.with([&code]).observe_duration(begun.elapsed());
}

/// Upstream's words, which are no 404 for a client.
fn not_found(target: &ContainerTarget) -> String {
    format!("container not found ({:?})", target.container)
}

fn streams(streams: Streams) -> runtime::Streams {
    runtime::Streams {
        stdin: streams.has_stdin,
        stdout: streams.has_stdout,
        stderr: streams.has_stderr,
        tty: streams.is_tty,
    }
}

fn stream_error(error: &RuntimeError) -> StreamError {
    if error.is_not_found() {
        StreamError::NotFound(error.message().to_owned())
    } else {
        StreamError::Other(error.message().to_owned())
    }
}

/// A pod as clients are shown it: its object with the status as it is now.
fn shown(view: &PodView, pod: Option<&Arc<Pod>>) -> Option<PodWithStatus> {
    let pod = pod?.clone();
    Some(PodWithStatus { metadata: pod.metadata.clone(), pod, status: view.status.clone() })
}

impl Ports for NodePorts {
    fn pods(&self) -> Vec<PodWithStatus> {
        self.views().iter().filter_map(|v| shown(v, v.pod.as_ref())).collect()
    }

    fn pod(&self, key: &PodKey) -> Option<Arc<Pod>> {
        self.views().iter().find(|v| v.key == *key).and_then(|v| v.pod.clone())
    }

    fn allocated_pods(&self) -> Vec<PodWithStatus> {
        // Those that are not let in yet have nothing, those that are over have given it back.
        let has_resources = |view: &&Arc<PodView>| matches!(view.phase, Phase::Running | Phase::Terminating);
        self.views()
            .iter()
            .filter(has_resources)
            .filter_map(|v| shown(v, v.allocated.as_ref().map(AllocatedPod::shared)))
            .collect()
    }

    async fn running_pods(&self) -> Result<Vec<Pod>, String> {
        let all = self.runtime.relist().await.map_err(|e| e.message().to_owned())?;
        let runs = |pod: &PodObservation| pod.ready_sandbox().is_some() || pod.has_running_container();
        Ok(all.into_iter().filter(runs).map(rebuilt).collect())
    }

    async fn container_log(
        &self,
        pod: &Arc<Pod>,
        container: &str,
        query: LogQuery,
    ) -> Result<BoxStream<'static, io::Result<Bytes>>, String> {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let view = self.view_of(pod).ok_or_else(|| format!("pod {name:?} not found"))?;
        let instance = log_instance(&view, &name, container, query.is_previous)?;
        let root = &self.config.paths.pod_logs;
        let path = podfiles::pod_log_dir(root, &view.key, &view.uid)
            .join(podfiles::container_log_path(container, instance.attempt));
        let path = LogPath::below(root, &path)
            .ok_or_else(|| format!("log of container {container:?} lies outside of the log folder"))?;
        let options = LogOptions {
            follow: query.is_follow,
            tail_lines: query.tail_lines,
            since: query.since,
            timestamps: query.has_timestamps,
            limit_bytes: query.limit_bytes,
            stream: match query.stream {
                None => StreamSelection::All,
                Some(LogStream::Stdout) => StreamSelection::Stdout,
                Some(LogStream::Stderr) => StreamSelection::Stderr,
            },
        };
        let running = self.running(&view, &instance, query.is_follow);
        let reader = LogReader::open(path, options, running, &self.log_watches).await;
        let reader = reader.map_err(|e| model::chain(&e))?;
        let stream = reader.into_stream().map(|piece| match piece {
            Ok((_, bytes)) => Ok(bytes),
            Err(error) => Err(io::Error::other(model::chain(&error))),
        });
        Ok(stream.boxed())
    }

    async fn exec_url(
        &self,
        target: &ContainerTarget,
        command: Vec<String>,
        wanted: Streams,
    ) -> Result<String, StreamError> {
        let missing = || StreamError::Other(not_found(target));
        let container = self.target(target).ok_or_else(missing)?;
        let url = self.runtime.exec(&container.id, &command, streams(wanted)).await;
        url.map_err(|e| stream_error(&e))
    }

    async fn attach_url(&self, target: &ContainerTarget, wanted: Streams) -> Result<String, StreamError> {
        let missing = || {
            let key = pod::key(&target.pod);
            let text =
                format!("container {} not found in pod {}_{}", target.container, key.name, key.namespace);
            StreamError::Other(text)
        };
        let container = self.target(target).ok_or_else(missing)?;
        self.runtime.attach(&container.id, streams(wanted)).await.map_err(|e| stream_error(&e))
    }

    async fn free_input(&self, target: &ContainerTarget) -> bool {
        let Some(container) = self.target(target) else { return false };
        orphaned_input::free(container.id.to_string()).await
    }

    async fn port_forward_url(&self, pod: &Arc<Pod>, ports: Vec<u16>) -> Result<String, StreamError> {
        let view = self.view_of(pod);
        let sandbox = view.as_ref().and_then(|v| v.observed.as_ref()?.ready_sandbox().map(|s| s.id.clone()));
        let name = pod::key(pod);
        let sandbox =
            sandbox.ok_or_else(|| StreamError::NotFound(format!("no running sandbox of pod {name}")))?;
        let ports: Vec<i32> = ports.into_iter().map(i32::from).collect();
        self.runtime.port_forward(&sandbox, &ports).await.map_err(|e| stream_error(&e))
    }

    async fn exec_sync(&self, target: &ContainerTarget, command: Vec<String>) -> Result<Vec<u8>, String> {
        let container = self.target(target).ok_or_else(|| not_found(target))?;
        let result = self.runtime.exec_sync(&container.id, &command, Duration::ZERO).await;
        let output = result.map_err(|e| e.message().to_owned())?;
        if output.exit_code != 0 {
            return Err(format!(
                "command '{}' exited with {}: {}",
                command.join(" "),
                output.exit_code,
                String::from_utf8_lossy(&output.stderr)
            ));
        }
        let mut all = output.stdout;
        all.extend(output.stderr);
        Ok(all)
    }

    async fn metrics(&self, kind: MetricsKind) -> Result<Bytes, String> {
        let mut page = Exposition::new();
        let endpoint = match kind {
            MetricsKind::Kubelet => Endpoint::Main,
            MetricsKind::Probes => Endpoint::Probes,
            MetricsKind::Slis => Endpoint::Slis,
            MetricsKind::Resource => {
                let view = self.view.borrow().clone();
                self.usage.resource_metrics(&view, &mut page).await;
                return Ok(page.into_text().into());
            }
            MetricsKind::Cadvisor => {
                let view = self.view.borrow().clone();
                return self.cadvisor.page(&view).await;
            }
        };
        if endpoint == Endpoint::Main {
            gauges::count(&self.metrics, &self.view.borrow().clone(), self.clock.now());
            self.identity.publish();
            self.usage.disk_metrics(&self.view.borrow().clone(), &mut page);
        }
        self.metrics.write(endpoint, &mut page).map_err(|e| model::chain(&e))?;
        Ok(page.into_text().into())
    }

    async fn checkpoint(&self, target: &ContainerTarget, timeout: i64) -> Result<String, String> {
        if timeout < 0 {
            return Err("CheckpointContainer requires the timeout value to be > 0".to_owned());
        }
        let name = &target.container;
        let container = self.target(target).ok_or_else(|| format!("container {name} not found"))?;
        let key = pod::key(&target.pod);
        let time = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
        let file = format!("checkpoint-{}_{}-{name}-{time}.tar", key.name, key.namespace);
        let path = self.config.paths.root.join(CHECKPOINTS).join(file);
        let location = path.to_str().ok_or("the root folder's path is not UTF-8")?;
        info!(pod = %key, container = name, path = location, "Checkpointing a container");
        let done = self.runtime.checkpoint_container(&container.id, location, timeout).await;
        done.map(|()| location.to_owned()).map_err(|error| error.message().to_owned())
    }

    fn reset_sli_metrics(&self) {
        self.metrics.healthcheck.retain(|_| false);
        self.metrics.healthchecks.retain(|_| false);
    }

    fn set_verbosity(&self, level: u32) {
        info!(from = self.log.verbosity(), to = level, "Log verbosity changed");
        self.log.set_verbosity(level);
    }

    fn flags(&self) -> Arc<BTreeMap<&'static str, String>> {
        self.flags.clone()
    }

    fn build_info(&self) -> BuildInfo {
        let started = telemetry::metrics::process_start_seconds()
            .ok()
            .and_then(|seconds| Timestamp::from_second(seconds as i64).ok());
        let version = config::version::KUBELET_VERSION.trim_start_matches('v');
        BuildInfo {
            started: started.unwrap_or_default(),
            version: version.to_owned(),
            emulated: format!("{}.{}", config::version::KUBERNETES_MAJOR, config::version::KUBERNETES_MINOR),
        }
    }

    fn observe_health(&self, check: HealthCheck, is_healthy: bool) {
        const KIND: &str = "healthz";
        let status = if is_healthy { "success" } else { "error" };
        self.metrics.healthcheck.with([check.as_str(), KIND]).set(f64::from(u8::from(is_healthy)));
        self.metrics.healthchecks.with([check.as_str(), status, KIND]).increment();
    }

    fn config(&self) -> serde_json::Value {
        self.config.configz_json()
    }

    async fn summary(&self, parts: SummaryParts) -> Result<Bytes, String> {
        let view = self.view.borrow().clone();
        self.usage.summary(&view, parts).await
    }

    fn check_health(&self, check: HealthCheck) -> Result<(), String> {
        match check {
            HealthCheck::SyncLoop => self.health.sync_loop.check(),
            HealthCheck::Log => self.health.log(),
            // The first is the answer itself; the second is not offered.
            HealthCheck::Ping | HealthCheck::DevicePlugin => Ok(()),
        }
    }

    async fn authenticate_token(&self, token: &str) -> Result<Option<UserInfo>, String> {
        let Some(connection) = self.api.connection() else { return Ok(None) };
        let begun = Instant::now();
        let review = apiserver::review_token(&connection.api, token, &[]).await;
        let (count, took) = (&self.metrics.token_reviews, &self.metrics.token_review_duration);
        count_review(count, took, begun, review.as_ref().err());
        match review {
            Ok(TokenAnswer::Known(caller, _)) => Ok(Some(UserInfo {
                name: caller.user,
                uid: caller.uid,
                groups: caller.groups,
                extra: caller.extra,
            })),
            Ok(TokenAnswer::Unknown(_)) => Ok(None),
            Err(error) => Err(model::chain(&error)),
        }
    }

    async fn authorize(&self, user: &UserInfo, attributes: &Attributes) -> Result<Decision, String> {
        let Some(connection) = self.api.connection() else { return Ok(Decision::Deny) };
        let caller = Caller {
            user: user.name.clone(),
            uid: user.uid.clone(),
            groups: user.groups.clone(),
            extra: user.extra.clone(),
        };
        let question = AccessQuestion::Node {
            verb: attributes.verb.to_owned(),
            name: attributes.node_name.clone(),
            subresource: attributes.subresource.to_owned(),
        };
        let begun = Instant::now();
        let review = apiserver::review_access(&connection.api, &caller, &question).await;
        let (count, took) = (&self.metrics.access_reviews, &self.metrics.access_review_duration);
        count_review(count, took, begun, review.as_ref().err());
        match review {
            Ok(answer) if answer.is_allowed => Ok(Decision::Allow),
            Ok(_) => Ok(Decision::Deny),
            Err(error) => Err(model::chain(&error)),
        }
    }

    fn websocket_session(&self, kind: &'static str) {
        self.metrics.websocket_sessions.with([kind]).increment();
    }

    fn request_begins(&self, request: &RequestKind) {
        let labels = labels(request);
        self.metrics.http_requests.with(labels).increment();
        self.metrics.http_inflight_requests.with(labels).add(1.0);
    }

    fn request_ended(&self, request: &ServedRequest) {
        let labels = labels(&request.kind);
        self.metrics.http_inflight_requests.with(labels).add(-1.0);
        self.metrics.http_requests_duration.with(labels).observe_duration(request.duration);
    }

    fn token_review_event(&self, event: TokenReviewEvent) {
        // Whoever asks waits for the answer, so that as many wait as are asked.
        let under_way = |change| {
            for status in ["blocked", "in_flight"] {
                self.metrics.token_reviews_active.with([status]).add(change);
            }
        };
        match event {
            TokenReviewEvent::LookedUp { is_hit, took } => {
                let status = [if is_hit { "hit" } else { "miss" }];
                self.metrics.token_cache_requests.with(status).increment();
                self.metrics.token_cache_duration.with(status).observe_duration(took);
            }
            TokenReviewEvent::ReviewBegins => under_way(1.0),
            TokenReviewEvent::ReviewEnded { is_ok } => {
                under_way(-1.0);
                self.metrics.token_reviews_ended.with([if is_ok { "ok" } else { "error" }]).increment();
            }
        }
    }

    fn tracer(&self) -> Tracer {
        self.tracer.clone()
    }
}

impl NodePorts {
    /// Whether an instance runs, as a value to watch. Only a follower needs it to change.
    fn running(
        &self,
        view: &PodView,
        instance: &ContainerObservation,
        is_follow: bool,
    ) -> watch::Receiver<bool> {
        let (sender, receiver) = watch::channel(instance.state.is_running());
        if !is_follow || !instance.state.is_running() {
            return receiver;
        }
        let (mut views, uid, id) = (self.view.clone(), view.uid.clone(), instance.id.clone());
        #[expect(
            clippy::disallowed_methods,
            reason = "ends with the instance, or when nobody follows its log any more"
        )]
        tokio::spawn(async move {
            let is_over = |view: &Arc<View>| {
                let pod = view.pods.get(&uid);
                !pod.and_then(|p| p.container_by_id(&id)).is_some_and(|c| c.state.is_running())
            };
            // Cancel-safe: both only wait for a change of a watched value.
            tokio::select! {
                _ = views.wait_for(is_over) => drop(sender.send(false)),
                () = sender.closed() => {}
            }
        });
        receiver
    }
}

/// Which instance of a container a log request means, with upstream's words when there is none. The
/// status decides: an instance whose postStart hook still runs is not shown yet.
fn log_instance(
    view: &PodView,
    pod: &str,
    container: &str,
    is_previous: bool,
) -> Result<ContainerObservation, String> {
    let lists = [
        &view.status.container_statuses,
        &view.status.init_container_statuses,
        &view.status.ephemeral_container_statuses,
    ];
    let status = lists.into_iter().flatten().flatten().find(|s| s.name == container);
    let status = status.ok_or_else(|| format!("container {container:?} in pod {pod:?} is not available"))?;
    let state = status.state.clone().unwrap_or_default();
    let ended = |of: Option<ContainerStateTerminated>| of?.container_id.filter(|id| !id.is_empty());
    let last = status.last_state.clone().unwrap_or_default().terminated;
    let was_ended = state.terminated.is_some() || last.is_some();
    let id = if is_previous {
        let lacks = || format!("previous terminated container {container:?} in pod {pod:?} not found");
        ended(last).ok_or_else(lacks)?
    } else if state.running.is_some() {
        status.container_id.clone().unwrap_or_default()
    } else if was_ended {
        let lacks = || format!("container {container:?} in pod {pod:?} is terminated");
        ended(state.terminated).or_else(|| ended(last)).ok_or_else(lacks)?
    } else {
        let why = match state.waiting.and_then(|waiting| waiting.reason).as_deref() {
            Some("ErrImagePull") => ": image can't be pulled".to_owned(),
            Some("ImagePullBackOff") => ": trying and failing to pull image".to_owned(),
            Some(reason) => format!(": {reason}"),
            None => " - no logs yet".to_owned(),
        };
        return Err(format!("container {container:?} in pod {pod:?} is waiting to start{why}"));
    };
    let bare = id.rsplit_once("://").map_or(id.as_str(), |(_, bare)| bare);
    let instance = view.container_by_id(&ContainerId::from(bare)).cloned();
    instance.ok_or_else(|| format!("unable to retrieve container logs for {id}"))
}

/// A pod put together again from what the runtime runs (`/runningpods/`).
fn rebuilt(observed: PodObservation) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.name = Some(observed.key.name.to_string());
    pod.metadata.namespace = Some(observed.key.namespace.to_string());
    pod.metadata.uid = Some(observed.uid.to_string());
    let running = observed.containers.iter().filter(|c| c.state.is_running());
    let containers = running.map(|c| k8s_openapi::api::core::v1::Container {
        name: c.name.clone(),
        image: Some(c.image.clone()),
        resources: Some(Default::default()),
        ..Default::default()
    });
    pod.spec =
        Some(k8s_openapi::api::core::v1::PodSpec { containers: containers.collect(), ..Default::default() });
    pod.status = Some(Default::default());
    pod
}
