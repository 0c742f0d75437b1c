//! The pods of the node, and the logs of their containers.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt as _};
use k8s_openapi::api::core::v1::ContainerStateTerminated;
use model::{AllocatedPod, ContainerId, ContainerObservation, Pod, PodKey, PodObservation};
use node::{Phase, PodView, View};
use runtime::logs::{LogOptions, LogPath, LogReader, StreamSelection};
use runtime::podfiles;
use server::ports::{LogQuery, LogStream, PodPorts, PodWithStatus};
use tokio::sync::watch;

use super::NodePorts;

/// A pod as clients are shown it: its object with the status as it is now.
fn shown(view: &PodView, pod: Option<&Arc<Pod>>) -> Option<PodWithStatus> {
    let pod = pod?.clone();
    Some(PodWithStatus { metadata: pod.metadata.clone(), pod, status: view.status.clone() })
}

impl PodPorts for NodePorts {
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
