//! The calls about pods and containers: through the gate, then one step of the world.

use std::io;
use std::path::Path;
use std::sync::Arc;

use futures::stream;
use runtime::labels;
use runtime::wire::runtime_service_server::RuntimeService;
use runtime::wire::*;
use tokio::sync::broadcast::error::RecvError;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use crate::annotation::{self, Exit};
use crate::gate::{Running, now};
use crate::server::{Service, State};
use crate::world;

/// What sandboxes are made from.
const SANDBOX_IMAGE: &str = "registry.k8s.io/pause:3.10";

/// The handler that makes mounts recursively read-only, which the one without a name does not.
const RECURSIVE_HANDLER: &str = "recursive";

type Answer<T> = Result<Response<T>, Status>;

fn answer<T>(message: T) -> Answer<T> {
    Ok(Response::new(message))
}

impl State {
    /// Enters with a call about a sandbox or a container.
    async fn enter(&self, call: &'static str, id: &str) -> Result<Running<'_>, Status> {
        let pod = self.world().pod_of(id);
        self.gate.enter(call, pod.as_deref()).await
    }

    /// Enters with a list, which is about a pod when it selects one.
    async fn enter_list(
        &self,
        call: &'static str,
        selector: Option<&std::collections::BTreeMap<String, String>>,
    ) -> Result<Running<'_>, Status> {
        let uid = selector.and_then(|selector| selector.get(labels::POD_UID));
        let pod = uid.and_then(|uid| self.world().pod_with(uid));
        self.gate.enter(call, pod.as_deref()).await
    }
}

/// Ends a container when its time has come.
fn end_later(state: Arc<State>, id: String, exit: Exit) {
    #[expect(clippy::disallowed_methods, reason = "ends with the container")]
    tokio::spawn(async move {
        tokio::time::sleep(exit.after).await;
        state.world().end(&id, exit.code, now());
    });
}

/// A log that nothing will ever be written to: kubelets look for the file.
async fn make_log(path: &str) -> Result<(), Status> {
    let path = path.to_owned();
    let made = tokio::task::spawn_blocking(move || -> Result<(), (String, io::Error)> {
        if let Some(folder) = Path::new(&path).parent() {
            std::fs::create_dir_all(folder).map_err(|error| (path.clone(), error))?;
        }
        let opened = std::fs::OpenOptions::new().create(true).append(true).open(&path);
        opened.map(drop).map_err(|error| (path, error))
    });
    match made.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err((path, error))) => Err(Status::internal(format!("make the log {path}: {error}"))),
        Err(error) => Err(Status::internal(format!("make a log: {error}"))),
    }
}

#[tonic::async_trait]
impl RuntimeService for Service {
    async fn version(&self, _: Request<VersionRequest>) -> Answer<VersionResponse> {
        let _running = self.gate.enter("Version", None).await?;
        answer(VersionResponse {
            version: "0.1.0".into(),
            runtime_name: "fake-cri".into(),
            runtime_version: env!("CARGO_PKG_VERSION").into(),
            runtime_api_version: "v1".into(),
        })
    }

    async fn status(&self, _: Request<StatusRequest>) -> Answer<StatusResponse> {
        let _running = self.gate.enter("Status", None).await?;
        let met = |name: &str| RuntimeCondition { r#type: name.into(), status: true, ..Default::default() };
        let conditions = vec![met("RuntimeReady"), met("NetworkReady")];
        answer(StatusResponse {
            status: Some(RuntimeStatus { conditions }),
            runtime_handlers: vec![
                RuntimeHandler::default(),
                RuntimeHandler {
                    name: RECURSIVE_HANDLER.into(),
                    features: Some(RuntimeHandlerFeatures {
                        recursive_read_only_mounts: true,
                        ..Default::default()
                    }),
                },
            ],
            // Nothing is mounted, with whatever options.
            features: Some(RuntimeFeatures {
                supplemental_groups_policy: true,
                mount_options: true,
                ..Default::default()
            }),
            ..Default::default()
        })
    }

    async fn runtime_config(&self, _: Request<RuntimeConfigRequest>) -> Answer<RuntimeConfigResponse> {
        let cgroup_driver = CgroupDriver::Cgroupfs.into();
        answer(RuntimeConfigResponse { linux: Some(LinuxRuntimeConfiguration { cgroup_driver }) })
    }

    async fn update_runtime_config(
        &self,
        r: Request<UpdateRuntimeConfigRequest>,
    ) -> Answer<UpdateRuntimeConfigResponse> {
        let _running = self.gate.enter("UpdateRuntimeConfig", None).await?;
        self.gate.remember("UpdateRuntimeConfig", None, r.get_ref());
        answer(UpdateRuntimeConfigResponse {})
    }

    async fn run_pod_sandbox(&self, r: Request<RunPodSandboxRequest>) -> Answer<RunPodSandboxResponse> {
        let request = r.into_inner();
        let metadata = request.config.as_ref().and_then(|config| config.metadata.as_ref());
        let Some(metadata) = metadata.filter(|metadata| !metadata.uid.is_empty()) else {
            return Err(Status::invalid_argument("RunPodSandbox: no uid in the sandbox's metadata"));
        };
        let (pod, attempt) = (world::key(&metadata.namespace, &metadata.name), metadata.attempt);
        self.gate.remember("RunPodSandbox", Some(&pod), &request);
        let config = request.config.unwrap_or_default();
        let hangs = annotation::hangs(&config.annotations).map_err(Status::invalid_argument)?;
        if !hangs.is_empty() && attempt == 0 {
            self.gate.hang(&pod, hangs);
        }
        let _running = self.gate.enter("RunPodSandbox", Some(&pod)).await?;
        let id = self.world().run_sandbox(config, request.runtime_handler, now());
        answer(RunPodSandboxResponse { pod_sandbox_id: id })
    }

    async fn stop_pod_sandbox(&self, r: Request<StopPodSandboxRequest>) -> Answer<StopPodSandboxResponse> {
        let id = r.into_inner().pod_sandbox_id;
        let _running = self.enter("StopPodSandbox", &id).await?;
        self.world().stop_sandbox(&id, now());
        answer(StopPodSandboxResponse {})
    }

    async fn remove_pod_sandbox(
        &self,
        r: Request<RemovePodSandboxRequest>,
    ) -> Answer<RemovePodSandboxResponse> {
        let id = r.into_inner().pod_sandbox_id;
        let _running = self.enter("RemovePodSandbox", &id).await?;
        self.world().remove_sandbox(&id, now());
        answer(RemovePodSandboxResponse {})
    }

    async fn pod_sandbox_status(
        &self,
        r: Request<PodSandboxStatusRequest>,
    ) -> Answer<PodSandboxStatusResponse> {
        let request = r.into_inner();
        let id = request.pod_sandbox_id;
        let _running = self.enter("PodSandboxStatus", &id).await?;
        let status = self.world().sandbox(&id)?;
        // In the form of containerd, as far as anybody asks.
        let info = format!("{{\"image\":\"{SANDBOX_IMAGE}\",\"pid\":1}}");
        let info = request.verbose.then(|| ("info".to_owned(), info)).into_iter().collect();
        answer(PodSandboxStatusResponse { status: Some(status), info, ..Default::default() })
    }

    async fn list_pod_sandbox(&self, r: Request<ListPodSandboxRequest>) -> Answer<ListPodSandboxResponse> {
        let filter = r.into_inner().filter;
        let selector = filter.as_ref().map(|filter| &filter.label_selector);
        let _running = self.enter_list("ListPodSandbox", selector).await?;
        answer(ListPodSandboxResponse { items: self.world().sandboxes(filter) })
    }

    /// One sandbox a message.
    async fn stream_pod_sandboxes(
        &self,
        r: Request<StreamPodSandboxesRequest>,
    ) -> Answer<BoxStream<StreamPodSandboxesResponse>> {
        let filter = r.into_inner().filter;
        let selector = filter.as_ref().map(|filter| &filter.label_selector);
        let _running = self.enter_list("StreamPodSandboxes", selector).await?;
        let all = self.world().sandboxes(filter);
        let chunk = |one| Ok(StreamPodSandboxesResponse { pod_sandboxes: vec![one] });
        answer(Box::pin(stream::iter(all.into_iter().map(chunk))))
    }

    async fn create_container(&self, r: Request<CreateContainerRequest>) -> Answer<CreateContainerResponse> {
        let pod = self.world().pod_of(&r.get_ref().pod_sandbox_id);
        self.gate.remember("CreateContainer", pod.as_deref(), r.get_ref());
        let request = r.into_inner();
        let sandbox = request.pod_sandbox_id;
        let _running = self.enter("CreateContainer", &sandbox).await?;
        let config = request.config.unwrap_or_default();
        let id = self.world().create_container(&sandbox, config, now())?;
        answer(CreateContainerResponse { container_id: id })
    }

    async fn start_container(&self, r: Request<StartContainerRequest>) -> Answer<StartContainerResponse> {
        let id = r.into_inner().container_id;
        let _running = self.enter("StartContainer", &id).await?;
        let started = self.world().start_container(&id, now())?;
        if let Some(log) = &started.log {
            make_log(log).await?;
        }
        if let Some(exit) = started.exit {
            end_later(Arc::clone(&self.0), id, exit);
        }
        answer(StartContainerResponse {})
    }

    async fn stop_container(&self, r: Request<StopContainerRequest>) -> Answer<StopContainerResponse> {
        let id = r.into_inner().container_id;
        let _running = self.enter("StopContainer", &id).await?;
        self.world().stop_container(&id, now())?;
        answer(StopContainerResponse {})
    }

    async fn remove_container(&self, r: Request<RemoveContainerRequest>) -> Answer<RemoveContainerResponse> {
        let id = r.into_inner().container_id;
        let _running = self.enter("RemoveContainer", &id).await?;
        self.world().remove_container(&id, now());
        answer(RemoveContainerResponse {})
    }

    async fn list_containers(&self, r: Request<ListContainersRequest>) -> Answer<ListContainersResponse> {
        let filter = r.into_inner().filter;
        let selector = filter.as_ref().map(|filter| &filter.label_selector);
        let _running = self.enter_list("ListContainers", selector).await?;
        answer(ListContainersResponse { containers: self.world().containers(filter) })
    }

    /// One container a message.
    async fn stream_containers(
        &self,
        r: Request<StreamContainersRequest>,
    ) -> Answer<BoxStream<StreamContainersResponse>> {
        let filter = r.into_inner().filter;
        let selector = filter.as_ref().map(|filter| &filter.label_selector);
        let _running = self.enter_list("StreamContainers", selector).await?;
        let all = self.world().containers(filter);
        let chunk = |one| Ok(StreamContainersResponse { containers: vec![one] });
        answer(Box::pin(stream::iter(all.into_iter().map(chunk))))
    }

    async fn container_status(&self, r: Request<ContainerStatusRequest>) -> Answer<ContainerStatusResponse> {
        let id = r.into_inner().container_id;
        let _running = self.enter("ContainerStatus", &id).await?;
        let status = self.world().container(&id)?;
        answer(ContainerStatusResponse { status: Some(status), ..Default::default() })
    }

    async fn update_container_resources(
        &self,
        r: Request<UpdateContainerResourcesRequest>,
    ) -> Answer<UpdateContainerResourcesResponse> {
        let request = r.into_inner();
        let _running = self.enter("UpdateContainerResources", &request.container_id).await?;
        self.world().update_resources(&request.container_id, request.linux.unwrap_or_default())?;
        answer(UpdateContainerResourcesResponse {})
    }

    async fn update_pod_sandbox_resources(
        &self,
        r: Request<UpdatePodSandboxResourcesRequest>,
    ) -> Answer<UpdatePodSandboxResourcesResponse> {
        let id = r.into_inner().pod_sandbox_id;
        let _running = self.enter("UpdatePodSandboxResources", &id).await?;
        self.world().sandbox(&id)?;
        answer(UpdatePodSandboxResourcesResponse {})
    }

    async fn reopen_container_log(
        &self,
        r: Request<ReopenContainerLogRequest>,
    ) -> Answer<ReopenContainerLogResponse> {
        let id = r.into_inner().container_id;
        let _running = self.enter("ReopenContainerLog", &id).await?;
        let status = self.world().container(&id)?;
        make_log(&status.log_path).await?;
        answer(ReopenContainerLogResponse {})
    }

    /// Every command succeeds without a word.
    async fn exec_sync(&self, r: Request<ExecSyncRequest>) -> Answer<ExecSyncResponse> {
        let id = r.into_inner().container_id;
        let _running = self.enter("ExecSync", &id).await?;
        if self.world().container(&id)?.state() != ContainerState::ContainerRunning {
            return Err(Status::failed_precondition(format!("container {id} does not run")));
        }
        answer(ExecSyncResponse::default())
    }

    async fn list_container_stats(
        &self,
        r: Request<ListContainerStatsRequest>,
    ) -> Answer<ListContainerStatsResponse> {
        let wanted = r.into_inner().filter.unwrap_or_default();
        let filter = ContainerFilter {
            id: wanted.id,
            state: None,
            pod_sandbox_id: wanted.pod_sandbox_id,
            label_selector: wanted.label_selector,
        };
        let all = self.world().containers(Some(filter)).into_iter().map(|container| ContainerStats {
            attributes: Some(ContainerAttributes {
                id: container.id,
                metadata: container.metadata,
                labels: container.labels,
                annotations: container.annotations,
            }),
            ..Default::default()
        });
        answer(ListContainerStatsResponse { stats: all.collect() })
    }

    async fn list_pod_sandbox_stats(
        &self,
        r: Request<ListPodSandboxStatsRequest>,
    ) -> Answer<ListPodSandboxStatsResponse> {
        let wanted = r.into_inner().filter.unwrap_or_default();
        let filter = PodSandboxFilter { id: wanted.id, state: None, label_selector: wanted.label_selector };
        let all = self.world().sandboxes(Some(filter)).into_iter().map(|sandbox| PodSandboxStats {
            attributes: Some(PodSandboxAttributes {
                id: sandbox.id,
                metadata: sandbox.metadata,
                labels: sandbox.labels,
                annotations: sandbox.annotations,
            }),
            ..Default::default()
        });
        answer(ListPodSandboxStatsResponse { stats: all.collect() })
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<ListMetricDescriptorsRequest>,
    ) -> Answer<ListMetricDescriptorsResponse> {
        answer(ListMetricDescriptorsResponse::default())
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<ListPodSandboxMetricsRequest>,
    ) -> Answer<ListPodSandboxMetricsResponse> {
        answer(ListPodSandboxMetricsResponse::default())
    }

    async fn get_container_events(
        &self,
        _: Request<GetEventsRequest>,
    ) -> Answer<BoxStream<ContainerEventResponse>> {
        let events = stream::try_unfold(self.world().listen(), |mut listener| async move {
            match listener.recv().await {
                Ok(event) => Ok(Some((event, listener))),
                Err(RecvError::Closed) => Ok(None),
                Err(RecvError::Lagged(count)) => {
                    Err(Status::resource_exhausted(format!("the listener missed {count} events")))
                }
            }
        });
        answer(Box::pin(events))
    }
}
