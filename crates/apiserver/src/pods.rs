//! The node's pods: followed, deleted, and mirrored.

use std::sync::Arc;

use futures::Stream;
use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::Container;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use kube::api::{DeleteParams, GetParams, PostParams, Preconditions};
use kube::core::Request;
use model::pod::{ANNOTATION_CONFIG_HASH, ANNOTATION_CONFIG_MIRROR};
use model::{Pod, PodKey, PodUid};

use crate::call::{Purpose, RequestError, call, call_bytes};
use crate::status::is_other_uid;
use crate::watch::{Change, Freshness, Watch};

/// What happened to the pods bound to the node.
#[derive(Clone, Debug)]
pub enum PodEvent {
    /// All of them: at the start and whenever the watch had to start over. Others are gone.
    Listed(Vec<Arc<Pod>>),
    /// One is new or changed.
    Applied(Arc<Pod>),
    /// One is gone; its last version.
    Deleted(Arc<Pod>),
}

/// Follows the pods bound to a node, for ever. `metadata.managedFields`, which nothing here
/// reads and which is often half of a pod, is dropped.
pub fn watch_pods(client: Client, node_name: &str) -> impl Stream<Item = PodEvent> + Send + use<> {
    let selector = format!("spec.nodeName={node_name}");
    let purpose = Purpose::new("watch pods of node", node_name);
    let watch = Watch::new(client, "/api/v1/pods", Some(selector), Freshness::Cached, purpose);
    futures::stream::unfold(watch, |mut watch| async {
        let event = match watch.next().await {
            Change::Listed(pods) => PodEvent::Listed(pods.into_iter().map(lean).collect()),
            Change::Applied(pod) => PodEvent::Applied(lean(pod)),
            Change::Deleted(pod) => PodEvent::Deleted(lean(pod)),
        };
        Some((event, watch))
    })
}

fn lean(mut pod: Pod) -> Arc<Pod> {
    pod.metadata.managed_fields = None;
    compact(&mut pod);
    Arc::new(pod)
}

/// Gives back the room in lists, which begin with room for four of what takes up to 1 KiB and double from there: a seventh of a
/// pod of one container (`findings/parsed-pod-size.sh`).
fn compact(pod: &mut Pod) {
    fn shrink<T>(list: &mut Option<Vec<T>>) {
        list.iter_mut().for_each(Vec::shrink_to_fit);
    }
    fn container(container: &mut Container) {
        shrink(&mut container.env);
        shrink(&mut container.ports);
        shrink(&mut container.volume_mounts);
        shrink(&mut container.args);
        shrink(&mut container.command);
    }
    if let Some(spec) = &mut pod.spec {
        spec.containers.shrink_to_fit();
        shrink(&mut spec.init_containers);
        spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()).for_each(container);
        shrink(&mut spec.ephemeral_containers);
        shrink(&mut spec.tolerations);
        shrink(&mut spec.volumes);
        for projected in spec.volumes.iter_mut().flatten().filter_map(|volume| volume.projected.as_mut()) {
            shrink(&mut projected.sources);
        }
    }
    if let Some(status) = &mut pod.status {
        shrink(&mut status.conditions);
        shrink(&mut status.container_statuses);
        shrink(&mut status.init_container_statuses);
        shrink(&mut status.ephemeral_container_statuses);
        shrink(&mut status.host_ips);
        shrink(&mut status.pod_ips);
    }
}

pub(crate) fn pods_of(namespace: &str) -> Request {
    Request::new(format!("/api/v1/namespaces/{namespace}/pods"))
}

/// Reads one pod; `None` when there is none of that name.
///
/// # Errors
/// The request failed.
pub async fn get_pod(client: &Client, key: &PodKey) -> Result<Option<Pod>, RequestError> {
    let purpose = Purpose::new("get pod", key.to_string());
    let request = pods_of(&key.namespace).get(&key.name, &GetParams::default());
    match call(client, &purpose, request).await {
        Ok(pod) => Ok(Some(pod)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes a pod that has ended from the API, at once. False when it is gone already or its name
/// belongs to another pod.
///
/// # Errors
/// The request failed.
pub async fn delete_pod(client: &Client, key: &PodKey, uid: &PodUid) -> Result<bool, RequestError> {
    let preconditions = Preconditions { uid: Some(uid.as_str().to_owned()), resource_version: None };
    delete(client, "delete pod", key, Some(preconditions)).await
}

async fn delete(
    client: &Client,
    operation: &'static str,
    key: &PodKey,
    preconditions: Option<Preconditions>,
) -> Result<bool, RequestError> {
    let params = DeleteParams { grace_period_seconds: Some(0), preconditions, ..DeleteParams::default() };
    let request = pods_of(&key.namespace).delete(&key.name, &params);
    match call_bytes(client, &Purpose::new(operation, key.to_string()), request).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() || is_other_uid(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What became of a mirror pod.
#[derive(Debug)]
pub enum MirrorOutcome {
    /// Created; the pod as the server has it.
    Created(Box<Pod>),
    /// It was there already, mirroring this very manifest.
    Present(Box<Pod>),
    /// A pod of that name exists that is not this manifest's mirror: to be deleted first.
    Conflict(Box<Pod>),
}

/// Shows a static pod in the API. The owner is the Node, as admission (`NodeRestriction`) demands.
///
/// # Errors
/// The request failed; refused by admission is among the reasons.
pub async fn create_mirror(
    client: &Client,
    pod: &Pod,
    node_name: &str,
    node_uid: &str,
) -> Result<MirrorOutcome, RequestError> {
    let key = model::pod::key(pod);
    let purpose = Purpose::new("create mirror pod", key.to_string());
    let mirror = mirror_of(pod, node_name, node_uid);
    let body = serde_json::to_vec(&mirror).map_err(|error| purpose.build(error))?;
    match call(client, &purpose, pods_of(&key.namespace).create(&PostParams::default(), body)).await {
        Ok(created) => Ok(MirrorOutcome::Created(Box::new(created))),
        Err(error) if error.is_already_exists() => match get_pod(client, &key).await? {
            Some(found) if mirror_hash(&found) == mirror_hash(&mirror) => {
                Ok(MirrorOutcome::Present(Box::new(found)))
            }
            Some(found) => Ok(MirrorOutcome::Conflict(Box::new(found))),
            None => Err(error),
        },
        Err(error) => Err(error),
    }
}

/// Removes a mirror pod, whatever its uid unless one is given. False when there was none.
///
/// # Errors
/// The request failed.
pub async fn delete_mirror(
    client: &Client,
    key: &PodKey,
    uid: Option<&PodUid>,
) -> Result<bool, RequestError> {
    let preconditions =
        uid.map(|uid| Preconditions { uid: Some(uid.as_str().to_owned()), resource_version: None });
    delete(client, "delete mirror pod", key, preconditions).await
}

fn mirror_hash(pod: &Pod) -> Option<&str> {
    model::pod::annotation(pod, ANNOTATION_CONFIG_MIRROR)
}

fn mirror_of(pod: &Pod, node_name: &str, node_uid: &str) -> Pod {
    let mut mirror = pod.clone();
    let hash = model::pod::annotation(pod, ANNOTATION_CONFIG_HASH).unwrap_or_default().to_owned();
    let annotations = mirror.metadata.annotations.get_or_insert_default();
    annotations.insert(ANNOTATION_CONFIG_MIRROR.to_owned(), hash);
    mirror.metadata.owner_references = Some(vec![OwnerReference {
        api_version: k8s_openapi::api::core::v1::Node::API_VERSION.to_owned(),
        kind: k8s_openapi::api::core::v1::Node::KIND.to_owned(),
        name: node_name.to_owned(),
        uid: node_uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    mirror
}

#[cfg(test)]
mod tests;
