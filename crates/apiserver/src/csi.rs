//! CSIDriver objects, which tell how drivers want to be treated, and the node's CSINode object, which tells which drivers it has
//! (<https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/>).

use std::collections::BTreeMap;

use futures::Stream;
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode};
use kube::Client;
use kube::api::{DeleteParams, GetParams, PostParams, Preconditions};
use kube::core::Request;
use model::storage::CsiDriverObject;

use crate::call::{Purpose, RequestError, call, call_bytes};
use crate::keyed::follow;
use crate::watch::{Freshness, Watch};

const CSI_NODES: &str = "/apis/storage.k8s.io/v1/csinodes";

/// What the CSIDriver objects say, by the drivers' names. All of them whenever they say something else than before. A cluster
/// has few. Never ends.
pub fn watch_csi_drivers(client: Client) -> impl Stream<Item = BTreeMap<String, CsiDriverObject>> + Send {
    let purpose = Purpose::new("watch CSI drivers in", "the cluster");
    let path = "/apis/storage.k8s.io/v1/csidrivers";
    let watch = Watch::<CSIDriver>::new(client, path, None, Freshness::Cached, purpose);
    follow(watch, |driver| (driver.metadata.name.clone().unwrap_or_default(), CsiDriverObject::of(&driver)))
}

/// Reads the CSINode of a node; `None` when there is none.
///
/// # Errors
/// The request failed.
pub async fn get_csi_node(client: &Client, name: &str) -> Result<Option<CSINode>, RequestError> {
    let request = Request::new(CSI_NODES).get(name, &GetParams::default());
    match call(client, &Purpose::new("get CSINode", name), request).await {
        Ok(object) => Ok(Some(plain(object))),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Creates the CSINode of a node, or replaces the version that the object names.
///
/// # Errors
/// The request failed, also because there is another version by now.
pub async fn write_csi_node(client: &Client, object: &CSINode) -> Result<CSINode, RequestError> {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let purpose = Purpose::new("write CSINode", name);
    let body = serde_json::to_vec(object).map_err(|error| purpose.build(error))?;
    let (request, params) = (Request::new(CSI_NODES), PostParams::default());
    let request = match object.metadata.resource_version {
        Some(_) => request.replace(name, &params, body),
        None => request.create(&params, body),
    };
    call(client, &purpose, request).await.map(plain)
}

/// Deletes the CSINode of a node; `false` when there is none, or another one by now.
///
/// # Errors
/// The request failed.
pub async fn delete_csi_node(client: &Client, name: &str, uid: &str) -> Result<bool, RequestError> {
    let preconditions = Preconditions { uid: Some(uid.to_owned()), ..Preconditions::default() };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    let request = Request::new(CSI_NODES).delete(name, &params);
    match call_bytes(client, &Purpose::new("delete CSINode", name), request).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Without what only says who has written which field.
fn plain(mut object: CSINode) -> CSINode {
    object.metadata.managed_fields = None;
    object
}

#[cfg(test)]
mod tests;
