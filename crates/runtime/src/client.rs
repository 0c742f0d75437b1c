//! The connection to the runtime, and the calls about the runtime itself.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use model::{RuntimeCondition, RuntimeFeatures, RuntimeHealth, observed::RuntimeHandler};
use telemetry::traces::{PropagateContext, Span, Tracer};
use tokio::net::UnixStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Response, Status};

use crate::call_observer::{CallEnded, CallObserver};
use crate::error::{RpcStatus, RuntimeError};
use crate::lists::Chunks;
use crate::wire::image_service_client::ImageServiceClient;
use crate::wire::runtime_service_client::RuntimeServiceClient;
use crate::wire::{self, CgroupDriver as WireDriver};

/// The calls of the image service; all others are the runtime service's.
const IMAGE_CALLS: [&str; 6] =
    ["PullImage", "ListImages", "StreamImages", "ImageStatus", "RemoveImage", "ImageFsInfo"];
/// Largest answer accepted, as upstream: lists of a node with very many containers are large.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// A connection that tells the runtime which trace a call is part of.
type Wire = InterceptedService<Channel, PropagateContext>;

/// How to talk to the runtime.
#[derive(Clone, Debug)]
pub struct RuntimeSettings {
    /// `runtimeRequestTimeout`: the deadline of an ordinary call.
    pub request_timeout: Duration,
    /// Feature gate `CRIListStreaming`: lists are asked for in chunks.
    pub has_chunked_lists: bool,
    /// Hears of every call.
    pub observer: CallObserver,
    /// Every call is a span.
    pub tracer: Tracer,
    /// Feature gate `ContainerStopSignals`: whether a container's stop signal is told.
    pub reports_stop_signals: bool,
}

impl Default for RuntimeSettings {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(120),
            has_chunked_lists: false,
            observer: CallObserver::default(),
            tracer: Tracer::default(),
            reports_stop_signals: false,
        }
    }
}

/// An endpoint that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("container runtime endpoint {endpoint:?}: want unix:///path or tcp://host:port")]
pub struct EndpointError {
    endpoint: String,
}

/// A handle on the container runtime: cheap to clone, one connection for each service, opened
/// when first needed and opened again whenever it broke.
///
/// Every method is cancel-safe: dropping the future cancels the call at the runtime.
#[derive(Clone, Debug)]
pub struct Runtime {
    runtime: RuntimeServiceClient<Wire>,
    images: ImageServiceClient<Wire>,
    pub(crate) settings: RuntimeSettings,
    chunks: Arc<Chunks>,
}

/// What the runtime calls itself (CRI `Version`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeVersion {
    /// `containerd`, `cri-o`, ….
    pub name: String,
    /// Its own version.
    pub version: String,
    /// The version of CRI it speaks.
    pub api_version: String,
}

/// Who creates cgroups below the parents this node names (CRI `RuntimeConfig`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupDriver {
    /// Through systemd's slices and scopes.
    Systemd,
    /// Directly in the file system.
    Cgroupfs,
}

/// What a runtime says of its cgroup driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverAnswer {
    /// It uses this one.
    Uses(CgroupDriver),
    /// It says nothing of it.
    Silent,
    /// It is too old to be asked.
    Unknown,
}

impl Runtime {
    /// A handle on the runtime at `endpoint`; images may have another one. Nothing is connected
    /// yet: the first call does that, and says so when it cannot.
    ///
    /// # Errors
    /// When an endpoint's form is unknown.
    pub fn connect(
        endpoint: &str,
        image_endpoint: Option<&str>,
        settings: RuntimeSettings,
    ) -> Result<Self, EndpointError> {
        let runtime_channel = channel(endpoint)?;
        let image_channel = match image_endpoint {
            Some(other) if !other.is_empty() && other != endpoint => channel(other)?,
            _ => runtime_channel.clone(),
        };
        Ok(Self {
            runtime: RuntimeServiceClient::with_interceptor(runtime_channel, PropagateContext)
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
            images: ImageServiceClient::with_interceptor(image_channel, PropagateContext)
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
            chunks: Arc::new(Chunks::new(settings.has_chunked_lists)),
            settings,
        })
    }

    /// Name and version.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub async fn version(&self) -> Result<RuntimeVersion, RuntimeError> {
        let mut client = self.runtime();
        let request = self.request(wire::VersionRequest { version: "0.1.0".into() });
        let answer = self.call("Version", "", client.version(request)).await?;
        Ok(RuntimeVersion {
            name: answer.runtime_name,
            version: answer.runtime_version,
            api_version: answer.runtime_api_version,
        })
    }

    /// Whether the runtime and its network are ready, and what they support.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub async fn status(&self) -> Result<RuntimeHealth, RuntimeError> {
        let mut client = self.runtime();
        let request = self.request(wire::StatusRequest { verbose: false });
        let answer = self.call("Status", "", client.status(request)).await?;
        Ok(health(answer))
    }

    /// The cgroup driver the runtime uses.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub async fn cgroup_driver(&self) -> Result<DriverAnswer, RuntimeError> {
        let mut client = self.runtime();
        let request = self.request(wire::RuntimeConfigRequest {});
        match self.call("RuntimeConfig", "", client.runtime_config(request)).await {
            Ok(answer) => Ok(answer.linux.map_or(DriverAnswer::Silent, |linux| {
                DriverAnswer::Uses(match linux.cgroup_driver() {
                    WireDriver::Systemd => CgroupDriver::Systemd,
                    WireDriver::Cgroupfs => CgroupDriver::Cgroupfs,
                })
            })),
            Err(error) if error.is_unimplemented() => Ok(DriverAnswer::Unknown),
            Err(error) => Err(error),
        }
    }

    /// Tells the runtime which addresses this node's pods get (comma-separated CIDRs).
    ///
    /// # Errors
    /// When the runtime refuses or does not answer.
    pub async fn set_pod_cidr(&self, pod_cidr: &str) -> Result<(), RuntimeError> {
        let mut client = self.runtime();
        let network_config = Some(wire::NetworkConfig { pod_cidr: pod_cidr.to_owned() });
        let runtime_config = Some(wire::RuntimeConfig { network_config });
        let request = self.request(wire::UpdateRuntimeConfigRequest { runtime_config });
        self.call("UpdateRuntimeConfig", pod_cidr, client.update_runtime_config(request)).await.map(|_| ())
    }

    pub(crate) fn runtime(&self) -> RuntimeServiceClient<Wire> {
        self.runtime.clone()
    }

    pub(crate) fn images(&self) -> ImageServiceClient<Wire> {
        self.images.clone()
    }

    pub(crate) fn chunks(&self) -> &Chunks {
        &self.chunks
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.settings.request_timeout
    }

    /// A request with the ordinary deadline told to the server, so that it gives up too.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.settings.request_timeout);
        request
    }

    /// Runs a call within the ordinary deadline.
    pub(crate) fn call<'a, T: Send + 'a>(
        &'a self,
        call: &'static str,
        object: &'a str,
        answer: impl Future<Output = Result<Response<T>, Status>> + Send + 'a,
    ) -> impl Future<Output = Result<T, RuntimeError>> + Send + 'a {
        self.call_within(Some(self.settings.request_timeout), call, object, answer)
    }

    /// Runs a call within a deadline of its own; `None` for as long as it takes.
    pub(crate) fn call_within<'a, T: Send + 'a>(
        &'a self,
        deadline: Option<Duration>,
        call: &'static str,
        object: &'a str,
        answer: impl Future<Output = Result<Response<T>, Status>> + Send + 'a,
    ) -> impl Future<Output = Result<T, RuntimeError>> + Send + 'a {
        let labels = CallLabels { call, object, handler: None };
        self.observed(labels, deadline, Box::pin(answer))
    }

    /// Runs a call until its deadline and tells how it went. One that is dropped before its end is
    /// not told of.
    ///
    /// The library's futures take kilobytes, and whatever awaits one takes as much again: they are
    /// boxed, so that a task that might make many different calls stays small.
    pub(crate) async fn observed<T>(
        &self,
        labels: CallLabels<'_>,
        deadline: Option<Duration>,
        answer: BoxFuture<'_, Result<Response<T>, Status>>,
    ) -> Result<T, RuntimeError> {
        let span = self.span(labels.call);
        let started = Instant::now();
        let result = span.run(within(deadline, labels.call, labels.object, answer)).await;
        let (took, is_ok) = (started.elapsed(), result.is_ok());
        let ended = CallEnded { call: labels.call, took, is_ok, handler: labels.handler };
        self.settings.observer.tell(ended);
        match &result {
            Ok(_) => span.set("rpc.response.status_code", "OK"),
            Err(error) => {
                span.set("rpc.response.status_code", error.code_name());
                span.fail(error.to_string());
            }
        }
        result
    }

    fn span(&self, call: &'static str) -> Span {
        let service = if IMAGE_CALLS.contains(&call) { "ImageService" } else { "RuntimeService" };
        let name = || format!("runtime.v1.{service}/{call}");
        let attributes = || [("rpc.system.name", "grpc".into()), ("rpc.method", name().into())];
        self.settings.tracer.call(|| name().into(), attributes)
    }
}

/// Which call it is.
pub(crate) struct CallLabels<'a> {
    pub(crate) call: &'static str,
    pub(crate) object: &'a str,
    /// The runtime handler, of a `RunPodSandbox`.
    pub(crate) handler: Option<&'a str>,
}

/// Runs a call until its deadline, kept here as well because a hung server keeps none.
async fn within<T>(
    deadline: Option<Duration>,
    call: &'static str,
    object: &str,
    answer: BoxFuture<'_, Result<Response<T>, Status>>,
) -> Result<T, RuntimeError> {
    let result = match deadline {
        None => answer.await,
        Some(deadline) => match tokio::time::timeout(deadline, answer).await {
            Ok(result) => result,
            Err(_) => {
                let message = format!("no answer within {deadline:?}");
                return Err(RuntimeError::new(
                    call,
                    object,
                    RpcStatus { code: Code::DeadlineExceeded, message },
                ));
            }
        },
    };
    match result {
        Ok(response) => Ok(response.into_inner()),
        // tonic reports its own timer, which runs beside ours, as `Cancelled`.
        Err(status) if deadline.is_some() && is_own_timer(&status) => {
            let message = status.message().to_owned();
            Err(RuntimeError::new(call, object, RpcStatus { code: Code::DeadlineExceeded, message }))
        }
        Err(status) => Err(RuntimeError::new(call, object, status)),
    }
}

/// tonic's client and server keep the deadline too, and report it without a type of its own.
fn is_own_timer(status: &Status) -> bool {
    status.code() == Code::Cancelled && status.message() == tonic::TimeoutExpired(()).to_string()
}

fn channel(endpoint: &str) -> Result<Channel, EndpointError> {
    let invalid = || EndpointError { endpoint: endpoint.to_owned() };
    if let Some(address) = endpoint.strip_prefix("tcp://") {
        let target = Endpoint::from_shared(format!("http://{address}")).map_err(|_| invalid())?;
        return Ok(target.connect_lazy());
    }
    let path =
        endpoint.strip_prefix("unix://").or_else(|| endpoint.strip_prefix("unix:")).unwrap_or(endpoint);
    if !path.starts_with('/') {
        return Err(invalid());
    }
    let path = PathBuf::from(path);
    // The URI only fills the `:authority` header; the connector decides where bytes go.
    Ok(Endpoint::from_static("http://localhost").connect_with_connector_lazy(tower::service_fn(
        move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        },
    )))
}

fn health(answer: wire::StatusResponse) -> RuntimeHealth {
    let conditions = answer.status.unwrap_or_default().conditions;
    let condition = |name: &str| {
        conditions.iter().find(|c| c.r#type == name).map_or_else(
            || RuntimeCondition {
                is_met: false,
                reason: String::new(),
                message: format!("the runtime reports no condition {name}"),
            },
            |c| RuntimeCondition { is_met: c.status, reason: c.reason.clone(), message: c.message.clone() },
        )
    };
    RuntimeHealth {
        runtime: condition("RuntimeReady"),
        network: condition("NetworkReady"),
        handlers: answer
            .runtime_handlers
            .into_iter()
            .map(|handler| {
                let features = handler.features.unwrap_or_default();
                RuntimeHandler {
                    name: handler.name,
                    has_recursive_read_only_mounts: features.recursive_read_only_mounts,
                    has_user_namespaces: features.user_namespaces,
                }
            })
            .collect(),
        features: answer.features.map_or_else(RuntimeFeatures::default, |features| RuntimeFeatures {
            has_supplemental_groups_policy: features.supplemental_groups_policy,
            has_users_on_host_network: features.user_namespaces_host_network,
            has_mount_options: features.mount_options,
        }),
    }
}
